// Chromium's own HLS player: an address in the element's src.

window.start = (url, options) => {
  const video = document.getElementById('video');
  window.probe.watch(video, options);
  video.src = url;
};
