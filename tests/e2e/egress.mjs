// What leaves goes only where the contract says: the exact headers, no proxy but the contract's, no address that it does not open;
// and a vendor that speaks HTTP/2, with every way in which it ends a stream or a connection, and the cut in mid-body.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import zlib from 'node:zlib';
import { count, finish, full, note, onEnd, seeded, sleep, tempFolder, test, until } from './lib/harness.mjs';
import { Gateway, post, SERVER_TOKEN, VENDOR_TOKEN } from './lib/gateway.mjs';
import { makeCertificates } from './lib/certs.mjs';

const random = seeded();
const folder = tempFolder('egress');
const certs = makeCertificates(path.join(folder, 'certs'));
const pair = { key: fs.readFileSync(certs.key), cert: fs.readFileSync(certs.cert) };
const listen = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));

/* -- a vendor that takes everything, by HTTP/1.1 or HTTP/2 over TLS, and misbehaves as told -------------------------------------------- */

class Vendor {
  constructor({ h2 = false, window } = {}) {
    this.requests = [];
    this.got = new Map(); /* number of an event -> how often an answered request held it */
    this.arrived = new Set();
    this.sockets = new Set();
    this.plan = []; /* what to do with the next requests */
    this.sessions = 0;
    this.server = h2
      ? http2.createSecureServer({ ...pair, allowHTTP1: false, settings: window ? { initialWindowSize: window } : {} })
      : https.createServer({ ...pair, keepAliveTimeout: 0 });
    if (h2) {
      this.server.on('session', (session) => {
        this.sessions++;
        session.on('error', () => {});
      });
      this.server.on('stream', (stream, headers, flags, raw) => this.stream(stream, headers, raw));
      this.server.on('sessionError', () => {});
    } else {
      this.server.on('request', (req, res) => this.request(req, res));
    }
    this.server.on('tlsClientError', () => {});
    this.server.on('connection', (socket) => {
      socket.setNoDelay(true);
      this.sockets.add(socket);
    });
    onEnd(() => this.stop());
  }

  async start() {
    this.port = await listen(this.server);
    return this;
  }

  stop() {
    this.server.close();
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }

  bytes() {
    return [...this.sockets].reduce((sum, socket) => sum + socket.bytesRead, 0);
  }

  take(where, headers, raw, body) {
    const plain = headers['content-encoding'] === 'gzip' ? zlib.gunzipSync(body) : body;
    const items = JSON.parse(plain.toString());
    const request = { path: where, headers, raw, items };
    this.requests.push(request);
    items.forEach((item) => this.arrived.add(item.properties.tokens));
    return request;
  }

  answer(request) {
    for (const item of request.items) {
      this.got.set(item.properties.tokens, (this.got.get(item.properties.tokens) ?? 0) + 1);
    }
    return request.path.startsWith('/import') ? `{"code":200,"num_records_imported":${request.items.length},"status":"OK"}`
      : '{"error":null,"status":1}';
  }

  request(req, res) {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', () => {
      const request = this.take(req.url, req.headers, req.rawHeaders, Buffer.concat(chunks));
      res.setHeader('Set-Cookie', ['a=1; Path=/', 'b=2']);
      res.setHeader('Alt-Svc', 'h3=":443"');
      res.end(this.answer(request));
    });
  }

  stream(stream, headers, raw) {
    const how = this.plan.shift() ?? { mode: 'ok' };
    const chunks = [];
    const { session } = stream;
    stream.on('error', () => {});
    how.seen?.(stream, headers);
    if (how.mode === 'hang') {
      stream.pause();
      return;
    }
    if (how.mode === 'reset-at-once') {
      stream.close(how.code);
      return;
    }
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', async () => {
      const request = this.take(headers[':path'], headers, raw, Buffer.concat(chunks));
      if (how.mode === 'reset') {
        stream.close(how.code);
        return;
      }
      if (how.mode === 'goaway-refuses') {
        session.goaway(http2.constants.NGHTTP2_NO_ERROR, Math.max(0, stream.id - 2));
        setTimeout(() => session.destroy(), 50);
        return;
      }
      if (how.mode === 'goaway-then-answer') {
        session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id);
      }
      if (how.mode === 'slow') {
        await sleep(how.ms);
      }
      if (stream.destroyed) {
        return;
      }
      stream.respond({ ':status': 200, 'content-type': 'application/json', 'set-cookie': ['a=1', 'b=2'] });
      if (how.mode === 'half-answer') {
        stream.write('{"code":200,');
        setTimeout(() => stream.close(how.code), 20);
        return;
      }
      stream.end(this.answer(request));
      if (how.mode === 'answer-then-goaway') {
        stream.on('close', () => session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id));
      }
    });
  }

  exactlyOnce(from, to) {
    for (let n = from; n < to; n++) {
      assert.equal(this.got.get(n), 1, `event ${n} was taken ${this.got.get(n) ?? 0} times`);
    }
  }
}

/* -- proxies: HTTP by CONNECT, plain and over TLS, and SOCKS 5; names are theirs to resolve ------------------------------------------------ */

class Proxy {
  constructor(kind, { login, status } = {}) {
    this.kind = kind;
    this.login = login;
    this.heads = [];
    this.asked = [];
    this.connections = 0;
    if (kind === 'socks5h') {
      this.server = net.createServer((socket) => this.socks(socket));
    } else {
      this.server = kind === 'https' ? https.createServer(pair) : http.createServer();
      this.server.on('connect', (req, socket) => {
        socket.on('error', () => {});
        this.heads.push(req.rawHeaders);
        const given = Buffer.from((req.headers['proxy-authorization'] ?? '').replace('Basic ', ''), 'base64').toString();
        if (status || (this.login && given !== this.login)) {
          socket.end(`HTTP/1.1 ${status ?? 407} No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 2\r\n\r\nno`);
          return;
        }
        socket.write('HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n');
        this.join(req.url, socket);
      });
      this.server.on('request', (req, res) => {
        this.asked.push(`${req.method} ${req.url}`);
        res.end();
      });
    }
    this.server.on('connection', () => this.connections++);
    onEnd(() => this.server.close());
  }

  async start() {
    this.port = await listen(this.server);
    this.url = `${this.kind}://${this.kind === 'https' ? 'localhost' : '127.0.0.1'}:${this.port}`;
    return this;
  }

  join(where, socket) {
    this.asked.push(where);
    const onward = net.connect(Number(where.split(':').at(-1)), '127.0.0.1');
    onward.on('error', () => socket.destroy());
    socket.on('close', () => onward.destroy());
    onEnd(() => socket.destroy());
    onward.pipe(socket).pipe(onward);
  }

  socks(socket) {
    let step = 0;
    let have = Buffer.alloc(0);
    socket.on('error', () => {});
    const take = (chunk) => {
      have = Buffer.concat([have, chunk]);
      if (step === 0 && have.length >= 2 + have[1]) {
        socket.write(Buffer.from([5, this.login ? 2 : 0]));
        step = this.login ? 1 : 2;
      } else if (step === 1) {
        const user = have.subarray(2, 2 + have[1]).toString();
        const password = have.subarray(3 + have[1], 3 + have[1] + have[2 + have[1]]).toString();
        const good = `${user}:${password}` === this.login;
        socket.write(Buffer.from([1, good ? 0 : 1]));
        step = 2;
      } else if (step === 2) {
        assert.equal(have[3], 3, 'a name, not an address');
        const name = have.subarray(5, 5 + have[4]).toString();
        socket.off('data', take);
        socket.write(Buffer.from([5, 0, 0, 1, 127, 0, 0, 1, 0, 0]));
        this.join(`${name}:${have.readUInt16BE(5 + have[4])}`, socket);
      }
      have = Buffer.alloc(0);
    };
    socket.on('data', take);
  }
}

/* -- the gateway ------------------------------------------------------------------------------------------------------------------------------ */

let next = 1;
async function send(gateway, n, headers = {}) {
  const from = next;
  for (let left = n; left > 0; left -= 400) {
    const items = Array.from({ length: Math.min(left, 400) }, () => ({ event: 'Completion Run', properties: { distinct_id: `user_${random.hex(8)}`,
      time: Math.floor(Date.now() / 1000), $insert_id: random.hex(16), tokens: next++, latency_ms: random.below(1e9), prompt_tokens: random.below(1e9) } }));
    const answer = await post(gateway.ports.ingest, '/mixpanel/track', items, { token: SERVER_TOKEN, headers });
    assert.equal(answer.status, 200, answer.body);
  }
  return [from, next];
}

const parked = (gateway) => until(async () => (await gateway.vendor()).state === 'parked', 'parked', 15000, 50);

/* Their events object to tracking; these vendors may take them. */
async function open(vendor, { host = 'localhost', lines = [], env, wrapper } = {}) {
  const gateway = new Gateway({ env, wrapper, vendors: [{ vendor: 'mixpanel', endpoint: `https://${host}:${vendor.port}`, ca: certs.ca,
    lines: ['honour: []', ...lines] }] });
  await gateway.start();
  await gateway.open('mixpanel');
  return gateway;
}

/* What a browser and the proxies before us say of a person. */
const PERSON = { 'User-Agent': 'Mozilla/5.0 PersonsBrowser', Referer: 'https://app.example.com/secret-page', Cookie: 'session=persons-cookie',
  'X-Forwarded-For': '198.51.100.77', Forwarded: 'for=198.51.100.77', 'X-Real-IP': '198.51.100.77', 'Accept-Language': 'tlh-PIQD', Origin: 'https://app.example.com',
  DNT: '1', 'Sec-GPC': '1', 'Sec-CH-UA': '"Persons"', Via: '1.1 persons-proxy', traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  'X-Request-Id': 'persons-request', Expect: '100-continue' };

const authorization = `Basic ${Buffer.from(`${VENDOR_TOKEN}:`).toString('base64')}`;

/* -- tests ---------------------------------------------------------------------------------------------------------------------------------------- */

for (const h2 of [false, true]) {
  test(`exactly these headers leave, by HTTP/${h2 ? 2 : 1.1}, and no cookie comes back`, async () => {
    const vendor = await new Vendor({ h2 }).start();
    const gateway = await open(vendor);
    for (let i = 0; i < 3; i++) {
      const [from, to] = await send(gateway, 20, PERSON);
      await gateway.drained();
      vendor.exactlyOnce(from, to);
    }
    assert.equal(vendor.requests.length, 3);
    for (const { raw, headers, items } of vendor.requests) {
      const named = Object.fromEntries(Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i], raw[2 * i + 1]]));
      assert.equal(Object.keys(named).length, raw.length / 2, 'each once');
      assert.match(named[h2 ? 'user-agent' : 'User-Agent'], /^bulkhead\/[0-9A-Za-z.-]+$/);
      assert.ok(Number(headers['content-length']) > 0);
      const place = `localhost:${vendor.port}`;
      const expected = h2
        ? { ':method': 'POST', ':path': '/import?strict=1', ':scheme': 'https', ':authority': place, 'user-agent': named['user-agent'], accept: '*/*',
          'content-type': 'application/json', 'content-encoding': 'gzip', authorization, 'content-length': headers['content-length'] }
        : { Host: place, 'User-Agent': named['User-Agent'], Accept: '*/*', 'Content-Type': 'application/json', 'Content-Encoding': 'gzip',
          Authorization: authorization, 'Content-Length': headers['content-length'] };
      assert.deepEqual(named, expected);
      assert.doesNotMatch(JSON.stringify([raw, items]), /Persons|persons|198\.51\.100\.77|secret-page|tlh-PIQD|4bf92f35/);
    }
    vendor.stop();
    await gateway.stop();
  });
}

test('no proxy of the environment is used, and no file named there is written', async () => {
  const vendor = await new Vendor().start();
  const trap = await new Proxy('http').start();
  const keys = path.join(folder, 'keys.log');
  const env = { SSLKEYLOGFILE: keys, CURL_HOME: folder, HOME: folder };
  for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy']) {
    env[name] = trap.url;
  }
  fs.writeFileSync(path.join(folder, '.curlrc'), `proxy = ${trap.url}\n`);
  fs.writeFileSync(path.join(folder, '.netrc'), 'machine localhost login netrc-user password netrc-password\n', { mode: 0o600 });
  const gateway = await open(vendor, { env });
  const [from, to] = await send(gateway, 50);
  await gateway.drained();
  vendor.exactlyOnce(from, to);
  assert.equal(trap.connections, 0);
  assert.equal(vendor.requests[0].headers.authorization, authorization);
  assert.ok(!fs.existsSync(keys), 'TLS keys were written to a file');
  await gateway.stop();
});

for (const kind of ['http', 'https', 'socks5h']) {
  test(`through the contract's ${kind} proxy, which resolves the name; its login is nowhere to be read`, async () => {
    const vendor = await new Vendor({ h2: kind === 'http' }).start();
    const secret = `proxy-${random.hex(12)}`;
    const proxy = await new Proxy(kind, { login: `bulkhead:${secret}%41` }).start();
    const line = `proxy: { url: ${proxy.url}, ${kind === 'https' ? `ca: ${certs.ca}, ` : ''}credential: { env: PROXY_LOGIN } }`;
    const gateway = await open(vendor, { host: 'vendor.test', lines: [line],
      env: { PROXY_LOGIN: `bulkhead:${secret}%41`, NO_PROXY: '*', no_proxy: 'vendor.test', HTTPS_PROXY: 'http://127.0.0.1:1' } });
    for (let i = 0; i < 3; i++) {
      const [from, to] = await send(gateway, 50, PERSON);
      await gateway.drained();
      vendor.exactlyOnce(from, to);
    }
    assert.ok(proxy.asked.length >= 1 && proxy.asked.every((where) => where === `vendor.test:${vendor.port}`), proxy.asked.join());
    for (const head of proxy.heads) {
      const names = head.filter((_, i) => i % 2 === 0);
      assert.deepEqual(names, ['Host', 'Proxy-Authorization', 'User-Agent', 'Proxy-Connection']);
      assert.ok(!head.includes(authorization));
    }
    assert.ok(vendor.requests.every(({ raw }) => !raw.some((name) => /^proxy-/i.test(name))));
    const argv = fs.readFileSync(`/proc/${gateway.pid}/cmdline`, 'latin1');
    const rules = fs.readdirSync(path.join(gateway.data, 'rules/mixpanel')).map((f) => fs.readFileSync(path.join(gateway.data, 'rules/mixpanel', f), 'latin1'));
    assert.ok(rules.some((text) => text.includes(`"proxy":"${proxy.url}"`)));
    for (const text of [argv, gateway.log, ...rules, JSON.stringify(await gateway.status()), (await gateway.metrics()).text]) {
      assert.ok(!text.includes(secret));
    }
    await gateway.stop();
  });
}

test('a proxy that refuses the login parks the vendor; one that cannot connect is tried again', async () => {
  const vendor = await new Vendor().start();
  const strict = await new Proxy('http', { login: 'a:b' }).start();
  const broken = await new Proxy('http', { status: 502 }).start();
  const gateway = await open(vendor, { host: 'vendor.test', lines: [`proxy: ${strict.url}`] });
  const [from, to] = await send(gateway, 10);
  await parked(gateway);
  assert.match((await gateway.vendor()).parked_because, /proxy refuses/);
  const socks = await new Proxy('socks5h', { login: 'a:b' }).start();
  gateway.env.PROXY_LOGIN = 'a:c';
  await gateway.stop();
  await gateway.alter('mixpanel', { lines: [`proxy: { url: ${socks.url}, credential: { env: PROXY_LOGIN } }`] });
  await gateway.start();
  await parked(gateway);
  assert.match((await gateway.vendor()).parked_because, /proxy refuses/);
  await gateway.alter('mixpanel', { lines: [`proxy: ${broken.url}`] });
  await until(() => broken.asked.length + broken.heads.length > 1, 'two tries', 20000);
  assert.equal((await gateway.vendor()).state, 'retrying');
  assert.equal(vendor.arrived.size, 0);
  strict.login = undefined;
  await gateway.alter('mixpanel', { lines: [`proxy: ${strict.url}`] });
  await gateway.drained();
  vendor.exactlyOnce(from, to);
  await gateway.stop();
});

test('a name that leads into the own network parks the vendor; SIGHUP with the line opens it, and closes it again', async () => {
  const vendor = await new Vendor().start();
  const hosts = path.join(folder, 'hosts');
  fs.writeFileSync(hosts, '127.0.0.1 localhost\n127.0.0.1 vendor.test\n');
  const gateway = await open(vendor, { host: 'vendor.test',
    wrapper: ['unshare', '-m', 'sh', '-c', `mount --bind ${hosts} /etc/hosts && exec "$@"`, 'sh'] });
  const [from, to] = await send(gateway, 10);
  await parked(gateway);
  const why = (await gateway.vendor()).parked_because;
  assert.equal(why, 'the address 127.0.0.1 is closed; egress: [public, 127.0.0.1] in vendors/mixpanel.yaml opens it');
  const shown = await gateway.run(['status'], { json: false });
  assert.ok(shown.stdout.includes(why), shown.stdout);
  assert.equal(vendor.sockets.size, 0);
  const found = gateway.vendors[0];
  found.lines = ['egress: [public, 127.0.0.1]'];
  gateway.write();
  gateway.process.kill('SIGHUP');
  await gateway.drained();
  vendor.exactlyOnce(from, to);
  found.lines = ['egress: [public]'];
  gateway.write();
  gateway.process.kill('SIGHUP');
  await until(async () => (await gateway.vendor()).contract === 3, 'the third contract', 10000);
  await send(gateway, 10);
  await parked(gateway);
  assert.equal(vendor.requests.length, 1);
  await gateway.stop();
});

test('a mistake in the line is refused as a whole, with its place', async () => {
  const vendor = await new Vendor().start();
  const gateway = await open(vendor);
  for (const [line, says] of [['egress: [10.0.0.1/8]', /vendors\/mixpanel\.yaml:8:10/], ['pin: sha256//abc', /a pin is sha256/], ['proxy: socks4://a:1', /socks5h/]]) {
    await assert.rejects(gateway.alter('mixpanel', { lines: [line] }), says);
  }
  await gateway.stop();
});

test('a connection without a request is kept for as long as the settings say', async () => {
  const vendor = await new Vendor().start();
  for (const [limits, alive, gone] of full ? [['{ idle_timeout: 2s }', 1500, 2600], [undefined, 125000, 132000]] : [['{ idle_timeout: 2s }', 1500, 2600]]) {
    const gateway = new Gateway({ limits, vendors: [{ vendor: 'mixpanel', endpoint: `https://localhost:${vendor.port}`, ca: certs.ca }] });
    await gateway.start();
    const socket = net.connect(gateway.ports.ingest, '127.0.0.1');
    let text = '';
    let ended = 0;
    socket.on('data', (chunk) => (text += chunk)).on('close', () => (ended = Date.now()));
    const ask = () => socket.write('GET /mixpanel/decide HTTP/1.1\r\nHost: a\r\n\r\n');
    const answers = () => text.split('HTTP/1.1 ').length - 1;
    ask();
    await until(() => answers() === 1, 'an answer');
    await sleep(alive);
    ask();
    await until(() => answers() === 2, 'an answer on the kept connection');
    const since = Date.now();
    await until(() => ended !== 0, 'the end', gone + 5000);
    assert.ok(ended - since >= alive && ended - since < gone, `${ended - since} ms`);
    await gateway.stop();
  }
});

/* -- HTTP/2 ----------------------------------------------------------------------------------------------------------------------------------------- */

const { NGHTTP2_REFUSED_STREAM: REFUSED, NGHTTP2_INTERNAL_ERROR: INTERNAL, NGHTTP2_CANCEL: CANCEL, NGHTTP2_NO_ERROR: NO_ERROR,
  NGHTTP2_ENHANCE_YOUR_CALM: CALM } = http2.constants;
const ways = [{ mode: 'reset', code: INTERNAL }, { mode: 'reset', code: CANCEL }, { mode: 'reset', code: REFUSED }, { mode: 'reset', code: NO_ERROR },
  { mode: 'reset-at-once', code: REFUSED }, { mode: 'reset-at-once', code: CALM }, { mode: 'goaway-refuses' }, { mode: 'goaway-then-answer' },
  { mode: 'answer-then-goaway' }, { mode: 'half-answer', code: INTERNAL }, { mode: 'half-answer', code: NO_ERROR }, { mode: 'slow', ms: 2500 }];

const many = {};

test('HTTP/2: one connection serves window after window', async () => {
  many.vendor = await new Vendor({ h2: true }).start();
  many.gateway = await open(many.vendor);
  for (let i = 0; i < count(3, 20); i++) {
    const [from, to] = await send(many.gateway, 100);
    await many.gateway.drained();
    many.vendor.exactlyOnce(from, to);
  }
  assert.equal(many.vendor.sessions, 1);
}, { vital: true });

for (const way of ways) {
  test(`HTTP/2: ${way.mode}${way.code === undefined ? '' : ` ${way.code}`}: every event is taken once, and goes on`, async () => {
    const { vendor, gateway } = many;
    for (let i = 0; i < count(1, 10); i++) {
      vendor.plan.push(way);
      for (let k = 0; k < 2; k++) {
        const [from, to] = await send(gateway, 60);
        await gateway.drained();
        vendor.exactlyOnce(from, to);
      }
    }
    assert.equal((await gateway.exposure()).people.possible, 0);
  });
}

test('HTTP/2: a cut in mid-body ends it: no byte more, whatever room the vendor makes', async () => {
  const vendor = await new Vendor({ h2: true, window: 2048 }).start();
  const gateway = await open(vendor);
  let slowest = 0;
  for (let i = 0; i < count(2, 30); i++) {
    let stream;
    let length;
    let read = 0;
    vendor.plan.push({ mode: 'hang', seen: (s, headers) => [stream, length] = [s, Number(headers['content-length'])] });
    const [from, to] = await send(gateway, 1500);
    await until(() => stream !== undefined, 'a request');
    await sleep(random.between(20, 200));
    const result = await gateway.cut();
    assert.equal(result.code, 0, result.stderr);
    slowest = Math.max(slowest, result.json.us);
    assert.ok(result.json.us < 50000);
    await sleep(20);
    const before = vendor.bytes();
    stream.on('data', (chunk) => (read += chunk.length));
    stream.resume();
    await sleep(150);
    assert.equal(vendor.bytes(), before);
    assert.equal((await gateway.vendor()).state, 'cut');
    assert.ok(read < length, `${read} of ${length} bytes had been handed over`);
    await gateway.open();
    await gateway.drained();
    vendor.exactlyOnce(from, to);
  }
  note(`cut within ${slowest} us at the most`);
  await gateway.stop();
});

test('HTTP/2: a cut while a slow answer is awaited is possible, never lost', async () => {
  const vendor = await new Vendor({ h2: true }).start();
  const gateway = await open(vendor);
  vendor.plan.push({ mode: 'slow', ms: 60000 });
  const [from, to] = await send(gateway, 40);
  await until(() => vendor.requests.length === 1, 'the request');
  const result = await gateway.cut();
  assert.ok(result.json.us < 50000);
  await until(async () => (await gateway.exposure()).people.possible === 40, 'all possible', 10000, 100);
  await gateway.open();
  await gateway.drained();
  vendor.exactlyOnce(from, to);
  await gateway.stop();
});

await finish();
