// What a vendor can count from what it received: each one's own identity rules, over its own form of an event. The rules are the vendors'
// documented ones, in their plainest wording; the same reader reads what the product said and what the gateway sent.
//
// A reader makes rows: { name, time, person, session, groups, plan, country, browser, path, user, device, value } in order of arrival.

import { People } from './people.mjs';
import { timeMs } from './wire.mjs';

/* Ids that have been found to be one person. */
class Union {
  constructor() {
    this.parent = new Map();
  }

  root(id) {
    let at = id;
    while (this.parent.has(at)) {
      at = this.parent.get(at);
    }
    return at;
  }

  join(into, other) {
    const a = this.root(into);
    const b = this.root(other);
    if (a !== b) {
      this.parent.set(b, a);
    }
  }
}

const bare = (id) => (id === undefined ? undefined : String(id).replace(/^\$device:/, ''));
const list = (value) => (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]);

// -- Mixpanel ----------------------------------------------------------------------------------------------------------

const MIXPANEL_NAMES = { $mp_web_page_view: 'page', $identify: 'identify', $create_alias: 'alias', $merge: 'merge' };

function mixpanelRows(items) {
  const rows = [];
  for (const item of items) {
    if (item.event === undefined) {
      const set = item.$set ?? {};
      rows.push({ name: item.$group_key === undefined ? 'profile' : 'group', isUpdate: true, id: bare(item.$distinct_id), plan: set.plan, groups: list(item.$group_id), value: item });
      continue;
    }
    const p = item.properties;
    rows.push({ name: MIXPANEL_NAMES[item.event] ?? item.event, time: timeMs(p.time), id: bare(p.distinct_id), user: bare(p.$user_id), device: bare(p.$device_id), groups: list(p.company),
      country: p.mp_country_code, browser: p.$browser, path: p.$current_url, plan: p.plan, value: item });
  }
  return rows;
}

/* Simplified: a device is the first user's who was seen on it; an event is its user's, else its device's. */
function mixpanelSimplified(items) {
  const rows = mixpanelRows(items);
  const owner = new Map();
  for (const row of rows) {
    if (row.user !== undefined && row.device !== undefined && !owner.has(row.device)) {
      owner.set(row.device, row.user);
    }
  }
  for (const row of rows) {
    row.person = row.user ?? owner.get(row.id) ?? row.id;
  }
  return rows;
}

/* Original: clusters of $identify, $create_alias and $merge; it takes only UUIDv4 as an anonymous id (lib/people.mjs). */
function mixpanelOriginal(items) {
  const rows = mixpanelRows(items);
  const people = new People();
  for (const item of items) {
    if (item.event !== undefined) {
      people.event(item);
    }
  }
  for (const row of rows) {
    row.person = row.id === undefined ? undefined : people.root(row.id);
  }
  return rows;
}

// -- PostHog -----------------------------------------------------------------------------------------------------------

const POSTHOG_NAMES = { $pageview: 'page', $identify: 'identify', $create_alias: 'alias', $groupidentify: 'group', $set: 'profile' };

/* $identify joins the anonymous id to the person, unless that id has been a person's before; an alias likewise. */
function posthog(items) {
  const union = new Union();
  const identified = new Set();
  const merge = (into, other) => {
    if (other !== undefined && union.root(into) !== union.root(other) && !identified.has(union.root(other))) {
      const was = identified.has(union.root(into));
      union.join(into, other);
      if (was) {
        identified.add(union.root(into));
      }
    }
  };
  const rows = items.map((event) => {
    const p = event.properties ?? {};
    const id = event.distinct_id ?? p.distinct_id;
    if (event.event === '$identify') {
      merge(id, p.$anon_distinct_id);
      identified.add(union.root(id));
    } else if (event.event === '$create_alias') {
      merge(id, p.alias);
    }
    return { name: POSTHOG_NAMES[event.event] ?? event.event, time: Date.parse(event.timestamp), id, session: p.$session_id, user: p.$user_id, device: p.$device_id,
      groups: event.event === '$groupidentify' ? list(p.$group_key) : list(p.$groups?.company), country: p.$geoip_country_code, browser: p.$browser, path: p.$current_url,
      plan: p.plan ?? p.$set?.plan ?? event.$set?.plan ?? p.$group_set?.plan, isUpdate: event.event === '$groupidentify' || event.event === '$set', value: event };
  });
  for (const row of rows) {
    row.person = union.root(row.id);
  }
  return rows;
}

// -- Segment, RudderStack ----------------------------------------------------------------------------------------------

/* userId and anonymousId of one message are one person, unless the visit belongs to another user; an alias joins its two. */
function segment(items) {
  const union = new Union();
  const owner = new Map();
  for (const m of items) {
    if (m.userId && m.anonymousId && !owner.has(m.anonymousId)) {
      owner.set(m.anonymousId, m.userId);
    }
    if (m.type === 'alias') {
      union.join(m.userId, m.previousId);
    }
  }
  return items.map((m) => {
    const isEvent = m.type === 'track' || m.type === 'page' || m.type === 'screen';
    return { name: m.type === 'track' ? m.event : m.type === 'screen' ? 'page' : m.type, time: Date.parse(m.timestamp ?? m.originalTimestamp),
      person: union.root(m.userId ?? owner.get(m.anonymousId) ?? m.anonymousId), user: m.userId, device: m.anonymousId, id: m.userId ?? m.anonymousId, session: m.context?.sessionId,
      groups: list(m.groupId ?? m.context?.groupId), country: m.context?.location?.country, browser: m.context?.userAgentData?.brands?.[0]?.brand, path: m.properties?.url,
      plan: m.properties?.plan ?? m.traits?.plan, isUpdate: !isEvent && m.type !== 'identify' && m.type !== 'alias', value: m };
  });
}

// -- Amplitude ---------------------------------------------------------------------------------------------------------

const AMPLITUDE_NAMES = { '[Amplitude] Page Viewed': 'page', $identify: 'identify', $groupidentify: 'group' };

/* A device's events without a user are the last user's who was known on it then, else the first one's who comes. */
function amplitude(items) {
  const first = new Map();
  const last = new Map();
  for (const e of items) {
    if (e.user_id && e.device_id && !first.has(e.device_id)) {
      first.set(e.device_id, e.user_id);
    }
  }
  return items.map((e) => {
    if (e.user_id && e.device_id) {
      last.set(e.device_id, e.user_id);
    }
    return { name: AMPLITUDE_NAMES[e.event_type] ?? e.event_type, time: e.time, user: e.user_id, device: e.device_id, id: e.user_id ?? e.device_id,
      person: e.user_id ?? last.get(e.device_id) ?? first.get(e.device_id) ?? e.device_id, session: e.session_id === -1 ? undefined : e.session_id,
      groups: list(e.groups?.company), country: e.country, browser: e.os_name, path: e.event_properties?.['[Amplitude] Page Location'],
      plan: e.event_properties?.plan ?? e.user_properties?.$set?.plan, isUpdate: e.event_type === '$groupidentify', value: e };
  });
}

export const READERS = { mixpanel: mixpanelSimplified, posthog, segment, rudder: segment, amplitude };

/* How people are counted: a vendor may have more than one way. */
export const RULES = {
  mixpanel: { 'simplified merge': mixpanelSimplified, 'original merge': mixpanelOriginal },
  posthog: { 'person merge': posthog },
  segment: { 'userId + anonymousId': segment },
  rudder: { 'userId + anonymousId': segment },
  amplitude: { 'user_id + device_id': amplitude },
};
