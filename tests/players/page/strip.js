// The data drawn into the pictures of a video element, and the size of the pictures.
//
// The strip has 32 equally wide blocks over the full width of the frame, 1/16 of its height, at the
// very top. White is 1, and the most significant bit is first. It holds the encoder's Unix time in
// milliseconds modulo 2^32 (`clock`), or the picture's number (`numbers`, with the frame rate).
// Blocks are 8 pixels wide in a picture of 256x144, which is enough for both.

(() => {
  const BITS = 32;
  // The clock is read ten times a second, numbers in every picture.
  const CLOCK_EVERY_MS = 100;
  // A rendition that follows another within a segment may begin with the picture before the other's
  // last one: browsers continue from the audio clock, and the picture may be ahead of it.
  const TAKEN_OVER = 2;
  // Limit of the entries of one kind: further ones add no information.
  const MOST = 20;

  window.Strip = class Strip {
    #video;
    #options;
    #onSize;
    #canvas = new OffscreenCanvas(BITS, 1).getContext('2d', { willReadFrequently: true });
    #startedAt = null;
    #frozen = false;
    #sizes = [];
    #clockAt = -Infinity;
    #behind = new Map();
    #numbers = { read: 0, unreadable: 0, back: [], again: 0, longest_skip: 0 };
    #last = null;
    #astray = [];

    // `onSize(height)` is called when pictures of another height are shown.
    constructor(video, options, onSize) {
      this.#video = video;
      this.#options = options;
      this.#onSize = onSize;
      // Not earlier: Chromium's own player then reads all listed media before it starts, and gives
      // up if they are less than 10 s.
      const playing = !video.paused && video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA;
      if (playing) this.#next();
      else video.addEventListener('playing', () => this.#next(), { once: true });
    }

    #next() {
      this.#video.requestVideoFrameCallback((now, frame) => this.#onFrame(now, frame));
    }

    start(now) {
      this.#startedAt = now;
    }

    #onFrame(now, { mediaTime, width, height }) {
      if (this.#frozen) return;
      const wall = Date.now();
      const size = this.#sizes.at(-1);
      if (size?.height !== height) {
        this.#sizes.push({ at_s: this.#seconds(now), width, height });
        this.#onSize(height);
      }
      if (this.#startedAt !== null) {
        if (this.#options.clock) this.#readClock(now, wall, height);
        if (this.#options.numbers) this.#readNumber(now, mediaTime, height);
      }
      this.#next();
    }

    #seconds(now) {
      return this.#startedAt === null ? 0 : (now - this.#startedAt) / 1000;
    }

    #readClock(now, wall, height) {
      if (now - this.#clockAt < CLOCK_EVERY_MS) return;
      const value = this.#read();
      if (value === null) return;
      this.#clockAt = now;
      if (!this.#behind.has(height)) this.#behind.set(height, []);
      this.#behind.get(height).push((wall - value) | 0);
    }

    // Numbers only increase, and a picture's position in the media determines its number in every
    // rendition.
    #readNumber(now, mediaTime, height) {
      const numbers = this.#numbers;
      const number = this.#read();
      if (number === null) {
        numbers.unreadable++;
        return;
      }
      numbers.read++;
      if (this.#last !== null) {
        const step = number - this.#last.number;
        if (step < 0 && step >= -TAKEN_OVER && height !== this.#last.height) {
          numbers.again++;
        } else if (step < 0 && numbers.back.length < MOST) {
          numbers.back.push({ from: this.#last.number, to: number, at_s: this.#seconds(now) });
        }
        numbers.longest_skip = Math.max(numbers.longest_skip, step);
      }
      this.#last = { number, height };
      this.#astray.push(mediaTime * 1000 - (number * 1000) / this.#options.numbers);
    }

    // The 32 bits, or null if a block is neither black nor white.
    #read() {
      const { videoWidth: width, videoHeight: height } = this.#video;
      const { canvas } = this.#canvas;
      const rows = Math.max(1, Math.floor(height / 16));
      if (canvas.width !== width || canvas.height !== rows) Object.assign(canvas, { width, height: rows });
      this.#canvas.drawImage(this.#video, 0, 0);
      const row = this.#canvas.getImageData(0, Math.floor(rows / 2), width, 1).data;
      let value = 0;
      for (let bit = 0; bit < BITS; bit++) {
        const luma = row[Math.floor(((bit + 0.5) * width) / BITS) * 4 + 1];
        if (luma > 80 && luma < 176) return null;
        value = value * 2 + (luma > 128 ? 1 : 0);
      }
      return value;
    }

    // Whether the height of the pictures fell, and rose again to `least` or more.
    rose(least) {
      const heights = this.#sizes.map(({ height }) => height);
      const fell = heights.findIndex((height, index) => index > 0 && height < heights[index - 1]);
      const rose = (height, index, later) => index > 0 && height > later[index - 1] && height >= least;
      return fell > 0 && heights.slice(fell).some(rose);
    }

    report() {
      this.#frozen = true;
      const behind = [...this.#behind.values()].flat();
      const astray = this.#astray.toSorted((a, b) => a - b);
      const middle = quantile(astray, 0.5);
      return {
        // The sizes shown: that of the first picture, and each change.
        shown: this.#sizes,
        glass_to_glass_ms: this.#options.clock
          ? {
              ...spread(behind),
              by_height: Object.fromEntries([...this.#behind].map(([height, samples]) => [height, spread(samples)])),
            }
          : null,
        // `astray_ms`: the distance of pictures from the position that their number implies,
        // relative to the median of all.
        numbers: this.#options.numbers
          ? {
              ...this.#numbers,
              astray_ms: astray.length === 0
                ? null
                : { p1: quantile(astray, 0.01) - middle, p99: quantile(astray, 0.99) - middle },
            }
          : null,
      };
    }
  };

  function spread(samples) {
    const sorted = samples.toSorted((a, b) => a - b);
    return { samples: sorted.length, min: sorted[0] ?? null, p50: quantile(sorted, 0.5), max: sorted.at(-1) ?? null };
  }

  function quantile(sorted, q) {
    return sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  }
})();
