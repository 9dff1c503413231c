// A second reader of what the gateway wrote down about people: the attempts of a ledger with the people, classes and forms in each, and
// the numbers that stand for ids, from the bytes that docs/format describes and with nothing of the product.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { root } from './harness.mjs';
import { openKeys, openSegments } from './unseal.mjs';

const ATTEMPT = 1;
const OUTCOME = 2;
const SHAPE = 5;
const PART_OF_WINDOW = 16;
const ITEMS_FINAL = 1;
export const RESULT = { ACCEPTED: 1, REFUSED: 2, UNKNOWN: 3, UNSENT: 4 };
const STRENGTH = { 1: 3, 2: 3, 3: 2, 4: 1 };

/* Numbers of classes, forms and levels are on disk, given once. */
const FORMS = { 1: 'raw', 3: 'redact', 4: 'pseudonym', 5: 'mask', 6: 'coarse' };
const LEVELS = { 0: '', 1: ':country', 2: ':region', 3: ':family', 4: ':major', 5: ':path', 6: ':net', 7: ':hour', 8: ':day', 9: ':year' };
const CLASSES = Object.fromEntries([...fs.readFileSync(path.join(root, 'src/model/taxonomy.def'), 'utf8')
  .matchAll(/^CLASS\((\d+), \w+, "([^"]+)"/gm)].map(([, number, name]) => [number, name]));

/* LEB128, one after another. */
function varints(bytes) {
  let at = 0;
  return { more: () => at < bytes.length,
    next() {
      let value = 0;
      let factor = 1;
      for (;;) {
        const byte = bytes[at++];
        value += (byte & 127) * factor;
        if (byte < 128) {
          return value;
        }
        factor *= 128;
      }
    } };
}

function readShape(leaf) {
  const cells = [];
  for (let i = 0; i < leaf.readUInt16LE(8); i++) {
    const at = 10 + 4 * i;
    cells.push(`${CLASSES[leaf.readUInt16LE(at)]} ${FORMS[leaf[at + 2]]}${LEVELS[leaf[at + 3]]}`);
  }
  return { source: leaf.readUInt16LE(2), cells };
}

function readEntries(body, flags, shapes) {
  const numbers = varints(body);
  if (flags & PART_OF_WINDOW) {
    for (let left = numbers.next(); left > 0; left--) {
      numbers.next();
    }
  }
  const entries = [];
  let ord = 0;
  while (numbers.more()) {
    ord += numbers.next();
    const shape = shapes.get(numbers.next());
    entries.push({ ord, ...shape, events: numbers.next() });
  }
  return entries;
}

/* Every attempt: {number, time, result, end, over, entries: [{ord, source, cells: ["class form"]}]}; `result` is the strongest outcome, undefined
   without one, `end` its time, and `over` the time from which on none of its items is sent again, undefined if nothing says so. */
export function readAttempts(masterFile, dataFolder, log = 'mixpanel-1') {
  const attempts = new Map();
  const shapes = new Map();
  for (const plain of openSegments(path.join(dataFolder, 'ledger', log), openKeys(masterFile, dataFolder).logs.get(log))) {
    const end = 8 + plain.readUInt32LE(4);
    const leaves = [];
    for (let at = 8; at < end; at += 2 + plain.readUInt16LE(at)) {
      leaves.push(plain.subarray(at + 2, at + 2 + plain.readUInt16LE(at)));
    }
    const bodies = new Map();
    for (let at = end; at < plain.length; at += 8 + plain.readUInt32LE(at + 4)) {
      bodies.set(plain.readUInt32LE(at), plain.subarray(at + 8, at + 8 + plain.readUInt32LE(at + 4)));
    }
    for (const leaf of leaves.filter((l) => l[0] === SHAPE)) {
      shapes.set(leaf.readUInt32LE(4), readShape(leaf));
    }
    leaves.forEach((leaf, index) => {
      if (leaf[0] === ATTEMPT) {
        const number = Number(leaf.readBigUInt64LE(8));
        attempts.set(number, { number, time: Number(leaf.readBigUInt64LE(16)), result: undefined, end: undefined, over: undefined,
          entries: readEntries(bodies.get(index) ?? Buffer.alloc(0), leaf.readUInt16LE(2), shapes) });
      } else if (leaf[0] === OUTCOME) {
        const attempt = attempts.get(Number(leaf.readBigUInt64LE(8)));
        if (attempt.result === undefined || STRENGTH[leaf[2]] > STRENGTH[attempt.result]) {
          attempt.result = leaf[2];
          attempt.end = Number(leaf.readBigUInt64LE(16));
        }
        if (leaf[3] & ITEMS_FINAL) {
          attempt.over ??= Number(leaf.readBigUInt64LE(16));
        }
      }
    });
  }
  return [...attempts.values()];
}

/* The values of one named table of an LMDB file, by key in hexadecimal: as much of that format as a reader of a file at rest needs. */
function lmdbTable(file, name) {
  const bytes = fs.readFileSync(file);
  const LEAF = 2;
  const SUBTABLE = 2;
  const pageSize = bytes.readUInt32LE(16 + 24);
  const metas = [0, pageSize].map((at) => ({ txn: bytes.readBigUInt64LE(at + 16 + 128), root: bytes.readBigUInt64LE(at + 16 + 24 + 48 + 40) }));
  const newest = metas[0].txn > metas[1].txn ? metas[0] : metas[1];
  const walk = (number, visit) => {
    if (number === 0xffffffffffffffffn) {
      return;
    }
    const page = bytes.subarray(Number(number) * pageSize);
    for (let at = 16; at < page.readUInt16LE(12); at += 2) {
      const node = page.subarray(page.readUInt16LE(at));
      const [low, high, flags, keySize] = [0, 2, 4, 6].map((i) => node.readUInt16LE(i));
      if (page.readUInt16LE(10) & LEAF) {
        visit(node.subarray(8, 8 + keySize), node.subarray(8 + keySize, 8 + keySize + low + high * 65536), flags);
      } else {
        walk(BigInt(low) + BigInt(high) * 65536n + BigInt(flags) * 4294967296n, visit);
      }
    }
  };
  const found = new Map();
  walk(newest.root, (key, value, flags) => {
    if (key.toString() === name && flags & SUBTABLE) {
      walk(value.readBigUInt64LE(40), (k, v) => found.set(k.toString('hex'), v));
    }
  });
  return found;
}

/* The number of each source in the ledger, by name. */
export function readSources(dataFolder) {
  return Object.fromEntries([...fs.readFileSync(path.join(dataFolder, 'numbers'), 'utf8').matchAll(/^source (\d+) (\S+)$/gm)]
    .map(([, number, name]) => [name, Number(number)]));
}

/* Which of these ids each number in the ledger stands for. */
export function readOrds(masterFile, dataFolder, ids) {
  const key = openKeys(masterFile, dataFolder).ids;
  const rows = lmdbTable(path.join(dataFolder, 'resolve/data.mdb'), 'alias');
  const ords = new Map();
  for (const id of ids) {
    const aid = crypto.createHmac('sha256', key).update('\0').update(id).digest().subarray(0, 16);
    const row = rows.get(aid.toString('hex'));
    if (row) {
      ords.set(row.readUInt32LE(0), id);
    }
  }
  return ords;
}
