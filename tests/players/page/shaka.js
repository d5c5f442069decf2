// Shaka Player in its low-latency mode, for HLS and DASH alike.

window.start = async (url, options) => {
  const CRITICAL = 2;
  const video = document.getElementById('video');
  const errors = [];
  const keep = ({ code, message, severity }) => {
    errors.push({ source: 'shaka', fatal: severity === CRITICAL, message: `${code}: ${message}` });
  };
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  player.addEventListener('error', ({ detail }) => keep(detail));
  const switched = ({ newTrack }) => window.probe.switched(newTrack.height);
  player.addEventListener('adaptation', switched);
  player.addEventListener('variantchanged', switched);
  player.configure({ streaming: { lowLatencyMode: true } });
  window.probe.watch(video, options, {
    errors,
    latency: () => player.getStats().liveLatency || null,
    estimate: () => player.getStats().estimatedBandwidth || null,
    level: (height) => {
      player.configure({ abr: { enabled: height === null } });
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
