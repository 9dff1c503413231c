// A strict stand-in of the batch API that Segment and RudderStack share. It refuses what their documentation refuses, and
// writes down each message once by its messageId. A judge: it shares no code with the product.

import http from 'node:http';
import zlib from 'node:zlib';

const TYPES = new Set(['track', 'page', 'screen', 'identify', 'group', 'alias']);

export class SegmentStandin {
  constructor({ key, batchMax = 500 * 1024, messageMax = 32 * 1024, yes }) {
    Object.assign(this, { key, batchMax, messageMax, yes });
    this.seen = new Set(); /* for ever: what comes again after a kill is the same message */
    this.clear();
    this.text = '';
    this.modes = [];
  }

  clear() {
    this.items = [];
    this.refusals = [];
    this.repeated = 0;
  }

  async start() {
    this.server = http.createServer((req, res) => {
      const chunks = [];
      req.on('data', (chunk) => chunks.push(chunk));
      req.on('end', () => this.answer(req, Buffer.concat(chunks), res));
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  answer(req, body, res) {
    const mode = this.modes.shift();
    const [status, text] = mode === undefined ? this.judge(req, body) : [mode, 'on command'];
    if (status !== 200 && mode === undefined) {
      this.refusals.push(`${status} ${text}`);
    }
    res.writeHead(status, { 'Content-Type': 'application/json', ...(status === 429 ? { 'Retry-After': '1' } : {}) });
    res.end(status === 200 && this.yes ? this.yes : JSON.stringify({ success: status === 200, message: text }));
  }

  judge(req, raw) {
    if (req.method !== 'POST' || req.url !== '/v1/batch') {
      return [404, `${req.method} ${req.url}`];
    }
    const user = Buffer.from((req.headers.authorization ?? '').replace(/^Basic /, ''), 'base64').toString();
    if (user !== `${this.key}:`) {
      return [401, 'write key'];
    }
    for (const header of ['cookie', 'referer', 'x-forwarded-for']) {
      if (req.headers[header] !== undefined) {
        return [400, header];
      }
    }
    const body = req.headers['content-encoding'] === 'gzip' ? zlib.gunzipSync(raw) : raw;
    this.text += body.toString();
    if (body.length > this.batchMax) {
      return [413, 'batch'];
    }
    let batch;
    try {
      ({ batch } = JSON.parse(body.toString()));
    } catch {
      return [400, 'no JSON'];
    }
    if (!Array.isArray(batch)) {
      return [400, 'no batch'];
    }
    for (const message of batch) {
      const wrong = this.wrong(message);
      if (wrong) {
        return [400, wrong];
      }
    }
    for (const message of batch) {
      this.repeated += this.seen.has(message.messageId) ? 1 : 0;
      if (!this.seen.has(message.messageId)) {
        this.seen.add(message.messageId);
        this.items.push(message);
      }
    }
    return [200, 'taken'];
  }

  wrong(message) {
    const isId = (id) => typeof id === 'string' && id.length > 0;
    if (!TYPES.has(message.type)) {
      return `type ${message.type}`;
    }
    if (!isId(message.userId) && !isId(message.anonymousId)) {
      return 'neither userId nor anonymousId';
    }
    if (!isId(message.messageId) || message.messageId.length > 100) {
      return 'messageId';
    }
    if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(message.timestamp ?? '')) {
      return `timestamp ${message.timestamp}`;
    }
    if (message.type === 'track' && !isId(message.event)) {
      return 'event';
    }
    if (message.type === 'group' && !isId(message.groupId)) {
      return 'groupId';
    }
    if (message.type === 'alias' && !isId(message.previousId)) {
      return 'previousId';
    }
    return Buffer.byteLength(JSON.stringify(message)) > this.messageMax ? 'message too big' : undefined;
  }

  of(type, event) {
    return this.items.filter((m) => m.type === type && (event === undefined || m.event === event));
  }
}
