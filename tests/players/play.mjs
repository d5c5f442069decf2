// Plays one address in headless Chromium and prints what a viewer would have seen, as one JSON
// object on stdout.
//
//     node play.mjs --player hls|dash|shaka|native|page --url URL [--seconds 20] [--out DIR]
//                   [--latency | --numbers FPS] [--throttle 0:0,8:300,20:0] [--level 2:144,15:auto]
//                   [--tour 144,240,360]
//                   [--back 6:4] [--stall MS] [--wait SECONDS] [--certificate PEM [--http3]]
//                   [--until playing,ended,playing] [--delay SECONDS]
//                   [--reach HEIGHT] [--rise HEIGHT] [--cmcd]
//
// `hls`, `dash` and `shaka` are the players of the packages of those names; `native` is Chromium's
// own HLS player; `page` opens URL itself and observes its video element. All but `page` run in a
// page from another origin, as players do.
//
// A standstill is a fault, but for the times at which the browser waited for a processor (`starved`).
//
// It stops after `--seconds` of playback, or three seconds after the media have ended.
//
// - `--latency` reads the encoder's clock from the strip at the top of the picture (clock.mjs
//   publishes such pictures); `--numbers` reads the number of each picture (see page/strip.js).
// - `--throttle` limits the network, from the given seconds after start-up on, in kilobits a second
//   (0: no limit).
// - `--level` holds the player to the rendition of a height, or to none (auto).
// - `--tour` holds the player to each of these heights in turn, until two seconds after it is shown,
//   and then to none. The seconds of the other options, but those of 0, begin after it.
// - `--back` seeks back by the given seconds, as a viewer does.
// - `--stall` is the time in all for which the player may stand still without a fault.
// - `--wait` is the time between `ready`, when the player's page is loaded, and opening URL.
// - `--certificate` is the one certificate that the browser accepts without an authority: its key
//   is pinned. `--http3` makes the browser use QUIC for URL's host at once; without it QUIC is off.
//   `protocols` in the report holds the protocol of each request, with the browser's names.
// - `--delay` makes Shaka begin this many seconds before the live edge of a DASH manifest, instead of
//   suggestedPresentationDelay.
// - `--cmcd` makes hls.js and dash.js report in their requests (CTA-5004), under a random session.
// - `--until` stops two seconds after the watch page has shown these states in this order, or after
//   `--seconds`.
// - `--reach` begins with the schedule of the other options, but for those of 0, when pictures of this
//   height are shown, or after half a minute.
// - `--rise` plays on after `--seconds`, for half a minute at most, until the height of the pictures
//   has fallen, and risen again to this one or a greater one.
//
// Events during playback are printed on stderr, one JSON object a line: `ready`; `started`; `shown`
// with a height, when pictures of another height appear; `page` with a state, when the watch page
// shows another.
//
// Exit status: 0 when playback was clean, 1 when `faults` is not empty, 2 when playback could not
// be tried.

import { createHash, X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { faultsOf, leastPlayed } from './faults.mjs';
import { protocolsOf, Requests } from './requests.mjs';
import { heightOf, parseSchedule, rateOf, secondsOf } from './schedule.mjs';
import { servePage } from './server.mjs';
import { outside, Starvation } from './starvation.mjs';
import { Throttle } from './throttle.mjs';

const PLAYERS = ['hls', 'dash', 'shaka', 'native', 'page'];
const START_DEADLINE_MS = 40_000;
const CHOICE_DEADLINE_MS = 5_000;
const AFTER_UNTIL_MS = 2_000;
const AFTER_END_MS = 3_000;
const SHOWN_DEADLINE_MS = 20_000;
const AFTER_SHOWN_MS = 2_000;
const RISE_DEADLINE_MS = 30_000;
// Without it the page's state is read with each frame that the browser paints, and it then paints
// 60 frames a second.
const POLLING_MS = 100;

const { values: options } = parseArgs({
  options: {
    player: { type: 'string' },
    url: { type: 'string' },
    seconds: { type: 'string', default: '20' },
    out: { type: 'string' },
    latency: { type: 'boolean', default: false },
    numbers: { type: 'string', default: '0' },
    throttle: { type: 'string' },
    level: { type: 'string' },
    tour: { type: 'string' },
    back: { type: 'string' },
    stall: { type: 'string', default: '0' },
    wait: { type: 'string', default: '0' },
    certificate: { type: 'string' },
    http3: { type: 'boolean', default: false },
    until: { type: 'string' },
    delay: { type: 'string', default: '0' },
    reach: { type: 'string', default: '0' },
    rise: { type: 'string' },
    cmcd: { type: 'boolean', default: false },
  },
});
const seconds = Number(options.seconds);
const fps = Number(options.numbers);
const stallMs = Number(options.stall);
const waitMs = Number(options.wait) * 1000;
const delay = Number(options.delay);
const until = options.until?.split(',');
const rates = parseSchedule(options.throttle, rateOf);
const levels = parseSchedule(options.level, heightOf);
const backs = parseSchedule(options.back, secondsOf);
const tour = options.tour?.split(',').map(Number) ?? [];
if (
  !PLAYERS.includes(options.player) || !URL.canParse(options.url ?? '') || !(seconds > 0) || !(fps >= 0) || !(stallMs >= 0) || !(waitMs >= 0) || !(delay >= 0) ||
  rates === null || levels === null || backs === null || !tour.every((height) => height > 0)
) {
  console.error(
    `usage: play.mjs --player ${PLAYERS.join('|')} --url URL [--seconds N] [--out DIR] [--latency | --numbers FPS]\n` +
      '                [--throttle SECONDS:KBPS,...] [--level SECONDS:HEIGHT,...] [--tour HEIGHT,...] [--back SECONDS:BY,...] [--stall MS]\n' +
      '                [--wait SECONDS] [--certificate PEM [--http3]] [--until STATE,...] [--delay SECONDS] [--reach HEIGHT] [--rise HEIGHT] [--cmcd]',
  );
  process.exit(2);
}

const report = await play().catch((error) => {
  console.error(error);
  process.exit(2);
});
console.log(JSON.stringify(report));
process.exit(report.faults.length === 0 ? 0 : 1);

async function play() {
  const server = await servePage();
  const throttle = options.throttle === undefined ? null : await Throttle.to(options.url);
  const url = throttle?.through(options.url) ?? options.url;
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    timeout: START_DEADLINE_MS,
    args: [
      '--no-sandbox',
      // Pictures are painted by the processor: without these by its imitation of a graphics card.
      '--disable-gpu',
      '--disable-software-rasterizer',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--autoplay-policy=no-user-gesture-required',
      '--mute-audio',
      ...(options.http3 ? ['--enable-quic', `--origin-to-force-quic-on=${new URL(url).host}`] : ['--disable-quic']),
      ...(options.certificate ? [`--ignore-certificate-errors-spki-list=${await pinOf(options.certificate)}`] : []),
    ],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 480, height: 270 } });
    const requests = new Requests(page, url);
    const pageErrors = [];
    page.on('pageerror', (error) => pageErrors.push({ source: 'page', message: String(error) }));
    page.on('console', (message) => {
      // Chromium's own line for an HTTP error repeats one that `requests` counts.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
        pageErrors.push({ source: 'console', message: message.text() });
      }
    });
    await page.exposeFunction('tell', tell);
    const strip = { clock: options.latency, numbers: fps };
    if (options.player === 'page') {
      for (const script of ['strip.js', 'probe.js']) {
        await page.addInitScript({ path: path.join(import.meta.dirname, 'page', script) });
      }
      await page.goto(url, { waitUntil: 'domcontentloaded' });
      await page.waitForSelector('video', { state: 'attached', timeout: START_DEADLINE_MS });
      tell({ event: 'ready' });
      await page.evaluate((strip) => window.probe.watch(document.querySelector('video'), strip), strip);
    } else {
      await page.goto(`${server.origin}/${options.player}.html`);
      tell({ event: 'ready' });
      await page.waitForTimeout(waitMs);
      await page.evaluate(({ url, options }) => void window.start(url, options), { url, options: { ...strip, delay, cmcd: options.cmcd } });
    }

    const started = await page
      .waitForFunction(() => window.probe.started(), null, { polling: POLLING_MS, timeout: START_DEADLINE_MS })
      .then(() => true, () => false);
    const screenshots = [];
    const starvation = new Starvation();
    if (started && until) {
      const passed = await page
        .waitForFunction((states) => window.probe.passed(states), until, { polling: POLLING_MS, timeout: seconds * 1000 })
        .then(() => true, () => false);
      if (passed) await page.waitForTimeout(AFTER_UNTIL_MS);
    } else if (started) {
      // The page itself goes on to the next broadcast.
      const over = options.player === 'page' ? new Promise(() => {}) : end(page);
      await Promise.race([watch(page, throttle, screenshots), over]);
    }
    const { resources, ...seen } = await page.evaluate(() => window.probe.report());
    const starved = starvation.stop();
    // How long it has stood still at the end, without the times at which it was starved.
    const still_for_ms = seen.moved_at === null ? null : outside([seen.moved_at, Date.now()], starved);
    const settled = requests.report();
    await screenshot(page, 'end', screenshots);

    const report = {
      player: options.player,
      url: options.url,
      ...seen,
      still_for_ms,
      errors: [...seen.errors, ...pageErrors],
      requests: settled,
      protocols: protocolsOf(resources, url),
      starved,
      screenshots,
    };
    return { ...report, faults: faultsOf(report, seconds, stallMs) };
  } finally {
    await browser.close();
    await throttle?.close();
    await server.close();
  }
}

// Watches for the time that was asked for, after the tour.
async function watch(page, throttle, screenshots) {
  for (const { at_s, value } of rates) if (at_s === 0) throttle.set(value);
  for (const height of tour) {
    await level(page, height);
    await page
      .waitForFunction((height) => window.probe.height() === height, height, { polling: POLLING_MS, timeout: SHOWN_DEADLINE_MS })
      .catch(() => {});
    await page.waitForTimeout(AFTER_SHOWN_MS);
  }
  if (tour.length > 0) await level(page, null);
  await page
    .waitForFunction((least) => window.probe.height() >= least, Number(options.reach), {
      polling: POLLING_MS,
      timeout: RISE_DEADLINE_MS,
    })
    .catch(() => {});
  await acts(page, [
    ...rates.map(({ at_s, value }) => ({ at_s, act: () => throttle.set(value) })),
    ...levels.map(({ at_s, value }) => ({
      at_s,
      act: () => level(page, value),
    })),
    ...backs.map(({ at_s, value }) => ({ at_s, act: () => page.evaluate((by) => window.probe.back(by), value) })),
    { at_s: seconds / 2, act: () => screenshot(page, 'middle', screenshots) },
    { at_s: seconds, act: () => {} },
  ]);
  // On a busy machine the media clock runs slow without a stall. Playback then lasts longer, for
  // the same media.
  await page
    .waitForFunction((least) => window.probe.played() >= least, leastPlayed(seconds, stallMs), {
      polling: POLLING_MS,
      timeout: seconds * 1000,
    })
    .catch(() => {});
  if (options.rise !== undefined) {
    await page
      .waitForFunction((least) => window.probe.rose(least), Number(options.rise), { polling: POLLING_MS, timeout: RISE_DEADLINE_MS })
      .catch(() => {});
  }
}

// Waits for the end of the media, and then for a player that goes on to ask for more.
async function end(page) {
  await page.waitForFunction(() => window.probe.ended(), null, { polling: POLLING_MS, timeout: 0 });
  await page.waitForTimeout(AFTER_END_MS);
}

function tell(event) {
  console.error(JSON.stringify(event));
}

// SHA-256 of the public key, in base 64 (RFC 7469 2.4).
async function pinOf(certificate) {
  const { publicKey } = new X509Certificate(await readFile(certificate));
  return createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64');
}

// Holds the player to the rendition of a height, or to none with null; on the watch page, through
// its menu.
async function level(page, height) {
  if (options.player !== 'page') return page.evaluate((height) => window.probe.level(height), height);
  await page.selectOption('#quality', height === null ? '' : String(height), { timeout: CHOICE_DEADLINE_MS });
}

// Runs the scheduled actions at their seconds, in order.
async function acts(page, schedule) {
  const start = Date.now();
  for (const { at_s, act } of schedule.toSorted((a, b) => a.at_s - b.at_s)) {
    await page.waitForTimeout(Math.max(0, start + at_s * 1000 - Date.now()));
    await act();
  }
}

async function screenshot(page, name, taken) {
  if (options.out === undefined) return;
  await mkdir(options.out, { recursive: true });
  const file = path.join(options.out, `${options.player}-${name}.png`);
  await page.screenshot({ path: file });
  taken.push(file);
}
