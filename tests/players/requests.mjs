// The browser's requests to the media's origin: by kind, with the statuses of the responses and the
// failures.

const KINDS = [
  ['playlist', /\.m3u8$/],
  ['manifest', /\.mpd$/],
  ['init', /\/init\.[^/]*$/],
  ['part', /\/\d+\.\d+\.m4s$/],
  ['segment', /\.(m4s|mp4|ts|m4a|m4v)$/],
];

const kindOf = (url) => KINDS.find(([, pattern]) => pattern.test(url.pathname))?.[0] ?? 'other';

// Number of requests of each kind by protocol, as the browser's Resource Timing reports it (`h2`,
// `h3`: names of RFC 7301). Only requests to the media's origin that got a response count.
export function protocolsOf(resources, mediaUrl) {
  const { origin } = new URL(mediaUrl);
  const kinds = {};
  for (const { url, protocol } of resources) {
    if (protocol === '' || new URL(url).origin !== origin) continue;
    const kind = (kinds[kindOf(new URL(url))] ??= {});
    kind[protocol] = (kind[protocol] ?? 0) + 1;
  }
  return kinds;
}

export class Requests {
  #byKind = {};
  #refused = [];
  #failed = [];

  constructor(page, mediaUrl) {
    const { origin } = new URL(mediaUrl);
    const ours = (request) => new URL(request.url()).origin === origin;
    page.on('request', (request) => ours(request) && this.#kind(request).requests++);
    page.on('response', (response) => {
      const request = response.request();
      if (!ours(request)) return;
      const kind = this.#kind(request);
      kind.statuses[response.status()] = (kind.statuses[response.status()] ?? 0) + 1;
      if (response.status() >= 400) this.#refused.push({ url: request.url(), status: response.status() });
    });
    page.on('requestfailed', (request) => {
      if (!ours(request)) return;
      const reason = request.failure()?.errorText ?? 'unknown';
      // A player may cancel requests that it no longer needs; that is not a fault of the server.
      if (reason === 'net::ERR_ABORTED') this.#kind(request).aborted++;
      else this.#failed.push({ url: request.url(), reason });
    });
  }

  #kind(request) {
    return (this.#byKind[kindOf(new URL(request.url()))] ??= { requests: 0, aborted: 0, statuses: {} });
  }

  report() {
    return structuredClone({ by_kind: this.#byKind, refused: this.#refused, failed: this.#failed });
  }
}
