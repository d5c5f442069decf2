// Shaka Player in its low-latency mode, for HLS and DASH.

window.start = async (url, options) => {
  const CRITICAL = 2;
  const video = document.getElementById('video');
  const keep = ({ code, message, severity }) => {
    window.probe.failed({ source: 'shaka', fatal: severity === CRITICAL, message: `${code}: ${message}` });
  };
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  player.addEventListener('error', ({ detail }) => keep(detail));
  const switched = ({ newTrack }) => window.probe.switched(newTrack.height);
  player.addEventListener('adaptation', switched);
  player.addEventListener('variantchanged', switched);
  // If many pictures are too late to be shown, Shaka bans their rendition for half a minute: in a
  // test that would measure the load of the machine, not the server.
  player.configure({ streaming: { lowLatencyMode: true }, abr: { droppedFrames: false } });
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
