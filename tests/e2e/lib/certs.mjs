// A throw-away certificate authority and one server certificate for loopback names, made with the openssl program.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

export function makeCertificates(folder) {
  fs.mkdirSync(folder, { recursive: true });
  const at = (name) => path.join(folder, name);
  const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=Bulkhead test authority', '-keyout', 'ca.key', '-out', 'ca.pem');
  openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=localhost',
    '-keyout', 'server.key', '-out', 'server.csr');
  fs.writeFileSync(at('san.cnf'), 'subjectAltName=DNS:localhost,DNS:vendor.test,IP:127.0.0.1\n');
  openssl('x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
    '-days', '2', '-extfile', 'san.cnf', '-out', 'server.pem');
  return { ca: at('ca.pem'), key: at('server.key'), cert: at('server.pem') };
}
