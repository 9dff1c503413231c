// The stand-ins of all vendors behind one face: start, count by the name of an event, forget.

import { PostHogStandin } from './standin_posthog.mjs';
import { SegmentStandin } from './standin_segment.mjs';
import { Standin } from './standin.mjs';

const KEY = 'vendor_key_of_the_tests';

/* protocol: how its stand-in is made, which events of a name it has kept (each once), and how it says that it refused. */
const VENDORS = {
  mixpanel: { make: () => new Standin({ token: KEY }), named: (s, name) => s.events().filter((e) => e.event === name),
    refusals: (s) => [...s.refusals.keys()] },
  posthog: { make: () => new PostHogStandin({ token: KEY }), named: (s, name) => s.named(name), refusals: (s) => s.refusals },
  segment: { make: () => new SegmentStandin({ key: KEY }), named: (s, name) => s.of('track', name), refusals: (s) => s.refusals },
  rudder: { make: () => new SegmentStandin({ key: KEY, batchMax: 4 * 1024 * 1024, yes: 'OK' }), named: (s, name) => s.of('track', name), refusals: (s) => s.refusals },
};

export const protocols = Object.keys(VENDORS);
export const credentialOf = (text) => /^credential: \{ env: (\w+) \}/m.exec(text)[1];
export const vendorKey = KEY;

export async function startVendor(protocol) {
  const { make, named, refusals } = VENDORS[protocol];
  const standin = await make().start();
  return { protocol, standin, url: standin.url, named: (name) => named(standin, name), refusals: () => refusals(standin), stop: () => standin.stop() };
}
