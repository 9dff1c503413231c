// All SDKs, new and old, behind one face: a client that sends events of a name, and ends.
//
// A node SDK runs in this process, a browser's on a page of its own. Intervals are shortened, never the number of tries.

import { need } from './harness.mjs';

const settled = () => undefined;

function mixpanel(name) {
  return (url, token) => {
    const target = new URL(url);
    const client = need(name).init(token, { host: target.host, protocol: 'http', path: target.pathname });
    const open = new Set();
    const send = (event) => {
      const done = new Promise((resolve) => client.track(event, { distinct_id: 'somebody', tokens: 1 }, () => resolve()));
      open.add(done);
    };
    return { send, end: () => Promise.all(open) };
  };
}

function posthog(name) {
  return (url, token) => {
    const { PostHog } = need(name);
    const client = new PostHog(token, { host: url, flushAt: 5, flushInterval: 200, fetchRetryDelay: 1000 });
    client.on?.('error', settled);
    return { send: (event) => client.capture({ distinctId: 'somebody', event, properties: { tokens: 1 } }), end: () => client.shutdown() };
  };
}

function segment(name) {
  return (url, token) => {
    const { Analytics } = need(name);
    const client = new Analytics({ writeKey: token, host: new URL(url).origin, path: '/segment/v1/batch', flushInterval: 200 });
    client.on('error', settled);
    return { send: (event) => client.track({ userId: 'somebody', event, properties: { tokens: 1 } }), end: () => client.closeAndFlush({ timeout: 30000 }) };
  };
}

function rudder(name) {
  return (url, token) => {
    const Analytics = need(name);
    const client = new Analytics(token, { dataPlaneUrl: url, flushInterval: 200, logLevel: 'none', errorHandler: settled });
    return { send: (event) => client.track({ userId: 'somebody', event, properties: { tokens: 1 } }), end: () => new Promise((resolve) => client.flush(() => resolve())) };
  };
}

function amplitude(name) {
  return (url, token) => {
    const client = need(name).createInstance();
    client.init(token, { serverUrl: `${url}/2/httpapi`, flushIntervalMillis: 200, logLevel: 0 });
    return { send: (event) => client.track(event, { tokens: 1 }, { user_id: 'somebody' }), end: () => client.flush().promise };
  };
}

const mixpanelPage = (name) => (url, token) => `import mixpanel from '${name}';
mixpanel.init('${token}', { api_host: '${url}', persistence: 'localStorage', batch_flush_interval_ms: 300 });
window.send = (event) => mixpanel.track(event, { tokens: 1 });
`;

const posthogPage = (name) => (url, token) => `import posthog from '${name}';
posthog.init('${token}', { api_host: '${url}', persistence: 'localStorage', ${name.endsWith('-old') ? 'advanced_disable_decide' : 'advanced_disable_flags'}: true,
  disable_external_dependency_loading: true, request_queue_config: { flush_interval_ms: 300 } });
window.send = (event) => posthog.capture(event, { tokens: 1 });
`;

const segmentPage = (name) => (url, token) => `import { AnalyticsBrowser } from '${name}';
const analytics = AnalyticsBrowser.load({ writeKey: '${token}', cdnURL: '${url}' },
  { integrations: { 'Segment.io': { apiHost: '${url.replace('http://', '')}/v1', protocol: 'http' } } });
window.send = (event) => void analytics.track(event, { tokens: 1 });
`;

const rudderPage = (url, token) => `import { RudderAnalytics } from '@rudderstack/analytics-js/bundled';
const analytics = new RudderAnalytics();
analytics.load('${token}', '${url}', { configUrl: '${url}' });
window.send = (event) => analytics.track(event, { tokens: 1 });
`;

const rudderOldPage = (url, token) => `import { load, track } from 'rudder-sdk-js';
load('${token}', '${url}', { configUrl: '${url}' });
window.send = (event) => track(event, { tokens: 1 });
`;

const amplitudePage = (name) => (url, token) => `import { init, track } from '${name}';
init('${token}', undefined, { serverUrl: '${url}/2/httpapi', remoteConfig: { serverUrl: '${url}/config' }, flushIntervalMillis: 300, defaultTracking: true });
window.send = (event) => void track(event, { tokens: 1 });
`;

/* row: what docs/sdk.md calls it in its table. says: what it writes to the console wherever it runs. events: which requests carry events. */
const events = { mixpanel: /\/track/, posthog: /\/(e|batch|i\/v0\/e|capture)\/?(\?|$)/, segment: /\/v1\/(batch|[tpigasb])$/, rudder: /\/v1\/(batch|track|page)/,
  amplitude: /\/2\/httpapi/ };
export const SDKS = [
  { name: 'mixpanel', protocol: 'mixpanel', row: 'mixpanel (node)', node: mixpanel },
  { name: 'mixpanel-old', protocol: 'mixpanel', row: 'mixpanel (node)', node: mixpanel },
  { name: 'mixpanel-browser', protocol: 'mixpanel', row: 'mixpanel-browser', page: mixpanelPage },
  { name: 'mixpanel-browser-old', protocol: 'mixpanel', row: 'mixpanel-browser 2.45', page: mixpanelPage },
  { name: 'posthog-node', protocol: 'posthog', row: 'posthog-node', node: posthog },
  { name: 'posthog-node-old', protocol: 'posthog', row: 'posthog-node', node: posthog },
  { name: 'posthog-js', protocol: 'posthog', row: 'posthog-js', page: posthogPage },
  { name: 'posthog-js-old', protocol: 'posthog', row: 'posthog-js', page: posthogPage },
  { name: '@segment/analytics-node', protocol: 'segment', row: 'Segment node', node: segment },
  { name: '@segment/analytics-node-old', protocol: 'segment', row: 'Segment node 2', node: segment },
  { name: '@segment/analytics-next', protocol: 'segment', row: 'Segment browser', page: segmentPage },
  { name: '@segment/analytics-next-old', protocol: 'segment', row: 'Segment browser 1.43', page: segmentPage },
  { name: '@rudderstack/rudder-sdk-node', protocol: 'rudder', row: 'RudderStack node', node: rudder },
  { name: '@rudderstack/rudder-sdk-node-old', protocol: 'rudder', row: 'RudderStack node', node: rudder },
  { name: '@rudderstack/analytics-js', protocol: 'rudder', row: 'RudderStack browser', page: () => rudderPage },
  { name: 'rudder-sdk-js', protocol: 'rudder', row: 'RudderStack browser', page: () => rudderOldPage, says: /SDK package is deprecated/ },
  { name: '@amplitude/analytics-node', protocol: 'amplitude', row: 'Amplitude node', node: amplitude },
  { name: '@amplitude/analytics-node-old', protocol: 'amplitude', row: 'Amplitude node', node: amplitude },
  { name: '@amplitude/analytics-browser', protocol: 'amplitude', row: 'Amplitude browser', page: amplitudePage },
  { name: '@amplitude/analytics-browser-old', protocol: 'amplitude', row: 'Amplitude browser 1', page: amplitudePage },
].map((sdk, i) => ({ ...sdk, id: `sdk${i}`, isEvents: (url) => events[sdk.protocol].test(url) }));

/* Starts one SDK; `pages` is a browser's. `send` names an event, `leave` goes to another page with the same SDK. */
export async function startSdk(sdk, url, token, pages) {
  if (sdk.node) {
    return { errors: [], ...sdk.node(sdk.name)(url, token) };
  }
  const where = `/${sdk.id}`;
  const visitor = await pages.open(sdk.page(sdk.name)(url, token), { where });
  const isThere = () => visitor.page.waitForFunction(() => window.send !== undefined, undefined, { polling: 100, timeout: 60000 });
  await isThere();
  return {
    errors: visitor.errors,
    send: (name) => visitor.page.evaluate((event) => void window.send(event), name),
    offline: (is) => visitor.context.setOffline(is),
    /* A closed page and a new one of the same person. */
    leave: async (name) => {
      await visitor.page.evaluate((event) => void window.send(event), name);
      await visitor.page.goto(`${pages.origin}${where}?again`, { waitUntil: 'load' });
      await isThere();
    },
    end: () => visitor.close(),
  };
}
