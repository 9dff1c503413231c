// The webhook from end to end: the official SDKs of all five sources in, a strict receiver that verifies as Standard Webhooks says behind it; and what
// happens when it fails, goes, distrusts, refuses or is cut off.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { count, finish, need, note, onEnd, person, root, seeded, sleep, test, until } from './lib/harness.mjs';
import { Gateway, post } from './lib/gateway.mjs';
import { NodeSdk } from './lib/sdk-node.mjs';
import { DOCUMENT, EXAMPLE, verify, WebhookReceiver } from './lib/standin_webhook.mjs';

const random = seeded();
const secret = () => `whsec_${crypto.randomBytes(32).toString('base64')}`;
const [OLD, NEW] = [secret(), secret()];
const SOURCES = ['mixpanel', 'posthog', 'segment', 'rudder', 'amplitude'];
const token = (protocol) => `${protocol}_source_token_a`;

const receiver = await new WebhookReceiver({ secret: NEW }).start();
onEnd(() => receiver.stop());
const gateway = new Gateway({ name: 'wh', vendors: [{ vendor: 'own', connector: 'webhook', endpoint: receiver.url, credential: 'WEBHOOK_SECRETS' }],
  env: { WEBHOOK_SECRETS: `${NEW} ${OLD}` },
  sources: SOURCES.map((p) => `{ name: ${p}, protocol: ${p}, token: ${token(p)}, trust: server, vendors: [own] }`) });
const drained = () => gateway.drained('own');
const reopen = (how = '--replay') => gateway.open('own', how);

test('the document: its lines take its example, and nothing that was changed or is old', () => {
  const [head, body] = EXAMPLE.split('\n\n');
  const headers = Object.fromEntries(head.split('\n').slice(1).map((line) => line.split(': ')).map(([k, v]) => [k.toLowerCase(), v]));
  const key = /whsec_[A-Za-z0-9+/=]+/.exec(DOCUMENT.slice(DOCUMENT.indexOf('is signed with')))[0];
  const now = Date.now;
  try {
    Date.now = () => Number(headers['webhook-timestamp']) * 1000 + 299000;
    assert.equal(verify(key, headers, body).length, 1);
    assert.equal(verify(key, { ...headers, 'webhook-signature': `v1,AAAA ${headers['webhook-signature']}` }, body).length, 1);
    assert.throws(() => verify(NEW, headers, body));
    assert.throws(() => verify(key, headers, body.replace('Signed Up', 'Signed Ip')));
    assert.throws(() => verify(key, { ...headers, 'webhook-id': 'msg_0' }, body));
    assert.throws(() => verify(key, { ...headers, 'webhook-signature': undefined }, body));
    Date.now = () => Number(headers['webhook-timestamp']) * 1000 + 301000;
    assert.throws(() => verify(key, headers, body));
  } finally {
    Date.now = now;
  }
});

test('a source cannot speak it, and settings and init say why; the contract that the document shows is good', async () => {
  const good = gateway.sources;
  await gateway.prepare();
  gateway.sources = [`{ name: web, protocol: webhook, token: abcabcabcabc, vendors: [own] }`];
  gateway.write();
  const answer = await gateway.run(['contract', 'check'], { json: false });
  assert.notEqual(answer.code, 0);
  assert.match(answer.stderr + answer.stdout, /no SDK speaks webhook, so no source can; it is a connector/);
  gateway.sources = good;
  gateway.write();
  const example = /```yaml\n(vendor: receiver[\s\S]*?)```/.exec(fs.readFileSync(path.join(root, 'docs/contracts.md'), 'utf8'))[1];
  fs.writeFileSync(path.join(gateway.config, 'vendors/receiver.yaml'), example);
  const check = await gateway.run(['contract', 'check'], { json: false });
  fs.rmSync(path.join(gateway.config, 'vendors/receiver.yaml'));
  assert.equal(check.code, 0, check.stderr + check.stdout);
  assert.match(check.stdout, /2 vendors/);
  const init = await gateway.run(['init', path.join(gateway.folder, 'new'), '--vendor', 'webhook'], { json: false });
  assert.notEqual(init.code, 0);
  assert.match(init.stderr, /no SDK speaks webhook/);
  assert.ok(!fs.existsSync(path.join(gateway.folder, 'new')));
});

test('a credential that is no secret of this kind opens nothing, and is not shown', async () => {
  const good = gateway.env.WEBHOOK_SECRETS;
  gateway.env.WEBHOOK_SECRETS = 'sk_some_other_key';
  await gateway.start();
  const answer = await gateway.run(['restore', 'own', '--replay']);
  assert.notEqual(answer.code, 0);
  assert.match(answer.stderr + answer.stdout, /whsec_ and 24 to 64 bytes in base64/);
  assert.ok(!(answer.stderr + answer.stdout + gateway.log).includes('sk_some'));
  await gateway.stop();
  gateway.env.WEBHOOK_SECRETS = good;
}, { vital: true });

test('the gateway starts with its vendor cut, and is opened', async () => {
  await gateway.start();
  assert.equal((await gateway.vendor('own')).state, 'cut');
  const answer = await post(gateway.ports.ingest, '/webhook/events', [{ event: 'Step 1' }]);
  assert.equal(answer.status, 404);
  await reopen();
}, { vital: true });

// -- SDKs --------------------------------------------------------------------------------------------------------------

const base = (protocol) => gateway.url('', protocol).replace(/\/$/, '');

/* One person's visit in each SDK's words: who, a free text and a declared property; a client ends by flushing. */
const clients = {
  mixpanel: () => {
    const sdk = new NodeSdk(base('mixpanel'), token('mixpanel'));
    return { story: async (who, visit) => {
      await sdk.track('Step 1', { distinct_id: `$device:${visit}`, $device_id: visit, tokens: 1, model: 'mixpanel', email: who.email, ip: who.ip });
      await sdk.identify(who.id, visit);
      await sdk.track('Signed Up', { distinct_id: who.id, plan: who.plan, model: 'mixpanel', note: who.phone, company: who.org });
      await sdk.people('set', who.id, { plan: who.plan, $email: who.email, $name: who.name });
      await sdk.groups('set', 'company', who.org, { plan: 'team', name: who.orgName });
    }, end: () => undefined };
  },
  posthog: () => {
    const { PostHog } = need('posthog-node');
    const client = new PostHog(token('posthog'), { host: base('posthog'), flushAt: 20, flushInterval: 200, fetchRetryDelay: 300 });
    return { story: async (who, visit) => {
      client.capture({ distinctId: visit, event: 'Step 1', properties: { tokens: 1, model: 'posthog', email: who.email, $ip: who.ip } });
      client.capture({ distinctId: who.id, event: '$identify', properties: { $anon_distinct_id: visit, $set: { plan: who.plan, email: who.email, name: who.name } } });
      client.capture({ distinctId: who.id, event: 'Signed Up', properties: { plan: who.plan, model: 'posthog', note: who.phone }, groups: { company: who.org } });
      client.groupIdentify({ groupType: 'company', groupKey: who.org, distinctId: who.id, properties: { plan: 'team', name: who.orgName } });
    }, end: () => client.shutdown(10000) };
  },
  segment: () => {
    const { Analytics } = need('@segment/analytics-node');
    const client = new Analytics({ writeKey: token('segment'), host: gateway.url('', '').replace(/\/$/, ''), path: '/segment/v1/batch', flushInterval: 200 });
    return { story: (who, visit) => segmentStory(client, 'segment', who, visit), end: () => client.closeAndFlush() };
  },
  rudder: () => {
    const Analytics = need('@rudderstack/rudder-sdk-node');
    const client = new (Analytics.default ?? Analytics)(token('rudder'), { dataPlaneUrl: gateway.url('', 'rudder'), flushInterval: 200, logLevel: 'error' });
    return { story: (who, visit) => segmentStory(client, 'rudder', who, visit), end: () => new Promise((resolve) => client.flush(() => resolve())) };
  },
  amplitude: () => {
    const amplitude = need('@amplitude/analytics-node');
    const client = amplitude.createInstance();
    const ready = client.init(token('amplitude'), { serverUrl: `${base('amplitude')}/2/httpapi`, flushIntervalMillis: 200, flushQueueSize: 50, logLevel: 0 }).promise;
    return { story: async (who, visit) => {
      await ready;
      client.track('Step 1', { tokens: 1, model: 'amplitude', email: who.email }, { device_id: visit, ip: who.ip });
      client.identify(new amplitude.Identify().set('plan', who.plan).set('email', who.email).set('name', who.name), { user_id: who.id, device_id: visit });
      client.track('Signed Up', { plan: who.plan, model: 'amplitude', note: who.phone }, { user_id: who.id, groups: { company: who.org } });
      client.groupIdentify('company', who.org, new amplitude.Identify().set('plan', 'team').set('name', who.orgName), { user_id: who.id });
    }, end: () => client.flush().promise };
  },
};

/* Segment's and RudderStack's four calls. */
const segmentMessages = (model, who, visit) => [
  { type: 'track', anonymousId: visit, event: 'Step 1', properties: { tokens: 1, model, email: who.email }, context: { ip: who.ip } },
  { type: 'identify', userId: who.id, anonymousId: visit, traits: { plan: who.plan, email: who.email, name: who.name } },
  { type: 'track', userId: who.id, event: 'Signed Up', properties: { plan: who.plan, model, note: who.phone } },
  { type: 'group', userId: who.id, groupId: who.org, traits: { plan: 'team', name: who.orgName } },
];

function segmentStory(client, model, who, visit) {
  for (const { type, ...message } of segmentMessages(model, who, visit)) {
    client[type](message);
  }
}

/* `people` of each source, as the story tells it. */
function checkStory(people, sources = ['segment']) {
  const all = people * sources.length;
  assert.deepEqual(receiver.refusals, []);
  assert.equal(receiver.repeated, 0);
  for (const model of sources) {
    assert.equal(receiver.of('track', 'Step 1').filter((e) => e.properties.model === model).length, people, model);
    assert.equal(new Set(receiver.of('track', 'Signed Up').filter((e) => e.properties.model === model).map((e) => e.user_id)).size, people, model);
  }
  assert.equal(receiver.of('track').length, 2 * all, 'nothing undeclared');
  const users = new Set(receiver.of('track', 'Signed Up').map((e) => e.user_id));
  const visits = new Map(receiver.of('identify').map((e) => [e.anonymous_id, e.user_id]));
  assert.equal(users.size, all, 'people');
  assert.equal(visits.size, all);
  assert.ok(receiver.of('track', 'Step 1').every((e) => users.has(visits.get(e.anonymous_id ?? e.user_id)) && e.properties.tokens === 1), 'the visit before is linked');
  const profiles = receiver.items.filter((e) => (e.type === 'identify' || e.type === 'profile') && e.set !== undefined);
  assert.equal(profiles.length, all);
  assert.ok(profiles.every((e) => Object.keys(e.set).join() === 'plan' && users.has(e.user_id)));
  const groups = receiver.of('group').filter((e) => e.group.set !== undefined);
  assert.equal(groups.length, all);
  assert.ok(groups.every((e) => e.group.type === 'company' && e.group.set.plan === 'team' && Object.keys(e.group.set).length === 1), 'groups');
  const joined = groups.filter((e) => e.group.joins);
  assert.equal(joined.length, people * sources.filter((p) => ['segment', 'rudder'].includes(p)).length, 'members');
  assert.ok(joined.every((e) => users.has(e.user_id)));
  const ids = new Set(groups.map((e) => e.group.id));
  assert.ok(receiver.of('track', 'Signed Up').every((e) => [e.groups?.company ?? []].flat().every((id) => ids.has(id))), 'groups of events');
  assert.ok(receiver.items.every((e) => [e.user_id, e.anonymous_id, e.group?.id].every((id) => id === undefined || /^([a-z2-7]{26}|[0-9a-f-]{36})$/.test(id))), 'pseudonyms');
  assert.ok(receiver.items.every((e) => e.context?.['location.ip'] === undefined));
}

function checkNothingPersonal(all) {
  for (const who of all) {
    for (const value of [who.id, who.email, who.name, who.phone, who.orgName, who.ip, who.visit, ...SOURCES.map(token)]) {
      assert.ok(!receiver.text.includes(value), value);
    }
  }
  assert.ok(!/"org_\d/.test(receiver.text));
}

async function send(protocol, people, pause = 0) {
  const client = clients[protocol]();
  const all = [];
  for (let i = 0; i < people; i++) {
    const who = { ...person(random, i), visit: random.uuid() };
    all.push(who);
    await client.story(who, who.visit);
    await sleep(pause);
  }
  await client.end();
  return all;
}

/* The same story of a few, by one request. */
async function tell(people) {
  const batch = Array.from({ length: people }, (_, i) => segmentMessages('segment', person(random, i), random.uuid())).flat()
    .map((m) => ({ ...m, messageId: random.uuid(), timestamp: new Date().toISOString() }));
  const answer = await fetch(`${base('segment')}/v1/batch`, { method: 'POST', body: JSON.stringify({ writeKey: token('segment'), batch }) });
  assert.equal(answer.status, 200);
}

const arrived = (people) => until(() => receiver.of('track').length >= 2 * people && receiver.of('group').filter((e) => e.group.set !== undefined).length >= people,
  () => `${receiver.items.map((e) => e.event ?? e.type)} ${receiver.refusals.slice(0, 3)}`, 30000);

test('the SDKs of all five sources: every event once, signed; people as they were, nothing that was not declared', async () => {
  receiver.clear();
  const people = count(10, 150);
  const all = await Promise.all(SOURCES.map((protocol) => send(protocol, people)));
  await arrived(people * SOURCES.length);
  await drained();
  checkStory(people, SOURCES);
  checkNothingPersonal(all.flat());
  note(`${receiver.items.length} events in ${receiver.tries.length} requests`);
});

// -- what a receiver may do ----------------------------------------------------------------------------------------------

test('503 and 429: the same request under the same id, each try with its own time, not before Retry-After', async () => {
  receiver.clear();
  receiver.modes = [503, 429];
  await tell(1);
  await arrived(1);
  await drained();
  checkStory(1);
  assert.deepEqual(receiver.tries.map((t) => t.status), [503, 429, 204]);
  const [first, second, last] = receiver.tries;
  assert.ok([second, last].every((t) => t.id === first.id && t.body === first.body));
  assert.ok(last.at - second.at >= 1450, `${last.at - second.at} ms`);
  assert.ok(last.time > second.time && receiver.tries.every((t) => Math.abs(t.time * 1000 - t.at) < 2000), 'of the try');
});

test('an event that is refused is set aside alone', async () => {
  receiver.clear();
  receiver.refuses = (event) => event.properties?.tokens === 666;
  const items = Array.from({ length: 40 }, (_, i) => ({ event: 'Completion Run', properties: { distinct_id: `user_p${i}`, time: Math.floor(Date.now() / 1000),
    tokens: i === 17 ? 666 : i, token: token('mixpanel') } }));
  assert.equal((await post(gateway.ports.ingest, '/mixpanel/track', items)).status, 200);
  await drained();
  receiver.refuses = undefined;
  assert.deepEqual(receiver.items.map((e) => e.properties.tokens).sort((a, b) => a - b), items.map((e) => e.properties.tokens).filter((t) => t !== 666).sort((a, b) => a - b));
  assert.equal(receiver.repeated, 0);
  note(`${receiver.tries.length} requests`);
});

for (const [status, why] of [[401, 'another secret'], [410, 'gone']]) {
  test(`${status} (${why}): nothing more is sent until it is opened again; then everything, once`, async () => {
    receiver.clear();
    if (status === 401) {
      receiver.secret = secret();
    } else {
      receiver.modes = [410];
    }
    await tell(2);
    await until(async () => (await gateway.vendor('own')).state === 'parked', 'parked');
    assert.equal(receiver.tries.length, 1);
    assert.equal(receiver.tries[0].status, status);
    await tell(1);
    await sleep(100);
    assert.equal(receiver.tries.length, 1);
    assert.equal(receiver.items.length, 0);
    receiver.secret = NEW;
    receiver.refusals = [];
    assert.equal((await gateway.cut('own')).code, 0); /* what is parked asks by itself after five minutes, or is told */
    await reopen();
    await arrived(3);
    await drained();
    checkStory(3);
  });
}

test('while the secret is changed the old one and the new one verify', async () => {
  receiver.clear();
  receiver.secret = OLD;
  await tell(1);
  await arrived(1);
  receiver.secret = NEW;
  await tell(1);
  await arrived(2);
  await drained();
  checkStory(2);
});

test('the gateway is killed in mid-flow: what it acknowledged arrives once', async () => {
  receiver.clear();
  const people = count(20, 200);
  const sending = send('segment', people, 20);
  await sleep(150);
  await gateway.kill();
  await gateway.start();
  const all = await sending;
  await arrived(people);
  await drained();
  note(`${receiver.repeated} came again, under the ids that they had`);
  receiver.repeated = 0;
  checkStory(people);
  checkNothingPersonal(all);
});

test('cut: nothing more arrives; opened without the backlog, what came meanwhile never does', async () => {
  receiver.clear();
  assert.equal((await gateway.cut('own')).code, 0);
  await tell(2);
  await sleep(1200); /* longer than a window */
  assert.equal(receiver.tries.length, 0);
  await reopen('--discard');
  await tell(1);
  await arrived(1);
  await drained();
  checkStory(1);
});

// -- marks -------------------------------------------------------------------------------------------------------------

test('a marked value in every place that nobody declared: none arrives', async () => {
  receiver.clear();
  let number = 0;
  const mark = () => `mark${random.hex(12)}é${number++}`;
  const bag = () => ({ plan: 'pro', tokens: 1, [mark()]: mark(), list: [{ of: mark() }], text: `free ${mark()}`, url: mark(), title: mark(), email: `${mark()}@example.com`,
    $current_url: `https://example.com/${mark()}?x=${mark()}#${mark()}`, $set: { plan: 'pro', [mark()]: mark() }, $unset: [mark()], $groups: { [mark()]: mark(), company: mark() } });
  const time = Math.floor(Date.now() / 1000);
  const who = mark();
  const requests = [
    ['/mixpanel/track', [{ event: 'Step 1', [mark()]: mark(), properties: { ...bag(), token: token('mixpanel'), distinct_id: who, $device_id: random.uuid(), time } }]],
    ['/mixpanel/engage', [{ $token: token('mixpanel'), $distinct_id: who, $set: bag(), $add: { [mark()]: 1 }, $append: { [mark()]: mark() }, $unset: [mark()] }]],
    ['/posthog/batch/', { api_key: token('posthog'), batch: [{ event: 'Step 1', distinct_id: who, properties: bag(), [mark()]: mark(), timestamp: new Date().toISOString() }] }],
    ['/segment/v1/batch', { writeKey: token('segment'), batch: ['track', 'page', 'screen', 'identify', 'group', 'alias'].map((type) => ({ type, messageId: random.uuid(),
      event: type === 'track' ? 'Step 1' : undefined, userId: who, anonymousId: random.uuid(), previousId: mark(), groupId: mark(), name: mark(), category: mark(),
      properties: bag(), traits: bag(), context: { page: bag(), [mark()]: bag(), groupId: mark(), ip: mark(), userAgent: mark() }, [mark()]: mark() })) }],
    ['/amplitude/2/httpapi', { api_key: token('amplitude'), events: [{ event_type: 'Step 1', user_id: who, device_id: random.uuid(), insert_id: random.uuid(), time: time * 1000,
      event_properties: bag(), user_properties: { $set: bag(), $unset: { [mark()]: '-' } }, groups: { company: mark(), [mark()]: mark() }, ip: mark(), city: mark(), [mark()]: mark() }] }],
  ];
  for (const [where, body] of requests) {
    const answer = await fetch(`http://127.0.0.1:${gateway.ports.ingest}${where}`, { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
    assert.equal(answer.status, 200, `${where}: ${await answer.text()}`);
  }
  await drained();
  assert.deepEqual(receiver.refusals, []);
  assert.ok(receiver.items.length >= 6, `${receiver.items.length}`);
  assert.ok(!/mark[0-9a-f]{12}/.test(receiver.tries.map((t) => t.body).join()), receiver.tries.map((t) => /.{80}mark[0-9a-f]{12}.{20}/.exec(t.body)?.[0]).join());
  note(`${number} marks, ${receiver.items.length} events arrived`);
});

await finish();
