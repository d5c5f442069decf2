// Measures how long the machine has no processor time to spare. Media then arrive late and players
// stand still, whatever serves them.

import { readFileSync } from 'node:fs';

const EVERY_MS = 250;
// The machine is busy while less than this share of its processor time is idle.
const SPARE = 0.05;

export class Machine {
  #busyMs = 0;
  #last = ticks();
  #timer = setInterval(() => this.#sample(), EVERY_MS);

  #sample() {
    const now = ticks();
    const all = now.all - this.#last.all;
    if (all > 0 && now.idle - this.#last.idle < SPARE * all) this.#busyMs += EVERY_MS;
    this.#last = now;
  }

  // The milliseconds for which it was busy since this was made.
  stop() {
    clearInterval(this.#timer);
    return this.#busyMs;
  }
}

// Ticks of all processors since the machine's start (proc_stat(5)): user, nice, system, idle, iowait,
// irq, softirq, steal. Work of low priority gives way to players, and stolen time is not idle.
function ticks() {
  const [first] = readFileSync('/proc/stat', 'utf8').split('\n', 1);
  const [user, nice, system, idle, iowait, irq, softirq, steal] = first.trim().split(/\s+/).slice(1, 9).map(Number);
  return { idle: idle + iowait + nice, all: user + nice + system + idle + iowait + irq + softirq + steal };
}
