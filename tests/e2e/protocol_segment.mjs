// Segment and RudderStack from end to end: recorded requests byte for byte, the unmodified SDKs (analytics.js in a real
// browser), a restart and a failing vendor, and marked values in every place that nobody declared.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { count, finish, modulePath, need, note, onEnd, person, seeded, test, until } from './lib/harness.mjs';
import { Gateway } from './lib/gateway.mjs';
import { Page } from './lib/page.mjs';
import { load, replay } from './lib/recordings.mjs';
import { SegmentStandin } from './lib/standin_segment.mjs';

const random = seeded();
const KEYS = { segment: 'sg_vendor_key', rudder: 'rs_vendor_key' };
const TOKENS = { 'segment-node': 'sgNodeWriteKeyA', 'segment-browser': 'sgBrowserKeyA', 'rudder-node': 'rsWriteKeyA' };

/* The recorded keys are the sources' tokens. */
function tokenOf(requests) {
  for (const request of requests) {
    const basic = /^Basic (.+)/.exec(request.headers.authorization ?? '');
    if (basic) {
      return Buffer.from(basic[1], 'base64').toString().split(':')[0];
    }
  }
  return undefined;
}
const recorded = Object.fromEntries(Object.keys(TOKENS).map((sdk) => [sdk, load(sdk)]));
for (const sdk of Object.keys(TOKENS)) {
  TOKENS[sdk] = tokenOf(recorded[sdk]) ?? TOKENS[sdk];
}

const segment = await new SegmentStandin({ key: KEYS.segment }).start();
const rudder = await new SegmentStandin({ key: KEYS.rudder, batchMax: 4 * 1024 * 1024, yes: 'OK' }).start();
onEnd(() => segment.stop());
onEnd(() => rudder.stop());
const gateway = new Gateway({ name: 'sg', vendors: [
  { vendor: 'segment', connector: 'segment', endpoint: segment.url, credential: 'SEGMENT_WRITE_KEY' },
  { vendor: 'rudder', connector: 'rudder', endpoint: rudder.url, credential: 'RUDDER_WRITE_KEY' },
], env: { SEGMENT_WRITE_KEY: KEYS.segment, RUDDER_WRITE_KEY: KEYS.rudder, RUDDER_TOKEN: TOKENS['rudder-node'], BULKHEAD_API_TOKEN: TOKENS['segment-node'] },
sources: [
  `{ name: web, protocol: segment, token: ${TOKENS['segment-browser']}, trust: browser, vendors: [segment] }`,
  '{ name: api, protocol: segment, token: { env: BULKHEAD_API_TOKEN }, trust: server, vendors: [segment] }',
  '{ name: jobs, protocol: rudder, token: { env: RUDDER_TOKEN }, trust: server, vendors: [rudder] }',
] });
const standins = { segment, rudder };
const drained = async () => {
  await gateway.drained('segment');
  await gateway.drained('rudder');
};

test('the gateway starts with its vendors cut, and is opened', async () => {
  await gateway.start();
  for (const vendor of ['segment', 'rudder']) {
    assert.equal((await gateway.vendor(vendor)).state, 'cut');
    await gateway.open(vendor);
  }
}, { vital: true });

for (const [sdk, requests] of Object.entries(recorded)) {
  test(`${sdk}: every recorded request gets the answer that the SDK was content with, and its messages are counted`, async () => {
    const [protocol] = sdk.split('-');
    const sum = await replay(gateway, protocol, requests, {
      items: (request) => (request.method !== 'POST' || /\/m$/.test(request.path) ? 0 : request.decoded.batch?.length ?? 1),
      same: (request, answer) => {
        if (request.method === 'POST') {
          assert.equal(answer.body, request.response.body, request.name);
        } else if (request.method === 'GET') {
          assert.deepEqual(Object.keys(JSON.parse(answer.body).integrations), ['Segment.io'], request.name);
        }
      },
    });
    await drained();
    assert.deepEqual(standins[protocol].refusals, []);
    note(`${requests.length} requests, ${sum} messages, ${standins[protocol].items.length} at the vendor so far`);
  });
}

test('nothing personal of the recorded populations reached a vendor, and nobody is passed anything', () => {
  for (const standin of Object.values(standins)) {
    for (const mark of ['@example.', '%40example', 'user_1', 'org_a', '203.0.113.', '+1-555', 'Thackeray', 'Northlight', ...Object.values(TOKENS)]) {
      assert.ok(!standin.text.includes(mark), mark);
    }
    assert.ok(standin.items.length > 50);
    assert.ok(standin.items.every((m) => JSON.stringify(m.integrations) === '{"All":false}'));
  }
});

// -- SDKs --------------------------------------------------------------------------------------------------------------

async function story(client, someone, anonymous, wait) {
  const send = (method, message) => wait(client[method](message));
  await send('track', { anonymousId: anonymous, event: 'Step 1', properties: { tokens: 1, email: someone.email },
    context: { ip: someone.ip, page: { url: `https://app.example.com/dashboard?user=${someone.id}&email=${someone.email}`, title: someone.name } } });
  await send('identify', { userId: someone.id, anonymousId: anonymous, traits: { email: someone.email, name: someone.name, phone: someone.phone, plan: someone.plan } });
  await send('group', { userId: someone.id, groupId: someone.org, traits: { name: someone.orgName, plan: 'team' } });
  await send('track', { userId: someone.id, event: 'Signed Up', properties: { plan: someone.plan, note: `call ${someone.phone}` } });
  await send('track', { userId: someone.id, event: 'Completion Run', properties: { tokens: 5, model: 'lumen-mini' } });
  await send('track', { userId: someone.id, event: `Paid ${someone.email}`, properties: { tokens: 5 } });
}

const makers = {
  segment: (key) => {
    const { Analytics } = need('@segment/analytics-node');
    const client = new Analytics({ writeKey: key, host: gateway.url('', '').replace(/\/$/, ''), path: '/segment/v1/batch', flushInterval: 200 });
    return { client, wait: () => undefined, end: () => client.closeAndFlush() };
  },
  rudder: (key) => {
    const Analytics = need('@rudderstack/rudder-sdk-node');
    const client = new (Analytics.default ?? Analytics)(key, { dataPlaneUrl: gateway.url('', 'rudder'), flushInterval: 200, logLevel: 'error' });
    return { client, wait: () => undefined, end: () => new Promise((resolve) => client.flush(() => resolve())) };
  },
};

function checkStory(standin, people) {
  assert.deepEqual(standin.refusals, []);
  for (const event of ['Step 1', 'Signed Up', 'Completion Run']) {
    assert.equal(standin.of('track', event).length, people, event);
  }
  assert.equal(standin.of('track').length, 3 * people, 'nothing undeclared');
  assert.equal(standin.of('identify').length, people);
  assert.equal(standin.of('group').length, people);
  const users = new Set(standin.of('track', 'Signed Up').map((m) => m.userId));
  assert.equal(users.size, people, 'people');
  assert.deepEqual(new Set(standin.of('track', 'Completion Run').map((m) => m.userId)), users, 'the same people');
  const visits = new Map(standin.of('identify').map((m) => [m.anonymousId, m.userId]));
  assert.ok(standin.of('track', 'Step 1').every((m) => users.has(visits.get(m.anonymousId))), 'the visit before is linked');
  assert.ok(standin.of('identify').every((m) => Object.keys(m.traits).join() === 'plan'));
  assert.ok(standin.items.every((m) => (m.context?.ip ?? '0.0.0.0') === '0.0.0.0'));
}

for (const [protocol, sdk] of [['segment', 'segment-node'], ['rudder', 'rudder-node']]) {
  test(`${sdk}: every message once, people as they were, nothing that was not declared`, async () => {
    const standin = standins[protocol];
    standin.clear();
    const people = count(10, 150);
    const all = [];
    const { client, wait, end } = makers[protocol](TOKENS[sdk]);
    for (let i = 0; i < people; i++) {
      const someone = person(random, i);
      all.push(someone);
      await story(client, someone, random.uuid(), wait);
    }
    await end();
    await until(() => standin.of('track').length >= 3 * people && standin.of('group').length >= people, () => `${standin.items.length} messages`, 20000);
    await drained();
    checkStory(standin, people);
    for (const someone of all) {
      for (const value of [someone.id, someone.email, someone.name, someone.phone, someone.orgName]) {
        assert.ok(!standin.text.includes(value), value);
      }
    }
  });
}

test('a vendor that fails, asks for patience and is fine gets every message once', async () => {
  segment.clear();
  [503, 429, 500].forEach((status) => segment.fail(status));
  const { client, wait, end } = makers.segment(TOKENS['segment-node']);
  await story(client, person(random, 900), random.uuid(), wait);
  await end();
  await until(() => segment.of('track').length >= 3 && segment.of('group').length === 1, () => `${segment.items.length} messages`, 40000);
  checkStory(segment, 1);
});

test('a backlog leaves in requests that each vendor takes: by bytes and by number', async () => {
  for (const [vendor, url] of [['segment', gateway.url('', 'segment')], ['rudder', gateway.url('', 'rudder')]]) {
    const standin = standins[vendor];
    standin.clear();
    await gateway.cut(vendor);
    const token = vendor === 'segment' ? TOKENS['segment-node'] : TOKENS['rudder-node'];
    const total = 2000;
    for (let from = 0; from < total; from += 200) {
      const batch = Array.from({ length: 200 }, (_, i) => ({ type: 'track', event: 'Completion Run', userId: `b${i % 40}`, messageId: random.uuid(),
        timestamp: new Date().toISOString(), properties: { model: 'lumen-mini', page: `https://app.example.com/${'long/'.repeat(80)}` } }));
      const answer = await fetch(`${url.replace(/\/$/, '')}/v1/batch`, { method: 'POST', body: JSON.stringify({ batch, sentAt: new Date().toISOString() }),
        headers: { 'Content-Type': 'application/json', Authorization: `Basic ${Buffer.from(`${token}:`).toString('base64')}` } });
      assert.equal(answer.status, 200);
    }
    await gateway.open(vendor);
    await gateway.drained(vendor);
    assert.equal(standin.of('track').length, total);
    assert.deepEqual(standin.refusals, [], vendor);
  }
});

test('the gateway is killed in mid-flow: what it acknowledged arrives once', async () => {
  segment.clear();
  const { client, wait, end } = makers.segment(TOKENS['segment-node']);
  const people = count(20, 200);
  const sending = (async () => {
    for (let i = 0; i < people; i++) {
      await story(client, person(random, 1000 + i), random.uuid(), wait);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 150));
  await gateway.kill();
  await gateway.start();
  await sending;
  await end();
  await until(() => segment.of('track').length >= 3 * people && segment.of('group').length >= people, () => `${segment.items.length} messages`, 30000);
  await drained();
  checkStory(segment, people);
});

test('analytics.js in a browser: settings from here, every call once, no error in the page', async () => {
  segment.clear();
  const folder = path.join(modulePath('@segment/analytics-next'), 'dist/umd');
  const browser = await new Page('<!doctype html><meta charset="utf-8"><title>Dashboard of Ada</title><script src="/sdk/index.js"></script>', (url) => {
    const file = path.join(folder, path.basename(url));
    return fs.existsSync(file) ? fs.readFileSync(file) : undefined;
  }).start();
  onEnd(() => browser.stop());
  const { page, errors } = await browser.open('/users/ada?email=ada@example.com');
  const someone = person(random, 4000);
  await page.evaluate(async ([base, key, who]) => {
    const [analytics] = await window.AnalyticsNext.AnalyticsBrowser.load({ writeKey: key, cdnURL: base },
      { integrations: { 'Segment.io': { apiHost: `${base.replace('http://', '')}/v1`, protocol: 'http' } } });
    await analytics.page();
    await analytics.track('Step 1', { tokens: 1, note: who.email });
    await analytics.identify(who.id, { email: who.email, plan: who.plan });
    await analytics.group(who.org, { name: who.orgName });
    await analytics.track('Signed Up', { plan: who.plan });
  }, [gateway.url('', 'segment').replace(/\/$/, ''), TOKENS['segment-browser'], someone]);
  await until(() => segment.of('track', 'Signed Up').length === 1, () => `${segment.items.map((m) => m.type)}`, 15000);
  await drained();
  assert.deepEqual(errors, []);
  assert.deepEqual(segment.refusals, []);
  assert.equal(segment.of('page').length, 1);
  assert.equal(segment.of('track').length, 2);
  assert.equal(segment.of('identify').length, 1);
  const [visit] = segment.of('track', 'Step 1');
  assert.equal(segment.of('identify')[0].anonymousId, visit.anonymousId, 'one visit');
  assert.equal(segment.of('track', 'Signed Up')[0].userId, segment.of('identify')[0].userId);
  for (const value of [someone.id, someone.email, someone.orgName, 'ada@', 'Dashboard of Ada']) {
    assert.ok(!segment.text.includes(value), value);
  }
});

// -- marks -------------------------------------------------------------------------------------------------------------

test('a marked value in every place that nobody declared: none arrives', async () => {
  for (const [protocol, token] of [['segment', TOKENS['segment-node']], ['rudder', TOKENS['rudder-node']]]) {
    let number = 0;
    /* Reserved words (a library's, a campaign's) pass as technical words, as Mixpanel's do: these are none. */
    const mark = () => `mark${random.hex(12)}é${number++}`;
    const messages = [];
    const objects = ['app', 'campaign', 'device', 'library', 'location', 'network', 'os', 'page', 'referrer', 'screen', 'traits', 'userAgentData', 'other', 'consent'];
    for (const type of ['track', 'page', 'screen', 'identify', 'group', 'alias']) {
      const context = Object.fromEntries(objects.map((name) => [name, { name: mark(), id: mark(), title: `${mark()} words`, [mark()]: 1, deep: { er: mark() }, list: [mark()],
        search: `?q=${mark()}`, path: `/a/${mark()}`, url: `https://example.com/${mark()}?x=${mark()}#${mark()}`, email: `${mark()}@example.com`, model: `a ${mark()}` }]));
      Object.assign(context, { userAgent: mark(), ip: mark(), locale: mark(), timezone: mark(), groupId: mark(), [mark()]: mark() });
      messages.push({ type, messageId: random.uuid(), timestamp: new Date().toISOString(), userId: mark(), anonymousId: random.uuid(), previousId: mark(), groupId: mark(),
        event: type === 'track' ? 'Completion Run' : undefined, name: mark(), category: mark(), context, properties: { tokens: 1, url: mark(), title: mark(), [mark()]: mark(),
          list: [{ of: mark() }], text: `free ${mark()}` }, traits: { plan: 'pro', name: mark(), address: { city: mark() }, [mark()]: mark() }, integrations: { All: true, [mark()]: { key: mark() } },
        _metadata: { bundled: [mark()] }, [mark()]: mark(), channel: mark(), version: mark() });
    }
    const body = JSON.stringify({ batch: messages, [mark()]: mark(), sentAt: new Date().toISOString() });
    const standin = standins[protocol];
    standin.clear();
    const answer = await fetch(`${gateway.url('', protocol).replace(/\/$/, '')}/v1/batch`, { method: 'POST', body,
      headers: { 'Content-Type': 'application/json', Authorization: `Basic ${Buffer.from(`${token}:`).toString('base64')}` } });
    assert.equal(answer.status, 200);
    await drained();
    assert.deepEqual(standin.refusals, []);
    assert.ok(standin.items.length >= 2, `${standin.items.length} of ${messages.length} messages left`);
    assert.ok(!/mark[0-9a-f]{12}/.test(JSON.stringify(standin.items)), JSON.stringify(standin.items).slice(0, 500));
    note(`${protocol}: ${number} marks, ${standin.items.length} of ${messages.length} messages at the vendor`);
  }
});

await finish();
