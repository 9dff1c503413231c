// The official SDKs, unmodified, against the gateway: what they report, what arrives, whether people, funnels and retention at
// the vendor are those of the raw ids, and what a failing network between SDK and gateway costs.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { count, finish, note, onEnd, person, Random, root, seeded, sleep, tempFolder, test, until } from './lib/harness.mjs';
import { BROWSER_TOKEN, Gateway, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { Proxy } from './lib/proxy.mjs';
import { Browser, visitorStory } from './lib/sdk-browser.mjs';
import { NodeSdk, serverStory } from './lib/sdk-node.mjs';
import { Standin } from './lib/standin.mjs';

const random = seeded();
const folder = tempFolder('sdk');
const bodies = path.join(folder, 'bodies');
const standin = await new Standin({ token: VENDOR_TOKEN, bodies }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ endpoint: standin.url });
const proxy = await new Proxy('http://127.0.0.1:1').start();
onEnd(() => proxy.stop());
const browser = new Browser();
onEnd(() => browser.stop());
const recordedTable = JSON.parse(fs.readFileSync(path.join(root, 'tests/fixtures/sdk-requests/failure-behaviour-browser.json'), 'utf8'));
const FUNNEL = ['Signed Up', 'Completion Run'];

test('the gateway starts and is opened', async () => {
  await gateway.start();
  await gateway.open('mixpanel', '--replay');
  proxy.target = new URL(`http://127.0.0.1:${gateway.ports.ingest}`);
  await browser.start();
}, { vital: true });

/* The same calls with the same seed, once straight to a vendor and once through the gateway. */
async function twice(run) {
  const seed = random.below(2 ** 31);
  const direct = await new Standin({ token: SERVER_TOKEN, secrets: ['key-1'] }).start();
  standin.clear();
  await run(direct.url, new Random(seed), direct);
  await run(gateway.url(), new Random(seed), standin);
  await gateway.drained();
  await direct.stop();
  return [direct.people(), standin.people(), direct];
}

test('node SDK: no call reports an error, and people, funnel and retention are those of the raw ids', async () => {
  const people = count(20, 200);
  const [raw, sent, direct] = await twice(async (url, dice) => {
    const sdk = new NodeSdk(url, SERVER_TOKEN, { key: 'key-1' });
    for (let i = 0; i < people; i++) {
      const someone = person(dice, i);
      const story = await serverStory(sdk, someone, dice);
      assert.deepEqual(story.errors, []);
      if (i % 3 === 0) {
        assert.equal(await sdk.alias(someone.id, `${someone.id}-alias`), null);
        assert.equal(await sdk.track('Completion Run', { distinct_id: `${someone.id}-alias`, tokens: 1, $insert_id: dice.hex(16) }), null);
      }
      if (i % 5 === 4) {
        /* Two accounts of one person, each with a history, become one. */
        await sdk.track('Step 1', { distinct_id: `${someone.id}-b`, $insert_id: dice.hex(16) });
        assert.equal(await sdk.merge(someone.id, `${someone.id}-b`), null);
      }
    }
  });
  assert.equal(sent.count(), raw.count(), 'people');
  assert.deepEqual(sent.funnel(FUNNEL), raw.funnel(FUNNEL), 'funnel');
  assert.deepEqual(sent.retention(7), raw.retention(7), 'retention');
  const declared = (standinOf) => standinOf.events().filter((e) => !e.event.startsWith('$mp_')).length;
  assert.equal(declared(standin), declared(direct), 'declared events');
  note(`${people} people, ${direct.events().length} events straight, ${standin.events().length} through the gateway, ${sent.count()} people counted`);
});

const SHAPES = [
  ['form base64, batched', {}],
  ['form JSON, batched', { api_payload_format: 'json' }],
  ['GET', { api_method: 'GET', batch_requests: false }],
  ['one by one', { batch_requests: false }],
  ['remote settings on', { remote_settings_mode: 'fallback' }],
];

for (const [name, config] of SHAPES) {
  test(`browser SDK, ${name}: people and funnel are those of the raw ids`, async () => {
    const direct = await new Standin({ token: BROWSER_TOKEN }).start();
    onEnd(() => direct.stop());
    standin.clear();
    const people = count(2, 8);
    /* The order of two requests within one second, the contract's precision, is not told to the vendor: steps of a funnel are further apart. */
    const pace = 1100;
    for (const [target, url] of [[direct, direct.url], [standin, gateway.url()]]) {
      for (let i = 0; i < people; i++) {
        const visitor = await browser.visit(url, BROWSER_TOKEN, config);
        const before = target.events().length;
        const story = await visitorStory(visitor, person(random, i), pace);
        await until(() => target.events().slice(before).filter((e) => story.events.includes(e.event)).length >= story.events.length,
          () => `the events of ${name}: ${target.events().slice(before).map((e) => e.event)}`, 30000);
        assert.deepEqual(visitor.errors, [], 'no error on the page');
        await visitor.close();
      }
    }
    await gateway.drained();
    const raw = direct.people();
    const sent = standin.people();
    assert.equal(sent.count(), raw.count(), 'people');
    assert.deepEqual(sent.funnel(['Step 1', ...FUNNEL]), raw.funnel(['Step 1', ...FUNNEL]), 'funnel');
    assert.deepEqual(sent.retention(3), raw.retention(3), 'retention');
  });
}

test('browser SDK: a beacon on leaving arrives, and once', async () => {
  standin.clear();
  const visitor = await browser.visit(gateway.url(), BROWSER_TOKEN, { batch_flush_interval_ms: 60000, batch_autostart: false });
  await visitor.call('identify', person(random, 1).id);
  await visitor.call('start_batch_senders');
  await sleep(500);
  await visitor.call('track', 'Step 9', {});
  await visitor.leave();
  await until(() => standin.events().some((e) => e.event === 'Step 9'), 'the beacon\'s event');
  /* The SDK keeps what a beacon carried, so the next page sends it again under the same insert id. */
  await visitor.page.evaluate(([host, token]) => window.mixpanel.init(token, { api_host: host, persistence: 'localStorage',
    remote_settings_mode: 'disabled', batch_flush_interval_ms: 200 }), [gateway.url(), BROWSER_TOKEN]);
  await sleep(1500);
  await gateway.drained();
  assert.equal(standin.events().filter((e) => e.event === 'Step 9').length, 1);
  await visitor.close();
});

test('browser SDK: opting out deletes the profile at the vendor', async () => {
  standin.clear();
  const visitor = await browser.visit(gateway.url(), BROWSER_TOKEN, { batch_requests: false });
  const someone = person(random, 2);
  await visitor.call('identify', someone.id);
  await visitor.call('people.set', { plan: 'pro' });
  await until(() => standin.updates().length > 0, 'the profile');
  await visitor.call('opt_out_tracking');
  const gone = await until(() => standin.updates().find((u) => u.$delete !== undefined), 'the deletion');
  assert.notEqual(gone.$distinct_id, someone.id);
  assert.ok(!JSON.stringify(gone).includes(someone.id), 'also the value of $delete is a pseudonym');
  await visitor.close();
});

/* What each SDK does after a failure, written here by hand and checked against the recorded table, so that neither can drift from the other unnoticed. */
const TABLE = { 400: 'lost', 401: 'lost', 413: 'halved', 429: 'kept', 500: 'kept', timeout: 'kept', reset: 'lost' };

for (const [fault, fate] of Object.entries(TABLE)) {
  for (const forward of fault === '500' || fault === 'timeout' ? [false, true] : [false]) {
    test(`browser SDK through a network that answers ${fault}${forward ? ' after delivering' : ''}: ${fate}`, async () => {
      standin.clear();
      proxy.requests.length = 0;
      if (recordedTable['mixpanel-browser'][fault]) {
        const { n } = recordedTable['mixpanel-browser'][fault];
        assert.equal(n === 1, fate === 'lost', `the recorded number of tries is ${n}`);
      }
      const visitor = await browser.visit(`${proxy.url}/mixpanel`, BROWSER_TOKEN,
        { batch_flush_interval_ms: 300, batch_request_timeout_ms: 1200, batch_autostart: false, track_pageview: false, autocapture: false });
      proxy.spoil(fault, 2, { forward, only: '/track' });
      for (let i = 1; i <= 4; i++) {
        await visitor.call('track', `Step ${i}`, { tokens: i });
      }
      await visitor.call('start_batch_senders');
      const spoiled = () => proxy.requests.filter((r) => r.spoiled).length;
      await until(() => spoiled() > 0, 'a spoiled request');
      await until(async () => (await visitor.queued()) === 0, 'an empty queue of the SDK', 30000);
      proxy.spoil(undefined, 0);
      await visitor.call('track', 'Step 5', {});
      await until(async () => (await visitor.queued()) === 0, 'an empty queue of the SDK', 30000);
      await until(() => standin.events().some((e) => e.event === 'Step 5'), 'the event after the faults');
      await gateway.drained();
      const arrived = [1, 2, 3, 4].map((i) => standin.events().filter((e) => e.event === `Step ${i}`).length);
      const sum = arrived.reduce((a, b) => a + b, 0);
      note(`${spoiled()} requests spoiled, ${proxy.requests.length} in all, arrived ${arrived.join(' ')}`);
      assert.ok(arrived.every((n) => n <= 1), 'no event twice');
      if (fate === 'kept' || fate === 'halved') {
        assert.equal(sum, 4, 'nothing lost');
      } else if (forward) {
        assert.equal(sum, 4, 'delivered before the fault');
      } else {
        assert.equal(sum, 0, 'the SDK gives the batch up, as recorded');
      }
      await visitor.close();
    });
  }
}

test('node SDK through a failing network: it never retries, so k faults cost exactly k requests', async () => {
  standin.clear();
  const sdk = new NodeSdk(`${proxy.url}/mixpanel`, SERVER_TOKEN);
  let lost = 0;
  let sent = 0;
  for (const fault of ['400', '413', '429', '500', 'reset']) {
    proxy.spoil(fault, 2);
    for (let i = 0; i < 5; i++) {
      const error = await sdk.track('Step 1', { distinct_id: `n${sent++}`, $insert_id: random.hex(16) });
      lost += error === null ? 0 : 1;
    }
  }
  await gateway.drained();
  assert.equal(lost, 10);
  assert.equal(standin.events().length, sent - lost);
  proxy.spoil('reset', 2, { forward: true });
  for (let i = 0; i < 2; i++) {
    const id = { distinct_id: 'again', $insert_id: 'once-only-1', time: Math.floor(Date.now() / 1000) };
    assert.notEqual(await sdk.track('Step 2', { ...id, time: 1795000000 }), null);
  }
  await gateway.drained();
  assert.equal(standin.events().filter((e) => e.event === 'Step 2').length <= 1, true, 'a repeated insert id arrives once');
});

test('nothing personal of all these people reached the stand-in', () => {
  const text = fs.readFileSync(bodies, 'utf8');
  for (const mark of ['@example.com', '%40example.com', '+1-202-555', '203.0.113.', SERVER_TOKEN, BROWSER_TOKEN]) {
    assert.ok(!text.includes(mark), mark);
  }
  assert.doesNotMatch(text, /user_\d/);
});

await finish();
