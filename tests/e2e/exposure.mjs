// The answer to "who was sent what" against an independent count over what the vendor wrote down, in random scenarios with cuts,
// crashes, hangs, resets and changes of the contract: certain is within received, received is within certain and possible, always;
// and the three are equal where nothing was killed or left hanging. Whatever is only possible is explained by a named attempt without a
// complete answer, found in the ledger's own bytes by a second reader.
//
// Every item carries its person as a number, so that the stand-in's record tells people apart without knowing their pseudonyms.

import assert from 'node:assert/strict';
import { count, finish, full, note, onEnd, person, Random, seeded, sleep, test } from './lib/harness.mjs';
import { ALLOW, BROWSER_TOKEN, Gateway, post, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { readAttempts, readOrds, readSources, RESULT } from './lib/record.mjs';
import { Standin } from './lib/standin.mjs';

const random = seeded();
const SCENARIOS = count(4, 60);
const PEOPLE = 300; // many more than are seen, so that a wrong grade is not covered by a later, right one
const PLAN = `events:
  Signed Up: {}
  Step *: {}
properties:
  tokens: { type: number }
  status_code: { type: number }
traits:
  plan: { enum: [free, plus, pro] }
  seat: { type: number }
  src: { type: number }
groups:
  company: { class: user.workplace }
`;
const SOURCES = { 1: 'platform-api', 2: 'platform-web' };
const TOKENS = { 1: SERVER_TOKEN, 2: BROWSER_TOKEN };

/* Contracts that open and close what the items below carry. */
const CONTRACTS = [
  {},
  { 'user.contact.email': 'raw' },
  { 'user.contact.email': 'mask', 'user.name': 'raw' },
  { 'user.contact.phone_number': 'mask', 'user.contact.email': 'raw' },
  { 'user.location.imprecise': 'raw' },
  { 'user.workplace': undefined, 'user.device': undefined },
  { 'user.behavior.browsing_history': undefined, 'user.name': 'raw' },
];

function allowOf(change) {
  return Object.fromEntries(Object.entries({ ...ALLOW, ...change }).filter(([, form]) => form !== undefined));
}

// -- what is sent ----------------------------------------------------------------------------------------------------

class World {
  constructor(dice) {
    this.dice = dice;
    this.people = Array.from({ length: PEOPLE }, (_, i) => ({ ...person(dice, i), index: i, known: dice.chance(0.6) }));
    this.serial = 0;
  }

  items(n, source) {
    const time = () => Math.floor(Date.now() / 1000);
    const list = [];
    for (let i = 0; i < n; i++) {
      const someone = this.dice.pick(this.people);
      const insert = { $insert_id: `e${this.serial++}-${this.dice.hex(8)}`, time: time(), tokens: someone.index, status_code: source };
      if (!someone.known) {
        someone.known = true;
        list.push({ event: 'Step 1', properties: { ...insert, distinct_id: `$device:${someone.device}`, $device_id: someone.device } });
        list.push({ event: '$identify', properties: { ...insert, $insert_id: `l${this.serial++}`, distinct_id: someone.id, $anon_distinct_id: `$device:${someone.device}` } });
      } else if (this.dice.chance(0.6)) {
        list.push({ event: this.dice.pick(['Signed Up', 'Step 2', 'Step 3']), properties: { ...insert, distinct_id: someone.id, $os: 'macOS', $browser: 'Chrome',
          $city: someone.city, $region: someone.region, mp_country_code: someone.country, company: someone.org,
          $current_url: `https://app.example.com/team/${this.dice.below(9)}?mail=${encodeURIComponent(someone.email)}` } });
      } else {
        list.push({ $distinct_id: someone.id, $set: { $email: someone.email, $phone: someone.phone, $name: someone.name, plan: someone.plan, seat: someone.index, src: source } });
      }
    }
    return list;
  }
}

async function send(gateway, world, n, source) {
  const items = world.items(n, source);
  const events = items.filter((i) => i.event !== undefined);
  const updates = items.filter((i) => i.event === undefined);
  for (const [where, list] of [['/mixpanel/track', events], ['/mixpanel/engage', updates]]) {
    if (list.length > 0) {
      /* A crash in the middle is one of the things that happen here. */
      await post(gateway.ports.ingest, where, list, { token: TOKENS[source] }).catch(() => undefined);
    }
  }
}

// -- what arrived ----------------------------------------------------------------------------------------------------

/* The cells "class form" that one received item shows about its person. */
function cellsOf(item, people) {
  const p = item.properties ?? item.$set ?? {};
  const index = item.event !== undefined ? p.tokens : p.seat;
  const cells = [];
  const add = (name, form) => cells.push(`${name} ${form}`);
  if (index !== undefined) {
    add('user.behavior', 'raw'); /* the serial number of a person is itself a declared number, in events and in profiles */
  }
  const real = people[index];
  const text = (value, raw) => (value === raw ? 'raw' : value.includes('…') ? 'mask' : 'other');
  if (p.$email !== undefined) {
    add('user.contact.email', text(p.$email, real?.email));
  }
  if (p.$phone !== undefined) {
    add('user.contact.phone_number', text(p.$phone, real?.phone));
  }
  if (p.$name !== undefined) {
    add('user.name', text(p.$name, real?.name));
  }
  if (p.$city !== undefined) {
    add('user.location.imprecise', 'raw');
  } else if (p.mp_country_code !== undefined) {
    add('user.location.imprecise', '*');
  }
  if (p.$os !== undefined || p.$browser !== undefined) {
    add('user.device', 'coarse:family');
  }
  if (p.$current_url !== undefined) {
    add('user.behavior.browsing_history', 'coarse:path');
  }
  if (p.company !== undefined) {
    add('user.workplace', 'pseudonym');
  }
  return { index, source: item.event !== undefined ? p.status_code : p.src, cells };
}

/* Everything that reached the stand-in inside [from, to): by cell, by source and in all, as sets of person numbers. */
function received(standin, people, from = 0, to = Infinity, source = undefined) {
  const result = { all: new Set(), cells: new Map(), sources: new Map() };
  for (const request of standin.requests) {
    if (request.end < from || request.end >= to) {
      continue;
    }
    for (const item of request.items ?? []) {
      const seen = cellsOf(item, people);
      if (seen.index === undefined || (source !== undefined && seen.source !== source)) {
        continue;
      }
      result.all.add(seen.index);
      addTo(result.sources, SOURCES[seen.source], seen.index);
      for (const cell of seen.cells) {
        addTo(result.cells, cell, seen.index);
      }
    }
  }
  return result;
}

function addTo(map, key, value) {
  if (!map.has(key)) {
    map.set(key, new Set());
  }
  map.get(key).add(value);
}

// -- what the ledger says --------------------------------------------------------------------------------------------

/* The answer with its list, as sets of person numbers: {all, cells, sources} each with certain and possible. */
async function answer(gateway, world, args = []) {
  const { code, lines, stderr } = await gateway.run(['exposure', 'mixpanel', '--list', ...args]);
  const summary = lines.find((l) => l.people !== undefined && l.classes !== undefined && l.person === undefined);
  assert.ok(summary, `exposure ${args.join(' ')}: exit ${code}, ${stderr}`);
  const byId = new Map();
  for (const someone of world.people) {
    byId.set(someone.id, someone.index);
    byId.set(someone.device, someone.index);
  }
  const sets = { certain: new Set(), possible: new Set(), cells: new Map() };
  for (const line of lines.filter((l) => l.person !== undefined)) {
    const ids = [line.person, ...(line.ids ?? [])].map((id) => byId.get(String(id).replace(/^\$device:/, ''))).filter((i) => i !== undefined);
    assert.equal(new Set(ids).size, 1, `a line is one person: ${JSON.stringify(line)}`);
    (line.grade === 'certain' ? sets.certain : sets.possible).add(ids[0]);
    for (const [name, forms] of Object.entries(line.classes ?? {})) {
      for (const [form, grade] of Object.entries(forms)) {
        const cell = cellFor(sets, `${name} ${form}`);
        cell[grade === 'certain' ? 'certain' : 'possible'].add(ids[0]);
      }
    }
  }
  return { summary, sets };
}

function cellFor(sets, key) {
  if (!sets.cells.has(key)) {
    sets.cells.set(key, { certain: new Set(), possible: new Set() });
  }
  return sets.cells.get(key);
}

const minus = (a, b) => [...a].filter((x) => !b.has(x));
const union = (a, b) => new Set([...a, ...b]);

function check(what, certain, possible, got, exact) {
  assert.deepEqual(minus(certain, got), [], `${what}: certain, but never received`);
  assert.deepEqual(minus(got, union(certain, possible)), [], `${what}: received, but neither certain nor possible`);
  if (exact) {
    assert.deepEqual(minus(got, certain), [], `${what}: received, but not certain though nothing was killed`);
    assert.deepEqual(minus(possible, certain), [], `${what}: possible without reason`);
  }
}

/* `*` in a received cell stands for whatever level the contract named. */
function formsMatching(sets, key) {
  if (!key.endsWith(' *')) {
    return sets.cells.get(key) ?? { certain: new Set(), possible: new Set() };
  }
  const merged = { certain: new Set(), possible: new Set() };
  for (const [name, cell] of sets.cells) {
    if (name.startsWith(`${key.slice(0, -1)}coarse:`)) {
      cell.certain.forEach((i) => merged.certain.add(i));
      cell.possible.forEach((i) => merged.possible.add(i));
    }
  }
  return merged;
}

async function compare(label, gateway, standin, world, exact, { args = [], from, to, source } = {}) {
  const { summary, sets } = await answer(gateway, world, args);
  const got = received(standin, world.people, from, to, source);
  check(`${label}: people`, sets.certain, sets.possible, got.all, exact);
  assert.equal(summary.people.certain, sets.certain.size, `${label}: count and list of certain people agree`);
  assert.equal(summary.people.possible, sets.possible.size, `${label}: count and list of possible people agree`);
  let cells = 0;
  for (const key of new Set([...got.cells.keys(), ...[...sets.cells.keys()].filter((k) => COMPARED.test(k))])) {
    if (/^user\.location\.imprecise coarse:/.test(key)) {
      continue;
    }
    const cell = formsMatching(sets, key);
    check(`${label}: ${key}`, cell.certain, cell.possible, got.cells.get(key) ?? new Set(), exact);
    cells++;
  }
  /* The counts of the summary are those of the list. */
  for (const [name, forms] of Object.entries(summary.classes)) {
    for (const [form, numbers] of Object.entries(forms)) {
      const cell = sets.cells.get(`${name} ${form}`) ?? { certain: new Set(), possible: new Set() };
      assert.deepEqual([numbers.certain ?? 0, numbers.possible ?? 0], [cell.certain.size, cell.possible.size], `${label}: ${name} ${form}: summary and list`);
    }
  }
  if (source === undefined) {
    for (const [name, people] of got.sources) {
      const numbers = summary.sources[name] ?? { certain: 0, possible: 0 };
      assert.ok(numbers.certain <= people.size && people.size <= numbers.certain + numbers.possible, `${label}: source ${name}: ${JSON.stringify(numbers)} for ${people.size}`);
      assert.ok(!exact || numbers.certain === people.size, `${label}: source ${name} exactly`);
    }
  }
  for (const name of summary.not_disclosed ?? []) {
    const hit = [...got.cells.keys()].find((key) => key === name || key.startsWith(`${name} `) || key.startsWith(`${name}.`));
    assert.equal(hit, undefined, `${label}: not_disclosed names ${name}`);
  }
  const doubts = [[undefined, sets], ...sets.cells].map(([key, cell]) => ({ label, key, from, to, source, people: minus(cell.possible, cell.certain) }));
  return { summary, cells, doubts, excess: minus(sets.possible, got.all).length };
}

// -- why something is only possible ----------------------------------------------------------------------------------

/* An attempt explains a doubt if it may have arrived in the window, and no complete answer says that it did: over all time, one without an answer. */
function leavesOpen(attempt, { from = 0, to = Infinity }) {
  if (attempt.result === RESULT.UNSENT || attempt.time >= to) {
    return false;
  }
  const answered = attempt.result === RESULT.ACCEPTED || attempt.result === RESULT.REFUSED;
  const whollyBefore = attempt.over !== undefined && attempt.over < from;
  const whollyInside = attempt.time >= from && attempt.end < to;
  return !answered || (!whollyBefore && !whollyInside);
}

/* Ties every (person, class, form) that is only possible to attempts that carry it; returns their numbers. */
function explain(gateway, world, doubts) {
  const owners = new Map(world.people.flatMap((p) => [[p.id, p.index], [p.device, p.index]]));
  const ords = readOrds(gateway.key, gateway.data, owners.keys());
  const attempts = readAttempts(gateway.key, gateway.data);
  const numbers = readSources(gateway.data);
  const named = new Set();
  let explained = 0;
  for (const doubt of doubts) {
    const reasons = new Map();
    for (const attempt of attempts.filter((a) => leavesOpen(a, doubt))) {
      for (const entry of attempt.entries.filter((e) => doubt.source === undefined || e.source === numbers[SOURCES[doubt.source]])) {
        if (doubt.key === undefined || entry.cells.includes(doubt.key)) {
          reasons.set(owners.get(ords.get(entry.ord)), attempt.number);
        }
      }
    }
    const unexplained = doubt.people.filter((index) => !reasons.has(index));
    assert.deepEqual(unexplained, [], `${doubt.label}: ${doubt.key ?? 'people'}: possible, and no attempt is without an answer`);
    doubt.people.forEach((index) => named.add(reasons.get(index)));
    explained += doubt.people.length;
  }
  return { explained, named };
}

/* Cells that the stand-in can see by itself; identifiers are compared through `people`. */
const COMPARED = /^user\.(contact\.email|contact\.phone_number|name|workplace|behavior\.browsing_history) /;
const iso = (ms) => new Date(ms).toISOString();

// -- scenarios -------------------------------------------------------------------------------------------------------

const CALM = ['send', 'send', 'send', 'contract', 'cut', '503', '429', 'late', 'split'];
const WILD = [...CALM, 'kill', 'kill', 'timeout', 'reset', 'hang-in-body', 'cut-short', 'cut-in-flight'];

async function act(action, kit, dice) {
  const { gateway, standin, world } = kit;
  const source = dice.pick([1, 2]);
  switch (action) {
    case 'contract':
      await gateway.alter('mixpanel', { allow: allowOf(dice.pick(CONTRACTS)) });
      break;
    case 'cut':
      await settle(kit);
      await gateway.cut();
      await send(gateway, world, dice.between(5, 20), source);
      await gateway.open('mixpanel', dice.chance(0.7) ? '--replay' : '--discard');
      break;
    case 'cut-in-flight':
      standin.behave({ mode: 'late', ms: 400 });
      await send(gateway, world, dice.between(20, 60), source);
      await sleep(dice.between(0, 600));
      await gateway.cut();
      standin.behave('ok');
      await gateway.open('mixpanel', '--replay');
      break;
    case 'kill':
      await send(gateway, world, dice.between(20, 80), source);
      await sleep(dice.between(0, 1200));
      await gateway.kill();
      await gateway.start();
      break;
    case 'send':
      await send(gateway, world, dice.between(10, 60), source);
      break;
    default:
      standin.behave({ mode: action, count: dice.between(1, 2), ms: dice.between(5, 200) });
      await send(gateway, world, dice.between(10, 40), source);
      await sleep(dice.between(200, 1500));
  }
}

/* Lets everything that can leave, leave: the vendor is well, and an operator does not wait for the back-off, and seldom to the end
   for an answer that hangs. */
async function settle({ gateway, standin, world }) {
  standin.behave('ok');
  const vendor = await gateway.vendor();
  const patience = vendor.state !== 'active' ? 0 : full && world.dice.chance(0.1) ? 90000 : 5000;
  await gateway.drained('mixpanel', patience).catch(async () => {
    await gateway.cut();
    await gateway.open('mixpanel', '--replay');
    await gateway.drained('mixpanel', 120000);
  });
  await sleep(1200);
}

/* Attempts that hang and are then given up by a person stay possible for ever. */
async function abandon({ gateway, standin, world }, dice) {
  standin.behave(dice.pick(['timeout', 'hang-in-body', 'reset', 'cut-short']));
  await send(gateway, world, dice.between(20, 60), dice.pick([1, 2]));
  await sleep(dice.between(1000, 2500));
  await gateway.cut();
  await gateway.open('mixpanel', '--discard');
}

async function scenario(n, seed, wild) {
  const dice = new Random(seed);
  const standin = await new Standin({ token: VENDOR_TOKEN }).start();
  const gateway = new Gateway({ name: 'exp', endpoint: standin.url, plan: PLAN, allow: allowOf(dice.pick(CONTRACTS)) });
  const world = new World(dice);
  const kit = { gateway, standin, world };
  try {
    await gateway.start();
    await gateway.open();
    const marks = [Date.now()];
    const actions = [];
    let early;
    const rounds = dice.between(3, 6);
    for (let r = 0; r < rounds; r++) {
      for (let a = dice.between(1, 3); a > 0; a--) {
        const action = dice.pick(wild ? WILD : CALM);
        actions.push(action);
        await act(action, kit, dice);
      }
      if (!wild || dice.chance(0.4)) {
        await settle(kit);
      }
      marks.push(Date.now());
      if (r === 0 && !wild) {
        early = { at: Date.now(), answer: await gateway.exposure() };
        await sleep(20);
      }
    }
    if (wild && (n % 3 === 1 || dice.chance(0.5))) {
      await abandon(kit, dice);
    }
    await settle(kit);
    marks.push(Date.now() + 1);
    const label = `scenario ${n} (${actions.join(' ')})`;
    const whole = await compare(label, gateway, standin, world, !wild);
    const doubts = [...whole.doubts];
    for (let w = 0; w < 3; w++) {
      const [from, to] = [dice.below(marks.length), dice.below(marks.length)].sort((a, b) => a - b).map((i) => marks[i]);
      if (from < to) {
        const part = await compare(`${label}, window`, gateway, standin, world, !wild, { args: ['--from', iso(from), '--to', iso(to)], from, to });
        doubts.push(...part.doubts);
      }
    }
    for (const [number, name] of Object.entries(SOURCES)) {
      const part = await compare(`${label}, source ${name}`, gateway, standin, world, !wild, { args: ['--source', name], source: Number(number) });
      doubts.push(...part.doubts);
    }
    const someone = world.people[dice.below(PEOPLE)];
    const alone = await gateway.exposure('mixpanel', ['--subject', someone.id]);
    const got = received(standin, world.people).all.has(someone.index);
    assert.ok(!got || alone.people.certain + alone.people.possible === 1, `${label}: subject ${JSON.stringify(alone.people)}`);
    assert.ok(got || alone.people.certain === 0, `${label}: subject was not received`);
    if (early) {
      const then = await gateway.exposure('mixpanel', ['--at', iso(early.at)]);
      assert.deepEqual(then.people, early.answer.people, `${label}: --at answers as it was`);
      assert.deepEqual(then.classes, early.answer.classes, `${label}: --at answers as it was`);
    }
    const verify = await gateway.run(['ledger', 'verify']);
    assert.equal(verify.code, 0, `${label}: ledger verify: ${verify.stdout}${verify.stderr}`);
    await gateway.stop();
    const dead = await gateway.exposure();
    assert.deepEqual([dead.people, dead.classes], [whole.summary.people, whole.summary.classes], `${label}: the same answer while the daemon is dead`);
    const why = explain(gateway, world, doubts);
    return { cells: whole.cells, ...why, excess: whole.excess, people: whole.summary.people, requests: standin.stats.requests };
  } finally {
    await gateway.kill();
    await standin.stop();
  }
}

/* A scenario mostly waits, so the next ones run beside it. */
const BESIDE = 3;
const plans = Array.from({ length: SCENARIOS }, (_, n) => ({ n, wild: n % 3 !== 0, seed: random.below(2 ** 31) }));
function begin(plan) {
  if (plan && plan.result === undefined) {
    plan.result = scenario(plan.n, plan.seed, plan.wild);
    plan.result.catch(() => {}); /* it is told when its own turn comes */
  }
}

let doubtful = 0;
for (const plan of plans) {
  test(`scenario ${plan.n}: ${plan.wild ? 'with crashes, hangs and resets' : 'without crash or hang: exactly equal'}`, async () => {
    begin(plan);
    for (let next = 1; next < BESIDE && !process.env.BH_ONLY; next++) {
      begin(plans[plan.n + next]);
    }
    const result = await plan.result;
    note(`seed ${plan.seed}: ${result.requests} requests at the vendor, people ${JSON.stringify(result.people)}, ${result.cells} cells compared, `
      + `${result.excess} possible beyond what was received`);
    if (result.explained > 0) {
      doubtful += result.explained;
      note(`${result.explained} times is a (person, class, form) only possible; each is explained by one of the attempts without an answer `
        + [...result.named].sort((a, b) => a - b).join(', '));
    }
  });
}

test('what is only possible happened, and was explained each time', async () => {
  note(`${doubtful} (person, class, form) in ${SCENARIOS} scenarios`);
  assert.ok(doubtful > 0);
});

await finish({ limit_ms: 5 * 60 * 1000 });
