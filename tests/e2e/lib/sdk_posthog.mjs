// Drives posthog-node, and posthog-js in a real headless Chromium, both unmodified.

import fs from 'node:fs';
import path from 'node:path';
import { modulePath, need } from './harness.mjs';
import { Page } from './page.mjs';

const PAGE = `<!doctype html><meta charset="utf-8"><title>Dashboard</title><button id="go" type="button">Run for Ada</button>
<script type="module">import posthog from '/sdk.js'; window.posthog = posthog;</script>`;

export function nodeSdk(url, token, options = {}) {
  const { PostHog } = need('posthog-node');
  const client = new PostHog(token, { host: url, flushAt: 20, flushInterval: 200, fetchRetryDelay: 300, ...options });
  const errors = [];
  client.on('error', (error) => errors.push(error));
  return { client, errors };
}

export class PostHogBrowser extends Page {
  constructor() {
    super(PAGE, () => fs.readFileSync(path.join(modulePath('posthog-js'), 'dist/module.js')));
  }

  /* A fresh visitor. The SDK keeps silent for browsers that a program drives, unless it is told not to look. */
  async visit(url, token, config = {}, where = '/dashboard') {
    const visitor = await this.open(where, true);
    visitor.call = (name, ...args) => visitor.page.evaluate(([method, list]) => {
      const value = method.split('.').reduce((o, p, i, all) => (i === all.length - 1 ? o[p].bind(o) : o[p]), window.posthog)(...list);
      return typeof value === 'object' ? undefined : value;
    }, [name, args]);
    await visitor.page.waitForFunction(() => window.posthog !== undefined);
    await visitor.page.evaluate(([host, key, options]) => window.posthog.init(key, { api_host: host, opt_out_useragent_filter: true,
      persistence: 'localStorage', request_queue_config: { flush_interval_ms: 250 }, ...options }), [url, token, config]);
    return visitor;
  }
}
