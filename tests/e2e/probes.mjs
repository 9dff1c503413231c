// Requests that two parsers could read differently, and senders that never finish: each with the status it must get and whether
// the connection must close. After every probe the gateway still answers, and nothing that was smuggled was accepted.

import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import { finish, full, note, onEnd, seeded, sleep, test } from './lib/harness.mjs';
import { BROWSER_TOKEN, Gateway, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { RawConnection } from './lib/raw.mjs';
import { Standin } from './lib/standin.mjs';

seeded();
/* The shipped deadlines under BH_FULL; short ones otherwise, which test the same code in less time. */
const HEAD_MS = full ? 10000 : 2000;
const BODY_MS = full ? 30000 : 4000;
const standin = await new Standin({ token: VENDOR_TOKEN }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ endpoint: standin.url, limits: full ? undefined : '{ head_timeout: 2s, body_timeout: 4s }' });

test('the gateway starts', () => gateway.start(), { vital: true });

const EVENT = JSON.stringify({ event: 'Step 1', properties: { token: SERVER_TOKEN, distinct_id: 'probe' } });
const DATA = Buffer.from(EVENT).toString('base64');
const FORM = `data=${DATA}`;
const SMUGGLED = `POST /mixpanel/track HTTP/1.1\r\nHost: h\r\nContent-Length: ${FORM.length}\r\n\r\n${FORM}`;
const post = (headers, body = FORM, target = '/mixpanel/track', version = '1.1') =>
  `POST ${target} HTTP/${version}\r\nHost: h\r\n${headers.map((h) => `${h}\r\n`).join('')}\r\n${body}`;
const get = (target, headers = []) => `GET ${target} HTTP/1.1\r\nHost: h\r\n${headers.map((h) => `${h}\r\n`).join('')}\r\n`;
const cl = `Content-Length: ${FORM.length}`;
const te = 'Transfer-Encoding: chunked';
const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;

/*
 * [name, bytes, {status, closed, accepted}]: status undefined means that no answer is owed (the connection is just closed).
 * `accepted` events are expected to have been kept; the default is none.
 */
const refused = (...status) => ({ status, closed: true });
const taken = (accepted = 1, closed = false) => ({ status: [200], closed, accepted });

const CASES = [
  // -- two lengths ---------------------------------------------------------------------------------------------------
  ['CL and TE', post([cl, te], chunk(FORM) + '0\r\n\r\n'), refused(400)],
  ['TE and CL, the other way round', post([te, 'Content-Length: 4'], '0\r\n\r\n' + SMUGGLED), refused(400)],
  ['CL.TE smuggling', post(['Content-Length: 6', te], '0\r\n\r\nG'), refused(400)],
  ['CL of zero and TE', post(['Content-Length: 0', te], chunk(FORM) + '0\r\n\r\n'), refused(400)],
  ['two equal Content-Length', post([cl, cl]), refused(400)],
  ['two differing Content-Length', post([cl, 'Content-Length: 0']), refused(400)],
  ['a list in Content-Length', post([`Content-Length: ${FORM.length}, ${FORM.length}`]), refused(400)],
  ['Content-Length with a plus', post([`Content-Length: +${FORM.length}`]), refused(400)],
  ['negative Content-Length', post(['Content-Length: -1']), refused(400)],
  ['Content-Length in hex', post(['Content-Length: 0x10']), refused(400)],
  ['Content-Length with a leading zero', post([`Content-Length: 0${FORM.length}`]), refused(400)],
  ['Content-Length with a space inside', post(['Content-Length: 1 0']), refused(400)],
  ['empty Content-Length', post(['Content-Length: ']), refused(400)],
  ['Content-Length beyond 64 bits', post(['Content-Length: 99999999999999999999999']), refused(413, 400)],
  ['Content-Length of 64 bits', post(['Content-Length: 18446744073709551615']), refused(413)],
  ['Content-Length beyond the limit', post(['Content-Length: 20000000']), refused(413)],
  ['Content-Length as a decimal', post(['Content-Length: 1.0']), refused(400)],
  ['Content-Length with an underscore in its name', post([`Content_Length: ${SMUGGLED.length}`, 'Content-Length: 0'], SMUGGLED),
    { status: [400, 401, 200], closed: undefined, accepted: undefined, second: true }],
  // -- transfer coding -----------------------------------------------------------------------------------------------
  ['TE twice', post([te, te], '0\r\n\r\n'), refused(400)],
  ['TE chunked, identity', post(['Transfer-Encoding: chunked, identity'], '0\r\n\r\n'), refused(400, 501)],
  ['TE identity, chunked', post(['Transfer-Encoding: identity, chunked'], '0\r\n\r\n'), refused(400, 501)],
  ['TE gzip, chunked', post(['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n'), refused(400, 501)],
  ['TE xchunked', post(['Transfer-Encoding: xchunked'], '0\r\n\r\n'), refused(400, 501)],
  ['TE in quotes', post(['Transfer-Encoding: "chunked"'], '0\r\n\r\n'), refused(400, 501)],
  ['TE with a vertical tab', post(['Transfer-Encoding: \x0bchunked'], '0\r\n\r\n'), refused(400, 501)],
  ['TE empty', post(['Transfer-Encoding: '], '0\r\n\r\n'), refused(400, 501)],
  ['TE in HTTP/1.0', post([te], chunk(FORM) + '0\r\n\r\n', '/mixpanel/track', '1.0'), refused(400)],
  ['TE in capitals is chunked', post(['TRANSFER-ENCODING: CHUNKED'], chunk(FORM) + '0\r\n\r\n'), taken()],
  ['chunked', post([te], chunk(FORM.slice(0, 10)) + chunk(FORM.slice(10)) + '0\r\n\r\n'), taken()],
  ['chunk extension', post([te], `${FORM.length.toString(16)};a=b\r\n${FORM}\r\n0\r\n\r\n`), refused(400)],
  ['chunk extension without a name', post([te], `${FORM.length.toString(16)};\r\n${FORM}\r\n0\r\n\r\n`), refused(400)],
  ['chunk size with 0x', post([te], `0x${FORM.length.toString(16)}\r\n${FORM}\r\n0\r\n\r\n`), refused(400)],
  ['chunk size with a space', post([te], `${FORM.length.toString(16)} \r\n${FORM}\r\n0\r\n\r\n`), refused(400)],
  ['chunk size with a minus', post([te], `-1\r\n${FORM}\r\n0\r\n\r\n`), refused(400)],
  ['chunk size that overflows', post([te], `ffffffffffffffff1\r\n${FORM}\r\n0\r\n\r\n`), refused(400, 413)],
  ['chunk size beyond the limit', post([te], 'fffffff\r\nx'), refused(413, 408)],
  ['chunk ended by a bare LF', post([te], `${FORM.length.toString(16)}\n${FORM}\n0\n\n`), refused(400)],
  ['chunk data longer than its size', post([te], `3\r\n${FORM}\r\n0\r\n\r\n`), refused(400)],
  ['empty chunk size', post([te], `\r\n${FORM}\r\n0\r\n\r\n`), refused(400)],
  ['trailer', post([te], chunk(FORM) + '0\r\nX-Trailer: 1\r\n\r\n'), refused(400)],
  ['trailer that sets a length', post([te], chunk(FORM) + '0\r\nContent-Length: 100\r\n\r\n'), refused(400)],
  ['a second request hides behind the last chunk', post([te], chunk(FORM) + '0\r\n\r\n' + get('/mixpanel/nowhere')), { ...taken(1), follow: [404] }],
  // -- lines ---------------------------------------------------------------------------------------------------------
  ['bare LF everywhere', post([cl]).replace(/\r\n/g, '\n'), refused(400)],
  ['bare LF after one header', `POST /mixpanel/track HTTP/1.1\r\nHost: h\n${cl}\r\n\r\n${FORM}`, refused(400)],
  ['bare CR in a header', post([`X: a\rTransfer-Encoding: chunked`, cl]), refused(400)],
  ['bare CR at the end of a line', `POST /mixpanel/track HTTP/1.1\rHost: h\r${cl}\r\r${FORM}\r\n\r\n`, refused(400)],
  ['CR CR LF', post(['X: a\r', cl]), refused(400)],
  ['space before a colon', post([`Content-Length : ${FORM.length}`]), refused(400)],
  ['tab before a colon', post([`Transfer-Encoding\t: chunked`], '0\r\n\r\n'), refused(400)],
  ['obs-fold', post(['X: a\r\n b', cl]), refused(400)],
  ['obs-fold of Transfer-Encoding', post(['Transfer-Encoding:\r\n chunked'], '0\r\n\r\n'), refused(400)],
  ['first header line begins with a space', `POST /mixpanel/track HTTP/1.1\r\n Host: h\r\n${cl}\r\n\r\n${FORM}`, refused(400)],
  ['header without a colon', post(['NoColon', cl]), refused(400)],
  ['header without a name', post([': value', cl]), refused(400)],
  ['NUL in a value', post(['X: a\0b', cl]), refused(400)],
  ['NUL in a name', post(['X\0Y: a', cl]), refused(400)],
  ['control byte in a value', post(['X: a\x01b', cl]), refused(400)],
  ['DEL in a value', post(['X: a\x7fb', cl]), refused(400)],
  ['byte above 127 in a name', post([Buffer.from([0x58, 0xe9]).toString('latin1') + ': a', cl]), refused(400)],
  ['empty line before the request', '\r\n' + post([cl]), refused(400)],
  // -- request line --------------------------------------------------------------------------------------------------
  ['HTTP/0.9', 'GET /mixpanel/track\r\n\r\n', refused(400)],
  ['HTTP/2.0', get('/healthz').replace('1.1', '2.0'), refused(505)],
  ['HTTP/1.2', get('/healthz').replace('1.1', '1.2'), refused(505, 400)],
  ['HTTP/1.10', get('/healthz').replace('1.1', '1.10'), refused(400)],
  ['http in small letters', get('/healthz').replace('HTTP', 'http'), refused(400)],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', refused(400, 405, 505)],
  ['a TLS ClientHello', Buffer.from('16030100a5010000a10303', 'hex').toString('latin1') + '\0'.repeat(160), { ...refused(400), mute: true }],
  ['two spaces after the method', get('/healthz').replace('GET ', 'GET  '), refused(400)],
  ['tab after the method', get('/healthz').replace('GET ', 'GET\t'), refused(400)],
  ['space in the target', get('/mixpanel/track /x'), refused(400)],
  ['absolute target', get('http://h/mixpanel/track'), refused(400)],
  ['authority target', 'CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n', refused(400, 405, 501)],
  ['fragment in the target', get('/mixpanel/track#x'), refused(400)],
  ['unknown method', 'PURGE /mixpanel/track HTTP/1.1\r\nHost: h\r\n\r\n', { status: [400, 404, 405, 501], closed: undefined }],
  ['TRACE', 'TRACE / HTTP/1.1\r\nHost: h\r\n\r\n', { status: [405, 501], closed: undefined }],
  ['method in small letters', get('/healthz').replace('GET', 'get'), refused(400, 405, 501)],
  ['target of 70 KB', get('/mixpanel/track?data=' + 'A'.repeat(70000)), refused(414, 431)],
  ['target of 60 KB is taken', get(`/mixpanel/track?x=${'A'.repeat(60000)}&data=${encodeURIComponent(DATA)}`), taken()],
  ['101 headers', post([...Array.from({ length: 101 }, (_, i) => `X${i}: 1`), cl]), refused(431, 400)],
  ['a header line of 20 KB', post([`X: ${'a'.repeat(20000)}`, cl]), refused(431, 400)],
  ['a head of 100 KB', post(Array.from({ length: 8 }, (_, i) => `X${i}: ${'a'.repeat(13000)}`)), refused(431, 400)],
  ['no Host', `POST /mixpanel/track HTTP/1.1\r\n${cl}\r\n\r\n${FORM}`, refused(400)],
  ['two Hosts', post(['Host: other', cl]), refused(400)],
  ['Host with a space', post([cl]).replace('Host: h', 'Host: h h'), refused(400)],
  ['empty Host', post([cl]).replace('Host: h', 'Host: '), refused(400)],
  ['Expect of something else', post(['Expect: 200-ok', cl]), refused(417)],
  ['HTTP/1.0 POST without a length', `POST /mixpanel/track HTTP/1.0\r\n\r\n${FORM}`, refused(411, 400)],
  ['HTTP/1.0 closes', `POST /mixpanel/track HTTP/1.0\r\n${cl}\r\n\r\n${FORM}`, taken(1, true)],
  // -- what a GET or an odd method may carry -------------------------------------------------------------------------
  ['GET with a hidden request as its body', get('/mixpanel/nowhere', [`Content-Length: ${SMUGGLED.length}`]) + SMUGGLED,
    { status: [400, 404, 405, 413], closed: undefined }],
  ['HEAD has no body', get('/mixpanel/nowhere').replace('GET', 'HEAD'), { status: [404, 405, 200], closed: undefined, head: true }],
  ['path that is not ours', get('/etc/passwd'), { status: [404], closed: undefined }],
  ['path with dots', get('/mixpanel/../admin'), { status: [400, 404], closed: undefined }],
  ['path that is encoded', get('/mixpanel/%2e%2e/track'), { status: [400, 404], closed: undefined }],
  ['admin paths are not on the ingest port', get('/metrics'), { status: [404], closed: undefined }],
  // -- pipelines -----------------------------------------------------------------------------------------------------
  ['three in a pipeline, answered in order', post([cl]) + get('/mixpanel/nowhere') + post([cl]), { ...taken(2), follow: [404, 200] }],
  ['Connection: close ends a pipeline', post([cl, 'Connection: close']) + post([cl]), taken(1, true)],
  ['garbage behind a good request', post([cl]) + 'GARBAGE\r\n\r\n', { status: [200], closed: true, accepted: 1, follow: [400] }],
  // -- bodies --------------------------------------------------------------------------------------------------------
  ['empty body', post(['Content-Length: 0'], ''), { status: [400, 401, 200], closed: undefined }],
  ['not JSON, not base64', post(['Content-Length: 9'], 'data=%%%%'), { status: [400, 401, 200], closed: undefined }],
  ['unknown token', post([`Content-Length: ${FORM.length}`], `data=${Buffer.from(EVENT.replace(SERVER_TOKEN, 'xx_project_token_a')).toString('base64')}`),
    { status: [401], closed: undefined }],
  ['a bomb: 10 MiB of zeros in gzip', bombRequest(), { status: [413, 400], closed: undefined }],
  ['gzip that is cut off', gzipRequest((z) => z.subarray(0, z.length - 6)), { status: [400], closed: undefined }],
  ['gzip with a wrong checksum', gzipRequest((z) => {
    z[z.length - 8] ^= 1;
    return z;
  }), { status: [400], closed: undefined }],
  ['JSON nested 100,000 deep', jsonRequest(`${'['.repeat(100000)}${']'.repeat(100000)}`), { status: [400, 401, 413, 200], closed: undefined }],
  ['JSON with a doubled key', jsonRequest(`[{"event":"Step 1","event":"Step 2","properties":{"token":"${SERVER_TOKEN}","distinct_id":"p"}}]`),
    { status: [200, 400], closed: undefined, accepted: undefined }],
  ['2001 events', jsonRequest(JSON.stringify(Array.from({ length: 2001 }, () => JSON.parse(EVENT)))), { status: [413, 400, 200], closed: undefined, accepted: undefined }],
];

function jsonRequest(body) {
  return post(['Content-Type: application/json', `Content-Length: ${body.length}`], body);
}

function binaryPost(body) {
  return Buffer.concat([Buffer.from(post(['Content-Type: application/json', 'Content-Encoding: gzip', `Content-Length: ${body.length}`], '')), body]);
}

function bombRequest() {
  return binaryPost(zlib.gzipSync(Buffer.alloc(64 << 20), { level: 9 }));
}

function gzipRequest(spoil) {
  return binaryPost(spoil(zlib.gzipSync(JSON.stringify([JSON.parse(EVENT)]))));
}

const bytesOf = (value) => (Buffer.isBuffer(value) ? value : Buffer.from(value, 'latin1'));

async function accepted() {
  return (await gateway.metrics()).sum('bulkhead_events_accepted_total');
}

async function stillAnswers() {
  const connection = await new RawConnection(gateway.ports.ingest).open();
  connection.send(get('/mixpanel/nowhere'));
  assert.equal((await connection.answer(3000))?.status, 404, 'the next client is served');
  connection.destroy();
}

async function probe(bytes, want) {
  const before = await accepted();
  const connection = await new RawConnection(gateway.ports.ingest).open();
  connection.send(bytes);
  const answer = await connection.answer(4000, { head: want.head });
  assert.ok(answer || want.mute, 'an answer');
  if (answer) {
    assert.ok(want.status.includes(answer.status), `status ${answer.status}, not ${want.status.join(' or ')}: ${answer.body.slice(0, 100)}`);
  }
  for (const status of want.follow ?? []) {
    assert.equal((await connection.answer(3000))?.status, status, 'the next answer of the pipeline');
  }
  if (want.closed === true) {
    assert.ok(await connection.closes(2000), 'the connection closes');
  } else if (want.closed === false) {
    await sleep(30);
    assert.ok(!connection.closed, 'the connection stays open');
    connection.send(get('/mixpanel/nowhere'));
    assert.equal((await connection.answer(3000))?.status, 404, 'the connection still works');
  }
  assert.ok(!want.head || connection.buffer.length === 0, 'no body after HEAD');
  if (want.second) {
    assert.equal((await connection.answer(3000))?.status, 200, 'the second request is a request of its own');
  } else {
    assert.equal(await connection.answer(30), undefined, 'no answer to anything smuggled');
  }
  connection.destroy();
  if (want.accepted !== undefined || !('accepted' in want)) {
    assert.equal(await accepted() - before, want.accepted ?? 0, 'events accepted');
  }
  await stillAnswers();
}

for (const [name, bytes, want] of CASES) {
  test(name, () => probe(bytesOf(bytes), want));
}

test('every probe gives the same answer when its bytes arrive one at a time', async () => {
  const small = CASES.filter(([, bytes, want]) => bytes.length < 400 && want.closed === true && !want.mute);
  for (const [name, bytes, want] of small) {
    const connection = await new RawConnection(gateway.ports.ingest).open();
    for (const byte of bytesOf(bytes)) {
      connection.send(Buffer.of(byte));
      if (connection.buffer.length > 0) {
        break;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    const answer = await connection.answer(4000);
    assert.ok(want.status.includes(answer?.status), `${name}: status ${answer?.status}`);
    connection.destroy();
  }
  note(`${small.length} probes`);
});

// -- senders that never finish ---------------------------------------------------------------------------------------

/* Feeds `step` every `every` ms until the peer closes; says after how long it did, and with which status. */
async function drip(first, step, every, limit) {
  const begun = Date.now();
  const connection = await new RawConnection(gateway.ports.ingest).open();
  connection.send(first);
  while (!connection.closed && Date.now() - begun < limit) {
    await sleep(every);
    if (!connection.closed && step) {
      connection.send(step);
    }
  }
  const took = Date.now() - begun;
  const answer = await connection.answer(10);
  const { closed } = connection;
  connection.destroy();
  return { took, closed, status: answer?.status };
}

const SLOW = [
  ['silence after connecting', '', undefined, HEAD_MS],
  ['half a request line', 'POST /mixpanel', undefined, HEAD_MS],
  ['a head without its end', `POST /mixpanel/track HTTP/1.1\r\nHost: h\r\n`, undefined, HEAD_MS],
  ['a header line a second, for ever', 'POST /mixpanel/track HTTP/1.1\r\nHost: h\r\n', 'X: a\r\n', HEAD_MS],
  ['one byte of the head at a time', 'POST /mixpanel/track HTTP/1.1\r\nHost: h\r\nX: ', 'a', HEAD_MS],
  ['a body that never comes', post(['Content-Length: 100'], ''), undefined, BODY_MS],
  ['a body of one byte at a time', post(['Content-Length: 100000'], ''), 'a', BODY_MS],
  ['a chunk of one byte at a time', post([te], ''), '1\r\na\r\n', BODY_MS],
  ['an expectation without its body', post(['Content-Length: 100', 'Expect: 100-continue'], ''), undefined, BODY_MS],
];

test('slow senders are closed at their total deadline, whatever they drip', async () => {
  const results = await Promise.all(SLOW.map(([, first, step, limit]) => drip(first, step, 250, limit * 1.5 + 2000)));
  const failures = [];
  results.forEach((result, i) => {
    const [name, , , limit] = SLOW[i];
    note(`${name}: closed after ${result.took} ms with ${result.status ?? 'no answer'}`);
    if (!result.closed || result.took > limit + 1500) {
      failures.push(`${name}: ${JSON.stringify(result)}`);
    }
    if (result.status !== undefined && ![100, 400, 408].includes(result.status)) {
      failures.push(`${name}: status ${result.status}`);
    }
  });
  assert.deepEqual(failures, []);
  await stillAnswers();
});

test('a reader that never reads does not stop the others', async () => {
  const connection = await new RawConnection(gateway.ports.ingest).open();
  connection.socket.pause();
  for (let i = 0; i < 2000; i++) {
    connection.send(get('/mixpanel/nowhere'));
  }
  await sleep(300);
  await stillAnswers();
  connection.destroy();
});

test('100-continue, keep-alive over many requests, and HEAD work as clients expect', async () => {
  const connection = await new RawConnection(gateway.ports.ingest).open();
  connection.send(post([cl, 'Expect: 100-continue'], ''));
  assert.equal((await connection.answer())?.status, 100);
  connection.send(FORM);
  assert.equal((await connection.answer())?.status, 200);
  for (let i = 0; i < 200; i++) {
    connection.send(post([cl]));
    const answer = await connection.answer();
    assert.equal(answer?.status, 200);
    assert.equal(answer.body, '1');
  }
  connection.destroy();
});

test('a CORS preflight and an error both carry CORS headers', async () => {
  const connection = await new RawConnection(gateway.ports.ingest).open();
  connection.send('OPTIONS /mixpanel/track/ HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example.com\r\nAccess-Control-Request-Method: POST\r\n'
    + 'Access-Control-Request-Headers: authorization,x-custom\r\n\r\n');
  const preflight = await connection.answer();
  assert.equal(preflight.headers['access-control-allow-headers'], 'authorization,x-custom');
  const body = `data=${Buffer.from(EVENT.replace(SERVER_TOKEN, 'nobody')).toString('base64')}`;
  connection.send(post([`Content-Length: ${body.length}`, 'Origin: https://app.example.com'], body));
  const error = await connection.answer();
  assert.equal(error.status, 401);
  assert.equal(error.headers['access-control-allow-origin'], 'https://app.example.com');
  assert.ok(!error.body.includes(BROWSER_TOKEN) && !error.body.includes(SERVER_TOKEN));
  connection.destroy();
});

test('more connections than a peer may have are refused, and the ones that are there go on', async () => {
  const narrow = new Gateway({ name: 'peers', endpoint: standin.url, limits: '{ connections_per_peer: 20 }' });
  await narrow.start();
  const list = [];
  for (let i = 0; i < 40; i++) {
    const connection = await new RawConnection(narrow.ports.ingest).open().catch(() => undefined);
    if (connection) {
      list.push(connection);
    }
  }
  await sleep(200);
  const alive = [];
  for (const connection of list) {
    if (!connection.closed) {
      connection.send(get('/mixpanel/nowhere'));
      const answer = await connection.answer(1000);
      if (answer?.status === 404) {
        alive.push(connection);
      }
    }
  }
  assert.ok(alive.length > 0 && alive.length <= 20, `${alive.length} of 40 served`);
  list.forEach((c) => c.destroy());
  await narrow.stop();
});

note(`${CASES.length + SLOW.length} probes`);
await finish({ limit_ms: 120000 });
