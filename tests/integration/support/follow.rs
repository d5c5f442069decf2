//! A client that reads one media playlist as low-latency players do, and keeps every byte: blocking
//! reloads, part by part.

use super::{
    fragment::{self, Header},
    http,
    playlist::{Media, Part, Segment, resolve},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// All playlists, parts and segments of one track while it was followed.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) header: Header,
    pub(crate) init: Vec<u8>,
    pub(crate) parts: Vec<FollowedPart>,
    /// Complete segments with their bytes; a gap has none.
    pub(crate) segments: Vec<(Segment, Vec<u8>)>,
    pub(crate) last: Media,
}

#[derive(Debug)]
pub(crate) struct FollowedPart {
    pub(crate) msn: u64,
    pub(crate) index: u64,
    pub(crate) part: Part,
    /// Empty for a gap.
    pub(crate) bytes: Vec<u8>,
}

/// Reads a media playlist and asserts the rules for every playlist.
#[track_caller]
pub(crate) fn read(http: SocketAddr, path: &str) -> Media {
    let response = http::get(http, path);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    let media = Media::parse(&response.text());
    media.assert_rules();
    media
}

/// Follows the media playlist at `path` from its oldest segment until `done` returns true for the
/// newest playlist, or it ends.
///
/// # Panics
/// If a listed part or segment is missing, is not valid CMAF, or the playlist violates a rule.
#[track_caller]
pub(crate) fn follow(
    http: SocketAddr,
    path: &str,
    limit: Duration,
    done: impl FnMut(&Media) -> bool,
) -> Followed {
    let seen = follow_any(http, path, limit, done);
    let maps: BTreeSet<_> = seen.segments.iter().map(|(segment, _)| segment.map.clone()).collect();
    assert!(maps.len() <= 1, "one header for the whole push: {maps:?}");
    seen
}

/// Like [`follow`], for a broadcast whose header may change; `init` is the first one.
#[track_caller]
pub(crate) fn follow_any(
    http: SocketAddr,
    path: &str,
    limit: Duration,
    mut done: impl FnMut(&Media) -> bool,
) -> Followed {
    let deadline = Instant::now() + limit;
    let fetch = |uri: &str| {
        let target = resolve(path, uri);
        let response = http::get(http, &target);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        response.body
    };
    let mut media = read(http, path);
    let map = media.with_open().find_map(|segment| segment.map.clone()).expect("a map");
    let init = fetch(&map);
    let header = fragment::header(&init);
    let (mut parts, mut segments): (Vec<FollowedPart>, Vec<(Segment, Vec<u8>)>) =
        (Vec::new(), Vec::new());
    loop {
        for segment in media.with_open() {
            for (index, part) in (0..).zip(&segment.parts) {
                if parts.last().is_some_and(|last| (last.msn, last.index) >= (segment.msn, index)) {
                    continue;
                }
                let bytes = if part.gap { Vec::new() } else { fetch(&part.uri) };
                parts.push(FollowedPart { msn: segment.msn, index, part: part.clone(), bytes });
            }
            if !segment.uri.is_empty()
                && segments.last().is_none_or(|(last, _)| last.msn < segment.msn)
            {
                let bytes = if segment.gap { Vec::new() } else { fetch(&segment.uri) };
                segments.push((segment.clone(), bytes));
            }
        }
        if media.ended || done(&media) {
            return Followed { header, init, parts, segments, last: media };
        }
        assert!(Instant::now() < deadline, "{path} has not come to an end within {limit:?}");
        let next = read(http, &format!("{path}?{}", next_of(&media)));
        next.assert_follows(&media);
        media = next;
    }
}

/// The query for the part after the last listed one (6.2.5.2).
pub(crate) fn next_of(media: &Media) -> String {
    format!("_HLS_msn={}&_HLS_part={}", media.open.msn, media.open.parts.len())
}
