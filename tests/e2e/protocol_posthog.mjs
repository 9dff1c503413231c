// PostHog from end to end: recorded requests byte for byte, the unmodified SDKs, restarts and failures, and marked values
// in every place that nobody declared.

import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import { count, finish, note, onEnd, person, seeded, test, until } from './lib/harness.mjs';
import { ALLOW, Gateway, PLAN, post } from './lib/gateway.mjs';
import { load, replay } from './lib/recordings.mjs';
import { nodeSdk, PostHogBrowser } from './lib/sdk_posthog.mjs';
import { idOf, isSessionId, PostHogStandin } from './lib/standin_posthog.mjs';

const TOKEN = 'phc_fixtureProjectKeyA000000000000';
const WEB_TOKEN = 'phc_web0000000000000000000000000000';
const VENDOR_KEY = 'phc_vendor';
const random = seeded();
const standin = await new PostHogStandin({ token: VENDOR_KEY }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ name: 'ph', vendors: [{ vendor: 'posthog', connector: 'posthog', endpoint: standin.url }],
  env: { MIXPANEL_TOKEN: VENDOR_KEY, BULKHEAD_API_TOKEN: TOKEN }, sources: [
    `{ name: web, protocol: posthog, token: ${WEB_TOKEN}, trust: browser, vendors: [posthog] }`,
    '{ name: api, protocol: posthog, token: { env: BULKHEAD_API_TOKEN }, trust: server, vendors: [posthog] }',
  ] });
const url = () => gateway.url('', 'posthog');
const drained = () => gateway.drained('posthog');
const browser = new PostHogBrowser();
onEnd(() => browser.stop());

test('the gateway starts with its vendor cut, and is opened', async () => {
  await gateway.start();
  assert.equal((await gateway.vendor('posthog')).state, 'cut');
  await gateway.open('posthog');
  await browser.start();
}, { vital: true });

// -- recorded ----------------------------------------------------------------------------------------------------------

/* Ours differ on purpose there: flags that are known stay, and the SDK is told to ask for none. */
const OWN_ANSWER = /\/(flags|decide|array|i\/v1)\b/;

test('every recorded request gets the answer that the SDK was content with, and its events are counted', async () => {
  const recorded = [...load('posthog-node'), ...load('posthog-js')];
  const events = await replay(gateway, 'posthog', recorded, {
    items: (request) => request.decoded?.batch?.length ?? 0,
    same: (request, answer) => {
      if (request.method !== 'OPTIONS' && !OWN_ANSWER.test(request.path)) {
        assert.equal(answer.body, request.response.body, request.name);
      }
      assert.ok(!answer.body.includes('quota_limited'), request.name);
    },
  });
  await drained();
  assert.deepEqual(standin.refusals, []);
  const uuids = new Set();
  let declared = 0;
  for (const event of recorded.flatMap((r) => r.decoded?.batch ?? [])) {
    const isNew = !uuids.has(event.uuid);
    uuids.add(event.uuid);
    declared += isNew && /^(Signed In|API Key Created|Completion Run.*|Billing Page Viewed|Profile Updated|\$(pageview|autocapture|exception|opt_in|create_alias|ai_generation|feature_flag_called))$/.test(event.event) ? 1 : 0;
  }
  const arrived = standin.items.filter((e) => !['$identify', '$set', '$groupidentify'].includes(e.event)).length;
  assert.equal(arrived, declared, 'declared events, once each');
  assert.equal(standin.repeated, 0);
  note(`${recorded.length} requests, ${events} events, ${standin.items.length} at the vendor`);
});

test('nothing personal of the recorded population reached the vendor', () => {
  for (const mark of ['@example.', '%40example', 'user_1', 'org_a', '203.0.113.', '+1-555', TOKEN, 'Thackeray', 'Northlight', 'priya']) {
    assert.ok(!standin.text.includes(mark), mark);
  }
});

// -- SDKs --------------------------------------------------------------------------------------------------------------

async function serverStory(client, someone, anonymous) {
  client.capture({ distinctId: anonymous, event: 'Step 1', properties: { tokens: 1, email: someone.email, $ip: someone.ip } });
  client.capture({ distinctId: someone.id, event: '$identify', properties: { $anon_distinct_id: anonymous,
    $set: { email: someone.email, name: someone.name, plan: someone.plan } } });
  client.identify({ distinctId: someone.id, properties: { $set: { plan: someone.plan, phone: someone.phone } } });
  client.groupIdentify({ groupType: 'company', groupKey: someone.org, properties: { name: someone.orgName, plan: 'team' } });
  client.capture({ distinctId: someone.id, event: 'Signed Up', properties: { plan: someone.plan, note: `call ${someone.phone}` },
    groups: { company: someone.org } });
  client.capture({ distinctId: someone.id, event: 'Completion Run', properties: { tokens: 5, model: 'lumen-mini' } });
}

for (const mode of ['v0', 'v1']) {
  test(`node SDK, ${mode}: every event once, people as they were, nothing that was not declared`, async () => {
    standin.clear();
    const people = count(10, 200);
    process.env.POSTHOG_CAPTURE_MODE = mode;
    const { client, errors } = nodeSdk(url(), TOKEN);
    delete process.env.POSTHOG_CAPTURE_MODE;
    for (let i = 0; i < people; i++) {
      await serverStory(client, person(random, i), random.uuid());
    }
    await client.shutdown();
    await drained();
    assert.deepEqual(errors, []);
    assert.deepEqual(standin.refusals, []);
    for (const name of ['Step 1', 'Signed Up', 'Completion Run', '$groupidentify']) {
      assert.equal(standin.named(name).length, people, name);
    }
    assert.equal(standin.people(), people, 'people');
    assert.equal(standin.didAll(['Step 1', 'Signed Up', 'Completion Run']), people, 'funnel');
    assert.ok(standin.named('Signed Up').every((e) => /^[a-z2-7]{26}$/.test(e.properties.$groups.company)));
    assert.ok(standin.named('$identify').every((e) => Object.keys(e.properties.$set).join() === 'plan'));
    const groups = new Set(standin.named('Signed Up').map((e) => e.properties.$groups.company));
    assert.ok(standin.named('$groupidentify').every((e) => groups.has(e.properties.$group_key)), 'a group has one pseudonym');
  });
}

async function visitorStory(visitor, someone) {
  await visitor.call('capture', 'Step 1', { tokens: 1, page: `https://app.example.com/a?mail=${encodeURIComponent(someone.email)}` });
  await visitor.call('identify', someone.id, { email: someone.email, name: someone.name, plan: someone.plan });
  await visitor.call('group', 'company', someone.org, { name: someone.orgName, plan: 'team' });
  await visitor.call('capture', 'Signed Up', { plan: someone.plan, note: `call ${someone.phone}` });
  await visitor.call('setPersonProperties', { plan: 'pro', phone: someone.phone });
  await visitor.page.click('#go');
  await visitor.call('capture', 'Completion Run', { tokens: 3 });
}

const STORY = ['Step 1', '$identify', '$groupidentify', 'Signed Up', '$set', 'Completion Run', '$autocapture', '$pageview'];

for (const [name, config] of [['as it is', {}], ['without compression', { disable_compression: true }]]) {
  test(`browser SDK, ${name}: every event once, one person and one session each, and a page without an error`, async () => {
    standin.clear();
    const people = count(2, 8);
    const sent = [];
    for (let i = 0; i < people; i++) {
      const visitor = await browser.visit(url(), WEB_TOKEN, config);
      const someone = person(random, i);
      sent.push(await visitor.call('get_distinct_id'), someone.id);
      await visitorStory(visitor, someone);
      await until(() => STORY.every((event) => standin.named(event).length >= i + 1),
        () => `${STORY.filter((e) => standin.named(e).length < i + 1)} of ${name}: ${JSON.stringify(standin.refusals)}`, 20000);
      assert.deepEqual(visitor.errors, []);
      await visitor.close();
    }
    await drained();
    assert.deepEqual(standin.refusals, []);
    for (const event of STORY.filter((e) => !['$set', '$identify'].includes(e))) {
      assert.equal(standin.named(event).length, people, event);
    }
    assert.equal(standin.people(), people, 'people');
    assert.equal(standin.didAll(['Step 1', 'Signed Up', 'Completion Run']), people, 'funnel');
    const sessions = new Set(standin.named('Step 1').map((e) => e.properties.$session_id));
    assert.equal(sessions.size, people);
    assert.ok(standin.items.every((e) => e.properties.$session_id === undefined || isSessionId(e.properties.$session_id)));
    assert.ok(standin.items.every((e) => e.properties.$session_id === undefined || sessions.has(e.properties.$session_id)));
    assert.ok(standin.items.every((e) => !sent.includes(idOf(e))), 'no id is the raw one');
    assert.ok(standin.items.every((e) => e.properties.$elements_chain === undefined && e.properties.$el_text === undefined));
  });
}

test('browser SDK: what leaves by a beacon on leaving the page arrives', async () => {
  standin.clear();
  const visitor = await browser.visit(url(), WEB_TOKEN, { request_queue_config: { flush_interval_ms: 5000 } });
  await visitor.call('capture', 'Step 9', {});
  await visitor.page.goto(`${browser.origin}/elsewhere`, { waitUntil: 'load' });
  await until(() => standin.named('Step 9').length === 1, 'the event of the beacon');
  await visitor.close();
});

// -- failures ----------------------------------------------------------------------------------------------------------

const event = (name, id, properties = {}, rest = {}) => ({ event: name, distinct_id: id, uuid: random.uuid(),
  timestamp: new Date().toISOString(), properties, ...rest });
const send = async (batch) => {
  const answer = await post(gateway.ports.ingest, '/posthog/batch/', [], { verbose: false,
    raw: JSON.stringify({ api_key: TOKEN, batch, sent_at: new Date().toISOString() }) });
  assert.equal(answer.status, 200);
};

test('the vendor fails, cuts the line after keeping, and the gateway is killed in between: each event once', async () => {
  standin.clear();
  standin.fail(503, 1);
  standin.fail('after', 1);
  const ids = Array.from({ length: 40 }, (_, i) => `crash-${i}`);
  await send(ids.slice(0, 20).map((id) => event('Step 2', id)));
  await until(() => standin.requests > 0, 'a try');
  await gateway.kill();
  await gateway.start();
  await send(ids.slice(20).map((id) => event('Step 2', id)));
  await drained();
  assert.equal(standin.named('Step 2').length, ids.length);
  assert.equal(new Set(standin.named('Step 2').map((e) => e.uuid)).size, ids.length);
  assert.deepEqual(standin.refusals, []);
  note(`${standin.requests} requests, ${standin.spoiled} spoiled, ${standin.repeated} events repeated with their uuid and dropped there`);
});

test('a refusal that names nobody is bisected: one bad event does not hold the others', async () => {
  standin.clear();
  const long = 'Long' + 'x'.repeat(100);
  await gateway.alterPlan(PLAN.replace('events:\n', `events:\n  ${long}*: {}\n`));
  const batch = Array.from({ length: 16 }, (_, i) => event('Step 3', `b-${i}`));
  batch.splice(5, 0, event(`${long}${'y'.repeat(110)}`, 'bad'));
  await send(batch);
  await drained();
  assert.equal(standin.named('Step 3').length, 16);
  assert.ok(standin.refusals.length > 0 && standin.refusals.every((r) => r.why.includes('event name')));
  assert.equal((await gateway.vendor('posthog')).state, 'active');
});

test('where ids of people are closed, events leave without a person profile', async () => {
  standin.clear();
  await gateway.alter('posthog', { allow: { ...ALLOW, 'user.unique_id': 'drop', 'user.unique_id.pseudonymous': 'drop' } });
  await send([event('Step 4', 'someone'), event('Step 4', 'someone'), event('$set', 'someone', { $set: { plan: 'pro' } })]);
  await drained();
  const got = standin.named('Step 4');
  assert.equal(got.length, 2);
  assert.ok(got.every((e) => e.properties.$process_person_profile === false && e.distinct_id === e.uuid));
  assert.equal(standin.named('$set').length, 0);
  assert.deepEqual(standin.refusals, []);
  await gateway.alter('posthog', { allow: ALLOW });
});

// -- leaks -------------------------------------------------------------------------------------------------------------

test('marked values in every place that nobody declared: none at the vendor', async () => {
  standin.clear();
  const marks = [];
  const mark = () => {
    const text = `zqmark${random.hex(12)}`;
    marks.push(text);
    return text;
  };
  const wrap = [(m) => m, (m) => `${m}@example.com`, (m) => ({ a: { b: m } }), (m) => [m, { c: m }], (m) => JSON.stringify({ d: m }),
    (m) => Buffer.from(m).toString('base64'), (m) => `https://app.example.com/${m}?q=${m}#${m}`];
  /* Not $lib, $lib_version and utm_source: a technical word fits there, whatever it is. */
  const keys = ['secret', '$secret', 'title', '$el_text', '$elements_chain', '$exception_list', '$exception_message', '$ai_input',
    '$ai_output_choices', '$ip', '$raw_user_agent', '$browser', '$os', '$device', '$feature/x', 'plan', 'tokens', '$survey_response',
    '$heatmap_data', '$geoip_city_name', '$initial_referrer', '$session_entry_utm_term', '$set_once', '$set', '$unset', '$groups',
    '$group_set', '$group_key', '$session_id', '$window_id', '$device_id', '$user_id', 'alias', '$anon_distinct_id', '$time'];
  const batch = [];
  for (const key of keys) {
    for (const form of wrap) {
      batch.push(event('Step 5', mark(), { [key]: form(mark()) }));
    }
  }
  for (const form of wrap) {
    batch.push(event('$set', mark(), { $set: { email: form(mark()), other: form(mark()), plan: form(mark()) } }, { $set_once: { x: form(mark()) } }));
    batch.push(event('$groupidentify', mark(), { $group_type: 'company', $group_key: mark(), $group_set: { name: form(mark()), y: form(mark()) } }));
    batch.push(event('$groupidentify', mark(), { $group_type: mark(), $group_key: mark(), $group_set: { plan: 'pro' } }));
    batch.push(event('Step 5', mark(), {}, { [mark()]: form(mark()), options: { [mark()]: form(mark()) }, offset: mark(), $set: { [mark()]: 1 } }));
    batch.push(event(mark(), mark(), { [mark()]: mark() }));
    batch.push(event('$identify', mark(), { $anon_distinct_id: mark(), $set: { name: form(mark()) } }));
  }
  const start = standin.text.length;
  for (let i = 0; i < batch.length; i += 50) {
    await send(batch.slice(i, i + 50));
  }
  await drained();
  assert.ok(standin.items.length > keys.length, 'events arrived');
  assert.deepEqual(standin.refusals, []);
  const text = standin.text.slice(start);
  const found = marks.filter((m) => text.includes(m) || text.includes(Buffer.from(m).toString('base64').slice(0, 12)));
  const where = standin.items.filter((e) => found.some((m) => JSON.stringify(e).includes(m) || JSON.stringify(e).includes(Buffer.from(m).toString('base64').slice(0, 12))));
  assert.deepEqual(where.map((e) => JSON.stringify(e.properties)), [], `${found.length} of ${marks.length} marks`);
  note(`${batch.length} events, ${marks.length} marks, ${standin.items.length} events at the vendor, 0 marks`);
});

test('flags, configuration, replay and logs stay here', async () => {
  const before = standin.requests;
  const ask = (where, raw) => post(gateway.ports.ingest, `/posthog${where}`, [], { verbose: false, raw });
  const flags = await ask('/flags/?v=2', zlib.gzipSync(JSON.stringify({ token: WEB_TOKEN, distinct_id: 'u', person_properties: { email: 'a@example.com' } })));
  assert.deepEqual(JSON.parse(flags.body).flags, {});
  assert.equal(JSON.parse(flags.body).errorsWhileComputingFlags, true);
  assert.equal((await ask('/s/', zlib.gzipSync('[{"event":"$snapshot"}]'))).status, 200);
  assert.equal((await ask('/i/v1/logs', '{}')).status, 200);
  assert.match((await ask('/static/1.2.3/recorder.js', '')).body, /^\/\* .* \*\/\n$/);
  assert.match((await ask(`/array/${WEB_TOKEN}/config.js`, '')).body, /_POSTHOG_REMOTE_CONFIG/);
  assert.equal(standin.requests, before);
});

await finish();
