// All SDKs unmodified, the latest and an older major of each, side by side against one gateway that feeds every vendor: what was
// acknowledged arrives once, and what an SDK gives up is what the table of docs/sdk.md says.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { count, finish, modulePath, note, onEnd, root, seeded, sleep, tempFolder, test, until } from './lib/harness.mjs';
import { namesIn } from './lib/carried.mjs';
import { Gateway } from './lib/gateway.mjs';
import { Proxy } from './lib/proxy.mjs';
import { Pages } from './lib/sdk_pages.mjs';
import { SDKS, startSdk } from './lib/sdks.mjs';
import { protocols, startVendor, vendorKey } from './lib/vendors.mjs';

seeded();
/* Which vendors the events of a protocol's SDKs reach. */
const TARGETS = { mixpanel: ['mixpanel'], posthog: ['posthog'], segment: ['segment'], rudder: ['rudder'], amplitude: ['amplitude'] };
const EACH = count(4, 40);
const folder = tempFolder('all');
const full = path.join(folder, 'full');
const vendors = {};
for (const protocol of protocols) {
  vendors[protocol] = await startVendor(protocol);
  onEnd(() => vendors[protocol].stop());
}
const gateway = new Gateway({ name: 'all', env: { VENDOR_KEY: vendorKey, BULKHEAD_FAULTS: `seed=1,enospc=journal:@${full}` },
  vendors: protocols.map((vendor) => ({ vendor, connector: vendor, endpoint: vendors[vendor].url, credential: 'VENDOR_KEY' })),
  sources: protocols.flatMap((p) => ['server', 'browser'].map((trust) =>
    `{ name: ${trust}-${p}, protocol: ${p}, token: ${trust}_${p}_token, trust: ${trust}, vendors: [${TARGETS[p].join(', ')}] }`)) });
const pages = new Pages();
onEnd(() => pages.stop());

/* One proxy each between an SDK and the gateway: it notes what was acknowledged, and spoils. */
const clients = SDKS.map((sdk) => ({ sdk, proxy: new Proxy('http://127.0.0.1:1'), sent: new Set() }));
const versionOf = (name) => JSON.parse(fs.readFileSync(path.join(modulePath(name), 'package.json'), 'utf8')).version;

// -- what the page says ------------------------------------------------------------------------------------------------

const COLUMNS = { 503: 1, 429: 2, reset: 3 };

/* The row of the page's table that tells of this SDK; "as above" is the cell above. */
function cellOf(sdk, column) {
  const rows = fs.readFileSync(path.join(root, 'docs/sdk.md'), 'utf8').split('\n').filter((line) => line.startsWith('| '))
    .map((line) => line.split('|').slice(1).map((cell) => cell.trim()));
  let at = rows.findIndex((row) => row[0] === sdk.row);
  assert.ok(at >= 0, `docs/sdk.md has no row '${sdk.row}'`);
  while (rows[at][column] === 'as above') {
    at--;
  }
  return rows[at][column];
}

/* lost: the SDK gives up at once what was refused so; may: it may; kept: it does not. An outage can outlast its retries, or cut off an answer. */
function fateOf(sdk, fault, { outage = false } = {}) {
  const cell = cellOf(sdk, COLUMNS[fault]);
  if (outage) {
    return /lo(st|se)/.test(cell) ? 'may' : 'kept';
  }
  return /^\**lost/.test(cell) ? 'lost' : /may lose/.test(cell) ? 'may' : 'kept';
}

// -- what was acknowledged, and what arrived ---------------------------------------------------------------------------

const NAME = /Step sdk\d+-[a-z0-9]+-\d+/g;

const carried = (client, is) => new Set(client.proxy.requests.filter((r) => client.sdk.isEvents(r.url) && is(r)).flatMap((r) => [...namesIn(r, NAME)]));
const acknowledged = (client) => carried(client, (r) => r.status === 200 && (r.spoiled === undefined || r.spoiled === 'slow'));
const refused = (client) => carried(client, (r) => r.status !== 200);

function arrivedAt(vendor) {
  const counts = new Map();
  for (const name of vendors[vendor].names()) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

async function begin(client) {
  const { sdk, proxy } = client;
  proxy.requests.length = 0;
  client.sent.clear();
  proxy.spoil(undefined, 0);
  Object.assign(client, await startSdk(sdk, `${proxy.url}/${sdk.protocol}`, `${sdk.node ? 'server' : 'browser'}_${sdk.protocol}_token`, pages));
}

async function sendOne(client, scenario, n, by = client.send) {
  const name = `Step ${client.sdk.id}-${scenario}-${n}`;
  client.sent.add(name);
  await by(name);
}

async function sendAll(client, scenario, pause) {
  for (let n = 0; n < EACH; n++) {
    await sendOne(client, scenario, n);
    await sleep(pause);
  }
}

/* Waits for what must come and a little longer, then holds every client against its fate. */
async function judge(list, fateFor, { wait = 40000, quiet = false, unseen = false } = {}) {
  const missing = (client) => [...client.sent].filter((name) => !arrivedAt(client.sdk.protocol).has(name));
  const expected = (client) => (fateFor(client.sdk) === 'kept' ? missing(client) : [...acknowledged(client)].filter((name) => missing(client).includes(name)));
  await until(() => list.every((client) => expected(client).length === 0),
    () => `to arrive: ${list.filter((c) => expected(c).length > 0).map((c) => `${c.sdk.name} ${expected(c)} [${c.proxy.requests.map((r) => `${r.method} ${r.url.slice(0, 40)} ${r.spoiled ?? ''}${r.status}`).slice(-6)}]`).join('; ')}`, wait, 200);
  await Promise.all(list.filter((c) => c.sdk.node).map((c) => c.end()));
  for (const vendor of protocols) {
    await gateway.drained(vendor);
    assert.deepEqual(vendors[vendor].refusals(), [], vendor);
  }
  const lost = [];
  for (const client of list) {
    const { sdk, errors } = client;
    const given = acknowledged(client);
    for (const target of TARGETS[sdk.protocol]) {
      const arrived = arrivedAt(target);
      for (const name of client.sent) {
        assert.ok((arrived.get(name) ?? 0) <= 1, `${sdk.name}: '${name}' ${arrived.get(name)} times at ${target}`);
        assert.ok(!given.has(name) || arrived.get(name) === 1, `${sdk.name}: '${name}' was acknowledged and did not arrive at ${target}`);
      }
    }
    const gone = missing(client);
    const fate = fateFor(sdk);
    assert.ok(fate !== 'kept' || gone.length === 0, `${sdk.name} lost ${gone}`);
    assert.ok(unseen || gone.every((name) => refused(client).has(name)), `${sdk.name}: lost what was never refused: ${gone}`);
    if (fate === 'lost' && !unseen) {
      assert.deepEqual(gone.sort(), [...refused(client)].filter((name) => !given.has(name)).sort(), `${sdk.name} gives up what is refused, says docs/sdk.md`);
    }
    if (gone.length > 0) {
      lost.push(`${sdk.name} ${gone.length}`);
    }
    /* A network that fails is told by the browser itself; an error of a page never is the network's. */
    assert.deepEqual(errors.filter((e) => (!quiet || e.startsWith('page error')) && !sdk.says?.test(e)), [], `${sdk.name}: on its page`);
  }
  note(`${list.reduce((sum, c) => sum + c.sent.size, 0)} events of ${list.length} SDKs, given up: ${lost.join(', ') || 'none'}`);
  await Promise.all(list.filter((c) => c.sdk.page).map((c) => c.end()));
}

const inBrowsers = clients.filter((client) => client.sdk.page);

// -- the cases ---------------------------------------------------------------------------------------------------------

test('the gateway starts, every vendor is opened, and all SDKs are there', async () => {
  await gateway.start();
  for (const vendor of protocols) {
    await gateway.open(vendor);
  }
  await pages.start();
  for (const client of clients) {
    await client.proxy.start();
    onEnd(() => client.proxy.stop());
    client.proxy.target = new URL(`http://127.0.0.1:${gateway.ports.ingest}`);
  }
  note(SDKS.map(({ name }) => `${name} ${versionOf(name)}`).join(', '));
}, { vital: true });

test('normal flow: every event once, nothing repeated, and pages without an error or a warning', async () => {
  await Promise.all(clients.map(begin));
  await Promise.all(clients.map((client) => sendAll(client, 'normal', 50)));
  await judge(clients, () => 'kept');
  assert.deepEqual(protocols.map((p) => [p, vendors[p].repeated()]), protocols.map((p) => [p, 0]));
});

test('the gateway is killed in mid-flow and started again', async () => {
  await Promise.all(clients.map(begin));
  const sending = Promise.all(clients.map((client) => sendAll(client, 'kill', 2000 / EACH)));
  for (let round = 0; round < count(1, 4); round++) {
    await sleep(600);
    await gateway.kill();
    await sleep(400);
    await gateway.start();
  }
  await sending;
  await judge(clients, (sdk) => fateOf(sdk, 'reset', { outage: true }), { quiet: true });
});

test('the journal\'s disk is full: each SDK is answered as costs it least', async () => {
  /* A segment that is begun has its place already: the disk is full for the next one. */
  await gateway.kill();
  fs.writeFileSync(full, '');
  await gateway.start({ ready: false });
  await until(async () => (await gateway.health('/healthz').catch(() => ({}))).status === 200, 'alive');
  await Promise.all(clients.map(begin));
  await Promise.all(clients.map((client) => sendAll(client, 'full', 0)));
  await until(() => clients.every((client) => refused(client).size > 0), () => `a refusal of ${clients.filter((c) => refused(c).size === 0).map((c) => c.sdk.name)}`, 30000);
  fs.rmSync(full);
  const answers = new Map(clients.map(({ sdk, proxy }) => [sdk.name, [...new Set(proxy.requests.filter((r) => sdk.isEvents(r.url) && ![200, undefined].includes(r.status)).map((r) => r.status))]]));
  for (const { sdk } of clients) {
    assert.deepEqual(answers.get(sdk.name), [sdk.protocol === 'segment' ? 429 : 503], sdk.name);
  }
  await judge(clients, (sdk) => fateOf(sdk, sdk.protocol === 'segment' ? 429 : 503, { outage: true }), { quiet: true });
});

for (const fault of ['503', '429', 'reset', 'slow']) {
  test(`the network between ${fault === 'reset' ? 'resets connections' : fault === 'slow' ? 'is slow' : `answers ${fault}`}`, async () => {
    await Promise.all(clients.map(begin));
    for (const { proxy, sdk } of clients) {
      proxy.spoil(fault, count(1, 2), { only: sdk.isEvents });
    }
    await Promise.all(clients.map((client) => sendAll(client, fault, 50)));
    await judge(clients, (sdk) => (fault === 'slow' ? 'kept' : fateOf(sdk, fault)), { quiet: true });
    assert.ok(clients.every(({ proxy }) => proxy.requests.some((r) => r.spoiled === fault)), 'each was spoiled');
  });
}

test('a browser goes offline and comes back', async () => {
  await Promise.all(inBrowsers.map(begin));
  await Promise.all(inBrowsers.map(async (client) => {
    await sendOne(client, 'offline', 0);
    await until(() => acknowledged(client).size > 0, `the first event of ${client.sdk.name}`);
    await client.offline(true);
    await sendOne(client, 'offline', 1);
    await sendOne(client, 'offline', 2);
    await sleep(1500);
    await client.offline(false);
    await sendOne(client, 'offline', 3);
  }));
  await judge(inBrowsers, (sdk) => (fateOf(sdk, 'reset') === 'lost' ? 'lost' : 'kept'), { quiet: true, unseen: true });
});

test('a page is left at once: what waited arrives, and once', async () => {
  await Promise.all(inBrowsers.map(begin));
  await Promise.all(inBrowsers.map(async (client) => {
    await sendOne(client, 'leave', 0);
    await until(() => acknowledged(client).size > 0, `the first event of ${client.sdk.name}`);
    await sendOne(client, 'leave', 1, client.leave);
  }));
  await judge(inBrowsers, () => 'kept');
});

await finish({ limit_ms: 180000 });
