// The commands as a person meets them: init makes a folder that runs, mistakes are named with their place, reload is all or nothing,
// a contract that narrows binds the backlog and one that widens does not, and every command has help with an example.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { finish, onEnd, seeded, sleep, tempFolder, test, until } from './lib/harness.mjs';
import { ALLOW, findBinary, Gateway, post, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { Standin } from './lib/standin.mjs';

seeded();
const binary = findBinary();
const home = tempFolder('cli');
const run = (args, options = {}) => spawnSync(binary, args, { encoding: 'utf8', env: { ...process.env, HOME: home, MIXPANEL_TOKEN: VENDOR_TOKEN }, ...options });
const conf = path.join(home, 'conf');

test('init writes a folder that checks and runs, and the key outside it', () => {
  const made = run(['init', conf, '--instance', 'eu-1']);
  assert.equal(made.status, 0, made.stderr);
  assert.deepEqual(fs.readdirSync(conf).sort(), ['.gitignore', 'bulkhead.yaml', 'plan.yaml', 'vendors']);
  const key = path.join(home, '.config/bulkhead/eu-1.key');
  assert.equal(fs.statSync(key).mode & 0o777, 0o400);
  const checked = run(['-c', conf, 'contract', 'check']);
  assert.equal(checked.status, 0, checked.stderr);
  assert.match(checked.stdout, /fine/);
  assert.equal(run(['init', conf]).status, 2, 'nothing that exists is changed');
  const twice = run(['init', `${conf}-two`, '--vendor', 'posthog', '--vendor', 'segment']);
  assert.equal(twice.status, 2, 'an option that is given twice does not lose its first value in silence');
  assert.match(twice.stderr, /--vendor is given twice/);
}, { vital: true });

test('every command has help with an example, and unknown words are refused', () => {
  const help = run(['--help']);
  assert.equal(help.status, 0);
  const names = [...help.stdout.matchAll(/^ {2}([a-z]+(?: [a-z]+)?) {2,}/gm)].map((m) => m[1]);
  assert.ok(names.length >= 13, names.join(', '));
  for (const name of names) {
    const one = run([...name.split(' '), '--help']);
    assert.equal(one.status, 0, name);
    assert.match(one.stdout, /example:\n {2}\S/, name);
    assert.match(one.stdout, /usage: bulkhead/, name);
    assert.ok(one.stdout.split('\n').every((line) => line.length <= 80), one.stdout);
    assert.equal(run(['help', ...name.split(' ')]).stdout, one.stdout);
  }
  assert.ok(help.stdout.split('\n').every((line) => line.length <= 80), help.stdout);
  assert.equal(run(['frobnicate']).status, 2);
  assert.match(run(['statsu']).stderr, /did you mean status\?/);
  assert.match(run(['ledger', 'verfy']).stderr, /bulkhead ledger verify or bulkhead ledger checkpoint/);
  assert.match(run(['-c', conf, 'cut', 'mixpanell']).stderr, /no such vendor: mixpanell; there is mixpanel/);
  assert.equal(run(['status', '--frobnicate']).status, 2);
  for (const day of ['2026-02-30', '2026-13-01', '2026-6-1', 'yesterday']) {
    assert.match(run(['-c', conf, 'exposure', 'mixpanel', '--from', day]).stderr, /a time is/, day);
  }
  assert.equal(run([]).status, 2);
});

const MISTAKES = [
  ['bulkhead.yaml', /ingest: 127\.0\.0\.1:8080/, 'ingest: 0.0.0.0', /bulkhead\.yaml:\d+:\d+: listen: ingest .*127\.0\.0\.1:8080/s],
  ['bulkhead.yaml', /^listen:/m, 'listne:', /bulkhead\.yaml:\d+:\d+: .*listne.*listen/s],
  ['bulkhead.yaml', /trust: browser, vendors/, 'trust: brwoser, vendors', /bulkhead\.yaml:\d+:\d+: .*trust.*browser/s],
  ['bulkhead.yaml', /trust: browser, vendors/, 'trust: browser, role: processor, vendors', /bulkhead\.yaml:\d+:\d+: .*not yet/s],
  ['bulkhead.yaml', /vendors: \[mixpanel\]/, 'vendors: [mixpanle]', /mixpanle/],
  ['plan.yaml', /type: number/, 'type: nubmer', /plan\.yaml:\d+:\d+: .*number/s],
  ['vendors/mixpanel.yaml', /^ {2}user\.device:/m, '  user.devcie:', /mixpanel\.yaml:\d+:\d+: .*user\.device/s],
  ['vendors/mixpanel.yaml', /^allow:/m, 'allow:\n  user.financial.credit_card: raw', /mixpanel\.yaml:\d+:\d+: .*credit_card/s],
  ['vendors/mixpanel.yaml', /^endpoint: .*/m, 'endpoint: http://vendor.example.com', /mixpanel\.yaml:\d+:\d+: .*http/s],
  ['vendors/mixpanel.yaml', /^allow:/m, 'allow:\n  user.contact.email: seal', /not yet/],
];

for (const [file, find, replace, expected] of MISTAKES) {
  test(`a mistake in ${file} (${replace.split('\n').at(-1).trim()}) is named with its place and the way out`, () => {
    const full = path.join(conf, file);
    const good = fs.readFileSync(full, 'utf8');
    assert.match(good, find, 'the text to spoil is there');
    try {
      fs.writeFileSync(full, good.replace(find, replace));
      const checked = run(['-c', conf, 'contract', 'check']);
      assert.equal(checked.status, 1, 'the answer is no');
      assert.match(checked.stderr, expected);
    } finally {
      fs.writeFileSync(full, good);
    }
  });
}

const ITEM = { event: 'Signed Up', properties: { token: SERVER_TOKEN, distinct_id: 'user_1', plan: 'pro', email: 'ada@example.com', time: 1795489911,
  $city: 'Lyon', note: 'my card is 4111 1111 1111 1111' } };

test('inspect and preview speak the shapes that tools depend on', () => {
  const input = `${JSON.stringify(ITEM)}\n`;
  const seen = run(['-c', conf, 'inspect'], { input });
  assert.equal(seen.status, 0, seen.stderr);
  const { line, findings } = JSON.parse(seen.stdout);
  assert.equal(line, 1);
  const card = findings.find((f) => f.class === 'user.financial.credit_card');
  assert.deepEqual(card, { path: '/properties/note', class: 'user.financial.credit_card', start: 11, end: 30, by: 'value' });
  assert.ok(!seen.stdout.includes('4111') && !seen.stdout.includes('ada@'), 'no value is printed');
  const shown = run(['-c', conf, 'preview', 'mixpanel'], { input });
  assert.equal(shown.status, 0, shown.stderr);
  const item = JSON.parse(shown.stdout);
  assert.equal(item.properties.plan, 'pro');
  assert.ok(!shown.stdout.includes('ada@example.com') && !shown.stdout.includes('user_1') && !shown.stdout.includes('Lyon'));
  const why = run(['-c', conf, 'preview', 'mixpanel', '--explain', '--json'], { input });
  const { leaves } = JSON.parse(why.stdout);
  assert.ok(leaves.length >= 6 && leaves.every((l) => l.path && l.form && l.rule !== undefined));
  assert.equal(run(['-c', conf, 'inspect'], { input: 'no json\n' }).status, 1);
});

const ALONE = {
  mixpanel: [ITEM, { $token: 't', $distinct_id: 'u1', $set: { plan: 'pro' } }, { $token: 't', $group_key: 'company', $group_id: 'o1', $set: { plan: 'pro' } }],
  posthog: [{ event: '$identify', distinct_id: 'u1', uuid: crypto.randomUUID(), properties: { $anon_distinct_id: 'a1', $set: { plan: 'pro' } } },
    { event: '$groupidentify', distinct_id: 'u1', uuid: crypto.randomUUID(), properties: { $group_type: 'company', $group_key: 'o1', $group_set: { plan: 'pro' } } }],
  segment: ['identify', 'group', 'page', 'track', 'alias'].map((type) => ({ type, userId: 'u1', messageId: 'm1', anonymousId: 'a1', groupId: 'o1', previousId: 'p1',
    event: 'Signed In', traits: { plan: 'pro' } })),
};
ALONE.rudder = ALONE.segment;

for (const [vendor, items] of Object.entries(ALONE)) {
  test(`inspect and preview read every kind of item of ${vendor}, one a line`, () => {
    const folder = path.join(home, `alone-${vendor}`);
    assert.equal(run(['init', folder, '--vendor', vendor, '--key', path.join(home, `${vendor}.key`)]).status, 0);
    const input = items.map((item) => `${JSON.stringify(item)}\n`).join('');
    for (const args of [['inspect', '--source', 'web'], ['preview', vendor]]) {
      const shown = run(['-c', folder, ...args], { input });
      assert.equal(shown.status, 0, shown.stderr);
      const lines = shown.stdout.trim().split('\n').map((line) => JSON.parse(line));
      assert.equal(lines.length, items.length);
      assert.ok(lines.every((line) => line !== null && !JSON.stringify(line).includes('"u1"')), shown.stdout);
    }
  });
}

test('inspect --plan says what the plan does not declare, without a configuration', () => {
  const plan = path.join(home, 'plan-alone.yaml');
  fs.writeFileSync(plan, 'events:\n  Signed Up: { properties: { plan: { enum: [free, pro] } } }\nproperties:\n  cart.total: { type: number }\n'
    + 'traits:\n  score: { type: number }\n');
  const items = [
    { event: 'Signed Up', properties: { token: 't', distinct_id: 'u', plan: 'pro', coupon: 'X', cart: { total: 1, gift: true }, note: 'a@example.com', tags: [1, { k: 2 }] } },
    { event: 'Signed Upp', properties: { token: 't', distinct_id: 'u', plan: 'pro' } },
    { $token: 't', $distinct_id: 'u', $set: { score: 1, shoe_size: 44 } },
  ];
  const input = items.map((item) => `${JSON.stringify(item)}\n`).join('');
  const empty = fs.mkdtempSync(path.join(home, 'empty-'));
  const seen = run(['inspect', '--plan', plan], { input, cwd: empty });
  assert.equal(seen.status, 0, seen.stderr);
  const lines = seen.stdout.trim().split('\n').map((line) => JSON.parse(line).findings);
  const undeclared = lines.map((found) => found.filter((f) => f.class === 'user.content.private' && f.by === 'schema').map((f) => f.path));
  assert.deepEqual(undeclared, [
    ['/properties/coupon', '/properties/cart/gift', '/properties/note', '/properties/tags/0', '/properties/tags/1/k'],
    ['/event', '/properties/plan'], /* plan is declared of Signed Up alone */
    ['/$set/shoe_size'],
  ]);
  assert.ok(lines[0].some((f) => f.path === '/properties/note' && f.class === 'user.contact.email'), 'what is found is said as well');
  assert.ok(!run(['inspect'], { input, cwd: empty }).stdout.includes('content.private'), 'without --plan nobody asks what is declared');
  const none = run(['inspect', '--plan', `${plan}.nope`], { input, cwd: empty });
  assert.deepEqual([none.status, none.stdout], [2, '']);
  assert.match(none.stderr, /there is no plan .*nope/);
});

const standin = await new Standin({ token: VENDOR_TOKEN }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ name: 'cli', endpoint: standin.url });

test('a new vendor starts cut; status tells it, alive and dead; restore needs to be told what becomes of the backlog', async () => {
  await gateway.start();
  await post(gateway.ports.ingest, '/mixpanel/track', [ITEM]);
  await sleep(300);
  const alive = await gateway.vendor();
  assert.equal(alive.state, 'cut');
  assert.equal(alive.backlog, 1);
  assert.equal((await gateway.run(['restore', 'mixpanel'])).code, 2);
  const nobody = await gateway.run(['cut', 'nobody']);
  assert.equal(nobody.code, 2);
  assert.match(nobody.stderr, /there is mixpanel/);
  await gateway.kill();
  const dead = await gateway.status();
  assert.deepEqual([dead.ready, dead.vendors.mixpanel.state, dead.vendors.mixpanel.backlog], [false, 'cut', 1]);
  await gateway.start();
  await gateway.open();
  await gateway.drained();
  assert.equal(standin.events().length, 1);
}, { vital: true });

test('a cut while no daemon runs holds at the next start', async () => {
  await gateway.stop();
  assert.equal((await gateway.cut()).code, 0);
  await gateway.start();
  assert.equal((await gateway.vendor()).state, 'cut');
  await gateway.open();
});

test('reload is all or nothing', async () => {
  const before = standin.events().length;
  gateway.vendors[0].allow = { ...ALLOW, 'user.nonsense': 'raw' };
  gateway.write();
  const answer = await gateway.admin('POST', '/v1/reload');
  assert.equal(answer.status, 422);
  assert.match(answer.body, /user\.nonsense/);
  gateway.process.kill('SIGHUP');
  await sleep(300);
  assert.match(gateway.log, /the old one stays in force/);
  await post(gateway.ports.ingest, '/mixpanel/track', [{ ...ITEM, properties: { ...ITEM.properties, time: 1795489912 } }]);
  await gateway.drained();
  assert.equal(standin.events().length, before + 1, 'the old contract still delivers');
  await gateway.alter('mixpanel', { allow: { ...ALLOW } });
});

test('what widens binds only later events, what narrows the backlog too', async () => {
  const send = (id, time) => post(gateway.ports.ingest, '/mixpanel/track', [{ event: 'Signed In', properties: { token: SERVER_TOKEN, distinct_id: id,
    mp_country_code: 'FR', $browser: 'Firefox', $city: 'Lyon', time, tokens: time } }]);
  const arrived = (time) => standin.events().find((e) => e.properties.tokens === time)?.properties;
  standin.behave('503');
  await send('w1', 1795489921);
  await sleep(400);
  await gateway.alter('mixpanel', { allow: { ...ALLOW, 'user.location.imprecise': 'raw' } });
  await send('w2', 1795489922);
  await gateway.alter('mixpanel', { allow: { ...ALLOW, 'user.location.imprecise': 'raw', 'user.device': 'drop' } });
  await sleep(300);
  await gateway.cut();
  standin.behave('ok');
  await gateway.open();
  await gateway.drained();
  assert.equal(arrived(1795489921).$city, undefined, 'opened later: not for what was received before');
  assert.equal(arrived(1795489922).$city, 'Lyon', 'opened: for what came after');
  assert.equal(arrived(1795489921).$browser, undefined, 'closed later: for the backlog too');
  assert.equal(arrived(1795489922).$browser, undefined);
});

test('tap shows verdicts without values', async () => {
  const watching = gateway.run(['tap', '--seconds', '2']);
  await sleep(600);
  await post(gateway.ports.ingest, '/mixpanel/track', [{ ...ITEM, properties: { ...ITEM.properties, time: 1795489999 } }]);
  const { code, lines, stdout } = await watching;
  assert.equal(code, 0);
  const line = lines.find((l) => l.event === 'Signed Up');
  assert.ok(line && line.sends && line.withheld > 0 && line.leaves.includes('user.unique_id:pseudonym'), stdout);
  assert.ok(!stdout.includes('ada@') && !stdout.includes('user_1') && !stdout.includes('4111'));
});

test('what undeclared: hold holds is listed by name, without values, alive and dead; its lines are a plan', async () => {
  await post(gateway.ports.ingest, '/mixpanel/track', [
    { event: 'Signed In', properties: { token: SERVER_TOKEN, distinct_id: 'held_1', time: 1795490001, shelf: 4477, cart: { gift: true }, mood: 'sunny-side',
      reply_to: 'eve@example.com', 'zoe@example.com': 1 } },
    { event: 'Bought Cow', properties: { token: SERVER_TOKEN, distinct_id: 'held_1', time: 1795490002, shelf: 4478,
      '\u001b[31mred': 1, 'st*r': 2, ['l'.repeat(200)]: 3, 'z\u0000z': 4, 'z\u0000y': 5 } },
  ]);
  await gateway.drained();
  const held = async () => JSON.parse((await gateway.run(['preview', 'mixpanel', '--held', '--json'])).stdout);
  const listed = await held();
  const of = (name) => listed.names.find((n) => n.name === name);
  assert.deepEqual(of('shelf'), { section: 'property', name: 'shelf', count: 2, looks: ['number'], found: null });
  assert.deepEqual(of('cart.gift')?.looks, ['boolean']);
  assert.equal(of('Bought Cow')?.section, 'event');
  assert.equal(of('reply_to')?.found, 'user.contact.email');
  const text = run(['-c', gateway.config, 'preview', 'mixpanel', '--held']).stdout;
  for (const value of ['4477', 'sunny-side', 'eve@', 'zoe@', 'held_1']) {
    assert.ok(!text.includes(value) && !JSON.stringify(listed).includes(value), `${value} is not shown`);
  }
  assert.ok(text.split('\n').every((line) => line.length <= 80), text);
  assert.match(text, /^ {2}shelf: \{ type: number \}$/m);
  assert.ok(!text.includes('\u001b') && text.includes('"\\u001b[31mred"'), 'nothing from a name reaches the terminal as a command');
  assert.ok(!/^ {2}"st\*r":/m.test(text), 'a star would open other names too');
  assert.equal(listed.names.find((n) => n.name === null && n.section === 'property')?.count, 3, 'what a plan cannot name is counted');
  assert.match(text, /^ {2}# mood: /m, 'a text is never opened by a pasted line');
  assert.ok(!/^ {2}reply_to:/m.test(text), 'what has personal data in it is not proposed');
  const status = run(['-c', gateway.config, 'status']).stdout;
  assert.match(status, /undeclared: \d+ properties, \d+ events\n.*preview mixpanel --held/);

  /* The lines as they stand, read by inspect: what they declare is declared. */
  const lines = text.slice(text.indexOf('\nevents:') + 1, text.indexOf('\nnothing is proposed'));
  const plan = path.join(home, 'proposed.yaml');
  fs.writeFileSync(plan, lines);
  const again = run(['inspect', '--plan', plan], { input: `${JSON.stringify({ event: 'Bought Cow', properties: { shelf: 1, mood: 'x' } })}\n` });
  assert.equal(again.status, 0, again.stderr + lines);
  assert.deepEqual(JSON.parse(again.stdout).findings.filter((f) => f.class === 'user.content.private').map((f) => f.path), ['/properties/mood']);

  gateway.vendors[0].undeclared = 'drop';
  gateway.write();
  const dropped = await gateway.run(['preview', 'mixpanel', '--held']);
  assert.deepEqual([dropped.code, dropped.stdout], [2, '']);
  gateway.vendors[0].undeclared = 'hold';
  gateway.write();
  await gateway.kill();
  assert.deepEqual((await held()).names, listed.names, 'a dead daemon left the same');
  await gateway.start();
});

test('SIGTERM ends it in order, and nothing waits in the dark', async () => {
  const end = await gateway.stop();
  assert.deepEqual([end.code, end.signal], [0, null]);
  assert.equal((await gateway.status()).vendors.mixpanel.backlog, 0);
});

test('a damaged ledger stops its vendor alone: the other is served, its events wait, cut and the repair work', async () => {
  const other = await new Standin({ token: VENDOR_TOKEN }).start();
  onEnd(() => other.stop());
  /* Called as the other with more behind it, which is no log of the other. */
  const HURT = 'sound-too';
  const two = new Gateway({ name: 'damaged', vendors: [{ vendor: 'sound', endpoint: standin.url }, { vendor: HURT, endpoint: other.url }] });
  const say = (id) => post(two.ports.ingest, '/mixpanel/track', [{ ...ITEM, properties: { ...ITEM.properties, distinct_id: id } }]);
  await two.start();
  await two.open('sound');
  await two.open(HURT);
  await say('damage_1');
  await two.drained('sound');
  await two.drained(HURT);
  await two.stop();
  const file = path.join(two.data, `ledger/${HURT}-1/0000000001.seg`);
  const good = fs.readFileSync(file);
  const bad = Buffer.from(good);
  bad[4096 + 60] ^= 4;
  fs.writeFileSync(file, bad);

  const shows = async () => (await two.status()).vendors[HURT];
  assert.match((await shows()).out_of_service, /sound-too/, 'status tells it while no daemon runs');
  await two.start();
  assert.equal((await two.health('/readyz')).status, 200, 'events are taken');
  assert.equal((await say('damage_2')).status, 200);
  await until(async () => (await two.status()).vendors.sound.backlog === 0, () => 'the sound vendor is served', 10000, 50);
  const hurt = await shows();
  assert.equal(hurt.state, 'parked');
  assert.ok(hurt.backlog >= 1, 'its events wait');
  assert.match(hurt.out_of_service, /sound-too/);
  assert.match((await two.health('/metrics')).body, /bulkhead_vendor_out_of_service\{vendor="sound-too"\} 1\n/);
  assert.match((await two.health('/metrics')).body, /bulkhead_vendor_out_of_service\{vendor="sound"\} 0\n/);
  assert.equal(two.log.split('\n').filter((line) => /out of service/.test(line)).length, 1, two.log);
  assert.match(run(['-c', two.config, 'status']).stdout, /out of service: .*sound-too/);
  const refused = await two.run(['restore', HURT, '--replay']);
  assert.equal(refused.code, 2);
  await two.reload();
  assert.equal((await two.run(['cut', HURT])).code, 0);
  assert.equal((await shows()).state, 'cut');
  assert.equal((await two.run(['exposure', 'sound'])).code, 0, 'the other can be asked about');
  assert.equal((await two.run(['exposure', HURT])).code, 2, 'what is damaged gives no answer');
  const end = await two.stop();
  assert.deepEqual([end.code, end.signal], [0, null]);

  fs.writeFileSync(file, good);
  await two.start();
  assert.equal((await shows()).out_of_service, undefined);
  assert.equal((await shows()).state, 'cut', 'the cut outlives the repair');
  await two.open(HURT);
  await until(async () => (await shows()).backlog === 0, () => 'what waited is delivered', 10000, 50);
  assert.equal((await two.run(['ledger', 'verify'])).code, 0);
  assert.equal(JSON.parse((await two.run(['ledger', 'verify', 'sound', '--json'])).stdout).log, 'sound-1');
  await two.stop();
});

test('serve refuses a key inside the data folder or a work tree', () => {
  const place = path.join(home, 'repo');
  fs.mkdirSync(place);
  execFileSync('git', ['init', '-q', place]);
  fs.copyFileSync(path.join(home, '.config/bulkhead/eu-1.key'), path.join(place, 'eu-1.key'));
  fs.chmodSync(path.join(place, 'eu-1.key'), 0o400);
  const other = path.join(home, 'other');
  fs.cpSync(conf, other, { recursive: true });
  const file = path.join(other, 'bulkhead.yaml');
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^key: .*$/m, `key: { file: ${path.join(place, 'eu-1.key')} }`));
  const served = run(['-c', other, 'serve'], { timeout: 10000 });
  assert.equal(served.status, 2, served.stderr);
  assert.match(served.stderr, /work tree|git/);
});

await finish();
