// Faults that a viewer would notice, as texts. An empty list is a clean playback. Stalls are
// reported if they last more than `atMostMs` in all, without the times at which the browser was
// starved. However starved it was, it must play a third of the time.

import { outside } from './starvation.mjs';

// Errors of hls.js that are not fatal, and report a stall, a buffer that is slow, or the requests that
// hls.js then aborts.
const OF_A_STALL = /bufferStalledError|bufferNudgeOnStall|still processing an 'appendBuffer'|networkError aborted/;

// The most seconds by which a position is read late.
const LATE_S = 1;

export function faultsOf(report, seconds, atMostMs = 0) {
  const { starved } = report;
  const starvedMs = Math.min(starved.reduce((sum, [from, to]) => sum + to - from, 0), seconds * 500);
  const errors = report.errors.filter(({ fatal, message }) => !(starvedMs > 0 && fatal === false && OF_A_STALL.test(message)));
  if (report.startup_ms === null) return ['playback never started', ...report.errors.map(errorText), ...refused(report)];
  const faults = [...errors.map(errorText), ...refused(report)];
  for (const { url, reason } of report.requests.failed) faults.push(`${reason}: ${url}`);
  const { stalls, jumps, played_s: played, pictures, numbers } = report;
  const ours = stalls.times.reduce((sum, time) => sum + outside(time, starved), 0);
  if (ours > atMostMs) faults.push(`${stalls.count} stalls after start-up, ${Math.round(stalls.total_ms)} ms in all`);
  // A page that is starved reads the position late, and what was played meanwhile looks like a jump.
  const isLate = ({ from, to, at }) => to - from > 0 && to - from < LATE_S && outside([at - 1, at], starved) === 0;
  for (const { from, to } of jumps.filter((jump) => !isLate(jump))) faults.push(`jumped from ${from.toFixed(3)} s to ${to.toFixed(3)} s`);
  if (played < Math.max(seconds / 3, leastPlayed(seconds, atMostMs + starvedMs))) faults.push(`played ${played.toFixed(1)} s of ${seconds} s`);
  // Players that catch up play up to 5 % faster or slower. Shaka sets the rate to 0 in a stall.
  for (const { at_s: at, rate } of report.states) if (rate > 0 && rate < 0.9) faults.push(`played at a rate of ${rate}, ${at} s in`);
  // Five pictures a second are sampled. Half of them must differ from all others, and at least a
  // quarter in a browser that is starved, which leaves pictures out.
  const least = (pictures.sampled / 2) * (1 - starvedMs / (seconds * 1000));
  if (pictures.sampled === 0 || pictures.distinct < least) faults.push(`${pictures.distinct} distinct pictures of ${pictures.sampled}`);
  for (const { from, to, at_s: at } of numbers?.back ?? []) faults.push(`picture ${to} after ${from}, ${at.toFixed(1)} s in`);
  return faults;
}

// The least seconds of media that a clean playback of `seconds` plays: players may catch up, and half
// a second is for timers.
export function leastPlayed(seconds, stallMs) {
  return (seconds - stallMs / 1000) * 0.9 - 0.5;
}

const errorText = ({ source, message }) => `${source}: ${message}`;

const refused = (report) => report.requests.refused.map(({ url, status }) => `HTTP ${status}: ${url}`);
