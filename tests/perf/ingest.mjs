#!/usr/bin/env node
// script/bench ingest: events a second on one core, beside the bare limit, in one run.
//
// Core 0: the server alone (the bare program, Bulkhead without a vendor, Bulkhead with one vendor draining, in turns). Core 1: loader and vendor (a C sink).
// 50 events of 600 B a request, then single events of 1 KB. --events N sets the vendor run's size (default 2,000,000; BH_FULL=1: 10,000,000).

import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { makeCertificates } from '../e2e/lib/certs.mjs';
import { finishQuietly, full, onEnd, tempFolder } from '../e2e/lib/harness.mjs';
import { accepted, drain, gateway, load, sink, tool, value } from './lib_bench.mjs';

const json = process.argv.includes('--json');
const EVENTS = value('--events', full ? 10e6 : 2e6);
const SECONDS = value('--seconds', 4);
const ROUNDS = value('--rounds', 3);

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

const rows = [];
const row = (what, eps, more = '') => {
  rows.push([what, Math.round(eps).toLocaleString('en-US').padStart(12), more]);
  process.stdout.write(`  ${what.padEnd(46)} ${rows.at(-1)[1]} events/s  ${more}\n`);
};

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const of = (runs, key) => median(runs.map((run) => run[key]));

/* Allocations an event, counted apart: the hook costs time, so no timed run has it. */
async function allocations(vendorPort) {
  const counts = path.join(tempFolder('count'), 'mallocs');
  const g = await gateway(vendorPort, { LD_PRELOAD: tool('mallocs.so'), BH_MALLOC_COUNT: counts }).start();
  await g.open('mixpanel', '--replay');
  await load(g.ports.ingest, ['--seconds', '1']);
  const mallocs = () => Number(fs.readFileSync(counts).readBigUInt64LE());
  const [allocsBefore, eventsBefore] = [mallocs(), await accepted(g)];
  await load(g.ports.ingest, ['--seconds', String(SECONDS)]);
  const each = (mallocs() - allocsBefore) / (await accepted(g) - eventsBefore);
  await g.stop();
  return each;
}

async function measure() {
  const seconds = ['--seconds', String(SECONDS)];
  const one = ['--single', '--connections', '64'];
  process.stdout.write(`${os.cpus()[0].model.trim()}, ${os.cpus().length} cores; server on core 0, loader and vendor on core 1; median of ${ROUNDS} rounds\n\n`);
  const limit = await bare();
  const alone = await gateway(0).start();
  const vendor = await sink();
  const g = await gateway(vendor.port).start();
  const secret = gateway(0);
  secret.tls = makeCertificates(tempFolder('certs'));
  await secret.start();
  await g.open('mixpanel', '--replay');
  let rss = 0;
  const sampler = setInterval(() => (rss = Math.max(rss, alone.rss(), g.rss())), 200);
  await load(limit.port, ['--seconds', '1', '--url-path', '/x']);
  await load(alone.ports.ingest, ['--seconds', '1']);
  await drain(g, 50000);

  const [bares, bareSingles, runs, singles, opens, drains, secrets] = [[], [], [], [], [], [], []];
  for (let round = 0; round < ROUNDS; round++) {
    bares.push(await load(limit.port, [...seconds, '--url-path', '/x']));
    runs.push(await load(alone.ports.ingest, seconds));
    secrets.push(await load(secret.ports.ingest, [...seconds, '--tls']));
    drains.push(await drain(g, Math.ceil(EVENTS / ROUNDS)));
    bareSingles.push(await load(limit.port, [...seconds, '--url-path', '/x', ...one]));
    singles.push(await load(alone.ports.ingest, [...seconds, ...one]));
  }
  for (let round = 0; round < ROUNDS; round++) {
    opens.push(await load(alone.ports.ingest, [...seconds, '--rate', String(Math.round(of(runs, 'events_per_s') / 2))]));
  }
  clearInterval(sampler);
  limit.stop();
  await alone.stop();
  await secret.stop();
  await g.stop();

  const line = (what, list) => row(what, of(list, 'events_per_s'), `p50 ${of(list, 'p50_ms')} ms, p99 ${of(list, 'p99_ms')} ms`);
  line('bare limit, 50 x 600 B', bares);
  line('Bulkhead without a vendor, 50 x 600 B', runs);
  line('  the same by TLS', secrets);
  row('Bulkhead with one vendor draining', median(drains), `${EVENTS.toLocaleString('en-US')} events`);
  line('bare limit, single 1 KB', bareSingles);
  line('Bulkhead without a vendor, single 1 KB', singles);
  line('  50 x 600 B, open loop at half', opens);
  const result = { limit_eps: Math.round(of(bares, 'events_per_s')), bare_eps: Math.round(of(runs, 'events_per_s')),
    vendor_eps: Math.round(median(drains)), ack_p99_ms: of(opens, 'p99_ms'), rss_mib: Math.round(rss / 2 ** 20),
    allocs_per_event: await allocations(vendor.port) };
  vendor.stop();
  /* Ratios are taken round by round, so that both sides met the same machine. */
  result.bare_ratio = Number(median(runs.map((run, i) => run.events_per_s / bares[i].events_per_s)).toFixed(3));
  result.vendor_ratio = Number(median(drains.map((eps, i) => eps / bares[i].events_per_s)).toFixed(3));
  result.tls_ratio = Number(median(secrets.map((run, i) => run.events_per_s / bares[i].events_per_s)).toFixed(3));
  result.single_ratio = Number(median(singles.map((run, i) => run.events_per_s / bareSingles[i].events_per_s)).toFixed(3));
  return result;
}

try {
  execFileSync('taskset', ['-c', '0', 'true']);
  const result = await measure();
  process.stdout.write(`\n  ratio to the limit: ${result.bare_ratio} without a vendor (aim 0.5), ${result.vendor_ratio} with one (aim 0.3), ${result.tls_ratio} by TLS without one\n`
    + `  allocations an event: ${result.allocs_per_event.toFixed(6)}; RSS ${result.rss_mib} MiB (aim 128)\n`);
  if (json) {
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
} finally {
  await finishQuietly();
}
