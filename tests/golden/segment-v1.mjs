// Writes segment-v1.bin from docs/format/segment.md alone: a second implementation of the format, which the C code must read.
// Run it only to see that it still gives the same bytes; a golden file is never changed.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const wrappingKey = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const segmentKey = Buffer.from(Array.from({ length: 32 }, (_, i) => 0x80 + i));

function crc32c(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

const u16 = (v) => { const b = Buffer.alloc(2); b.writeUInt16LE(v); return b; };
const u32 = (v) => { const b = Buffer.alloc(4); b.writeUInt32LE(v); return b; };
const u64 = (v) => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(v)); return b; };
const pad8 = (b) => Buffer.concat([b, Buffer.alloc((8 - (b.length % 8)) % 8)]);

function header() {
  const wrap = crypto.createCipheriv('id-aes256-wrap', wrappingKey, Buffer.from('a6a6a6a6a6a6a6a6', 'hex'));
  const wrapped = Buffer.concat([wrap.update(segmentKey), wrap.final()]);
  const fields = Buffer.concat([
    Buffer.from('BHSEGLOG'), u16(1), u16(1), u16(1), u16(1),          // magic, format, min_reader, kind journal, cipher
    Buffer.alloc(16, 0xd1), u16(9), u16(0),                           // deployment, instance
    u64(1), u64(100), u64(1700000000000000),                          // segment, first_seq, created
    Buffer.alloc(32), wrapped, u64(1),                                // previous footer, key, first frame
  ]);
  const body = Buffer.concat([fields, Buffer.alloc(4092 - fields.length)]);
  return Buffer.concat([body, u32(crc32c(body))]);
}

function frame(number, firstSeq, events, chunks, timeUs, plain) {
  const aad = Buffer.concat([Buffer.from('BHFR'), u32(plain.length + 16), u64(number), u64(firstSeq), u32(events), u32(chunks), u64(timeUs)]);
  const nonce = Buffer.concat([Buffer.alloc(4), u64(number)]);
  const gcm = crypto.createCipheriv('aes-256-gcm', segmentKey, nonce);
  gcm.setAAD(aad);
  const sealed = Buffer.concat([gcm.update(plain), gcm.final(), gcm.getAuthTag()]);
  const withCrc = Buffer.concat([aad, u32(crc32c(sealed))]);
  return pad8(Buffer.concat([withCrc, u32(crc32c(withCrc)), sealed]));
}

function footer(firstFrame, lastFrame, nextSeq, timeMin, timeMax, blob) {
  const padded = pad8(blob);
  const size = 64 + padded.length + 8;
  const fields = Buffer.concat([Buffer.from('BHFOOTER'), u32(size), u32(blob.length), u64(firstFrame), u64(lastFrame), u64(nextSeq), u64(timeMin), u64(timeMax), u32(0)]);
  const body = Buffer.concat([fields, u32(crc32c(fields)), padded, u32(size)]);
  return Buffer.concat([body, u32(crc32c(body))]);
}

const file = Buffer.concat([
  header(),
  frame(1, 100, 2, 1, 1700000000000001, Buffer.from('the first frame')),
  frame(2, 102, 0, 0, 1700000000000002, Buffer.alloc(0)),
  frame(3, 110, 1000, 3, 1700000000000009, Buffer.from(Array.from({ length: 1000 }, (_, i) => (i * 7) & 255))),
  footer(1, 3, 1110, 1700000000000001, 1700000000000009, Buffer.from('counts')),
]);
const target = process.argv[2] ?? path.join(import.meta.dirname, 'segment-v1.bin');
fs.writeFileSync(target, file);
