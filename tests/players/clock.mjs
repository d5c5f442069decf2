// Publishes pictures that carry the encoder's clock (see page/strip.js), each encoded when it is
// made. --latency reads them.
//
//     node clock.mjs --url rtmp://HOST/live/CHANNEL [--seconds 60] [--size 640x360] [--fps 25] [--kbps 1000]

import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const BITS = 32;

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    size: { type: 'string', default: '640x360' },
    fps: { type: 'string', default: '25' },
    kbps: { type: 'string', default: '1000' },
  },
});
const [width, height] = options.size.split('x').map(Number);
const fps = Number(options.fps);
const frames = Number(options.seconds) * fps;
if (!options.url || !(width > 0) || !(height > 0) || !(fps > 0) || !(frames > 0)) {
  console.error('usage: clock.mjs --url RTMP [--seconds N] [--size WxH] [--fps N] [--kbps N]');
  process.exit(2);
}

// Groups of two seconds; the encoder holds no frame back, because its delay is not what is
// measured.
const ffmpeg = spawn(
  'ffmpeg',
  [
    ...'-hide_banner -nostdin -loglevel warning -probesize 32 -fflags nobuffer -f rawvideo -pix_fmt gray'.split(' '),
    ...['-s', options.size, '-r', options.fps, '-i', 'pipe:0'],
    ...['-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=48000', '-shortest'],
    ...'-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -sc_threshold 0'.split(' '),
    ...['-g', String(2 * fps), '-keyint_min', String(2 * fps)],
    ...['-b:v', `${options.kbps}k`, '-maxrate', `${options.kbps}k`, '-bufsize', `${options.kbps}k`],
    ...['-c:a', 'aac', '-b:a', '96k', '-ac', '2', '-flush_packets', '1', '-f', 'flv', options.url],
  ],
  { stdio: ['pipe', 'inherit', 'inherit'] },
);
ffmpeg.on('exit', (code) => process.exit(code ?? 1));
ffmpeg.stdin.on('error', () => {});

function picture(number) {
  const pixels = Buffer.alloc(width * height);
  for (let y = Math.floor(height / 16); y < height; y++) {
    for (let x = 0; x < width; x++) pixels[y * width + x] = 48 + (((x + 2 * number) >> 3) * 37 ^ ((y + number) >> 3) * 101 & 0x5f);
  }
  const value = Date.now() % 2 ** BITS;
  for (let x = 0; x < width; x++) {
    const bit = BITS - 1 - Math.floor((x * BITS) / width);
    pixels[x] = Math.floor(value / 2 ** bit) % 2 === 1 ? 235 : 16;
  }
  for (let y = 1; y < Math.floor(height / 16); y++) pixels.copyWithin(y * width, 0, width);
  return pixels;
}

const start = performance.now();
for (let number = 0; number < frames; number++) {
  const wait = start + (number * 1000) / fps - performance.now();
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
  if (!ffmpeg.stdin.write(picture(number))) await new Promise((resolve) => ffmpeg.stdin.once('drain', resolve));
}
ffmpeg.stdin.end();
