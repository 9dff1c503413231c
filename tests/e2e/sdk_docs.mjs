// Every fenced block of docs/sdk.md, run as it stands. A block that no runner knows fails, and so does one whose event does
// not arrive, or arrives twice. Only the host names that the page itself lists are replaced.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { finish, freePort, note, onEnd, root, skip, sleep, tempFolder, test, until, watchChild } from './lib/harness.mjs';
import { makeCertificates } from './lib/certs.mjs';
import { findBinary, Gateway } from './lib/gateway.mjs';
import { Proxy } from './lib/proxy.mjs';
import { Pages } from './lib/sdk_pages.mjs';
import { credentialOf, protocols, startVendor, vendorKey } from './lib/vendors.mjs';

const EVENT = 'Signed Up';
const COOKIE = ['session', 'the-session-of-the-product'];
const folder = tempFolder('docs');
const certs = makeCertificates(path.join(folder, 'certs'));
const pages = new Pages();
onEnd(() => pages.stop());

// -- the page ----------------------------------------------------------------------------------------------------------

/* [{ section, line, name, code }]: every block between fences, whatever it is called. */
function blocksOf(file) {
  const blocks = [];
  let section = '';
  let open;
  fs.readFileSync(file, 'utf8').split('\n').forEach((text, i) => {
    const fence = /^\s*(```+|~~~+)\s*(.*)$/.exec(text);
    if (open && fence && fence[1] === open.fence && fence[2] === '') {
      blocks.push(open);
      open = undefined;
    } else if (open) {
      open.code += `${text}\n`;
    } else if (fence) {
      open = { section, line: i + 1, fence: fence[1], name: fence[2], code: '' };
    } else if (text.startsWith('## ')) {
      section = text.slice(3);
    }
  });
  assert.equal(open, undefined, 'a fence is never closed');
  return blocks;
}

const page = process.env.BH_SDK_PAGE ?? path.join(root, 'docs/sdk.md');
const blocks = blocksOf(page);
const of = (name, section) => blocks.filter((b) => b.name === name && (section === undefined || b.section === section));

// -- what the blocks run against ---------------------------------------------------------------------------------------

/* A configuration that `init` has written, in which the keys of the page's blocks stand in place of its own. */
class DocumentedGateway extends Gateway {
  constructor(protocol, yaml, vendor, tls) {
    super({ name: 'docs', env: { BULKHEAD_API_TOKEN: 'the-token-of-a-server' } });
    Object.assign(this, { protocol, yaml, vendorOf: vendor, tls });
  }

  async prepare() {
    this.folder = tempFolder('docs');
    this.config = path.join(this.folder, 'conf');
    this.data = path.join(this.config, 'data');
    this.ports = { ingest: await freePort(), health: await freePort() };
    this.env.HOME = this.folder;
    execFileSync(findBinary(), ['init', this.config, '--vendor', this.protocol], { env: this.env, stdio: 'pipe' });
    this.edit('bulkhead.yaml', (text) => {
      let all = text.replaceAll('8080', this.ports.ingest).replaceAll('8082', this.ports.health);
      all = this.tls ? all.replace(/^# tls: .*$/m, `  tls: { certificate: ${certs.cert}, key: ${certs.key} }`) : all;
      const keys = [...this.yaml.matchAll(/^(\w+):/gm)].map(([, key]) => key);
      for (const key of keys) {
        all = all.replace(new RegExp(`^${key}:.*\\n(?:[ #].*\\n)*`, 'm'), '');
      }
      return `${all}\n${this.yaml}`;
    });
    this.edit(`vendors/${this.protocol}.yaml`, (text) => {
      this.env[credentialOf(text)] = vendorKey;
      return text.replace(/^endpoint: \S+/m, `endpoint: ${this.vendorOf.url}`);
    });
    return this;
  }

  edit(name, change) {
    const file = path.join(this.config, name);
    fs.writeFileSync(file, change(fs.readFileSync(file, 'utf8')));
  }
}

const protocolOf = (section) => /protocol: (\w+)/.exec(of('yaml', section)[0]?.code ?? '')?.[1];
const worlds = new Map();

/* The gateway and the vendor of a section: once by TLS as a host of its own, once behind the product's proxy. */
async function world(section, way) {
  const key = `${section} ${way}`;
  if (!worlds.has(key)) {
    const protocol = protocolOf(section);
    assert.ok(protocols.includes(protocol), `section '${section}' has no yaml block whose protocol is known`);
    const vendor = await startVendor(protocol);
    onEnd(() => vendor.stop());
    const yaml = of('yaml', section)[0].code + (way === 'proxied' ? of('yaml', 'First-party')[0]?.code ?? '' : '');
    const gateway = new DocumentedGateway(protocol, yaml, vendor, way === 'direct');
    await gateway.start();
    await gateway.open(protocol);
    worlds.set(key, { protocol, vendor, gateway });
  }
  return worlds.get(key);
}

/* Runs it, and then there is one event more at the vendor, and stays one. */
async function once({ gateway, vendor, protocol }, run) {
  const count = () => vendor.names().filter((name) => name === EVENT).length;
  const before = count();
  const arrived = () => count() - before;
  await run(async () => {
    await until(() => arrived() > 0, `'${EVENT}' at the vendor (${JSON.stringify(vendor.refusals())}, gateway: ${gateway.log.slice(-300)})`, 20000);
    await gateway.drained(protocol);
    await sleep(300);
  });
  assert.equal(arrived(), 1, 'events at the vendor');
  assert.deepEqual(vendor.refusals(), []);
  assert.equal((await gateway.metrics()).sum('bulkhead_events_accepted_total') >= 1, true);
}

/* `as` is the host of the gateway in the block. */
const placed = (code, as) => code.replaceAll('gateway.example.com', as);

// -- runners -----------------------------------------------------------------------------------------------------------

async function runNode(block) {
  const here = await world(block.section, 'direct');
  const file = path.join(folder, `block-${block.line}.mjs`);
  if (!fs.existsSync(path.join(folder, 'node_modules'))) {
    fs.symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
  }
  fs.writeFileSync(file, placed(block.code, `localhost:${here.gateway.ports.ingest}`));
  await once(here, async (arrived) => {
    const said = await new Promise((resolve) => execFile(process.execPath, [file], { cwd: folder, timeout: 30000,
      env: { ...process.env, NODE_EXTRA_CA_CERTS: certs.ca, BULKHEAD_API_TOKEN: here.gateway.env.BULKHEAD_API_TOKEN } },
    (error, stdout, stderr) => resolve({ error: error?.message, stdout, stderr })));
    assert.deepEqual(said, { error: undefined, stdout: '', stderr: '' });
    await arrived();
  });
}

async function runBrowser(block) {
  const here = await world(block.section, 'direct');
  await once(here, async (arrived) => {
    const visitor = await pages.open(placed(block.code, `localhost:${here.gateway.ports.ingest}`));
    await arrived();
    assert.deepEqual(visitor.errors, []);
    await visitor.close();
  });
}

async function runYaml(block) {
  const sections = block.section === 'First-party' ? [...new Set(of('js browser').map((b) => b.section))] : [block.section];
  for (const section of sections) {
    const { gateway } = await world(section, block.section === 'First-party' ? 'proxied' : 'direct');
    const check = await gateway.run(['contract', 'check'], { json: false });
    assert.equal(check.code, 0, check.stdout + check.stderr);
    for (const line of block.code.split('\n')) {
      assert.ok(fs.readFileSync(path.join(gateway.config, 'bulkhead.yaml'), 'utf8').includes(line), line);
    }
  }
}

/* A program of .tools, where bootstrap unpacks it, or one that is installed. */
function program(name, below) {
  const places = [path.join(root, '.tools/proxies', below, name), ...['/usr/bin', '/usr/sbin', '/usr/local/bin'].map((p) => path.join(p, name))];
  return places.find((p) => fs.existsSync(p)) ?? skip(`no ${name} on this machine`);
}

async function serveBy(command, args, env, port) {
  const child = spawn(command, args, { cwd: folder, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  watchChild(child);
  let log = '';
  child.stdout.on('data', (chunk) => (log += chunk));
  child.stderr.on('data', (chunk) => (log += chunk));
  let ended = false;
  child.on('exit', () => (ended = true));
  await until(() => {
    if (ended) {
      throw Object.assign(new Error(`${command} ended: ${log.slice(-1500)}`), { final: true });
    }
    return answers(port);
  }, () => `${command} to listen: ${log.slice(-1500)}`, 15000);
  return { stop: () => new Promise((resolve) => (ended ? resolve() : child.on('exit', resolve).kill('SIGTERM'))) };
}

function answers(port) {
  return new Promise((resolve) => https.get({ host: 'localhost', port, path: '/', rejectUnauthorized: false, agent: false, timeout: 2000 }, (res) => {
    res.resume();
    resolve(res.statusCode === 200);
  }).on('error', () => resolve(false)).on('timeout', function late() {
    this.destroy();
  }));
}

/* The places of the page that mean this machine. */
const local = (code, port, gatewayPort) => code.replaceAll('app.example.com', `localhost:${port}`)
  .replaceAll('127.0.0.1:8080', `127.0.0.1:${gatewayPort}`).replaceAll('127.0.0.1:3000', `127.0.0.1:${pages.port}`);

/* Each block is a server block's content or a file of its own; what stands around it keeps the program's hands off this machine. */
const PROXIES = {
  caddyfile: async (code, port) => {
    const caddy = program('caddy', 'usr/bin');
    const file = path.join(folder, `Caddyfile-${port}`);
    fs.writeFileSync(file, `{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n${code}`);
    const home = { HOME: folder, XDG_DATA_HOME: path.join(folder, 'caddy'), XDG_CONFIG_HOME: path.join(folder, 'caddy') };
    return serveBy(caddy, ['run', '--config', file, '--adapter', 'caddyfile'], home, port);
  },
  nginx: async (code, port) => {
    const nginx = program('nginx', 'usr/sbin');
    const prefix = fs.mkdtempSync(path.join(folder, 'nginx-'));
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((n) => `${n}_temp_path ${prefix}/${n};`).join(' ');
    fs.writeFileSync(path.join(prefix, 'nginx.conf'), `daemon off; master_process off; pid ${prefix}/pid; error_log stderr; events {}
http { access_log ${prefix}/access.log; ${temporary}
server { listen 127.0.0.1:${port} ssl; server_name localhost; ssl_certificate ${certs.cert}; ssl_certificate_key ${certs.key};
${code}
location / { proxy_pass http://127.0.0.1:${pages.port}; } } }\n`);
    const server = await serveBy(nginx, ['-p', prefix, '-c', path.join(prefix, 'nginx.conf'), '-e', 'stderr'], {}, port);
    return { ...server, access: () => fs.readFileSync(path.join(prefix, 'access.log'), 'utf8') };
  },
};

/* Every browser block of the page, first-party: product and gateway on one host, through this proxy. */
async function runProxy(block) {
  const seen = [];
  for (const browserBlock of of('js browser')) {
    const here = await world(browserBlock.section, 'proxied');
    const wire = await new Proxy(`http://127.0.0.1:${here.gateway.ports.ingest}`).start();
    const port = await freePort();
    const server = await PROXIES[block.name](local(block.code, port, wire.port), port).catch(async (error) => {
      await wire.stop();
      throw error;
    });
    try {
      await once(here, async (arrived) => {
        const visitor = await pages.open(placed(browserBlock.code, `localhost:${port}/collect`), { base: `https://localhost:${port}`, cookies: [COOKIE] });
        await arrived();
        assert.deepEqual(visitor.errors, [], browserBlock.section);
        assert.ok(visitor.page.url().startsWith(`https://localhost:${port}/`));
        await visitor.close();
      });
      assert.ok(wire.requests.length > 0, 'through the proxy');
      assert.ok(wire.requests.every((r) => !JSON.stringify(r.headers).includes(COOKIE[1])), 'no cookie of the product');
      assert.ok(wire.requests.every((r) => r.headers['x-forwarded-for'] !== undefined), 'X-Forwarded-For');
      assert.ok(wire.requests.every((r) => r.method !== 'OPTIONS'), 'no preflight');
      assert.ok(!(server.access?.() ?? '').includes('/collect/'), 'nothing of it in the log');
      seen.push(`${browserBlock.section} ${wire.requests.length}`);
    } finally {
      await server.stop();
      await wire.stop();
    }
  }
  note(`requests through it: ${seen.join(', ')}`);
}

const RUNNERS = { 'js node': runNode, 'js browser': runBrowser, yaml: runYaml, caddyfile: runProxy, nginx: runProxy };

test('the page has blocks, and each protocol has one for a server, one for a browser and its sources', async () => {
  await pages.start();
  const sections = [...new Set(of('js node').map((b) => b.section))];
  assert.deepEqual(new Set(sections.map(protocolOf)), new Set(protocols));
  for (const section of sections) {
    assert.deepEqual([of('js node', section).length, of('js browser', section).length, of('yaml', section).length], [1, 1, 1], section);
  }
  assert.equal(of('caddyfile').length + of('nginx').length, 2);
}, { vital: true });

for (const block of blocks) {
  test(`line ${block.line}, ${block.section}: ${block.name || 'a block without a name'}`, async () => {
    const runner = RUNNERS[block.name];
    assert.ok(runner, `no runner for a block named '${block.name}': ${Object.keys(RUNNERS).join(', ')}`);
    await runner(block);
  });
}

await finish({ limit_ms: 120000 });
