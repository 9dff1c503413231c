// A strict stand-in of Mixpanel's ingestion API.
//
// It refuses what the documented API refuses, writes down every request that reaches it (one JSON line when a
// request has been read, one when its answer has left), counts people as the original ID merge would, and
// misbehaves on command. It is a judge, so it shares no code with the product.
//
//   node tests/e2e/lib/standin.mjs --port N --dump FILE [--tls DIR] [--control N] [--bodies FILE] [--token T]
//
// Control port (JSON): POST /behave {mode,…} · GET /stats · GET /people · POST /reset · POST /stop

import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { makeCertificates } from './certs.mjs';
import { People } from './people.mjs';
import { basicUser, decodeFront, decodeItems, inflate, parseQuery, timeMs } from './wire.mjs';

const EVENTS_MAX = 2000;
const BODY_MAX = 10 * 1024 * 1024;
const EVENT_MAX = 1024 * 1024;
const PROPERTIES_MAX = 255;
const DEPTH_MAX = 3;
const DAY_MS = 86400000;
const ROUTES = new Set(['/track', '/import', '/engage', '/groups']);
const INSERT_ID = /^[A-Za-z0-9-]{1,36}$/;
const ENGAGE_OPERATIONS = ['$set', '$set_once', '$add', '$append', '$union', '$remove', '$unset', '$delete'];
const FORBIDDEN_IDS = new Set(['anonymous', 'null', 'undefined', 'none', 'nil', 'unknown', 'n/a', '0', '-1', 'true',
  'false', '[]', '{}', 'lmy47d', '00000000-0000-0000-0000-000000000000']);

/* Modes that change only the answer, as opposed to the connection. */
const STATUS_MODES = new Set(['400', '401', '403', '404', '408', '413', '429', '500', '502', '503', '504']);

export class Standin {
  constructor(options = {}) {
    this.token = options.token ?? 'mp_vendor_token';
    this.secrets = options.secrets ?? [];
    this.keep = options.keep ?? true;
    this.dumpItems = options.dumpItems ?? true;
    this.dumpFile = options.dump;
    this.bodiesFile = options.bodies;
    this.tlsFolder = options.tls;
    this.host = options.host ?? '127.0.0.1';
    this.wantedPort = options.port ?? 0;
    this.controlPort = options.control;
    this.now = options.now ?? Date.now;
    this.trackDays = options.trackDays ?? 5;
    this.sockets = new Set();
    this.behaviour = { mode: 'ok' };
    this.clear();
  }

  clear() {
    this.requests = [];
    this.items = [];
    this.refusals = new Map();
    this.seen = new Set();
    this.stats = { connections: 0, requests: 0, complete: 0, answered: 0, accepted: 0, repeated: 0, refused: 0, bytes: 0, items: 0,
      updates: 0, probes: 0, status: {} };
    this.nextRequest = 1;
    this.nextConnection = 1;
  }

  async start() {
    this.dumpFd = this.dumpFile ? fs.openSync(this.dumpFile, 'a') : -1;
    this.bodiesFd = this.bodiesFile ? fs.openSync(this.bodiesFile, 'a') : -1;
    this.http = http.createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0,
      maxHeaderSize: 128 * 1024, insecureHTTPParser: false }, (req, res) => this.request(req, res));
    this.http.on('clientError', (error, socket) => {
      this.record({ kind: 'bad', t: this.now(), error: error.code });
      socket.destroy();
    });
    this.http.on('checkContinue', (req, res) => {
      res.writeContinue();
      this.request(req, res);
    });
    if (this.tlsFolder) {
      this.certs = makeCertificates(this.tlsFolder);
      this.tls = tls.createServer({ key: fs.readFileSync(this.certs.key), cert: fs.readFileSync(this.certs.cert),
        ALPNProtocols: ['http/1.1'] }, (socket) => this.http.emit('connection', socket));
      this.tls.on('tlsClientError', () => {});
    }
    this.listener = net.createServer({ pauseOnConnect: false }, (socket) => this.connection(socket));
    await listen(this.listener, this.wantedPort, this.host);
    this.port = this.listener.address().port;
    this.url = `${this.tlsFolder ? 'https://localhost' : `http://${this.host}`}:${this.port}`;
    if (this.controlPort !== undefined) {
      await this.startControl();
    }
    return this;
  }

  /* Closes the door: further connections are refused by the kernel, as when a vendor is down. */
  async die() {
    this.listener.close();
    for (const socket of this.sockets) {
      socket.resetAndDestroy();
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }

  async revive() {
    this.listener = net.createServer((socket) => this.connection(socket));
    await listen(this.listener, this.port, this.host);
  }

  async stop() {
    clearInterval(this.flapTimer);
    this.listener.close();
    this.control?.close();
    for (const socket of this.sockets) {
      socket.destroy();
    }
    await new Promise((resolve) => setImmediate(resolve));
    if (this.dumpFd >= 0) {
      fs.closeSync(this.dumpFd);
      this.dumpFd = -1;
    }
    if (this.bodiesFd >= 0) {
      fs.closeSync(this.bodiesFd);
      this.bodiesFd = -1;
    }
  }

  /* behave('503') · behave({mode:'late', ms:500, count:3}) · behave({mode:'poison', match:(item)=>…}) */
  behave(wanted) {
    const behaviour = typeof wanted === 'string' ? { mode: wanted } : { ...wanted };
    if (typeof behaviour.match === 'string') {
      const needle = behaviour.match;
      behaviour.match = (item) => JSON.stringify(item).includes(needle);
    }
    behaviour.since = this.now();
    this.behaviour = behaviour;
    return this;
  }

  current(requestPath, itemCount) {
    const b = this.behaviour;
    if (b.path && !requestPath.startsWith(b.path)) {
      return { mode: 'ok' };
    }
    if (b.skipProbes && itemCount === 0) {
      return { mode: 'ok' };
    }
    if (b.mode === 'flapping') {
      const period = (b.up_ms ?? 1000) + (b.down_ms ?? 1000);
      const at = (this.now() - b.since) % period;
      return at < (b.up_ms ?? 1000) ? { mode: 'ok' } : { mode: b.down ?? '503' };
    }
    if (b.mode === 'random') {
      return { ...b, mode: b.modes[Math.floor(b.random() * b.modes.length)] };
    }
    if (b.count !== undefined && b.mode !== 'ok') {
      if (b.count <= 0) {
        this.behaviour = { mode: 'ok' };
        return this.behaviour;
      }
      b.count--;
    }
    return b;
  }

  connection(socket) {
    this.stats.connections++;
    socket.connectionNumber = this.nextConnection++;
    this.sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.stats.bytes += socket.bytesRead;
      this.sockets.delete(socket);
    });
    socket.setNoDelay(true);
    const mode = this.behaviour.mode;
    if (mode === 'dead') {
      socket.resetAndDestroy();
    } else if (mode === 'hang-in-tls') {
      socket.pause();
      this.record({ kind: 'hung', t: this.now(), connection: socket.connectionNumber });
    } else if (this.tls) {
      this.tls.emit('connection', socket);
    } else {
      this.http.emit('connection', socket);
    }
  }

  /* Bytes that have reached this process so far, open connections included. */
  bytes() {
    let sum = this.stats.bytes;
    for (const socket of this.sockets) {
      sum += socket.bytesRead;
    }
    return sum;
  }

  record(line) {
    if (this.dumpFd >= 0) {
      fs.writeSync(this.dumpFd, `${JSON.stringify(line)}\n`);
    }
  }

  request(req, res) {
    const id = this.nextRequest++;
    this.stats.requests++;
    const begun = this.now();
    const [requestPath, search = ''] = splitOnce(req.url, '?');
    const entry = { kind: 'request', id, t: begun, method: req.method, path: requestPath, query: parseQuery(search),
      headers: req.headers, bytes: 0, complete: false };
    if (this.behaviour.mode === 'hang-in-body') {
      const chunks = [];
      req.once('data', (chunk) => {
        chunks.push(chunk);
        req.pause();
      });
      req.on('close', () => this.received(entry, req, Buffer.concat(chunks), false));
      return;
    }
    const chunks = [];
    let done = false;
    const slow = this.behaviour.mode === 'slow-read' ? this.behaviour : undefined;
    req.on('data', (chunk) => {
      chunks.push(chunk);
      if (slow) {
        req.pause();
        setTimeout(() => req.resume(), slow.ms ?? 50);
      }
    });
    req.on('end', () => {
      done = true;
      this.received(entry, req, Buffer.concat(chunks), true);
      this.answer(entry, req, res);
    });
    req.on('close', () => {
      if (!done) {
        this.received(entry, req, Buffer.concat(chunks), false);
      }
    });
    req.on('error', () => {});
  }

  received(entry, req, wire, complete) {
    entry.end = this.now();
    entry.complete = complete;
    entry.bytes = wire.length;
    entry.wire_sha256 = sha256(wire);
    let plain = Buffer.alloc(0);
    try {
      plain = inflate(wire, { partial: !complete });
    } catch (error) {
      entry.error = `gzip: ${error.message}`;
    }
    entry.plain_bytes = plain.length;
    entry.body_sha256 = sha256(plain);
    if (complete && !entry.error) {
      try {
        entry.items = decodeItems(entry.query, plain);
      } catch (error) {
        entry.error = error.message;
      }
    } else if (!complete) {
      entry.items = decodeFront(plain);
    }
    if (complete) {
      this.stats.complete++;
    }
    this.stats.items += entry.items?.length ?? 0;
    if (this.keep) {
      this.requests.push(entry);
    }
    this.record(this.dumpItems ? entry : { ...entry, items: undefined, count: entry.items?.length });
    if (this.bodiesFd >= 0) {
      fs.writeSync(this.bodiesFd, `${req.method} ${req.url}\n${JSON.stringify(req.rawHeaders)}\n`);
      fs.writeSync(this.bodiesFd, plain);
      fs.writeSync(this.bodiesFd, '\n');
    }
  }

  answer(entry, req, res) {
    const behaviour = this.current(entry.path, entry.items?.length ?? 0);
    entry.mode = behaviour.mode;
    if (behaviour.mode === 'timeout') {
      return;
    }
    if (behaviour.mode === 'reset') {
      underlying(req.socket).resetAndDestroy();
      return;
    }
    const verdict = STATUS_MODES.has(behaviour.mode)
      ? statusAnswer(behaviour)
      : this.judge(entry, behaviour);
    this.stats.status[verdict.status] = (this.stats.status[verdict.status] ?? 0) + 1;
    this.send(entry, req, res, verdict, behaviour);
  }

  /* What Mixpanel's documented rules say about this request. */
  judge(entry, behaviour) {
    const route = entry.path.replace(/\/+$/, '');
    if (!ROUTES.has(route)) {
      return { status: 404, body: '{"error":"not found","status":0}', type: 'application/json' };
    }
    if (entry.error) {
      return this.refusal(route, entry, 400, entry.error);
    }
    if (entry.plain_bytes > BODY_MAX) {
      return this.refusal(route, entry, 413, 'request exceeds max limit of 10 MB');
    }
    if (entry.items.length > EVENTS_MAX) {
      return this.refusal(route, entry, 413, `request exceeds max limit of ${EVENTS_MAX} events`);
    }
    if (route === '/import') {
      return this.judgeImport(entry, behaviour);
    }
    if (route === '/track') {
      return this.judgeTrack(entry, behaviour);
    }
    return this.judgeUpdates(route, entry, behaviour);
  }

  refusal(route, entry, status, message) {
    this.stats.refused += entry.items?.length ?? 0;
    entry.refusal = message;
    this.countRefusal(`${route} ${status} ${message}`);
    if (route === '/import' && entry.query.strict === '1') {
      return json(status, { code: status, error: message, status: http.STATUS_CODES[status] });
    }
    /* The older endpoints answer 200 and say in the body that nothing was taken. */
    const ok = status === 400 ? 200 : status;
    return entry.query.verbose === '1' ? json(ok, { error: message, status: 0 }) : text(ok, '0');
  }

  /* Why it refused, for the reader of a failed test. */
  countRefusal(why) {
    if (this.refusals.has(why) || this.refusals.size < 50) {
      this.refusals.set(why, (this.refusals.get(why) ?? 0) + 1);
    }
  }

  authorised(entry) {
    const user = basicUser(entry.headers.authorization);
    return user === this.token || this.secrets.includes(user) || this.secrets.includes(entry.query.api_key);
  }

  judgeImport(entry, behaviour) {
    if (!this.authorised(entry)) {
      return this.refusal('/import', entry, 401, 'Invalid credentials');
    }
    const strict = entry.query.strict === '1';
    if (strict && !/^application\/(json|x-ndjson)\b/.test(entry.headers['content-type'] ?? '')) {
      return this.refusal('/import', entry, 400, 'Content-Type must be application/json or application/x-ndjson');
    }
    if (strict && entry.bytes !== entry.plain_bytes && entry.headers['content-encoding'] !== 'gzip') {
      return this.refusal('/import', entry, 400, 'gzip body without Content-Encoding');
    }
    if (entry.items.length === 0) {
      this.stats.probes++;
      return json(200, { code: 200, num_records_imported: 0, status: 'OK' });
    }
    const failed = [];
    entry.items.forEach((item, index) => {
      const bad = importFault(item, this.now(), strict) ?? poisonFault(item, index, behaviour);
      if (bad) {
        failed.push({ index, $insert_id: item?.properties?.$insert_id, ...bad });
        this.countRefusal(`/import ${bad.field}: ${bad.message}`);
      }
    });
    if (failed.length > 0 && behaviour.mode === 'poison' && behaviour.unnamed) {
      return this.refusal('/import', entry, 400, 'some data points in the request failed validation');
    }
    const refused = new Set(failed.map((f) => f.index));
    this.take(entry, entry.items.filter((_, index) => !refused.has(index)));
    this.stats.refused += failed.length;
    if (!strict) {
      return entry.query.verbose === '1' ? json(200, { error: null, status: 1 }) : text(200, '1');
    }
    if (failed.length > 0) {
      entry.failed = failed.map((f) => f.index);
      return json(400, { code: 400, error: 'some data points in the request failed validation', status: 'Bad Request',
        num_records_imported: entry.items.length - failed.length, failed_records: failed });
    }
    return json(200, { code: 200, num_records_imported: entry.items.length, status: 'OK' });
  }

  judgeTrack(entry, behaviour) {
    for (const [index, item] of entry.items.entries()) {
      const token = item?.properties?.token;
      if (token !== this.token && !this.secrets.includes(token)) {
        return this.refusal('/track', entry, 401, 'token, missing or unknown');
      }
      const bad = trackFault(item, this.now(), this.trackDays) ?? poisonFault(item, index, behaviour);
      if (bad) {
        return this.refusal('/track', entry, 400, `${bad.field}: ${bad.message}`);
      }
    }
    this.take(entry, entry.items);
    return entry.query.verbose === '1' ? json(200, { error: null, status: 1 }) : text(200, '1');
  }

  judgeUpdates(route, entry, behaviour) {
    for (const [index, item] of entry.items.entries()) {
      if (item?.$token !== this.token && !this.secrets.includes(item?.$token)) {
        return this.refusal(route, entry, 401, '$token, missing or unknown');
      }
      const bad = updateFault(route, item) ?? poisonFault(item, index, behaviour);
      if (bad) {
        return this.refusal(route, entry, 400, `${bad.field}: ${bad.message}`);
      }
    }
    this.stats.updates += entry.items.length;
    this.take(entry, entry.items);
    return entry.query.verbose === '1' ? json(200, { error: null, status: 1 }) : text(200, '1');
  }

  /* Keeps what was accepted; events that were there before, by Mixpanel's own key, count as repeated. */
  take(entry, items) {
    entry.taken = items.length;
    for (const item of items) {
      if (item.event !== undefined) {
        const p = item.properties ?? {};
        if (p.$insert_id !== undefined) {
          const key = JSON.stringify([item.event, p.time, p.distinct_id, p.$insert_id]);
          if (this.seen.has(key)) {
            this.stats.repeated++;
            continue;
          }
          this.seen.add(key);
        }
        this.stats.accepted++;
      }
      if (this.keep) {
        this.items.push({ path: entry.path.replace(/\/+$/, ''), request: entry.id, t: entry.end, item });
      }
    }
  }

  /* Events and updates in order of arrival, each repeated event once. */
  events() {
    return this.items.filter((i) => i.item.event !== undefined).map((i) => i.item);
  }

  updates(route = '/engage') {
    return this.items.filter((i) => i.path === route).map((i) => i.item);
  }

  people() {
    const people = new People();
    for (const { path: route, t, item } of this.items) {
      if (item.event !== undefined) {
        people.event(item, t);
      } else if (route === '/engage') {
        people.engage(item);
      } else if (route === '/groups') {
        people.group(item);
      }
    }
    return people;
  }

  send(entry, req, res, verdict, behaviour) {
    const finish = (full) => {
      if (full) {
        this.stats.answered++;
      }
      this.record({ kind: 'answer', id: entry.id, t: this.now(), status: verdict.status, full, mode: entry.mode });
      entry.answered = full;
      entry.status = verdict.status;
    };
    if (behaviour.mode === 'late') {
      setTimeout(() => this.send(entry, req, res, verdict, { mode: 'ok' }), behaviour.ms ?? 1000);
      return;
    }
    const bytes = rawAnswer(verdict);
    const socket = req.socket;
    if (socket.destroyed) {
      finish(false);
      return;
    }
    const pieces = piecesOf(bytes, behaviour);
    if (!pieces) {
      res.on('finish', () => {
        finish(true);
        /* A second answer that nobody asked for lies in wait for the next request on this connection. */
        if (behaviour.mode === 'double') {
          socket.write(rawAnswer(json(200, { code: 200, num_records_imported: entry.items?.length ?? 0, status: 'OK' }), 'keep-alive'));
        }
      });
      res.on('close', () => res.writableFinished || finish(false));
      res.writeHead(verdict.status, headersOf(verdict));
      res.end(verdict.body);
      return;
    }
    /* From here on the answer is not a well-behaved one, so the socket is written to directly. */
    let at = 0;
    const next = () => {
      if (socket.destroyed) {
        finish(false);
        return;
      }
      socket.write(pieces[at++]);
      if (at < pieces.length) {
        setTimeout(next, behaviour.ms ?? 20);
        return;
      }
      finish(behaviour.mode !== 'cut-short');
      socket.end();
    };
    next();
  }

  async startControl() {
    this.control = http.createServer((req, res) => {
      const chunks = [];
      req.on('data', (chunk) => chunks.push(chunk));
      req.on('end', async () => {
        const reply = (value) => res.end(`${JSON.stringify(value)}\n`);
        if (req.method === 'POST' && req.url === '/behave') {
          this.behave(JSON.parse(Buffer.concat(chunks).toString() || '{"mode":"ok"}'));
          reply({ mode: this.behaviour.mode });
        } else if (req.method === 'POST' && req.url === '/reset') {
          this.clear();
          reply({});
        } else if (req.method === 'POST' && req.url === '/stop') {
          reply({});
          await this.stop();
        } else if (req.url === '/people') {
          const people = this.people();
          reply({ people: people.count(), profiles: people.profiles.size, groups: people.groups.size });
        } else if (req.url === '/stats') {
          reply({ ...this.stats, bytes: this.bytes(), mode: this.behaviour.mode });
        } else {
          res.statusCode = 404;
          reply({ error: 'POST /behave, POST /reset, POST /stop, GET /stats, GET /people' });
        }
      });
    });
    await listen(this.control, this.controlPort, '127.0.0.1');
    this.controlPort = this.control.address().port;
  }
}

/* What an event must be for /import; undefined means that it is well. */
function importFault(item, now, strict) {
  const shape = eventShape(item);
  if (shape || !strict) {
    return shape;
  }
  const p = item.properties;
  if (item.event === '$merge' && Array.isArray(p.$distinct_ids)) {
    return undefined; /* the documented form has $distinct_ids alone */
  }
  const time = timeMs(p.time);
  if (!Number.isFinite(time)) {
    return { field: 'properties.time', message: "'properties.time' is invalid: must be a number" };
  }
  if (time < DAY_MS * 365 || time > now + 3600000) {
    return { field: 'properties.time', message: "'properties.time' is outside of 1971 to one hour from now" };
  }
  if (typeof p.distinct_id !== 'string') {
    return { field: 'properties.distinct_id', message: "'properties.distinct_id' is invalid: must not be missing" };
  }
  if (typeof p.$insert_id !== 'string' || !INSERT_ID.test(p.$insert_id)) {
    return { field: 'properties.$insert_id', message: "'properties.$insert_id' is invalid" };
  }
  return undefined;
}

function trackFault(item, now, days) {
  const shape = eventShape(item);
  if (shape) {
    return shape;
  }
  const p = item.properties;
  if (p.time !== undefined) {
    const time = timeMs(p.time);
    if (!Number.isFinite(time) || time < now - days * DAY_MS || time > now + 3600000) {
      return { field: 'time', message: 'time is too old, in the future, or no time' };
    }
  }
  if (p.$insert_id !== undefined && !INSERT_ID.test(String(p.$insert_id))) {
    return { field: '$insert_id', message: 'invalid' };
  }
  return undefined;
}

function eventShape(item) {
  if (item === null || typeof item !== 'object' || Array.isArray(item)) {
    return { field: 'event', message: 'not an object' };
  }
  if (typeof item.event !== 'string' || item.event === '' || item.event.length > 255) {
    return { field: 'event', message: "'event' is invalid" };
  }
  if (item.properties === null || typeof item.properties !== 'object' || Array.isArray(item.properties)) {
    return { field: 'properties', message: "'properties' is invalid" };
  }
  const id = item.properties.distinct_id;
  if (typeof id === 'string' && (FORBIDDEN_IDS.has(id.toLowerCase()) || Buffer.byteLength(id) > 255)) {
    return { field: 'properties.distinct_id', message: "'properties.distinct_id' is invalid" };
  }
  if (Object.keys(item.properties).length > PROPERTIES_MAX) {
    return { field: 'properties', message: 'more than 255 properties' };
  }
  if (depthOf(item.properties) > DEPTH_MAX + 1) {
    return { field: 'properties', message: 'nested too deep' };
  }
  if (JSON.stringify(item).length > EVENT_MAX) {
    return { field: 'event', message: 'event exceeds 1 MB' };
  }
  return undefined;
}

function updateFault(route, item) {
  if (item === null || typeof item !== 'object') {
    return { field: 'update', message: 'not an object' };
  }
  if (route === '/engage' && (typeof item.$distinct_id !== 'string' || item.$distinct_id === '')) {
    return { field: '$distinct_id', message: 'missing' };
  }
  if (route === '/groups' && (item.$group_key === undefined || item.$group_id === undefined)) {
    return { field: '$group_key', message: 'missing' };
  }
  if (!ENGAGE_OPERATIONS.some((op) => item[op] !== undefined)) {
    return { field: 'update', message: 'no operation' };
  }
  if (JSON.stringify(item).length > EVENT_MAX) {
    return { field: 'update', message: 'update exceeds 1 MB' };
  }
  return undefined;
}

function poisonFault(item, index, behaviour) {
  if (behaviour.mode === 'poison' && behaviour.match(item)) {
    return { field: 'properties', message: 'poison' };
  }
  if (behaviour.mode === 'partial' && index % (behaviour.every ?? 3) === 0) {
    return { field: 'properties', message: 'refused by chance' };
  }
  return undefined;
}

function depthOf(value) {
  let depth = 0;
  let level = [value];
  while (level.length > 0) {
    const next = level.flatMap((v) => (v !== null && typeof v === 'object' ? Object.values(v) : []));
    if (next.length > 0 || level.some((v) => v !== null && typeof v === 'object')) {
      depth++;
    }
    level = next;
  }
  return depth;
}

function statusAnswer(behaviour) {
  const status = Number(behaviour.mode);
  const answer = json(status, { code: status, error: http.STATUS_CODES[status], status: 0 });
  if (behaviour.retry_after !== undefined) {
    answer.headers = { 'Retry-After': String(behaviour.retry_after) };
  }
  return answer;
}

const json = (status, value) => ({ status, body: JSON.stringify(value), type: 'application/json' });
const text = (status, body) => ({ status, body, type: 'text/plain' });

function headersOf(verdict) {
  return { 'Content-Type': verdict.type, 'Content-Length': Buffer.byteLength(verdict.body),
    'Access-Control-Allow-Origin': '*', ...verdict.headers };
}

function rawAnswer(verdict, connection = 'close') {
  const head = Object.entries({ ...headersOf(verdict), Connection: connection }).map(([k, v]) => `${k}: ${v}\r\n`).join('');
  return Buffer.from(`HTTP/1.1 ${verdict.status} ${http.STATUS_CODES[verdict.status]}\r\n${head}\r\n${verdict.body}`);
}

/* How the bytes of an answer are cut up, or undefined where the ordinary path is taken. */
function piecesOf(bytes, behaviour) {
  switch (behaviour.mode) {
    case 'trickle':
      return Array.from(bytes, (_, i) => bytes.subarray(i, i + 1));
    case 'split': {
      const at = Math.max(1, Math.floor(bytes.length / (behaviour.parts ?? 3)));
      const pieces = [];
      for (let i = 0; i < bytes.length; i += at) {
        pieces.push(bytes.subarray(i, i + at));
      }
      return pieces;
    }
    case 'cut-short':
      return [bytes.subarray(0, Math.max(1, bytes.length - (behaviour.missing ?? 5)))];
    default:
      return undefined;
  }
}

/* Under TLS the socket of a request wraps the real one; a reset must reach the wire. */
function underlying(socket) {
  return socket._parent ?? socket;
}

const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');

function splitOnce(value, separator) {
  const at = value.indexOf(separator);
  return at < 0 ? [value] : [value.slice(0, at), value.slice(at + 1)];
}

function listen(server, port, host) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

async function main(argv) {
  const option = (name) => {
    const at = argv.indexOf(`--${name}`);
    return at < 0 ? undefined : argv[at + 1] ?? '';
  };
  if (argv.includes('--help')) {
    process.stdout.write('usage: standin.mjs --port N --dump FILE [--tls [DIR]] [--control N] [--bodies FILE] '
      + '[--token TOKEN] [--lean]\n');
    return;
  }
  const tlsAt = argv.indexOf('--tls');
  const given = argv[tlsAt + 1];
  const folder = given && !given.startsWith('--') ? given : path.join(process.env.TMPDIR ?? '/tmp', `standin-${process.pid}`);
  const standin = new Standin({
    port: Number(option('port') ?? 0),
    dump: option('dump'),
    bodies: option('bodies'),
    token: option('token'),
    tls: tlsAt < 0 ? undefined : folder,
    control: Number(option('control') ?? 0),
    keep: !argv.includes('--lean'),
    dumpItems: !argv.includes('--lean'),
  });
  await standin.start();
  process.stdout.write(`${JSON.stringify({ url: standin.url, control: standin.controlPort, ca: standin.certs?.ca })}\n`);
  const end = async () => {
    await standin.stop();
    process.exit(0);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(process.argv.slice(2));
}
