// The vendors that the suites of a story know: a source of each one's protocol, a strict stand-in, and the contract that `init` writes. OWN and CROSS say
// which source feeds which vendors; a further one is a line here.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Gateway } from './gateway.mjs';
import { onEnd, tempFolder } from './harness.mjs';
import { Standin } from './standin.mjs';
import { AmplitudeStandin } from './standin_amplitude.mjs';
import { PostHogStandin } from './standin_posthog.mjs';
import { SegmentStandin } from './standin_segment.mjs';
import { requestsOf } from './story.mjs';
import { TELLERS } from './tell.mjs';

/* items: what arrived, in the vendor's own form and in order; batches: how many of them each request brought. */
const plain = { items: (standin) => standin.items, batches: (standin) => standin.batches, refusals: (standin) => standin.refusals };

export const VENDORS = {
  /* A story of weeks is told in seconds: the rule that /track takes nothing older than five days does not hold here. */
  mixpanel: { make: (token, bodies) => new Standin({ token, bodies, trackDays: 36500 }),
    items: (standin) => standin.items.map((entry) => entry.item),
    batches: (standin) => standin.requests.map((r) => standin.items.filter((i) => i.request === r.id).length).filter((n) => n > 0),
    refusals: (standin) => [...standin.refusals.keys()] },
  posthog: { ...plain, make: (token) => new PostHogStandin({ token }) },
  segment: { ...plain, make: (key) => new SegmentStandin({ key }) },
  rudder: { ...plain, make: (key) => new SegmentStandin({ key, batchMax: 4 * 1024 * 1024, yes: 'OK' }) },
  amplitude: { ...plain, make: (key) => new AmplitudeStandin({ key }) },
};

export const SOURCES = Object.keys(VENDORS);

/* [source, vendor]: each protocol's own vendor, and every other one, which receives it translated. */
export const OWN = SOURCES.map((source) => [source, source]);
export const CROSS = SOURCES.flatMap((source) => Object.keys(VENDORS).filter((vendor) => vendor !== source).map((vendor) => [source, vendor]));

/* The contract as `init` writes it, for this stand-in; `name` where a vendor is there twice. */
function contractOf(binary, vendor, endpoint, { name = vendor, time, opened = [] } = {}) {
  const folder = tempFolder('init');
  execFileSync(binary, ['init', path.join(folder, 'conf'), '--vendor', vendor, '--key', path.join(folder, 'key')], { stdio: 'ignore' });
  let text = fs.readFileSync(path.join(folder, `conf/vendors/${vendor}.yaml`), 'utf8');
  const change = (from, to) => {
    if (!from.test(text)) {
      throw new Error(`the contract of ${vendor} has no ${from}`);
    }
    text = text.replace(from, to);
  };
  change(/^endpoint: \S+/m, `endpoint: ${endpoint}`);
  change(/^vendor: \S+/m, `vendor: ${name}`);
  if (time) {
    change(/^time: \S+/m, `time: ${time}`);
  }
  for (const line of opened) {
    const key = line.trim().split(':')[0];
    const old = new RegExp(`^  ${key.replaceAll('.', '\\.')}: .*$`, 'm');
    text = old.test(text) ? text.replace(old, `  ${line}`) : text.replace(/^allow:$/m, `allow:\n  ${line}`);
  }
  return text;
}

/*
 * One gateway with a web and an api source of each protocol. targets: [{ vendor, name, sources: [protocol], time, opened }].
 */
export class StoryGateway extends Gateway {
  constructor({ targets, sources, plan, name = 'story' }) {
    const env = {};
    for (const source of sources) {
      env[`BULKHEAD_${source.toUpperCase()}_TOKEN`] = `${source}_api_token_0123456789`;
    }
    super({ name, plan, env, vendors: [] });
    this.targets = targets;
    this.protocols = sources;
    this.recorded = {}; /* of a protocol: further tokens, such as those of the recordings */
  }

  async openAll() {
    for (const target of this.targets) {
      target.name ??= target.vendor;
      target.key = `${target.name.replaceAll('-', '_')}_vendor_key`;
      this.env[target.credential = `KEY_${target.name.replaceAll('-', '_').toUpperCase()}`] = target.key;
      target.standin = await VENDORS[target.vendor].make(target.key, target.bodies).start();
      onEnd(() => target.standin.stop());
    }
    await this.start();
    for (const target of this.targets) {
      await this.open(target.name);
    }
  }

  token(source, origin) {
    return origin === 'api' ? this.env[`BULKHEAD_${source.toUpperCase()}_TOKEN`] : `${source}_web_token_0123456789`;
  }

  write() {
    this.sources = this.protocols.flatMap((source) => {
      const vendors = this.targets.filter((target) => target.sources.includes(source)).map((target) => target.name).join(', ');
      return [`{ name: ${source}-web, protocol: ${source}, token: ${this.token(source, 'web')}, trust: browser, vendors: [${vendors}] }`,
        `{ name: ${source}-api, protocol: ${source}, token: { env: BULKHEAD_${source.toUpperCase()}_TOKEN }, trust: server, vendors: [${vendors}] }`,
        ...(this.recorded?.[source] ?? []).map((token, n) => `{ name: ${source}-${n}, protocol: ${source}, token: ${token}, trust: server, vendors: [${vendors}] }`)];
    });
    super.write();
    for (const target of this.targets) {
      const text = contractOf(this.binary, target.vendor, target.standin.url, target).replace(/^credential: .*$/m, `credential: { env: ${target.credential} }`);
      fs.writeFileSync(path.join(this.config, 'vendors', `${target.name}.yaml`), text);
    }
  }

  target(name) {
    return this.targets.find((t) => t.name === name);
  }

  /* Every byte that reached a vendor. */
  bytes(target) {
    return target.bodies !== undefined && fs.existsSync(target.bodies) ? fs.readFileSync(target.bodies) : Buffer.from(target.standin.text ?? '');
  }

  items(name) {
    const target = this.target(name);
    return VENDORS[target.vendor].items(target.standin);
  }

  async drainedAll(ms = 120000) {
    for (const target of this.targets) {
      await this.drained(target.name, ms);
    }
  }
}

/* The whole story by the SDK of each source, through a tap that keeps what was said. */
export async function tellAll(gateway, source, calls, tap) {
  const tellers = Object.fromEntries(['web', 'api'].map((origin) => [origin, TELLERS[source](`${tap.origin}/${source}`, gateway.token(source, origin))]));
  for (const list of requestsOf(calls)) {
    await tellers[list[0].origin].say(list);
  }
  const errors = [];
  for (const teller of Object.values(tellers)) {
    await teller.end();
    errors.push(...teller.errors);
  }
  return errors;
}
