// Drives posthog-node, and posthog-js in a real headless Chromium, both unmodified. The page stands on another port
// than the gateway, so CORS is real too.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { modulePath, need } from './harness.mjs';

const CHROMIUM = process.env.BH_CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];
const PAGE = `<!doctype html><meta charset="utf-8"><title>Dashboard</title><button id="go" type="button">Run for Ada</button>
<script type="module">import posthog from '/sdk.js'; window.posthog = posthog;</script>`;

export function nodeSdk(url, token, options = {}) {
  const { PostHog } = need('posthog-node');
  const client = new PostHog(token, { host: url, flushAt: 20, flushInterval: 200, fetchRetryDelay: 300, ...options });
  const errors = [];
  client.on('error', (error) => errors.push(error));
  return { client, errors };
}

export class PostHogBrowser {
  async start() {
    const sdk = fs.readFileSync(path.join(modulePath('posthog-js'), 'dist/module.js'));
    this.server = http.createServer((req, res) => {
      const isScript = req.url.startsWith('/sdk.js');
      res.writeHead(200, { 'Content-Type': isScript ? 'text/javascript' : 'text/html' });
      res.end(isScript ? sdk : PAGE);
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.origin = `http://127.0.0.1:${this.server.address().port}`;
    const { chromium } = need('playwright-core');
    this.browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
    return this;
  }

  async stop() {
    await this.browser?.close();
    this.server?.closeAllConnections();
    this.server?.close();
  }

  /* A fresh visitor. The SDK keeps silent for browsers that a program drives, unless it is told not to look. */
  async visit(url, token, config = {}, where = '/dashboard') {
    const context = await this.browser.newContext();
    const page = await context.newPage();
    const visitor = { page, context, errors: [], close: () => context.close() };
    page.on('pageerror', (error) => visitor.errors.push(error.message));
    visitor.call = (name, ...args) => page.evaluate(([method, list]) => {
      const value = method.split('.').reduce((o, p, i, all) => (i === all.length - 1 ? o[p].bind(o) : o[p]), window.posthog)(...list);
      return typeof value === 'object' ? undefined : value;
    }, [name, args]);
    await page.goto(`${this.origin}${where}`, { waitUntil: 'load' });
    await page.waitForFunction(() => window.posthog !== undefined);
    await page.evaluate(([host, key, options]) => window.posthog.init(key, { api_host: host, opt_out_useragent_filter: true,
      persistence: 'localStorage', request_queue_config: { flush_interval_ms: 250 }, ...options }), [url, token, config]);
    return visitor;
  }
}
