// Mixpanel's ingestion wire format, decoded independently of the product: the stand-in and the tests
// must not share a bug with the code that they judge.

import zlib from 'node:zlib';

/* Base64 or JSON inside `data=`; a raw `+` is a base64 digit and never a space. */
export function decodeData(text) {
  const trimmed = text.trim();
  const json = trimmed[0] === '{' || trimmed[0] === '['
    ? trimmed
    : Buffer.from(trimmed, 'base64').toString('utf8');
  return JSON.parse(json);
}

function percentDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function parseQuery(search) {
  const query = {};
  for (const pair of search.replace(/^\?/, '').split('&')) {
    if (pair === '') {
      continue;
    }
    const at = pair.indexOf('=');
    const key = at < 0 ? pair : pair.slice(0, at);
    query[percentDecode(key)] = at < 0 ? '' : percentDecode(pair.slice(at + 1));
  }
  return query;
}

/* The bytes of a body without its compression; a body that was cut off gives what can be read of it. */
export function inflate(body, { partial = false } = {}) {
  if (body.length < 2 || body[0] !== 0x1f || body[1] !== 0x8b) {
    return body;
  }
  try {
    return zlib.gunzipSync(body, partial ? { finishFlush: zlib.constants.Z_SYNC_FLUSH } : {});
  } catch (error) {
    if (partial) {
      return Buffer.alloc(0);
    }
    throw error;
  }
}

/* Items of one request: an array, whatever transport carried it. Throws on what is not Mixpanel. */
export function decodeItems(query, plain) {
  let value;
  if (plain.length > 0) {
    const text = plain.toString('utf8');
    const first = text.trimStart()[0];
    if (first === '{' || first === '[') {
      try {
        value = JSON.parse(text);
      } catch (error) {
        const lines = text.split('\n').filter((line) => line.trim() !== '');
        if (lines.length < 2) {
          throw error;
        }
        value = lines.map((line) => JSON.parse(line));
      }
    } else {
      const form = parseQuery(text);
      if (form.data === undefined) {
        throw new Error('no data in form');
      }
      value = decodeData(form.data);
    }
  } else if (query.data !== undefined) {
    value = decodeData(query.data);
  } else {
    throw new Error('empty request');
  }
  return Array.isArray(value) ? value : [value];
}

/* Whole objects at the front of a JSON array that was cut off somewhere. */
export function decodeFront(plain) {
  const text = plain.toString('utf8');
  const items = [];
  let depth = 0;
  let start = -1;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (inString) {
      if (c === '\\') {
        i++;
      } else if (c === '"') {
        inString = false;
      }
    } else if (c === '"') {
      inString = true;
    } else if (c === '{') {
      if (depth++ === 0) {
        start = i;
      }
    } else if (c === '}' && --depth === 0) {
      try {
        items.push(JSON.parse(text.slice(start, i + 1)));
      } catch {
        return items;
      }
    }
  }
  return items;
}

/* Numbers above 1e11 are milliseconds, below are seconds. */
export function timeMs(time) {
  if (typeof time === 'string') {
    const parsed = Date.parse(time);
    return Number.isNaN(parsed) ? NaN : parsed;
  }
  if (typeof time !== 'number' || !Number.isFinite(time)) {
    return NaN;
  }
  return time > 1e11 ? time : time * 1000;
}

export function basicUser(header) {
  const match = /^Basic\s+([A-Za-z0-9+/=]+)$/i.exec(header ?? '');
  if (!match) {
    return undefined;
  }
  return Buffer.from(match[1], 'base64').toString('utf8').split(':')[0];
}
