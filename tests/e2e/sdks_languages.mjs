// The vendors' server SDKs of other languages, unmodified, against one gateway that feeds every vendor: what was acknowledged arrives
// once, also over a kill; what an SDK gives up itself is counted. What cannot be installed here is counted as skipped.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { promisify } from 'node:util';
import { namesIn } from './lib/carried.mjs';
import { Gateway } from './lib/gateway.mjs';
import { count, finish, note, onEnd, root, seeded, skip, sleep, test, until, watchChild, within } from './lib/harness.mjs';
import { Proxy } from './lib/proxy.mjs';
import { protocols, startVendor, vendorKey } from './lib/vendors.mjs';

const random = seeded();
const run = promisify(execFile);

/* Every SDK, pinned. refused: its registry does not serve it where this was written, so that no program here drives it; groups: false: it has no call
   for them; few: false: it has no option for small batches, so the kill may fall before its only request. */
const NOT_SERVED = 'no module proxy that served it when this was written';
const SDKS = [
  { language: 'python', protocol: 'mixpanel', pack: 'mixpanel', version: '5.4.1' },
  { language: 'python', protocol: 'posthog', pack: 'posthog', version: '7.91.1' },
  { language: 'python', protocol: 'segment', pack: 'segment-analytics-python', version: '2.4.0' },
  { language: 'python', protocol: 'rudder', pack: 'rudder-sdk-python', version: '2.1.9' },
  { language: 'python', protocol: 'amplitude', pack: 'amplitude-analytics', version: '1.3.0' },
  { language: 'go', protocol: 'mixpanel', pack: 'github.com/mixpanel/mixpanel-go', refused: NOT_SERVED },
  { language: 'go', protocol: 'posthog', pack: 'github.com/posthog/posthog-go', version: 'v1.5.2' },
  { language: 'go', protocol: 'segment', pack: 'github.com/segmentio/analytics-go/v3', refused: NOT_SERVED },
  { language: 'go', protocol: 'rudder', pack: 'github.com/rudderlabs/analytics-go', refused: NOT_SERVED },
  { language: 'go', protocol: 'amplitude', pack: 'github.com/amplitude/analytics-go', refused: NOT_SERVED },
  { language: 'java', protocol: 'mixpanel', pack: 'com.mixpanel:mixpanel-java', version: '1.5.3' },
  { language: 'java', protocol: 'posthog', pack: 'com.posthog.java:posthog', version: '1.2.0', groups: false, few: false },
  { language: 'java', protocol: 'segment', pack: 'com.segment.analytics.java:analytics', version: '3.5.4' },
  { language: 'java', protocol: 'rudder', pack: 'com.rudderstack.sdk.java.analytics:analytics', version: '3.0.0' },
  { language: 'java', protocol: 'amplitude', pack: 'com.amplitude:java-sdk', refused: 'it speaks to https only, which this suite has not' },
];
const EACH = count(20, 200);
const FLOW_MS = 3000;
const NAME = /Step [a-z]+-[a-z]+-[a-z]+-\d+/g;

// -- installing --------------------------------------------------------------------------------------------------------

const home = path.join(root, 'build/sdks');
const drivers = path.join(root, 'tests/e2e/lib');

/* A last line says more than a stack does. */
async function attempt(command, args, options = {}) {
  try {
    await run(command, args, { timeout: 240000, maxBuffer: 1 << 24, ...options });
  } catch (error) {
    const said = `${error.stderr ?? ''}`.trim().split('\n').at(-1) || error.message;
    throw new Error(`${path.basename(command)} ${args[0]}: ${said}`.slice(0, 200), { cause: error });
  }
}

/* Each gives the command that drives the SDK; each SDK has its own folder, so that one that fails takes no other with it. */
const INSTALL = {
  async python({ protocol, pack, version }) {
    const folder = path.join(home, `python-${protocol}-${version}`);
    const python = path.join(folder, 'bin/python');
    if (!fs.existsSync(path.join(folder, 'done'))) {
      await attempt('python3', ['-m', 'venv', '--clear', folder]);
      await attempt(python, ['-m', 'pip', 'install', '-q', '--no-cache-dir', '--disable-pip-version-check', `${pack}==${version}`]);
      fs.writeFileSync(path.join(folder, 'done'), '');
    }
    return [python, '-u', path.join(drivers, 'sdk_driver.py')];
  },
  async go({ protocol, pack, version }) {
    const folder = path.join(home, `go-${protocol}-${version}`);
    const env = { ...process.env, GOPATH: path.join(home, 'go'), GOMODCACHE: path.join(home, 'go/mod'), GOCACHE: path.join(home, 'go/cache'), GOFLAGS: '-modcacherw' };
    const driver = path.join(folder, 'driver');
    fs.mkdirSync(folder, { recursive: true });
    fs.copyFileSync(path.join(drivers, 'sdk_driver.go'), path.join(folder, 'main.go'));
    if (!fs.existsSync(path.join(folder, 'go.mod'))) {
      await attempt('go', ['mod', 'init', 'driver'], { cwd: folder, env });
    }
    await attempt('go', ['get', `${pack}@${version}`], { cwd: folder, env });
    await attempt('go', ['build', '-p', '1', '-o', driver, '.'], { cwd: folder, env });
    return [driver];
  },
  async java({ protocol, pack, version }) {
    const folder = path.join(home, `java-${protocol}-${version}`);
    const [groupId, artifact] = pack.split(':');
    const main = `Of${protocol[0].toUpperCase()}${protocol.slice(1)}`;
    const list = path.join(folder, 'classpath');
    fs.mkdirSync(folder, { recursive: true });
    if (!fs.existsSync(list)) {
      fs.writeFileSync(path.join(folder, 'pom.xml'), `<project><modelVersion>4.0.0</modelVersion><groupId>driver</groupId><artifactId>driver</artifactId><version>1</version>
<dependencies><dependency><groupId>${groupId}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency></dependencies></project>\n`);
      await attempt('mvn', ['-q', '-B', `-Dmaven.repo.local=${path.join(home, 'maven')}`, 'dependency:build-classpath', `-Dmdep.outputFile=${list}`], { cwd: folder });
    }
    const libraries = `${fs.readFileSync(list, 'utf8').trim()}:${folder}`;
    await attempt('javac', ['-cp', libraries, '-d', folder, ...['Driver', main].map((name) => path.join(drivers, 'java', `${name}.java`))]);
    return ['java', '-Xmx128m', '-cp', libraries, main];
  },
};

// -- one SDK -----------------------------------------------------------------------------------------------------------

class Client {
  constructor(sdk) {
    this.sdk = sdk;
    this.name = `${sdk.language} ${sdk.pack.split('/').slice(-2).join('/').replace(/^com\.(\w+).*:/, '$1:')}`;
    this.proxy = new Proxy('http://127.0.0.1:1');
  }

  async install() {
    if (this.sdk.refused) {
      this.why = this.sdk.refused;
      return;
    }
    try {
      this.command = await INSTALL[this.sdk.language](this.sdk);
    } catch (error) {
      this.why = error.message;
    }
  }

  begin(scenario) {
    const [command, ...args] = this.command;
    Object.assign(this, { scenario, sent: new Set(), raised: 0, said: '' });
    this.proxy.requests.length = 0;
    this.user = `user_${this.sdk.language}_${random.hex(12)}`;
    this.group = `org_${random.hex(12)}`;
    this.process = spawn(command, [...args, this.sdk.protocol, `${this.proxy.url}/${this.sdk.protocol}`, `server_${this.sdk.protocol}_token`]);
    watchChild(this.process);
    this.process.stdin.on('error', () => {});
    this.process.stderr.on('data', (chunk) => {
      this.said += chunk;
    });
    this.ended = new Promise((resolve) => this.process.on('exit', resolve));
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  async call(call) {
    this.process.stdin.write(`${JSON.stringify({ user: this.user, group: this.group, ...call })}\n`);
    const { value } = await within(60000, this.lines.next(), `${this.name}: ${call.do}`);
    assert.ok(value !== undefined, `${this.name} ended: ${this.said.slice(-1500)}`);
    if (value !== 'ok') {
      this.raised++;
    }
  }

  async flow(pause) {
    for (let n = 0; n < EACH; n++) {
      const name = `Step ${this.sdk.language}-${this.sdk.protocol}-${this.scenario}-${n}`;
      this.sent.add(name);
      await this.call({ do: 'track', name, properties: { plan: 'pro', email: MAIL } });
      await sleep(pause);
    }
  }

  /* The SDK is closed as its documentation says; what it still holds then, it sends or gives up. */
  async end() {
    this.process.stdin.end();
    assert.equal(await within(120000, this.ended, `${this.name} to end`), 0, `${this.name}: ${this.said.slice(-1500)}`);
  }

  acknowledged() {
    return new Set(this.proxy.requests.filter((r) => r.status === 200).flatMap((r) => [...namesIn(r, NAME)]));
  }
}

// -- the gateway and the vendors ---------------------------------------------------------------------------------------

const MAIL = 'noor.tanner@example.com';
const vendors = {};
for (const protocol of protocols) {
  vendors[protocol] = await startVendor(protocol);
  onEnd(() => vendors[protocol].stop());
}
const gateway = new Gateway({ name: 'languages', env: { VENDOR_KEY: vendorKey },
  vendors: protocols.map((vendor) => ({ vendor, connector: vendor, endpoint: vendors[vendor].url, credential: 'VENDOR_KEY' })),
  sources: protocols.map((p) => `{ name: server-${p}, protocol: ${p}, token: server_${p}_token, trust: server, vendors: [${p}] }`) });
const clients = SDKS.map((sdk) => new Client(sdk));

/* What a vendor calls an update of a person and of a group. */
const UPDATES = {
  mixpanel: [(i) => i.path === '/engage', (i) => i.path === '/groups'],
  posthog: [(i) => ['$set', '$identify'].includes(i.event), (i) => i.event === '$groupidentify'],
  segment: [(i) => i.type === 'identify', (i) => i.type === 'group'],
  rudder: [(i) => i.type === 'identify', (i) => i.type === 'group'],
  amplitude: [(i) => i.event_type === '$identify', (i) => i.event_type === '$groupidentify'],
};

async function settled(client) {
  const { protocol } = client.sdk;
  await gateway.drained(protocol);
  assert.deepEqual(vendors[protocol].refusals(), [], `${client.name}: what the vendor refused`);
  const arrived = new Map();
  for (const name of vendors[protocol].names()) {
    arrived.set(name, (arrived.get(name) ?? 0) + 1);
  }
  for (const name of client.sent) {
    assert.ok((arrived.get(name) ?? 0) <= 1, `${client.name}: '${name}' ${arrived.get(name)} times`);
  }
  const given = client.acknowledged();
  const missing = [...client.sent].filter((name) => !arrived.has(name));
  assert.deepEqual(missing.filter((name) => given.has(name)), [], `${client.name}: acknowledged and did not arrive`);
  const bytes = JSON.stringify(vendors[protocol].items());
  for (const raw of [client.user, client.group, MAIL, encodeURIComponent(MAIL)]) {
    assert.ok(!bytes.includes(raw), `${client.name}: '${raw}' left`);
  }
  return { given, missing };
}

// -- the cases ---------------------------------------------------------------------------------------------------------

test('the gateway starts, every vendor is opened, and the SDKs are installed', async () => {
  fs.mkdirSync(home, { recursive: true });
  await gateway.start();
  for (const vendor of protocols) {
    await gateway.open(vendor);
  }
  for (const client of clients) {
    await client.install();
    await client.proxy.start();
    onEnd(() => client.proxy.stop());
    client.proxy.target = new URL(`http://127.0.0.1:${gateway.ports.ingest}`);
  }
  const there = clients.filter((client) => client.command);
  note(there.map(({ name, sdk }) => `${name} ${sdk.version}`).join(', '));
  assert.ok(there.length > 0, `none could be installed: ${clients.map((c) => `${c.name}: ${c.why}`).join('; ')}`);
}, { vital: true });

for (const client of clients) {
  const needed = () => client.command || skip(client.why);

  test(`${client.name}: every event, a profile, a group, each once, nothing raw`, async () => {
    needed();
    const { protocol } = client.sdk;
    const updates = () => UPDATES[protocol].map((is) => vendors[protocol].items().filter(is).length);
    const before = updates();
    client.begin('normal');
    await client.call({ do: 'identify', properties: { plan: 'pro', email: MAIL } });
    if (client.sdk.groups !== false) {
      await client.call({ do: 'group', properties: { plan: 'pro', email: MAIL } });
    }
    await client.flow(0);
    await client.end();
    const { given, missing } = await settled(client);
    assert.deepEqual(missing, [], client.said.slice(-1500));
    assert.deepEqual([given.size, client.raised], [EACH, 0]);
    assert.deepEqual(updates().map((n, at) => n - before[at]), [1, client.sdk.groups === false ? 0 : 1], 'a profile and a group');
    note(`${EACH} events, a profile${client.sdk.groups === false ? '' : ' and a group'}, each once, in ${client.proxy.requests.length} requests`);
  });

  test(`${client.name}: the gateway is killed in mid-flow and started again`, async () => {
    needed();
    client.begin('kill');
    const flowing = client.flow(FLOW_MS / EACH);
    for (let round = 0; round < count(1, 3); round++) {
      const after = Math.min(EACH - 8, client.sent.size + EACH / 4);
      await until(() => client.sent.size >= after, 'a part of the flow', 60000);
      await gateway.kill();
      await sleep(1000);
      await gateway.start();
    }
    await flowing;
    await client.end();
    const { given, missing } = await settled(client);
    const failed = client.proxy.requests.filter((r) => r.status !== 200).length;
    assert.ok(client.sdk.few === false || failed > 0 && given.size > 0, `${client.name}: the kill fell into the flow: ${failed} requests failed, ${given.size} events acknowledged`);
    note(`${EACH} events: ${given.size} acknowledged, each there once; ${EACH - given.size - missing.length} there without the answer; ${missing.length} given up by the SDK (${client.raised} raised); ${failed} requests without an answer`);
  });
}

await finish({ limit_ms: 300000 });
