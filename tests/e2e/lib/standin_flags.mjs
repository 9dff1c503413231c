// A strict stand-in of PostHog's flags API beside its capture API: POST /flags/?v=2 and older forms.
//
// It refuses any member and any header that a question has no need of, writes down each question, and answers as it is told:
// late, never, wrongly, or with more than it was asked for.

import { PostHogStandin } from './standin_posthog.mjs';

const MEMBERS = new Set(['token', 'geoip_disable', 'distinct_id', '$anon_distinct_id', '$device_id', 'groups', 'person_properties']);
const HEADERS = new Set(['host', 'user-agent', 'accept', 'accept-encoding', 'content-type', 'content-length']);
const PSEUDONYM = /^([a-z2-7]{26}|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})$/;
const PATHS = /^\/(flags\/(\?v=2)?|decide\/(\?v=[234])?)$/;

export class FlagsStandin extends PostHogStandin {
  clear() {
    super.clear();
    this.asked = [];
    this.wrong = [];
    this.mode = 'ok';
    this.delay = 0;
    this.value = true;
  }

  answer(req, raw, res) {
    if (/^\/(flags|decide)/.test(req.url)) {
      this.question(req, res, raw.toString());
    } else {
      super.answer(req, raw, res);
    }
  }

  question(req, res, text) {
    let body;
    try {
      body = JSON.parse(text);
      this.check(req, body);
    } catch (error) {
      this.wrong.push(`${error.message}: ${text.slice(0, 300)}`);
    }
    this.asked.push({ url: req.url, body, text, at: Date.now() });
    const answer = this.word(req, body ?? {});
    if (answer === undefined) {
      this.hanging = (this.hanging ?? []).concat(res);
      return;
    }
    if (answer === 'reset') {
      req.socket.resetAndDestroy();
      return;
    }
    setTimeout(() => {
      res.writeHead(answer[0], { 'Content-Type': 'application/json', 'Set-Cookie': 'vendor=1', 'X-Vendor': 'secret' });
      res.end(typeof answer[1] === 'string' ? answer[1] : JSON.stringify(answer[1]));
    }, this.delay);
  }

  check(req, body) {
    const say = (ok, what) => {
      if (!ok) {
        throw new Error(what);
      }
    };
    say(req.method === 'POST' && PATHS.test(req.url), `${req.method} ${req.url}`);
    say(body.token === this.token, 'token');
    say(body.geoip_disable === true, 'geoip_disable');
    for (const key of Object.keys(body)) {
      say(MEMBERS.has(key), `member ${key}`);
    }
    for (const name of Object.keys(req.headers)) {
      say(HEADERS.has(name), `header ${name}`);
    }
    say(/^bulkhead\//.test(req.headers['user-agent'] ?? ''), 'user agent');
    for (const key of ['distinct_id', '$anon_distinct_id', '$device_id']) {
      say(body[key] === undefined ? key !== 'distinct_id' : PSEUDONYM.test(body[key]), `${key} ${body[key]}`);
    }
    say(Object.values(body.groups ?? {}).every((id) => PSEUDONYM.test(id)), 'groups');
  }

  flag(body) {
    return { key: 'beta', enabled: this.value, variant: undefined, reason: { code: 'condition_match', condition_index: 0, description: 'x' },
      metadata: { id: 1, version: 1, description: undefined, payload: JSON.stringify({ who: body.distinct_id, company: body.groups?.company }) } };
  }

  word(req, body) {
    const old = { featureFlags: { beta: this.value }, featureFlagPayloads: { beta: JSON.stringify({ who: body.distinct_id }) } };
    const good = { ...(req.url.includes('v=2') && req.url.startsWith('/flags') ? { flags: { beta: this.flag(body) } } : old),
      errorsWhileComputingFlags: false, requestId: '0190-request', evaluatedAt: 1700000000000, quotaLimited: [] };
    switch (this.mode) {
    case 'ok': return [200, good];
    case 'hang': return undefined;
    case 'reset': return 'reset';
    case 'text': return [200, '<html>busy</html>'];
    case 'cut short': return [200, JSON.stringify(good).slice(0, -9)];
    case 'huge': return [200, { ...good, flags: { beta: this.flag(body), filler: 'x'.repeat(2000000) } }];
    case 'empty': return [200, {}];
    case 'error': return [500, good];
    case 'greedy': return [200, { ...good, quota_limited: ['events'], siteApps: [{ id: 1, url: '/evil.js' }], config: { enable_collect_everything: true },
      sessionRecording: { endpoint: '/s/' }, toolbarParams: { token: 'x' }, supportedCompression: ['none'], distinct_id: body.distinct_id }];
    default: throw new Error(this.mode);
    }
  }
}
