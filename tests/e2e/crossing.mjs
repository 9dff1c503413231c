// An answer belongs to exactly one request. Each of ours is told apart by an Origin that the reply must echo; each of the vendor's by
// what happens to the events of its attempt, while late, doubled, split and cut-short answers lie in wait on its connections.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { count, finish, note, onEnd, seeded, sleep, tempFolder, test, until, watchChild } from './lib/harness.mjs';
import { findBinary, Gateway, post, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { RawConnection } from './lib/raw.mjs';
import { Standin } from './lib/standin.mjs';

const random = seeded();
const CONNECTIONS = count(100, 1000);
const EXCHANGES = count(30000, 1000000);
const standin = await new Standin({ token: VENDOR_TOKEN, dumpItems: false }).start();
onEnd(() => standin.stop());
const gateway = new Gateway({ endpoint: standin.url, limits: '{ connections: 4096, connections_per_peer: 4096 }' });

test('the gateway starts', () => gateway.start(), { vital: true });

const HOST = 'Host: h\r\n';
let serial = 0;

/* One request and the judgement of its reply. */
function exchange() {
  const n = serial++;
  const origin = `https://r${n}.example.com`;
  const head = `${HOST}Origin: ${origin}\r\n`;
  const item = JSON.stringify({ event: 'Step 1', properties: { token: SERVER_TOKEN, distinct_id: `c${n % 1000}`, $insert_id: `x${n}`, time: Math.floor(Date.now() / 1000) } });
  const post_ = (query, body) => `POST /mixpanel/track${query} HTTP/1.1\r\n${head}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  switch (random.below(7)) {
    case 0: return { n, origin, bytes: post_('?verbose=1', item), status: 200, body: '{"error":null,"status":1}', accepted: 1 };
    case 1: return { n, origin, bytes: post_('', item), status: 200, body: '1', accepted: 1 };
    case 2: return { n, origin, bytes: post_('', item.replace(SERVER_TOKEN, `bad${n}`)), status: 401, accepted: 0 };
    case 3: return { n, origin, bytes: post_('', `[${item},${item.replace(`"x${n}"`, `"y${n}"`)}]`), status: 200, body: '1', accepted: 2 };
    case 4: return { n, origin, bytes: `OPTIONS /mixpanel/track HTTP/1.1\r\n${head}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-${n}\r\n\r\n`,
      status: 200, allow: `x-${n}`, accepted: 0 };
    case 5: return { n, origin, bytes: `GET /mixpanel/settings/?n=${n} HTTP/1.1\r\n${head}Authorization: Basic ${Buffer.from(`${SERVER_TOKEN}:`).toString('base64')}\r\n\r\n`,
      status: 200, body: '{"sdk_config":{"config":{}}}', accepted: 0 };
    default: return { n, origin, bytes: `GET /mixpanel/track?data=${encodeURIComponent(Buffer.from(item).toString('base64'))} HTTP/1.1\r\n${head}\r\n`, status: 200, body: '1', accepted: 1 };
  }
}

function judge(sent, answer) {
  assert.equal(answer.headers['access-control-allow-origin'], sent.origin, `the answer to request ${sent.n} is another's`);
  assert.equal(answer.status, sent.status, `request ${sent.n}: ${answer.body}`);
  if (sent.body !== undefined) {
    assert.equal(answer.body, sent.body);
  }
  if (sent.allow) {
    assert.equal(answer.headers['access-control-allow-headers'], sent.allow);
  }
}

test(`${EXCHANGES} exchanges on ${CONNECTIONS} connections with pipelines, aborts and resets`, async () => {
  let done = 0;
  let given = 0;
  let aborted = 0;
  let least = 0;
  let unknown = 0;
  const worker = async () => {
    let connection = await new RawConnection(gateway.ports.ingest).open();
    while (given < EXCHANGES) {
      const depth = random.between(1, 8);
      const pipeline = Array.from({ length: depth }, () => exchange());
      given += depth;
      connection.send(pipeline.map((p) => p.bytes).join(''));
      /* Some clients leave in the middle: before, between or behind the answers, politely or not. */
      const leaves = random.chance(0.2) ? random.below(depth + 1) : depth + 1;
      let i = 0;
      for (; i < depth && i < leaves; i++) {
        const answer = await connection.answer(20000);
        assert.ok(answer, `an answer to request ${pipeline[i].n}`);
        judge(pipeline[i], answer);
        least += pipeline[i].accepted;
        done++;
      }
      if (leaves <= depth) {
        aborted++;
        unknown += pipeline.slice(i).reduce((sum, p) => sum + p.accepted, 0);
        if (random.chance(0.5)) {
          connection.abort();
        } else {
          connection.destroy();
        }
        connection = await new RawConnection(gateway.ports.ingest).open();
      }
    }
    connection.destroy();
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, worker));
  await sleep(500);
  const accepted = (await gateway.metrics()).sum('bulkhead_events_accepted_total');
  note(`${done} answers judged, ${aborted} connections left in the middle; ${accepted} events accepted, between ${least} and ${least + unknown}`);
  assert.ok(accepted >= least && accepted <= least + unknown, 'accepted are exactly those that could be');
});

test('vendor answers that are late, doubled, split and cut short settle no attempt but their own', async () => {
  await gateway.open('mixpanel', '--discard');
  await gateway.drained();
  standin.clear();
  const rounds = count(40, 2000);
  const perRound = 40;
  const poison = new Set();
  const wanted = new Set();
  const modes = ['ok', 'ok', 'double', 'double', 'late', 'split', 'cut-short', '500', '503', 'reset', 'trickle'];
  /* The stand-in names poisoned events; whatever else it answers, it must be theirs and no other attempt's. */
  const judgeImport = standin.judgeImport.bind(standin);
  standin.judgeImport = (entry, behaviour) => judgeImport(entry, { ...behaviour, mode: 'poison', match: (item) => item.properties?.tokens === -1 });
  for (let round = 0; round < rounds; round++) {
    standin.behave({ mode: random.pick(modes), ms: random.between(1, 60), count: random.between(1, 2) });
    const items = Array.from({ length: perRound }, (_, i) => {
      const id = round * perRound + i;
      const bad = random.chance(0.05);
      (bad ? poison : wanted).add(id);
      return { event: 'Completion Run', properties: { distinct_id: `v${id % 300}`, $insert_id: `v${id}`, time: Math.floor(Date.now() / 1000), tokens: bad ? -1 : 1,
        prompt_tokens: id } };
    });
    const answer = await post(gateway.ports.ingest, '/mixpanel/track', items, { token: SERVER_TOKEN });
    assert.equal(answer.status, 200);
    const before = standin.stats.requests;
    await until(() => standin.stats.requests > before, 'an attempt', 1500, 5).catch(() => undefined);
    await sleep(random.between(0, 60));
    /* After a failure an operator's restore spares us the back-off; otherwise the connection must stay, with what lies in wait on it. */
    const status = JSON.parse((await gateway.admin('GET', '/v1/status')).body);
    if (status.vendors.mixpanel.state !== 'active') {
      await gateway.admin('POST', '/v1/cut', JSON.stringify({ vendor: 'mixpanel' }));
      await gateway.admin('POST', '/v1/restore', JSON.stringify({ vendor: 'mixpanel', mode: 'replay' }));
    }
    if (round % 20 === 19) {
      standin.behave('ok');
      await gateway.drained('mixpanel', 120000);
    }
  }
  standin.behave('ok');
  await gateway.drained('mixpanel', 300000);
  const arrived = new Map();
  for (const event of standin.events()) {
    const id = event.properties.prompt_tokens;
    arrived.set(id, (arrived.get(id) ?? 0) + 1);
  }
  const missing = [...wanted].filter((id) => !arrived.has(id));
  const doubled = [...arrived].filter(([, n]) => n > 1);
  const wrong = [...poison].filter((id) => arrived.has(id));
  note(`${standin.stats.requests} attempts at the stand-in, ${standin.stats.answered} answered in full; ${wanted.size} good events, ${poison.size} poisoned, `
    + `${standin.stats.repeated} repeats dropped by insert id`);
  assert.deepEqual(missing, [], 'a stale answer settled an attempt that was refused');
  assert.deepEqual(doubled, []);
  assert.deepEqual(wrong, []);
  const counted = (await gateway.metrics()).sum('bulkhead_vendor_events_total', { vendor: 'mixpanel', result: 'poison' });
  assert.equal(counted, poison.size, 'every poisoned event is counted as set aside, once');
});

/* The courier alone, without back-off, against a stand-in within its own process: see tests/unit/test_deliver_answers.c. */
const ANSWERS = count(20000, 1000000);
test(`${ANSWERS} vendor answers in 19 ways settle their own attempt or none`, async () => {
  const program = path.join(path.dirname(findBinary()), 'test_deliver_answers');
  const env = { ...process.env, TMPDIR: tempFolder('answers'), BH_EXCHANGES: String(ANSWERS), BH_WORKERS: '8' };
  const running = promisify(execFile)(program, { env });
  watchChild(running.child);
  const { stdout } = await running;
  const lines = stdout.split('\n');
  note(lines.find((line) => /vendor answers/.test(line)));
  note(lines.filter((line) => line.startsWith('  ')).map((line) => line.trim().replace(/ +/g, ' ')).join(', '));
});

await finish({ limit_ms: 100 * 60 * 1000 });
