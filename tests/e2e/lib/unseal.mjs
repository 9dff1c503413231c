// Opens journal and ledger with the master key, from the bytes that docs/format describes and with nothing of the product: a second reader
// for what must not be on disk even sealed.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const HEADER = 4096;
const FRAME_HEADER = 48;
const FRAME_MAGIC = 0x52464842;
const WRAPPED = 40;
const LOG_ENTRY = 2;

const unwrap = (kek, wrapped) => {
  const cipher = crypto.createDecipheriv('id-aes256-wrap', kek, Buffer.alloc(8, 0xa6));
  return Buffer.concat([cipher.update(wrapped), cipher.final()]);
};

const derive = (root, label) => Buffer.from(crypto.hkdfSync('sha256', root, Buffer.alloc(0), label, 32));

/* The key file: the journal's wrapping key, that of ids, and each log's by name. */
export function openKeys(masterFile, dataFolder) {
  const raw = fs.readFileSync(masterFile);
  const master = raw.length === 32 ? raw : Buffer.from(raw.toString('latin1').trim(), 'hex');
  const bytes = fs.readFileSync(path.join(dataFolder, 'keys'));
  const root = unwrap(master, bytes.subarray(40, 40 + WRAPPED));
  const logs = new Map();
  let at = 40 + WRAPPED;
  for (let left = bytes.readUInt32LE(32); left > 0; left--) {
    const kind = bytes[at];
    const nameSize = bytes[at + 1];
    const name = bytes.toString('latin1', at + 8, at + 8 + nameSize);
    at += 8 + nameSize;
    if (kind === LOG_ENTRY) {
      logs.set(name, unwrap(master, bytes.subarray(at, at + WRAPPED)));
      at += 2 * WRAPPED + 32;
    } else {
      at += WRAPPED;
    }
  }
  return { journal: derive(root, 'bulkhead/journal'), ids: derive(root, 'bulkhead/id'), logs };
}

/* The plain text of every frame of every segment in a folder. */
export function* openSegments(folder, wrapping) {
  for (const name of fs.readdirSync(folder).filter((f) => /^\d+\.seg$/.test(f)).sort()) {
    const bytes = fs.readFileSync(path.join(folder, name));
    const key = unwrap(wrapping, bytes.subarray(92, 92 + WRAPPED));
    let at = HEADER;
    while (at + FRAME_HEADER <= bytes.length && bytes.readUInt32LE(at) === FRAME_MAGIC) {
      const size = bytes.readUInt32LE(at + 4);
      const nonce = Buffer.concat([Buffer.alloc(4), bytes.subarray(at + 8, at + 16)]);
      const sealed = bytes.subarray(at + FRAME_HEADER, at + FRAME_HEADER + size);
      const cipher = crypto.createDecipheriv('aes-256-gcm', key, nonce);
      cipher.setAAD(bytes.subarray(at, at + 40));
      cipher.setAuthTag(sealed.subarray(size - 16));
      yield Buffer.concat([cipher.update(sealed.subarray(0, size - 16)), cipher.final()]);
      at += Math.ceil((FRAME_HEADER + size) / 8) * 8;
    }
  }
}

/* The raw chunks in a journal frame's plain text. */
export function* chunksOf(plain) {
  let at = 0;
  while (at + 8 <= plain.length) {
    const rawSize = plain.readUInt32LE(at);
    const packed = plain.readUInt32LE(at + 4);
    yield unlz4(plain.subarray(at + 8, at + 8 + packed), rawSize);
    at += 8 + Math.ceil(packed / 8) * 8;
  }
}

/* One LZ4 block. */
export function unlz4(input, size) {
  const out = Buffer.alloc(size);
  let i = 0;
  let o = 0;
  const more = (n) => {
    let length = n;
    if (n === 15) {
      let byte;
      do {
        byte = input[i++];
        length += byte;
      } while (byte === 255);
    }
    return length;
  };
  while (i < input.length) {
    const token = input[i++];
    const literals = more(token >> 4);
    input.copy(out, o, i, i + literals);
    i += literals;
    o += literals;
    if (i >= input.length) {
      break;
    }
    const distance = input.readUInt16LE(i);
    i += 2;
    const match = more(token & 15) + 4;
    for (let n = 0; n < match; n++, o++) {
      out[o] = out[o - distance];
    }
  }
  if (o !== size) {
    throw new Error(`LZ4 block of ${size} bytes gave ${o}`);
  }
  return out;
}

/* Everything that journal and ledgers hold, opened: [{where, bytes}]. */
export function openAll(masterFile, dataFolder) {
  const keys = openKeys(masterFile, dataFolder);
  const parts = [];
  for (const plain of openSegments(path.join(dataFolder, 'journal'), keys.journal)) {
    for (const bytes of chunksOf(plain)) {
      parts.push({ where: 'journal', bytes });
    }
  }
  for (const [log, key] of keys.logs) {
    const folder = path.join(dataFolder, 'ledger', log);
    if (fs.existsSync(folder)) {
      for (const bytes of openSegments(folder, key)) {
        parts.push({ where: `ledger ${log}`, bytes });
      }
    }
  }
  return parts;
}
