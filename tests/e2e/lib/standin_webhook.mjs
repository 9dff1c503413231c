// A strict receiver of docs/format/webhook.md: verifies with the official library and with the lines that the document gives, refuses any member
// that the document does not name, and counts each event once by its id. It shares no code with the product.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { need, root } from './harness.mjs';

export const DOCUMENT = fs.readFileSync(path.join(root, 'docs/format/webhook.md'), 'utf8');
const block = (language) => new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\n\`\`\``).exec(DOCUMENT)[1];

/* The document's own lines, run as they stand there. */
export const { verify } = await import(`data:text/javascript,${encodeURIComponent(block('js'))}`);
export const EXAMPLE = block('http');

const TYPES = new Set(['track', 'page', 'screen', 'identify', 'alias', 'merge', 'profile', 'group']);
const OPERATIONS = ['set', 'set_once', 'add', 'append', 'prepend', 'union', 'remove', 'unset', 'delete'];
const MEMBERS = new Set(['id', 'type', 'event', 'timestamp', 'historic', 'user_id', 'anonymous_id', 'previous_id', 'group', 'groups', 'context', 'properties',
  ...OPERATIONS]);
const GROUP_MEMBERS = new Set(['type', 'id', 'joins', ...OPERATIONS]);

export class WebhookReceiver {
  constructor({ secret, where = '/events/' }) {
    Object.assign(this, { secret, where, modes: [], seen: new Set(), text: '' });
    this.clear();
  }

  clear() {
    this.items = [];
    this.refusals = [];
    this.tries = [];
    this.repeated = 0;
  }

  async start() {
    this.server = http.createServer((req, res) => {
      const chunks = [];
      req.on('data', (chunk) => chunks.push(chunk));
      req.on('end', () => this.answer(req, Buffer.concat(chunks), res));
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}${this.where}`;
    return this;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  answer(req, body, res) {
    const mode = this.modes.shift();
    const [status, text] = mode === undefined ? this.judge(req, body) : [mode, 'on command'];
    this.tries.push({ status, id: req.headers['webhook-id'], time: Number(req.headers['webhook-timestamp']), body: body.toString(), at: Date.now() });
    if (status >= 400 && mode === undefined) {
      this.refusals.push(`${status} ${text}`);
    }
    res.writeHead(status, status === 429 ? { 'Retry-After': '2' } : {});
    res.end(status === 204 ? undefined : text);
  }

  judge(req, body) {
    if (req.method !== 'POST' || req.url !== this.where) {
      return [404, `${req.method} ${req.url}`];
    }
    if (body.length > 1024 * 1024) {
      return [413, 'too big'];
    }
    if (req.headers['content-type'] !== 'application/json' || req.headers['content-encoding'] !== undefined) {
      return [415, 'not plain JSON'];
    }
    for (const header of ['cookie', 'referer', 'x-forwarded-for', 'authorization']) {
      if (req.headers[header] !== undefined) {
        return [400, header];
      }
    }
    let events;
    try {
      const { Webhook } = need('standardwebhooks');
      const message = new Webhook(this.secret).verify(body.toString(), req.headers);
      events = verify(this.secret, req.headers, body);
      assert.equal(message.type, 'events');
      assert.deepEqual(events, message.data);
    } catch (error) {
      return [401, error.message];
    }
    this.text += body.toString();
    const wrong = events.length > 2000 ? 'too many' : events.map((event) => this.wrong(event)).find(Boolean);
    if (wrong) {
      return [422, wrong];
    }
    for (const event of events) {
      this.repeated += this.seen.has(event.id) ? 1 : 0;
      if (!this.seen.has(event.id)) {
        this.seen.add(event.id);
        this.items.push(event);
      }
    }
    return [204, ''];
  }

  wrong(event) {
    const isId = (id) => typeof id === 'string' && id.length > 0;
    const strange = Object.keys(event).find((key) => !MEMBERS.has(key)) ?? Object.keys(event.group ?? {}).find((key) => !GROUP_MEMBERS.has(key));
    if (strange !== undefined) {
      return `member ${strange}`;
    }
    if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(event.id)) {
      return `id ${event.id}`;
    }
    if (!TYPES.has(event.type) || (event.type === 'track') !== isId(event.event) || (event.type === 'group' && !isId(event.group?.id))) {
      return `type ${event.type}, event ${event.event}`;
    }
    if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(event.timestamp)) {
      return `timestamp ${event.timestamp}`;
    }
    for (const key of ['user_id', 'anonymous_id', 'previous_id']) {
      if (event[key] !== undefined && !isId(event[key])) {
        return `${key} ${event[key]}`;
      }
    }
    return this.refuses?.(event) ? 'on command' : undefined;
  }

  of(type, event) {
    return this.items.filter((e) => e.type === type && (event === undefined || e.event === event));
  }
}
