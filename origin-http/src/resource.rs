//! The resource of a request's path, and the properties of each kind of resource. Pure; a path
//! without a resource is refused here, before any look-up.
//!
//! A new kind of resource is a variant of [`Resource`], [`Listing`] or [`Object`] with its path,
//! and a row of [`Resource::kind`]; `Router::here` forms its response.
//!
//! Names need no percent-encoding, so an encoded path has no resource; nor has one with an empty
//! segment, a dot segment or a number that is not in its shortest form: each resource has one
//! address, and a cache one entry for it.

use http_server::priority::DEFAULT;
use media_core::{BroadcastId, ChannelName, TrackName};

use crate::edge::budget::Claim;

/// A resource of the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A text about a live channel: `/live/{channel}/...`.
    Live(ChannelName, Listing),
    /// `/live/{channel}/poster.jpg`: a picture of it.
    Poster(ChannelName),
    /// Bytes of a broadcast's track: `/media/{broadcast}/{track}/...`.
    Media(BroadcastId, TrackName, Object),
    /// `/watch/{channel}`: a page that plays it.
    Watch(ChannelName),
    /// `/watch/{name}.{extension}`: a file of the page. Channel names contain no dot.
    Asset(String),
    /// `/time`: the wall clock, for UTCTiming.
    Time,
}

/// A text about a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// `master.m3u8`: the multivariant playlist.
    Multivariant,
    /// `manifest.mpd`: DASH, low latency.
    Manifest,
    /// `plain.mpd`: DASH, whole segments.
    PlainManifest,
    /// `{track}.m3u8`: the track's media playlist.
    Playlist(TrackName),
}

/// An object of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// `init.{number}.mp4`: a CMAF header.
    Init(u32),
    /// `{msn}.m4s`: a segment.
    Segment(u64),
    /// `{msn}.{part}.m4s`: a part, counted from 0.
    Part(u64, usize),
}

/// The channel or broadcast that a resource belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    Channel(&'a ChannelName),
    Broadcast(BroadcastId),
    /// The daemon itself.
    Daemon,
}

/// The properties of a kind of resource, or of a mounted service.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The position of its counters in `Metrics`: for resources, that of its name in [`NAMES`].
    pub(crate) index: usize,
    /// Its name in metrics and in the access log. Several kinds may share one.
    pub(crate) name: &'static str,
    /// The urgency of its responses, 0 (first) to 7, unless the client states one (RFC 9218 4.1).
    /// `urgency::of_media` refines it for media that exist.
    pub(crate) urgency: u8,
    /// How an edge gets it from an origin; `None` if every process has its own.
    pub(crate) edge: Option<Fetched>,
}

/// The names of all kinds of resources.
pub(crate) const NAMES: [&str; 9] =
    ["playlist", "manifest", "init", "segment", "part", "poster", "page", "time", "unknown"];

/// How an edge fetches and keeps resources of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetched {
    pub(crate) fetch: Fetch,
    /// The part of the edge's memory that it may take.
    pub(crate) claim: Claim,
    /// Whether it is a text, which is compressed for clients that accept it.
    pub(crate) text: bool,
}

/// How long a response of an origin may take, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// A text without a blocking request, or a picture: it changes.
    Now,
    /// A playlist that may be a blocking request: delivery directives belong to its cache key.
    Reload,
    /// A part.
    Part,
    /// A segment or a CMAF header, which are immutable.
    Lasting,
}

/// The kind of a path without a resource.
pub(crate) const UNKNOWN: &Kind = &row("unknown", DEFAULT, None);

/// A row of [`Resource::kind`]. It is a constant, so that a name that is not in [`NAMES`] does not
/// compile.
const fn row(name: &'static str, urgency: u8, edge: Option<Fetched>) -> Kind {
    let mut index = 0;
    while !is_equal(NAMES[index].as_bytes(), name.as_bytes()) {
        index += 1;
        assert!(index < NAMES.len(), "the name of a kind is not in NAMES");
    }
    Kind { index, name, urgency, edge }
}

/// `==`, which is not available in constants.
const fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// A text that edges fetch.
const fn text(fetch: Fetch) -> Option<Fetched> {
    Some(Fetched { fetch, claim: Claim::Text, text: true })
}

/// Bytes that edges fetch, never compressed.
const fn bytes(fetch: Fetch, claim: Claim) -> Option<Fetched> {
    Some(Fetched { fetch, claim, text: false })
}

impl Resource {
    /// The kind of this resource: the table of all kinds.
    #[rustfmt::skip]
    pub(crate) fn kind(&self) -> &'static Kind {
        use {Claim::{Large, Small}, Fetch::{Lasting, Now, Part, Reload}};
        match self {
            Self::Live(_, Listing::Multivariant) => const { &row("playlist", 1, text(Now)) },
            Self::Live(_, Listing::Playlist(_)) => const { &row("playlist", 1, text(Reload)) },
            Self::Live(_, Listing::Manifest) => const { &row("manifest", 1, text(Now)) },
            Self::Live(_, Listing::PlainManifest) => const { &row("manifest", 1, text(Now)) },
            Self::Media(_, _, Object::Init(_)) => const { &row("init", 2, bytes(Lasting, Small)) },
            Self::Media(_, _, Object::Segment(_)) => {
                const { &row("segment", DEFAULT, bytes(Lasting, Large)) }
            }
            Self::Media(_, _, Object::Part(..)) => {
                const { &row("part", DEFAULT, bytes(Part, Small)) }
            }
            Self::Poster(_) => const { &row("poster", 5, bytes(Now, Claim::Text)) },
            Self::Watch(_) | Self::Asset(_) => const { &row("page", DEFAULT, None) },
            Self::Time => const { &row("time", 1, None) },
        }
    }

    /// The channel or broadcast that it belongs to.
    pub(crate) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Live(channel, _) | Self::Poster(channel) | Self::Watch(channel) => {
                Subject::Channel(channel)
            }
            Self::Media(broadcast, ..) => Subject::Broadcast(*broadcast),
            Self::Asset(_) | Self::Time => Subject::Daemon,
        }
    }

    /// The resource of `path` (RFC 3986 3.3, without its query); `None` if there is none.
    pub fn parse(path: &str) -> Option<Self> {
        let (room, rest) = path.strip_prefix('/')?.split_once('/').unwrap_or((&path[1..], ""));
        // The first segment of the path selects the kind of resource; what follows must have
        // exactly the form of that kind.
        match room {
            "live" => {
                let (channel, file) = rest.split_once('/')?;
                // The only file of a channel that is not a listing.
                if file == "poster.jpg" {
                    return channel.parse().ok().map(Self::Poster);
                }
                Some(Self::Live(channel.parse().ok()?, Listing::parse(file)?))
            }
            "media" => {
                let (broadcast, rest) = rest.split_once('/')?;
                let (track, file) = rest.split_once('/')?;
                Some(Self::Media(
                    parse_broadcast(broadcast)?,
                    track.parse().ok()?,
                    Object::parse(file)?,
                ))
            }
            "watch" if rest.contains('.') && is_file_name(rest) => {
                Some(Self::Asset(rest.to_owned()))
            }
            "watch" => rest.parse().ok().map(Self::Watch),
            "time" if path == "/time" => Some(Self::Time),
            _ => None,
        }
    }
}

impl Listing {
    /// The listing of this file name.
    fn parse(file: &str) -> Option<Self> {
        match file {
            "master.m3u8" => Some(Self::Multivariant),
            "manifest.mpd" => Some(Self::Manifest),
            "plain.mpd" => Some(Self::PlainManifest),
            file => file.strip_suffix(".m3u8")?.parse().ok().map(Self::Playlist),
        }
    }
}

impl Object {
    /// The object of this file name.
    fn parse(file: &str) -> Option<Self> {
        if let Some(number) = file.strip_prefix("init.").and_then(|rest| rest.strip_suffix(".mp4"))
        {
            return u32::try_from(parse_number(number)?).ok().map(Self::Init);
        }
        // One number is a segment, two are a part.
        match file.strip_suffix(".m4s")?.split_once('.') {
            Some((msn, part)) => {
                Some(Self::Part(parse_number(msn)?, usize::try_from(parse_number(part)?).ok()?))
            }
            None => parse_number(file.strip_suffix(".m4s")?).map(Self::Segment),
        }
    }
}

/// Only the canonical form: hyphenated, lower case.
fn parse_broadcast(text: &str) -> Option<BroadcastId> {
    let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    text.parse().ok().filter(|_| canonical)
}

/// A decimal number without sign or leading zero.
fn parse_number(text: &str) -> Option<u64> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

/// Whether it is a name of an asset: letters, digits, `.`, `-` and `_`, without a hidden or parent
/// directory.
fn is_file_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    text.bytes().all(allowed) && !text.starts_with('.') && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn each_path_is_parsed_as_its_resource() {
        let track = |name: &str| name.parse::<TrackName>().unwrap();
        let demo = || "demo".parse::<ChannelName>().unwrap();
        let id = || ID.parse::<BroadcastId>().unwrap();
        let segment = format!("/media/{ID}/v0/17.m4s");
        let part = format!("/media/{ID}/a0/17.0.m4s");
        let init = format!("/media/{ID}/v720/init.3.mp4");
        for (path, resource) in [
            ("/live/demo/master.m3u8", Resource::Live(demo(), Listing::Multivariant)),
            ("/live/demo/manifest.mpd", Resource::Live(demo(), Listing::Manifest)),
            ("/live/demo/plain.mpd", Resource::Live(demo(), Listing::PlainManifest)),
            ("/live/demo/v0.m3u8", Resource::Live(demo(), Listing::Playlist(track("v0")))),
            ("/live/demo/poster.jpg", Resource::Poster(demo())),
            (&segment, Resource::Media(id(), track("v0"), Object::Segment(17))),
            (&part, Resource::Media(id(), track("a0"), Object::Part(17, 0))),
            (&init, Resource::Media(id(), track("v720"), Object::Init(3))),
            ("/watch/demo", Resource::Watch(demo())),
            ("/watch/player.js", Resource::Asset("player.js".into())),
            ("/time", Resource::Time),
        ] {
            assert_eq!(Resource::parse(path), Some(resource), "{path}");
        }
    }

    #[test]
    fn each_kind_has_its_name_urgency_and_edge_policy() {
        let text = |fetch| Some((fetch, Claim::Text, true));
        let bytes = |fetch, claim| Some((fetch, claim, false));
        let media = |file| format!("/media/{ID}/v0/{file}");
        for (path, name, urgency, edge) in [
            ("/live/demo/master.m3u8", "playlist", 1, text(Fetch::Now)),
            ("/live/demo/v0.m3u8", "playlist", 1, text(Fetch::Reload)),
            ("/live/demo/manifest.mpd", "manifest", 1, text(Fetch::Now)),
            ("/live/demo/plain.mpd", "manifest", 1, text(Fetch::Now)),
            (&media("init.0.mp4"), "init", 2, bytes(Fetch::Lasting, Claim::Small)),
            (&media("7.m4s"), "segment", 3, bytes(Fetch::Lasting, Claim::Large)),
            (&media("7.0.m4s"), "part", 3, bytes(Fetch::Part, Claim::Small)),
            ("/live/demo/poster.jpg", "poster", 5, bytes(Fetch::Now, Claim::Text)),
            ("/watch/demo", "page", 3, None),
            ("/watch/player.js", "page", 3, None),
            ("/time", "time", 1, None),
            ("/api/v1/streams", "unknown", 3, None),
        ] {
            let kind = Resource::parse(path).map_or(UNKNOWN, |resource| resource.kind());
            let fetched = kind.edge.map(|edge| (edge.fetch, edge.claim, edge.text));
            assert_eq!((kind.name, kind.urgency, fetched), (name, urgency, edge), "{path}");
            assert_eq!(NAMES[kind.index], name, "{path}");
        }
    }

    #[test]
    fn noncanonical_and_unknown_paths_name_no_resource() {
        let upper = format!("/media/{}/v0/1.m4s", ID.to_uppercase());
        let simple = format!("/media/{}/v0/1.m4s", ID.replace('-', ""));
        let files = [
            "01.m4s",
            "+1.m4s",
            "1.01.m4s",
            "1.m4s/",
            "1..m4s",
            ".m4s",
            "1.2.3.m4s",
            "init.4294967296.mp4",
        ];
        let files = files.map(|file| format!("/media/{ID}/v0/{file}"));
        let fixed = [
            "",
            "*",
            "/",
            "//",
            "/live",
            "/live/",
            "/live//master.m3u8",
            "//live/demo/master.m3u8",
            "/live/demo//v0.m3u8",
            "/live/../etc/passwd",
            "/live/../../etc/passwd/master.m3u8",
            "/live/%2e%2e/master.m3u8",
            "/live/demo/%76%30",
            "/live/d%65mo/master.m3u8",
            "/live/demo\\master.m3u8",
            "/live/demo/",
            "/live/demo/master.m3u8/",
            "/Live/demo/v0.m3u8",
            "/watch/",
            "/watch/demo/",
            "/watch/..",
            "/watch/../x.js",
            "/watch/a/b.js",
            "/watch/.env",
            "/time/",
            "/times",
            "/api",
            "/api/v1/streams",
            "live/demo/master.m3u8",
        ];
        for path in
            fixed.into_iter().chain([&*upper, &*simple]).chain(files.iter().map(|file| &**file))
        {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_paths_never_panic(path in "\\PC*", tail in "[0-9a-z./%-]{0,60}") {
            let _ = Resource::parse(&path);
            let _ = Resource::parse(&format!("/media/{ID}/v0/{tail}"));
            let _ = Resource::parse(&format!("/live/{tail}"));
            let _ = Resource::parse(&format!("/watch/{tail}"));
        }

        #[test]
        fn object_numbers_are_parsed_from_file_names(msn: u64, part: usize, number: u32) {
            for (name, object) in [
                (format!("{msn}.m4s"), Object::Segment(msn)),
                (format!("{msn}.{part}.m4s"), Object::Part(msn, part)),
                (format!("init.{number}.mp4"), Object::Init(number)),
            ] {
                prop_assert_eq!(Object::parse(&name), Some(object));
            }
        }
    }
}
