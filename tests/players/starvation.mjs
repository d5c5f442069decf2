// Measures for how long the processes below this one, the browser's, wait for a processor. On a busy
// machine media arrive late and players stand still, whatever serves them.

import { readdirSync, readFileSync } from 'node:fs';

const EVERY_MS = 500;
// The browser is starved while one of its threads waits for more than this share of the time. On two
// cores that play five other browsers, the thread that waits most does so for a tenth.
const SHARE = 0.3;

export class Starvation {
  #starvedMs = 0;
  #at = performance.now();
  #last = waits(process.pid);
  #timer = setInterval(() => this.#sample(), EVERY_MS);

  #sample() {
    const at = performance.now();
    const now = waits(process.pid);
    const waited = Array.from(now, ([thread, ms]) => ms - (this.#last.get(thread) ?? 0));
    if (Math.max(0, ...waited) > SHARE * (at - this.#at)) this.#starvedMs += at - this.#at;
    this.#at = at;
    this.#last = now;
  }

  // The milliseconds for which the browser was starved since this was made.
  stop() {
    clearInterval(this.#timer);
    this.#sample();
    return Math.round(this.#starvedMs);
  }
}

// The milliseconds for which each thread of the descendants of a process has waited while it could
// run: the second field of schedstat, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
// Threads and processes may end meanwhile.
function waits(pid, found = new Map()) {
  for (const thread of list(`/proc/${pid}/task`)) {
    for (const child of read(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean)) {
      for (const of of list(`/proc/${child}/task`)) {
        found.set(of, Number(read(`/proc/${child}/task/${of}/schedstat`).split(' ')[1] ?? 0) / 1e6);
      }
      waits(child, found);
    }
  }
  return found;
}

function list(directory) {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
