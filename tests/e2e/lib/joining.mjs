// The thief of two vendors: tries to find the same person in what both received. Each attack returns claims, pairs of a person here and one
// there; how many are true is told by whoever knows the truth, and how many would be by chance, by truths that were shuffled.
//
// A side is { rows, strings }: rows of lib/read.mjs with `person`; the attacker may use all that the vendor itself can (its merges, its clock).

const ID_SHAPE = /^(\$device:)?([a-z2-7]{26}|[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})$/;
const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7/;
const SESSION_KEY = /session_?id$/i;
const GRAM = 8;

/* Every leaf and key of an item: [path without indexes, value]. */
export function* leaves(value, path = '') {
  if (value !== null && typeof value === 'object') {
    for (const [key, inner] of Object.entries(value)) {
      const where = Array.isArray(value) ? path : `${path}/${key}`;
      if (!Array.isArray(value)) {
        yield [`${path}/{}`, key];
      }
      yield* leaves(inner, where);
    }
  } else if (value !== null && value !== undefined) {
    yield [path, value];
  }
}

/* Amplitude's session is a number of milliseconds: the floored time, and within its unit a number of this vendor's own. It can only be measured. */
const isSession = (path, value) => typeof value === 'number' && SESSION_KEY.test(path);
export const isId = (path, value) => (typeof value === 'string' ? ID_SHAPE.test(value) : isSession(path, value));

/* A session's UUIDv7 begins with its time, which is another matter (see `times`): only what follows can be an id. */
const bodyOf = (id) => {
  const text = String(id).replace(/^\$device:/, '');
  return UUID7.test(text) ? text.slice(15) : text;
};

export function sideOf(rows, anyShape = false) {
  const strings = new Map();
  const ids = new Map();
  const sessions = new Map();
  const add = (map, key, person) => {
    if (!map.has(key)) {
      map.set(key, new Set());
    }
    map.get(key).add(person);
  };
  for (const row of rows) {
    for (const [path, value] of leaves(row.value)) {
      add(strings, String(value), row.person);
      if (isSession(path, value)) {
        add(sessions, value, row.person);
      } else if (isId(path, value)) {
        add(ids, String(value), row.person);
      }
    }
    if (anyShape) {
      [row.id, row.user, row.device, row.session, ...row.groups].filter((id) => id !== undefined).forEach((id) => add(ids, String(id), row.person));
    }
  }
  return { rows, strings, ids, sessions };
}

// -- ids ---------------------------------------------------------------------------------------------------------------

/* Numbers of sessions that are the same at both, and how many would be if each were drawn anew within its unit of time. */
export function equalSessions(a, b, unit_ms) {
  return { of: a.sessions.size, equal: [...a.sessions.keys()].filter((session) => b.sessions.has(session)).length, chance: a.sessions.size / unit_ms };
}

/* Ids of one side that stand anywhere on the other, whole. */
export function equalIds(a, b) {
  return [...a.ids.keys()].filter((id) => b.strings.has(id)).concat([...b.ids.keys()].filter((id) => !a.ids.has(id) && a.strings.has(id)));
}

function windows(list, size) {
  const out = new Map();
  for (const [owner, bytes] of list) {
    for (let i = 0; i + size <= bytes.length; i++) {
      const gram = bytes.toString('latin1', i, i + size);
      out.set(gram, out.has(gram) && out.get(gram) !== owner ? null : owner); /* null: of several ids, a constant */
    }
  }
  return out;
}

/* [part, whose it is here, whose there]. */
const shared = (a, b) => [...a.keys()].filter((gram) => a.get(gram) !== null && b.get(gram)).map((gram) => [gram, a.get(gram), b.get(gram)]);

const once = (side, name, make) => (side[name] ??= make());

/*
 * Eight characters of an id here in an id there; what several ids have is a constant ($device:), not a link. A hexadecimal digit says four bits,
 * so that eight of them are equal by chance in any large heap: there it takes twelve, without the dashes.
 */
export function equalParts(a, b) {
  const grams = (side) => once(side, 'parts', () => {
    const ids = [...side.ids.keys()].map((id) => [id, bodyOf(id).replaceAll('-', '')]);
    const isHex = ([, text]) => /^[0-9a-f]+$/.test(text);
    const of = (list, size) => windows(list.map(([id, text]) => [id, Buffer.from(text)]), size);
    return new Map([...of(ids.filter((entry) => !isHex(entry)), GRAM), ...of(ids.filter(isHex), GRAM + 4)]);
  });
  return shared(grams(a), grams(b));
}

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

function base32(text) {
  const out = Buffer.alloc(Math.floor((text.length * 5) / 8));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (const c of text.toLowerCase()) {
    const digit = BASE32.indexOf(c);
    if (digit < 0) {
      return Buffer.alloc(0);
    }
    held = ((held << 5) | digit) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (held >> bits) & 0xff;
    }
  }
  return out.subarray(0, at);
}

/* All bytes that an id may stand for. Hexadecimal text is nothing else: read as base64 it would hold half as much as it seems to. */
export function decodings(id) {
  const text = bodyOf(id);
  const plain = text.replaceAll('-', '');
  const isHex = /^[0-9a-f]+$/i.test(plain);
  const out = isHex ? [Buffer.from(plain, 'hex'), Buffer.from(plain.slice(1), 'hex')] : [base32(text), Buffer.from(text, 'base64'), Buffer.from(text, 'base64url')];
  if (text.includes('%')) {
    out.push(Buffer.from(text.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1'));
  }
  if (/^\d{1,19}$/.test(text)) {
    const number = Buffer.alloc(8);
    number.writeBigUInt64BE(BigInt(text));
    out.push(number, Buffer.from(number).reverse());
  }
  return out.filter((bytes) => bytes.length >= GRAM).flatMap((bytes) => [bytes, Buffer.from(bytes).reverse()]);
}

export function equalDecoded(a, b) {
  const grams = (side) => once(side, 'decoded', () => windows([...side.ids.keys()].flatMap((id) => decodings(id).map((bytes) => [id, bytes])), GRAM));
  return shared(grams(a), grams(b));
}

/* One difference (XOR) for two true pairs would turn every pseudonym of one vendor into the other's. */
export function equalDifferences(pairs) {
  const seen = new Map();
  for (const [a, b] of pairs) {
    for (const x of decodings(a).slice(0, 1)) {
      for (const y of decodings(b).slice(0, 1)) {
        const difference = Buffer.from(x.subarray(0, GRAM).map((byte, i) => byte ^ (y[i] ?? 0))).toString('hex');
        seen.set(difference, (seen.get(difference) ?? 0) + 1);
      }
    }
  }
  return [...seen].filter((entry) => entry[1] > 1).map(([difference]) => difference);
}

/* Ids of the same shapes that nobody has seen: what chance alone finds. */
export function invented(side, random) {
  const make = (id) => id.replace(/^\$device:/, '').replace(/[0-9a-z]/g, (c) => (/^[0-9]+$/.test(id) ? String(random.below(10)) : id.includes('-') ? '0123456789abcdef'[random.below(16)]
    : BASE32[random.below(32)]) || c);
  const ids = new Map([...side.ids.keys()].map((id) => [make(id), new Set(['nobody'])]));
  return { rows: [], strings: ids, ids };
}

// -- behaviour ---------------------------------------------------------------------------------------------------------

/* Best partner by shared features, each worth more the fewer people have it; claimed where it is the only best one. */
function match(a, b) {
  const index = new Map();
  for (const [person, features] of b) {
    for (const feature of features) {
      if (!index.has(feature)) {
        index.set(feature, []);
      }
      index.get(feature).push(person);
    }
  }
  const claims = [];
  for (const [person, features] of a) {
    const score = new Map();
    for (const feature of features) {
      const others = index.get(feature) ?? [];
      for (const other of others) {
        score.set(other, (score.get(other) ?? 0) + 1 / others.length);
      }
    }
    const best = [...score.entries()].sort((x, y) => y[1] - x[1]);
    if (best.length > 0 && (best.length === 1 || best[0][1] > best[1][1] * 1.0001)) {
      claims.push([person, best[0][0]]);
    }
  }
  return claims;
}

function features(rows, of) {
  const people = new Map();
  for (const row of rows) {
    if (row.isUpdate) {
      continue;
    }
    if (!people.has(row.person)) {
      people.set(row.person, new Set());
    }
    for (const feature of of(row)) {
      people.get(row.person).add(feature);
    }
  }
  return people;
}

const counted = (of) => {
  const seen = new Map();
  return (row) => of(row).map((feature) => {
    const key = `${row.person} ${feature}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return `${feature} #${seen.get(key)}`;
  });
};

/* When: times at the coarser precision of the two sides. */
export function times(a, b, unit_ms) {
  const of = (row) => [String(Math.floor(row.time / unit_ms))];
  return match(features(a.rows, of), features(b.rows, of));
}

/* The n-th event of a name here is the n-th of that name there: each pair of events is a vote for its people. */
export function order(a, b) {
  const numbered = (rows) => {
    const seen = new Map();
    return features(rows, (row) => {
      seen.set(row.name, (seen.get(row.name) ?? 0) + 1);
      return [`${row.name} ${seen.get(row.name)}`];
    });
  };
  return match(numbered(a.rows), numbered(b.rows));
}

/* In which of the vendor's requests a person occurs. */
export function sizes(a, b) {
  const ofBatches = (side) => {
    const people = new Map();
    let at = 0;
    side.batches.forEach((size, number) => {
      for (const row of side.rows.slice(at, at + size)) {
        if (!row.isUpdate) {
          people.set(row.person, (people.get(row.person) ?? new Set()).add(number));
        }
      }
      at += size;
    });
    return new Map([...people].map(([person, numbers]) => [person, new Set([[...numbers].join(' ')])]));
  };
  return match(ofBatches(a), ofBatches(b));
}

/* Declared values, as they leave: numbers, words, pages. band: numbers only as one of a few. */
export function values(a, b, { band = false } = {}) {
  const words = (row) => [...leaves(row.value)].filter(([path, value]) => !isId(path, value) && !/time|token$|library|lib|{}/i.test(path) && !isTime(value))
    .map(([path, value]) => `${row.name} ${path.split('/').at(-1)} ${band && typeof value === 'number' ? Math.floor(Math.log10(value + 1)) : value}`);
  return match(features(a.rows, counted(words)), features(b.rows, counted(words)));
}

const isTime = (value) => (typeof value === 'number' ? value > 1e9 : /^\d{4}-\d\d-\d\dT/.test(value));

/* Leaves that number events or people, whatever they are called: mostly different from each other here, and mostly the same there. */
export function numbering(a, b, declared) {
  const ofPaths = (side) => {
    const paths = new Map();
    for (const row of side.rows) {
      for (const [path, value] of leaves(row.value)) {
        if (!path.endsWith('{}') && !isId(path, value) && !isTime(value) && !declared.has(path.split('/').at(-1))) {
          (paths.get(path) ?? paths.set(path, []).get(path)).push(value);
        }
      }
    }
    return paths;
  };
  const there = ofPaths(b);
  return [...ofPaths(a)].filter(([path, list]) => {
    const distinct = new Set(list);
    const other = new Set(there.get(path) ?? []);
    return list.length > 30 && distinct.size > list.length / 2 && [...distinct].filter((value) => other.has(value)).length > distinct.size / 2;
  }).map(([path]) => path);
}

/* All at once. */
export function everything(a, b, unit_ms) {
  const of = counted((row) => [`${row.name} ${Math.floor(row.time / unit_ms)}`,
    ...[...leaves(row.value)].filter(([path, value]) => typeof value === 'number' && !isTime(value) && !isId(path, value)).map(([path, value]) => `${row.name} ${path.split('/').at(-1)} ${value}`)]);
  return match(features(a.rows, of), features(b.rows, of));
}

/* Organisations by how many events they have: the largest here is the largest there. */
export function groupsBySize(a, b) {
  const ranked = (rows) => {
    const count = new Map();
    rows.filter((row) => !row.isUpdate).forEach((row) => row.groups.forEach((group) => count.set(group, (count.get(group) ?? 0) + 1)));
    return [...count.entries()].sort((x, y) => y[1] - x[1]).map(([group]) => group);
  };
  const there = ranked(b.rows);
  return ranked(a.rows).map((group, i) => [group, there[i]]).filter((pair) => pair[1] !== undefined);
}

/* truth: Map from here to there. Recall of its pairs, and what shuffled truths would give. */
export function judge(claims, truth, random, shuffles = 20) {
  const hits = (map) => claims.filter(([a, b]) => map.get(a) === b).length;
  const there = [...truth.values()];
  let chance = 0;
  for (let i = 0; i < shuffles; i++) {
    const mixed = random.shuffle(there);
    chance += hits(new Map([...truth.keys()].map((key, n) => [key, mixed[n]])));
  }
  return { pairs: truth.size, claims: claims.length, right: hits(truth), recall: truth.size ? hits(truth) / truth.size : 0, chance: truth.size ? chance / shuffles / truth.size : 0 };
}
