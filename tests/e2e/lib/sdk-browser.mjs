// Drives the unmodified Mixpanel browser SDK in a real headless Chromium.

import fs from 'node:fs';
import path from 'node:path';
import { modulePath, sleep } from './harness.mjs';
import { Page } from './page.mjs';

const PAGE = `<!doctype html><meta charset="utf-8"><title>Dashboard</title>
<h1>Dashboard</h1><form id="f"><input id="q" name="q"><button id="go" type="button">Run</button></form>
<script src="/sdk.js"></script>`;

export class Browser extends Page {
  constructor() {
    super(PAGE, () => fs.readFileSync(path.join(modulePath('mixpanel-browser'), 'dist/mixpanel.umd.js')));
  }

  /* A fresh visitor with an SDK of its own; `where` is the page's path and query. */
  async visit(apiHost, token, config = {}, where = '/dashboard') {
    const { page, context, errors } = await this.open(where);
    await page.evaluate(([host, key, options]) => {
      const started = performance.now();
      window.mixpanel.init(key, { api_host: host, persistence: 'localStorage', remote_settings_mode: 'disabled',
        batch_flush_interval_ms: 200, record_sessions_percent: 0, ...options });
      window.sdkStarted = started;
    }, [apiHost, token, config]);
    return new Visitor(this, context, page, errors);
  }
}

export class Visitor {
  constructor(browser, context, page, errors) {
    this.browser = browser;
    this.context = context;
    this.page = page;
    this.errors = errors;
  }

  /* call('track', 'Signed Up', {plan:'pro'}) · call('people.set', {…}) */
  call(name, ...args) {
    return this.page.evaluate(([method, list]) => {
      const parts = method.split('.');
      const last = parts.pop();
      const object = parts.reduce((o, p) => o[p], window.mixpanel);
      const value = object[last](...list);
      return value === undefined || typeof value === 'object' ? undefined : value;
    }, [name, args]);
  }

  group(key, id, method, ...args) {
    return this.page.evaluate(([k, i, m, list]) => {
      window.mixpanel.get_group(k, i)[m](...list);
    }, [key, id, method, args]);
  }

  deviceId() {
    return this.page.evaluate(() => window.mixpanel.get_property('$device_id'));
  }

  distinctId() {
    return this.page.evaluate(() => window.mixpanel.get_distinct_id());
  }

  /* How many requests wait in the SDK's own queues. */
  queued() {
    return this.page.evaluate(() => Object.keys(localStorage)
      .filter((key) => key.startsWith('__mpq_'))
      .reduce((sum, key) => {
        try {
          return sum + JSON.parse(localStorage.getItem(key)).length;
        } catch {
          return sum;
        }
      }, 0));
  }

  /* Leaves the page as a person does; the SDK flushes by beacon. */
  async leave() {
    await this.page.goto(`${this.browser.origin}/elsewhere`, { waitUntil: 'load' });
    await sleep(200);
  }

  close() {
    return this.context.close();
  }
}

/* One visitor's whole way; the counts are of what the SDK was asked to send. */
export async function visitorStory(visitor, person, pace = 0) {
  const device = await visitor.deviceId();
  await visitor.call('track', 'Step 1', { page: 'https://app.example.com/pricing?mail=' + encodeURIComponent(person.email) });
  await sleep(pace);
  await visitor.call('identify', person.id);
  await visitor.call('track', 'Signed Up', { plan: person.plan, email: person.email, note: `call ${person.phone}` });
  await visitor.call('people.set', { $name: person.name, $email: person.email, $phone: person.phone, plan: person.plan });
  await visitor.call('people.set_once', { first_seen_plan: person.plan });
  await visitor.call('people.increment', 'completions_run', 1);
  await visitor.call('set_group', 'company', [person.org]);
  await visitor.group('company', person.org, 'set', { $name: person.orgName });
  await visitor.call('track', 'Step 2', {});
  await sleep(pace);
  await visitor.call('track', 'Completion Run', { model: 'lumen-mini', tokens: 17 });
  return { device, events: ['Step 1', '$identify', 'Signed Up', 'Step 2', 'Completion Run'], groups: 1 };
}
