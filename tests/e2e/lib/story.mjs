// A product's story, told of n invented people: an anonymous visit, pages, sign-up, the merge of both ids, a group, a purchase, a second
// device, an alias, a shared device, and the return after eight days. It knows no vendor: tellers say it in each SDK's words.
//
// Every call: { kind: page | track | identify | group | alias, at, n, person, user, anon, session, origin: web | api, … }.
// `user` is undefined before the login; `origin: api` is the product's server, which knows neither device nor session.

import { person } from './harness.mjs';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const PATHS = ['/pricing', '/docs', '/docs/quickstart', '/dashboard', '/orders/84113/items', '/settings/billing'];
const DEVICES = [['Chrome', 'Linux', 138], ['Firefox', 'Windows', 141], ['Safari', 'Mac OS X', 18], ['Chrome', 'Android', 137]];
const MODELS = ['lumen-mini', 'lumen-large-2', 'vela-70b'];

/* What a product declares for this story; the contracts stay as `init` writes them. */
export const STORY_PLAN = `events:
  Signed Up: { properties: { plan: { enum: [free, plus, pro] } } }
  Signed In: {}
  Completion Run: {}
  Order Completed: {}
properties:
  tokens: { type: number }
  latency_ms: { type: number }
  stream: { type: boolean }
  model: { type: string, max_distinct: 50 }
  currency: { pattern: '[A-Z]{3}' }
  plan: { enum: [free, plus, pro] }
  revenue: { type: number, class: user.behavior.purchase_history }
traits:
  plan: { enum: [free, plus, pro] }
groups:
  company: { class: user.workplace }
`;

class Teller {
  constructor(random, someone, calls) {
    Object.assign(this, { random, someone, calls, ids: { anon: random.uuid() }, user: undefined, session: undefined });
    [this.browser, this.os, this.version] = random.pick(DEVICES);
  }

  begin(at, anon) {
    this.at = at;
    this.anon = anon;
    this.session = at;
  }

  /* Somewhere between two seconds and eight minutes later; well within the thirty minutes after which a session ends. */
  later(least = 2 * SECOND, most = 8 * MINUTE) {
    this.at += least + this.random.below(most - least);
    return this.at;
  }

  say(kind, rest = {}) {
    this.calls.push({ kind, at: this.at, n: this.someone.n, person: this.someone, user: this.user, anon: this.anon, session: this.session, origin: 'web',
      browser: this.browser, os: this.os, version: this.version,
      group: this.user === undefined ? undefined : this.group, ...rest });
  }

  server(kind, rest = {}) {
    this.say(kind, { ...rest, origin: 'api', anon: undefined, session: undefined });
  }

  pages(n) {
    for (let i = 0; i < n; i++) {
      this.say('page', { path: this.random.pick(PATHS) });
      this.later();
    }
  }

  signUp() {
    this.user = this.someone.id;
    this.say('identify', { traits: { plan: this.someone.plan } });
    /* At once, in the same second and the same request: the order within it must survive. */
    this.at += 1 + this.random.below(300);
    this.say('track', { name: 'Signed Up', properties: { plan: this.someone.plan } });
    this.later();
  }

  join() {
    this.group = this.someone.org;
    this.say('group', { traits: { plan: this.someone.plan } });
    this.later();
  }

  runs(n) {
    for (let i = 0; i < n; i++) {
      this.say('track', { name: 'Completion Run', properties: { tokens: 1 + this.random.below(4000), latency_ms: 50 + this.random.below(900),
        stream: this.random.chance(0.5), model: this.random.pick(MODELS) } });
      this.later();
    }
  }

  buy() {
    this.server('track', { name: 'Order Completed', properties: { revenue: 5 + this.random.below(400), currency: 'EUR', plan: this.someone.plan } });
    this.later();
  }

  signIn(anon) {
    this.anon = anon;
    this.user = this.someone.id;
    this.say('identify', { traits: { plan: this.someone.plan } });
    this.at += 1 + this.random.below(300);
    this.say('track', { name: 'Signed In', properties: {} });
    this.later();
  }
}

function tellOne(random, someone, start, calls, lent) {
  const t = new Teller(random, someone, calls);
  const first = start + random.below(13) * DAY + random.below(9 * HOUR);
  t.begin(first, lent ?? t.ids.anon);
  t.pages(random.between(1, 4));
  if (random.chance(0.3)) {
    t.begin(first + DAY + random.below(6 * HOUR), t.anon); /* another visit before the sign-up */
    t.pages(random.between(1, 3));
  }
  const isUser = lent !== undefined || random.chance(0.75);
  if (isUser) {
    t.signUp();
    if (random.chance(0.8)) {
      t.join();
    }
    t.runs(random.between(0, 3));
    t.say('track', { name: 'Search Typed', properties: { text: `how does ${someone.name} do` } }); /* in no plan */
    t.later();
    if (random.chance(0.5)) {
      t.buy();
    }
    if (random.chance(0.4)) {
      const user = t.user;
      t.user = undefined; /* a second device begins as a stranger */
      [t.browser, t.os, t.version] = random.pick(DEVICES);
      t.begin(t.at + 2 * HOUR + random.below(20 * HOUR), random.uuid());
      t.pages(random.between(1, 3));
      t.signIn(t.anon);
      t.runs(random.between(1, 2));
      t.user = user;
    }
    if (random.chance(0.1)) {
      const old = t.user;
      t.user = `${old}-renamed`;
      t.server('alias', { from: old, to: t.user });
      t.at += 3 * SECOND;
      t.server('track', { name: 'Completion Run', properties: { tokens: 7, model: 'lumen-mini' } });
      t.user = old;
    }
  }
  if (random.chance(0.6)) {
    t.begin(first + 8 * DAY + random.below(9 * HOUR), t.anon);
    t.pages(random.between(1, 2));
    if (isUser) {
      t.runs(random.between(1, 3));
      if (random.chance(0.4)) {
        t.buy();
      }
    }
  }
  return t;
}

/* All calls in the order in which they happened, as if the SDKs had sent them then. `now`: nothing of it lies in the future. */
export function story(random, people, now = Date.now()) {
  const start = Math.floor(now / DAY) * DAY - 24 * DAY;
  const calls = [];
  const everyone = [];
  let before;
  for (let n = 0; n < people; n++) {
    const someone = person(random, n);
    everyone.push(someone);
    /* Of twenty people one signs up on a device that somebody used before, as families do. */
    const lent = before !== undefined && random.chance(0.05) ? before.ids.anon : undefined;
    before = tellOne(random, someone, start, calls, lent);
  }
  calls.sort((a, b) => a.at - b.at);
  calls.forEach((call, i) => (call.id = `${String(i).padStart(8, '0')}-${random.hex(8)}`));
  return { people: everyone, calls, start };
}

/* Calls of one person that follow each other at once, by the same way: what an SDK puts into one request. */
export function requestsOf(calls, most = 12) {
  const open = new Map();
  const out = [];
  for (const call of calls) {
    const key = `${call.n} ${call.origin}`;
    const last = open.get(key);
    if (last && last.length < most && call.at - last.at(-1).at < 30 * MINUTE) {
      last.push(call);
    } else {
      const list = [call];
      open.set(key, list);
      out.push(list);
    }
  }
  return out;
}

/* A UUIDv7 of a moment, as posthog-js makes for visitors and sessions. */
export function uuid7(at, seed) {
  const head = at.toString(16).padStart(12, '0');
  const tail = Array.from({ length: 18 }, (_, i) => ((seed * 2654435761 + i * 40503 + (seed >>> (i % 16))) >>> 8 & 15).toString(16)).join('');
  return `${head.slice(0, 8)}-${head.slice(8)}-7${tail.slice(0, 3)}-a${tail.slice(3, 6)}-${tail.slice(6, 18)}`;
}
