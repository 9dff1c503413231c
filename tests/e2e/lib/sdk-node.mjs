// Drives the unmodified Mixpanel node SDK. Every call is a promise of the error that the SDK reported, or null.

import { need } from './harness.mjs';

export class NodeSdk {
  constructor(url, token, options = {}) {
    const target = new URL(url);
    const { init } = need('mixpanel');
    this.client = init(token, { host: target.hostname, port: target.port, protocol: target.protocol.replace(':', ''),
      path: target.pathname.replace(/\/$/, ''), verbose: false, ...options });
  }

  call(run) {
    return new Promise((resolve) => run((error) => resolve(flatten(error))));
  }

  track(event, properties) {
    return this.call((done) => this.client.track(event, properties, done));
  }

  trackBatch(list, options = {}) {
    return this.call((done) => this.client.track_batch(list, options, done));
  }

  import(event, time, properties) {
    return this.call((done) => this.client.import(event, time, properties, done));
  }

  importBatch(list, options = {}) {
    return this.call((done) => this.client.import_batch(list, options, done));
  }

  alias(user, alias) {
    return this.call((done) => this.client.alias(user, alias, done));
  }

  people(verb, ...args) {
    return this.call((done) => this.client.people[verb](...args, done));
  }

  groups(verb, ...args) {
    return this.call((done) => this.client.groups[verb](...args, done));
  }

  /* What a server does that knows the anonymous id of a visit: the event that Mixpanel documents for it. */
  identify(user, anon) {
    return this.track('$identify', { distinct_id: user, $identified_id: user, $anon_id: anon });
  }

  merge(a, b) {
    return this.importBatch([{ event: '$merge', properties: { $distinct_ids: [a, b], time: Math.floor(Date.now() / 1000),
      distinct_id: a, $insert_id: `m-${a}-${b}`.replace(/[^A-Za-z0-9-]/g, '').slice(0, 36) } }]);
  }
}

function flatten(error) {
  if (error === undefined || error === null) {
    return null;
  }
  const list = Array.isArray(error) ? error.filter(Boolean) : [error];
  return list.length === 0 ? null : list.map((e) => e.message || e.code || e.errors?.[0]?.code || String(e)).join('; ');
}

/* One person's whole way through a product, with the personal data that products send. Resolves to what was sent. */
export async function serverStory(sdk, person, random) {
  const sent = { events: 0, updates: 0, groups: 0 };
  const errors = [];
  const keep = (kind, promise) => {
    sent[kind]++;
    return promise.then((error) => error && errors.push(error));
  };
  let at = Math.floor(Date.now() / 1000) - 600 - random.below(3000);
  const tick = () => (at += 1 + random.below(30));
  await keep('events', sdk.track('$mp_web_page_view', { distinct_id: person.device, time: tick(), ip: person.ip,
    $current_url: `https://app.example.com/pricing?email=${encodeURIComponent(person.email)}`, $os: 'macOS', $browser: 'Chrome',
    $insert_id: random.hex(16) }));
  await keep('events', sdk.track('$identify', { distinct_id: person.id, $identified_id: person.id, $anon_id: person.device,
    time: tick(), $insert_id: random.hex(16) }));
  await keep('events', sdk.track('Signed Up', { distinct_id: person.id, plan: person.plan, time: tick(), ip: person.ip,
    email: person.email, $city: person.city, $insert_id: random.hex(16) }));
  await keep('updates', sdk.people('set', person.id, { $name: person.name, $first_name: person.first, $last_name: person.last,
    $email: person.email, $phone: person.phone, plan: person.plan }));
  await keep('updates', sdk.people('set_once', person.id, { first_seen_plan: person.plan }));
  await keep('updates', sdk.people('increment', person.id, 'completions_run', 1));
  await keep('updates', sdk.people('union', person.id, { models: ['lumen-mini'] }));
  await keep('groups', sdk.groups('set', 'company', person.org, { $name: person.orgName, plan: 'team' }));
  const runs = random.between(1, 4);
  const batch = Array.from({ length: runs }, () => ({ event: 'Completion Run', properties: { distinct_id: person.id, time: tick(),
    model: 'lumen-mini', tokens: random.below(4000), company: person.org, $insert_id: random.hex(16) } }));
  sent.events += runs - 1;
  await keep('events', sdk.trackBatch(batch));
  return { ...sent, errors };
}
