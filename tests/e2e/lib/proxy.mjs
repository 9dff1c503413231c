// A proxy between an SDK and the gateway that spoils the first k requests and then passes everything through.
//
// `forward: true` lets a spoiled request reach the gateway and replaces only its answer: the SDK believes that it
// failed and sends the same events again, which is how duplicates are born.

import http from 'node:http';

const SLOW_MS = 1500;

export class Proxy {
  constructor(target, options = {}) {
    this.target = new URL(target);
    this.fault = options.fault;
    this.left = options.count ?? 0;
    this.forward = options.forward ?? false;
    this.only = options.only;
    this.requests = [];
  }

  async start(port = 0) {
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
    /* An idle connection stays: what closes it in the moment of a request would be a fault that nobody asked for. */
    this.server = http.createServer({ keepAliveTimeout: 0 }, (req, res) => this.request(req, res));
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  async stop() {
    this.agent.destroy();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  spoil(fault, count, options = {}) {
    this.fault = fault;
    this.left = count;
    this.forward = options.forward ?? false;
    this.only = options.only;
  }

  request(req, res) {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('error', () => {});
    req.on('end', () => {
      const body = Buffer.concat(chunks);
      const isMeant = typeof this.only === 'function' ? this.only : (url) => url.includes(this.only ?? '');
      const counts = req.method !== 'OPTIONS' && isMeant(req.url);
      const spoiled = counts && this.left > 0 ? this.fault : undefined;
      if (spoiled) {
        this.left--;
      }
      const entry = { t: Date.now(), method: req.method, url: req.url, headers: req.headers, bytes: body.length, body, spoiled };
      this.requests.push(entry);
      res.on('finish', () => (entry.status = res.statusCode));
      if (!spoiled) {
        this.pass(req, body, res);
      } else if (spoiled === 'slow') {
        setTimeout(() => this.pass(req, body, res), SLOW_MS);
      } else if (this.forward) {
        this.pass(req, body, undefined, () => spoilAnswer(spoiled, req, res));
      } else {
        spoilAnswer(spoiled, req, res);
      }
    });
  }

  pass(req, body, res, then) {
    const out = http.request({ host: this.target.hostname, port: this.target.port, method: req.method, path: req.url,
      headers: req.rawHeaders, agent: this.agent, setHost: false }, (answer) => {
      if (!res) {
        answer.resume();
        answer.on('end', then);
        return;
      }
      res.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(res);
    });
    out.on('error', () => (res ? res.socket?.destroy() : then()));
    out.end(body);
  }
}

function spoilAnswer(fault, req, res) {
  if (fault === 'reset') {
    req.socket.resetAndDestroy();
    return;
  }
  if (fault === 'timeout') {
    return;
  }
  /* Without these headers a browser would see no status at all, and the SDK would do something else. */
  const cors = { 'Access-Control-Allow-Origin': req.headers.origin ?? '*', 'Access-Control-Allow-Credentials': 'true',
    'Access-Control-Expose-Headers': 'Retry-After' };
  res.writeHead(Number(fault), { 'Content-Type': 'application/json', 'Retry-After': '1', ...cors });
  res.end(JSON.stringify({ code: Number(fault), error: 'spoiled by the test proxy', status: 0 }));
}
