// A product's story by the SDKs of each protocol, through one gateway with the contracts that `init` writes: what each vendor can count from what it
// received alone is what the product's raw data says. Then every line that opens what is closed by default, as docs/utility.md names it.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { count, finish, full, note, onEnd, person, root, seeded, test, until } from './lib/harness.mjs';
import { compare, measure } from './lib/measure.mjs';
import { RULES } from './lib/read.mjs';
import { story, STORY_PLAN } from './lib/story.mjs';
import { Tap, TELLERS } from './lib/tell.mjs';
import { CROSS, OWN, SOURCES, StoryGateway, tellAll, VENDORS } from './lib/story_vendors.mjs';

const random = seeded();
const PEOPLE = count(12, 300);
const told = story(random, PEOPLE);
const own = OWN.map(([source, vendor]) => ({ vendor, name: vendor, sources: [source] }));
const targets = [...own, ...CROSS.map(([source, vendor]) => ({ vendor, name: `${vendor}-of-${source}`, sources: [source] }))];
const gateway = new StoryGateway({ targets, sources: SOURCES, plan: STORY_PLAN });
const taps = {};

test('the gateway starts with the contracts of init, and is opened', async () => {
  await gateway.openAll();
}, { vital: true });

for (const source of SOURCES) {
  test(`${source}: ${told.calls.length} calls about ${PEOPLE} people are told by its SDK and taken in`, async () => {
    const tap = taps[source] = await new Tap(gateway.url('', source)).start();
    onEnd(() => tap.stop());
    assert.deepEqual(await tellAll(gateway, source, told.calls, tap), []);
    note(`${tap.items.length} items`);
  });
}

test('everything is delivered, and no vendor refused anything', async () => {
  await gateway.drainedAll();
  for (const target of targets) {
    assert.deepEqual(VENDORS[target.vendor].refusals(target.standin), [], target.name);
  }
});

/* What differs by default, and why: the raw number becomes what is expected, and nothing else may differ. */
const numbers = {};
const EXPLAINED = [
  { what: 'pages', why: 'ids in paths leave as :id', expected: (raw) => raw.replace('/84113/', '/:id/') },
];

for (const [source, vendor] of OWN) {
  for (const [rule, read] of Object.entries(RULES[vendor])) {
    test(`${source} -> ${vendor} (${rule}): the numbers of the raw data`, () => {
      const said = (RULES[source][rule] ?? Object.values(RULES[source])[0])(taps[source].items);
      const inPlan = said.filter((row) => row.name !== 'Search Typed');
      const received = read(gateway.items(vendor));
      note(`not in the plan: Search Typed ${said.length - inPlan.length} -> ${received.filter((row) => row.name === 'Search Typed').length}`);
      assert.equal(received.filter((row) => row.name === 'Search Typed').length, 0);
      const wrong = [];
      const rows = numbers[`${source} → ${vendor}, ${rule}`] = compare(measure(inPlan), measure(received));
      for (const row of rows) {
        const reason = EXPLAINED.find((e) => e.what === row.what);
        const fits = row.same || (reason !== undefined && reason.expected(row.raw) === row.sent);
        note(`${row.same ? '=' : fits ? `~ (${reason.why})` : '!'} ${row.what}: ${row.raw}${row.same ? '' : `  ->  ${row.sent}`}`);
        if (!fits) {
          wrong.push(row);
        }
      }
      assert.deepEqual(wrong, []);
    });
  }
}

/*
 * Another protocol's vendor: what its own SDK would have said of the same story is the truth. Only what people did is compared, since one call may be two
 * there (a profile beside an identify, a group beside its property), and by the names that both have: browser and system are other words elsewhere.
 */
const DONE = new Set(['page', 'Signed Up', 'Signed In', 'Completion Run', 'Order Completed']);
/* What a source's SDK cannot say, no vendor can be told: Amplitude's knows no alias. */
const isAlias = (item) => item.event === '$create_alias' || item.type === 'alias';
const WITHOUT_ALIAS = new Set(['amplitude']);
const ELSEWHERE = new Set(['events by browser', 'values of plan']);

for (const [source, vendor] of CROSS) {
  for (const [rule, read] of Object.entries(RULES[vendor])) {
    test(`${source} -> ${vendor} (${rule}): people, funnels, retention, sessions and groups of its own SDK`, () => {
      const done = (items) => measure(read(items).filter((row) => DONE.has(row.name)), { byGaps: true });
      const rows = compare(done(taps[vendor].items.filter((item) => !WITHOUT_ALIAS.has(source) || !isAlias(item))), done(gateway.items(`${vendor}-of-${source}`)));
      const wrong = rows.filter((row) => !row.same && EXPLAINED.find((e) => e.what === row.what)?.expected(row.raw) !== row.sent);
      wrong.forEach((row) => note(`${ELSEWHERE.has(row.what) ? '~ (other words there)' : '!'} ${row.what}: ${row.raw}  ->  ${row.sent}`));
      assert.deepEqual(wrong.filter((row) => !ELSEWHERE.has(row.what)), []);
    });
  }
}

test('the comparison notices one link, one event, one session and one second that is not there', () => {
  for (const [source, vendor] of OWN) {
    const [read] = Object.values(RULES[vendor]);
    const items = gateway.items(vendor);
    const whole = measure(read(items));
    const rows = read(items);
    const link = rows.findIndex((row) => row.name === 'identify');
    const differs = (changed, what) => assert.ok(compare(whole, measure(changed)).some((row) => !row.same), `${source} -> ${vendor}: ${what}`);
    differs(rows.filter((_, i) => i !== rows.findLastIndex((row) => row.name === 'page')), 'an event');
    differs(rows.map((row, i) => (i === link ? { ...row, person: 'somebody else' } : row)), 'a link');
    differs(rows.map((row) => (row.name === 'Signed Up' ? { ...row, time: rows[0].time - 1000 } : row)), 'the order');
    differs(rows.map((row) => ({ ...row, groups: row.groups.slice(0, 0) })), 'groups');
  }
});

test('the raw data are what the script said: no vendor merges more or fewer people than its rules say', () => {
  /* Every vendor merges a sign-up and a second device; a device that was lent belongs to its first user. */
  const users = new Set(told.calls.filter((call) => call.user !== undefined).map((call) => call.person.id)).size;
  const people = Object.fromEntries(Object.entries(RULES).filter(([vendor]) => taps[vendor]).flatMap(([vendor, rules]) =>
    Object.entries(rules).map(([rule, read]) => [`${vendor}, ${rule}`, Number(measure(read(taps[vendor].items)).people)])));
  note(`${PEOPLE} people in the script, ${users} of them users; counted: ${JSON.stringify(people)}`);
  for (const [rule, n] of Object.entries(people)) {
    assert.ok(n >= users && n <= PEOPLE + told.calls.filter((call) => call.kind === 'alias').length, rule);
  }
});

// -- lines that open ---------------------------------------------------------------------------------------------------

/* One person whose every value is found again wherever it went. */
const someone = { ...person(random, 9000), name: 'Sunniva Halvorsrud', email: 'sunniva.halvorsrud@example.com', phone: '+1-202-555-0177', city: 'Reykholt', region: 'Vesturland',
  country: 'IS', ip: '203.0.113.77', org: 'org_opened', orgName: 'Halvorsrud Fisheries', plan: 'pro' };

/* What must arrive once a line of docs/utility.md stands in the contract, and must not before. `but`: where a vendor's SDK has another word for it, or none. */
const OPENED = {
  'user.location.imprecise: { coarse: region }': { is: ['Vesturland'] },
  'user.location.imprecise: raw': { is: ['Reykholt', 'Vesturland'] },
  'user.behavior.purchase_history: raw': { is: ['31337.25'] },
  'user.device: { coarse: major }': { is: [/[":]138[",}]/], not: ['138.7'] },
  'user.device: raw': { is: ['138.7'] },
  'user.contact.email: mask': { is: ['s…@example.com'] },
  'user.contact.email: raw': { is: [someone.email] },
  'user.name: raw': { is: [someone.name] },
  'user.contact.phone_number: mask': { is: ['…77'], but: { posthog: [] } }, /* PostHog has no word for a phone: the plan must declare one */
  'user.contact.organization: raw': { is: [someone.orgName] },
  'user.device.ip_address: { coarse: /24 }': { is: ['203.0.113.0'] },
  'user.behavior.browsing_history: raw': { is: ['/orders/84113/items?ref=9000'] },
  'user.demographic.language: raw': { is: ['en-GB'] },
  'user.telemetry: raw': { is: ['4.7.1'] },
  'time: ms': { time: true },
};

const holds = (text, value) => (value instanceof RegExp ? value.test(text) : text.includes(value));

/* The lines of the table, as they stand in the document. */
const documented = [...fs.readFileSync(path.join(root, 'docs/utility.md'), 'utf8').matchAll(/^\| [^|]+ \| `([^`]+)` \|/gm)].map((match) => match[1]);

test('docs/utility.md names the lines that are tried here, and no others', () => {
  assert.deepEqual([...documented].sort(), Object.keys(OPENED).sort());
});

async function tellOpened() {
  const at = Date.now() - 3600000 - random.below(600000) * 2 - 1;
  const common = { person: someone, n: 9000, user: someone.id, anon: someone.device, session: at, origin: 'web', browser: 'Chrome', os: 'Linux', version: 138.7, group: someone.org };
  const calls = [
    { ...common, kind: 'identify', traits: { plan: 'pro' } },
    { ...common, kind: 'group', traits: { plan: 'pro' } },
    { ...common, kind: 'page', path: '/orders/84113/items', query: 'ref=9000' },
    { ...common, kind: 'track', name: 'Order Completed', properties: { revenue: 31337.25, currency: 'EUR' } },
  ].map((call, i) => ({ ...call, at: at + 2 * i * 1000, id: `${String(90000000 + random.below(9999999))}-${random.hex(8)}` }));
  for (const source of SOURCES) {
    const teller = TELLERS[source](gateway.url('', source).replace(/\/$/, ''), gateway.token(source, 'web'));
    await teller.say(calls);
    await teller.end();
    assert.deepEqual(teller.errors, []);
  }
  await gateway.drainedAll();
}

async function underLines(lines) {
  const start = {};
  const [times, opened] = [lines.filter((line) => line.startsWith('time: ')), lines.filter((line) => !line.startsWith('time: '))];
  for (const target of targets) {
    target.opened = opened;
    target.time = times[0]?.slice(6);
    start[target.name] = gateway.items(target.name).length;
  }
  gateway.write();
  await gateway.reload();
  await tellOpened();
  return Object.fromEntries(targets.map((target) => {
    const items = gateway.items(target.name).slice(start[target.name]);
    return [target.name, { text: JSON.stringify(items), rows: RULES[target.vendor][Object.keys(RULES[target.vendor])[0]](items) }];
  }));
}

test('by default none of it arrives', async () => {
  for (const [vendor, { text, rows }] of Object.entries(await underLines([]))) {
    assert.ok(rows.length >= 3, vendor);
    for (const { is } of Object.values(OPENED).filter((o) => o.is)) {
      for (const value of is) {
        assert.ok(!holds(text, value), `${vendor}: ${value}`);
      }
    }
    assert.ok(rows.every((row) => row.isUpdate || row.time % 1000 < rows.length), `${vendor}: whole seconds`);
  }
});

function missing(line, vendor, { text, rows }) {
  const { is = [], not = [], but = {}, time } = OPENED[line];
  return [...(but[vendor] ?? is).filter((value) => !holds(text, value)), ...not.filter((value) => holds(text, value)).map((value) => `not ${value}`),
    ...(time && !rows.some((row) => row.time % 1000 >= rows.length) ? ['milliseconds'] : [])].map((value) => `${line}: ${vendor}: ${value}`);
}

/* Each line alone in the proof; in the small run all that can stand in one contract together, which takes two. */
function contracts() {
  const lines = Object.keys(OPENED);
  if (full) {
    return lines.map((line) => [line]);
  }
  const sets = [[], []];
  for (const line of lines) {
    const isTaken = sets[0].some((other) => other.split(':')[0] === line.split(':')[0]);
    sets[isTaken ? 1 : 0].push(line);
  }
  return sets;
}

for (const lines of contracts()) {
  test(`what ${lines.length === 1 ? lines[0] : `${lines.length} lines`} ${lines.length === 1 ? 'opens' : 'open'} arrives`, async () => {
    const got = await underLines(lines);
    assert.deepEqual(lines.flatMap((line) => own.flatMap((target) => missing(line, target.name, got[target.name]))), []);
  });
}

test('the numbers as a table', () => {
  const columns = Object.keys(numbers);
  const rows = [...new Set(columns.flatMap((column) => numbers[column].map((row) => row.what)))];
  note(`| | ${columns.join(' | ')} |`);
  note(`| --- |${' --- |'.repeat(columns.length)}`);
  for (const what of rows) {
    note(`| ${what} | ${columns.map((column) => numbers[column].find((row) => row.what === what)).map((row) => (row === undefined ? '' : row.same ? row.raw : `${row.raw} -> ${row.sent}`)).join(' | ')} |`);
  }
});

await finish();
