// A dead, a slow and a flapping vendor beside a good one: ingest and the good vendor's delivery stay as they were without them,
// and memory stays flat.

import assert from 'node:assert/strict';
import { count, finish, full, note, onEnd, quantile, seeded, sleep, test } from './lib/harness.mjs';
import { Gateway, post, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { Standin } from './lib/standin.mjs';

const random = seeded();
const PHASE_MS = count(12000, 15 * 60 * 1000);
const RATE = count(40, 40); // requests a second, open loop
const BATCH = 25;

const options = { token: VENDOR_TOKEN, keep: false, dumpItems: false };
const good = await new Standin({ ...options, keep: true }).start();
const slow = await new Standin(options).start();
const flapping = await new Standin(options).start();
const dead = await new Standin(options).start();
for (const standin of [good, slow, flapping, dead]) {
  onEnd(() => standin.stop());
}
const gateway = new Gateway({ vendors: [
  { vendor: 'mixpanel', endpoint: good.url },
  { vendor: 'slow', endpoint: slow.url },
  { vendor: 'flapping', endpoint: flapping.url },
  { vendor: 'dead', endpoint: dead.url },
] });

test('the gateway starts, with one vendor opened and three still cut', async () => {
  await gateway.start();
  await gateway.open('mixpanel');
}, { vital: true });

/* Small numbers, since thirteen digits in a row may look like a card or a phone. */
const BEGUN = Date.now();
/* Each event carries its send time as a number, so that the good vendor's stand-in can tell how long it took to arrive. */
const lags = [];
good.take = (function watch(take) {
  return function taken(entry, items) {
    for (const item of items) {
      if (typeof item.properties?.latency_ms === 'number') {
        lags.push(entry.end - BEGUN - item.properties.latency_ms);
      }
    }
    good.items.length = 0;
    good.requests.length = 0;
    return take.call(this, entry, items);
  };
}(good.take));

let serial = 0;
function batch() {
  return Array.from({ length: BATCH }, () => ({ event: 'Completion Run', properties: { distinct_id: `user_${random.below(5000)}`,
    time: Math.floor(Date.now() / 1000), $insert_id: `i${serial++}`, model: 'lumen-mini', tokens: random.below(4000), latency_ms: Date.now() - BEGUN,
    prompt_tokens: 11, completion_tokens: 22, cost_usd: 0.5, status_code: 200, stream: true } }));
}

/* Open loop: a late answer does not slow the next request down, so queueing shows. */
async function phase(ms) {
  lags.length = 0;
  const latencies = [];
  const rss = [];
  const pending = new Set();
  const begun = performance.now();
  let sent = 0;
  const sampler = setInterval(() => rss.push(gateway.rss()), Math.max(250, ms / 200));
  while (performance.now() - begun < ms) {
    const due = begun + (sent * 1000) / RATE;
    const wait = due - performance.now();
    if (wait > 0) {
      await sleep(wait);
    }
    sent++;
    const promise = post(gateway.ports.ingest, '/mixpanel/track', batch(), { token: SERVER_TOKEN }).then((answer) => {
      assert.equal(answer.status, 200);
      latencies.push(performance.now() - due);
    }).finally(() => pending.delete(promise));
    pending.add(promise);
  }
  await Promise.all(pending);
  clearInterval(sampler);
  await sleep(1500);
  latencies.sort((a, b) => a - b);
  const sortedLags = [...lags].sort((a, b) => a - b);
  return { sent: sent * BATCH, arrived: lags.length, p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99), lag50: quantile(sortedLags, 0.5),
    lag99: quantile(sortedLags, 0.99), rss };
}

const say = (name, r) => note(`${name}: ${r.sent} events sent, ${r.arrived} arrived; acknowledged p50 ${r.p50.toFixed(1)} p99 ${r.p99.toFixed(1)} ms; `
  + `at the good vendor p50 ${r.lag50} p99 ${r.lag99} ms; RSS ${(r.rss.at(-1) / 1048576).toFixed(1)} MiB`);

const MIB = 1048576;
const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
let alone;

test('the good vendor alone', async () => {
  await phase(2000);
  alone = await phase(PHASE_MS);
  say('alone', alone);
  assert.ok(alone.arrived >= alone.sent * 0.98, 'the good vendor keeps up');
});

test('the good vendor beside a dead, a slow and a flapping one', async () => {
  slow.behave({ mode: 'late', ms: 8000 });
  flapping.behave({ mode: 'flapping', up_ms: 1500, down_ms: 2500, down: full ? 'reset' : '503' });
  await dead.die();
  for (const vendor of ['slow', 'flapping', 'dead']) {
    await gateway.open(vendor);
  }
  await sleep(1000);
  const beside = await phase(PHASE_MS);
  say('beside', beside);
  assert.ok(beside.arrived >= beside.sent * 0.98, 'the good vendor keeps up');
  /* Noise of two shared cores: half again, and some milliseconds. */
  assert.ok(beside.p50 <= alone.p50 * 1.5 + 3, `acknowledged p50 ${alone.p50.toFixed(1)} -> ${beside.p50.toFixed(1)} ms`);
  assert.ok(beside.p99 <= alone.p99 * 1.5 + 15, `acknowledged p99 ${alone.p99.toFixed(1)} -> ${beside.p99.toFixed(1)} ms`);
  assert.ok(beside.lag50 <= alone.lag50 * 1.5 + 100, `lag p50 ${alone.lag50} -> ${beside.lag50} ms`);
  assert.ok(beside.lag99 <= alone.lag99 * 1.5 + 500, `lag p99 ${alone.lag99} -> ${beside.lag99} ms`);
  const half = Math.floor(beside.rss.length / 2);
  const grown = mean(beside.rss.slice(-Math.ceil(half / 2))) - mean(beside.rss.slice(half, half + Math.ceil(half / 2)));
  note(`RSS over the second half of the phase: ${(grown / MIB).toFixed(2)} MiB`);
  assert.ok(grown < 4 * MIB, `RSS grew by ${(grown / MIB).toFixed(1)} MiB`);
  assert.ok(Math.max(...beside.rss) < 128 * MIB, 'RSS within 128 MiB');
  const status = await gateway.status();
  note(`states ${JSON.stringify(Object.fromEntries(Object.entries(status.vendors).map(([k, v]) => [k, `${v.state} ${v.backlog}`])))}`);
  assert.equal(status.vendors.dead.state, 'retrying');
  assert.equal(status.vendors.mixpanel.state, 'active');
  assert.ok(status.vendors.dead.backlog > 0, 'the dead vendor\'s backlog is kept and shown');
});

test('the dead vendor comes back and gets everything', async () => {
  await dead.revive();
  slow.behave('ok');
  flapping.behave('ok');
  for (const vendor of ['dead', 'slow', 'flapping']) {
    /* An operator who knows that it is back does not wait for the back-off. */
    assert.equal((await gateway.cut(vendor)).code, 0);
    await gateway.open(vendor);
    await gateway.drained(vendor, 240000);
  }
  note(`dead ${dead.stats.accepted}, slow ${slow.stats.accepted}, flapping ${flapping.stats.accepted} of ${good.stats.accepted} events`);
  for (const standin of [dead, slow, flapping]) {
    assert.equal(standin.stats.accepted, good.stats.accepted);
  }
});

await finish({ limit_ms: 40 * 60 * 1000 });
