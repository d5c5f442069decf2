// How the watch page reads playlists, and the state of the channel that follows from them. Run by
// `node --test`.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { parseMedia, parseMultivariant, read } from '../../web/channel.js';

const BASE = 'https://server.example/t/token/live/show/';
const ID = '01890a5d-ac96-774b-bcce-b302099a8057';

const master = (codecs, { audio = false, rate = 1000, more = '' } = {}) =>
  '#EXTM3U\n#EXT-X-VERSION:9\n' +
  (audio ? '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="a0",DEFAULT=YES,URI="a0.m3u8"\n' : '') +
  `#EXT-X-STREAM-INF:BANDWIDTH=${rate},AVERAGE-BANDWIDTH=${rate},CODECS="${codecs}",RESOLUTION=640x360\nv0.m3u8\n${more}`;
const segment = (track, msn) => `#EXTINF:2.000000,\n../../media/${ID}/${track}/${msn}.m4s\n`;
const part = (track, msn, index, more = '') =>
  `#EXT-X-PART:DURATION=0.2,URI="../../media/${ID}/${track}/${msn}.${index}.m4s"${more}\n`;
const hint = `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="../../media/${ID}/v0/9.9.m4s"\n`;
const list = (...lines) => `#EXTM3U\n#EXT-X-TARGETDURATION:2\n${lines.join('')}`;

const fetchOfNode = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = fetchOfNode;
});

// Serves texts by name; a number is a status, `null` means no response.
function serve(files, headers = {}) {
  const asked = [];
  globalThis.fetch = async (url, { cache }) => {
    assert.equal(cache, 'no-cache');
    assert.ok(url.href.startsWith(BASE), url.href);
    const name = url.href.slice(BASE.length);
    asked.push(name);
    const file = files[name];
    if (file === null) throw new TypeError('no answer');
    return typeof file === 'string' ? new Response(file, { headers }) : new Response('no', { status: file ?? 404, headers });
  };
  return asked;
}

test('rates, levels and renditions do not change the kinds, families and audio do', () => {
  const kinds = (...of) => parseMultivariant(master(...of)).kinds;
  const usual = kinds('avc1.64001e,mp4a.40.2', { audio: true });
  assert.equal(kinds('avc1.640028,mp4a.40.5', { audio: true, rate: 9 }), usual);
  const rung = '#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.42c01e,mp4a.40.2"\nv360.m3u8\n';
  const laddered = parseMultivariant(master('avc1.64001e,mp4a.40.2', { audio: true, more: rung }));
  assert.equal(laddered.kinds, usual);
  assert.equal(laddered.tracks, 'a0.m3u8 v0.m3u8 v360.m3u8');
  assert.deepEqual(laddered.playlists, ['v0.m3u8', 'a0.m3u8']);
  for (const other of [kinds('avc1.64001e'), kinds('hvc1.1.6.L93.B0,mp4a.40.2', { audio: true }), kinds('mp4a.40.2')]) {
    assert.notEqual(other, usual);
  }
  assert.deepEqual(parseMultivariant('').playlists, []);
});

test('a media playlist is away while the newest that it lists is missing', () => {
  const gap = (msn) => `#EXT-X-GAP\n${segment('v0', msn)}`;
  for (const [text, newest, away] of [
    [list(segment('v0', 1), hint), '1', false],
    [list(segment('v0', 1), part('v0', 2, 0), hint), '2.0', false],
    [list(segment('v0', 1), part('v0', 2, 0, ',GAP=YES')), '1', true],
    [list(segment('v0', 1), gap(2)), '1', true],
    [list(segment('v0', 1), gap(2), part('v0', 3, 0, ',INDEPENDENT=YES')), '3.0', false],
    [list(segment('v0', 1), part('v0', 2, 0, ',GAP=YES'), '#EXT-X-GAP\n', part('v0', 2, 1, ',GAP=YES'), segment('v0', 2)), '1', true],
  ]) {
    const seen = parseMedia(text);
    assert.deepEqual([seen.newest, seen.away], [`../../media/${ID}/v0/${newest}.m4s`, away]);
    assert.deepEqual([seen.broadcast, seen.ended], [ID, false]);
  }
  assert.deepEqual(parseMedia(list(gap(1))), { newest: '', away: true, ended: false, broadcast: null });
  assert.equal(parseMedia(list(segment('v0', 1), '#EXT-X-ENDLIST\n')).ended, true);
});

test('the state of a channel is that of its playlists', async () => {
  const both = master('avc1.64001e,mp4a.40.2', { audio: true });
  const [media, gone, end] = [segment('v0', 1), part('v0', 2, 0, ',GAP=YES'), '#EXT-X-ENDLIST\n'];
  for (const [files, state] of [
    [{}, 'offline'],
    [{ 'master.m3u8': 410 }, 'offline'],
    [{ 'master.m3u8': 503 }, 'starting'],
    [{ 'master.m3u8': 502 }, 'unreachable'],
    [{ 'master.m3u8': null }, 'unreachable'],
    [{ 'master.m3u8': both }, 'unreachable'],
    [{ 'master.m3u8': both, 'v0.m3u8': list(media), 'a0.m3u8': list(media) }, 'live'],
    [{ 'master.m3u8': both, 'v0.m3u8': list(media), 'a0.m3u8': 404 }, 'live'],
    // Audio continues.
    [{ 'master.m3u8': both, 'v0.m3u8': list(media, gone), 'a0.m3u8': list(media) }, 'live'],
    [{ 'master.m3u8': both, 'v0.m3u8': list(media, gone), 'a0.m3u8': list(media, gone) }, 'away'],
    [{ 'master.m3u8': both, 'v0.m3u8': list(media, gone, end), 'a0.m3u8': list(media, end) }, 'ended'],
  ]) {
    serve(files);
    const seen = await read(new URL(BASE), true);
    assert.equal(seen.state, state, JSON.stringify(files));
    if (state === 'live') assert.equal(seen.broadcast, ID);
  }
});

test('one small request is enough while the player plays, and Retry-After is heard', async () => {
  const asked = serve({ 'master.m3u8': master('avc1.64001e') }, { 'retry-after': '7' });
  assert.equal((await read(new URL(BASE), false)).state, 'live');
  assert.deepEqual(asked, ['master.m3u8']);
  serve({ 'master.m3u8': 503 }, { 'retry-after': '7' });
  assert.deepEqual(await read(new URL(BASE), true), { state: 'starting', retryMs: 7000 });
});

test('a server is given ten seconds, also without AbortSignal.timeout', async (context) => {
  const { timeout } = AbortSignal;
  context.after(() => {
    AbortSignal.timeout = timeout;
  });
  AbortSignal.timeout = undefined;
  serve({ 'master.m3u8': master('avc1.64001e') });
  assert.equal((await read(new URL(BASE), false)).state, 'live');
  context.mock.timers.enable({ apis: ['setTimeout'] });
  globalThis.fetch = (_, { signal }) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const seen = read(new URL(BASE), false);
  context.mock.timers.tick(10_000);
  assert.equal((await seen).state, 'unreachable');
});
