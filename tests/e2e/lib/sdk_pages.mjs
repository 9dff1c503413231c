// Pages with the unmodified browser SDKs, in a real headless Chromium that looks like a person's: PostHog's SDK keeps silent
// for one that a program drives. A page stands on another port than the gateway, so CORS is real, unless a proxy serves both.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { modulePath, need } from './harness.mjs';

const CHROMIUM = process.env.BH_CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--disable-blink-features=AutomationControlled'];
const AGENT = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36';
const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.html': 'text/html' };

/* What `import` of a package means in a page: a file that is a module, or a script and what of its global name the package exports. */
const amplitude = { script: 'lib/scripts/amplitude-min.umd.js', exports: 'export const { init, track, identify, setGroup, flush, setUserId } = window.amplitude;' };
const analyticsNext = { script: 'dist/umd/index.js', exports: 'export const { AnalyticsBrowser } = window.AnalyticsNext;' };
const mixpanel = { script: 'dist/mixpanel.umd.js', exports: 'export default window.mixpanel;' };
const PACKAGES = {
  'mixpanel-browser': mixpanel,
  'mixpanel-browser-old': mixpanel,
  'posthog-js': { module: 'dist/module.js' },
  'posthog-js-old': { module: 'dist/es.js' },
  '@segment/analytics-next': analyticsNext,
  '@segment/analytics-next-old': analyticsNext,
  '@rudderstack/analytics-js/bundled': { script: 'dist/npm/modern/bundled/umd/index.js', exports: 'export const { RudderAnalytics } = window.rudderanalytics;' },
  'rudder-sdk-js': { script: 'dist/npm/index.js', exports: 'export const { load, ready, page, track, identify, group } = window.rudderanalytics;' },
  '@amplitude/analytics-browser': amplitude,
  '@amplitude/analytics-browser-old': amplitude,
};

const folderOf = (name) => modulePath(name.replace(/\/bundled$/, ''));
const importsOf = (code) => [...code.matchAll(/^import .*?from '([^']+)'/gm)].map(([, name]) => name);

export class Pages {
  async start() {
    this.pages = new Map();
    this.server = http.createServer((req, res) => this.serve(req, res));
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    this.origin = `http://127.0.0.1:${this.port}`;
    const { chromium } = need('playwright-core');
    this.browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
    return this;
  }

  async stop() {
    await this.browser?.close();
    this.server?.closeAllConnections();
    this.server?.close();
  }

  serve(req, res) {
    const where = decodeURIComponent(new URL(req.url, 'http://page').pathname);
    const [, name, file] = /^\/sdk\/(.+)\/-\/(.+)$/.exec(where) ?? [];
    const entry = PACKAGES[name];
    const text = file === undefined ? this.pages.get(where) ?? '<!doctype html><title>Elsewhere</title>'
      : file === 'exports.mjs' && entry ? entry.exports
        : entry && fs.existsSync(path.join(folderOf(name), file)) ? fs.readFileSync(path.join(folderOf(name), file)) : undefined;
    res.writeHead(text === undefined ? 404 : 200, { 'Content-Type': file === undefined ? TYPES['.html'] : TYPES[path.extname(file)] ?? 'application/octet-stream' });
    res.end(text);
  }

  /* The page that runs this module, whose imports are packages above; undefined where one is not. */
  html(code, title = 'Dashboard') {
    const names = importsOf(code);
    const unknown = names.find((name) => PACKAGES[name] === undefined);
    if (unknown) {
      throw new Error(`no browser package '${unknown}'`);
    }
    const at = (name, file) => `/sdk/${name}/-/${file}`;
    const imports = Object.fromEntries(names.map((name) => [name, at(name, PACKAGES[name].module ?? 'exports.mjs')]));
    const scripts = names.filter((name) => PACKAGES[name].script).map((name) => `<script src="${at(name, PACKAGES[name].script)}"></script>\n`).join('');
    return `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>${title}</title><button id="go" type="button">Run</button>\n`
      + `<script type="importmap">${JSON.stringify({ imports })}</script>\n${scripts}<script type="module">\n${code}</script>\n`;
  }

  /* Opens the page for a new visitor. `errors` collects what a person with open developer tools would see. */
  async open(code, { base = this.origin, where = '/dashboard', cookies = [] } = {}) {
    const context = await this.browser.newContext({ ignoreHTTPSErrors: true, userAgent: AGENT });
    await context.addCookies(cookies.map(([name, value]) => ({ name, value, url: base })));
    const page = await context.newPage();
    page.setDefaultTimeout(60000);
    const errors = [];
    page.on('pageerror', (error) => errors.push(`page error: ${error.stack || error.message || error}`));
    page.on('console', (message) => ['warning', 'error'].includes(message.type()) && errors.push(`console ${message.type()}: ${message.text()}`));
    this.pages.set(where, this.html(code));
    await page.goto(`${base}${where}`, { waitUntil: 'load' });
    return { page, context, errors, close: () => context.close() };
  }
}
