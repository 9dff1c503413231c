// Every recorded request of both Mixpanel SDKs, byte for byte, against the gateway: the answer is the one that the SDK was
// content with, its items are counted one by one, and what a vendor may have of them arrives once and without a raw value.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { finish, note, onEnd, seeded, tempFolder, test } from './lib/harness.mjs';
import { BROWSER_TOKEN, Gateway, VENDOR_TOKEN } from './lib/gateway.mjs';
import { exchange } from './lib/raw.mjs';
import { load, prefixed } from './lib/recordings.mjs';
import { Standin } from './lib/standin.mjs';

const folder = tempFolder('recorded');
seeded();

const itemsOf = (request) => (request.decoded === null || request.method === 'OPTIONS' || /\/(settings|flags|decide)\/?$/.test(request.path)
  ? []
  : [].concat(request.decoded));

const requests = [...load('mixpanel-node'), ...load('mixpanel-browser')];
/* Recorded events keep their old times, which the real /track refuses; this suite is about decoding, not about age. */
const standin = await new Standin({ token: VENDOR_TOKEN, bodies: path.join(folder, 'bodies'), trackDays: 36500 }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ endpoint: standin.url, sources: [
  `{ name: platform-web, protocol: mixpanel, token: ${BROWSER_TOKEN}, trust: browser, role: controller, vendors: [mixpanel] }`,
  '{ name: platform-api, protocol: mixpanel, token: { env: BULKHEAD_API_TOKEN }, trust: server, vendors: [mixpanel], '
    + 'import: { secret: svc-secret-000, project_id: 3141592 } }',
] });

test('the gateway starts with its vendor cut', async () => {
  await gateway.start();
  assert.equal((await gateway.vendor()).state, 'cut');
}, { vital: true });

for (const sdk of ['mixpanel-node', 'mixpanel-browser']) {
  const source = sdk === 'mixpanel-node' ? 'platform-api' : 'platform-web';
  for (const request of requests.filter((r) => r.sdk === sdk)) {
    test(`${request.name} ${request.method} ${request.path}`, async () => {
      const accepted = async () => (await gateway.metrics()).sum('bulkhead_events_accepted_total', { source });
      const before = await accepted();
      const answer = await exchange(gateway.ports.ingest, prefixed(request.http, 'mixpanel'), { head: request.method === 'HEAD' });
      assert.ok(answer, 'an answer');
      assert.equal(answer.status, request.response.status);
      assert.equal(answer.body, request.response.body);
      assert.equal(await accepted() - before, itemsOf(request).length, 'items accepted');
      checkCors(request, answer);
    });
  }
}

function checkCors(request, answer) {
  const origin = request.headers.origin;
  if (!origin) {
    return;
  }
  assert.equal(answer.headers['access-control-allow-origin'], origin);
  assert.equal(answer.headers['access-control-allow-credentials'], 'true');
  assert.match(answer.headers.vary ?? '', /Origin/i);
  if (request.method === 'OPTIONS') {
    assert.equal(answer.headers['access-control-allow-headers'], request.headers['access-control-request-headers']);
    assert.match(answer.headers['access-control-allow-methods'] ?? '', /POST/);
    assert.ok(Number(answer.headers['access-control-max-age']) > 0);
  } else {
    assert.match(answer.headers['access-control-expose-headers'] ?? '', /Retry-After/i);
  }
}

const DECLARED = new Set(['Signed In', 'API Key Created', 'Billing Page Viewed', 'Profile Updated', 'Dashboard']);
const isDeclared = (name) => DECLARED.has(name) || name.startsWith('Completion Run');
const IDENTITY = new Set(['$identify', '$create_alias', '$merge']);

/* What must arrive: each declared or linking event once, by Mixpanel's own key over the raw values. */
function expected() {
  const seen = new Set();
  const names = new Map();
  for (const request of requests) {
    for (const item of itemsOf(request)) {
      if (item.event === undefined || !(isDeclared(item.event) || IDENTITY.has(item.event))) {
        continue;
      }
      const p = item.properties;
      const key = JSON.stringify([request.sdk, item.event, p.time, p.distinct_id, p.$insert_id]);
      if (p.$insert_id !== undefined && seen.has(key)) {
        continue;
      }
      seen.add(key);
      names.set(item.event, (names.get(item.event) ?? 0) + 1);
    }
  }
  return names;
}

test('after restore --replay every declared and linking event is at the stand-in once', async () => {
  assert.equal(standin.stats.items, 0, 'nothing left before restore');
  await gateway.open('mixpanel', '--replay');
  await gateway.drained().catch((error) => {
    throw new Error(`${error.message}; the vendor refused ${JSON.stringify([...standin.refusals])}`);
  });
  const names = new Map();
  for (const event of standin.events()) {
    if (isDeclared(event.event) || IDENTITY.has(event.event)) {
      names.set(event.event, (names.get(event.event) ?? 0) + 1);
    }
  }
  assert.deepEqual(Object.fromEntries([...names].sort()), Object.fromEntries([...expected()].sort()));
  assert.deepEqual([...standin.refusals], [], 'the vendor refused nothing');
  note(`${standin.stats.accepted} events, ${standin.stats.updates} updates, ${standin.stats.repeated} repeated at the stand-in`);
});

test('no raw identifier, name, address or token of the population reached the stand-in', async () => {
  const bodies = fs.readFileSync(path.join(folder, 'bodies'), 'utf8');
  const marks = new Set();
  const keep = (value) => typeof value === 'string' && value.length >= 6 && marks.add(value);
  for (const request of requests) {
    for (const item of itemsOf(request)) {
      for (const key of ['$email', '$name', '$phone', '$avatar']) {
        keep(item.$set?.[key]);
      }
      for (const value of [item.$distinct_id, item.properties?.distinct_id, item.properties?.$device_id, item.properties?.$user_id,
        item.properties?.$insert_id, item.properties?.token, item.$token, item.$group_id]) {
        keep(value);
      }
    }
  }
  for (const text of ['@example.com', '@example.org', 'svc-secret-000', 'api-secret-000', 'api-key-000', '203.0.113.']) {
    marks.add(text);
  }
  const found = [...marks].filter((mark) => bodies.includes(mark));
  assert.deepEqual(found, []);
  note(`${marks.size} values looked for in ${bodies.length} bytes`);
});

await finish();
