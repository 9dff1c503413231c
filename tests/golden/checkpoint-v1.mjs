// Writes checkpoint-v1.txt from docs/format/log.md alone: Merkle root, signed note and verifier key by a second implementation.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const sha256 = (...parts) => crypto.createHash('sha256').update(Buffer.concat(parts)).digest();

// RFC 6962, 2.1, as it is written there.
function root(leaves) {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return sha256(Buffer.from([0]), leaves[0]);
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256(Buffer.from([1]), root(leaves.slice(0, k)), root(leaves.slice(k)));
}

const seed = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const key = crypto.createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), format: 'der', type: 'pkcs8' });
const publicKey = crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);

const origin = `bulkhead/${'d1'.repeat(16)}/9/mixpanel-1`;
const leaves = Array.from({ length: 11 }, (_, i) => Buffer.from(`leaf ${i}`));
const text = `${origin}\n${leaves.length}\n${root(leaves).toString('base64')}\n`;
const id = sha256(Buffer.from(origin), Buffer.from([0x0a, 0x01]), publicKey).subarray(0, 4);
const signature = crypto.sign(null, Buffer.from(text), key);
const note = `${text}\n\u2014 ${origin} ${Buffer.concat([id, signature]).toString('base64')}\n`;
const vkey = `${origin}+${id.toString('hex')}+${Buffer.concat([Buffer.from([1]), publicKey]).toString('base64')}`;

const folder = process.argv[2] ?? import.meta.dirname;
fs.writeFileSync(path.join(folder, 'checkpoint-v1.txt'), note);
fs.writeFileSync(path.join(folder, 'checkpoint-v1.vkey'), vkey);
