// Drives the real program as an operator would: a configuration folder, a process, commands, signals.

import { execFile, spawn } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { freePort, onEnd, root, sleep, tempFolder, until, watchChild } from './harness.mjs';

export function findBinary() {
  const wanted = process.env.BULKHEAD_BIN;
  const places = wanted ? [wanted] : [path.join(root, 'build/release/bulkhead'), path.join(root, 'build/dev/bulkhead')];
  const found = places.find((p) => fs.existsSync(p));
  if (!found) {
    throw new Error(`no bulkhead binary at ${places.join(' or ')} (script/build makes it, BULKHEAD_BIN names another)`);
  }
  return path.resolve(found);
}

export const SERVER_TOKEN = 'mp_project_token_a';
export const BROWSER_TOKEN = 'mp_browser_token_a';
export const VENDOR_TOKEN = 'mp_vendor_token';

/* Everything that the recorded population and the invented one send on purpose is declared; the rest must not leave. */
export const PLAN = `events:
  Signed Up: { properties: { plan: { enum: [free, plus, pro] } } }
  Signed In: {}
  API Key Created: {}
  Completion Run*: {}
  Billing Page Viewed: {}
  Profile Updated: {}
  Dashboard: {}
  Step *: {}
properties:
  prompt_tokens: { type: number }
  completion_tokens: { type: number }
  latency_ms: { type: number }
  tokens: { type: number }
  cost_usd: { type: number }
  status_code: { type: number }
  stream: { type: boolean }
  imported: { type: boolean }
  model: { type: string, max_distinct: 50 }
  plan: { enum: [free, plus, pro, team, enterprise] }
  page: { class: user.behavior.browsing_history, type: url }
traits:
  plan: { enum: [free, plus, pro, team, enterprise] }
groups:
  company: { class: user.workplace }
`;

export const ALLOW = {
  'user.unique_id': 'pseudonym',
  'user.unique_id.pseudonymous': 'pseudonym',
  'user.device.device_id': 'pseudonym',
  'user.device.cookie_id': 'pseudonym',
  'user.device': '{ coarse: family }',
  'user.location.imprecise': '{ coarse: country }',
  'user.workplace': 'pseudonym',
  'user.behavior': 'raw',
  'user.behavior.browsing_history': '{ coarse: path }',
  'user.privacy_preferences': 'raw',
  'system.operations': 'raw',
};

export function contract(options) {
  const lines = [
    `vendor: ${options.vendor}`,
    `connector: ${options.connector ?? 'mixpanel'}`,
    `endpoint: ${options.endpoint}`,
    `credential: { env: ${options.credential ?? 'MIXPANEL_TOKEN'} }`,
    'purpose: analytics',
    'retention: 400d',
  ];
  if (options.ca) {
    lines.push(`ca: ${options.ca}`);
  }
  lines.push(...(options.lines ?? []), 'allow:');
  for (const [name, form] of Object.entries(options.allow ?? ALLOW)) {
    lines.push(`  ${name}: ${form}`);
  }
  lines.push(`time: ${options.time ?? 'second'}`, `undeclared: ${options.undeclared ?? 'hold'}`);
  lines.push(...(options.consent ?? [])); /* requires: and honour: */
  if (options.backlog) {
    lines.push(`backlog: { max: ${options.backlog} }`);
  }
  if (options.flags) {
    lines.push(`flags: ${options.flags}`);
  }
  return `${lines.join('\n')}\n`;
}

export class Gateway {
  constructor(options = {}) {
    this.binary = findBinary();
    this.name = options.name ?? 'gw';
    this.vendors = options.vendors ?? [{ vendor: 'mixpanel', endpoint: options.endpoint, ca: options.ca, allow: options.allow,
      time: options.time, undeclared: options.undeclared, backlog: options.backlog }];
    this.plan = options.plan ?? PLAN;
    this.sources = options.sources;
    this.journal = options.journal ?? '{ keep: 7d, segment: 16MiB, max: 60% }';
    this.limits = options.limits;
    this.tls = options.tls;
    this.extra = options.extra ?? '';
    this.env = { ...process.env, MIXPANEL_TOKEN: VENDOR_TOKEN, BULKHEAD_API_TOKEN: SERVER_TOKEN, ...options.env };
    this.wrapper = options.wrapper ?? [];
    this.log = '';
    this.exits = [];
  }

  async prepare() {
    this.folder = tempFolder(this.name);
    this.home = path.join(this.folder, 'home');
    this.config = path.join(this.folder, 'conf');
    this.data = path.join(this.config, 'data');
    fs.mkdirSync(path.join(this.config, 'vendors'), { recursive: true });
    fs.mkdirSync(this.home, { recursive: true });
    this.key = path.join(this.home, 'master.key');
    fs.writeFileSync(this.key, crypto.randomBytes(32), { mode: 0o400 });
    this.ports = { ingest: await freePort(), health: await freePort(), console: await freePort() };
    this.env.HOME = this.home;
    this.env.BULKHEAD_DIR = this.config;
    this.write();
    return this;
  }

  write() {
    const vendors = this.vendors.map((v) => v.vendor).join(', ');
    const sources = this.sources ?? [
      `{ name: platform-web, protocol: mixpanel, token: ${BROWSER_TOKEN}, trust: browser, role: controller, vendors: [${vendors}] }`,
      `{ name: platform-api, protocol: mixpanel, token: { env: BULKHEAD_API_TOKEN }, trust: server, vendors: [${vendors}] }`,
    ];
    const config = `instance: eu-1
listen: { ingest: 127.0.0.1:${this.ports.ingest}, ${this.tls ? `tls: { certificate: ${this.tls.cert}, key: ${this.tls.key} }, ` : ''}admin: unix:admin.sock, health: 127.0.0.1:${this.ports.health}, console: 127.0.0.1:${this.ports.console} }
data: ./data
trusted_proxies: []
key: { file: ${this.key} }
journal: ${this.journal}
${this.limits ? `limits: ${this.limits}\n` : ''}${this.extra}sources:
${sources.map((s) => `  - ${s}`).join('\n')}
`;
    fs.writeFileSync(path.join(this.config, 'bulkhead.yaml'), config);
    fs.writeFileSync(path.join(this.config, 'plan.yaml'), this.plan);
    for (const vendor of this.vendors) {
      fs.writeFileSync(path.join(this.config, 'vendors', `${vendor.vendor}.yaml`), contract(vendor));
    }
  }

  /* Changes one vendor's contract on disk, and asks the running process to take it up. */
  async alter(vendor, change) {
    const found = this.vendors.find((v) => v.vendor === vendor);
    Object.assign(found, change);
    this.write();
    if (this.process) {
      await this.reload();
    }
  }

  async alterPlan(plan) {
    this.plan = plan;
    this.write();
    if (this.process) {
      await this.reload();
    }
  }

  /* Over the admin socket, whose answer comes when the new rules are in force, or says why they are not. */
  async reload() {
    const answer = await this.admin('POST', '/v1/reload');
    if (answer.status !== 200) {
      throw new Error(`reload: ${answer.status} ${answer.body}`);
    }
  }

  admin(method, where, body = '') {
    return new Promise((resolve, reject) => {
      const request = http.request({ socketPath: path.join(this.data, 'admin.sock'), method, path: where, agent: false,
        headers: { Host: 'admin', 'Content-Length': Buffer.byteLength(body) } }, (res) => {
        const chunks = [];
        res.on('data', (chunk) => chunks.push(chunk));
        res.on('end', () => resolve({ status: res.statusCode, body: Buffer.concat(chunks).toString() }));
      });
      request.on('error', reject);
      request.end(body);
    });
  }

  async start({ ready = true } = {}) {
    if (!this.folder) {
      await this.prepare();
    }
    const [command, ...args] = [...this.wrapper, this.binary, 'serve'];
    this.process = spawn(command, args, { cwd: this.config, env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    const child = this.process;
    watchChild(child);
    const keep = (chunk) => {
      this.log += chunk;
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    this.exited = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        this.exits.push({ code, signal });
        if (this.process === child) {
          this.process = undefined;
        }
        resolve({ code, signal });
      });
    });
    if (this.cleaner === undefined) {
      this.cleaner = true;
      onEnd(() => this.kill());
    }
    if (ready) {
      await until(async () => {
        if (!this.process) {
          const error = new Error(`serve ended (${JSON.stringify(this.exits.at(-1))}): ${this.log.slice(-2000)}`);
          throw Object.assign(error, { final: true });
        }
        return (await this.health('/readyz')).status === 200;
      }, () => `ready (log: ${this.log.slice(-1500)})`, 15000, 20);
    }
    return this;
  }

  /* A new vendor starts cut, so that nothing leaves before an operator says so. */
  async open(vendor = 'mixpanel', how = '--replay') {
    const result = await this.run(['restore', vendor, how]);
    if (result.code !== 0) {
      throw new Error(`restore ${vendor}: exit ${result.code}: ${result.stderr || result.stdout}`);
    }
    return result;
  }

  async stop(ms = 15000) {
    if (!this.process) {
      return undefined;
    }
    this.process.kill('SIGTERM');
    const end = await Promise.race([this.exited, sleep(ms)]);
    if (!end) {
      await this.kill();
      throw new Error(`serve did not end within ${ms} ms of SIGTERM`);
    }
    return end;
  }

  async kill() {
    if (this.process) {
      this.process.kill('SIGKILL');
      await this.exited;
    }
  }

  get pid() {
    return this.process?.pid;
  }

  /* Runs one command to its end; json holds the parsed answer where there is one. */
  run(args, { input, ms = 60000, json = true } = {}) {
    return new Promise((resolve) => {
      const begun = process.hrtime.bigint();
      const all = json && !args.includes('--json') ? [...args, '--json'] : args;
      const child = execFile(this.binary, all, { cwd: this.config, env: this.env, timeout: ms, maxBuffer: 1 << 28 },
        (error, stdout, stderr) => {
          const took_ms = Number(process.hrtime.bigint() - begun) / 1e6;
          const code = error ? (typeof error.code === 'number' ? error.code : -1) : 0;
          const lines = [];
          for (const line of stdout.split('\n')) {
            try {
              lines.push(JSON.parse(line));
            } catch {
              /* A line for people; the raw text is there too. */
            }
          }
          let value = lines[0];
          try {
            value = JSON.parse(stdout);
          } catch {
            /* More than one line: `lines` has them. */
          }
          resolve({ code, stdout, stderr, json: value, lines, took_ms, signal: error?.signal });
        });
      if (input !== undefined) {
        child.stdin.on('error', () => {});
        child.stdin.end(input);
      } else {
        child.stdin.end();
      }
    });
  }

  async ask(args, options) {
    const result = await this.run(args, options);
    if (result.json === undefined) {
      throw new Error(`bulkhead ${args.join(' ')}: exit ${result.code}, no JSON: ${result.stderr}${result.stdout}`);
    }
    return result.json;
  }

  status() {
    return this.ask(['status']);
  }

  async vendor(name = 'mixpanel') {
    return (await this.status()).vendors?.[name];
  }

  /* Waits until everything accepted is delivered or decided. */
  async drained(vendor = 'mixpanel', ms = 60000) {
    return until(async () => (await this.vendor(vendor)).backlog === 0, `${vendor} drained`, ms, 100);
  }

  cut(vendor = 'mixpanel', why = 'test') {
    return this.run(['cut', vendor, '--why', why]);
  }

  exposure(vendor = 'mixpanel', args = []) {
    return this.ask(['exposure', vendor, ...args]);
  }

  health(where) {
    return get(this.ports.health, where);
  }

  async metrics() {
    return new Metrics((await this.health('/metrics')).body);
  }

  url(where = '', protocol = 'mixpanel') {
    return `http://127.0.0.1:${this.ports.ingest}/${protocol}${where}`;
  }

  rss() {
    const status = fs.readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  }
}

/* Prometheus text, as far as tests need it. */
export class Metrics {
  constructor(text) {
    this.text = text;
    this.samples = [];
    for (const line of text.split('\n')) {
      const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
      if (match && !line.startsWith('#')) {
        const labels = {};
        for (const [, name, value] of (match[2] ?? '').matchAll(/([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"/g)) {
          labels[name] = value;
        }
        this.samples.push({ name: match[1], labels, value: Number(match[3]) });
      }
    }
  }

  sum(name, labels = {}) {
    return this.samples
      .filter((s) => s.name === name && Object.entries(labels).every(([k, v]) => s.labels[k] === v))
      .reduce((total, s) => total + s.value, 0);
  }

  has(name) {
    return this.samples.some((s) => s.name === name);
  }
}

export function get(port, where, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port, path: where, headers, timeout: 10000, agent: false }, (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks).toString() }));
    });
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.on('error', reject);
  });
}

const agents = new Map();

/* One POST of JSON items, as a simple client would send them; keeps its connection. */
export function post(port, where, items, { headers = {}, verbose = true, token, raw } = {}) {
  if (!agents.has(port)) {
    agents.set(port, new http.Agent({ keepAlive: true, maxSockets: 64 }));
  }
  const body = raw ?? JSON.stringify(token ? items.map((item) => withToken(item, token)) : items);
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, method: 'POST', path: `${where}${verbose ? '?verbose=1' : ''}`,
      agent: agents.get(port), headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers } },
    (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks).toString() }));
      res.on('error', reject);
    });
    request.setTimeout(30000, () => request.destroy(new Error('timeout')));
    request.on('error', reject);
    request.end(body);
  });
}

export function withToken(item, token) {
  return item.event !== undefined
    ? { ...item, properties: { ...item.properties, token } }
    : { ...item, $token: token };
}
