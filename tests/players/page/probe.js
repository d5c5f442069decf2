// Observes one video element: start-up, stalls, jumps, changes of the picture, and with `Strip` the
// data drawn into the pictures.

(() => {
  const PROGRESS_EVERY_MS = 50;
  const PICTURE_EVERY_MS = 200;
  const STATE_EVERY_MS = 1000;
  const STALL_AFTER_MS = 350;
  // A position that is this far ahead of the clock was set, not played.
  const JUMP_S = 0.4;

  let video = null;
  let player = { latency: () => null, estimate: () => null, level: null };
  let strip = null;
  let loadedAt = 0;
  let startedAt = null;
  let last = null;
  let stalledSince = null;
  let played = 0;
  let frozen = false;
  // `times`: [from, to] of each stall, in milliseconds since 1970.
  const stalls = { count: 0, total_ms: 0, times: [], waiting_events: 0, stalled_events: 0 };
  // `at`: milliseconds since 1970.
  const jumps = [];
  const errors = [];
  const hashes = new Set();
  let sampled = 0;
  let pictureError = null;
  const reported = [];
  const switches = [];
  const states = [];
  // All requests: the page's own list ends after 250.
  const resources = [];
  new PerformanceObserver((list) => {
    for (const { name, nextHopProtocol } of list.getEntries()) resources.push({ url: name, protocol: nextHopProtocol });
  }).observe({ type: 'resource', buffered: true });

  const picture = new OffscreenCanvas(160, 90).getContext('2d', { willReadFrequently: true });

  function fnv1a(words) {
    let hash = 0x811c9dc5;
    for (const word of words) hash = Math.imul(hash ^ word, 0x01000193);
    return hash >>> 0;
  }

  function samplePicture() {
    if (video.readyState < 2) return;
    try {
      picture.drawImage(video, 0, 0, 160, 90);
      hashes.add(fnv1a(new Uint32Array(picture.getImageData(0, 0, 160, 90).data.buffer)));
      sampled++;
    } catch (error) {
      pictureError ??= String(error);
    }
  }

  // The player's state, for the reader of a report.
  function sampleState() {
    const { buffered, currentTime: position } = video;
    const ends = Array.from({ length: buffered.length }, (_, range) => buffered.end(range));
    const ahead = Math.max(0, (ends.find((end) => end >= position) ?? position) - position);
    const estimate = player.estimate();
    states.push({
      at_s: Math.round(seconds(performance.now())),
      height: video.videoHeight,
      buffer_s: Number(ahead.toFixed(2)),
      rate: video.playbackRate,
      latency_s: player.latency(),
      estimate_kbps: estimate === null ? null : Math.round(estimate / 1000),
    });
  }

  // Since start-up.
  function seconds(now) {
    return startedAt === null ? 0 : (now - startedAt) / 1000;
  }

  function sampleProgress() {
    const now = performance.now();
    const position = video.currentTime;
    if (last === null) {
      last = { now, position };
      return;
    }
    const moved = position - last.position;
    const passed = (now - last.now) / 1000;
    if (startedAt === null) {
      if (moved > 0 && !video.paused && !video.seeking && video.readyState >= 3) {
        startedAt = now;
        strip.start(now);
        tell('started');
      }
      last = { now, position };
      return;
    }
    if (moved === 0) {
      if (now - last.now >= STALL_AFTER_MS && stalledSince === null && !video.ended) stalledSince = last.now;
      return;
    }
    if (stalledSince !== null) endStall(now);
    if (moved < 0 || moved > passed * 1.2 + JUMP_S) {
      jumps.push({ from: last.position, to: position, at_s: seconds(now), at: Math.round(performance.timeOrigin + now) });
    } else {
      played += moved;
    }
    last = { now, position };
  }

  function endStall(now) {
    stalls.count++;
    stalls.total_ms += now - stalledSince;
    stalls.times.push([stalledSince, now].map((at) => Math.round(performance.timeOrigin + at)));
    stalledSince = null;
  }

  function quantile(sorted, q) {
    return sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  }

  function fail({ source, fatal = false, message }) {
    errors.push({ at_s: seconds(performance.now()), source, fatal, message });
  }

  // The channel's state that the watch page shows, in `data-state` of its body.
  const pageStates = [];
  new MutationObserver(() => {
    const state = document.body?.dataset.state;
    if (state === undefined || state === pageStates.at(-1)?.state) return;
    pageStates.push({ at_s: seconds(performance.now()), state });
    window.tell?.({ event: 'page', state });
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-state'] });

  // Sent to the process that opened the page, during playback.
  function tell(event, height = null) {
    window.tell?.({ event, height });
  }

  window.probe = {
    /// `handle.latency()` returns the player's latency in seconds, and `handle.estimate()` its
    /// estimate of the network in bits a second; `handle.level(height)` holds the player to the
    /// rendition of that height, or to none with null.
    watch(element, options, handle = {}) {
      video = element;
      player = { ...player, ...handle };
      strip = new Strip(video, options, (height) => tell('shown', height));
      loadedAt = performance.now();
      video.addEventListener('waiting', () => startedAt !== null && stalls.waiting_events++);
      video.addEventListener('stalled', () => startedAt !== null && stalls.stalled_events++);
      video.addEventListener('error', () => {
        fail({ source: 'video', fatal: true, message: `${video.error?.code}: ${video.error?.message}` });
      });
      setInterval(() => frozen || sampleProgress(), PROGRESS_EVERY_MS);
      setInterval(() => {
        if (frozen || startedAt === null) return;
        samplePicture();
        const latency = player.latency();
        if (Number.isFinite(latency)) reported.push(latency);
      }, PICTURE_EVERY_MS);
      setInterval(() => frozen || startedAt === null || sampleState(), STATE_EVERY_MS);
    },

    started: () => startedAt !== null,

    /// Whether the media have been played to their end.
    ended: () => video.ended,
    /// Seconds of media played since start-up.
    played: () => played,

    /// Whether the page has shown these states, in this order, whatever others between them.
    passed(states) {
      let next = 0;
      for (const { state } of pageStates) if (state === states[next]) next++;
      return next === states.length;
    },

    /// Whether the height of the pictures fell, and rose again to `least` or more.
    rose: (least) => strip?.rose(least) ?? false,

    level: (height) => player.level(height),

    /// The height of the picture that is shown.
    height: () => video.videoHeight,

    /// Seeks back by so many seconds.
    back(by) {
      video.currentTime -= by;
    },

    /// An error that the player reports: its source, whether it is fatal, and its message.
    failed: fail,

    /// The player reports that it continues with the rendition of this height.
    switched(to) {
      const from = switches.at(-1)?.to ?? null;
      if (from !== to) switches.push({ at_s: seconds(performance.now()), from, to });
    },

    report() {
      frozen = true;
      if (stalledSince !== null) endStall(performance.now());
      const quality = video.getVideoPlaybackQuality();
      const said = reported.toSorted((a, b) => a - b);
      return {
        startup_ms: startedAt === null ? null : Math.round(startedAt - loadedAt),
        played_s: played,
        position_s: video.currentTime,
        // When the position last changed, in milliseconds since 1970.
        moved_at: last === null ? null : Math.round(performance.timeOrigin + last.now),
        ended: video.ended,
        stalls,
        jumps,
        pictures: { sampled, distinct: hashes.size, error: pictureError },
        frames: { shown: quality.totalVideoFrames, dropped: quality.droppedVideoFrames },
        // For the media played now.
        audio_bytes: video.webkitAudioDecodedByteCount ?? null,
        size: { width: video.videoWidth, height: video.videoHeight },
        player_latency_s: said.length === 0 ? null : { p50: quantile(said, 0.5), max: said.at(-1) },
        switches,
        states,
        page_states: pageStates,
        resources,
        ...strip.report(),
        errors,
      };
    },
  };
})();
