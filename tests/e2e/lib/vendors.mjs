// The stand-ins of all vendors behind one face: what it has kept, what it has refused.

import { AmplitudeStandin } from './standin_amplitude.mjs';
import { PostHogStandin } from './standin_posthog.mjs';
import { SegmentStandin } from './standin_segment.mjs';
import { Standin } from './standin.mjs';

const KEY = 'vendor_key_of_the_tests';

/* protocol: how its stand-in is made, the names of the events that it has kept (each once), how it says that it refused,
   and how many came again under an id that it had. */
const VENDORS = {
  mixpanel: { make: () => new Standin({ token: KEY }), names: (s) => s.events().map((e) => e.event),
    refusals: (s) => [...s.refusals.keys()], repeated: (s) => s.stats.repeated },
  posthog: { make: () => new PostHogStandin({ token: KEY }), names: (s) => s.items.map((e) => e.event), refusals: (s) => s.refusals },
  segment: { make: () => new SegmentStandin({ key: KEY }), names: (s) => s.of('track').map((m) => m.event), refusals: (s) => s.refusals },
  rudder: { make: () => new SegmentStandin({ key: KEY, batchMax: 4 * 1024 * 1024, yes: 'OK' }), names: (s) => s.of('track').map((m) => m.event), refusals: (s) => s.refusals },
  amplitude: { make: () => new AmplitudeStandin({ key: KEY }), names: (s) => s.items.map((e) => e.event_type), refusals: (s) => s.refusals },
};

export const protocols = Object.keys(VENDORS);
export const credentialOf = (text) => /^credential: \{ env: (\w+) \}/m.exec(text)[1];
export const vendorKey = KEY;

export async function startVendor(protocol) {
  const { make, names, refusals, repeated = (s) => s.repeated } = VENDORS[protocol];
  const standin = await make().start();
  return { protocol, url: standin.url, names: () => names(standin), refusals: () => refusals(standin), repeated: () => repeated(standin),
    items: () => standin.items.map((entry) => (protocol === 'mixpanel' ? { path: entry.path, ...entry.item } : entry)),
    stop: () => standin.stop() };
}
