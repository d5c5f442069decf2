// Reads the state of a channel from its playlists. They are available wherever the stream is: also at
// an edge, which has no list of streams.

const LIMIT_MS = 10000;

// The state of the channel whose playlists are under `base`, an absolute URL that ends in a slash:
//
// - `offline`: there is no such channel.
// - `unreachable`: the server does not respond, or responds with an error.
// - `starting`: it has begun, and has no media yet.
// - `ended`: its last broadcast has ended.
// - `away`: its publisher has left and may return.
// - `live`: it has media to play.
//
// With `closely`, the media playlists are read too; without, `live` means that the channel exists.
// `retryMs` is the server's requested wait before the next request, if any.
export async function read(base, closely) {
  const { status, text, retryMs } = await get(new URL('master.m3u8', base));
  if (status === 404 || status === 410) return { state: 'offline', retryMs };
  if (status === 503) return { state: 'starting', retryMs };
  if (status !== 200) return { state: 'unreachable', retryMs };
  const offer = parseMultivariant(text);
  if (!closely) return { state: 'live', ...offer };
  const answers = await Promise.all(offer.playlists.map((uri) => get(new URL(uri, base))));
  const lists = answers.filter(({ status }) => status === 200).map(({ text }) => parseMedia(text));
  if (lists.length === 0) return { state: 'unreachable', retryMs: answers[0]?.retryMs };
  return {
    state: stateOf(lists),
    ...offer,
    broadcast: lists.map(({ broadcast }) => broadcast).find(Boolean),
    newest: lists.map(({ newest }) => newest).join(' '),
  };
}

// Sends the validators of the last response, so that an unchanged playlist costs a 304.
async function get(url) {
  // AbortSignal.timeout is missing in Safari before 16 and in the browsers of many TVs.
  const controller = new AbortController();
  const limit = setTimeout(() => controller.abort(), LIMIT_MS);
  try {
    const response = await fetch(url, { cache: 'no-cache', signal: controller.signal });
    const retryMs = 1000 * Number(response.headers.get('retry-after')) || undefined;
    return { status: response.status, text: response.ok ? await response.text() : '', retryMs };
  } catch {
    return { status: 0, text: '' };
  } finally {
    clearTimeout(limit);
  }
}

function stateOf(lists) {
  if (lists.every(({ ended }) => ended)) return 'ended';
  return lists.every(({ away }) => away) ? 'away' : 'live';
}

// The content of a multivariant playlist:
//
// - `kinds`: the codec families, and whether audio is separate from video. A player that has begun
//   cannot follow a change of these; it can follow a change of rates, levels or profiles.
// - `tracks`: the playlists of all tracks.
// - `playlists`: the first variant's, and the first of its audio.
export function parseMultivariant(text) {
  const tracks = [];
  const kinds = new Set();
  const playlists = {};
  let isVariant = false;
  for (const line of lines(text)) {
    if (line.startsWith('#EXT-X-STREAM-INF:')) {
      isVariant = true;
      for (const codec of (attribute(line, 'CODECS') ?? '').split(',')) kinds.add(codec.trim().split('.')[0]);
    } else if (line.startsWith('#EXT-X-MEDIA:') && attribute(line, 'URI')) {
      const kind = attribute(line, 'TYPE');
      kinds.add(kind);
      tracks.push(attribute(line, 'URI'));
      if (kind === 'AUDIO') playlists.audio ??= attribute(line, 'URI');
    } else if (isVariant && !line.startsWith('#')) {
      isVariant = false;
      tracks.push(line);
      playlists.variant ??= line;
    }
  }
  return {
    kinds: [...kinds].sort().join(' '),
    tracks: tracks.sort().join(' '),
    playlists: [playlists.variant, playlists.audio].filter(Boolean),
  };
}

// The state of a media playlist: whether it has ended, whether its newest entry is a gap, the newest
// media that are not, and their broadcast.
export function parseMedia(text) {
  let [newest, away, ended, gap] = ['', false, false, false];
  const lists = (uri, missing) => {
    away = missing;
    if (!missing) newest = uri;
  };
  for (const line of lines(text)) {
    if (line === '#EXT-X-ENDLIST') ended = true;
    else if (line === '#EXT-X-GAP') gap = true;
    else if (line.startsWith('#EXT-X-PART:')) lists(attribute(line, 'URI'), attribute(line, 'GAP') === 'YES');
    else if (!line.startsWith('#')) {
      lists(line, gap);
      gap = false;
    }
  }
  return { newest, away, ended, broadcast: /\/media\/([^/]+)\//.exec(newest)?.[1] ?? null };
}

function lines(text) {
  return text.split('\n').map((line) => line.trim()).filter((line) => line !== '');
}

// An attribute's value, without its quotes (RFC 8216bis 4.2).
function attribute(line, name) {
  const found = new RegExp(`[:,]${name}=(?:"([^"]*)"|([^",]*))`).exec(line);
  return found ? (found[1] ?? found[2]) : null;
}
