// Consent from end to end: without it not a byte reaches a vendor that requires it, whatever sends; objections of browsers
// are kept with the request and heeded after a restart, too; opting out with the real SDKs.

import assert from 'node:assert/strict';
import { finish, need, note, onEnd, person, seeded, sleep, test, until } from './lib/harness.mjs';
import { BROWSER_TOKEN, Gateway, PLAN, post } from './lib/gateway.mjs';
import { Browser } from './lib/sdk-browser.mjs';
import { nodeSdk, PostHogBrowser } from './lib/sdk_posthog.mjs';
import { Standin } from './lib/standin.mjs';
import { PostHogStandin } from './lib/standin_posthog.mjs';
import { SegmentStandin } from './lib/standin_segment.mjs';

const random = seeded();
const ALLOW = { 'user.unique_id': 'pseudonym', 'user.unique_id.pseudonymous': 'pseudonym', 'user.device.device_id': 'pseudonym', 'user.behavior': 'raw',
  'user.privacy_preferences': 'raw', 'system.operations': 'raw' };

const standins = {
  mp: await new Standin().start(), /* requires consent.analytics */
  ads: await new Standin().start(), /* asks nothing, so it heeds what browsers say */
  proc: await new Standin().start(), /* a processor: exempt from both, but one class requires consent */
  ph: await new PostHogStandin({ token: 'phc_vendor' }).start(),
  sg: await new SegmentStandin({ key: 'sg_vendor' }).start(),
};
for (const name of ['ph', 'sg']) {
  standins[name].connections = 0;
  standins[name].server.on('connection', () => {
    standins[name].connections++;
  });
}
Object.values(standins).forEach((standin) => onEnd(() => standin.stop()));
const connections = (name) => standins[name].stats?.connections ?? standins[name].connections;
const got = (name) => standins[name].items.map((item) => item.item ?? item);
const names = (name) => got(name).map((item) => item.event).filter(Boolean);

const requires = ['requires: consent.analytics'];
const gateway = new Gateway({ name: 'consent', plan: `${PLAN}consent:
  properties: { consent_analytics: analytics, choices: categories }
  categories: { C0002: analytics }
`, vendors: [
  { vendor: 'mp', endpoint: standins.mp.url, allow: ALLOW, consent: requires },
  { vendor: 'ads', endpoint: standins.ads.url, allow: ALLOW },
  { vendor: 'proc', endpoint: standins.proc.url, consent: ['honour: []'],
    allow: { ...ALLOW, 'user.device': '{ coarse: family, requires: consent.advertising }' } },
  { vendor: 'ph', connector: 'posthog', endpoint: standins.ph.url, credential: 'PH_TOKEN', allow: ALLOW, consent: requires },
  { vendor: 'sg', connector: 'segment', endpoint: standins.sg.url, credential: 'SG_TOKEN', allow: ALLOW, consent: requires },
], env: { PH_TOKEN: 'phc_vendor', SG_TOKEN: 'sg_vendor' }, sources: [
  `{ name: web, protocol: mixpanel, token: ${BROWSER_TOKEN}, vendors: [mp, ads, proc] }`,
  '{ name: phweb, protocol: posthog, token: ph_token, vendors: [ph] }',
  '{ name: sgweb, protocol: segment, token: sg_token, vendors: [sg] }',
] });
const ALL = Object.keys(standins);

/* They take their time to start: while the tests without them run. */
const browsers = { mixpanel: new Browser().start(), posthog: new PostHogBrowser().start() };
onEnd(async () => (await browsers.mixpanel).stop());
onEnd(async () => (await browsers.posthog).stop());

/* One question for all: each is a process of its own. */
const drained = () => until(async () => Object.values((await gateway.status()).vendors).every((v) => v.backlog === 0), 'drained', 30000, 50);

const withheld = async (vendor) => (await gateway.vendor(vendor)).withheld_by_reason;

/* One event in each protocol's own request, as a page sends it. */
async function send({ properties = {}, context = {}, headers = {}, name = 'Signed In' } = {}) {
  const someone = person(random, 1);
  const answers = [
    await post(gateway.ports.ingest, '/mixpanel/track', [{ event: name,
      properties: { distinct_id: someone.id, $browser: 'Firefox', ...properties } }], { token: BROWSER_TOKEN, headers }),
    await post(gateway.ports.ingest, '/posthog/e/', [], { verbose: false, headers, raw: JSON.stringify({ api_key: 'ph_token', event: name,
      distinct_id: someone.id, uuid: random.uuid(), properties: { $lib: 'web', ...properties } }) }),
    await post(gateway.ports.ingest, '/segment/v1/t', [], { verbose: false, headers, raw: JSON.stringify({ writeKey: 'sg_token', type: 'track',
      event: name, userId: someone.id, messageId: random.uuid(), properties, context }) }),
  ];
  assert.deepEqual(answers.map((a) => a.status), [200, 200, 200]);
}

test('the gateway starts, its vendors are opened, and contract check says what they ask', async () => {
  await gateway.start();
  for (const name of ALL) {
    await gateway.open(name);
  }
  const checked = await gateway.ask(['contract', 'check']);
  assert.equal(checked.consent.mp, 'requires consent.analytics; honours dnt, gpc');
  assert.equal(checked.consent.proc, 'user.device requires consent.advertising');
}, { vital: true });

test('what says nothing of consent, or no: not one connection to a vendor that requires it, and each event is counted', async () => {
  const words = [{}, { consent_analytics: false }, { consent_analytics: 'denied' }, { choices: [] }, { choices: { C0002: false } },
    { consent_analytics: true, choices: { C0002: 'denied' } }];
  for (const properties of words) {
    await send({ properties });
  }
  await send({ context: { consent: { categoryPreferences: { Analytics: false, Advertising: true } } } });
  await send({ context: { consentManagement: { deniedConsentIds: ['C0002'] } } });
  await drained();
  for (const name of ['mp', 'ph', 'sg']) {
    assert.equal(connections(name), 0, name);
    assert.equal((await withheld(name)).no_consent, words.length + 2, name);
  }
  assert.equal(names('ads').length, words.length + 2, 'who asks nothing gets them');
  const metrics = await gateway.metrics();
  assert.equal(metrics.sum('bulkhead_vendor_withheld_total', { vendor: 'mp', reason: 'no_consent' }), words.length + 2);
});

test('with consent events leave, and the words of it stay', async () => {
  const before = { mp: 0, ph: 0, sg: 0 };
  await send({ properties: { consent_analytics: true } });
  await send({ properties: { choices: ['C0002'] } });
  await send({ context: { consent: { categoryPreferences: { Analytics: true, Odd: false } } } });
  await send({ context: { consentManagement: { allowedConsentIds: ['C0002'], deniedConsentIds: ['C0004'] } } });
  await drained();
  assert.equal(names('mp').length, before.mp + 2);
  assert.equal(names('ph').length, before.ph + 2);
  assert.equal(names('sg').length, before.sg + 4);
  for (const name of ALL) {
    assert.ok(!/consent|choices|C000|categoryPref|Odd/i.test(JSON.stringify(got(name))), name);
  }
});

test('a class that requires consent leaves with it only', async () => {
  standins.proc.items.length = 0;
  await send({ name: 'Step 1' });
  await send({ name: 'Step 2', properties: { choices: ['advertising'] } });
  await send({ name: 'Step 3', properties: { choices: ['advertising'] }, headers: { 'Sec-GPC': '1' } });
  await drained();
  const seen = Object.fromEntries(got('proc').map((item) => [item.event, item.properties.$browser]));
  assert.deepEqual(seen, { 'Step 1': undefined, 'Step 2': 'Firefox', 'Step 3': undefined });
});

test('GPC and DNT: kept with the request, and heeded by whom nothing exempts, after a cut and a restart as well', async () => {
  const before = Object.fromEntries(ALL.map((name) => [name, got(name).length]));
  const was = (await withheld('ads')).opted_out ?? 0;
  await gateway.cut('ads');
  for (const headers of [{ 'Sec-GPC': '1' }, { 'sec-gpc': '1', DNT: '1' }, { dnt: '1' }]) {
    await send({ name: 'Dashboard', headers, properties: { consent_analytics: true } });
  }
  await send({ name: 'Dashboard', headers: { 'Sec-GPC': '0', DNT: 'null' }, properties: { consent_analytics: true } });
  await gateway.stop();
  await gateway.start();
  await gateway.open('ads');
  await drained();
  for (const name of ['mp', 'ads', 'ph', 'sg']) {
    assert.equal(got(name).length, before[name] + 1, name);
  }
  assert.equal(got('proc').length, before.proc + 4, 'a processor');
  assert.equal((await withheld('ads')).opted_out, 3, `${was} before the restart`);
  assert.equal((await gateway.run(['ledger', 'verify', 'ads'])).code, 0);
});

test('a contract that begins to require consent binds the backlog', async () => {
  const before = got('ads').length;
  await gateway.cut('ads');
  await send({ name: 'Billing Page Viewed' });
  await send({ name: 'Billing Page Viewed', properties: { consent_analytics: 1 } });
  await gateway.alter('ads', { consent: requires });
  await gateway.open('ads');
  await drained();
  assert.equal(got('ads').length, before + 1);
  await gateway.alter('ads', { consent: undefined });
});

// -- SDKs --------------------------------------------------------------------------------------------------------------

test('mixpanel-browser in Chromium: registered consent, GPC, and opt_out_tracking, whose deletion leaves', async () => {
  const browser = await browsers.mixpanel;
  const host = gateway.url('', 'mixpanel').replace(/\/$/, '');
  standins.mp.items.length = 0;
  standins.proc.items.length = 0;
  /* With batches the SDK clears its queue when somebody opts out, the deletion with it. */
  const [visitor, gpc] = await Promise.all([browser.visit(host, BROWSER_TOKEN, { batch_requests: false }), browser.visit(host, BROWSER_TOKEN)]);
  await visitor.call('track', 'Step silent');
  await visitor.call('register', { consent_analytics: 'granted' });
  await visitor.call('identify', 'user_opts_out');
  await visitor.call('track', 'Step agreed');
  await sleep(600); /* the queue of the page is sent before it is given up */
  await visitor.call('opt_out_tracking');
  await visitor.call('track', 'Step after');
  await sleep(800);
  await gpc.context.setExtraHTTPHeaders({ 'Sec-GPC': '1' });
  await gpc.call('register', { consent_analytics: true });
  await gpc.call('track', 'Step objecting');
  await sleep(800);
  await drained();
  assert.deepEqual([...visitor.errors, ...gpc.errors], []);
  assert.deepEqual(names('mp').filter((n) => n.startsWith('Step')), ['Step agreed']);
  assert.deepEqual(new Set(names('proc').filter((n) => n.startsWith('Step'))), new Set(['Step silent', 'Step agreed', 'Step objecting']));
  const updates = got('mp').filter((item) => item.$distinct_id !== undefined);
  assert.deepEqual(updates.map((item) => Object.keys(item).filter((k) => /^\$(set|delete|append|unset)/.test(k))), [['$delete']]);
  assert.ok(!JSON.stringify(updates).includes('user_opts_out'));
});

test('posthog-js in Chromium: registered consent, GPC, opt_out_capturing, and a page without cookies', async () => {
  const browser = await browsers.posthog;
  const url = gateway.url('', 'posthog').replace(/\/$/, '');
  const options = { autocapture: false, capture_pageview: false, capture_pageleave: false, advanced_disable_flags: true,
    disable_external_dependency_loading: true };
  standins.ph.clear();
  const [page, gpc, bare] = await Promise.all([{}, {}, { cookieless_mode: 'always' }].map((more) =>
    browser.visit(url, 'ph_token', { ...options, ...more })));
  await page.call('capture', 'Step silent');
  await page.call('register', { consent_analytics: true });
  await page.call('capture', 'Step agreed');
  await sleep(800);
  await page.call('opt_out_capturing');
  await page.call('capture', 'Step after');
  await gpc.context.setExtraHTTPHeaders({ 'Sec-GPC': '1' });
  await gpc.call('register', { consent_analytics: true });
  await gpc.call('capture', 'Step objecting');
  await bare.call('register', { consent_analytics: true });
  await bare.call('capture', 'Step bare');
  await sleep(1000);
  await drained();
  assert.deepEqual([...page.errors, ...gpc.errors, ...bare.errors], []);
  assert.deepEqual(names('ph'), ['Step agreed']);
  assert.deepEqual(standins.ph.refusals, []);
});

test('node SDKs of PostHog and Segment: consent goes with each event', async () => {
  standins.ph.clear();
  standins.sg.clear();
  const { client, errors } = nodeSdk(gateway.url('', 'posthog').replace(/\/$/, ''), 'ph_token');
  client.capture({ distinctId: 'u1', event: 'Step silent' });
  client.capture({ distinctId: 'u1', event: 'Step agreed', properties: { consent_analytics: true } });
  client.identify({ distinctId: 'u1', properties: { plan: 'pro', consent_analytics: true } });
  await client.shutdown();
  const { Analytics } = need('@segment/analytics-node');
  const analytics = new Analytics({ writeKey: 'sg_token', host: gateway.url('', '').replace(/\/$/, ''), path: '/segment/v1/batch', flushInterval: 100 });
  analytics.track({ userId: 'u1', event: 'Step silent' });
  analytics.track({ userId: 'u1', event: 'Step agreed', context: { consent: { categoryPreferences: { analytics: true } } } });
  analytics.identify({ userId: 'u1', traits: { plan: 'pro' } });
  analytics.identify({ userId: 'u1', traits: { plan: 'plus', consent_analytics: 'granted' } });
  await analytics.closeAndFlush();
  await drained();
  assert.deepEqual(errors, []);
  assert.deepEqual(names('ph').sort(), ['$identify', 'Step agreed']);
  assert.deepEqual(got('sg').map((m) => m.event ?? m.traits?.plan), ['Step agreed', 'plus']);
  assert.deepEqual(standins.sg.refusals, []);
  for (const name of ALL) {
    note(`${name}: ${JSON.stringify(await withheld(name))}`);
  }
});

await finish();
