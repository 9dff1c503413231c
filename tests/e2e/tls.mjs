// Ingest by TLS in the process itself: requests arrive however they are cut into records, answers come back whole and to their
// own request, old versions and other protocols are refused, and a new certificate disturbs no connection.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { finish, full, note, onEnd, seeded, sleep, tempFolder, test, until } from './lib/harness.mjs';
import { BROWSER_TOKEN, Gateway, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { makeCertificates } from './lib/certs.mjs';
import { Standin } from './lib/standin.mjs';

const random = seeded();
const folder = tempFolder('tls');
const first = makeCertificates(path.join(folder, 'first'));
const second = makeCertificates(path.join(folder, 'second'));
const standin = await new Standin({ token: VENDOR_TOKEN }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ endpoint: standin.url, tls: { ...first } });
const ca = () => [fs.readFileSync(first.ca), fs.readFileSync(second.ca)];
const accepted = async () => (await gateway.metrics()).sum('bulkhead_events_accepted_total', {});

const event = (n, more = {}) => ({ event: 'Completion Run', properties: { token: BROWSER_TOKEN, distinct_id: `tls-${n}`, time: Date.now() / 1000,
  $insert_id: crypto.randomBytes(8).toString('hex'), ...more } });

function request(body, { verbose = 1, close = false } = {}) {
  return Buffer.from(`POST /mixpanel/track?verbose=${verbose} HTTP/1.1\r\nHost: gw\r\nContent-Type: application/json\r\n`
    + `Content-Length: ${Buffer.byteLength(body)}\r\n${close ? 'Connection: close\r\n' : ''}\r\n${body}`);
}

async function connect(options = {}) {
  const socket = tls.connect({ host: '127.0.0.1', port: gateway.ports.ingest, servername: 'localhost', ca: ca(), ...options });
  socket.received = '';
  socket.on('data', (chunk) => (socket.received += chunk));
  socket.ended = new Promise((resolve) => socket.on('close', resolve));
  await new Promise((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
  });
  socket.on('error', () => {});
  onEnd(() => socket.destroy());
  return socket;
}

const answers = (socket) => socket.received.split('HTTP/1.1 ').slice(1);
const isOne = (answer) => answer.startsWith('200 ') && answer.endsWith('{"error":null,"status":1}');

test('the gateway starts with its certificate', async () => {
  await gateway.start();
  await gateway.open('mixpanel');
}, { vital: true });

for (const version of ['TLSv1.2', 'TLSv1.3']) {
  test(`${version}: a keep-alive agent sends many requests on few connections`, async () => {
    const before = await accepted();
    const agent = new https.Agent({ keepAlive: true, maxSockets: 4, ca: ca(), servername: 'localhost', minVersion: version, maxVersion: version });
    const post = (body) => new Promise((resolve, reject) => {
      const sent = https.request({ agent, host: '127.0.0.1', port: gateway.ports.ingest, method: 'POST', path: '/mixpanel/track?verbose=1',
        headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) } }, (res) => {
        let text = '';
        res.on('data', (chunk) => (text += chunk));
        res.on('end', () => resolve([res.statusCode, text]));
      });
      sent.on('error', reject);
      sent.end(body);
    });
    const count = full ? 2000 : 200;
    const all = await Promise.all(Array.from({ length: count }, (_, i) => post(JSON.stringify([event(i), event(i)]))));
    assert.ok(all.every(([status, text]) => status === 200 && text === '{"error":null,"status":1}'));
    assert.equal(await accepted() - before, 2 * count);
    agent.destroy();
  });
}

test('requests arrive in records of any size, one byte to many requests each', async () => {
  const rounds = full ? 200 : 25;
  for (let round = 0; round < rounds; round++) {
    const before = await accepted();
    const socket = await connect();
    const count = random.between(1, 20);
    const bytes = Buffer.concat(Array.from({ length: count }, (_, i) => request(JSON.stringify(event(i,
      { pad: 'x'.repeat(random.below(random.chance(0.1) ? 60000 : 600)) })))));
    for (let at = 0; at < bytes.length;) {
      const size = random.chance(0.2) ? random.between(1, 5) : random.between(1, 40000);
      socket.write(bytes.subarray(at, at + size));
      at += size;
      if (random.chance(0.3)) {
        await sleep(1);
      }
    }
    await until(() => answers(socket).length === count, () => `${answers(socket).length} of ${count} answers`, 10000);
    assert.ok(answers(socket).every(isOne));
    assert.equal(await accepted() - before, count);
    socket.end();
    await socket.ended;
  }
});

test('a body of two megabytes in the smallest records', async () => {
  const before = await accepted();
  const socket = await connect({ maxFragmentLength: 512 });
  socket.setMaxSendFragment?.(512);
  const list = Array.from({ length: 1500 }, (_, i) => event(i, { pad: 'y'.repeat(1200) }));
  socket.write(request(JSON.stringify(list)));
  await until(() => answers(socket).length === 1, () => `no answer: ${socket.received.slice(0, 200)}`, 15000);
  assert.ok(isOne(answers(socket)[0]));
  assert.equal(await accepted() - before, list.length);
  socket.destroy();
});

test('a client that reads nothing for a while gets all answers in the end', async () => {
  const socket = await connect();
  socket.pause();
  const count = 400;
  const body = JSON.stringify(event(1));
  const asks = Buffer.concat(Array.from({ length: count }, () => request(body)));
  socket.write(asks);
  await sleep(300);
  socket.resume();
  await until(() => answers(socket).length === count, () => `${answers(socket).length} of ${count} answers`, 15000);
  assert.ok(answers(socket).every(isOne));
  socket.destroy();
});

test('what is no TLS, too old or of another protocol is refused, and the server goes on', async () => {
  const plain = net.connect(gateway.ports.ingest, '127.0.0.1');
  let text = '';
  plain.on('data', (chunk) => (text += chunk.toString('latin1')));
  plain.on('error', () => {});
  plain.write(request('{}'));
  await new Promise((resolve) => plain.on('close', resolve));
  assert.doesNotMatch(text, /HTTP\/1/);
  for (let i = 0; i < 50; i++) {
    const junk = net.connect(gateway.ports.ingest, '127.0.0.1');
    junk.on('error', () => {}).resume();
    junk.write(Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0]), crypto.randomBytes(600)]));
    await new Promise((resolve) => junk.on('close', resolve));
  }
  await assert.rejects(connect({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }));
  await assert.rejects(connect({ ALPNProtocols: ['h2'] }), /alert|protocol/i);
  const spoken = await connect({ ALPNProtocols: ['h2', 'http/1.1'] });
  assert.equal(spoken.alpnProtocol, 'http/1.1');
  spoken.write(request(JSON.stringify(event(1))));
  await until(() => answers(spoken).length === 1, 'an answer', 5000);
  spoken.destroy();
});

test('the end of the connection is said, and what came before it is answered', async () => {
  const socket = await connect();
  socket.write(request(JSON.stringify(event(1)), { close: true }));
  await socket.ended;
  assert.equal(answers(socket).length, 1);
  assert.ok(isOne(answers(socket)[0]));
  const half = await connect();
  half.end(request(JSON.stringify(event(1))));
  await half.ended;
  assert.equal(answers(half).length, 1);
});

test('a reload brings a new certificate to new connections, and the old ones live on', async () => {
  const old = await connect();
  const before = old.getPeerCertificate().fingerprint256;
  gateway.tls = { ...second };
  gateway.write();
  await gateway.reload();
  const young = await connect();
  assert.notEqual(young.getPeerCertificate().fingerprint256, before);
  for (const socket of [old, young, old]) {
    const had = answers(socket).length;
    socket.write(request(JSON.stringify(event(1))));
    await until(() => answers(socket).length === had + 1, 'an answer', 5000);
  }
  old.destroy();
  young.destroy();
});

test('a reload under load loses no request', async () => {
  let stopping = false;
  let sent = 0;
  const before = await accepted();
  const loads = Array.from({ length: 8 }, async () => {
    while (!stopping) {
      const socket = await connect();
      for (let i = 0; i < 10 && !stopping; i++) {
        const had = answers(socket).length;
        socket.write(request(JSON.stringify(event(i))));
        await until(() => answers(socket).length === had + 1, 'an answer', 5000, 1);
        sent++;
      }
      socket.destroy();
    }
  });
  for (let i = 0; i < (full ? 50 : 8); i++) {
    gateway.tls = { ...(i % 2 === 0 ? first : second) };
    gateway.write();
    await gateway.reload();
    await sleep(30);
  }
  stopping = true;
  await Promise.all(loads);
  assert.equal(await accepted() - before, sent);
  note(`${sent} requests`);
});

test('a broken certificate is refused as a whole, with its reason, and the old one stays', async () => {
  const good = { ...gateway.tls };
  const broken = path.join(folder, 'broken.pem');
  fs.writeFileSync(broken, 'no certificate', { mode: 0o600 });
  const open = path.join(folder, 'open.key');
  fs.copyFileSync(first.key, open);
  fs.chmodSync(open, 0o644);
  for (const [wrong, says] of [[{ cert: broken, key: good.key }, /broken\.pem: not a certificate/], [{ cert: good.cert, key: broken }, /broken\.pem: not the key/],
    [{ cert: first.cert, key: second.key }, /not the key/], [{ cert: first.cert, key: open }, /anyone may read/],
    [{ cert: path.join(folder, 'missing.pem'), key: good.key }, /missing\.pem/]]) {
    gateway.tls = wrong;
    gateway.write();
    await assert.rejects(gateway.reload(), says);
  }
  gateway.tls = good;
  gateway.write();
  const socket = await connect();
  socket.write(request(JSON.stringify(event(1))));
  await until(() => answers(socket).length === 1, 'an answer', 5000);
  socket.destroy();
});

test('the unmodified node SDK by https, and what it sent at the vendor', async () => {
  const script = `const Mixpanel = require('mixpanel');
    const mp = Mixpanel.init(${JSON.stringify(SERVER_TOKEN)}, { host: 'localhost:${gateway.ports.ingest}', protocol: 'https', path: '/mixpanel' });
    mp.track('Completion Run', { distinct_id: 'by-https', tokens: 5 }, (error) => { process.exit(error ? 1 : 0); });`;
  const before = standin.items.length;
  const bundle = path.join(folder, 'ca.pem');
  fs.writeFileSync(bundle, Buffer.concat(ca()));
  execFileSync(process.execPath, ['-e', script], { env: { ...process.env, NODE_EXTRA_CA_CERTS: bundle }, timeout: 15000, stdio: 'pipe' });
  await until(() => standin.items.length > before, 'the event at the vendor', 10000);
});

test('what arrived by TLS leaves nothing behind when the server stops', async () => {
  const end = await gateway.stop();
  assert.equal(end.code, 0);
});

await finish();
