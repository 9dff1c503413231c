// Everything that two vendors received of the same people is put to a joining attack: ids, parts of ids, what ids decode to; times, order, sizes,
// rare values. Of ids nothing may be found; what behaviour gives away is measured beside chance, and what lowers it as well (docs/THREAT-MODEL.md).

import assert from 'node:assert/strict';
import { count, finish, note, onEnd, seeded, test } from './lib/harness.mjs';
import * as joining from './lib/joining.mjs';
import { READERS } from './lib/read.mjs';
import { story, STORY_PLAN } from './lib/story.mjs';
import { Tap } from './lib/tell.mjs';
import { SOURCES, StoryGateway, tellAll, VENDORS } from './lib/story_vendors.mjs';

const random = seeded();
const PEOPLE = count(20, 300);
const told = story(random, PEOPLE);
const UNITS = { second: 1000, minute: 60000, hour: 3600000 };

/* Two vendors of each protocol with contracts of their own; and of one protocol one for each precision of time. */
const targets = SOURCES.flatMap((vendor) => ['a', 'b'].map((letter) => ({ vendor, name: `${vendor}-${letter}`, sources: [vendor] })));
for (const time of ['minute', 'hour']) {
  for (const letter of ['a', 'b']) {
    targets.push({ vendor: 'segment', name: `segment-${time}-${letter}`, sources: ['segment'], time });
  }
}
const gateway = new StoryGateway({ targets, sources: SOURCES, plan: STORY_PLAN });
const taps = {};
const sides = {};

test('the gateway starts with the contracts of init, and is opened', async () => {
  await gateway.openAll();
}, { vital: true });

test(`${told.calls.length} calls about ${PEOPLE} people are told by ${SOURCES.length} SDKs and reach ${targets.length} vendors`, async () => {
  for (const source of SOURCES) {
    taps[source] = await new Tap(gateway.url('', source)).start();
    onEnd(() => taps[source].stop());
    assert.deepEqual(await tellAll(gateway, source, told.calls, taps[source]), []);
  }
  await gateway.drainedAll();
  for (const target of targets) {
    assert.deepEqual(VENDORS[target.vendor].refusals(target.standin), [], target.name);
    const rows = READERS[target.vendor](gateway.items(target.name));
    sides[target.name] = { ...joining.sideOf(rows), batches: VENDORS[target.vendor].batches(target.standin) };
    assert.ok(sides[target.name].ids.size > PEOPLE, `${target.name}: ids are recognised as such`);
  }
}, { vital: true });

// -- the truth ---------------------------------------------------------------------------------------------------------

/* posthog-js has UUIDv7 for what others call by UUIDv4: one visitor all the same. */
const rawKey = (id) => String(id).replace(/^(.{14})7/, '$14');

/* What each raw id is at a vendor, as `preview` says it: pseudonyms do not depend on who asks. */
async function translate(target) {
  const [source] = target.sources;
  const raw = taps[source].items;
  const answer = await gateway.run(['preview', target.name, '--source', `${source}-web`], { input: `${raw.map((item) => JSON.stringify(item)).join('\n')}\n`, ms: 120000 });
  assert.equal(answer.code, 0, answer.stderr);
  assert.equal(answer.lines.length, raw.length);
  const rawRows = READERS[source](raw);
  const people = new Map();
  const groups = new Map();
  answer.lines.forEach((line, i) => {
    const event = line === null ? null : line.event === undefined || typeof line.event === 'string' ? line : line.event;
    if (event === null) {
      return;
    }
    const [row] = READERS[target.vendor]([event]);
    for (const field of ['id', 'user', 'device']) {
      if (row[field] !== undefined && rawRows[i][field] !== undefined) {
        people.set(rawKey(rawRows[i][field]), row[field]);
      }
    }
    row.groups.forEach((group, n) => groups.set(rawRows[i].groups[n], group));
  });
  return { people, groups };
}

const names = {};

test('what the vendors hold is what preview says of the same ids', async () => {
  for (const target of targets) {
    names[target.name] = await translate(target);
    const held = new Set(sides[target.name].rows.flatMap((row) => [row.id, row.user, row.device]));
    const absent = [...names[target.name].people.values()].filter((id) => !held.has(id));
    assert.deepEqual(absent, [], target.name);
  }
});

/* From people here to people there. */
function truthOf(a, b) {
  const personOf = (side) => new Map(side.rows.filter((row) => !row.isUpdate).map((row) => [row.id, row.person]));
  const [here, there] = [personOf(sides[a]), personOf(sides[b])];
  const truth = new Map();
  for (const [raw, id] of names[a].people) {
    const [from, to] = [here.get(id), there.get(names[b].people.get(raw))];
    if (from !== undefined && to !== undefined) {
      truth.set(from, to);
    }
  }
  return truth;
}

const idPairs = (a, b) => [...names[a].people].filter(([raw]) => names[b].people.has(raw)).map(([raw, id]) => [id, names[b].people.get(raw)])
  .concat([...names[a].groups].map(([raw, id]) => [id, names[b].groups.get(raw)]).filter((pair) => pair[1] !== undefined));

// -- ids ---------------------------------------------------------------------------------------------------------------

const pairs = targets.flatMap((a, i) => targets.slice(i + 1).map((b) => [a.name, b.name]));

test(`ids: no string, no eight bytes, no decoded bytes and no difference of ids is the same at two vendors (${pairs.length} pairs)`, () => {
  const sum = { links: 0, equal: 0, parts: 0, decoded: 0, differences: 0, byChance: 0 };
  const found = [];
  const made = Object.fromEntries(targets.map((target) => [target.name, joining.invented(sides[target.name], random)]));
  for (const [a, b] of pairs) {
    const [here, there] = [sides[a], sides[b]];
    const known = idPairs(a, b);
    const isLink = new Set(known.map((pair) => pair.join(' ')));
    const parts = joining.equalParts(here, there);
    const attacks = { equal: joining.equalIds(here, there), decoded: joining.equalDecoded(here, there), differences: joining.equalDifferences(known),
      'parts of a true link': parts.filter(([, from, to]) => isLink.has(`${from} ${to}`)) };
    for (const [attack, list] of Object.entries(attacks)) {
      found.push(...list.slice(0, 3).map((what) => `${a}, ${b}: ${attack} ${JSON.stringify(what)}`));
      sum[attack] = (sum[attack] ?? 0) + list.length;
    }
    sum.parts += parts.length;
    sum.links += known.length;
    sum.byChance += joining.equalParts(here, made[b]).length;
  }
  const ids = Object.values(sides).reduce((n, side) => n + side.ids.size, 0);
  note(`${ids} ids, ${sum.links} true links between two vendors; found: ${sum.equal} equal, ${sum.decoded} by eight decoded bytes, ${sum.differences} by a constant difference, `
    + `${sum['parts of a true link']} by a part; parts that are equal anywhere: ${sum.parts}, with invented ids ${sum.byChance}`);
  assert.ok(sum.links > PEOPLE * pairs.length, 'there was something to find');
  assert.deepEqual(found, []);
});

test('no counter or other leaf that numbers events is the same at two vendors', () => {
  for (const vendor of SOURCES) {
    assert.deepEqual(joining.numbering(sides[`${vendor}-a`], sides[`${vendor}-b`], new Set(['tokens', 'latency_ms', 'revenue'])), [], vendor);
  }
});

test('sessions that are numbers: as many are equal as there would be by chance', () => {
  for (const [a, b] of pairs.filter(([a, b]) => sides[a].sessions.size > 0 && sides[b].sessions.size > 0)) {
    const { of, equal, chance } = joining.equalSessions(sides[a], sides[b], UNITS.second);
    note(`${a}, ${b}: ${equal} of ${of} sessions, ${chance.toFixed(2)} by chance`);
    assert.ok(equal <= chance + 5 * Math.sqrt(chance) + 3, `${equal} of ${of}`);
  }
});

test('ids: nothing that the product itself said of a person is at a vendor', () => {
  for (const target of targets) {
    const said = joining.sideOf(READERS[target.sources[0]](taps[target.sources[0]].items), true);
    const found = [...said.ids.keys()].filter((id) => id.length >= 8 && !/^\d+$/.test(id) && sides[target.name].strings.has(id));
    assert.deepEqual(found, [], target.name);
    assert.deepEqual(joining.equalDecoded(said, sides[target.name]), [], target.name);
  }
});

test('the attacks find what is there: one key for two vendors, an id in another coat, a shifted id', () => {
  const here = sides['mixpanel-a'];
  const change = (make) => joining.sideOf(here.rows.map((row) => ({ ...row, value: { id: make(row.id) } })), true);
  const of = (make) => {
    const there = change(make);
    [...there.strings.keys()].forEach((text) => there.ids.set(text, new Set(['x'])));
    return there;
  };
  assert.ok(joining.equalIds(here, change((id) => id)).length > 0);
  assert.ok(joining.equalParts(here, of((id) => `prefix-${String(id).replace('$device:', '').slice(3, 15)}`)).length > 0);
  const hexed = of((id) => (joining.decodings(String(id))[0] ?? Buffer.alloc(0)).toString('hex'));
  assert.ok(joining.equalDecoded(here, hexed).length > 0);
  assert.ok(joining.equalDifferences([...here.ids.keys()].map((id) => [id, id])).length > 0);
});

// -- behaviour ---------------------------------------------------------------------------------------------------------

const percent = (x) => `${(100 * x).toFixed(1)} %`;

function tried(a, b, attacks) {
  const truth = truthOf(a, b);
  assert.ok(truth.size > PEOPLE / 2, `${a}, ${b}: ${truth.size} true pairs`);
  const out = {};
  for (const [name, claims] of Object.entries(attacks)) {
    out[name] = joining.judge(claims, truth, random);
    const { pairs: all, claims: n, right, recall, chance } = out[name];
    note(`${a}, ${b} | ${name}: ${n} claims, ${right} of ${all} people found (${percent(recall)}), chance ${percent(chance)}`);
  }
  return out;
}

/* No bound is promised here: that these are measured, and that none of it comes from an id, is what the suite is for. */
for (const vendor of SOURCES) {
  test(`behaviour, two vendors of ${vendor}: times, order, sizes and values join people, and how far`, () => {
    const [a, b] = [`${vendor}-a`, `${vendor}-b`];
    const [here, there] = [sides[a], sides[b]];
    const got = tried(a, b, {
      'times to the second': joining.times(here, there, 1000),
      'order of arrival': joining.order(here, there),
      'sizes of requests': joining.sizes(here, there),
      'declared values': joining.values(here, there),
      'declared values, numbers as bands': joining.values(here, there, { band: true }),
      'all of it': joining.everything(here, there, 1000),
    });
    assert.ok(got['times to the second'].recall > 0.5, 'exact times join people: were they not found, the attack would be broken');
    const groups = joining.groupsBySize(here, there);
    const right = groups.filter(([from, to]) => [...names[a].groups].some(([raw, id]) => id === from && names[b].groups.get(raw) === to)).length;
    note(`${a}, ${b} | groups by size: ${right} of ${groups.length} found, chance ${percent(1 / Math.max(1, groups.length))}`);
  });
}

test('behaviour, what the precision of time gives: second, minute, hour', () => {
  const recall = {};
  for (const [time, unit] of Object.entries(UNITS)) {
    const [a, b] = time === 'second' ? ['segment-a', 'segment-b'] : [`segment-${time}-a`, `segment-${time}-b`];
    const got = tried(a, b, { [`times to the ${time}`]: joining.times(sides[a], sides[b], unit), [`times to the ${time} and numbers`]: joining.everything(sides[a], sides[b], unit) });
    recall[time] = got[`times to the ${time}`].recall;
  }
  assert.ok(recall.second >= recall.minute && recall.minute >= recall.hour);
});

await finish();
