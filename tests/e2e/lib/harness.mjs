// What every suite shares: a seed that is always printed, a runner whose last line counts, proof counts on request,
// invented people, and waiting that gives up.

import { createRequire } from 'node:module';
import { AsyncLocalStorage } from 'node:async_hooks';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
export const full = process.env.BH_FULL === '1';

/* The small count keeps script/test quick; BH_FULL=1 runs what a proof needs. */
export const count = (small, proof) => (full ? proof : small);

/* SDKs come from the repository's node_modules, or from the folder that BH_MODULES names. */
export function need(name) {
  const from = process.env.BH_MODULES ? path.join(path.resolve(process.env.BH_MODULES), 'index.js') : path.join(root, 'index.js');
  return createRequire(from)(name);
}

export function modulePath(name) {
  const from = process.env.BH_MODULES ? path.resolve(process.env.BH_MODULES) : root;
  return path.join(from, 'node_modules', name);
}

/* mulberry32: small, and the same on every machine. */
export class Random {
  constructor(seed) {
    this.seed = seed >>> 0;
    this.state = this.seed;
    this.next = this.next.bind(this);
  }

  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  below(n) {
    return Math.floor(this.next() * n);
  }

  between(low, high) {
    return low + this.below(high - low + 1);
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  chance(p) {
    return this.next() < p;
  }

  hex(digits) {
    let out = '';
    for (let i = 0; i < digits; i++) {
      out += '0123456789abcdef'[this.below(16)];
    }
    return out;
  }

  uuid() {
    return `${this.hex(8)}-${this.hex(4)}-4${this.hex(3)}-${'89ab'[this.below(4)]}${this.hex(3)}-${this.hex(12)}`;
  }

  shuffle(list) {
    const out = [...list];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  }
}

export function seeded() {
  const seed = process.env.BH_SEED ? Number(process.env.BH_SEED) >>> 0 : (Date.now() ^ (process.pid << 16)) >>> 0;
  process.stdout.write(`# seed ${seed} (BH_SEED=${seed} repeats this run)\n`);
  return new Random(seed);
}

const FIRST = ['Jonas', 'Lucia', 'Anselm', 'Mirela', 'Tobias', 'Ayo', 'Sanna', 'Rafael', 'Noor', 'Iris', 'Zoë', 'Łukasz', 'Héloïse',
  'Åse', 'Çelik', 'Ngozi', 'Søren', 'José'];
const LAST = ['Ivesdal', 'Quillfeather', 'Obuya', 'Vantongeren', 'Marlowe', 'Okpara', 'Lindqvist', 'Brancusi', 'Tanner',
  'Grünfeld', 'Petrović', 'Nakashima', 'Ó Súilleabháin', 'D’Arcy'];
const CITIES = [['Lyon', 'Auvergne', 'FR'], ['Malmö', 'Skåne', 'SE'], ['Porto', 'Norte', 'PT'], ['Kraków', 'Małopolska', 'PL'],
  ['Utrecht', 'Utrecht', 'NL'], ['Denver', 'Colorado', 'US']];
const ORGS = ['Bluefinch Media', 'Saltmarsh Labs', 'Thornbury Press', 'Kestrel Tooling', 'Ninefold Foods'];

/* An invented person: example.com mail, phone and IP numbers from ranges reserved for documentation. */
export function person(random, n) {
  const first = random.pick(FIRST);
  const last = random.pick(LAST);
  const ascii = `${first}.${last}`.normalize('NFKD').replace(/[^A-Za-z.]/g, '').toLowerCase();
  const [city, region, country] = random.pick(CITIES);
  const org = random.below(ORGS.length);
  return {
    n,
    id: `user_${n}_${random.hex(6)}`,
    device: random.uuid(),
    first,
    last,
    name: `${first} ${last}`,
    email: `${ascii}${n}@example.com`,
    phone: `+1-202-555-01${String(random.below(100)).padStart(2, '0')}`,
    ip: `203.0.113.${random.between(1, 254)}`,
    city,
    region,
    country,
    org: `org_${org}`,
    orgName: ORGS[org],
    plan: random.pick(['free', 'plus', 'pro']),
  };
}

const cases = [];

/* Without a vital case (the program did not even start) the others would say nothing. */
export function test(name, run, { vital = false } = {}) {
  cases.push({ name, run, vital });
}

/* Ends a case that cannot be run on this machine: it is counted apart, never as passed. */
export function skip(why) {
  throw Object.assign(new Error(why), { skipped: true });
}

const notes = new AsyncLocalStorage();

/* A measured value worth reading, printed under the case that measured it. */
export function note(text) {
  const list = notes.getStore();
  if (list) {
    list.push(text);
  } else {
    process.stdout.write(`# ${text}\n`);
  }
}

/* Runs all cases in order, prints each, and ends with the line that counts. */
export async function finish({ limit_ms = 10 * 60 * 1000 } = {}) {
  const only = process.env.BH_ONLY;
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for (const { name, run, vital } of cases) {
    if (only && !vital && !name.includes(only)) {
      continue;
    }
    const begun = Date.now();
    const list = [];
    let error;
    try {
      await notes.run(list, () => within(limit_ms, run(), name));
    } catch (caught) {
      error = caught;
    }
    const took = `${((Date.now() - begun) / 1000).toFixed(1)} s`;
    process.stdout.write(`${error?.skipped ? 'skipped' : error ? 'not ok' : 'ok'} - ${name} (${error?.skipped ? error.message : took})\n`);
    for (const line of list) {
      process.stdout.write(`#   ${line}\n`);
    }
    if (error?.skipped) {
      skipped++;
    } else if (error) {
      failed++;
      process.stdout.write(`${String(error.stack ?? error).split('\n').slice(0, 12).map((l) => `#   ${l}`).join('\n')}\n`);
      if (vital) {
        process.stdout.write('# the cases after this one need it and were not run\n');
        break;
      }
    } else {
      passed++;
    }
  }
  for (const clean of cleaners.reverse()) {
    try {
      await clean();
    } catch (error) {
      process.stdout.write(`# clean-up: ${error.message}\n`);
    }
  }
  process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
  setTimeout(() => process.exit(), 2000).unref();
}

/* For programs that are no suite (the demo): only the cleaning up. */
export async function finishQuietly() {
  for (const clean of cleaners.reverse()) {
    await clean();
  }
  setTimeout(() => process.exit(), 500).unref();
}

/* However a suite ends, the processes that it started end with it. */
const children = new Set();
export function watchChild(child) {
  children.add(child);
  child.once('exit', () => children.delete(child));
}
process.on('exit', () => {
  for (const child of children) {
    child.kill('SIGKILL');
  }
});
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) {
  process.on(signal, () => process.exit(130));
}
process.stdout.on('error', () => process.exit(141));

const cleaners = [];
export const onEnd = (clean) => cleaners.push(clean);

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function within(ms, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not done within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/* Polls until check() is truthy; the error says what was last seen. */
export async function until(check, what, ms = 20000, every = 50) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      last = await check();
      if (last) {
        return last;
      }
    } catch (error) {
      if (error.final) {
        throw error;
      }
      last = error;
    }
    if (Date.now() > end) {
      throw new Error(`${typeof what === 'function' ? what() : what}: not so within ${ms} ms (last: ${last?.message ?? JSON.stringify(last)})`);
    }
    await sleep(every);
  }
}

const taken = new Set();
export async function freePort() {
  for (;;) {
    const port = await new Promise((resolve, reject) => {
      const server = net.createServer();
      server.once('error', reject);
      server.listen(0, '127.0.0.1', () => {
        const { port: found } = server.address();
        server.close(() => resolve(found));
      });
    });
    if (!taken.has(port)) {
      taken.add(port);
      return port;
    }
  }
}

/* Short, because the path of a Unix socket has 107 bytes. */
export function tempFolder(name) {
  const base = process.env.BH_TMP ?? (fs.existsSync('/tmp') ? '/tmp' : os.tmpdir());
  const folder = fs.mkdtempSync(path.join(base, `bh-${name}-`));
  if (process.env.BH_KEEP !== '1') {
    onEnd(() => fs.rmSync(folder, { recursive: true, force: true }));
  }
  return folder;
}

export function quantile(sorted, q) {
  return sorted.length === 0 ? NaN : sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}
