// hls.js in its low-latency mode, catching up as low-latency pages do. Every error event counts,
// also those that it recovers from.

window.start = (url, options) => {
  const video = document.getElementById('video');
  const cmcd = options.cmcd ? { contentId: 'test' } : undefined;
  const hls = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.2, cmcd });
  hls.on(Hls.Events.ERROR, (_, data) => {
    const what = data.error?.message ?? data.reason ?? '';
    window.probe.failed({ source: 'hls.js', fatal: data.fatal, message: `${data.type} ${data.details} ${what}`.trim() });
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => window.probe.switched(hls.levels[level].height));
  window.probe.watch(video, options, {
    latency: () => hls.latency || null,
    estimate: () => hls.bandwidthEstimate,
    level: (height) => {
      hls.loadLevel = height === null ? -1 : hls.levels.findIndex((level) => level.height === height);
    },
  });
  hls.loadSource(url);
  hls.attachMedia(video);
};
