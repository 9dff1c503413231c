// A product's story by the SDKs of each protocol, through one gateway with the contracts that `init` writes: what each vendor can count from what it
// received alone is what the product's raw data says. Then every line that opens what is closed by default, as docs/utility.md names it.

import assert from 'node:assert/strict';
import { count, finish, note, onEnd, seeded, test } from './lib/harness.mjs';
import { compare, measure } from './lib/measure.mjs';
import { RULES } from './lib/read.mjs';
import { requestsOf, story, STORY_PLAN } from './lib/story.mjs';
import { Tap, TELLERS } from './lib/tell.mjs';
import { PAIRS, SOURCES, StoryGateway, VENDORS } from './lib/vendors.mjs';

const random = seeded();
const PEOPLE = count(12, 300);
const told = story(random, PEOPLE);
const targets = [...new Set(PAIRS.map(([, vendor]) => vendor))].map((vendor) => ({ vendor, sources: PAIRS.filter((pair) => pair[1] === vendor).map((pair) => pair[0]) }));
const gateway = new StoryGateway({ targets, sources: SOURCES, plan: STORY_PLAN });
const taps = {};

test('the gateway starts with the contracts of init, and is opened', async () => {
  await gateway.openAll();
}, { vital: true });

for (const source of SOURCES) {
  test(`${source}: ${told.calls.length} calls about ${PEOPLE} people are told by its SDK and taken in`, async () => {
    const tap = taps[source] = await new Tap(gateway.url('', source)).start();
    onEnd(() => tap.stop());
    const tellers = Object.fromEntries(['web', 'api'].map((origin) => [origin, TELLERS[source](`${tap.origin}/${source}`, gateway.token(source, origin))]));
    for (const calls of requestsOf(told.calls)) {
      await tellers[calls[0].origin].say(calls);
    }
    for (const teller of Object.values(tellers)) {
      await teller.end();
      assert.deepEqual(teller.errors, []);
    }
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
const EXPLAINED = [
  { what: 'pages', why: 'ids in paths leave as :id', expected: (raw) => raw.replace('/84113/', '/:id/') },
];

for (const [source, vendor] of PAIRS) {
  for (const [rule, read] of Object.entries(RULES[vendor])) {
    test(`${source} -> ${vendor} (${rule}): the numbers of the raw data`, () => {
      const said = (RULES[source][rule] ?? Object.values(RULES[source])[0])(taps[source].items);
      const inPlan = said.filter((row) => row.name !== 'Search Typed');
      const received = read(gateway.items(vendor));
      note(`not in the plan: Search Typed ${said.length - inPlan.length} -> ${received.filter((row) => row.name === 'Search Typed').length}`);
      assert.equal(received.filter((row) => row.name === 'Search Typed').length, 0);
      const wrong = [];
      for (const row of compare(measure(inPlan), measure(received))) {
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

await finish();
