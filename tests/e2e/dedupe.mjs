// What an SDK sends again, because an answer was lost or the gateway died, reaches the vendor once and is in the ledger once: whatever
// ended the gateway in between, and whether or not the first one had left. The stand-in counts every repeat that it would have to
// drop itself, so none may come.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { count, finish, note, onEnd, seeded, sleep, test, until } from './lib/harness.mjs';
import { Gateway, post, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { Standin } from './lib/standin.mjs';

const random = seeded();
const ROUNDS = count(3, 100);
const standin = await new Standin({ token: VENDOR_TOKEN }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ name: 'dedupe', endpoint: standin.url });
let serial = 0;
let sent = 0; /* events that count: each of a person of its own, so that the ledger has one entry for each */

const event = (more = {}) => {
  const n = serial++;
  return { event: 'Completion Run', properties: { token: SERVER_TOKEN, distinct_id: `d${n}`, $insert_id: `dedupe-${n}`, time: Math.floor(Date.now() / 1000),
    tokens: n, ...more } };
};
const batch = (size) => Array.from({ length: size }, () => event());
const send = async (items) => assert.equal((await post(gateway.ports.ingest, '/mixpanel/track', items)).status, 200);
const repeats = async () => (await gateway.status()).dedupe.repeats;

/* All that counted, once: at the vendor by what it was sent, in the ledger by its entries. */
async function judge(label) {
  await gateway.drained();
  assert.equal(standin.events().length, sent, `${label}: events at the vendor`);
  assert.equal(standin.stats.repeated, 0, `${label}: repeats that the vendor had to drop`);
  assert.equal(new Set(standin.events().map((e) => e.properties.$insert_id)).size, sent, `${label}: insert ids`);
  await gateway.run(['exposure', 'mixpanel']);
  const verified = await gateway.run(['ledger', 'verify', 'mixpanel']);
  assert.equal(verified.code, 0, verified.stderr);
  assert.equal(verified.json.entries, sent, `${label}: entries in the ledger`);
}

test('the gateway starts', async () => {
  await gateway.start();
  await gateway.open();
  assert.deepEqual((await gateway.status()).dedupe, { window_s: 86400, known: 0, repeats: 0, bytes: 0, since_ms: null });
}, { vital: true });

test('a batch sent again, and one that has new events between old ones', async () => {
  const first = batch(20);
  await send(first);
  await send(first);
  sent += 20;
  const mixed = [first[3], event(), first[7], event(), first[7]];
  await send(mixed);
  sent += 2;
  await judge('again');
  assert.equal(await repeats(), 23);
  const metrics = await gateway.metrics();
  assert.equal(metrics.sum('bulkhead_dedupe_repeats_total'), 23);
  assert.equal(metrics.sum('bulkhead_vendor_withheld_total', { reason: 'repeat' }), 23);
  const people = (await gateway.exposure()).people;
  assert.equal(people.certain, sent, 'people who were sent once count once');
});

test('one dedupe id, and another name, person or time: all count', async () => {
  const one = event();
  const same = { ...one.properties };
  await send([one, { event: 'Signed In', properties: same }, { event: 'Completion Run', properties: { ...same, distinct_id: `${same.distinct_id}-b` } },
    { event: 'Completion Run', properties: { ...same, time: same.time - 5 } }]);
  /* Two of the four are of one person under one shape and leave in one request: the ledger adds them up. */
  await gateway.drained();
  assert.equal(standin.events().length, sent + 4);
  assert.equal(standin.stats.repeated, 0);
  sent += 4;
});

test('a profile update without a dedupe id is applied as often as it comes', async () => {
  const update = { $token: SERVER_TOKEN, $distinct_id: 'd1', $add: { logins: 1 }, $set: { plan: 'pro' } };
  const before = standin.updates().length;
  for (let i = 0; i < 3; i++) {
    assert.equal((await post(gateway.ports.ingest, '/mixpanel/engage', [update])).status, 200);
  }
  await until(() => standin.updates().length === before + 3, () => `${standin.updates().length - before} of 3 updates`);
});

test(`${ROUNDS} times killed between the event and its repeat`, async () => {
  await gateway.run(['exposure', 'mixpanel']);
  const entries = (await gateway.run(['ledger', 'verify', 'mixpanel'])).json.entries;
  const before = sent;
  for (let round = 0; round < ROUNDS; round++) {
    const items = batch(random.between(1, 40));
    standin.behave({ mode: '503' });
    await send(items);
    await sleep(random.below(120));
    await gateway.kill();
    await gateway.start();
    await send(random.chance(0.5) ? items : [...items].reverse());
    await gateway.kill();
    standin.behave({ mode: 'ok' });
    await gateway.start();
    await send(items);
    sent += items.length;
    await gateway.drained();
    assert.equal(standin.events().length, sent, `round ${round}`);
  }
  assert.equal(standin.stats.repeated, 0);
  const after = await gateway.run(['ledger', 'verify', 'mixpanel']);
  assert.equal(after.code, 0);
  note(`${sent - before} events sent three times each; the vendor has ${standin.events().length}, ${standin.stats.repeated} of them twice`);
  /* What a killed gateway had in the air is in the ledger as a try of its own. */
  assert.ok(after.json.entries - entries >= sent - before, 'every event is in the ledger');
});

test('the store of repeats is lost, then damaged: what the journal has is known again', async () => {
  const items = batch(30);
  await send(items);
  sent += 30;
  await gateway.drained();
  const folder = path.join(gateway.data, 'resolve', 'repeats');
  for (const harm of [() => fs.rmSync(folder, { recursive: true }), () => fs.writeFileSync(path.join(folder, 'state'), 'BHREPST and no more')]) {
    await gateway.stop();
    harm();
    await gateway.start();
    await send(items);
    await gateway.drained();
    assert.equal(standin.events().length, sent);
    assert.equal((await gateway.status()).dedupe.since_ms, null, 'the journal reaches back to the first event');
  }
  assert.equal(standin.stats.repeated, 0);
});

test('a window of two seconds, then none: the vendor is sent what comes after it', async () => {
  const short = new Gateway({ name: 'short', endpoint: standin.url, extra: 'dedupe: { window: 2s }\n' });
  await short.start();
  await short.open();
  const one = event();
  const items = () => standin.requests.flatMap((r) => r.items ?? []).filter((i) => i.event !== undefined).length;
  const before = items();
  const sendShort = async () => assert.equal((await post(short.ports.ingest, '/mixpanel/track', [one])).status, 200);
  await sendShort();
  await sendShort();
  await short.drained();
  assert.equal(items() - before, 1);
  await sleep(3100);
  await sendShort();
  await short.drained();
  assert.equal(items() - before, 2);
  await short.stop();
  short.extra = 'dedupe: { window: off }\n';
  short.write();
  await short.start();
  await sendShort();
  await short.drained();
  assert.equal(items() - before, 3);
  assert.equal((await short.status()).dedupe.window_s, 0);
  await short.stop();
});

await finish();
