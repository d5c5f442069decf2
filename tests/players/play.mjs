// Plays one address in headless Chromium and says what a viewer would have seen, as one JSON object on stdout.
//
//   node play.mjs --player hls|dash|shaka|native|page --url URL [--seconds 20] [--out DIR] [--latency]
//
// `hls`, `dash` and `shaka` are the players of the packages of those names; `native` is Chromium's own HLS player; `page` opens
// URL itself and watches the video element it finds. All but `page` run in a page from an origin of its own, as players do.
// --latency reads the encoder's clock from the strip at the top of the picture (see page/probe.js).
// Exit status: 0 when playback was clean, 1 when `faults` is not empty, 2 when nothing could be tried.

import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { faultsOf } from './faults.mjs';
import { Requests } from './requests.mjs';
import { servePage } from './server.mjs';

const PLAYERS = ['hls', 'dash', 'shaka', 'native', 'page'];
const START_DEADLINE_MS = 40_000;

const { values: options } = parseArgs({
  options: {
    player: { type: 'string' },
    url: { type: 'string' },
    seconds: { type: 'string', default: '20' },
    out: { type: 'string' },
    latency: { type: 'boolean', default: false },
  },
});
const seconds = Number(options.seconds);
if (!PLAYERS.includes(options.player) || !URL.canParse(options.url ?? '') || !(seconds > 0)) {
  console.error(`usage: play.mjs --player ${PLAYERS.join('|')} --url URL [--seconds N] [--out DIR] [--latency]`);
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
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--autoplay-policy=no-user-gesture-required',
      '--mute-audio',
    ],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 960, height: 540 } });
    const requests = new Requests(page, options.url);
    const pageErrors = [];
    page.on('pageerror', (error) => pageErrors.push({ source: 'page', message: String(error) }));
    page.on('console', (message) => {
      // Chromium's own line for an HTTP error repeats what `requests` counts.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
        pageErrors.push({ source: 'console', message: message.text() });
      }
    });
    if (options.player === 'page') {
      await page.addInitScript({ path: path.join(import.meta.dirname, 'page', 'probe.js') });
      await page.goto(options.url, { waitUntil: 'domcontentloaded' });
      await page.waitForSelector('video', { state: 'attached', timeout: START_DEADLINE_MS });
      await page.evaluate(
        (latency) => window.probe.watch(document.querySelector('video'), { latency }),
        options.latency,
      );
    } else {
      await page.goto(`${server.origin}/${options.player}.html`);
      await page.evaluate(({ url, latency }) => void window.start(url, { latency }), options);
    }

    const started = await page
      .waitForFunction(() => window.probe.started(), null, { timeout: START_DEADLINE_MS })
      .then(() => true, () => false);
    const screenshots = [];
    if (started) {
      await page.waitForTimeout(seconds * 500);
      await screenshot(page, 'middle', screenshots);
      await page.waitForTimeout(seconds * 500);
    }
    const seen = await page.evaluate(() => window.probe.report());
    const settled = requests.report();
    await screenshot(page, 'end', screenshots);

    const report = {
      player: options.player,
      url: options.url,
      ...seen,
      errors: [...seen.errors, ...pageErrors],
      requests: settled,
      screenshots,
    };
    return { ...report, faults: faultsOf(report, seconds) };
  } finally {
    await browser.close();
    await server.close();
  }
}

async function screenshot(page, name, taken) {
  if (options.out === undefined) return;
  await mkdir(options.out, { recursive: true });
  const file = path.join(options.out, `${options.player}-${name}.png`);
  await page.screenshot({ path: file });
  taken.push(file);
}
