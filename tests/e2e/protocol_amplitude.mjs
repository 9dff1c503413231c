// Amplitude from end to end: recorded requests byte for byte, the unmodified SDKs, restarts and failures, form bodies, and
// marked values in every place that nobody declared.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { count, finish, modulePath, need, note, onEnd, person, seeded, sleep, test, until } from './lib/harness.mjs';
import { ALLOW, Gateway, PLAN } from './lib/gateway.mjs';
import { Page } from './lib/page.mjs';
import { Proxy } from './lib/proxy.mjs';
import { load, replay } from './lib/recordings.mjs';
import { AmplitudeStandin } from './lib/standin_amplitude.mjs';

const KEY = 'ampApiKeyA00000000000000000000000';
const WEB_KEY = 'ampBrowserKeyA000000000000000000';
const VENDOR_KEY = 'amp_vendor_key';
const random = seeded();
const standin = await new AmplitudeStandin({ key: VENDOR_KEY }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ name: 'amp', vendors: [{ vendor: 'amplitude', connector: 'amplitude', endpoint: standin.url, credential: 'AMPLITUDE_API_KEY' }],
  env: { AMPLITUDE_API_KEY: VENDOR_KEY, BULKHEAD_API_TOKEN: KEY }, sources: [
    `{ name: web, protocol: amplitude, token: ${WEB_KEY}, trust: browser, vendors: [amplitude] }`,
    '{ name: api, protocol: amplitude, token: { env: BULKHEAD_API_TOKEN }, trust: server, vendors: [amplitude] }',
  ] });
const drained = () => gateway.drained('amplitude');
const umd = fs.readFileSync(path.join(modulePath('@amplitude/analytics-browser'), 'lib/scripts/amplitude-min.umd.js'));
const browser = new Page('<!doctype html><meta charset="utf-8"><title>Dashboard of Ada</title><button id="go" type="button">Run for Ada</button>'
  + '<script src="/sdk.js"></script>', () => umd);
onEnd(() => browser.stop());
const proxy = await new Proxy('http://127.0.0.1:1').start();
onEnd(() => proxy.stop());

test('the gateway starts with its vendor cut, and is opened', async () => {
  await gateway.start();
  proxy.target = new URL(`http://127.0.0.1:${gateway.ports.ingest}`);
  assert.equal((await gateway.vendor('amplitude')).state, 'cut');
  await gateway.open('amplitude');
  await browser.start();
}, { vital: true });

// -- recorded ----------------------------------------------------------------------------------------------------------

const DECLARED = /^(Signed In|API Key Created|Completion Run|Billing Page Viewed|Profile Updated|Dashboard|session_start|revenue_amount|\[Amplitude\] .*)$/;
/* The two differ in the time alone. */
const timeless = (text) => text.replace(/"server_upload_time":\d+/, '"server_upload_time":0');

test('every recorded request gets the answer that the SDK was content with, and its events are counted', async () => {
  const recorded = [...load('amplitude-node'), ...load('amplitude-browser')];
  const events = await replay(gateway, 'amplitude', recorded, {
    items: (request) => request.decoded?.events?.length ?? 0,
    same: (request, answer) => assert.equal(timeless(answer.body), timeless(request.response.body), request.name),
  });
  await drained();
  assert.deepEqual(standin.refusals, []);
  const sent = recorded.flatMap((r) => r.decoded?.events ?? []);
  const insertIds = new Map(sent.map((e) => [e.insert_id, e.event_type]));
  const ours = [...insertIds.values()];
  const arrived = standin.items.filter((e) => !e.event_type.startsWith('$'));
  assert.equal(arrived.length, ours.filter((name) => DECLARED.test(name)).length, 'declared events, once each');
  assert.equal(standin.named('$groupidentify').length, ours.filter((name) => name === '$groupidentify').length);
  assert.ok(standin.items.every((e) => !insertIds.has(e.insert_id)));
  note(`${recorded.length} requests, ${events} events of which ${events - insertIds.size} came twice, ${standin.items.length} at the vendor`);
});

test('nothing personal of the recorded population reached the vendor', () => {
  for (const mark of ['@example.', '%40example', 'user_1', 'org_a', '203.0.113.', '+1-555', KEY, WEB_KEY, 'Ivesdal', 'Bluefinch', 'jonas', 'Mozilla']) {
    assert.ok(!standin.text.includes(mark), mark);
  }
});

// -- SDKs --------------------------------------------------------------------------------------------------------------

async function nodeSdk(base, options = {}) {
  const amplitude = need('@amplitude/analytics-node');
  const client = amplitude.createInstance();
  await client.init(KEY, { serverUrl: `${base}/2/httpapi`, flushIntervalMillis: 100, flushQueueSize: 50, logLevel: 0, ...options }).promise;
  const results = [];
  const call = (name, ...args) => results.push(client[name](...args).promise);
  return { amplitude, call, done: async () => (await Promise.all(results)).map((r) => r.code) };
}

function identify(amplitude, values) {
  const change = new amplitude.Identify();
  for (const [key, value] of Object.entries(values)) {
    change.set(key, value);
  }
  return change;
}

function serverStory({ amplitude, call }, someone, start) {
  call('track', { event_type: 'Step 1', device_id: someone.device, session_id: start, ip: someone.ip, event_properties: { tokens: 1, email: someone.email } });
  call('identify', identify(amplitude, { email: someone.email, name: someone.name, plan: someone.plan, phone: someone.phone }),
    { user_id: someone.id, device_id: someone.device });
  call('setGroup', 'company', someone.org, { user_id: someone.id });
  call('groupIdentify', 'company', someone.org, identify(amplitude, { name: someone.orgName, plan: 'team' }), { user_id: someone.id });
  call('track', { event_type: 'Signed Up', user_id: someone.id, session_id: start, groups: { company: someone.org },
    event_properties: { plan: someone.plan, note: `call ${someone.phone}` } });
  call('track', { event_type: 'Completion Run', user_id: someone.id, city: someone.city, country: someone.country, event_properties: { tokens: 5, model: 'lumen-mini' } });
  call('track', { event_type: `Paid ${someone.email}`, user_id: someone.id });
}

const STEPS = ['Step 1', 'Signed Up', 'Completion Run'];

function checkStory(people, all) {
  assert.deepEqual(standin.refusals, []);
  for (const name of [...STEPS, '$groupidentify']) {
    assert.equal(standin.named(name).length, people, name);
  }
  assert.equal(standin.items.filter((e) => !e.event_type.startsWith('$')).length, STEPS.length * people, 'nothing undeclared');
  assert.equal(standin.named('$identify').length, 2 * people);
  assert.equal(standin.people().size, people, 'people');
  assert.equal(standin.didAll(STEPS), people, 'funnel');
  assert.ok(standin.named('$identify').every((e) => ['plan', 'company'].includes(Object.keys(e.user_properties.$set).join())));
  const groups = new Set(standin.named('Signed Up').map((e) => e.groups.company));
  assert.equal(groups.size, new Set(all.map((p) => p.org)).size);
  assert.ok(standin.named('$groupidentify').every((e) => groups.has(e.groups.company)), 'a group has one pseudonym');
  assert.ok(standin.items.every((e) => e.ip === '0.0.0.0'));
  for (const value of all.flatMap((p) => [p.id, p.device, p.email, p.name, p.phone, p.orgName, p.ip, p.city])) {
    assert.ok(!standin.text.includes(value), value);
  }
}

/* As many sessions as there were, each of one person, integers, none as it was sent. */
function checkSessions(starts) {
  const byId = new Map();
  const [first, last] = [standin.named('Step 1'), standin.named('Signed Up')].map((list) => list.map((e) => e.session_id));
  assert.ok([...first, ...last].every((id) => Number.isSafeInteger(id)));
  assert.equal(new Set(first).size, new Set(starts).size);
  assert.deepEqual([...first].sort(), [...last].sort(), 'the same sessions in both steps');
  assert.deepEqual(first.map((id) => Math.floor(id / 1000)).sort(), starts.map((id) => Math.floor(id / 1000)).sort(), 'in order to the second');
  for (const event of standin.items.filter((e) => e.session_id !== undefined)) {
    byId.set(event.session_id, event);
  }
  assert.ok(starts.filter((start) => byId.has(start)).length <= 1 + starts.length / 100, 'no id is the raw one but by chance');
}

for (const [where, name] of [['/2/httpapi', 'HTTP API'], ['/batch', 'batch API']]) {
  test(`node SDK, ${name}: every event once, people and sessions as they were, nothing that was not declared`, async () => {
    standin.clear();
    const people = count(10, 200);
    const all = [];
    const starts = [];
    const sdk = await nodeSdk(gateway.url('', 'amplitude'), { serverUrl: gateway.url(where, 'amplitude') });
    for (let i = 0; i < people; i++) {
      all.push(person(random, i));
      starts.push(Date.now() - 1000 * 3600 * (i + 1) - random.below(1000));
      serverStory(sdk, all[i], starts[i]);
    }
    assert.deepEqual([...new Set(await sdk.done())], [200]);
    await drained();
    checkStory(people, all);
    checkSessions(starts);
  });
}

/* A visitor whose SDK also asks the gateway for its configuration. */
async function visit(base, config = {}) {
  const visitor = await browser.open(`/dashboard?email=ada@example.com&utm_source=newsletter&gclid=gc-${random.hex(8)}`);
  visitor.call = (name, ...args) => visitor.page.evaluate(async ([method, list]) => {
    const result = await window.amplitude[method](...list)?.promise;
    return result?.code;
  }, [name, args]);
  visitor.identify = (name, group, values) => visitor.page.evaluate(async ([method, list, sets]) => {
    const change = new window.amplitude.Identify();
    Object.entries(sets).forEach(([key, value]) => change.set(key, value));
    return (await window.amplitude[method](...list, change).promise).code;
  }, [name, group, values]);
  Object.assign(visitor, await visitor.page.evaluate(async ([url, key, more]) => {
    await window.amplitude.init(key, undefined, { serverUrl: `${url}/2/httpapi`, flushIntervalMillis: 100, logLevel: 0,
      autocapture: { elementInteractions: true, sessions: true, pageViews: true, attribution: true },
      remoteConfig: { serverUrl: `${url}/config` }, ...more }).promise;
    return { session: window.amplitude.getSessionId(), device: window.amplitude.getDeviceId() };
  }, [base, WEB_KEY, config]));
  return visitor;
}

async function visitorStory(visitor, someone) {
  const codes = [await visitor.call('track', 'Step 1', { tokens: 1, page: `https://app.example.com/a?mail=${someone.email}` })];
  await visitor.call('setUserId', someone.id);
  codes.push(await visitor.identify('identify', [], { email: someone.email, name: someone.name, plan: someone.plan }));
  codes.push(await visitor.call('setGroup', 'company', someone.org));
  codes.push(await visitor.identify('groupIdentify', ['company', someone.org], { name: someone.orgName, plan: 'team' }));
  codes.push(await visitor.call('track', 'Signed Up', { plan: someone.plan, note: `call ${someone.phone}` }));
  await visitor.page.click('#go');
  codes.push(await visitor.call('track', 'Completion Run', { tokens: 3 }));
  return codes;
}

const SEEN = [...STEPS, '$groupidentify', 'session_start', '[Amplitude] Page Viewed', '[Amplitude] Element Clicked'];

for (const [name, config] of [['as it is', {}], ['with gzip', { enableRequestBodyCompression: true }]]) {
  test(`browser SDK, ${name}: every event once, one person and one session each, and a page without an error`, async () => {
    standin.clear();
    const people = count(config.enableRequestBodyCompression ? 1 : 2, 8);
    const all = [];
    const raw = [];
    for (let i = 0; i < people; i++) {
      const visitor = await visit(gateway.url('', 'amplitude'), config);
      all.push(person(random, 100 + i));
      raw.push(visitor.device, all[i].id);
      assert.deepEqual([...new Set(await visitorStory(visitor, all[i]))], [200]);
      await until(() => SEEN.every((event) => standin.named(event).length >= i + 1),
        () => `${SEEN.filter((e) => standin.named(e).length < i + 1)} of ${name}: ${JSON.stringify(standin.refusals)}`, 20000);
      assert.deepEqual(visitor.errors, []);
      const sessions = new Set(standin.items.slice(-3).map((e) => e.session_id));
      assert.equal(sessions.size, 1);
      assert.equal(Math.floor([...sessions][0] / 1000), Math.floor(visitor.session / 1000));
      await visitor.close();
    }
    await drained();
    assert.deepEqual(standin.refusals, []);
    for (const event of SEEN) {
      assert.equal(standin.named(event).length, people, event);
    }
    assert.equal(standin.people().size, people, 'people');
    assert.equal(standin.didAll(STEPS), people, 'funnel');
    assert.equal(new Set(standin.items.map((e) => e.session_id)).size, people);
    assert.ok(standin.items.every((e) => Number.isSafeInteger(e.session_id) && !raw.includes(e.user_id) && !raw.includes(e.device_id)));
    for (const value of [...all.flatMap((p) => [p.id, p.email, p.name, p.phone, p.orgName]), 'ada', 'Ada', 'gc-', 'Mozilla']) {
      assert.ok(!standin.text.slice(standin.text.lastIndexOf(VENDOR_KEY)).includes(value), value);
    }
    assert.ok(standin.named('[Amplitude] Page Viewed').every((e) => !JSON.stringify(e).includes('?')), 'no query');
  });
}

test('browser SDK: what leaves by a beacon on leaving the page arrives', async () => {
  standin.clear();
  const visitor = await visit(gateway.url('', 'amplitude'), { flushIntervalMillis: 60000 });
  await visitor.page.evaluate(() => {
    window.addEventListener('pagehide', () => {
      window.amplitude.setTransport('beacon');
      window.amplitude.flush();
    });
    window.amplitude.track('Step 9', {});
  });
  await visitor.page.goto(`${browser.origin}/elsewhere`, { waitUntil: 'load' });
  await until(() => standin.named('Step 9').length === 1, 'the event of the beacon');
  await visitor.close();
});

// -- failures ----------------------------------------------------------------------------------------------------------

test('SDKs that are answered 503, 429 and by a reset send again: each event once', async () => {
  standin.clear();
  const all = [person(random, 300), person(random, 301), person(random, 302)];
  for (const [i, [fault, forward]] of [['503', false], ['429', false], ['503', true]].entries()) {
    const sdk = await nodeSdk(`${proxy.url}/amplitude`);
    proxy.spoil(fault, 2, { forward });
    serverStory(sdk, all[i], Date.now() - 60000 * (i + 1));
    assert.deepEqual([...new Set(await sdk.done())], [200]);
    assert.equal(proxy.left, 0);
  }
  proxy.spoil('reset', 1);
  const visitor = await visit(`${proxy.url}/amplitude`);
  assert.equal(await visitor.call('track', 'Step 8', {}), 200);
  await visitor.close();
  await until(() => standin.named('Step 8').length > 0, 'Step 8');
  await drained();
  assert.equal(standin.named('Step 8').length, 1);
  for (const name of STEPS) {
    assert.equal(standin.named(name).length, 3, name);
  }
});

const event = (name, id, more = {}) => ({ event_type: name, user_id: id, time: Date.now(), insert_id: random.uuid(), ...more });
async function ask(where, body, type = 'application/json') {
  const answer = await fetch(gateway.url(where, 'amplitude'), { method: body === undefined ? 'GET' : 'POST', body, headers: { 'Content-Type': type } });
  return { status: answer.status, body: await answer.json() };
}
async function send(events, where = '/2/httpapi') {
  const answer = await ask(where, JSON.stringify({ api_key: KEY, events }));
  assert.deepEqual([answer.status, answer.body.code, answer.body.events_ingested], [200, 200, events.length]);
}

test('the vendor fails, cuts the line after keeping, and the gateway is killed in between: each event once', async () => {
  standin.clear();
  standin.fail(503);
  standin.fail('after');
  standin.fail(429);
  const ids = Array.from({ length: 40 }, (_, i) => `crash-${i}`);
  await send(ids.slice(0, 20).map((id) => event('Step 2', id)));
  await until(() => standin.requests > 0, 'a try');
  await gateway.kill();
  await gateway.start();
  await send(ids.slice(20).map((id) => event('Step 2', id)));
  await drained();
  assert.equal(standin.named('Step 2').length, ids.length);
  assert.equal(new Set(standin.named('Step 2').map((e) => e.insert_id)).size, ids.length);
  assert.deepEqual(standin.refusals, []);
  note(`${standin.requests} requests, ${standin.spoiled} spoiled, ${standin.repeated} events repeated with their insert_id and dropped there`);
});

test('the node SDK while the gateway is killed in mid-flow: what it was told is kept arrives, and nothing arrives twice', async () => {
  standin.clear();
  const events = count(100, 1000);
  const { call, done } = await nodeSdk(`${proxy.url}/amplitude`, { flushQueueSize: 5 });
  const sending = (async () => {
    for (let i = 0; i < events; i++) {
      call('track', { event_type: 'Step 7', device_id: `a-device-${i % 7}`, event_properties: { tokens: i } });
      await sleep(10);
    }
  })();
  await sleep(400);
  await gateway.kill();
  await sleep(100);
  await gateway.start();
  await sending;
  for (let i = 0; i < events; i++) {
    call('track', { event_type: 'Step 7', device_id: `a-device-${i % 7}`, event_properties: { tokens: events + i } });
  }
  const codes = await done();
  await drained();
  const arrived = standin.named('Step 7').map((e) => e.event_properties.tokens);
  assert.equal(new Set(arrived).size, arrived.length, 'none twice');
  assert.deepEqual(codes.map((code, i) => [code, i]).filter(([code, i]) => code === 200 && !arrived.includes(i)), [], 'none lost that was acknowledged');
  assert.ok(codes.slice(events).every((code) => code === 200), 'once it is back, all is taken');
  /* A connection that fails before any answer costs this SDK what it was sending: see docs/sdk.md. */
  note(`${2 * events} events, ${codes.filter((code) => code !== 200).length} given up by the SDK, ${arrived.length} at the vendor`);
});

test('a refusal is bisected: a silenced device and a bad event do not hold the others', async () => {
  standin.clear();
  const long = `Long${'x'.repeat(1000)}`;
  await gateway.alterPlan(PLAN.replace('events:\n', `events:\n  ${long.slice(0, 100)}*: {}\n`));
  const events = Array.from({ length: 16 }, (_, i) => event('Step 3', `b-${i}`));
  await send([event('Step 3', 'silent', { device_id: 'a-device-1' })]);
  await drained();
  standin.silenced.add(standin.named('Step 3')[0].device_id);
  events.splice(5, 0, event('Step 3', 'silent', { device_id: 'a-device-1' }));
  await send(events);
  await drained();
  assert.equal(standin.named('Step 3').length, 17);
  assert.ok(standin.refusals.length > 0 && standin.refusals.every((r) => r.why === 'silenced device'));
  assert.equal((await gateway.vendor('amplitude')).state, 'active');
  standin.silenced.clear();
});

test('form bodies of /identify and /groupidentify, and historical events by /batch', async () => {
  standin.clear();
  const form = (list) => new URLSearchParams({ api_key: KEY, identification: JSON.stringify(list) }).toString();
  const type = 'application/x-www-form-urlencoded';
  const id = 'form-user-1';
  assert.equal((await ask('/identify', form([{ user_id: id, user_properties: { plan: 'pro', email: 'a@example.com' } }]), type)).body.code, 200);
  assert.equal((await ask('/groupidentify', form([{ group_type: 'company', group_value: 'org_form', group_properties: { $set: { plan: 'team', name: 'Acme' } } }]), type)).body.code, 200);
  await send([event('Step 6', id, { time: Date.now() - 30 * 86400000 })], '/batch');
  await drained();
  assert.deepEqual(standin.refusals, []);
  const [change] = standin.named('$identify');
  assert.deepEqual(change.user_properties, { plan: 'pro' });
  assert.equal(change.user_id, standin.named('Step 6')[0].user_id);
  const [group] = standin.named('$groupidentify');
  assert.deepEqual(group.group_properties, { $set: { plan: 'team' } });
  assert.match(group.groups.company, /^[a-z2-7]{26}$/);
  assert.equal(group.device_id, group.insert_id, 'nobody spoke for it');
});

test('where ids of people are closed, nothing can be said of anybody, and groups are still kept up', async () => {
  standin.clear();
  await gateway.alter('amplitude', { allow: { ...ALLOW, 'user.unique_id': 'drop', 'user.device.device_id': 'drop' } });
  await send([event('Step 4', 'someone'), event('$identify', 'someone', { user_properties: { plan: 'pro' } }),
    event('$groupidentify', 'someone', { groups: { company: 'org_1' }, group_properties: { plan: 'pro' } })]);
  await drained();
  assert.deepEqual(standin.items.map((e) => e.event_type), ['$groupidentify']);
  assert.deepEqual(standin.refusals, []);
  await gateway.alter('amplitude', { allow: ALLOW });
});

test('remote configuration and replay stay here, and answers say in the body what they are', async () => {
  const before = standin.requests;
  assert.deepEqual((await ask(`/config/${WEB_KEY}?config_group=browser`)).body, { configs: {} });
  assert.equal((await ask('/sessions/v2/track', zlib.gzipSync('{"a":1}'))).status, 200);
  assert.equal((await ask('/2/httpapi', '{"events":')).body.code, 400);
  assert.equal((await ask('/2/httpapi', '{"events":')).body.missing_field, 'events');
  const unknown = (await ask('/2/httpapi', JSON.stringify({ api_key: 'nobody', events: [event('Step 4', 'u-12345')] }))).body;
  assert.equal(unknown.code, 400);
  assert.match(unknown.error, /^Invalid API key/);
  assert.equal(standin.requests, before);
});

// -- leaks -------------------------------------------------------------------------------------------------------------

test('marked values in every place that nobody declared: none at the vendor', async () => {
  standin.clear();
  const start = standin.text.length;
  const marks = [];
  const mark = () => {
    const text = `zqmark${random.hex(12)}`;
    marks.push(text);
    return text;
  };
  const wrap = [(m) => m, (m) => `${m}@example.com`, (m) => ({ a: { b: m } }), (m) => [m, { c: m }], (m) => JSON.stringify({ d: m }),
    (m) => Buffer.from(m).toString('base64'), (m) => `https://app.example.com/${m}?q=${m}#${m}`];
  /* Not partner_id, utm_source and domains: a technical word or a host's name fits there, whatever it is. */
  const properties = ['secret', '$secret', 'title', 'email', 'plan', 'tokens', '$productId', '$receipt', 'gclid', 'utm_term', 'referrer',
    '[Amplitude] Page Title', '[Amplitude] Page Location', '[Amplitude] Page Path', '[Amplitude] Element Text', '[Amplitude] Element ID', '[Amplitude] Element Href',
    '[Amplitude] Form Destination', '[Amplitude] Request Body', '[Amplitude] URL', '[Amplitude] Message', '[Amplitude] Page View ID', '[Amplitude] Anything', 'x.y'];
  const root = ['ip', 'city', 'region', 'country', 'dma', 'location_lat', 'platform', 'os_name', 'os_version', 'device_brand', 'device_model', 'carrier', 'language',
    'user_agent', 'app_version', 'version_name', 'library', 'plan', 'ingestion_metadata', 'delay', 'idfa', 'idfv', 'adid', 'android_id', 'android_app_set_id', 'session_id',
    'event_id', 'price', 'productId', 'receipt', 'currency', 'extra', 'groups', 'group_properties', 'user_properties', 'event_properties', 'api_key', 'insert_id', 'group_type'];
  const operations = ['$set', '$setOnce', '$add', '$append', '$prepend', '$preInsert', '$postInsert', '$remove', '$unset', '$clearAll', '$other'];
  const events = [];
  for (const form of wrap) {
    for (const name of properties) {
      events.push(event('Step 5', mark(), { event_properties: { [name]: form(mark()) } }));
    }
    for (const name of root) {
      events.push(event('Step 5', mark(), { [name]: form(mark()) }));
    }
    for (const name of operations) {
      events.push(event('$identify', mark(), { user_properties: { [name]: { email: form(mark()), other: form(mark()), plan: form(mark()), [mark()]: '-' }, plan: 'pro' } }));
      events.push(event('$groupidentify', mark(), { groups: { company: mark(), [mark()]: mark() }, group_properties: { [name]: form(mark()), name: form(mark()), plan: 'pro' } }));
    }
    events.push(event('$identify', mark(), { device_id: mark(), groups: { [mark()]: form(mark()), company: form(mark()) }, user_properties: { [mark()]: form(mark()), name: form(mark()) } }));
    events.push(event(mark(), mark(), { event_properties: { [mark()]: mark() } }));
    events.push(event('Step 5', mark(), { [mark()]: form(mark()), event_properties: { [mark()]: 1, list: [{ [mark()]: form(mark()) }] } }));
  }
  for (let i = 0; i < events.length; i += 50) {
    await send(events.slice(i, i + 50));
  }
  await drained();
  assert.ok(standin.items.length > properties.length, 'events arrived');
  /* A list where Amplitude wants one value is the SDK's own mistake, and stays the vendor's to refuse. */
  assert.deepEqual(standin.refusals.filter((r) => !/: \[/.test(r.why)), []);
  const text = standin.text.slice(start);
  const isIn = (m, where) => where.includes(m) || where.includes(Buffer.from(m).toString('base64').slice(0, 12));
  const found = marks.filter((m) => isIn(m, text));
  assert.deepEqual(standin.items.map((e) => JSON.stringify(e)).filter((e) => found.some((m) => isIn(m, e))), [], `${found.length} of ${marks.length} marks`);
  assert.equal(found.length, 0);
  note(`${events.length} events, ${marks.length} marks, ${standin.items.length} events at the vendor, 0 marks`);
});

await finish();
