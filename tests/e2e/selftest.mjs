#!/usr/bin/env node
// The kit proves itself before it judges the product: the SDKs talk straight to the stand-in, and the stand-in's strict
// rules, misbehaviours and people counts are checked one by one.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import zlib from 'node:zlib';
import { finish, freePort, onEnd, person, seeded, sleep, tempFolder, test, until } from './lib/harness.mjs';
import { Metrics } from './lib/gateway.mjs';
import { People } from './lib/people.mjs';
import { Proxy } from './lib/proxy.mjs';
import { Browser, visitorStory } from './lib/sdk-browser.mjs';
import { NodeSdk, serverStory } from './lib/sdk-node.mjs';
import { Standin } from './lib/standin.mjs';
import { decodeFront, decodeItems, parseQuery } from './lib/wire.mjs';

const random = seeded();
const folder = tempFolder('self');
const TOKEN = 'mp_browser_token_a';

async function standinWith(options = {}) {
  const standin = await new Standin({ token: TOKEN, secrets: ['key-1'], ...options }).start();
  onEnd(() => standin.stop());
  return standin;
}

function send(standin, method, where, body, headers = {}) {
  const lib = standin.url.startsWith('https') ? https : http;
  return new Promise((resolve, reject) => {
    const request = lib.request(standin.url + where, { method, headers, agent: false, rejectUnauthorized: false }, (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks).toString() }));
      res.on('error', reject);
    });
    request.setTimeout(1500, () => request.destroy(new Error('timeout')));
    request.on('error', reject);
    request.end(body);
  });
}

const basic = { Authorization: `Basic ${Buffer.from(`${TOKEN}:`).toString('base64')}` };
const jsonType = { 'Content-Type': 'application/json' };
const now = () => Math.floor(Date.now() / 1000);
const good = (extra = {}) => ({ event: 'Step 1', properties: { time: now(), distinct_id: 'u1', $insert_id: random.hex(20), ...extra } });
const importOf = (standin, items, headers = {}) =>
  send(standin, 'POST', '/import?strict=1', JSON.stringify(items), { ...basic, ...jsonType, ...headers });

test('wire: form, base64, JSON, raw plus signs and cut-off arrays decode', () => {
  const item = [{ event: '>>>???', properties: { a: '~~~' } }];
  const base64 = Buffer.from(JSON.stringify(item)).toString('base64');
  assert.match(base64, /\+|\//);
  assert.deepEqual(decodeItems({}, Buffer.from(`data=${base64}`)), item);
  assert.deepEqual(decodeItems({}, Buffer.from(`data=${encodeURIComponent(JSON.stringify(item))}`)), item);
  assert.deepEqual(decodeItems(parseQuery(`data=${encodeURIComponent(base64)}`), Buffer.alloc(0)), item);
  assert.equal(decodeFront(Buffer.from('[{"a":"}"},{"b":{"c":1}},{"d":')).length, 2);
});

test('people: identify, alias and merge count as the original ID merge does', () => {
  const people = new People();
  const device = random.uuid();
  const at = (event, properties) => people.event({ event, properties: { time: now(), ...properties } });
  at('Step 1', { distinct_id: device });
  at('$identify', { distinct_id: 'u1', $anon_distinct_id: `$device:${device}` });
  at('Step 2', { distinct_id: 'u1' });
  assert.equal(people.count(), 1);
  at('$identify', { distinct_id: 'u2', $anon_distinct_id: device });
  at('Step 2', { distinct_id: 'u2' });
  assert.equal(people.count(), 2, 'a device joins its first user only');
  at('$create_alias', { distinct_id: 'u1', alias: 'mail1' });
  at('Step 3', { distinct_id: 'mail1' });
  assert.equal(people.count(), 2);
  at('$merge', { $distinct_ids: ['u1', 'u2'] });
  assert.equal(people.count(), 1);
  at('$identify', { distinct_id: 'u3', $anon_distinct_id: 'not-a-uuid' });
  at('Step 1', { distinct_id: 'not-a-uuid' });
  assert.equal(people.count(), 3, 'an anonymous id of another form is not merged');
  assert.deepEqual(people.funnel(['Step 1', 'Step 2', 'Step 3']).slice(0, 1), [2]);
});

test('strict: /import takes what is documented and names what is not', async () => {
  const standin = await standinWith({ dump: path.join(folder, 'dump') });
  assert.equal((await importOf(standin, [good()])).body, '{"code":200,"num_records_imported":1,"status":"OK"}');
  assert.equal((await importOf(standin, [])).status, 200);
  const zipped = zlib.gzipSync(JSON.stringify([good(), good()]));
  assert.equal((await send(standin, 'POST', '/import?strict=1', zipped, { ...basic, ...jsonType, 'Content-Encoding': 'gzip' })).status, 200);
  const bad = [good(), good({ time: undefined }), good({ $insert_id: 'x'.repeat(37) }), good({ $insert_id: 'a_b' }), good({ distinct_id: undefined }),
    good({ time: now() + 7200 }), good({ time: 1000 }), good({ distinct_id: 'null' }), good({ deep: { a: { b: { c: { d: 1 } } } } }), { properties: {} }];
  const partial = await importOf(standin, bad);
  assert.equal(partial.status, 400);
  const answer = JSON.parse(partial.body);
  assert.deepEqual(answer.failed_records.map((f) => f.index), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(answer.num_records_imported, 1);
  assert.equal((await importOf(standin, [good()], { Authorization: 'Basic eDo=' })).status, 401);
  assert.equal((await importOf(standin, Array.from({ length: 2001 }, () => good()))).status, 413);
  assert.equal((await importOf(standin, [good({ big: 'x'.repeat(11 << 20) })])).status, 413);
  assert.equal((await importOf(standin, [good({ distinct_id: '' })])).status, 200, 'an empty distinct_id means nobody');
  const once = good();
  await importOf(standin, [once]);
  await importOf(standin, [once]);
  assert.equal(standin.stats.repeated, 1);
  const lines = fs.readFileSync(path.join(folder, 'dump'), 'utf8').trim().split('\n').map((l) => JSON.parse(l));
  assert.equal(lines.filter((l) => l.kind === 'request').length, lines.filter((l) => l.kind === 'answer').length);
  assert.ok(lines.every((l) => l.kind !== 'request' || (l.body_sha256?.length === 64 && l.complete)));
});

test('strict: /track, /engage and /groups check token, age and operation', async () => {
  const standin = await standinWith();
  const track = (items, verbose = 1) => send(standin, 'POST', `/track?verbose=${verbose}&ip=0`, JSON.stringify(items), jsonType);
  const event = (extra = {}) => good({ token: TOKEN, ...extra });
  assert.deepEqual(await track([event()]).then((r) => [r.status, r.body]), [200, '{"error":null,"status":1}']);
  assert.equal((await track([event()], 0)).body, '1');
  assert.equal((await track([event({ token: 'other' })])).status, 401);
  assert.match((await track([event({ time: now() - 6 * 86400 })])).body, /"status":0/);
  const engage = (item) => send(standin, 'POST', '/engage?verbose=1&ip=0', JSON.stringify([item]), jsonType);
  assert.match((await engage({ $token: TOKEN, $distinct_id: 'u1', $set: { plan: 'pro' } })).body, /"status":1/);
  assert.match((await engage({ $token: TOKEN, $distinct_id: 'u1' })).body, /"status":0/);
  assert.match((await engage({ $token: TOKEN, $set: {} })).body, /"status":0/);
  const groups = await send(standin, 'POST', '/groups?verbose=1', JSON.stringify([{ $token: TOKEN, $group_key: 'c', $group_id: 'o', $set: {} }]), jsonType);
  assert.match(groups.body, /"status":1/);
  assert.equal((await send(standin, 'GET', '/elsewhere')).status, 404);
});

test('behaviours: every misbehaviour is seen by a client', async () => {
  const standin = await standinWith({ control: 0 });
  const one = () => importOf(standin, [good()]);
  for (const status of ['400', '401', '403', '413', '429', '500', '503']) {
    standin.behave({ mode: status, retry_after: 7 });
    const answer = await one();
    assert.equal(answer.status, Number(status));
    assert.equal(answer.headers['retry-after'], '7');
  }
  standin.behave('timeout');
  await assert.rejects(one(), /timeout/);
  standin.behave('reset');
  await assert.rejects(one(), /ECONNRESET|hang up/);
  standin.behave('cut-short');
  await assert.rejects(one(), /aborted|ECONNRESET|hang up|terminated/);
  standin.behave('hang-in-body');
  await assert.rejects(one(), /timeout/);
  standin.behave('dead');
  await assert.rejects(one(), /ECONNRESET|hang up/);
  for (const behaviour of [{ mode: 'late', ms: 200 }, { mode: 'trickle', ms: 1 }, { mode: 'split', ms: 5 }, { mode: 'slow-read', ms: 5 }]) {
    standin.behave(behaviour);
    assert.equal((await one()).status, 200, behaviour.mode);
  }
  standin.behave('double');
  const raw = await new Promise((resolve) => {
    let text = '';
    const body = JSON.stringify([good()]);
    const socket = net.connect(standin.port, '127.0.0.1', () => socket.write('POST /import?strict=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
      + `Authorization: ${basic.Authorization}\r\nContent-Length: ${body.length}\r\n\r\n${body}`));
    socket.on('data', (chunk) => (text += chunk));
    setTimeout(() => {
      socket.destroy();
      resolve(text);
    }, 200);
  });
  assert.equal(raw.split('HTTP/1.1 200').length, 3);
  standin.behave({ mode: 'poison', match: 'POISON' });
  const poisoned = await importOf(standin, [good(), good({ x: 'POISON' })]);
  assert.deepEqual(JSON.parse(poisoned.body).failed_records.map((f) => f.index), [1]);
  standin.behave({ mode: 'poison', match: 'POISON', unnamed: true });
  assert.equal(JSON.parse((await importOf(standin, [good({ x: 'POISON' })])).body).failed_records, undefined);
  standin.behave({ mode: 'partial', every: 2 });
  assert.equal(JSON.parse((await importOf(standin, [good(), good(), good()])).body).failed_records.length, 2);
  standin.behave({ mode: 'flapping', up_ms: 150, down_ms: 150 });
  const seen = new Set();
  for (let i = 0; i < 20; i++) {
    seen.add((await one()).status);
    await sleep(25);
  }
  assert.deepEqual([...seen].sort(), [200, 503]);
  standin.behave({ mode: '503', count: 2 });
  assert.deepEqual([(await one()).status, (await one()).status, (await one()).status], [503, 503, 200]);
  await standin.die();
  await assert.rejects(one(), /ECONNREFUSED/);
  await standin.revive();
  assert.equal((await one()).status, 200);
  const control = { url: `http://127.0.0.1:${standin.controlPort}` };
  await send(control, 'POST', '/behave', '{"mode":"429"}');
  assert.equal((await one()).status, 429);
  assert.equal(JSON.parse((await send(control, 'GET', '/stats')).body).mode, '429');
});

test('TLS: its own authority is trusted, and a handshake can be left hanging', async () => {
  const standin = await standinWith({ tls: path.join(folder, 'tls') });
  const ca = fs.readFileSync(standin.certs.ca);
  const ok = await new Promise((resolve, reject) => {
    https.get(`${standin.url}/elsewhere`, { ca, agent: false }, (res) => resolve(res.statusCode)).on('error', reject);
  });
  assert.equal(ok, 404);
  standin.behave('hang-in-tls');
  await assert.rejects(send(standin, 'GET', '/elsewhere'), /timeout/);
});

test('proxy: spoils the first k, forwards when told to, then passes', async () => {
  const standin = await standinWith();
  const proxy = await new Proxy(standin.url).start();
  onEnd(() => proxy.stop());
  const through = () => importOf({ url: proxy.url }, [good()]);
  proxy.spoil('500', 2);
  assert.deepEqual([(await through()).status, (await through()).status, (await through()).status], [500, 500, 200]);
  assert.equal(standin.stats.accepted, 1);
  proxy.spoil('reset', 1, { forward: true });
  await assert.rejects(through());
  await until(() => standin.stats.accepted === 2, 'the forwarded event');
});

test('metrics: Prometheus text is read with its labels', () => {
  const metrics = new Metrics('# HELP x y\nx{source="a",why="q\\"r"} 3\nx{source="b"} 4\nz 1e3\n');
  assert.equal(metrics.sum('x'), 7);
  assert.equal(metrics.sum('x', { source: 'a' }), 3);
  assert.equal(metrics.sum('z'), 1000);
});

test('node SDK: a person\'s way arrives whole at the stand-in', async () => {
  const standin = await standinWith({ token: 'mp_project_token_a' });
  const sdk = new NodeSdk(standin.url, 'mp_project_token_a', { key: 'key-1' });
  const sent = { events: 0, updates: 0, groups: 0 };
  for (let i = 0; i < 5; i++) {
    const story = await serverStory(sdk, person(random, i), random);
    assert.deepEqual(story.errors, []);
    for (const kind of Object.keys(sent)) {
      sent[kind] += story[kind];
    }
  }
  assert.equal(await sdk.importBatch([good(), good()]), null);
  assert.equal(await sdk.alias('u1', 'u1-alias'), null);
  assert.equal(await sdk.merge('u1', 'u2'), null);
  assert.equal(await sdk.import('Step 2', now() - 86400, { distinct_id: 'u1' }), null);
  assert.equal(standin.events().length, sent.events + 5);
  assert.equal(standin.updates().length, sent.updates);
  assert.equal(standin.updates('/groups').length, sent.groups);
  assert.equal(standin.people().count(), 6);
  standin.behave('500');
  assert.notEqual(await sdk.track('Step 1', { distinct_id: 'u1' }), null, 'the SDK reports a failure');
});

test('browser SDK: base64, JSON, GET, beacon, opt-out and groups in real Chromium', async () => {
  const standin = await standinWith();
  const browser = await new Browser().start();
  onEnd(() => browser.stop());
  const shapes = [{}, { api_payload_format: 'json' }, { api_method: 'GET', batch_requests: false }, { batch_requests: false }];
  for (const [n, config] of shapes.entries()) {
    const before = standin.events().length;
    const visitor = await browser.visit(standin.url, TOKEN, config);
    const someone = person(random, n);
    const story = await visitorStory(visitor, someone);
    await until(() => standin.events().slice(before).filter((e) => story.events.includes(e.event)).length >= story.events.length,
      () => `events of ${JSON.stringify(config)}: ${standin.events().slice(before).map((e) => e.event)}`);
    await until(() => standin.updates('/groups').length >= n + 1, 'the group update');
    assert.deepEqual(visitor.errors, []);
    if (n === 0) {
      await visitor.call('track', 'Step 3', {});
      await visitor.leave();
      await until(() => standin.events().some((e) => e.event === 'Step 3'), 'the beacon');
    }
    if (config.batch_requests === false && !config.api_method) {
      /* With batching, opting out empties the queue that holds the deletion: only an unbatched SDK sends it. */
      await visitor.call('opt_out_tracking');
      await until(() => standin.updates().some((u) => u.$delete !== undefined), 'the deletion that opting out sends');
    }
    await visitor.close();
  }
  assert.ok(standin.requests.some((r) => r.method === 'GET' && r.path.startsWith('/track')));
  assert.ok(standin.requests.some((r) => (r.headers['content-type'] ?? '').startsWith('text/plain')), 'a beacon');
  assert.equal(standin.people().count(), shapes.length, 'each visit and its user are one person');
});

test('program: the stand-in runs by itself and is steered over its control port', async () => {
  const { spawn } = await import('node:child_process');
  const port = await freePort();
  const child = spawn(process.execPath, [new URL('./lib/standin.mjs', import.meta.url).pathname, '--port', String(port),
    '--dump', path.join(folder, 'program'), '--token', TOKEN], { stdio: ['ignore', 'pipe', 'inherit'] });
  const first = await new Promise((resolve) => child.stdout.once('data', (d) => resolve(JSON.parse(d))));
  assert.equal((await importOf(first, [good()])).status, 200);
  const stats = await send({ url: `http://127.0.0.1:${first.control}` }, 'GET', '/stats');
  assert.equal(JSON.parse(stats.body).accepted, 1);
  child.kill('SIGTERM');
  await new Promise((resolve) => child.once('exit', resolve));
});

await finish({ limit_ms: 120000 });
