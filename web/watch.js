// Plays /live/{channel}: with hls.js in its low-latency mode, else with the browser's own HLS
// player.
//
// The page follows the state of the channel in its playlists rather than events of the player. It
// polls, seldom while the player plays, and plays whatever media there are.

import { read } from './channel.js';

const LOOK = {
  // While the channel plays.
  playing: 10000,
  // While the channel should play and does not.
  stuck: 2000,
  // While there is nothing to play: the first wait, the growth factor, and the longest wait.
  first: 2000,
  growth: 1.5,
  longest: 15000,
};
// A shorter stall is not worth a message.
const STALL_MS = 2000;
// A player that stands still for this time although there are new media is restarted; the time
// grows with each restart.
const PATIENCE_MS = 6000;
const MAX_PATIENCE_MS = 60000;
// Limit of the wait that the server may request.
const MAX_RETRY_MS = 60000;
// A player that has played for this time counts as recovered.
const WELL_MS = 10000;
// A player that stands still this close to the end of an ended broadcast has played it; in seconds.
const END_S = 1;
const PROGRESS_EVERY_MS = 500;
const CLOCK_EVERY_MS = 60000;
const DETAILS_EVERY_MS = 30000;

const channel = decodeURIComponent(location.pathname.split('/').pop());
const base = new URL(`../live/${encodeURIComponent(channel)}/`, location.href);
const playlist = new URL('master.m3u8', base).href;
const element = (id) => document.getElementById(id);
const video = element('video');
const latency = element('latency');
const quality = element('quality');
const details = element('details');

const BADGES = { playing: 'live', waiting: 'live', paused: 'live', away: 'away', ended: 'ended' };
// States in which a source is loaded and the player stands still.
const STANDING = ['waiting', 'away', 'unreachable'];
const WORDS = {
  starting: `${channel} is starting…`,
  waiting: 'Waiting for the stream…',
  paused: 'Press play to watch.',
  away: `${channel} has lost its connection and may return in a moment.`,
  ended: `The broadcast of ${channel} has ended. This page starts playing when it goes live again.`,
  offline: `${channel} is offline. This page starts playing when it goes live.`,
  unreachable: 'The server cannot be reached. Trying again…',
  failed: 'Playing has failed. Trying again…',
  unsupported: 'This browser can play neither Media Source Extensions nor HLS.',
};

// The loaded source: the state of the channel when it was loaded, and its player; null if none is.
let source = null;
// The broadcast that has been played to its end; its playlists remain for a while.
let over = null;
// The number of polls since there was something to play.
let looks = 0;
// Fatal errors of the player since it last played without fault: the wait before it is loaded again
// grows with them.
let failures = 0;
let timer = null;
let looking = false;
// The viewer has paused, and the source has to be replaced when they resume.
let renew = false;
// The height that the viewer has chosen; null leaves the choice to the player.
let wanted = null;
// The server's clock minus the local clock, in milliseconds.
let offset = null;

document.title = `${channel} · streamforge`;
element('channel').textContent = channel;

// The visible state. Screen readers announce the message, so it is only written when it changes.
function show(state) {
  document.body.dataset.state = state;
  const message = WORDS[state] ?? '';
  if (element('message').textContent !== message) element('message').textContent = message;
  element('badge').textContent = BADGES[state] ?? 'offline';
  if (state !== 'playing') latency.hidden = true;
}

// Polls the channel, acts on its state, and schedules the next poll.
async function look() {
  if (looking) return;
  looking = true;
  clearTimeout(timer);
  let retryMs = 0;
  try {
    retryMs = await lookOnce();
  } finally {
    looking = false;
    if (document.body.dataset.state !== 'unsupported') lookLater(retryMs);
  }
}

// Schedules the next poll after the interval, or after `leastMs` if that is longer. The random part
// spreads the requests of viewers that wait for the same stream.
function lookLater(leastMs = 0) {
  clearTimeout(timer);
  timer = setTimeout(look, Math.max(interval() * (0.8 + 0.4 * Math.random()), leastMs));
}

// Returns the wait that the server requests.
async function lookOnce() {
  noteProgress();
  const before = source;
  const closely = before === null || isStuck();
  const seen = await read(base, closely);
  noteProgress();
  if (seen.broadcast && seen.broadcast === over && seen.state !== 'offline') seen.state = 'ended';
  if (seen.state === 'starting' || seen.state === 'away') looks = 0;
  // A player that has ended or failed meanwhile requires the media playlists.
  if (source === before || closely) {
    if (source === null) begin(seen);
    else follow(seen);
  }
  return Math.min(seen.retryMs ?? 0, MAX_RETRY_MS);
}

function lookNow() {
  looks = 0;
  look();
}

function interval() {
  // A paused player waits for the viewer, also where the browser has forbidden autoplay.
  if (source !== null) {
    const isStarting = !source.moved && !video.paused;
    return isStuck() || isStarting ? LOOK.stuck : LOOK.playing;
  }
  return Math.min(LOOK.first * LOOK.growth ** looks++, LOOK.longest);
}

// No source is loaded.
function begin(seen) {
  if (seen.state === 'live') load(seen);
  else show(seen.state);
}

// A source is loaded.
function follow(seen) {
  if (seen.kinds !== undefined && seen.kinds !== source.kinds) return reload(seen);
  if (!isStuck()) return;
  const moves = seen.state === 'live' && seen.newest !== source.newest;
  source.newest = seen.newest;
  source.broadcast = seen.broadcast ?? source.broadcast;
  if (seen.state === 'offline') return unload('offline');
  const impatient = performance.now() - source.patience.since > source.patience.ms;
  if (seen.state === 'ended') {
    // After a seek or on a slow network the player stands still before the end, and plays the rest
    // when it has loaded it.
    if (impatient || isAtEnd()) end();
    else show('waiting');
    return;
  }
  if (moves && (impatient || seen.tracks !== source.tracks)) return reload(seen);
  if (moves) return;
  // The player cannot continue without media, so it gets its time again when there are some.
  source.patience.since = performance.now();
  show(seen.state === 'live' ? 'waiting' : seen.state);
}

// Whether the player should be playing, and has not for some time.
function isStuck() {
  return source !== null && !video.paused && performance.now() - source.progress.at > STALL_MS;
}

// Whether the position is at the end of the media. False until the player itself has read the end
// of the playlist, because an older playlist may end long before. Missing media at the end do not
// count.
function isAtEnd() {
  if (source.hls === null) return video.duration - video.currentTime < END_S;
  const details = source.hls.latestLevelDetails;
  if (!details || details.live) return false;
  const media = [...details.fragments, ...(details.partList ?? [])].filter(({ gap }) => !gap);
  return Math.max(0, ...media.map(({ end }) => end)) - video.currentTime < END_S;
}

function load(seen, patienceMs = PATIENCE_MS) {
  const now = performance.now();
  source = {
    ...seen,
    hls: null,
    // Whether it has ever played, and since when it has played without a pause.
    moved: false,
    well: now,
    progress: { at: now, position: 0 },
    patience: { since: now, ms: patienceMs },
    recovered: false,
  };
  looks = 0;
  renew = false;
  // After a fatal error the message remains until the player plays, so that it is announced once.
  if (document.body.dataset.state !== 'failed') show('starting');
  if (window.Hls?.isSupported()) {
    const hls = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.1, backBufferLength: 30 });
    source.hls = hls;
    hls.on(Hls.Events.ERROR, (_, error) => {
      if (!error.fatal || source?.hls !== hls) return;
      if (error.type === Hls.ErrorTypes.MEDIA_ERROR && !source.recovered) {
        source.recovered = true;
        hls.recoverMediaError();
      } else {
        fail();
      }
    });
    hls.on(Hls.Events.MANIFEST_PARSED, offerQualities);
    hls.on(Hls.Events.LEVEL_SWITCHED, nameQuality);
    hls.loadSource(playlist);
    hls.attachMedia(video);
  } else if (video.canPlayType('application/vnd.apple.mpegurl')) {
    video.src = playlist;
  } else {
    source = null;
    return show('unsupported');
  }
  // Muted video may start without a click; where even that is forbidden, the viewer starts it.
  video.play().catch((error) => {
    if (error.name === 'NotAllowedError') show('paused');
  });
  showDetails();
}

function unload(state) {
  source?.hls?.destroy();
  source = null;
  quality.hidden = true;
  details.hidden = true;
  video.removeAttribute('src');
  video.load();
  show(state);
}

// The broadcast has ended according to its playlists, and has been played. Another may follow.
function end() {
  over = source.broadcast;
  failures = 0;
  unload('ended');
}

// Restarts the player on the current media; if the viewer has paused, when they resume.
function reload(seen) {
  if (video.paused && source.moved) {
    renew = true;
    return;
  }
  const { ms } = source.patience;
  unload('starting');
  load(seen, Math.min(2 * ms, MAX_PATIENCE_MS));
}

// The player has given up. The next poll determines whether there is something to play. It is
// delayed further after each failure, because a codec that the browser lacks fails every time.
function fail() {
  looks = failures++;
  unload('failed');
  // A poll in progress sets the timer itself.
  if (!looking) lookLater();
}

function noteProgress() {
  if (source === null || video.currentTime === source.progress.position) return;
  const now = performance.now();
  if (now - source.progress.at > STALL_MS) source.well = now;
  source.moved ||= video.readyState >= 3 && !video.paused && !video.seeking;
  source.progress = { at: now, position: video.currentTime };
  source.patience.since = now;
  if (now - source.well > WELL_MS) {
    [source.patience.ms, source.recovered] = [PATIENCE_MS, false];
    failures = 0;
  }
  if (!video.paused && STANDING.includes(document.body.dataset.state)) show('playing');
}

function watchProgress() {
  noteProgress();
  if (isStuck() && document.body.dataset.state === 'playing') {
    show('waiting');
    look();
  }
  showLatency();
}

// The available heights, highest first, if there is a choice.
function offerQualities() {
  const heights = [...new Set(source.hls.levels.map((level) => level.height))].sort((a, b) => b - a);
  quality.replaceChildren(new Option('Auto', ''), ...heights.map((height) => new Option(`${height}p`, height)));
  quality.value = heights.includes(wanted) ? wanted : '';
  quality.hidden = heights.length < 2;
  choose();
}

function choose() {
  const { hls } = source;
  wanted = quality.value === '' ? null : Number(quality.value);
  // The best level of that height, from the next load on. The buffer is short, and dropping it
  // would be visible.
  if (wanted !== null) hls.loadLevel = hls.levels.map((level) => level.height).lastIndexOf(wanted);
  else if (!hls.autoLevelEnabled) hls.loadLevel = -1;
  nameQuality();
}

// The label while the player chooses.
function nameQuality() {
  const { hls } = source;
  const level = hls.autoLevelEnabled ? hls.levels[hls.currentLevel] : null;
  quality.options[0].text = level ? `Auto (${level.height}p)` : 'Auto';
}

// The source's entry in the list of streams, if there is one: an edge has none, and that of a
// private channel is for the administrator.
async function showDetails() {
  if (/\/t\/[^/]+\/watch\/[^/]*$/.test(location.pathname)) return;
  const shown = source;
  while (source === shown && shown !== null) {
    let stream = null;
    try {
      const response = await fetch(`../api/v1/streams/${encodeURIComponent(channel)}`, { cache: 'no-store' });
      if (!response.ok) return;
      stream = await response.json();
    } catch {
      // The next poll tries again.
    }
    if (source !== shown) return;
    const advice = stream?.advice ?? '';
    const interval = stream?.keyframe_interval_s ? `A key frame comes each ${stream.keyframe_interval_s.toFixed(1)} s.` : '';
    details.hidden = advice === '';
    element('advice').textContent = [interval, advice].filter(Boolean).join(' ');
    await new Promise((resolve) => setTimeout(resolve, DETAILS_EVERY_MS));
  }
}

async function setClock() {
  try {
    const sent = Date.now();
    const response = await fetch('../time', { cache: 'no-store' });
    const server = Date.parse((await response.text()).trim());
    if (response.ok && !Number.isNaN(server)) offset = server - (sent + Date.now()) / 2;
  } catch {
    // The old offset, or none, remains until the next poll.
  }
}

// The wall-clock time of the picture on display, in milliseconds.
function shownAt() {
  if (source?.hls) return source.hls.playingDate ? source.hls.playingDate.getTime() : NaN;
  const start = video.getStartDate ? video.getStartDate().getTime() : NaN;
  return start + video.currentTime * 1000;
}

function showLatency() {
  const behind = (Date.now() + offset - shownAt()) / 1000;
  const known = offset !== null && document.body.dataset.state === 'playing' && behind > -1 && behind < 86400;
  latency.hidden = !known;
  if (known) latency.textContent = `${Math.max(behind, 0).toFixed(1)} s behind live`;
}

video.addEventListener('playing', () => source && show('playing'));
video.addEventListener('play', () => {
  if (source === null) return;
  // A pause is not a stall, and the player has not played during it.
  const now = performance.now();
  [source.progress.at, source.patience.since, source.well] = [now, now, now];
  if (renew) {
    source.moved = false;
    lookNow();
  }
});
video.addEventListener('pause', () => {
  // The viewer causes this wait.
  if (source?.moved && !video.ended) show('paused');
});
video.addEventListener('ended', () => {
  if (source === null) return;
  end();
  lookNow();
});
video.addEventListener('error', () => {
  // hls.js reports its own errors.
  if (source !== null && source.hls === null) fail();
});
quality.addEventListener('change', choose);
document.addEventListener('visibilitychange', () => document.hidden || lookNow());
window.addEventListener('online', lookNow);

setClock();
setInterval(setClock, CLOCK_EVERY_MS);
setInterval(watchProgress, PROGRESS_EVERY_MS);
look();
