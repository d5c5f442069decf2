//! The resource of a request's path. Pure; a path without a resource is refused here, before any
//! look-up.
//!
//! Names need no percent-encoding, so an encoded path has no resource; nor has one with an empty
//! segment, a dot segment or a number that is not in its shortest form: each resource has one
//! address, and a cache one entry for it.

use media_core::{BroadcastId, ChannelName, TrackName};

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
    /// Anything under `/api/`.
    Api,
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

impl Resource {
    /// The resource of `path` (RFC 3986 3.3, without its query); `None` if there is none.
    pub fn parse(path: &str) -> Option<Self> {
        let (room, rest) = path.strip_prefix('/')?.split_once('/').unwrap_or((&path[1..], ""));
        match room {
            "live" => {
                let (channel, file) = rest.split_once('/')?;
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
            "watch" if rest.contains('.') && is_file_name(rest) => Some(Self::Asset(rest.to_owned())),
            "watch" => rest.parse().ok().map(Self::Watch),
            "time" if path == "/time" => Some(Self::Time),
            "api" if path.starts_with("/api/") => Some(Self::Api),
            _ => None,
        }
    }
}

impl Listing {
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
    fn parse(file: &str) -> Option<Self> {
        if let Some(number) = file.strip_prefix("init.").and_then(|rest| rest.strip_suffix(".mp4")) {
            return u32::try_from(parse_number(number)?).ok().map(Self::Init);
        }
        match file.strip_suffix(".m4s")?.split_once('.') {
            Some((msn, part)) => Some(Self::Part(
                parse_number(msn)?,
                usize::try_from(parse_number(part)?).ok()?,
            )),
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
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

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
    fn each_address_names_its_resource() {
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
            (
                "/live/demo/v0.m3u8",
                Resource::Live(demo(), Listing::Playlist(track("v0"))),
            ),
            ("/live/demo/poster.jpg", Resource::Poster(demo())),
            (&segment, Resource::Media(id(), track("v0"), Object::Segment(17))),
            (&part, Resource::Media(id(), track("a0"), Object::Part(17, 0))),
            (&init, Resource::Media(id(), track("v720"), Object::Init(3))),
            ("/watch/demo", Resource::Watch(demo())),
            ("/watch/player.js", Resource::Asset("player.js".into())),
            ("/time", Resource::Time),
            ("/api/v1/streams", Resource::Api),
        ] {
            assert_eq!(Resource::parse(path), Some(resource), "{path}");
        }
    }

    #[test]
    fn another_way_of_writing_an_address_names_nothing() {
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
            "live/demo/master.m3u8",
        ];
        for path in fixed
            .into_iter()
            .chain([&*upper, &*simple])
            .chain(files.iter().map(|file| &**file))
        {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "\\PC*", tail in "[0-9a-z./%-]{0,60}") {
            let _ = Resource::parse(&path);
            let _ = Resource::parse(&format!("/media/{ID}/v0/{tail}"));
            let _ = Resource::parse(&format!("/live/{tail}"));
            let _ = Resource::parse(&format!("/watch/{tail}"));
        }

        #[test]
        fn numbers_read_back_from_their_text(msn: u64, part: usize, number: u32) {
            prop_assert_eq!(Object::parse(&format!("{msn}.m4s")), Some(Object::Segment(msn)));
            prop_assert_eq!(Object::parse(&format!("{msn}.{part}.m4s")), Some(Object::Part(msn, part)));
            prop_assert_eq!(Object::parse(&format!("init.{number}.mp4")), Some(Object::Init(number)));
        }
    }
}
