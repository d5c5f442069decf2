// Shaka Player in its low-latency mode, for HLS and DASH.

window.start = async (url, options) => {
  const CRITICAL = 2;
  const RETRY_S = 0.5;
  const video = document.getElementById('video');
  const keep = ({ code, message, severity }) => {
    window.probe.failed({ source: 'shaka', fatal: severity === CRITICAL, message: `${code}: ${message}` });
  };
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  player.addEventListener('error', ({ detail }) => {
    // It stops with a fatal error if the newest listed media are a gap, also while the publisher is
    // away for a moment, unless the page makes it retry.
    const { SEGMENT_MISSING } = shaka.util.Error.Code;
    if (detail.code !== SEGMENT_MISSING || !player.retryStreaming(RETRY_S)) keep(detail);
  });
  const switched = ({ newTrack }) => window.probe.switched(newTrack.height);
  player.addEventListener('adaptation', switched);
  player.addEventListener('variantchanged', switched);
  // If many pictures are too late to be shown, Shaka bans their rendition for half a minute: in a
  // test that would measure the load of the machine, not the server.
  player.configure({ streaming: { lowLatencyMode: true }, abr: { droppedFrames: false } });
  if (options.delay > 0) {
    player.configure({
      manifest: { defaultPresentationDelay: options.delay, dash: { ignoreSuggestedPresentationDelay: true } },
    });
  }
  window.probe.watch(video, options, {
    latency: () => player.getStats().liveLatency || null,
    estimate: () => player.getStats().estimatedBandwidth || null,
    level: (height) => {
      // A selected track restricts the choice to those with its codec string; a preference for none
      // undoes that.
      player.configure({ abr: { enabled: height === null }, preferredVideo: height === null ? [{}] : [] });
      const found = player.getVariantTracks().find((track) => track.height === height);
      if (found) player.selectVariantTrack(found);
    },
  });
  try {
    await player.attach(video);
    await player.load(url);
  } catch (error) {
    keep(error);
  }
};
