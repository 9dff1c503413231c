// What every stand-in of a vendor does: listens, unpacks, writes down what it took once and what it refused, misbehaves on
// command. What the vendor's documentation refuses is the stand-in's own. A judge, so it shares no code with the product.

import http from 'node:http';
import zlib from 'node:zlib';

export class Vendor {
  constructor() {
    this.text = ''; /* every body that reached it */
    this.seen = new Set(); /* for ever: what comes again after a kill is the same item */
    this.clear();
  }

  clear() {
    this.items = [];
    this.batches = []; /* how many items each request added */
    this.refusals = [];
    this.repeated = 0;
    this.requests = 0;
    this.spoiled = 0;
    this.faults = [];
  }

  async start() {
    this.server = http.createServer((req, res) => {
      const chunks = [];
      req.on('data', (chunk) => chunks.push(chunk));
      req.on('error', () => {});
      req.on('end', () => this.answer(req, Buffer.concat(chunks), res));
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  /* The next n requests are answered so, with nothing kept; 'after' keeps them first and then cuts the line. */
  fail(fault, n = 1) {
    this.faults.push(...Array(n).fill(fault));
  }

  answer(req, raw, res) {
    this.requests++;
    const fault = this.faults.shift();
    this.spoiled += fault === undefined ? 0 : 1;
    const before = this.items.length;
    const [status, body] = typeof fault === 'number' ? [fault, this.spoil(fault)] : this.take(req, raw);
    if (this.items.length > before) {
      this.batches.push(this.items.length - before);
    }
    if (fault === 'after') {
      req.socket.resetAndDestroy();
      return;
    }
    const isText = typeof body === 'string';
    res.writeHead(status, { 'Content-Type': isText ? 'text/plain' : 'application/json', ...(status === 429 ? { 'Retry-After': '1' } : {}) });
    res.end(isText ? body : JSON.stringify(body));
  }

  spoil(status) {
    return `spoiled ${status}`;
  }

  /* The body as text, whatever it was packed in; undefined: it cannot be unpacked. */
  unpack(req, raw) {
    try {
      const text = (req.headers['content-encoding'] === 'gzip' ? zlib.gunzipSync(raw) : raw).toString('utf8');
      this.text += text;
      return text;
    } catch {
      return undefined;
    }
  }

  refuse(status, why, body = why) {
    this.refusals.push({ status, why });
    return [status, body];
  }

  /* Once by its id. */
  keep(id, item) {
    if (this.seen.has(id)) {
      this.repeated++;
      return;
    }
    this.seen.add(id);
    this.items.push(item);
  }
}
