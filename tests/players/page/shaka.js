// Shaka Player in its low-latency mode, for HLS and DASH alike.

window.start = async (url, options) => {
  const video = document.getElementById('video');
  const errors = [];
  const keep = (error) => errors.push({ source: 'shaka', message: `${error.code}: ${error.message}` });
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  player.addEventListener('error', ({ detail }) => keep(detail));
  player.configure({ streaming: { lowLatencyMode: true } });
  window.probe.watch(video, options, { errors, latency: () => player.getStats().liveLatency || null });
  try {
    await player.attach(video);
    await player.load(url);
  } catch (error) {
    keep(error);
  }
};
