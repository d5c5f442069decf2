// A narrow link: the data forwarded through all its connections together are limited to a rate in
// kilobits a second. The browser's own emulation delays whole responses, so that players would
// measure a wrong rate.

import { createServer, connect } from 'node:net';

const PACKET_BYTES = 1400;
const TICK_MS = 5;
// Limit of the burst after the link was idle: this time at its rate, or one packet at low rates.
const BURST_MS = 2 * TICK_MS;

export class Throttle {
  #server;
  #kbps = 0;
  // Responses in progress, by connection; each holds at most the bytes of one read.
  #waiting = new Map();
  #credit = 0;
  #last = performance.now();
  #timer = setInterval(() => this.#send(), TICK_MS);
  #sockets = new Set();

  // The link to the origin of `url`.
  static async to(url) {
    const { hostname, port } = new URL(url);
    const throttle = new Throttle();
    throttle.#server = createServer((client) => throttle.#join(client, connect(Number(port), hostname)));
    await new Promise((resolve) => throttle.#server.listen(0, '127.0.0.1', resolve));
    return throttle;
  }

  // `url` through the link.
  through(url) {
    const { pathname, search } = new URL(url);
    return `http://127.0.0.1:${this.#server.address().port}${pathname}${search}`;
  }

  // 0 is no limit.
  set(kbps) {
    this.#kbps = kbps;
    this.#send();
  }

  async close() {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client, origin) {
    for (const [socket, other] of [[client, origin], [origin, client]]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        if (!this.#waiting.has(client)) other.destroy();
      });
    }
    client.pipe(origin);
    client.on('close', () => {
      this.#waiting.delete(client);
      origin.destroy();
    });
    origin.on('data', (bytes) => {
      if (this.#kbps === 0 && !this.#waiting.has(client)) {
        if (client.writable) client.write(bytes);
        return;
      }
      origin.pause();
      this.#send();
      this.#waiting.set(client, { bytes, origin });
    });
  }

  // Delivers the bytes that the rate has allowed since the last call, one packet to each connection
  // in turn.
  #send() {
    const now = performance.now();
    const free = this.#kbps === 0;
    const bytesPerMs = this.#kbps / 8;
    this.#credit += (now - this.#last) * bytesPerMs;
    this.#last = now;
    // A link with bytes to carry has used its rate all the time, also when a busy machine runs this
    // timer late.
    if (this.#waiting.size === 0) this.#credit = Math.min(this.#credit, Math.max(PACKET_BYTES, BURST_MS * bytesPerMs));
    while (this.#waiting.size > 0 && (free || this.#credit >= PACKET_BYTES)) {
      const [client, { bytes, origin }] = this.#waiting.entries().next().value;
      const length = free ? bytes.length : Math.min(bytes.length, PACKET_BYTES);
      this.#waiting.delete(client);
      if (client.writable) client.write(bytes.subarray(0, length));
      this.#credit -= length;
      if (length < bytes.length) this.#waiting.set(client, { bytes: bytes.subarray(length), origin });
      else if (origin.destroyed) client.end();
      else origin.resume();
    }
  }
}
