#!/usr/bin/env node
// script/bench ingest: events a second on one core, beside the bare limit, in one run.
//
// Core 0: the server alone (the bare program, then Bulkhead without a vendor, then Bulkhead with one vendor draining). Core 1: loader and vendor (a C sink).
// 50 events of 600 B a request, then single events of 1 KB. --events N sets the vendor run's size (default 2,000,000; BH_FULL=1: 10,000,000).

import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Gateway, get, Metrics, SERVER_TOKEN } from '../e2e/lib/gateway.mjs';
import { finishQuietly, freePort, full, onEnd, root, sleep, tempFolder, until } from '../e2e/lib/harness.mjs';

const json = process.argv.includes('--json');
const value = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at > 0 ? Number(process.argv[at + 1]) : otherwise;
};
const EVENTS = value('--events', full ? 10e6 : 2e6);
const SECONDS = value('--seconds', 6);
const tool = (name) => path.join(root, 'build/release', name);
const PLAN = `events:
  '*': {}
properties:
  '*': { type: number }
`;

/* Runs the loader on core 1 to its end; its last line is JSON. */
function load(port, options) {
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

async function bare() {
  const folder = tempFolder('bare');
  const child = spawn('taskset', ['-c', '0', tool('bare'), '--file', path.join(folder, 'bare.data')], { stdio: ['ignore', 'pipe', 'inherit'] });
  onEnd(() => child.kill('SIGKILL'));
  const port = await new Promise((resolve) => child.stdout.on('data', (chunk) => {
    const found = /port (\d+)/.exec(chunk);
    if (found) {
      resolve(Number(found[1]));
    }
  }));
  return { port, stop: () => child.kill('SIGTERM') };
}

async function sink() {
  const port = await freePort();
  const child = spawn('taskset', ['-c', '1', tool('sink'), String(port), 'answer'], { stdio: ['pipe', 'ignore', 'inherit'] });
  onEnd(() => child.kill('SIGKILL'));
  await sleep(300);
  return { port, stop: () => child.kill('SIGKILL') };
}

const gateway = (vendorPort, env) => new Gateway({ name: 'bench', endpoint: `http://127.0.0.1:${vendorPort}`, wrapper: ['taskset', '-c', '0'],
  limits: '{ loops: 1 }', journal: '{ keep: 7d, segment: 128MiB, max: 60% }', plan: PLAN, env,
  ...(vendorPort === 0 ? { vendors: [] } : {}) });

async function accepted(g) {
  return new Metrics((await get(g.ports.health, '/metrics')).body).sum('bulkhead_events_accepted_total');
}

const rows = [];
const row = (what, eps, more = '') => {
  rows.push([what, Math.round(eps).toLocaleString('en-US').padStart(12), more]);
  process.stdout.write(`  ${what.padEnd(46)} ${rows.at(-1)[1]} events/s  ${more}\n`);
};

async function measure() {
  const result = {};
  const seconds = ['--seconds', String(SECONDS)];
  process.stdout.write(`${os.cpus()[0].model.trim()}, ${os.cpus().length} cores; server on core 0, loader and vendor on core 1\n\n`);

  const limit = await bare();
  await load(limit.port, ['--seconds', '1', '--url-path', '/x']);
  const bareRun = await load(limit.port, [...seconds, '--url-path', '/x']);
  const bareSingle = await load(limit.port, [...seconds, '--url-path', '/x', '--single', '--connections', '64']);
  limit.stop();
  result.limit_eps = Math.round(bareRun.events_per_s);
  row('bare limit, 50 x 600 B', bareRun.events_per_s, `p99 ${bareRun.p99_ms} ms`);
  row('bare limit, single 1 KB', bareSingle.events_per_s, `p99 ${bareSingle.p99_ms} ms`);

  const counts = path.join(tempFolder('count'), 'mallocs');
  const alone = await gateway(0, { LD_PRELOAD: tool('mallocs.so'), BH_MALLOC_COUNT: counts }).start();
  await load(alone.ports.ingest, ['--seconds', '1']);
  const mallocs = () => Number(fs.readFileSync(counts).readBigUInt64LE());
  const [allocsBefore, eventsBefore] = [mallocs(), await accepted(alone)];
  const run = await load(alone.ports.ingest, seconds);
  result.allocs_per_event = (mallocs() - allocsBefore) / (await accepted(alone) - eventsBefore);
  result.bare_eps = Math.round(run.events_per_s);
  result.rss_mib = Math.round(alone.rss() / 2 ** 20);
  row('Bulkhead without a vendor, 50 x 600 B', run.events_per_s, `p50 ${run.p50_ms} ms, p99 ${run.p99_ms} ms`);
  const single = await load(alone.ports.ingest, [...seconds, '--single', '--connections', '64']);
  row('Bulkhead without a vendor, single 1 KB', single.events_per_s, `p50 ${single.p50_ms} ms, p99 ${single.p99_ms} ms`);
  const open = await load(alone.ports.ingest, [...seconds, '--rate', String(Math.round(run.events_per_s / 2))]);
  result.ack_p99_ms = open.p99_ms;
  row('  open loop at half of that', open.events_per_s, `p50 ${open.p50_ms} ms, p99 ${open.p99_ms} ms`);
  await alone.stop();

  const vendor = await sink();
  const g = await gateway(vendor.port).start();
  await g.open('mixpanel', '--replay');
  const begun = Date.now();
  const drained = load(g.ports.ingest, ['--events', String(EVENTS)]);
  let rss = 0;
  const sampler = setInterval(() => (rss = Math.max(rss, g.rss())), 200);
  await drained;
  await until(async () => (await g.vendor()).backlog === 0, 'drained', 600000, 100);
  const took = (Date.now() - begun) / 1000;
  clearInterval(sampler);
  result.vendor_eps = Math.round(EVENTS / took);
  result.rss_mib = Math.max(result.rss_mib, Math.round(rss / 2 ** 20));
  row('Bulkhead with one vendor draining', EVENTS / took, `${EVENTS.toLocaleString('en-US')} events, RSS ${Math.round(rss / 2 ** 20)} MiB`);
  await g.stop();
  vendor.stop();

  result.bare_ratio = Number((result.bare_eps / result.limit_eps).toFixed(3));
  result.vendor_ratio = Number((result.vendor_eps / result.limit_eps).toFixed(3));
  result.single_ratio = Number((single.events_per_s / bareSingle.events_per_s).toFixed(3));
  return result;
}

try {
  execFileSync('taskset', ['-c', '0', 'true']);
  const result = await measure();
  process.stdout.write(`\n  ratio to the limit: ${result.bare_ratio} without a vendor (aim 0.5), ${result.vendor_ratio} with one (aim 0.3)\n`
    + `  allocations an event: ${result.allocs_per_event.toFixed(6)}; RSS ${result.rss_mib} MiB (aim 128)\n`);
  if (json) {
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
} finally {
  await finishQuietly();
}
