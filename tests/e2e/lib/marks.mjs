// Values that must not leave, each with a mark that can be found again wherever it went.
//
// Every kind has a fixed front of at least eight bytes that occurs nowhere else, so that a whole disk can be searched for all marks of
// a kind at once; the rest is random, so that each event's mark is its own.

const ALNUM = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const UPPER = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

function letters(random, n, from = ALNUM) {
  let out = '';
  for (let i = 0; i < n; i++) {
    out += from[random.below(from.length)];
  }
  return out;
}

function digits(random, n) {
  return letters(random, n, '0123456789');
}

function luhn(front) {
  let sum = 0;
  for (let i = 0; i < front.length; i++) {
    let d = Number(front[front.length - 1 - i]);
    if (i % 2 === 0) {
      d = d * 2 > 9 ? d * 2 - 9 : d * 2;
    }
    sum += d;
  }
  return front + String((10 - (sum % 10)) % 10);
}

function iban(country, bban) {
  const text = `${bban}${country}00`.replace(/[A-Z]/g, (c) => String(c.charCodeAt(0) - 55));
  const check = 98n - (BigInt(text) % 97n);
  return `${country}${String(check).padStart(2, '0')}${bban}`;
}

const b64url = (text) => Buffer.from(text).toString('base64url');

/*
 * never: must be overwritten before our own disk. byKey: only the key tells, so the key must go along wherever it is put.
 * fronts: what to search for. make: one value.
 */
export const KINDS = {
  password: { never: true, byKey: true, keys: ['password', 'passwd', 'user_password', 'newPassword'], class: 'user.authorization',
    fronts: ['ZqPw7hT2'], make: (r) => `ZqPw7hT2${letters(r, 12)}` },
  stripe: { never: true, class: 'user.authorization', fronts: ['sk_live_ZqMk'], make: (r) => `sk_live_ZqMk${letters(r, 20)}` },
  aws: { never: true, class: 'user.authorization', fronts: ['AKIAZQMK'], make: (r) => `AKIAZQMK${letters(r, 12, UPPER)}` },
  github: { never: true, class: 'user.authorization', fronts: ['ghp_ZqMk'], make: (r) => `ghp_ZqMk${letters(r, 32)}` },
  slack: { never: true, class: 'user.authorization', fronts: ['xoxb-77310'], make: (r) => `xoxb-77310${digits(r, 7)}-${digits(r, 12)}-${letters(r, 24)}` },
  google: { never: true, class: 'user.authorization', fronts: ['AIzaZqMk'], make: (r) => `AIzaZqMk${letters(r, 31)}` },
  jwt: { never: true, class: 'user.authorization', fronts: ['eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ6cSI6Im1r'],
    make: (r) => `${b64url('{"alg":"HS256","typ":"JWT"}')}.${b64url(`{"zq":"mk${letters(r, 12)}","exp":1900000000}`)}.${letters(r, 43)}` },
  pem: { never: true, class: 'user.authorization', fronts: ['MIIEvZqMkA'],
    make: (r) => `-----BEGIN PRIVATE KEY-----\nMIIEvZqMkA${letters(r, 54)}\n${letters(r, 64)}\n-----END PRIVATE KEY-----` },
  card: { never: true, class: 'user.', fronts: ['45395748', '4539 5748', '4539-5748'], make: (r) => {
    const number = luhn(`45395748${digits(r, 7)}`);
    const separator = r.pick(['', ' ', '-']);
    return number.match(/.{4}/g).join(separator);
  } },
  iban: { never: true, class: 'user.', fronts: ['5001051754', '5001 0517 54'], make: (r) => {
    const number = iban('DE', `5001051754${digits(r, 8)}`);
    return r.chance(0.5) ? number : number.match(/.{1,4}/g).join(' ');
  } },
  openai: { never: true, class: 'user.authorization', fronts: ['sk-proj-ZqMk'], make: (r) => `sk-proj-ZqMk${letters(r, 40)}7` },
  gitlab: { never: true, class: 'user.authorization', fronts: ['glpat-ZqMk'], make: (r) => `glpat-ZqMk${letters(r, 18)}` },
  ssn: { never: true, class: 'user.government_id', fronts: ['731-45-6'], make: (r) => `731-45-6${digits(r, 3)}` },
  nationalId: { never: true, byKey: true, keys: ['national_id', 'taxId', 'user_id_card'], class: 'user.government_id',
    fronts: ['ZqNi8Kd4'], make: (r) => `ZqNi8Kd4${digits(r, 8)}` },
  passport: { never: true, byKey: true, keys: ['passport_number', 'passportNo', 'passport'], class: 'user.government_id',
    fronts: ['ZqPp5Rt2'], make: (r) => `ZqPp5Rt2${digits(r, 8)}` },
  license: { never: true, byKey: true, keys: ['drivers_license', 'driverLicense', 'license_number'], class: 'user.government_id',
    fronts: ['ZqDl3Vw6'], make: (r) => `ZqDl3Vw6${digits(r, 8)}` },
  template: { never: true, byKey: true, keys: ['fingerprint_template', 'faceTemplate'], class: 'user.authorization',
    fronts: ['ZqBt9Yx1'], make: (r) => `ZqBt9Yx1${letters(r, 24)}` },
  /* Kept sealed, never sent. */
  health: { byKey: true, keys: ['diagnosis', 'medication', 'medical_history', 'mrn'], class: 'user.health_and_medical',
    fronts: ['zqmkhlth'], make: (r) => `zqmkhlth${letters(r, 8)} asthma` },
  genetic: { byKey: true, keys: ['genotype', 'genetic_data'], class: 'user.health_and_medical', fronts: ['zqmkgene'], make: (r) => `zqmkgene${letters(r, 12)}` },
  email: { class: 'user.contact.email', fronts: ['zqmk.mail'], make: (r) => `zqmk.mail${letters(r, 10).toLowerCase()}@example.com` },
  ip: { class: 'user.device.ip_address', fronts: ['2001:db8:5a71'], make: (r) => `2001:db8:5a71:${r.hex(4)}:${r.hex(4)}::${(r.below(65535) + 1).toString(16)}` },
  /* Nothing recognises these: the closed schema alone must hold them back. */
  name: { onlySchema: true, keys: ['full_name', 'customer', 'label'], fronts: ['Zqmkname'], make: (r) => `Zqmkname${letters(r, 8)} Ivesdal` },
  freeText: { onlySchema: true, keys: ['note', 'message', 'comment'], fronts: ['zqmk says'], make: (r) => `zqmk says ${letters(r, 10)} is unwell, call +1-202-555-0143` },
  undeclared: { onlySchema: true, keys: ['colour', 'x_flag', 'ref'], fronts: ['zqmkundc'], make: (r) => `zqmkundc${letters(r, 12)}` },
};

/* The value, and every way in which it could hide in what is sent on: the three phases of base64, hex, percent, UTF-16, escapes. */
export function disguises(text) {
  const bytes = Buffer.from(text, 'utf8');
  const out = [text];
  for (let pad = 0; pad < 3; pad++) {
    const shifted = Buffer.concat([Buffer.alloc(pad), bytes]).toString('base64').replace(/=+$/, '');
    /* Characters that also depend on the neighbours are left out. */
    const from = Math.ceil((pad * 8) / 6);
    const whole = shifted.slice(from, Math.floor(((pad + bytes.length) * 8) / 6));
    if (whole.length >= 8) {
      out.push(whole, whole.replace(/\+/g, '-').replace(/\//g, '_'));
    }
  }
  out.push(bytes.toString('hex'), bytes.toString('hex').toUpperCase());
  out.push(Array.from(bytes, (b) => `%${b.toString(16).padStart(2, '0')}`).join(''));
  out.push(Array.from(bytes, (b) => `%${b.toString(16).toUpperCase().padStart(2, '0')}`).join(''));
  out.push(encodeURIComponent(text));
  out.push(Array.from(text, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''));
  out.push(Buffer.from(text, 'utf16le').toString('latin1'));
  out.push(JSON.stringify(text).slice(1, -1));
  return [...new Set(out)].filter((d) => d.length >= 8);
}

export function needles(kinds) {
  const list = [];
  for (const [name, kind] of Object.entries(kinds)) {
    for (const front of kind.fronts) {
      for (const text of disguises(front)) {
        list.push({ kind: name, text, bytes: Buffer.from(text, 'latin1') });
      }
    }
  }
  return list;
}

const PAGE = 4096;
const ZEROS = Buffer.alloc(PAGE);

/* Runs of pages that hold anything: most of a preallocated file, and of a pool, is zeros. [from, to) with the zero that may end a mark. */
function* written(buffer) {
  let from = -1;
  for (let at = 0; at < buffer.length; at += PAGE) {
    const size = Math.min(PAGE, buffer.length - at);
    const empty = buffer.compare(ZEROS, 0, size, at, at + size) === 0;
    if (!empty && from < 0) {
      from = at;
    } else if (empty && from >= 0) {
      yield [from, at + 1];
      from = -1;
    }
  }
  if (from >= 0) {
    yield [from, buffer.length];
  }
}

/* The first place of each needle. */
export function findIn(buffer, list, where) {
  const found = new Map();
  for (const [from, to] of written(buffer)) {
    const part = buffer.subarray(from, to);
    for (const needle of list) {
      const at = found.has(needle) ? -1 : part.indexOf(needle.bytes);
      if (at >= 0) {
        found.set(needle, { kind: needle.kind, needle: needle.text.slice(0, 24), where, at: from + at });
      }
    }
  }
  return [...found.values()];
}
