// dash.js. It enables its low-latency mode on its own if the manifest has
// availabilityTimeComplete="false".

window.start = (url, options) => {
  const { events } = dashjs.MediaPlayer;
  const video = document.getElementById('video');
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({ streaming: { liveCatchup: { enabled: true }, cmcd: { enabled: options.cmcd, cid: 'test' } } });
  player.on(events.ERROR, ({ error }) => {
    window.probe.failed({ source: 'dash.js', message: `${error?.code}: ${error?.message ?? JSON.stringify(error)}` });
  });
  player.on(events.PLAYBACK_ERROR, ({ error }) => {
    window.probe.failed({ source: 'dash.js', fatal: true, message: `playback: ${error?.message ?? error}` });
  });
  player.on(events.QUALITY_CHANGE_RENDERED, ({ mediaType, newRepresentation }) => {
    if (mediaType === 'video') window.probe.switched(newRepresentation.height);
  });
  window.probe.watch(video, options, {
    latency: () => player.getCurrentLiveLatency(),
    estimate: () => player.getAverageThroughput('video') * 1000 || null,
    level: (height) => {
      player.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: height === null } } } });
      const found = player.getRepresentationsByType('video').find((representation) => representation.height === height);
      if (found) player.setRepresentationForTypeById('video', found.id);
    },
  });
  player.initialize(video, url, true);
};
