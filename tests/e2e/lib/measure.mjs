// The numbers that a product team lives by, from rows (lib/read.mjs). Each is a string, so that two tables compare at a glance: what is counted
// has no ids in it, only how many.

const DAY = 86400000;
const WEEK = 7 * DAY;
const SESSION_GAP = 30 * 60 * 1000;

function groupBy(list, key) {
  const map = new Map();
  for (const entry of list) {
    const at = key(entry);
    if (!map.has(at)) {
      map.set(at, []);
    }
    map.get(at).push(entry);
  }
  return map;
}

const byTime = (a, b) => a.time - b.time;

/* People that did the steps in this order, all within the window from the first. Two steps of one moment are in no order: neither counts. */
export function funnel(people, steps, window) {
  const reached = steps.map(() => 0);
  for (const rows of people.values()) {
    let best = 0;
    for (const first of rows.filter((row) => row.name === steps[0])) {
      let at = first.time;
      let n = 1;
      for (const row of rows) {
        if (n < steps.length && row.name === steps[n] && row.time > at && row.time - first.time <= window) {
          at = row.time;
          n++;
        }
      }
      best = Math.max(best, n);
    }
    for (let i = 0; i < best; i++) {
      reached[i]++;
    }
  }
  return reached;
}

/* For each calendar week in which people came first: how many of them came in it, and in each week after. */
export function retention(people) {
  const weekOf = (time) => Math.floor((time - 4 * DAY) / WEEK); /* Mondays */
  const table = new Map();
  for (const rows of people.values()) {
    const weeks = [...new Set(rows.map((row) => weekOf(row.time)))].sort((a, b) => a - b);
    const cohort = table.get(weeks[0]) ?? [];
    for (const week of weeks) {
      cohort[week - weeks[0]] = (cohort[week - weeks[0]] ?? 0) + 1;
    }
    table.set(weeks[0], cohort);
  }
  return [...table.keys()].sort((a, b) => a - b).map((week) => Array.from(table.get(week), (n) => n ?? 0));
}

/* Events per session: by the session's id, or where the vendor has none by half an hour of silence. */
export function sessions(people, rows, byId) {
  if (byId) {
    return [...groupBy(rows.filter((row) => row.session !== undefined), (row) => String(row.session)).values()].map((list) => list.length);
  }
  const sizes = [];
  for (const list of people.values()) {
    list.forEach((row, i) => {
      if (i === 0 || row.time - list[i - 1].time > SESSION_GAP) {
        sizes.push(0);
      }
      sizes[sizes.length - 1]++;
    });
  }
  return sizes;
}

const histogram = (sizes) => {
  const counts = new Map();
  for (const size of sizes) {
    counts.set(size, (counts.get(size) ?? 0) + 1);
  }
  return [...counts.keys()].sort((a, b) => a - b).map((size) => `${size}:${counts.get(size)}`).join(' ');
};

const tally = (list) => {
  const counts = new Map();
  for (const entry of list) {
    counts.set(entry, (counts.get(entry) ?? 0) + 1);
  }
  return [...counts.keys()].sort().map((entry) => `${entry} ${counts.get(entry)}`).join(' · ');
};

const ownPath = (url) => new URL(url).pathname;

const STEPS = ['page', 'Signed Up', 'Completion Run', 'Order Completed'];

/* byGaps: sessions by silence alone, where one of two vendors is not told the session's id. */
export function measure(all, { byGaps = false } = {}) {
  const rows = all.filter((row) => !row.isUpdate);
  const people = groupBy(rows, (row) => row.person);
  for (const list of people.values()) {
    list.sort(byTime);
  }
  const hasSessions = !byGaps && rows.some((row) => row.session !== undefined);
  const sizes = sessions(people, rows, hasSessions);
  const grouped = groupBy(rows.flatMap((row) => row.groups.map((group) => ({ group, row }))), (entry) => entry.group);
  const sorted = (list) => list.sort((a, b) => b - a).join(' ');
  const plans = groupBy(all.filter((row) => row.plan !== undefined), (row) => row.plan);
  return {
    'people': String(people.size),
    'events': String(rows.length),
    'funnel, 1 day': funnel(people, STEPS, DAY).join(' > '),
    'funnel, 14 days': funnel(people, STEPS, 14 * DAY).join(' > '),
    'weekly retention': retention(people).map((cohort) => cohort.join(' ')).join(' / '),
    'sessions': `${sizes.length} (${hasSessions ? 'by id' : '30 min'})`,
    'events a session': histogram(sizes),
    'groups': String(new Set(all.flatMap((row) => row.groups)).size),
    'events a group': sorted([...grouped.values()].map((list) => list.length)),
    'people a group': sorted([...grouped.values()].map((list) => new Set(list.map((entry) => entry.row.person)).size)),
    'events by name': tally(rows.map((row) => row.name)),
    'values of plan': [...plans.keys()].sort().map((plan) => `${plan} ${plans.get(plan).length}`).join(' · '),
    'events by country': tally(rows.filter((row) => row.country !== undefined).map((row) => row.country)),
    'events by browser': tally(rows.filter((row) => row.browser !== undefined).map((row) => row.browser)),
    'pages': tally(rows.filter((row) => row.name === 'page' && row.path !== undefined).map((row) => ownPath(row.path))),
  };
}

/* Rows of a table: what, raw, received, the same or not. */
export function compare(raw, sent) {
  return [...new Set([...Object.keys(raw), ...Object.keys(sent)])].map((what) => ({ what, raw: raw[what] ?? '', sent: sent[what] ?? '', same: raw[what] === sent[what] }));
}
