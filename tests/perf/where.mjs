#!/usr/bin/env node
// script/bench where: where the time of an event goes, by thread and module, from samples of a server under load with one vendor draining.
//
// CPU time comes from /proc (all threads, user and kernel), its shares from perf (package linux-perf; without it this says so and ends with 2).
// A sample belongs to the module whose source file holds its function (nm --line-numbers), or to the library it lies in.

import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { finishQuietly, root, sleep, tempFolder } from '../e2e/lib/harness.mjs';
import { drain, gateway, sink, tool, value } from './lib_bench.mjs';

const EVENTS = value('--events', 1e6);
const program = tool('bulkhead');

/* name of a function -> modules that have one; statics of the same name may live in several. */
function modules() {
  const text = execFileSync('nm', ['--line-numbers', '--defined-only', program], { maxBuffer: 64 << 20 }).toString();
  const known = new Map();
  for (const line of text.split('\n')) {
    const found = /^([0-9a-f]+) [tTwW] (\S+)\t(.*):\d+$/.exec(line);
    if (found) {
      const place = path.relative(root, found[3]).split('/');
      const module = place[0] === 'src' ? place.slice(1, place[1] === 'flow' || place[1] === 'engine' || place[1] === 'protocol' ? 3 : 2).join('/') : 'libc';
      known.set(found[2], [...(known.get(found[2]) ?? []), { at: BigInt(`0x${found[1]}`), module }]);
    }
  }
  return known;
}

/* The module of a sample: among functions of one name, the one at this address (the program's base is a multiple of a page). */
function moduleOf(known, name, ip, offset) {
  const candidates = known.get(name) ?? [];
  const start = (BigInt(`0x${ip}`) - BigInt(offset)) & 0xfffn;
  return (candidates.find((one) => (one.at & 0xfffn) === start) ?? candidates[0])?.module ?? 'unknown';
}

function library(dso) {
  return /kernel|\[vdso\]/.test(dso) ? 'kernel' : path.basename(dso).replace(/\.so.*/, '').replace(/\)$/, '');
}

function count(file) {
  const text = execFileSync('perf', ['script', '-i', file, '-F', 'comm,ip,sym,symoff,dso'], { maxBuffer: 1 << 30, stdio: ['ignore', 'pipe', 'ignore'] }).toString();
  const known = modules();
  const cells = new Map();
  let total = 0;
  for (const line of text.split('\n')) {
    const found = /^\s*(.+?)\s+([0-9a-f]+) (\S+?)(?:\+(0x[0-9a-f]+))? \((.*)\)$/.exec(line);
    if (found) {
      const [, thread, ip, name, offset, dso] = found;
      const where = dso.endsWith('/bulkhead') ? moduleOf(known, name, ip, offset ?? '0') : library(dso);
      const key = `${thread}\t${where}`;
      cells.set(key, (cells.get(key) ?? 0) + 1);
      total++;
    }
  }
  return { cells, total };
}

/* CPU time of the whole process in µs; 100 ticks a second on every Linux that Debian ships. */
function cpuTime(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10000;
}

async function measure() {
  const vendor = await sink();
  const g = await gateway(vendor.port).start();
  await g.open('mixpanel', '--replay');
  await drain(g, 100000);
  const file = path.join(tempFolder('where'), 'perf.data');
  const recorder = spawn('perf', ['record', '-q', '-F', '2000', '-p', String(g.pid), '-o', file], { stdio: 'ignore' });
  const ended = new Promise((resolve) => recorder.on('exit', resolve));
  await sleep(500);
  const before = cpuTime(g.pid);
  const rate = await drain(g, EVENTS);
  const spent = (cpuTime(g.pid) - before) / EVENTS;
  recorder.kill('SIGINT');
  await ended;
  await g.stop();
  vendor.stop();
  return { rate, spent, ...count(file) };
}

function print({ rate, spent, cells, total }) {
  const rows = [...cells].map(([key, n]) => [...key.split('\t'), n]).sort((a, b) => b[2] - a[2]);
  const threads = [...new Set(rows.map(([thread]) => thread))];
  const sum = (keep) => rows.filter(keep).reduce((n, row) => n + row[2], 0);
  threads.sort((a, b) => sum((row) => row[0] === b) - sum((row) => row[0] === a));
  process.stdout.write(`${EVENTS.toLocaleString('en-US')} events of 600 B, ${Math.round(rate).toLocaleString('en-US')} a second, ${spent.toFixed(2)} µs of CPU an event, ${total} samples\n`);
  const line = (what, n) => process.stdout.write(`${what.padEnd(36)} ${(spent * n / total).toFixed(2).padStart(6)} µs ${(100 * n / total).toFixed(1).padStart(6)} %\n`);
  for (const thread of threads) {
    const all = sum((row) => row[0] === thread);
    if (all < total / 200) {
      continue;
    }
    process.stdout.write('\n');
    line(thread, all);
    for (const [, where, n] of rows.filter((row) => row[0] === thread && row[2] >= total / 400)) {
      line(`    ${where}`, n);
    }
  }
}

try {
  execFileSync('perf', ['--version'], { stdio: 'ignore' });
} catch {
  process.stderr.write('where: needs perf (Debian: apt-get install linux-perf)\n');
  process.exit(2);
}
try {
  print(await measure());
} finally {
  await finishQuietly();
}
