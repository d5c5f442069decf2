// The watch page's decisions, with a player, a network and a clock that the test controls. Run by
// `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

const BASE = 'https://server.example/live/show/';
const media = (id, msn) => `#EXTINF:2.0,\n../../media/${id}/v0/${msn}.m4s\n`;
const END = '#EXT-X-ENDLIST\n';
const MASTER = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001e"\nv0.m3u8\n';
const live = (...lines) => ({ 'master.m3u8': MASTER, 'v0.m3u8': `#EXTM3U\n${lines.join('')}` });

let pages = 0;

class Element extends EventTarget {
  dataset = {};
  hidden = false;
  textContent = '';
}

class Video extends Element {
  currentTime = 0;
  duration = NaN;
  readyState = 4;
  paused = true;
  ended = false;
  seeking = false;
  autoplay = true;
  async play() {
    if (!this.autoplay) throw Object.assign(new Error('autoplay'), { name: 'NotAllowedError' });
    this.paused = false;
    this.dispatchEvent(new Event('play'));
  }
  load() {
    [this.currentTime, this.paused] = [0, true];
  }
  removeAttribute() {}
}

class Hls {
  static Events = { ERROR: 'error', MANIFEST_PARSED: 'parsed', LEVEL_SWITCHED: 'switched' };
  static ErrorTypes = { MEDIA_ERROR: 'media' };
  static isSupported = () => true;
  latestLevelDetails = null;
  handlers = {};
  on(event, handler) {
    this.handlers[event] = handler;
  }
  loadSource() {}
  attachMedia() {}
  destroy() {}
}

// Opens the page. `files` are served by name, a missing one with 404; `advance` runs its timers.
async function open(files, { autoplay = true } = {}) {
  const video = new Video();
  video.autoplay = autoplay;
  const elements = { video };
  const page = { video, files, now: 0, loads: [], asked: [], announced: [] };
  let timers = [];
  let ids = 0;
  const message = new Element();
  Object.defineProperty(message, 'textContent', {
    get: () => page.announced.at(-1) ?? '',
    set: (text) => page.announced.push(text),
  });
  elements.message = message;
  const add = (run, ms, every) => {
    timers.push({ id: ++ids, at: page.now + ms, run, every });
    return ids;
  };
  const clear = (id) => {
    timers = timers.filter((timer) => timer.id !== id);
  };
  // Runs all resolved promises. setImmediate is Node's own; the other timers are the page's.
  const settle = () => new Promise((done) => setImmediate(() => setImmediate(done)));
  const document = new EventTarget();
  document.body = { dataset: {} };
  document.getElementById = (id) => (elements[id] ??= new Element());
  const globals = {
    document,
    window: Object.assign(new EventTarget(), {
      Hls: class extends Hls {
        constructor() {
          super();
          page.hls = this;
          page.loads.push(page.now);
        }
      },
    }),
    location: { pathname: '/watch/show', href: 'https://server.example/watch/show' },
    performance: { now: () => page.now },
    setTimeout: (run, ms) => add(run, ms, null),
    setInterval: (run, ms) => add(run, ms, ms),
    clearTimeout: clear,
    fetch: async (url) => {
      const name = String(url).startsWith(BASE) ? String(url).slice(BASE.length) : 'other';
      page.asked.push({ name, at: page.now });
      const file = page.files[name];
      return file === undefined ? new Response('', { status: 404 }) : new Response(file);
    },
  };
  globals.Hls = globals.window.Hls;
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  Math.random = () => 0.5;

  page.state = () => document.body.dataset.state;
  page.settle = settle;
  // Runs the page for a time; with `plays` the video plays meanwhile.
  page.advance = async (ms, plays = false) => {
    const until = page.now + ms;
    if (plays) video.dispatchEvent(new Event('playing'));
    for (;;) {
      timers.sort((a, b) => a.at - b.at || a.id - b.id);
      const next = timers[0];
      if (next === undefined || next.at > until) break;
      if (plays) video.currentTime += (next.at - page.now) / 1000;
      page.now = next.at;
      if (next.every === null) clear(next.id);
      else next.at += next.every;
      next.run();
      await settle();
    }
    if (plays) video.currentTime += (until - page.now) / 1000;
    page.now = until;
  };
  page.fail = () => page.hls.handlers.error('error', { fatal: true, type: 'other' });
  await import(`../../web/watch.js?${++pages}`);
  await settle();
  return page;
}

// The player has read a list of two-second fragments that ends; the last `gaps` are missing.
function readEnd(page, fragments, gaps = 0) {
  const list = Array.from({ length: fragments }, (_, index) => ({
    end: 2 * (index + 1),
    gap: index >= fragments - gaps,
  }));
  page.hls.latestLevelDetails = { live: false, fragments: list, partList: null };
}

test('a viewer far from the end of an ended broadcast plays the rest', async () => {
  const page = await open(live(media('a', 1)));
  await page.advance(4000, true);
  page.files = live(media('a', 9), END);
  readEnd(page, 10);
  page.video.currentTime = 8;
  await page.advance(4500);
  assert.equal(page.state(), 'waiting');
  assert.equal(page.loads.length, 1);
  // It has loaded the rest, and plays up to its last second.
  await page.advance(11800, true);
  assert.equal(page.state(), 'playing');
  await page.advance(4500);
  assert.equal(page.state(), 'ended');
});

test('missing media at the end are not waited for', async () => {
  const page = await open(live(media('a', 1)));
  await page.advance(4000, true);
  page.files = live(media('a', 9), END);
  readEnd(page, 10, 8);
  await page.advance(4500);
  assert.equal(page.state(), 'ended');
});

test('a player that never reads the end is given up when patience runs out', async () => {
  const page = await open(live(media('a', 1)));
  await page.advance(4000, true);
  page.hls.latestLevelDetails = { live: true, fragments: [{ end: 4 }], partList: null };
  page.files = live(media('a', 9), END);
  await page.advance(5000);
  assert.equal(page.state(), 'waiting');
  await page.advance(5000);
  assert.equal(page.state(), 'ended');
});

test('a broadcast that is not found for a moment is played on, an ended one is not', async () => {
  const page = await open(live(media('a', 1)));
  await page.advance(4000, true);
  page.files = {};
  await page.advance(5000);
  assert.equal(page.state(), 'offline');
  page.files = live(media('a', 2));
  await page.advance(4000, true);
  assert.equal(page.loads.length, 2);
  // A cache responds with a list from before the end.
  page.video.ended = true;
  page.video.dispatchEvent(new Event('ended'));
  await page.advance(20000);
  assert.equal(page.state(), 'ended');
  page.files = live(media('b', 1));
  await page.advance(15000);
  assert.equal(page.loads.length, 3);
});

test('after fatal errors the wait grows and the message stays', async () => {
  const page = await open(live(media('a', 1)));
  const failed = async () => {
    const before = page.loads.length;
    page.fail();
    const at = page.now;
    while (page.loads.length === before) await page.advance(100);
    return page.now - at;
  };
  const waits = [];
  for (let failure = 0; failure < 8; failure++) waits.push(await failed());
  assert.deepEqual(waits, [2000, 3000, 4500, 6800, 10200, 15000, 15000, 15000]);
  assert.equal(page.announced.filter((text) => text.startsWith('Playing has failed')).length, 1);
  // After the player has recovered, the next error counts as the first.
  await page.advance(12000, true);
  assert.equal(page.state(), 'playing');
  assert.equal(await failed(), 2000);
});

test('a page that may not autoplay looks seldom, and its pause is no stall', async () => {
  const page = await open(live(media('a', 1)), { autoplay: false });
  assert.equal(page.state(), 'paused');
  await page.advance(60000);
  assert.ok(page.asked.filter(({ name }) => name === 'master.m3u8').length <= 7);
  page.files = live(media('a', 30));
  page.video.autoplay = true;
  await page.video.play();
  await page.advance(1500);
  await page.advance(12000, true);
  assert.equal(page.loads.length, 1);
});
