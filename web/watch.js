// Plays /live/{channel}: hls.js in its low-latency mode, else the browser's own HLS player. While there is nothing to play, it says
// so and looks again.
'use strict';

(() => {
  const RETRY_MS = 3000;
  const LATENCY_EVERY_MS = 500;
  const CLOCK_EVERY_MS = 60000;
  // A stall shorter than this is not worth a word.
  const STALL_MS = 2000;

  const channel = decodeURIComponent(location.pathname.split('/').pop());
  const playlist = `../live/${encodeURIComponent(channel)}/master.m3u8`;
  const video = document.getElementById('video');
  const message = document.getElementById('message');
  const latency = document.getElementById('latency');
  const quality = document.getElementById('quality');

  let hls = null;
  let retry = null;
  let stall = null;
  let recovered = false;
  // The broadcast that has been played to its end: its playlist stays for a while.
  let over = null;
  let broadcast = null;
  // The height that the viewer has chosen; null leaves it to the player.
  let wanted = null;
  // The server's clock minus ours, in milliseconds.
  let offset = null;

  document.title = `${channel} · streamforge`;
  document.getElementById('channel').textContent = channel;

  function show(state, words) {
    document.body.dataset.state = state;
    message.textContent = words;
    if (state !== 'playing') latency.hidden = true;
  }

  function later() {
    clearTimeout(retry);
    retry = setTimeout(look, RETRY_MS);
  }

  function stop() {
    clearTimeout(stall);
    stall = null;
    if (hls) hls.destroy();
    hls = null;
    quality.hidden = true;
    video.removeAttribute('src');
    video.load();
  }

  // What the channel does, and whether there is something to play.
  async function look() {
    let stream;
    try {
      const response = await fetch(`../api/v1/streams/${encodeURIComponent(channel)}`, { cache: 'no-store' });
      if (response.status === 404) {
        show('offline', `${channel} is offline. This page starts playing when it goes live.`);
        return later();
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      stream = await response.json();
    } catch {
      show('unreachable', 'The server cannot be reached. Trying again…');
      return later();
    }
    if (stream.broadcast === over) {
      show('offline', `The broadcast of ${channel} has ended. This page starts playing when it goes live again.`);
      return later();
    }
    if (stream.state === 'away') {
      show('away', `${channel} has lost its connection and may return in a moment.`);
      return later();
    }
    broadcast = stream.broadcast;
    play();
  }

  function play() {
    show('starting', `${channel} is starting…`);
    if (window.Hls && Hls.isSupported()) {
      hls = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.1, backBufferLength: 30 });
      hls.on(Hls.Events.ERROR, (_, error) => {
        if (!error.fatal) return;
        if (error.type === Hls.ErrorTypes.MEDIA_ERROR && !recovered) {
          recovered = true;
          hls.recoverMediaError();
        } else {
          again();
        }
      });
      hls.on(Hls.Events.MANIFEST_PARSED, offerQualities);
      hls.on(Hls.Events.LEVEL_SWITCHED, nameQuality);
      hls.loadSource(playlist);
      hls.attachMedia(video);
    } else if (video.canPlayType('application/vnd.apple.mpegurl')) {
      video.src = playlist;
    } else {
      return show('unsupported', 'This browser can play neither Media Source Extensions nor HLS.');
    }
    // Muted video may start by itself; where even that is forbidden, the controls are there.
    video.play().catch(() => {});
  }

  function again() {
    stop();
    show('starting', 'Playing has failed. Trying again…');
    later();
  }

  // The heights there are, highest first, where there is a choice.
  function offerQualities() {
    const heights = [...new Set(hls.levels.map((level) => level.height))].sort((a, b) => b - a);
    quality.replaceChildren(new Option('Auto', ''), ...heights.map((height) => new Option(`${height}p`, height)));
    quality.value = heights.includes(wanted) ? wanted : '';
    quality.hidden = heights.length < 2;
    choose();
  }

  function choose() {
    wanted = quality.value === '' ? null : Number(quality.value);
    // The best of that height, from what is loaded next on: the buffer is short, and to throw it away would show.
    if (wanted !== null) hls.loadLevel = hls.levels.findLastIndex((level) => level.height === wanted);
    else if (!hls.autoLevelEnabled) hls.loadLevel = -1;
    nameQuality();
  }

  // What is shown while the player chooses.
  function nameQuality() {
    const level = hls.autoLevelEnabled ? hls.levels[hls.currentLevel] : null;
    quality.options[0].text = level ? `Auto (${level.height}p)` : 'Auto';
  }

  async function setClock() {
    try {
      const sent = Date.now();
      const response = await fetch('../time', { cache: 'no-store' });
      const server = Date.parse((await response.text()).trim());
      if (response.ok && !Number.isNaN(server)) offset = server - (sent + Date.now()) / 2;
    } catch {
      // The old offset, or none, until the next time.
    }
  }

  // The wall clock of the picture that is shown, in milliseconds.
  function shownAt() {
    if (hls) return hls.playingDate ? hls.playingDate.getTime() : NaN;
    const start = video.getStartDate ? video.getStartDate().getTime() : NaN;
    return start + video.currentTime * 1000;
  }

  function showLatency() {
    const behind = (Date.now() + offset - shownAt()) / 1000;
    const known = offset !== null && document.body.dataset.state === 'playing' && behind > -1 && behind < 86400;
    latency.hidden = !known;
    if (known) latency.textContent = `${Math.max(behind, 0).toFixed(1)} s behind live`;
  }

  video.addEventListener('playing', () => {
    clearTimeout(stall);
    stall = null;
    recovered = false;
    show('playing', '');
  });
  video.addEventListener('waiting', () => {
    stall ??= setTimeout(() => {
      stall = null;
      show('waiting', 'Waiting for the stream…');
    }, STALL_MS);
  });
  video.addEventListener('ended', () => {
    over = broadcast;
    stop();
    look();
  });
  video.addEventListener('error', () => {
    // hls.js tells of its own.
    if (!hls && video.hasAttribute('src')) again();
  });

  quality.addEventListener('change', choose);

  setClock();
  setInterval(setClock, CLOCK_EVERY_MS);
  setInterval(showLatency, LATENCY_EVERY_MS);
  look();
})();
