// HTTP as bytes on a socket, for everything that a well-behaved client library would not send or not tell.

import net from 'node:net';

/* One answer at the front of `buffer`, or undefined while it is incomplete. */
export function parseAnswer(buffer, { head = false } = {}) {
  const end = buffer.indexOf('\r\n\r\n');
  if (end < 0) {
    return undefined;
  }
  const lines = buffer.subarray(0, end).toString('latin1').split('\r\n');
  const match = /^HTTP\/1\.[01] (\d{3})/.exec(lines[0]);
  if (!match) {
    return { status: 0, broken: lines[0].slice(0, 80), headers: {}, body: '', size: buffer.length };
  }
  const headers = {};
  for (const line of lines.slice(1)) {
    const at = line.indexOf(':');
    headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim();
  }
  const status = Number(match[1]);
  const length = head || status === 204 || status === 304 || status < 200 ? 0 : Number(headers['content-length'] ?? 0);
  if (buffer.length < end + 4 + length) {
    return undefined;
  }
  return { status, headers, body: buffer.subarray(end + 4, end + 4 + length).toString('utf8'), size: end + 4 + length };
}

/* A connection that sends bytes as given and reads answers in order. */
export class RawConnection {
  constructor(port) {
    this.port = port;
    this.buffer = Buffer.alloc(0);
    this.waiting = [];
    this.closed = false;
    this.reset = false;
  }

  async open() {
    this.socket = net.connect(this.port, '127.0.0.1');
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => {
      this.buffer = Buffer.concat([this.buffer, chunk]);
      this.deliver();
    });
    this.socket.on('error', (error) => {
      this.reset = error.code === 'ECONNRESET' || error.code === 'EPIPE';
    });
    const gone = () => {
      this.closed = true;
      this.deliver();
    };
    this.socket.on('end', gone);
    this.socket.on('close', gone);
    await new Promise((resolve, reject) => {
      this.socket.once('connect', resolve);
      this.socket.once('error', reject);
    });
    return this;
  }

  deliver() {
    while (this.waiting.length > 0) {
      const { resolve, options, timer } = this.waiting[0];
      const answer = parseAnswer(this.buffer, options);
      if (!answer && !this.closed) {
        return;
      }
      this.waiting.shift();
      clearTimeout(timer);
      if (answer) {
        this.buffer = this.buffer.subarray(answer.size);
      }
      resolve(answer);
    }
  }

  send(bytes) {
    if (!this.socket.destroyed) {
      this.socket.write(bytes);
    }
    return this;
  }

  /* The next answer; undefined where the connection closed, or nothing came in time. */
  answer(ms = 5000, options = {}) {
    return new Promise((resolve) => {
      const entry = { resolve, options };
      entry.timer = setTimeout(() => {
        this.waiting = this.waiting.filter((w) => w !== entry);
        resolve(undefined);
      }, ms);
      this.waiting.push(entry);
      this.deliver();
    });
  }

  /* True when the peer closes within this time. */
  async closes(ms = 2000) {
    const end = Date.now() + ms;
    while (!this.closed && Date.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return this.closed;
  }

  destroy() {
    this.socket.destroy();
  }

  abort() {
    this.socket.resetAndDestroy();
  }
}

export async function exchange(port, bytes, { ms = 5000, head = false } = {}) {
  const connection = await new RawConnection(port).open();
  connection.send(bytes);
  const answer = await connection.answer(ms, { head });
  connection.destroy();
  return answer;
}
