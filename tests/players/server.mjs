// The players' own origin: serves their page, and their builds from node_modules, on an ephemeral
// port of loopback.

import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';

const here = import.meta.dirname;
const FILES = new Map([
  ['/strip.js', 'page/strip.js'],
  ['/probe.js', 'page/probe.js'],
  ['/hls.js', 'page/hls.js'],
  ['/dash.js', 'page/dash.js'],
  ['/shaka.js', 'page/shaka.js'],
  ['/native.js', 'page/native.js'],
  ['/lib/hls.js', 'node_modules/hls.js/dist/hls.min.js'],
  ['/lib/dash.js', 'node_modules/dashjs/dist/modern/umd/dash.all.min.js'],
  ['/lib/shaka.js', 'node_modules/shaka-player/dist/shaka-player.compiled-es2021.js'],
]);

const html = (player) => `<!doctype html>
<meta charset="utf-8"><title>${player}</title><link rel="icon" href="data:,">
<style>body { margin: 0; background: #444 } video { width: 100vw; height: 100vh }</style>
<video id="video" crossorigin="anonymous" autoplay muted playsinline></video>
<script src="/strip.js"></script>
<script src="/probe.js"></script>
${player === 'native' ? '' : `<script src="/lib/${player}.js"></script>`}
<script src="/${player}.js"></script>
`;

export async function servePage() {
  const server = createServer((request, response) => {
    const page = /^\/(hls|dash|shaka|native)\.html$/.exec(request.url);
    const file = FILES.get(request.url);
    if (page) {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(html(page[1]));
    } else if (file) {
      response.writeHead(200, { 'content-type': 'text/javascript; charset=utf-8' });
      createReadStream(path.join(here, file)).on('error', () => response.destroy()).pipe(response);
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
