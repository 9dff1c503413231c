// People, funnels and retention as Mixpanel's original ID merge would count them, over any list of items. The
// same count over raw ids and over what the gateway sent must agree: that is what a product team loses
// or keeps when ids are replaced.

import { timeMs } from './wire.mjs';

const UUID4 = /^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$/i;
const CLUSTER_MAX = 500;

const bare = (id) => String(id).replace(/^\$device:/, '');

export class People {
  constructor() {
    this.parent = new Map();
    this.size = new Map();
    this.anonymous = new Set();
    this.aliases = new Set();
    this.events = [];
    this.profiles = new Map();
    this.groups = new Map();
    this.refusedMerges = [];
  }

  root(id) {
    let at = bare(id);
    if (!this.parent.has(at)) {
      this.parent.set(at, at);
      this.size.set(at, 1);
    }
    while (this.parent.get(at) !== at) {
      at = this.parent.get(at);
    }
    return at;
  }

  unite(a, b) {
    const rootA = this.root(a);
    const rootB = this.root(b);
    if (rootA === rootB) {
      return true;
    }
    if (this.size.get(rootA) + this.size.get(rootB) > CLUSTER_MAX) {
      return false;
    }
    this.parent.set(rootB, rootA);
    this.size.set(rootA, this.size.get(rootA) + this.size.get(rootB));
    return true;
  }

  /* $identify joins an anonymous id that has the form of a UUIDv4 and that no user has claimed before. */
  identify(user, anon) {
    const device = bare(anon);
    if (user === undefined || anon === undefined || device === bare(user)) {
      return;
    }
    const ok = UUID4.test(device)
      && (!this.anonymous.has(device) || this.root(device) === this.root(user));
    if (ok && this.unite(user, device)) {
      this.anonymous.add(device);
    } else if (!ok) {
      this.refusedMerges.push({ kind: '$identify', user: bare(user), anon: device });
    }
  }

  /* $create_alias names an existing person anew; an alias belongs to one person for ever. */
  alias(user, alias) {
    if (user === undefined || alias === undefined || bare(user) === bare(alias)) {
      return;
    }
    const name = bare(alias);
    if (this.aliases.has(name) && this.root(name) !== this.root(user)) {
      this.refusedMerges.push({ kind: '$create_alias', user: bare(user), alias: name });
      return;
    }
    if (this.unite(user, name)) {
      this.aliases.add(name);
    }
  }

  /* An event without a time happened when it arrived, as at Mixpanel. */
  event(item, arrived = Date.now()) {
    const p = item.properties ?? {};
    if (item.event === '$identify') {
      this.identify(p.$identified_id ?? p.distinct_id, p.$anon_id ?? p.$anon_distinct_id);
    } else if (item.event === '$create_alias') {
      this.alias(p.distinct_id, p.alias);
    } else if (item.event === '$merge') {
      const ids = p.$distinct_ids ?? [];
      for (let i = 1; i < ids.length; i++) {
        this.unite(ids[0], ids[i]);
      }
      return;
    }
    const id = p.distinct_id ?? p.$user_id ?? p.$device_id;
    if (id !== undefined && id !== '') {
      this.root(id);
    }
    this.events.push({ event: item.event, id, time: p.time === undefined ? arrived : timeMs(p.time), properties: p });
  }

  engage(item) {
    const id = bare(item.$distinct_id);
    if (item.$delete !== undefined) {
      this.profiles.delete(this.root(id));
      return;
    }
    const key = this.root(id);
    const profile = this.profiles.get(key) ?? {};
    applyOperations(profile, item);
    this.profiles.set(key, profile);
  }

  group(item) {
    const key = `${item.$group_key}\u0000${item.$group_id}`;
    const group = this.groups.get(key) ?? {};
    applyOperations(group, item);
    this.groups.set(key, group);
  }

  /* How many people did anything at all. */
  count() {
    return new Set(this.withPerson().map((e) => e.person)).size;
  }

  withPerson() {
    return this.events
      .filter((e) => e.id !== undefined && e.id !== '')
      .map((e) => ({ ...e, person: this.root(e.id) }));
  }

  /* People that did the steps in this order: one number a step. */
  funnel(steps) {
    const byPerson = groupBy(this.withPerson(), (e) => e.person);
    const reached = steps.map(() => 0);
    for (const events of byPerson.values()) {
      let at = 0;
      events.sort((a, b) => a.time - b.time);
      for (const event of events) {
        if (at < steps.length && event.event === steps[at]) {
          reached[at++]++;
        }
      }
    }
    return reached;
  }

  /* People of each first day that came back n days later. */
  retention(days) {
    const dayOf = (e) => Math.floor(e.time / 86400000);
    const table = Array.from({ length: days }, () => 0);
    for (const events of groupBy(this.withPerson(), (e) => e.person).values()) {
      const first = Math.min(...events.map(dayOf));
      const seen = new Set(events.map((e) => dayOf(e) - first));
      for (const day of seen) {
        if (day < days) {
          table[day]++;
        }
      }
    }
    return table;
  }
}

function groupBy(list, key) {
  const map = new Map();
  for (const entry of list) {
    const at = key(entry);
    if (!map.has(at)) {
      map.set(at, []);
    }
    map.get(at).push(entry);
  }
  return map;
}

function applyOperations(profile, item) {
  Object.assign(profile, item.$set ?? {});
  for (const [name, value] of Object.entries(item.$set_once ?? {})) {
    profile[name] ??= value;
  }
  for (const [name, value] of Object.entries(item.$add ?? {})) {
    profile[name] = (Number(profile[name]) || 0) + Number(value);
  }
  for (const [name, value] of Object.entries(item.$append ?? {})) {
    profile[name] = [...asList(profile[name]), value];
  }
  for (const [name, value] of Object.entries(item.$union ?? {})) {
    profile[name] = [...new Set([...asList(profile[name]), ...asList(value)])];
  }
  for (const [name, value] of Object.entries(item.$remove ?? {})) {
    profile[name] = asList(profile[name]).filter((entry) => entry !== value);
  }
  for (const name of item.$unset ?? []) {
    delete profile[name];
  }
}

const asList = (value) => (Array.isArray(value) ? value : value === undefined ? [] : [value]);
