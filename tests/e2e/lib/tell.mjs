// Says a story (lib/story.mjs) through each vendor's unmodified node SDK, with times, ids, sessions and the context that the browser SDK of that
// vendor adds (tests/fixtures/sdk-requests). A teller says a few calls, which the SDK puts into one request or as many as it wants.
//
// Between SDK and gateway stands a Tap, which hands everything on and keeps what was said: the raw data that the truth is counted from.

import http from 'node:http';
import zlib from 'node:zlib';
import { need } from './harness.mjs';
import { NodeSdk } from './sdk-node.mjs';
import { nodeSdk as postHogSdk } from './sdk_posthog.mjs';
import { uuid7 } from './story.mjs';
import { decodeItems, parseQuery } from './wire.mjs';

const ORIGIN = 'https://app.example.com';
const urlOf = (call) => `${ORIGIN}${call.path}?${call.query ?? `ref=${call.n}&email=${encodeURIComponent(call.person.email)}`}`;

/* What the product says beside the call's own properties: only its own property, which is in the plan. */
const PERSONAL = (person) => ({ email: person.email, name: person.name, phone: person.phone });

// -- Mixpanel ----------------------------------------------------------------------------------------------------------

function mixpanelProperties(call) {
  const own = { time: call.at / 1000, $insert_id: call.id, ...(call.group && { company: [call.group] }) };
  if (call.origin === 'api') {
    return { ...own, distinct_id: call.user };
  }
  return { ...own, distinct_id: call.user ?? `$device:${call.anon}`, $device_id: call.anon, ...(call.user && { $user_id: call.user }), $browser: call.browser,
    $browser_version: call.version, $os: call.os, mp_country_code: call.person.country, $region: call.person.region, $city: call.person.city, $timezone: 'Europe/Berlin',
    $language: 'en-GB', $app_version: '4.7.1', ip: call.person.ip };
}

const MIXPANEL = {
  page: (call) => ({ event: '$mp_web_page_view', properties: { ...mixpanelProperties(call), $current_url: urlOf(call), current_url_path: call.path,
    current_domain: 'app.example.com', current_page_title: `Page of ${call.person.name}` } }),
  track: (call) => ({ event: call.name, properties: { ...mixpanelProperties(call), ...call.properties } }),
  identify: (call) => ({ event: '$identify', properties: { ...mixpanelProperties(call), $anon_distinct_id: `$device:${call.anon}` } }),
  alias: (call) => ({ event: '$create_alias', properties: { ...mixpanelProperties(call), distinct_id: call.from, alias: call.to } }),
};

class MixpanelTeller {
  constructor(url, token) {
    this.sdk = new NodeSdk(url, token, { key: 'key-1' });
    this.errors = [];
  }

  async say(calls) {
    const events = calls.filter((call) => MIXPANEL[call.kind]).map((call) => MIXPANEL[call.kind](call));
    const errors = [];
    if (events.length > 0) {
      errors.push(await this.sdk.importBatch(events));
    }
    for (const call of calls) {
      if (call.kind === 'identify') {
        errors.push(await this.sdk.people('set', call.user, { $email: call.person.email, $name: call.person.name, $phone: call.person.phone, $city: call.person.city,
          ...call.traits }, { $time: Math.floor(call.at / 1000) }));
      } else if (call.kind === 'group') {
        errors.push(await this.sdk.groups('set', 'company', call.group, { $name: call.person.orgName, ...call.traits }));
      }
    }
    this.errors.push(...errors.filter((e) => e !== null));
  }

  end() {}
}

// -- PostHog -----------------------------------------------------------------------------------------------------------

/* posthog-js gives visitors UUIDv7. */
const visitor7 = (anon) => anon && anon.replace(/^(.{14})4/, '$17');

function postHogProperties(call) {
  return call.origin === 'api' ? {} : { $session_id: uuid7(call.session, call.n), $device_id: visitor7(call.anon), ...(call.user && { $user_id: call.user }),
    $browser: call.browser, $browser_version: call.version, $os: call.os, $geoip_country_code: call.person.country, $geoip_city_name: call.person.city,
    $geoip_subdivision_1_name: call.person.region, $timezone: 'Europe/Berlin', $browser_language: 'en-GB', $app_version: '4.7.1', $ip: call.person.ip };
}

class PostHogTeller {
  constructor(url, token) {
    ({ client: this.client, errors: this.errors } = postHogSdk(url, token, { flushAt: 1000, flushInterval: 60000 }));
  }

  async say(calls) {
    for (const call of calls) {
      const common = { distinctId: call.user ?? visitor7(call.anon), timestamp: new Date(call.at), uuid: uuid7(call.at, Number(call.id.slice(0, 8))),
        ...(call.group && { groups: { company: call.group } }) };
      const properties = { ...postHogProperties(call), ...call.properties };
      if (call.kind === 'page') {
        this.client.capture({ ...common, event: '$pageview', properties: { ...properties, $current_url: urlOf(call), $pathname: call.path,
          $host: 'app.example.com', title: `Page of ${call.person.name}` } });
      } else if (call.kind === 'track') {
        this.client.capture({ ...common, event: call.name, properties });
      } else if (call.kind === 'identify') {
        this.client.capture({ ...common, event: '$identify', properties: { ...properties, $anon_distinct_id: visitor7(call.anon),
          $set: { ...PERSONAL(call.person), ...call.traits } } });
      } else if (call.kind === 'alias') {
        this.client.capture({ ...common, distinctId: call.from, event: '$create_alias', properties: { ...properties, distinct_id: call.from, alias: call.to } });
      } else {
        this.client.capture({ ...common, event: '$groupidentify', properties: { ...properties, $group_type: 'company', $group_key: call.group,
          $group_set: { name: call.person.orgName, ...call.traits } } });
      }
    }
    await this.client.flush();
  }

  end() {
    return this.client.shutdown();
  }
}

// -- Segment, RudderStack ----------------------------------------------------------------------------------------------

function segmentMessage(call, time, sessions) {
  const web = call.origin === 'web';
  return { messageId: `ajs-next-${call.id}`, [time]: new Date(call.at), ...(call.user && { userId: call.user }), ...(web && { anonymousId: call.anon }),
    context: { ...(call.group && { groupId: call.group }), ...(web && { locale: 'en-GB', userAgent: `Mozilla/5.0 ${call.browser}/${call.version}`, ip: call.person.ip,
      os: { name: call.os }, device: { version: String(call.version) }, userAgentData: { brands: [{ brand: call.browser, version: String(call.version) }], platform: call.os },
      location: { country: call.person.country, region: call.person.region, city: call.person.city }, timezone: 'Europe/Berlin', app: { version: '4.7.1' },
      ...(sessions && { sessionId: call.session }),
      ...(call.path && { page: { url: urlOf(call), path: call.path, title: `Page of ${call.person.name}` } }) }) } };
}

class SegmentTeller {
  constructor(time, sessions, client, flush) {
    Object.assign(this, { time, sessions, client, flush, errors: [] });
  }

  async say(calls) {
    for (const call of calls) {
      const message = segmentMessage(call, this.time, this.sessions);
      switch (call.kind) {
        case 'page':
          this.client.page({ ...message, properties: { url: urlOf(call), path: call.path, title: `Page of ${call.person.name}` } });
          break;
        case 'track':
          this.client.track({ ...message, event: call.name, properties: call.properties });
          break;
        case 'identify':
          this.client.identify({ ...message, traits: { ...PERSONAL(call.person), ...call.traits } });
          break;
        case 'alias':
          this.client.alias({ ...message, userId: call.to, previousId: call.from });
          break;
        default:
          this.client.group({ ...message, groupId: call.group, traits: { name: call.person.orgName, ...call.traits } });
      }
    }
    await this.flush();
  }

  end() {
    return this.flush();
  }
}

function segmentTeller(url, token) {
  const { Analytics } = need('@segment/analytics-node');
  const { origin, pathname } = new URL(url);
  const client = new Analytics({ writeKey: token, host: origin, path: `${pathname.replace(/\/$/, '')}/v1/batch`, flushInterval: 20 });
  const teller = new SegmentTeller('timestamp', false, client, () => client.flush());
  client.on('error', (error) => teller.errors.push(error));
  return teller;
}

function rudderTeller(url, token) {
  const Analytics = need('@rudderstack/rudder-sdk-node');
  const client = new (Analytics.default ?? Analytics)(token, { dataPlaneUrl: url.replace(/\/$/, ''), flushAt: 50, flushInterval: 60000, logLevel: 'error' });
  return new SegmentTeller('originalTimestamp', true, client, () => client.flush());
}

// -- Amplitude ---------------------------------------------------------------------------------------------------------

class AmplitudeTeller {
  constructor(url, token) {
    const { createInstance } = need('@amplitude/analytics-node');
    this.client = createInstance();
    this.ready = this.client.init(token, { serverUrl: `${url.replace(/\/$/, '')}/2/httpapi`, flushQueueSize: 100, flushIntervalMillis: 100, logLevel: 0 }).promise;
    this.errors = [];
  }

  options(call) {
    const web = call.origin === 'web';
    return { time: call.at, insert_id: call.id, ...(call.user && { user_id: call.user }), ...(call.group && { groups: { company: call.group } }),
      ...(web && { device_id: call.anon, session_id: call.session, os_name: call.browser, os_version: String(call.version), platform: 'Web', language: 'en-GB',
        country: call.person.country, region: call.person.region, city: call.person.city, ip: call.person.ip, app_version: '4.7.1' }) };
  }

  async say(calls) {
    const { Identify } = need('@amplitude/analytics-node');
    await this.ready;
    const sent = [];
    for (const call of calls) {
      const options = this.options(call);
      if (call.kind === 'page') {
        sent.push(this.client.track('[Amplitude] Page Viewed', { '[Amplitude] Page Location': urlOf(call), '[Amplitude] Page URL': urlOf(call).split('?')[0],
          '[Amplitude] Page Path': call.path,
          '[Amplitude] Page Title': `Page of ${call.person.name}`, '[Amplitude] Page Domain': 'app.example.com' }, options));
      } else if (call.kind === 'track') {
        sent.push(this.client.track(call.name, call.properties, options));
      } else if (call.kind === 'identify') {
        const identify = Object.entries({ ...PERSONAL(call.person), ...call.traits }).reduce((all, [k, v]) => all.set(k, v), new Identify());
        sent.push(this.client.identify(identify, options));
      } else if (call.kind === 'group') {
        const identify = new Identify().set('plan', call.traits.plan).set('name', call.person.orgName);
        sent.push(this.client.setGroup('company', call.group, options));
        sent.push(this.client.groupIdentify('company', call.group, identify, { time: options.time, insert_id: `${call.id}g` }));
      }
    }
    this.client.flush();
    for (const result of await Promise.all(sent.map((s) => s.promise))) {
      if (result.code !== 200) {
        this.errors.push(result);
      }
    }
  }

  end() {
    return this.client.flush().promise;
  }
}

export const TELLERS = {
  mixpanel: (url, token) => new MixpanelTeller(url, token),
  posthog: (url, token) => new PostHogTeller(url, token),
  segment: segmentTeller,
  rudder: rudderTeller,
  amplitude: (url, token) => new AmplitudeTeller(url, token),
};

// -- what was said -----------------------------------------------------------------------------------------------------

function itemsOf(req, raw) {
  const plain = raw.length > 1 && raw[0] === 0x1f && raw[1] === 0x8b ? zlib.gunzipSync(raw) : raw;
  const [where, search = ''] = req.url.split('?');
  if (where.startsWith('/mixpanel/')) {
    return decodeItems(parseQuery(search), plain);
  }
  const body = JSON.parse(plain.toString());
  return body.batch ?? body.events;
}

export class Tap {
  constructor(target) {
    this.target = new URL(target);
    this.items = [];
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
  }

  async start() {
    this.server = http.createServer((req, res) => {
      const chunks = [];
      req.on('data', (chunk) => chunks.push(chunk));
      req.on('end', () => this.pass(req, Buffer.concat(chunks), res));
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.origin = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  pass(req, raw, res) {
    const onward = http.request({ host: this.target.hostname, port: this.target.port, method: req.method, path: req.url, agent: this.agent,
      headers: { ...req.headers, host: this.target.host } }, (answer) => {
      if (answer.statusCode === 200) {
        this.items.push(...itemsOf(req, raw)); /* what was acknowledged: an SDK may say it again after anything else */
      }
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    onward.on('error', () => res.destroy());
    onward.end(raw);
  }

  stop() {
    this.agent.destroy();
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
