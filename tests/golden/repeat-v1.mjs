// Makes repeat-run-v1.bin and repeat-state-v1.bin from docs/format/repeats.md alone, without the product's code:
//   node tests/golden/repeat-v1.mjs [FOLDER]
import fs from 'node:fs';
import path from 'node:path';

function crc32c(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) {
      crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    }
  }
  return ~crc >>> 0;
}

const folder = process.argv[2] ?? path.dirname(new URL(import.meta.url).pathname);
const entries = [[0x1000000000000000n, 1, 100], [0x1000000000000000n, 2, 101], [0x9000000000000000n, 1, 102],
  [0xfffffffffffffffen, 1, 103], [0xffffffffffffffffn, 7, 99]];
const slots = 16n;

const places = [];
for (const [key, content, second] of entries) {
  while (places.length < Number((key * slots) >> 64n)) {
    places.push(Buffer.alloc(16));
  }
  const place = Buffer.alloc(16);
  place.writeBigUInt64LE(key, 0);
  place.writeUInt32LE(content, 8);
  place.writeUInt32LE(second, 12);
  places.push(place);
}
while (places.length < slots) {
  places.push(Buffer.alloc(16));
}
const body = Buffer.concat(places);
const header = Buffer.alloc(4096);
header.write('BHREPEAT', 0, 'latin1');
header.writeUInt16LE(1, 8);
header.writeUInt16LE(1, 10);
header.writeBigUInt64LE(3n, 16);
header.writeBigUInt64LE(slots, 24);
header.writeBigUInt64LE(BigInt(places.length), 32);
header.writeBigUInt64LE(BigInt(entries.length), 40);
header.writeUInt32LE(103, 48);
header.writeUInt32LE(crc32c(body), 52);
header.writeUInt32LE(crc32c(header.subarray(0, 4092)), 4092);
fs.writeFileSync(path.join(folder, 'repeat-run-v1.bin'), Buffer.concat([header, body]));

const state = Buffer.alloc(56 + 2 * 16 + 24);
state.write('BHREPST', 0, 'latin1');
state.writeUInt16LE(1, 8);
state.writeUInt16LE(1, 10);
state.writeUInt32LE(103, 12);
state.writeBigUInt64LE(70000n, 16);
state.writeBigUInt64LE(1700000000000000n, 24);
state.writeBigUInt64LE(4n, 32);
state.writeUInt32LE(2, 40);
state.writeUInt32LE(1, 44);
state.writeBigUInt64LE(1n, 56);
state.writeUInt32LE(3600, 64);
state.writeBigUInt64LE(50000n, 72);
state.writeUInt32LE(86400, 80);
state.writeBigUInt64LE(3n, 88);
state.writeBigUInt64LE(5n, 96);
state.writeUInt32LE(crc32c(body), 104);
const sum = Buffer.alloc(4);
sum.writeUInt32LE(crc32c(state), 0);
fs.writeFileSync(path.join(folder, 'repeat-state-v1.bin'), Buffer.concat([state, sum]));
