// Acknowledged is kept, recorded first: the program is killed at random moments under load, loses power in the middle of a write with unsynced
// sectors lost, torn and reordered, meets a full disk and a failing one; and after every start all that was acknowledged is there, arrives once by insert id,
// and all that the vendor has is in the ledger.
//
// Power loss needs the build with the fault layer (preset dev), which keeps unsynced writes to itself until their sync.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { count, finish, note, onEnd, root, seeded, sleep, test, until } from './lib/harness.mjs';
import { Gateway, post, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { Standin } from './lib/standin.mjs';

process.env.BULKHEAD_BIN ??= path.join(root, 'build/dev/bulkhead');
const random = seeded();
const ROUNDS = count(12, 520);
const PEOPLE = 200;
const LOSS = 86;

class Load {
  constructor(gateway, state) {
    this.gateway = gateway;
    this.state = state;
    this.running = true;
    this.done = Promise.all(Array.from({ length: 6 }, () => this.one()));
  }

  async one() {
    while (this.running) {
      if (this.paused) {
        await sleep(50);
        continue;
      }
      const first = this.state.next;
      const n = random.between(1, 30);
      this.state.next += n;
      const items = Array.from({ length: n }, (_, i) => ({ event: 'Step 1', properties: { distinct_id: `user_${(first + i) % PEOPLE}`,
        $insert_id: `crash-${first + i}`, time: Math.floor(Date.now() / 1000), tokens: first + i } }));
      try {
        const answer = await post(this.gateway.ports.ingest, '/mixpanel/track', items, { token: SERVER_TOKEN });
        this.state.answers[answer.status] = (this.state.answers[answer.status] ?? 0) + 1;
        if (answer.status === 200) {
          items.forEach((_, i) => this.state.acknowledged.add(first + i));
        } else {
          await sleep(30);
        }
      } catch {
        await sleep(15);
      }
    }
  }

  stop() {
    this.running = false;
    return this.done;
  }
}

const serials = (standin) => standin.items.map((e) => e.item ?? e).filter((i) => i.event === 'Step 1').map((i) => i.properties.tokens);

async function world(options = {}) {
  const standin = await new Standin({ token: VENDOR_TOKEN }).start();
  onEnd(() => standin.stop());
  const gateway = new Gateway({ name: 'crash', endpoint: standin.url, journal: '{ keep: 7d, segment: 8MiB, max: 60% }', ...options });
  await gateway.start();
  await gateway.open();
  return { standin, gateway, state: { next: 0, acknowledged: new Set(), answers: {} } };
}

async function judge({ standin, gateway, state }, label) {
  await gateway.drained('mixpanel', 120000);
  const got = serials(standin);
  const set = new Set(got);
  const missing = [...state.acknowledged].filter((n) => !set.has(n));
  assert.deepEqual(missing.slice(0, 5), [], `${label}: acknowledged, and not at the vendor (${missing.length} of ${state.acknowledged.size})`);
  assert.equal(got.length, set.size, `${label}: each once by insert id`);
  const people = new Set(got.map((n) => n % PEOPLE));
  const answer = await gateway.exposure();
  assert.ok(answer.people.certain + answer.people.possible >= people.size,
    `${label}: the vendor knows ${people.size} people, the ledger ${JSON.stringify(answer.people)}`);
  const verified = await gateway.run(['ledger', 'verify']);
  assert.equal(verified.code, 0, `${label}: ledger verify: ${verified.stdout}${verified.stderr}`);
}

test(`${ROUNDS} times killed or without power at random moments: kept, once, recorded`, async () => {
  const kit = await world();
  const { gateway, state } = kit;
  const ends = { kill: 0, loss: 0, early: 0 };
  const load = new Load(gateway, state);
  for (let round = 0; round < ROUNDS; round++) {
    if (random.chance(0.5)) {
      await sleep(random.between(5, 700));
      await gateway.kill();
      ends.kill++;
    } else {
      /* The process that runs has no faults; the next one gets them and ends by itself. */
      await gateway.kill();
      gateway.env.BULKHEAD_FAULTS = `seed=${random.below(1e9)},loss_at=${random.between(5, 400)},names=1${random.chance(0.5) ? ',garble=1' : ''}`;
      await gateway.start({ ready: false });
      const end = await Promise.race([gateway.exited, sleep(20000)]);
      delete gateway.env.BULKHEAD_FAULTS;
      if (end?.code === LOSS) {
        ends.loss++;
      } else {
        ends.early++;
        await gateway.kill();
      }
    }
    await gateway.start();
    if (round % 20 === 19 || round === ROUNDS - 1) {
      load.paused = true;
      await sleep(300);
      await judge(kit, `round ${round + 1}`);
      load.paused = false;
    }
  }
  await load.stop();
  await judge(kit, 'at the end');
  note(`${ends.kill} kills, ${ends.loss} power losses, ${ends.early} ended otherwise; ${state.acknowledged.size} of ${state.next} events acknowledged, `
    + `${kit.standin.stats.repeated} repeats dropped by insert id`);
  assert.ok(ends.loss > 0 && ends.kill > 0, 'both kinds happened');
  await gateway.stop();
});

test('no space for the journal: 503 with Retry-After, readiness false, and it recovers by itself', async () => {
  const flag = path.join(fs.mkdtempSync('/tmp/bh-full-'), 'full');
  onEnd(() => fs.rmSync(path.dirname(flag), { recursive: true, force: true }));
  const kit = await world();
  const { gateway, state } = kit;
  await gateway.kill();
  gateway.env.BULKHEAD_FAULTS = `seed=1,enospc=journal:@${flag}`;
  fs.writeFileSync(flag, '');
  await gateway.start({ ready: false });
  await until(async () => (await gateway.health('/healthz').catch(() => ({}))).status === 200, 'alive');
  const load = new Load(gateway, state);
  await until(() => (state.answers[503] ?? 0) > 3, '503 while full', 20000);
  assert.equal(state.acknowledged.size, 0, 'nothing is acknowledged');
  assert.equal((await gateway.health('/readyz')).status, 503, 'not ready');
  const one = await post(gateway.ports.ingest, '/mixpanel/track', [{ event: 'Step 1', properties: { distinct_id: 'x', tokens: 1e9 } }], { token: SERVER_TOKEN });
  assert.equal(one.status, 503);
  assert.ok(Number(one.headers['retry-after']) >= 1, 'Retry-After');
  fs.rmSync(flag);
  await until(() => state.acknowledged.size > 50, 'taken again', 20000);
  await until(async () => (await gateway.health('/readyz')).status === 200, 'ready again');
  await load.stop();
  await judge(kit, 'after a full disk');
  await gateway.stop();
});

for (const [what, spec] of [['journal', 'eio_sync=journal:4'], ['journal', 'eio_write=journal:5'], ['ledger', 'eio_sync=ledger:3'], ['ledger', 'eio_write=ledger:3'],
  ['resolver', 'eio_sync=resolve:1'], ['register', 'eio_sync=register:1']]) {
  test(`a failing disk under the ${what} (${spec}): the process ends, nothing acknowledged is lost`, async () => {
    const kit = await world();
    const { gateway, state } = kit;
    await gateway.kill();
    gateway.env.BULKHEAD_FAULTS = `seed=${random.below(1e9)},${spec}`;
    await gateway.start({ ready: false });
    const load = new Load(gateway, state);
    const ended = Promise.race([gateway.exited, sleep(20000)]);
    if (what === 'register') {
      await sleep(1500);
      await gateway.cut().catch(() => {});
    }
    const end = await ended;
    delete gateway.env.BULKHEAD_FAULTS;
    assert.ok(end, `the process ended by itself (log: ${gateway.log.slice(-400)})`);
    assert.notEqual(end.code, 0);
    await gateway.kill();
    await gateway.start();
    await sleep(300);
    await load.stop();
    if ((await gateway.vendor()).state === 'cut') {
      await gateway.open();
    }
    await judge(kit, spec);
    await gateway.stop();
  });
}

await finish({ limit_ms: 3600000 });
