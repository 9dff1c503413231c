// A real headless Chromium and the page that it opens, which stands on another port than the gateway, so CORS is real too.

import http from 'node:http';
import { need } from './harness.mjs';

const CHROMIUM = process.env.BH_CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

export class Page {
  /* html is every page; script(path) gives the code below /sdk, or undefined. */
  constructor(html, script) {
    Object.assign(this, { html, script });
  }

  async start() {
    this.server = http.createServer((req, res) => {
      const isScript = req.url.startsWith('/sdk');
      const code = isScript ? this.script(req.url) : this.html;
      res.writeHead(code === undefined ? 404 : 200, { 'Content-Type': isScript ? 'text/javascript' : 'text/html' });
      res.end(code);
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

  /* A fresh visitor; errors of the page are kept, and what it writes on its console where that is asked for. `requests`, once set, gets addresses. */
  async open(where = '/dashboard', hearsConsole = false) {
    const context = await this.browser.newContext();
    const page = await context.newPage();
    const visitor = { page, context, errors: [], close: () => context.close() };
    page.on('pageerror', (error) => visitor.errors.push(error.message));
    page.on('console', (message) => {
      if (hearsConsole && ['warning', 'error'].includes(message.type())) {
        visitor.errors.push(`${message.type()}: ${message.text()} ${message.location().url}`);
      }
    });
    page.on('request', (request) => visitor.requests?.push(request.url()));
    await page.goto(`${this.origin}${where}`, { waitUntil: 'load' });
    return visitor;
  }
}
