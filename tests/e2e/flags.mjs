// Feature flags: pages and servers with the unmodified SDKs, while nothing may be asked (off, cut) and while the vendor is asked (flags: forward) and
// answers well, late, wrongly or not at all. What leaves is under the contract and in the ledger; what comes back names people as the SDK does.

import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import { finish, note, onEnd, seeded, sleep, test, until } from './lib/harness.mjs';
import { ALLOW, Gateway, post } from './lib/gateway.mjs';
import { nodeSdk, PostHogBrowser } from './lib/sdk_posthog.mjs';
import { FlagsStandin } from './lib/standin_flags.mjs';

const TOKEN = 'phc_server000000000000000000000000';
const WEB_TOKEN = 'phc_web0000000000000000000000000000';
const BUDGET_MS = 1000;
/* Of the client and a machine that does other things, too. */
const SLACK_MS = 700;
const random = seeded();
const standin = await new FlagsStandin({ token: 'phc_vendor' }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ name: 'fl', vendors: [{ vendor: 'posthog', connector: 'posthog', endpoint: standin.url }],
  env: { MIXPANEL_TOKEN: 'phc_vendor', BULKHEAD_API_TOKEN: TOKEN }, sources: [
    `{ name: web, protocol: posthog, token: ${WEB_TOKEN}, trust: browser, vendors: [posthog] }`,
    '{ name: api, protocol: posthog, token: { env: BULKHEAD_API_TOKEN }, trust: server, vendors: [posthog] }',
  ] });
const url = () => gateway.url('', 'posthog');
const drained = () => gateway.drained('posthog');
const browser = new PostHogBrowser();
onEnd(() => browser.stop());

const ask = async (body, where = '/flags/?v=2', token = TOKEN, headers = {}) => {
  const begun = Date.now();
  const answer = await post(gateway.ports.ingest, `/posthog${where}`, [], { verbose: false, headers, raw: typeof body === 'string' || Buffer.isBuffer(body)
    ? body : JSON.stringify({ token, ...body }) });
  assert.equal(answer.status, 200);
  return { ...JSON.parse(answer.body), text: answer.body, headers: answer.headers, ms: Date.now() - begun };
};
const known = async (...ids) => {
  const batch = ids.map((id) => ({ event: 'Step 1', distinct_id: id, uuid: random.uuid(), timestamp: new Date().toISOString(), properties: { tokens: 1 } }));
  assert.equal((await post(gateway.ports.ingest, '/posthog/batch/', [], { verbose: false, raw: JSON.stringify({ api_key: TOKEN, batch }) })).status, 200);
  await drained();
};
const isNeutral = (answer) => answer.errorsWhileComputingFlags === true && Object.keys(answer.flags).length === 0;
const rest = async () => {
  standin.hanging = [];
  standin.value = true;
  standin.mode = 'ok';
  standin.delay = 0;
  await until(async () => {
    const asked = standin.asked.length;
    return !isNeutral(await ask({ distinct_id: 'known-1' })) && standin.asked.length > asked;
  }, 'the vendor is asked again', 10000, 100);
};

test('the gateway starts with its vendor cut', async () => {
  await gateway.start();
  assert.equal((await gateway.vendor('posthog')).state, 'cut');
  await browser.start();
}, { vital: true });

// -- nothing is asked --------------------------------------------------------------------------------------------------

const EVERYTHING = { capture_heatmaps: true, capture_dead_clicks: true, capture_performance: true, capture_exceptions: true, session_recording: {} };

async function lookAround(config) {
  const visitor = await browser.visit(url(), WEB_TOKEN, config);
  const bad = [];
  visitor.page.on('response', (response) => (response.status() !== 200 ? bad.push(`${response.status()} ${response.url()}`) : 0));
  await visitor.call('identify', 'u1', { email: 'ada@example.com' });
  await visitor.call('group', 'company', 'acme', { name: 'Acme' });
  await visitor.call('capture', 'Step 1', {});
  await visitor.page.evaluate(() => {
    window.posthog.isFeatureEnabled('beta');
    window.posthog.getSurveys(() => {});
    window.posthog.getEarlyAccessFeatures(() => {});
    window.posthog.startSessionRecording();
    window.posthog.toolbar?.loadToolbar?.({});
  });
  await sleep(1500);
  await visitor.page.reload({ waitUntil: 'load' });
  await visitor.close();
  return [...visitor.errors, ...bad];
}

test('cut, browser SDK as it is, with all that loads more, uncompressed: every request is answered, no page has an error and no console a warning', async () => {
  const all = await Promise.all([{}, EVERYTHING, { disable_compression: true }].map(lookAround));
  assert.deepEqual(all, [[], [], []]);
});

test('every endpoint of an SDK is answered with 200 while the vendor is cut', async () => {
  const event = JSON.stringify({ api_key: TOKEN, event: 'Step 1', distinct_id: 'e', properties: {} });
  const batch = JSON.stringify({ api_key: TOKEN, batch: [JSON.parse(event)] });
  const form = (text, how) => `data=${encodeURIComponent(Buffer.from(text).toString('base64'))}&compression=${how}`;
  const rows = [['/batch/', batch], ['/e/', event], ['/i/v0/e/', zlib.gzipSync(event)], ['/e/?compression=gzip-js&ip=0&_=1&ver=1.7.2', zlib.gzipSync(event)],
    ['/e/?compression=base64', form(event, 'base64')], ['/capture/', event], ['/engage/', event], ['/track/', event], ['/flags/', '{}'], ['/flags/?v=2', 'not JSON'],
    ['/decide/?v=3', form('{"token":"x","distinct_id":"y"}', 'base64')], ['/decide/', ''], ['/s/', '[]'], ['/i/v1/logs', '{}'], ['/flags/definitions?token=x', ''],
    [`/array/${WEB_TOKEN}/config.js`, ''], [`/array/${WEB_TOKEN}/config`, ''], ['/static/1.2.3/recorder.js', ''], ['/api/surveys/?token=x', '']];
  for (const [where, raw] of rows) {
    const answer = await post(gateway.ports.ingest, `/posthog${where}`, [], { verbose: false, raw });
    assert.equal(answer.status, 200, where);
    assert.ok(!answer.body.includes('quota_limited'), where);
  }
});

test('off: nothing of a question leaves, and the SDK keeps the flags that it has', async () => {
  await gateway.open('posthog');
  await known('known-1', 'known-2', 'anon-1');
  assert.ok(isNeutral(await ask({ distinct_id: 'known-1' })));
  assert.equal(standin.asked.length, 0);
});

// -- forward -----------------------------------------------------------------------------------------------------------

test('forward: the ids are those of the events, all else is as the contract says, and it is in the ledger before', async () => {
  await gateway.alter('posthog', { flags: 'forward' });
  const before = (await gateway.exposure('posthog')).people;
  const answer = await ask({ distinct_id: 'known-1', $anon_distinct_id: 'anon-1', groups: { company: 'acme', team: 'x1' }, timezone: 'Europe/Paris',
    person_properties: { plan: 'pro', email: 'ada@example.com', distinct_id: 'known-1', note: 'call me', $browser: 'Chrome' },
    group_properties: { company: { name: 'Acme' } } });
  assert.equal(standin.asked.length, 1);
  const { body, text } = standin.asked[0];
  const events = new Map(standin.items.map((e) => [e.distinct_id, e]));
  assert.ok(events.has(body.distinct_id) && events.has(body.$anon_distinct_id));
  assert.deepEqual(Object.keys(body.groups), ['company']);
  assert.deepEqual(body.person_properties, { plan: 'pro', $browser: 'Chrome' });
  for (const mark of ['known-1', 'anon-1', 'ada@', 'acme', 'Acme', 'call me', 'Paris', TOKEN]) {
    assert.ok(!text.includes(mark), mark);
  }
  assert.equal(answer.flags.beta.enabled, true);
  assert.deepEqual(JSON.parse(answer.flags.beta.metadata.payload), { who: 'known-1', company: 'acme' });
  assert.ok(!answer.text.includes(body.distinct_id) && !answer.text.includes(body.groups.company));
  assert.equal(answer.headers['set-cookie'], undefined);
  assert.equal(answer.headers['x-vendor'], undefined);
  assert.deepEqual(standin.wrong, []);
  await sleep(1200);
  const after = await gateway.exposure('posthog');
  assert.equal(after.people.certain, before.certain);
  assert.equal((await gateway.run(['ledger', 'verify', 'posthog'])).code, 0);
});

test('forward: an answer may switch nothing on', async () => {
  standin.mode = 'greedy';
  const answer = await ask({ distinct_id: 'known-1' });
  assert.deepEqual(Object.keys(answer).filter((k) => !['text', 'headers', 'ms'].includes(k)).sort(),
    ['errorsWhileComputingFlags', 'evaluatedAt', 'flags', 'quotaLimited', 'requestId', 'sessionRecording', 'supportedCompression']);
  assert.equal(answer.sessionRecording, false);
  assert.deepEqual(answer.supportedCompression, ['gzip', 'gzip-js']);
});

test('forward: about whose browser objects nothing is asked', async () => {
  const asked = standin.asked.length;
  for (const headers of [{ 'Sec-GPC': '1' }, { DNT: '1' }]) {
    await ask({ distinct_id: 'known-2' }, undefined, undefined, headers);
  }
  assert.equal(standin.asked.length, asked);
});

test('forward: older forms are asked and answered as they were', async () => {
  standin.clear();
  const decide = await ask({ distinct_id: 'known-2' }, '/decide/?v=3');
  assert.deepEqual(decide.featureFlags, { beta: true });
  assert.equal(JSON.parse(decide.featureFlagPayloads.beta).who, 'known-2');
  assert.deepEqual((await ask({ distinct_id: 'known-2' }, '/flags/?v=1')).featureFlags, { beta: true });
  assert.deepEqual(standin.asked.map((a) => a.url), ['/decide/?v=3', '/flags/']);
  assert.deepEqual(standin.wrong, []);
});

test('forward: somebody whom no event has named yet gets her number first, and her flags at her first question', async () => {
  standin.clear();
  const before = (await gateway.exposure('posthog')).people.certain;
  const times = [];
  for (let i = 0; i < 5; i++) {
    const answer = await ask({ distinct_id: `stranger-${i}`, $anon_distinct_id: `before-${i}`, $device_id: `device-${i}` });
    assert.equal(answer.flags.beta?.enabled, true);
    assert.equal(JSON.parse(answer.flags.beta.metadata.payload).who, `stranger-${i}`);
    times.push(answer.ms);
  }
  assert.equal(standin.asked.length, 5);
  assert.deepEqual(standin.wrong, []);
  await drained();
  assert.equal(standin.items.length, 0, 'what introduces somebody is not sent');
  await known('stranger-0');
  assert.equal(standin.items[0].distinct_id, standin.asked[0].body.distinct_id);
  await sleep(600);
  assert.equal((await gateway.exposure('posthog')).people.certain, before + 15, 'three ids each, not joined');
  note(`answered after ${times.join(', ')} ms`);
});

test('forward: an unknown token, or a password in the question: nothing is asked', async () => {
  standin.clear();
  assert.ok(isNeutral(await ask({ distinct_id: 'known-1' }, '/flags/?v=2', 'phc_nobody')));
  await ask({ distinct_id: 'known-1', person_properties: { password: 'hunter22hunter' } });
  assert.equal(standin.asked.length, 0);
});

test('the real SDKs get flags: node with payload, a new visitor in the browser', async () => {
  standin.clear();
  const { client, errors } = nodeSdk(url(), TOKEN);
  await known('node-user');
  assert.equal(await client.isFeatureEnabled('beta', 'node-user', { groups: { company: 'acme' }, personProperties: { plan: 'pro', email: 'a@example.com' } }), true);
  assert.equal((await client.getFeatureFlagPayload('beta', 'node-user')).who, 'node-user');
  await client.shutdown();
  assert.deepEqual(errors, []);
  const visitor = await browser.visit(url(), WEB_TOKEN, {});
  const anonymous = await visitor.call('get_distinct_id');
  await until(() => visitor.page.evaluate(() => window.posthog.isFeatureEnabled('beta') === true), 'the flag in the page, at her first visit', 5000);
  assert.equal((await visitor.page.evaluate(() => window.posthog.getFeatureFlagPayload('beta'))).who, anonymous);
  assert.deepEqual(visitor.errors, []);
  assert.deepEqual(standin.wrong, []);
  standin.mode = 'hang';
  await visitor.call('reloadFeatureFlags');
  await sleep(BUDGET_MS + 500);
  assert.equal(await visitor.page.evaluate(() => window.posthog.isFeatureEnabled('beta')), true, 'as it was');
  assert.deepEqual(visitor.errors, []);
  await visitor.close();
});

// -- failures ----------------------------------------------------------------------------------------------------------

for (const mode of ['hang', 'reset', 'text', 'cut short', 'huge', 'empty', 'error']) {
  test(`the vendor's answer is "${mode}": the last answer for whom there is one, the neutral one else, within the budget`, async () => {
    await rest();
    await ask({ distinct_id: 'known-2' });
    standin.mode = mode;
    standin.value = false;
    const asked = standin.asked.length;
    const last = await ask({ distinct_id: 'known-2' });
    assert.ok(standin.asked.length > asked);
    assert.equal(last.flags.beta.enabled, true);
    assert.ok(last.ms < BUDGET_MS + SLACK_MS, `${last.ms} ms`);
    const none = await ask({ distinct_id: 'anon-1' });
    assert.ok(isNeutral(none));
    assert.ok(none.ms < BUDGET_MS + SLACK_MS, `${none.ms} ms`);
    standin.value = true;
    assert.equal((await gateway.vendor('posthog')).state, 'active');
  });
}

test('a slow batch at the vendor delays no answer beyond the budget, nor any other request', async () => {
  await rest();
  let holding = true;
  standin.answer = function answer(req, raw, res) {
    if (req.url === '/batch/' && holding) {
      setTimeout(() => FlagsStandin.prototype.answer.call(this, req, raw, res), 2500);
      return;
    }
    FlagsStandin.prototype.answer.call(this, req, raw, res);
  };
  await post(gateway.ports.ingest, '/posthog/batch/', [], { verbose: false, raw: JSON.stringify({ api_key: TOKEN, batch: [{ event: 'Step 2', distinct_id: 'known-2', uuid: random.uuid() }] }) });
  await sleep(1300);
  const asked = standin.asked.length;
  const [one, event] = await Promise.all([ask({ distinct_id: 'known-2' }), (async () => {
    const begun = Date.now();
    await post(gateway.ports.ingest, '/posthog/batch/', [], { verbose: false, raw: JSON.stringify({ api_key: TOKEN, batch: [{ event: 'Step 3', distinct_id: 'known-2', uuid: random.uuid() }] }) });
    return Date.now() - begun;
  })()]);
  holding = false;
  assert.equal(one.flags.beta.enabled, true, 'the last answer');
  assert.ok(one.ms >= BUDGET_MS - 50 && one.ms < BUDGET_MS + SLACK_MS, `${one.ms} ms`);
  assert.ok(event < SLACK_MS, `${event} ms for an event`);
  assert.equal(standin.asked.length, asked);
  await drained();
  delete standin.answer;
  note(`answered after ${one.ms} ms, an event meanwhile after ${event} ms`);
});

test('many at once: each gets an answer within the budget', async () => {
  await rest();
  standin.delay = 5;
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => ask({ distinct_id: i % 2 ? 'known-1' : 'known-2' })));
  assert.ok(answers.every((a) => a.ms < BUDGET_MS + 2 * SLACK_MS), `${Math.max(...answers.map((a) => a.ms))} ms`);
  assert.ok(answers.every((a) => a.flags.beta?.enabled === true));
  standin.delay = 0;
});

test('a cut in the middle of a question ends it, and none is asked while it lasts', async () => {
  await rest();
  standin.mode = 'hang';
  const waiting = ask({ distinct_id: 'known-1' });
  await until(() => standin.hanging.length > 0, 'the question', 2000);
  const asked = standin.asked.length;
  await gateway.cut('posthog');
  const answer = await waiting;
  assert.equal(answer.flags.beta.enabled, true, 'the last answer');
  assert.ok(answer.ms < BUDGET_MS + SLACK_MS);
  standin.mode = 'ok';
  for (let i = 0; i < 5; i++) {
    assert.equal((await ask({ distinct_id: 'known-1' })).flags.beta.enabled, true);
    assert.ok(isNeutral(await ask({ distinct_id: 'anon-1', person_properties: { plan: 'free' } }, '/flags/')));
  }
  await sleep(300);
  assert.equal(standin.asked.length, asked);
  await gateway.open('posthog');
  await rest();
});

test('closed ids, a contract without flags and a restart: nothing is asked that the newest contract does not let', async () => {
  await gateway.alter('posthog', { allow: { ...ALLOW, 'user.unique_id': 'drop' } });
  standin.clear();
  await ask({ distinct_id: 'known-1' });
  assert.equal(standin.asked.length, 0);
  await gateway.alter('posthog', { allow: ALLOW, flags: undefined });
  assert.ok(isNeutral(await ask({ distinct_id: 'known-1' })));
  assert.equal(standin.asked.length, 0);
  await gateway.alter('posthog', { flags: 'forward' });
  await gateway.stop();
  await gateway.start();
  standin.mode = 'hang';
  assert.ok(isNeutral(await ask({ distinct_id: 'known-1' })), 'nothing is remembered over a restart');
  assert.equal(standin.asked.length, 1);
  assert.equal((await gateway.run(['ledger', 'verify', 'posthog'])).code, 0);
  assert.deepEqual(standin.wrong, []);
});

await finish();
