// dash.js. It turns its low-latency mode on by itself where the manifest says availabilityTimeComplete="false".

window.start = (url, options) => {
  const video = document.getElementById('video');
  const errors = [];
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({ streaming: { liveCatchup: { enabled: true } } });
  player.on(dashjs.MediaPlayer.events.ERROR, ({ error }) => {
    errors.push({ source: 'dash.js', message: `${error?.code}: ${error?.message ?? JSON.stringify(error)}` });
  });
  player.on(dashjs.MediaPlayer.events.PLAYBACK_ERROR, ({ error }) => {
    errors.push({ source: 'dash.js', message: `playback: ${error?.message ?? error}` });
  });
  window.probe.watch(video, options, { errors, latency: () => player.getCurrentLiveLatency() });
  player.initialize(video, url, true);
};
