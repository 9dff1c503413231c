// A strict stand-in of PostHog's capture API: POST /batch/.
//
// It refuses what the documented API refuses (and an event that would be accepted and then dropped later), writes down
// every event that reaches it, counts people as PostHog's identify and alias would, and misbehaves on command. It is a
// judge, so it shares no code with the product.

import { Vendor } from './vendor.mjs';

const BATCH_MAX = 20 * 1024 * 1024;
const EVENT_MAX = 2 * 1024 * 1024;
const NAME_MAX = 200;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$/;
/* Events that change a person, which PostHog drops when they say that there is none. */
const PERSON_EVENTS = new Set(['$identify', '$create_alias', '$merge_dangerously', '$set', '$groupidentify']);
const ILLEGAL_IDS = new Set(['anonymous', 'guest', 'distinctid', 'distinct_id', 'id', 'not_authenticated', 'email',
  'undefined', 'true', 'false', 'null', 'none', 'nan', 'nil', '0', '[object object]', '']);

export class PostHogStandin extends Vendor {
  constructor({ token = 'phc_vendor' } = {}) {
    super();
    this.token = token;
  }

  take(req, raw) {
    if (req.method !== 'POST' || req.url !== '/batch/') {
      return this.refuse(404, `${req.method} ${req.url}`);
    }
    const text = this.unpack(req, raw);
    if (text === undefined) {
      return this.refuse(400, 'failed to decompress');
    }
    if (text.length > BATCH_MAX) {
      return this.refuse(413, 'batch too big');
    }
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      return this.refuse(400, 'failed to parse');
    }
    if (body.api_key !== this.token) {
      return this.refuse(401, 'invalid project API key');
    }
    if (!Array.isArray(body.batch) || body.batch.length === 0) {
      return this.refuse(400, 'empty batch');
    }
    for (const event of body.batch) {
      const why = fault(event);
      if (why) {
        return this.refuse(400, why); /* the whole batch, without a word on which */
      }
    }
    for (const event of body.batch) {
      this.keep(`${event.event} ${idOf(event)} ${event.uuid}`, event);
    }
    return [200, { status: 'Ok' }];
  }

  named(name) {
    return this.items.filter((e) => e.event === name);
  }

  /* Distinct people by id, as PostHog merges them: identify joins the anonymous id, an alias its other id. */
  people() {
    const parent = new Map();
    const find = (id) => {
      while (parent.get(id) !== id) {
        id = parent.get(id);
      }
      return id;
    };
    const note = (id) => {
      if (!parent.has(id)) {
        parent.set(id, id);
      }
      return find(id);
    };
    for (const event of this.items) {
      if (event.event === '$groupidentify' || event.properties.$process_person_profile === false && event.uuid === idOf(event)) {
        continue;
      }
      const id = note(idOf(event));
      const other = event.event === '$identify' ? event.properties.$anon_distinct_id
        : event.event === '$create_alias' ? event.properties.alias : undefined;
      if (other !== undefined && !ILLEGAL_IDS.has(String(other).toLowerCase())) {
        parent.set(note(other), id);
      }
    }
    return new Set([...parent.keys()].map(find)).size;
  }

  /* How many people did all of these, in any order. */
  didAll(names) {
    const of = new Map();
    const join = new Map();
    for (const event of this.items) {
      if (event.event === '$identify' && event.properties.$anon_distinct_id) {
        join.set(event.properties.$anon_distinct_id, idOf(event));
      }
    }
    for (const event of this.items) {
      const id = join.get(idOf(event)) ?? idOf(event);
      of.set(id, (of.get(id) ?? new Set()).add(event.event));
    }
    return [...of.values()].filter((done) => names.every((name) => done.has(name))).length;
  }
}

export const idOf = (event) => event.distinct_id ?? event.properties?.distinct_id;
export const isSessionId = (id) => UUID7.test(id);

function fault(event) {
  const p = event?.properties;
  const id = event && idOf(event);
  if (event === null || typeof event !== 'object' || Array.isArray(event)) {
    return 'an event is no object';
  }
  if (JSON.stringify(event).length > EVENT_MAX) {
    return 'event too big';
  }
  if (typeof event.event !== 'string' || event.event === '' || event.event.length > NAME_MAX) {
    return 'event submitted without an event name';
  }
  if (typeof id !== 'string' || id === '' || id.length > NAME_MAX) {
    return 'event submitted without a distinct_id';
  }
  if (typeof p !== 'object' || p === null || Array.isArray(p)) {
    return 'properties are no object';
  }
  if (!UUID.test(event.uuid ?? '')) {
    return 'uuid is not one';
  }
  if (typeof event.timestamp !== 'string' || !ISO.test(event.timestamp) || Number.isNaN(Date.parse(event.timestamp))) {
    return 'timestamp is no ISO 8601 time';
  }
  if (p.$process_person_profile === false && PERSON_EVENTS.has(event.event)) {
    return `${event.event} without a person profile`;
  }
  if (p.$geoip_disable !== true && p.$ip === undefined) {
    return 'the place would be guessed from the address of the sender';
  }
  if (event.event === '$groupidentify' && (!p.$group_type || !p.$group_key)) {
    return '$groupidentify without its group';
  }
  return undefined;
}
