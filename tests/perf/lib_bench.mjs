// What the benchmarks of the whole way share: core 0 is the server's alone, core 1 the loader's and the vendor's.

import { spawn } from 'node:child_process';
import path from 'node:path';
import { Gateway, get, Metrics, SERVER_TOKEN } from '../e2e/lib/gateway.mjs';
import { freePort, onEnd, root, sleep, until } from '../e2e/lib/harness.mjs';

/* The number behind a word of the command line. */
export function value(name, otherwise) {
  const at = process.argv.indexOf(name);
  return at > 0 ? Number(process.argv[at + 1]) : otherwise;
}

export const tool = (name) => path.join(root, 'build/release', name);
const PLAN = `events:
  '*': {}
properties:
  '*': { type: number }
`;

/* Runs the loader on core 1 to its end; its last line is JSON. */
export function load(port, options) {
  return new Promise((resolve, reject) => {
    const args = ['-c', '1', tool('loader'), '--port', String(port), '--token', SERVER_TOKEN, '--people', '100000', ...options];
    const child = spawn('taskset', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (chunk) => (out += chunk));
    child.on('exit', (code) => {
      const last = out.trim().split('\n').at(-1);
      return code === 0 ? resolve(JSON.parse(last)) : reject(new Error(`loader: exit ${code}: ${last}`));
    });
  });
}

export async function sink() {
  const port = await freePort();
  const child = spawn('taskset', ['-c', '1', tool('sink'), String(port), 'answer'], { stdio: ['pipe', 'ignore', 'inherit'] });
  onEnd(() => child.kill('SIGKILL'));
  await sleep(300);
  return { port, stop: () => child.kill('SIGKILL') };
}

export const gateway = (vendorPort, env) => new Gateway({ name: 'bench', endpoint: `http://127.0.0.1:${vendorPort}`, wrapper: ['taskset', '-c', '0'],
  limits: '{ loops: 1 }', journal: '{ keep: 7d, segment: 128MiB, max: 60% }', plan: PLAN, env,
  ...(vendorPort === 0 ? { vendors: [] } : {}) });

export async function accepted(g) {
  return new Metrics((await get(g.ports.health, '/metrics')).body).sum('bulkhead_events_accepted_total');
}

/* The load, and the time from its first request until the vendor has answered for the last event. */
export async function drain(g, events) {
  const begun = Date.now();
  await load(g.ports.ingest, ['--events', String(events)]);
  await until(async () => (await g.vendor()).backlog === 0, 'drained', 600000, 20);
  return events * 1000 / (Date.now() - begun);
}
