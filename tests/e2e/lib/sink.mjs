// Runs tests/perf/sink.c: a receiver that reports what its kernel has received, with the same monotonic clock as Node's.

import { execFileSync, spawn } from 'node:child_process';
import path from 'node:path';
import { freePort, onEnd, root, tempFolder, until, watchChild } from './harness.mjs';

let program;

function build() {
  if (!program) {
    program = path.join(tempFolder('sink'), 'sink');
    execFileSync(process.env.CC ?? 'cc', ['-std=c17', '-O2', '-o', program, path.join(root, 'tests/perf/sink.c')]);
  }
  return program;
}

export const monotonicUs = () => Number(process.hrtime.bigint() / 1000n);

export class Sink {
  async start(mode, port) {
    this.port = port ?? await freePort();
    this.samples = [];
    this.child = spawn(build(), [String(this.port), mode], { stdio: ['pipe', 'pipe', 'inherit'] });
    watchChild(this.child);
    let rest = '';
    this.child.stdout.on('data', (chunk) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        this.samples.push(JSON.parse(line));
      }
    });
    this.child.stdin.on('error', () => {});
    this.exited = new Promise((resolve) => this.child.once('exit', resolve));
    onEnd(() => this.stop());
    await until(() => this.samples.length > 0, 'the sink', 5000, 5);
    return this;
  }

  get last() {
    return this.samples.at(-1);
  }

  mode(name) {
    this.child.stdin.write(`mode ${name}\n`);
  }

  /* A look that is taken after the call. */
  async sample() {
    const from = monotonicUs();
    this.child.stdin.write('sample\n');
    return until(() => this.samples.find((s) => s.before_us >= from), 'a sample', 5000, 2);
  }

  /* What certainly arrived after `t_us`; `unclear` is what came in the one look (a millisecond) that straddles it. */
  after(t_us) {
    const found = { bytes: 0, connections: 0, unclear: 0 };
    for (let i = 1; i < this.samples.length; i++) {
      const sample = this.samples[i];
      const bytes = sample.bytes - this.samples[i - 1].bytes;
      if (sample.since_us >= t_us) {
        found.bytes += bytes;
        found.connections += sample.connections - this.samples[i - 1].connections;
      } else if (sample.after_us > t_us) {
        found.unclear += bytes;
      }
    }
    return found;
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.stdin.write('quit\n');
      setTimeout(() => this.child.kill('SIGKILL'), 1000).unref();
      await this.exited;
    }
  }
}
