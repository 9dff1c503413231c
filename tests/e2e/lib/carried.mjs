// Which of a suite's events a request carried, whatever it is packed in; decoded apart from the product.

import zlib from 'node:zlib';

/* name: a global pattern of the names that the suite gives its events. */
export function namesIn({ url, body }, name) {
  const plain = body[0] === 0x1f && body[1] === 0x8b ? zlib.gunzipSync(body) : body;
  const texts = [plain.toString('utf8'), decodeURIComponent(url.replaceAll('+', ' '))];
  for (const [, data] of `${plain.toString('latin1')}&${url.split('?')[1] ?? ''}`.matchAll(/(?:^|&)data=([^&]*)/g)) {
    const value = decodeURIComponent(data.replaceAll('+', '%20'));
    texts.push(value, Buffer.from(decodeURIComponent(data), 'base64').toString('utf8'));
  }
  return new Set(texts.flatMap((text) => text.match(name) ?? []));
}
