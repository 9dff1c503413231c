// Recorded requests of real SDKs, sent once more byte for byte.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { root } from './harness.mjs';
import { exchange } from './raw.mjs';

export function load(sdk) {
  const base = path.join(root, 'tests/fixtures/sdk-requests', sdk);
  return fs.readdirSync(base).filter((f) => f.endsWith('.json')).sort().map((file) => ({
    name: `${sdk}/${file.replace('.json', '')}`,
    sdk,
    http: fs.readFileSync(path.join(base, file.replace('.json', '.http'))),
    ...JSON.parse(fs.readFileSync(path.join(base, file), 'utf8')),
  }));
}

/* The recording has a bare path; the gateway's paths begin with the protocol. Nothing else is changed. */
export function prefixed(bytes, protocol) {
  const at = bytes.indexOf(' ') + 1;
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(`/${protocol}`), bytes.subarray(at)]);
}

/* Each gets its recorded status, the answer that `same` is content with, and is counted as the items that it has. Returns their sum. */
export async function replay(gateway, protocol, recorded, { items, same }) {
  const accepted = async () => (await gateway.metrics()).sum('bulkhead_events_accepted_total');
  let before = await accepted();
  let sum = 0;
  for (const request of recorded) {
    const answer = await exchange(gateway.ports.ingest, prefixed(request.http, protocol), { head: request.method === 'HEAD' });
    assert.ok(answer, request.name);
    assert.equal(answer.status, request.response.status, request.name);
    same(request, answer);
    if (request.headers.origin) {
      assert.equal(answer.headers['access-control-allow-origin'], request.headers.origin, request.name);
    }
    const now = await accepted();
    assert.equal(now - before, items(request), request.name);
    sum += now - before;
    before = now;
  }
  return sum;
}
