// Measures when the processes below this one, the browser's, wait for a processor. On a busy machine
// media arrive late and players stand still, whatever serves them.

import { readdirSync, readFileSync } from 'node:fs';

const EVERY_MS = 500;
// The browser is starved while one of its threads waits for more than this share of the time. On two
// cores that play five other browsers, the thread that waits most does so for a tenth.
const SHARE = 0.3;
// A player that was starved needs this time to fill its buffer and to go on.
const AFTER_MS = 2_000;

export class Starvation {
  // The times of starvation, each with the time to recover: [from, to] in milliseconds since 1970.
  // In order, and apart from each other.
  #times = [];
  #at = Date.now();
  #last = waits(process.pid);
  #timer = setInterval(() => this.#sample(), EVERY_MS);

  #sample() {
    const at = Date.now();
    const now = waits(process.pid);
    const waited = Array.from(now, ([thread, ms]) => ms - (this.#last.get(thread) ?? ms));
    if (Math.max(0, ...waited) > SHARE * (at - this.#at)) {
      const last = this.#times.at(-1);
      if (last !== undefined && last[1] >= this.#at) last[1] = at + AFTER_MS;
      else this.#times.push([this.#at, at + AFTER_MS]);
    }
    this.#at = at;
    // One that is missing from this reading may be back in the next.
    this.#last = new Map([...this.#last, ...now]);
  }

  // The times of starvation since this was made.
  stop() {
    clearInterval(this.#timer);
    this.#sample();
    return this.#times;
  }
}

// The milliseconds of [from, to] that are not within `times`.
export function outside([from, to], times) {
  const within = times.map(([start, end]) => Math.max(0, Math.min(end, to) - Math.max(start, from)));
  return to - from - within.reduce((sum, ms) => sum + ms, 0);
}

// The milliseconds for which each thread of the descendants of a process has waited while it could
// run: the second field of schedstat, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
// Threads of low priority do not play. Threads and processes may end meanwhile.
function waits(pid, found = new Map()) {
  for (const thread of list(`/proc/${pid}/task`)) {
    for (const child of read(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean)) {
      for (const of of list(`/proc/${child}/task`)) {
        const directory = `/proc/${child}/task/${of}`;
        if (niceness(read(`${directory}/stat`)) > 0) continue;
        found.set(of, Number(read(`${directory}/schedstat`).split(' ')[1] ?? 0) / 1e6);
      }
      waits(child, found);
    }
  }
  return found;
}

// The 19th field of stat (proc_pid_stat(5)). The second is a name in parentheses.
function niceness(stat) {
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16] ?? 0);
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
