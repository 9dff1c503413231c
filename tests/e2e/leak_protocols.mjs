// Marked values by every source's protocol into every place that a real SDK fills: each leaf of each recorded request, a key beside it, a key
// itself, the envelope, headers and query. None may reach a vendor's stand-in, none of a never-class the disk, none the log.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { count, finish, note, root, seeded, tempFolder, test } from './lib/harness.mjs';
import { PLAN } from './lib/gateway.mjs';
import { findIn, KINDS, needles } from './lib/marks.mjs';
import { RawConnection } from './lib/raw.mjs';
import { openAll } from './lib/unseal.mjs';
import { SOURCES, StoryGateway, VENDORS } from './lib/story_vendors.mjs';

const random = seeded();
const MARKS = count(1500, 20000);
const folder = tempFolder('leakp');
/* Every source feeds every vendor. */
const targets = Object.keys(VENDORS).map((vendor) => ({ vendor, bodies: path.join(folder, vendor), sources: SOURCES }));
const gateway = new StoryGateway({ name: 'leakp', targets, sources: SOURCES, plan: PLAN });

// -- places ------------------------------------------------------------------------------------------------------------

/* All leaves and objects below a value: [keys from the root]. */
function* places(value, at = []) {
  yield at;
  if (value !== null && typeof value === 'object') {
    for (const [key, inner] of Object.entries(value)) {
      yield* places(inner, [...at, Array.isArray(value) ? Number(key) : key]);
    }
  }
}

const get = (value, at) => at.reduce((inner, key) => inner?.[key], value);
const signature = (at) => at.filter((key) => typeof key === 'string').join('/');

/* What kind of call a place belongs to: the same key in another call is another place. */
function callOf(decoded, at) {
  for (let n = at.length; n >= 0; n--) {
    const value = get(decoded, at.slice(0, n));
    const name = value?.event ?? value?.type ?? value?.event_type;
    if (typeof name === 'string') {
      return name;
    }
  }
  return 'request';
}

/* Every distinct place of the recordings, with a request that has it. Places where the SDK puts the token answer 401: one mark each is enough. */
function recordedPlaces() {
  const found = new Map();
  const base = path.join(root, 'tests/fixtures/sdk-requests');
  for (const sdk of fs.readdirSync(base).filter((name) => fs.statSync(path.join(base, name)).isDirectory())) {
    const protocol = sdk.split('-')[0];
    if (!SOURCES.includes(protocol)) {
      continue;
    }
    for (const file of fs.readdirSync(path.join(base, sdk)).filter((name) => name.endsWith('.json'))) {
      const request = JSON.parse(fs.readFileSync(path.join(base, sdk, file), 'utf8'));
      if (request.decoded === null || typeof request.decoded !== 'object' || request.method === 'OPTIONS') {
        continue;
      }
      for (const at of places(request.decoded)) {
        const key = `${protocol} ${request.path} ${callOf(request.decoded, at)} ${signature(at)}`;
        if (!found.has(key)) {
          found.set(key, { key, protocol, request, at });
        }
      }
    }
  }
  return [...found.values()];
}

/* How a value is dressed. keeps: its key goes along, by which alone some kinds are known. */
const percent = (text) => Array.from(Buffer.from(text), (b) => `%${b.toString(16).padStart(2, '0')}`).join('');
const DRESSES = [
  { make: (k, v) => v },
  { make: (k, v) => `before ${v} after` },
  { make: (k, v) => [1, v, true] },
  { keeps: true, make: (k, v) => ({ a: { [k]: v } }) },
  { keeps: true, make: (k, v) => [{ [k]: v }] },
  { keeps: true, make: (k, v) => JSON.stringify({ [k]: v }) },
  { make: (k, v) => Buffer.from(v).toString('base64') },
  { make: (k, v) => percent(v) },
  { keeps: true, make: (k, v) => `https://app.example.com/a?x=1&${k}=${encodeURIComponent(v)}` },
  /* The words of a path are a declared place (docs/THREAT-MODEL.md): only what is recognised is held back there. */
  { detected: true, make: (k, v) => `https://app.example.com/a/${encodeURIComponent(v)}/b` },
];

/*
 * Where a word that nobody listed leaves as it is, because the plan or the protocol says that words stand there (an SDK's name and version, a
 * campaign, a flag): kinds that nothing recognises are not put there. What inspection recognises is, as everywhere.
 */
const OPEN = new RegExp(`(^|/)(${['model', '\\$lib', '\\$lib_version', 'mp_lib', 'mp_sent_by_lib_version', '[$\\w]*utm_\\w+', '\\$event_type', '\\$recording_status', '\\$sdk_\\w+',
  '\\$config_defaults', '\\$web_vitals_allowed_metrics', '\\$session_recording_recorder_version_server_side', '\\$feature_flag\\w*', '\\$active_feature_flags', '\\$navigation_type',
  '\\$copy_type', '\\$experiment_\\w+', '\\$variant_source', '\\$bucket', '\\$geo_source', 'context/campaign/\\w+', 'context/library/\\w+', '_metadata/\\w+', 'channel',
  'version'].join('|')})$`);

const DEDUPE = new Set(['uuid', '$insert_id', 'messageId', 'insert_id']);

/* A retry is not taken twice: every message is a new one. */
function refresh(value) {
  if (value !== null && typeof value === 'object') {
    for (const [key, inner] of Object.entries(value)) {
      if (DEDUPE.has(key) && typeof inner === 'string') {
        value[key] = random.uuid();
      } else {
        refresh(inner);
      }
    }
  }
}

function* marked() {
  const all = random.shuffle(recordedPlaces());
  const kinds = Object.keys(KINDS);
  for (let n = 0; n < MARKS; n++) {
    const place = all[n % all.length];
    const decoded = structuredClone(place.request.decoded);
    refresh(decoded);
    const old = get(decoded, place.at);
    const isObject = old !== null && typeof old === 'object' && !Array.isArray(old);
    const how = isObject ? random.pick(['beside', 'beside', 'key']) : 'value';
    let dress = random.pick(DRESSES);
    const fits = (kind) => (!kind.byKey || how === 'beside' || dress.keeps) && !(kind.onlySchema && (dress.detected || OPEN.test(signature(place.at))));
    let kindName = kinds[(n + Math.floor(n / all.length)) % kinds.length];
    while (!fits(KINDS[kindName]) || (how === 'key' && KINDS[kindName].byKey)) {
      kindName = random.pick(kinds);
      dress = random.pick(DRESSES);
    }
    const kind = KINDS[kindName];
    const key = kind.keys ? random.pick(kind.keys) : random.pick(['detail', 'value', 'info']);
    const value = kind.make(random);
    if (how === 'beside') {
      old[key] = dress.keeps ? dress.make(key, value) : kind.byKey ? value : dress.make(key, value);
    } else if (how === 'key') {
      old[value] = random.pick([1, { a: 1 }, 'x']);
    } else if (place.at.length > 0) {
      get(decoded, place.at.slice(0, -1))[place.at.at(-1)] = dress.make(key, value);
    }
    yield { n, place, how, kindName, kind, value, decoded };
  }
}

// -- ways in -----------------------------------------------------------------------------------------------------------

function request(method, target, headers, body) {
  const head = Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`).join('');
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\n${head}\r\n`, 'latin1'), body]);
}

const post = (target, headers, body) => request('POST', target, { ...headers, 'Content-Length': body.length }, body);
const base64 = (text) => Buffer.from(text).toString('base64');
const WAYS = {
  JSON: (t, h, json) => post(t, { ...h, 'Content-Type': 'application/json' }, Buffer.from(json)),
  'JSON as text': (t, h, json) => post(t, { ...h, 'Content-Type': 'text/plain' }, Buffer.from(json)),
  gzip: (t, h, json) => post(t, { ...h, 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' }, zlib.gzipSync(json)),
  'gzip as a form': (t, h, json) => post(t, { ...h, 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Encoding': 'gzip' }, zlib.gzipSync(json)),
  'gzip, unannounced': (t, h, json) => post(t, { ...h, 'Content-Type': 'text/plain' }, zlib.gzipSync(json)),
  chunked: (t, h, json) => request('POST', t, { ...h, 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' },
    Buffer.concat([Buffer.from(`${Buffer.byteLength(json).toString(16)}\r\n`), Buffer.from(json), Buffer.from('\r\n0\r\n\r\n')])),
};
/* Of those whose SDKs put data= into a form or a query. */
const FORMS = {
  form: (t, h, json) => post(t, { ...h, 'Content-Type': 'application/x-www-form-urlencoded' }, Buffer.from(`data=${encodeURIComponent(base64(json))}`)),
  query: (t, h, json) => request('GET', `${t}?data=${encodeURIComponent(base64(json))}`, h, Buffer.alloc(0)),
};

const all = [...marked()];
note(`${recordedPlaces().length} places in the recordings`);
const list = needles(KINDS);
const never = needles(Object.fromEntries(Object.entries(KINDS).filter(([, kind]) => kind.never)));

test('the gateway starts with the contracts of init, and is opened', async () => {
  /* The recordings' own tokens are those of the sources. */
  for (const source of SOURCES) {
    const tokens = new Set();
    for (const { place } of all.filter((mark) => mark.place.protocol === source)) {
      const { headers, decoded } = place.request;
      const basic = /^Basic (.+)/.exec(headers.authorization ?? '');
      const first = Array.isArray(decoded) ? decoded[0] : decoded;
      [basic && Buffer.from(basic[1], 'base64').toString().split(':')[0], decoded.api_key, decoded.writeKey, first?.properties?.token, first?.$token]
        .filter((token) => typeof token === 'string' && token.length > 8).forEach((token) => tokens.add(token));
    }
    gateway.recorded[source] = [...tokens];
  }
  await gateway.openAll();
}, { vital: true });

test(`${MARKS} marks by ${SOURCES.length} protocols into ${new Set(all.map((mark) => mark.place.key)).size} places are taken in or refused`, async () => {
  const statuses = {};
  const connections = await Promise.all(Array.from({ length: 8 }, () => new RawConnection(gateway.ports.ingest).open()));
  let next = 0;
  await Promise.all(connections.map(async (first) => {
    let connection = first;
    while (next < all.length) {
      const mark = all[next++];
      const { protocol, request: recorded } = mark.place;
      const ways = Object.values(protocol === 'mixpanel' ? { ...WAYS, ...FORMS } : protocol === 'posthog' ? { ...WAYS, form: FORMS.form } : WAYS);
      const headers = recorded.headers.authorization ? { Authorization: recorded.headers.authorization } : {};
      connection.send(ways[mark.n % ways.length](`/${protocol}${recorded.path}`, headers, JSON.stringify(mark.decoded)));
      const answer = await connection.answer(10000);
      assert.ok(answer, `an answer to ${mark.kindName} in ${mark.place.key}`);
      statuses[`${protocol} ${answer.status}`] = (statuses[`${protocol} ${answer.status}`] ?? 0) + 1;
      assert.deepEqual(findIn(Buffer.from(answer.body + JSON.stringify(answer.headers)), list, 'reply'), [], mark.place.key);
      if (answer.headers.connection === 'close' || answer.status >= 400) {
        connection.destroy();
        connection = await new RawConnection(gateway.ports.ingest).open();
      }
    }
    connection.destroy();
  }));
  note(`statuses ${JSON.stringify(statuses)}`);
  for (const source of SOURCES) {
    const sum = (from) => Object.entries(statuses).filter(([key]) => key.startsWith(`${source} ${from}`)).reduce((n, entry) => n + entry[1], 0);
    assert.ok(sum(2) > sum('') * 0.8, `${source}: most are taken`);
  }
});

test('marks in headers, cookies and unknown query keys are taken no notice of', async () => {
  for (const source of SOURCES) {
    const { place: { request: recorded } } = all.find((mark) => mark.place.protocol === source);
    for (const kind of Object.values(KINDS)) {
      const value = kind.make(random).replace(/\s+/g, ' ');
      const connection = await new RawConnection(gateway.ports.ingest).open();
      const decoded = structuredClone(recorded.decoded);
      refresh(decoded);
      connection.send(WAYS.JSON(`/${source}${recorded.path}?password=${encodeURIComponent(value)}&x=${encodeURIComponent(value)}`, { Cookie: `AMP_x=${value}`, 'User-Agent': value,
        Referer: `https://x.example.com/?q=${encodeURIComponent(value)}`, 'X-Forwarded-For': value, Authorization: recorded.headers.authorization ?? `Bearer ${value}` }, JSON.stringify(decoded)));
      assert.ok(await connection.answer());
      connection.destroy();
    }
  }
});

/* Where in the vendor's items marks of these kinds stand, for who must find out why. */
function placesOf(items, kinds) {
  const wanted = list.filter((needle) => kinds.has(needle.kind)).map((needle) => needle.text);
  const found = new Map();
  for (const item of items) {
    for (const at of places(item)) {
      const value = get(item, at);
      const text = `${typeof value === 'string' ? value : ''} ${at.at(-1)}`;
      if (wanted.some((needle) => text.includes(needle))) {
        found.set(signature(at), (found.get(signature(at)) ?? 0) + 1);
      }
    }
  }
  return [...found].map(([at, n]) => `${at} ${n}`).join(', ');
}

test('no mark reached a vendor, in no disguise', async () => {
  await gateway.drainedAll();
  let sum = 0;
  for (const target of targets) {
    const bytes = gateway.bytes(target);
    const items = gateway.items(target.name).length;
    assert.ok(items > MARKS / 20, `${target.name}: ${items} items arrived`);
    const found = findIn(bytes, list, target.name);
    if (found.length > 0) {
      note(`${target.name}: ${found.map((f) => f.kind)} at ${placesOf(gateway.items(target.name), new Set(found.map((f) => f.kind)))}`);
    }
    sum += found.length;
    note(`${target.name}: ${bytes.length} bytes, ${items} items searched for ${list.length} needles: ${found.length}`);
  }
  assert.equal(sum, 0);
});

test('no value of a class that must never be on disk is in journal or ledger, opened with the master key', () => {
  const parts = openAll(gateway.key, gateway.data);
  const journal = Buffer.concat(parts.filter((p) => p.where === 'journal').map((p) => p.bytes));
  assert.ok(findIn(journal, needles({ undeclared: KINDS.undeclared }), 'journal').length > 0, 'the journal was really opened: undeclared values are kept, sealed');
  const found = parts.flatMap(({ where, bytes }) => findIn(bytes, never, where));
  note(`${parts.length} parts, ${journal.length} bytes of journal opened; ${found.length} found`);
  assert.deepEqual(found, []);
});

test('no mark is in what the gateway printed', async () => {
  for (const text of [gateway.log, (await gateway.metrics()).text, (await gateway.run(['status'])).stdout]) {
    assert.deepEqual(findIn(Buffer.from(text), list, 'printed'), []);
  }
});

test('the search finds what a contract lets out: the same marks with e-mail opened', async () => {
  for (const target of targets) {
    target.opened = ['user.contact.email: raw'];
    target.before = gateway.bytes(target).length;
  }
  gateway.write();
  await gateway.reload();
  const emails = needles({ email: KINDS.email });
  const byTarget = {};
  for (const place of recordedPlaces().filter((p) => /(^|\/)\$?email$/.test(signature(p.at)))) {
    const decoded = structuredClone(place.request.decoded);
    refresh(decoded);
    get(decoded, place.at.slice(0, -1))[place.at.at(-1)] = KINDS.email.make(random);
    const connection = await new RawConnection(gateway.ports.ingest).open();
    const { authorization } = place.request.headers;
    connection.send(WAYS.JSON(`/${place.protocol}${place.request.path}`, authorization ? { Authorization: authorization } : {}, JSON.stringify(decoded)));
    await connection.answer();
    connection.destroy();
  }
  await gateway.drainedAll();
  for (const target of targets) {
    byTarget[target.name] = findIn(gateway.bytes(target).subarray(target.before), emails, target.name).length;
  }
  note(`found: ${JSON.stringify(byTarget)}`);
  assert.ok(Object.values(byTarget).every((n) => n > 0));
});

await finish();
