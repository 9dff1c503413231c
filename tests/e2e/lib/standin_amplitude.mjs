// A strict stand-in of Amplitude's HTTP V2 and Batch APIs: it refuses what their documentation refuses, in the bodies that
// it documents, and keeps each event once by insert_id. A judge: it shares no code with the product.

import { Vendor } from './vendor.mjs';

const LIMITS = { '/2/httpapi': [1024 * 1024, 2000], '/batch': [20 * 1024 * 1024, 2000] };
const STRING_MAX = 1024;
const DEPTH_MAX = 40;
const TEXTS = ['event_type', 'platform', 'os_name', 'os_version', 'device_brand', 'device_manufacturer', 'device_model', 'carrier', 'country', 'region',
  'city', 'dma', 'language', 'app_version', 'productId', 'revenueType', 'idfa', 'idfv', 'adid', 'android_id', 'ip', 'insert_id', 'user_id', 'device_id'];
const NUMBERS = ['price', 'revenue', 'location_lat', 'location_lng'];
const INTEGERS = ['time', 'session_id', 'event_id', 'quantity'];
const OBJECTS = ['event_properties', 'user_properties', 'group_properties', 'groups'];
const OPERATIONS = new Set(['$set', '$setOnce', '$add', '$append', '$prepend', '$preInsert', '$postInsert', '$remove', '$unset', '$clearAll']);
const NOBODY = new Set(['anonymous', 'nil', 'none', 'null', 'n/a', 'na', 'nan', 'undefined', 'unknown', 'true', 'false', '0', '-1', '[]', '{}',
  '[object object]', 'lmy47d', '<nil>', '(none)', '(not set)', 'not set', 'unset', '00000000-0000-0000-0000-000000000000', '']);
const ROOT = new Set([...TEXTS, ...NUMBERS, ...INTEGERS, ...OBJECTS, 'library', 'plan', 'ingestion_metadata', 'partner_id', 'user_agent', 'currency',
  'version_name', 'start_version', 'android_app_set_id', 'paying', '$skip_user_properties_sync']);

export class AmplitudeStandin extends Vendor {
  constructor({ key }) {
    super();
    this.key = key;
    this.silenced = new Set();
  }

  take(req, raw) {
    const [bytesMax, eventsMax] = LIMITS[req.url] ?? [];
    if (req.method !== 'POST' || bytesMax === undefined) {
      return this.refuse(404, `${req.method} ${req.url}`, { code: 404 });
    }
    const stray = ['cookie', 'referer', 'authorization', 'x-forwarded-for'].find((header) => req.headers[header] !== undefined);
    if (req.headers['content-type'] !== 'application/json' || stray) {
      return this.bad(stray ?? 'the content type');
    }
    const text = this.unpack(req, raw);
    if (text !== undefined && Buffer.byteLength(text) > bytesMax) {
      return this.refuse(413, 'payload too large', { code: 413, error: 'Payload too large' });
    }
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      return this.bad('invalid JSON request body');
    }
    if (body.api_key !== this.key) {
      return this.bad(`Invalid API key: ${body.api_key}`);
    }
    if (!Array.isArray(body.events) || body.events.length === 0) {
      return this.bad('missing events', { missing_field: 'events' });
    }
    if (body.events.length > eventsMax) {
      return this.refuse(413, 'too many events', { code: 413, error: 'Payload too large' });
    }
    return this.judge(body);
  }

  bad(why, more = {}) {
    return this.refuse(400, why, { code: 400, error: why, events_with_invalid_fields: {}, events_with_missing_fields: {}, ...more });
  }

  /* All of a request or nothing of it. */
  judge({ events, options }) {
    const lists = { events_with_invalid_fields: {}, events_with_missing_fields: {}, events_with_invalid_id_lengths: {} };
    const silenced = [];
    let why;
    events.forEach((event, i) => {
      const wrong = fault(event, options?.min_id_length ?? 5);
      if (wrong) {
        (lists[wrong[0]][wrong[1]] ??= []).push(i);
        why ??= `${wrong[1]}: ${JSON.stringify(event?.[wrong[1]])}`;
      }
      if (this.silenced.has(event?.device_id)) {
        silenced.push(i);
      }
    });
    if (why || silenced.length > 0) {
      return this.bad(why ?? 'silenced device', { ...lists, silenced_devices: [...this.silenced], silenced_events: silenced });
    }
    for (const event of events) {
      this.keep(`${event.device_id ?? event.user_id} ${event.insert_id}`, event);
    }
    return [200, { code: 200, events_ingested: events.length, payload_size_bytes: 1, server_upload_time: Date.now() }];
  }

  /* As documented, in all its members. */
  spoil(status) {
    return status === 429
      ? { code: 429, error: 'Too many requests for some devices and users', eps_threshold: 30, throttled_devices: { d: 31 }, throttled_users: {},
        throttled_events: [0], exceeded_daily_quota_users: {}, exceeded_daily_quota_devices: {} }
      : { code: status, error: 'on command' };
  }

  named(name) {
    return this.items.filter((e) => e.event_type === name);
  }

  /* Sets of events by person: a device and a user of one event are one, as Amplitude merges them. */
  people() {
    const users = new Map();
    for (const event of this.items) {
      if (event.user_id !== undefined && event.device_id !== undefined) {
        users.set(event.device_id, event.user_id);
      }
    }
    const people = new Map();
    for (const event of this.items.filter((e) => e.event_type !== '$groupidentify')) {
      const id = event.user_id ?? users.get(event.device_id) ?? event.device_id;
      people.set(id, (people.get(id) ?? new Set()).add(event.event_type));
    }
    return people;
  }

  /* How many people did all of these. */
  didAll(names) {
    return [...this.people().values()].filter((done) => names.every((name) => done.has(name))).length;
  }
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

function isTooDeep(value, depth = 0) {
  return typeof value === 'object' && value !== null && (depth > DEPTH_MAX || Object.values(value).some((v) => isTooDeep(v, depth + 1)));
}

/* [list, field] of what is wrong with an event. */
function fault(event, idMin) {
  const invalid = (field) => ['events_with_invalid_fields', field];
  if (!isObject(event)) {
    return invalid('event');
  }
  if (typeof event.event_type !== 'string' || event.event_type === '') {
    return ['events_with_missing_fields', 'event_type'];
  }
  if (event.user_id === undefined && event.device_id === undefined) {
    return ['events_with_missing_fields', 'user_id'];
  }
  for (const field of Object.keys(event)) {
    const value = event[field];
    const wrong = !ROOT.has(field)
      || (TEXTS.includes(field) && (typeof value !== 'string' || value.length > STRING_MAX))
      || (NUMBERS.includes(field) && typeof value !== 'number')
      || (INTEGERS.includes(field) && !Number.isSafeInteger(value))
      || (OBJECTS.includes(field) && (!isObject(value) || isTooDeep(value)));
    if (wrong) {
      return invalid(field);
    }
  }
  for (const field of ['user_id', 'device_id']) {
    if (event[field] !== undefined && NOBODY.has(event[field].toLowerCase())) {
      return invalid(field);
    }
    if (event[field] !== undefined && event[field].length < idMin) {
      return ['events_with_invalid_id_lengths', field];
    }
  }
  if (event.insert_id === undefined || event.time === undefined || event.time < 1e11) {
    return invalid('time');
  }
  if (event.session_id !== undefined && event.session_id !== -1 && event.session_id < 1e11) {
    return invalid('session_id');
  }
  /* Else the place of the request's sender would be taken for the person's. */
  if (event.ip === undefined || event.ip === '$remote') {
    return invalid('ip');
  }
  for (const field of ['user_properties', 'group_properties']) {
    if (Object.keys(event[field] ?? {}).some((key) => key.startsWith('$') && !OPERATIONS.has(key))) {
      return invalid(field);
    }
  }
  const groups = Object.values(event.groups ?? {});
  if (groups.length > 5 || groups.flat().some((id) => typeof id !== 'string') || (event.event_type === '$groupidentify' && groups.length === 0)) {
    return invalid('groups');
  }
  return undefined;
}
