// The demo: what happens to a person's data with a vendor alone, and with Bulkhead between. Real SDKs, a real browser, the real
// program, a stand-in vendor; everything on this machine. Beautiful on a terminal, plain when piped.

import fs from 'node:fs';
import path from 'node:path';
import { finishQuietly, person, Random, sleep } from '../tests/e2e/lib/harness.mjs';
import { Gateway, post, SERVER_TOKEN, BROWSER_TOKEN, VENDOR_TOKEN } from '../tests/e2e/lib/gateway.mjs';
import { Standin } from '../tests/e2e/lib/standin.mjs';
import { NodeSdk, serverStory } from '../tests/e2e/lib/sdk-node.mjs';
import { Browser, visitorStory } from '../tests/e2e/lib/sdk-browser.mjs';

const tty = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code) => (text) => (tty ? `\x1b[${code}m${text}\x1b[0m` : String(text));
const bold = paint(1);
const dim = paint(2);
const red = paint(31);
const green = paint(32);
const yellow = paint(33);
const say = (text = '') => process.stdout.write(`${text}\n`);
const number = (n) => n.toLocaleString('en-US');
const begun = Date.now();
let step = 0;

function title(text) {
  step++;
  const clock = ((Date.now() - begun) / 1000).toFixed(0).padStart(2);
  say(`\n${bold(`${step}  ${text}`)}  ${dim(`${clock} s`)}\n${dim('─'.repeat(tty ? 88 : 60))}`);
}

function check(ok, text) {
  say(`  ${ok ? green('✓') : red('✗')} ${text}`);
  if (!ok) {
    process.exitCode = 1;
  }
}

const random = new Random(20251109);
const people = Array.from({ length: 12 }, (_, i) => person(random, i));
const visitor = person(random, 100);
const everyone = [...people, visitor];

/* The same product traffic, whatever stands at the other end. */
async function traffic(url, serverToken, browserToken, browser) {
  const sdk = new NodeSdk(url, serverToken);
  const dice = new Random(7);
  await Promise.all(people.map((p) => serverStory(sdk, p, dice)));
  const page = await browser.visit(url, browserToken);
  await visitorStory(page, visitor);
  await sleep(700);
  await page.leave();
  await page.close();
}

/* What a thief of this vendor's dump can read about our people. */
function readable(standin) {
  const dump = JSON.stringify(standin.items.map((entry) => entry.item ?? entry));
  const kinds = {
    names: everyone.map((p) => p.name),
    'e-mail addresses': everyone.map((p) => p.email),
    'phone numbers': everyone.map((p) => p.phone),
    'user ids': everyone.map((p) => p.id),
    cities: [...new Set(everyone.map((p) => p.city))],
    'IP addresses': everyone.map((p) => p.ip),
  };
  return Object.entries(kinds).map(([kind, values]) => {
    const found = values.filter((value) => dump.includes(JSON.stringify(value).slice(1, -1)) || dump.includes(encodeURIComponent(value)));
    return { kind, found: found.length, of: values.length, example: found[0] };
  });
}

function showReadable(rows) {
  for (const { kind, found, of, example } of rows) {
    const bar = (tty ? '█' : '#').repeat(Math.round((found / of) * 20)).padEnd(20, tty ? '░' : '.');
    const colour = found > 0 ? red : green;
    say(`  ${kind.padEnd(18)} ${colour(bar)} ${String(found).padStart(3)} of ${of}${example ? dim(`   e.g. ${example}`) : ''}`);
  }
}

const itemOf = (entry) => entry.item ?? entry;

function sideBySide(sent, got) {
  const short = (value) => {
    const text = value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value);
    return text.length > 42 ? `${text.slice(0, 41)}…` : text;
  };
  say(`  ${dim(`${''.padEnd(18)} ${'the SDK sent'.padEnd(43)} the vendor got`)}`);
  const keys = [...new Set([...Object.keys(sent), ...Object.keys(got)])].filter((k) => k !== 'token' && k !== '$token');
  for (const key of keys.slice(0, 14)) {
    const before = short(sent[key]);
    const after = short(got[key]);
    const shown = after === '' ? yellow('withheld') : before === after ? after : green(after);
    say(`  ${key.padEnd(18).slice(0, 18)} ${before.padEnd(43)} ${shown}`);
  }
}

/* Posts batches until told to stop; remembers which events were acknowledged. */
class Load {
  constructor(gateway) {
    this.gateway = gateway;
    this.next = 0;
    this.acknowledged = new Set();
    this.running = true;
    this.done = Promise.all(Array.from({ length: 8 }, () => this.one()));
  }

  async one() {
    while (this.running) {
      const first = this.next;
      this.next += 20;
      const items = Array.from({ length: 20 }, (_, i) => ({ event: 'Step 1', properties: { token: SERVER_TOKEN,
        distinct_id: `load_${(first + i) % 500}`, $insert_id: `load-${first + i}`, time: Math.floor(Date.now() / 1000), tokens: first + i } }));
      try {
        const answer = await post(this.gateway.ports.ingest, '/mixpanel/track', items);
        if (answer.status === 200) {
          items.forEach((_, i) => this.acknowledged.add(first + i));
        }
      } catch {
        await sleep(20);
      }
    }
  }

  stop() {
    this.running = false;
    return this.done;
  }
}

const serials = (standin) => standin.items.map(itemOf).filter((i) => i.event === 'Step 1' && Number.isInteger(i.properties.tokens))
  .map((i) => i.properties.tokens);

async function main() {
  say(`${bold('Bulkhead')}: one breached vendor does not sink the company's users.\n`
    + dim('Unmodified Mixpanel SDKs (node, and the browser SDK in Chromium), the real program, a stand-in for the vendor.'));
  const browser = await new Browser().start();

  title('Without Bulkhead: the SDKs send straight to the vendor. What its thief reads');
  const direct = await new Standin({ token: VENDOR_TOKEN }).start();
  await traffic(direct.url, VENDOR_TOKEN, VENDOR_TOKEN, browser);
  const before = readable(direct);
  showReadable(before);

  title('With Bulkhead between: the same traffic, one changed line in each SDK');
  const vendor = await new Standin({ token: VENDOR_TOKEN }).start();
  const gateway = new Gateway({ name: 'demo', endpoint: vendor.url });
  await gateway.start();
  say(dim('  a new vendor starts cut: events are taken and kept, nothing leaves before an operator says so'));
  await traffic(gateway.url(), SERVER_TOKEN, BROWSER_TOKEN, browser);
  check(vendor.items.length === 0, `${number((await gateway.vendor()).backlog)} events kept, ${vendor.items.length} sent`);
  await gateway.open('mixpanel', '--replay');
  await gateway.drained();
  showReadable(readable(vendor));
  check(readable(vendor).every((row) => row.found === 0), 'nothing of it in the clear at the vendor, and its funnels still work:');
  const pick = (standin, event) => itemOf(standin.items.find((e) => itemOf(e).event === event) ?? {}).properties ?? {};
  say();
  sideBySide(pick(direct, 'Signed Up'), pick(vendor, 'Signed Up'));

  title('A bad release puts an e-mail into a URL and a key into a text');
  const secret = `sk_live_${'51H8zEAbCdEfGhIjKlMnOpQrStUvWxYz'.slice(0, 32)}`;
  const victim = people[0];
  await post(gateway.ports.ingest, '/mixpanel/track', [{ event: 'Signed In', properties: { token: SERVER_TOKEN, distinct_id: victim.id,
    $insert_id: 'bad-release-1', time: Math.floor(Date.now() / 1000), page: `https://app.example.com/reset?email=${encodeURIComponent(victim.email)}`,
    note: `my key is ${secret}, please check`, model: secret } }]);
  await gateway.drained();
  const dump = JSON.stringify(vendor.items);
  const arrived = itemOf(vendor.items.findLast((e) => itemOf(e).event === 'Signed In') ?? {}).properties ?? {};
  sideBySide({ page: `https://app.example.com/reset?email=${victim.email}`, note: `my key is ${secret.slice(0, 12)}…`, model: secret }, { page: arrived.page });
  check(!dump.includes(victim.email) && !dump.includes(encodeURIComponent(victim.email)), 'the e-mail did not arrive');
  check(!dump.includes(secret), 'the key did not arrive');
  check(!onDisk(gateway.data, secret), 'and the key was blanked before anything was written to our own disk');

  title('kill -9 under load: what was acknowledged is kept, what left is on record');
  const load = new Load(gateway);
  await sleep(1200);
  await gateway.kill();
  const lostAt = load.acknowledged.size;
  await gateway.start();
  await sleep(600);
  await load.stop();
  await gateway.drained('mixpanel', 60000);
  const got = new Set(serials(vendor));
  const missing = [...load.acknowledged].filter((n) => !got.has(n)).length;
  check(missing === 0, `${number(load.acknowledged.size)} events acknowledged (${number(lostAt)} before the kill), ${number(missing)} missing at the vendor`);
  check(serials(vendor).length === got.size, `each arrived once by its insert id (${number(serials(vendor).length - got.size)} twice)`);

  title('cut: the vendor is cut off in mid-stream');
  const stream = new Load(gateway);
  await sleep(500);
  const answer = (await gateway.cut('mixpanel', 'demo')).json;
  const frozen = vendor.bytes();
  await sleep(800);
  await stream.stop();
  check(vendor.bytes() === frozen, `cut in ${(answer.us / 1000).toFixed(2)} ms (durable after ${(answer.durable_us / 1000).toFixed(2)} ms); `
    + `the vendor's byte counter stands at ${number(frozen)} and stays there`);
  const status = await gateway.vendor();
  check(status.state === 'cut' && status.backlog > 0, `the product noticed nothing: ${number(status.backlog)} events wait, kept`);

  title('exposure: who was sent what');
  const page = await gateway.run(['exposure', 'mixpanel'], { json: false });
  say(page.stdout.split('\n').map((l) => `  ${l}`).join('\n'));
  const exposure = await gateway.exposure();
  const ids = new Set(vendor.items.map(itemOf).map((i) => i.properties?.distinct_id ?? i.$distinct_id).filter((id) => id));
  const clear = exposure.people.certain_clear;
  const exposed = exposure.people.certain + exposure.people.possible;
  check(exposed > 0 && exposed <= ids.size + 1, `${number(exposed)} people by our record; the vendor's own dump has ${number(ids.size)} ids `
    + '(a visit before login and the user after it are one person here, two ids there)');
  check(clear === 0, `${clear} of them with anything in the clear`);

  title('The record is provable: one flipped bit is refused');
  await gateway.stop();
  const good = await gateway.run(['ledger', 'verify', 'mixpanel'], { json: false });
  say(`  ${good.stdout.trim().split('\n').join('\n  ')}`);
  check(good.code === 0, 'the untouched ledger verifies');
  flipOneBit(gateway.data);
  const bad = await gateway.run(['ledger', 'verify', 'mixpanel'], { json: false });
  say(`  ${bad.stdout.trim().split('\n').join('\n  ')}`);
  check(bad.code === 1, 'with one bit flipped it is refused');

  title('What this cannot know');
  for (const limit of exposure.limits) {
    say(`  · ${limit}`);
  }
  say(`\n${bold('Next')}\n  build/release/bulkhead init ./bulkhead && build/release/bulkhead -c ./bulkhead serve\n  build/release/bulkhead --help`
    + `\n\n${dim(`${((Date.now() - begun) / 1000).toFixed(0)} seconds`)}`);
  await browser.stop();
  await direct.stop();
  await vendor.stop();
}

function files(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const full = path.join(folder, entry.name);
    return entry.isDirectory() ? files(full) : entry.isFile() ? [full] : [];
  });
}

function onDisk(folder, text) {
  return files(folder).some((file) => fs.readFileSync(file).includes(text));
}

/* In a copy's place it would do as well; the demo's data folder is thrown away anyway. */
function flipOneBit(data) {
  const folder = path.join(data, 'ledger', 'mixpanel-1');
  const file = path.join(folder, fs.readdirSync(folder).filter((name) => name.endsWith('.seg')).sort()[0]);
  const bytes = fs.readFileSync(file);
  bytes[4096 + 200] ^= 1;
  fs.writeFileSync(file, bytes);
}

try {
  await main();
} finally {
  await finishQuietly();
}
