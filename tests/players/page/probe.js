// Watches one video element: start-up, stalls, jumps, changing pictures, and the clock burnt into the picture.
//
// The strip: 32 equally wide blocks over the full width of the frame, 1/16 of its height, at the very top; white is 1, the most
// significant bit comes first. With `latency` it is read as the encoder's Unix time in milliseconds modulo 2^32.

(() => {
  const PROGRESS_EVERY_MS = 50;
  const PICTURE_EVERY_MS = 200;
  const STALL_AFTER_MS = 350;
  // A position that runs this far ahead of the clock was set, not played.
  const JUMP_S = 0.4;
  const BITS = 32;

  let video = null;
  let player = { errors: [], latency: () => null };
  let options = {};
  let loadedAt = 0;
  let startedAt = null;
  let last = null;
  let stalledSince = null;
  let played = 0;
  let frozen = false;
  const stalls = { count: 0, total_ms: 0, waiting_events: 0, stalled_events: 0 };
  const jumps = [];
  const errors = [];
  const hashes = new Set();
  let sampled = 0;
  let pictureError = null;
  const clock = [];
  const reported = [];

  const picture = new OffscreenCanvas(160, 90).getContext('2d', { willReadFrequently: true });
  const strip = new OffscreenCanvas(BITS, 1).getContext('2d', { willReadFrequently: true });

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

  // The 32 bits of the strip, or null where a block is neither black nor white.
  function readStrip() {
    const { videoWidth: width, videoHeight: height } = video;
    strip.canvas.width = width;
    strip.canvas.height = Math.max(1, Math.floor(height / 16));
    strip.drawImage(video, 0, 0);
    const row = strip.getImageData(0, Math.floor(height / 32), width, 1).data;
    let value = 0;
    for (let bit = 0; bit < BITS; bit++) {
      const luma = row[Math.floor(((bit + 0.5) * width) / BITS) * 4 + 1];
      if (luma > 80 && luma < 176) return null;
      value = value * 2 + (luma > 128 ? 1 : 0);
    }
    return value;
  }

  function onFrame(now) {
    if (frozen) return;
    const wall = Date.now();
    if (startedAt !== null && (clock.length === 0 || now - clock.at(-1).at >= 100)) {
      const value = readStrip();
      if (value !== null) clock.push({ at: now, behind_ms: (wall - value) | 0 });
    }
    video.requestVideoFrameCallback(onFrame);
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
      if (moved > 0 && !video.paused && !video.seeking && video.readyState >= 3) startedAt = now;
      last = { now, position };
      return;
    }
    if (moved === 0) {
      if (now - last.now >= STALL_AFTER_MS && stalledSince === null && !video.ended) stalledSince = last.now;
      return;
    }
    if (stalledSince !== null) {
      stalls.count++;
      stalls.total_ms += now - stalledSince;
      stalledSince = null;
    }
    if (moved < 0 || moved > passed * 1.2 + JUMP_S) jumps.push({ from: last.position, to: position, at_s: (now - startedAt) / 1000 });
    else played += moved;
    last = { now, position };
  }

  function quantile(sorted, q) {
    return sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  }

  window.probe = {
    /// `handle.errors` is a list the player's glue appends to; `handle.latency()` is what the player says, in seconds.
    watch(element, settings, handle = player) {
      video = element;
      options = settings;
      player = handle;
      loadedAt = performance.now();
      video.addEventListener('waiting', () => startedAt !== null && stalls.waiting_events++);
      video.addEventListener('stalled', () => startedAt !== null && stalls.stalled_events++);
      video.addEventListener('error', () => {
        errors.push({ source: 'video', message: `${video.error?.code}: ${video.error?.message}` });
      });
      setInterval(() => frozen || sampleProgress(), PROGRESS_EVERY_MS);
      setInterval(() => {
        if (frozen || startedAt === null) return;
        samplePicture();
        const latency = player.latency();
        if (Number.isFinite(latency)) reported.push(latency);
      }, PICTURE_EVERY_MS);
      if (options.latency) video.requestVideoFrameCallback(onFrame);
    },

    started: () => startedAt !== null,

    report() {
      frozen = true;
      if (stalledSince !== null) {
        stalls.count++;
        stalls.total_ms += performance.now() - stalledSince;
      }
      const quality = video.getVideoPlaybackQuality();
      const behind = clock.map((sample) => sample.behind_ms).sort((a, b) => a - b);
      const said = reported.toSorted((a, b) => a - b);
      return {
        startup_ms: startedAt === null ? null : Math.round(startedAt - loadedAt),
        played_s: played,
        position_s: video.currentTime,
        // How long before the report the picture last moved on.
        still_for_ms: last === null ? null : performance.now() - last.now,
        ended: video.ended,
        stalls,
        jumps,
        pictures: { sampled, distinct: hashes.size, error: pictureError },
        frames: { shown: quality.totalVideoFrames, dropped: quality.droppedVideoFrames },
        size: { width: video.videoWidth, height: video.videoHeight },
        player_latency_s: said.length === 0 ? null : { p50: quantile(said, 0.5), max: said.at(-1) },
        glass_to_glass_ms: options.latency
          ? { samples: behind.length, min: behind[0] ?? null, p50: quantile(behind, 0.5), max: behind.at(-1) ?? null }
          : null,
        errors: [...errors, ...player.errors],
      };
    },
  };
})();
