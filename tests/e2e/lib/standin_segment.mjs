// A strict stand-in of the batch API that Segment and RudderStack share. It refuses what their documentation refuses, and
// writes down each message once by its messageId. A judge: it shares no code with the product.

import { Vendor } from './vendor.mjs';

const TYPES = new Set(['track', 'page', 'screen', 'identify', 'group', 'alias']);

export class SegmentStandin extends Vendor {
  constructor({ key, batchMax = 500 * 1024, messageMax = 32 * 1024, yes }) {
    super();
    Object.assign(this, { key, batchMax, messageMax, yes: yes ?? { success: true } });
  }

  spoil() {
    return { success: false, message: 'on command' };
  }

  refuse(status, why) {
    return super.refuse(status, why, { success: false, message: why });
  }

  take(req, raw) {
    if (req.method !== 'POST' || req.url !== '/v1/batch') {
      return this.refuse(404, `${req.method} ${req.url}`);
    }
    const user = Buffer.from((req.headers.authorization ?? '').replace(/^Basic /, ''), 'base64').toString();
    if (user !== `${this.key}:`) {
      return this.refuse(401, 'write key');
    }
    for (const header of ['cookie', 'referer', 'x-forwarded-for']) {
      if (req.headers[header] !== undefined) {
        return this.refuse(400, header);
      }
    }
    const text = this.unpack(req, raw) ?? '';
    if (Buffer.byteLength(text) > this.batchMax) {
      return this.refuse(413, 'batch');
    }
    let batch;
    try {
      ({ batch } = JSON.parse(text));
    } catch {
      return this.refuse(400, 'no JSON');
    }
    if (!Array.isArray(batch)) {
      return this.refuse(400, 'no batch');
    }
    for (const message of batch) {
      const wrong = this.wrong(message);
      if (wrong) {
        return this.refuse(400, wrong);
      }
    }
    for (const message of batch) {
      this.keep(message.messageId, message);
    }
    return [200, this.yes];
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
