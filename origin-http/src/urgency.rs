//! Our own urgencies of responses, used where a client states none, and among equal ones. Pure.
//!
//! They follow the low-latency profile (RFC 8216bis, appendix B.1): playlists first, then media,
//! lower bit rates before higher ones.

use http::Response;
use http_server::{
    Body,
    priority::{self, PRIORITY, Priority},
};
use packager::Track;

use crate::resource::{Kind, Object};

/// The most urgent level of video, and the number of video levels.
const VIDEO: (u8, usize) = (3, 4);

/// Completes a response: adds its Priority field unless there is one, and sets the rank of its
/// body.
pub(crate) fn settle(requested: Priority, kind: &Kind, response: &mut Response<Body>) {
    let ours = match Priority::of(response.headers()).urgency {
        Some(ours) => ours,
        None => {
            let ours = kind.urgency;
            response.headers_mut().insert(PRIORITY, priority::value(ours));
            ours
        }
    };
    response.body_mut().set_rank(requested.rank(ours));
}

/// The urgency of a track's media, 2 to 6: init segments and audio first, then video by ascending
/// bit rate, in at most four levels.
pub(crate) fn of_media<'a>(
    tracks: impl IntoIterator<Item = &'a Track>,
    track: &Track,
    object: Object,
) -> u8 {
    if !track.config.is_video() || matches!(object, Object::Init(_)) {
        return 2;
    }
    // The source counts as the highest until bit rates are known.
    let cost = |track: &Track| (track.peak_bps, !track.rendition);
    let (mut all, mut lower) = (0, 0);
    for other in tracks.into_iter().filter(|other| other.config.is_video()) {
        all += 1;
        lower += usize::from(cost(other) < cost(track));
    }
    let (first, levels) = VIDEO;
    // More renditions than levels share them in proportion.
    let level = if all <= levels { lower } else { lower * levels / all };
    first + u8::try_from(level).unwrap_or(u8::MAX).min(3)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use media_core::codec::{Config, avc};

    use super::*;
    use crate::{resource::Resource, sample, stage};

    #[test]
    fn a_higher_bit_rate_is_never_more_urgent_than_a_lower_one() {
        let video = Arc::new(Config::Avc(avc::Config::parse(stage::AVC).unwrap()));
        let track = |name, rendition, peak_bps| Track {
            rendition,
            peak_bps,
            config: Arc::clone(&video),
            ..sample::track(name, 0, 0, 0, None)
        };
        let urgencies = |tracks: &[Track]| -> Vec<u8> {
            let of = |track| of_media(tracks, track, Object::Segment(0));
            tracks.iter().map(of).collect()
        };
        let source = track("v0", false, 6_000_000);
        assert_eq!(urgencies(std::slice::from_ref(&source)), [3]);
        let ladder = [
            source,
            track("v720", true, 3_000_000),
            track("v480", true, 1_500_000),
            track("v240", true, 400_000),
        ];
        assert_eq!(urgencies(&ladder), [6, 5, 4, 3]);
        assert_eq!(of_media(&ladder, &ladder[0], Object::Init(0)), 2);
        let audio = sample::track("a0", 0, 0, 0, None);
        assert_eq!(of_media(&ladder, &audio, Object::Segment(0)), 2);
        let unknown = [track("v0", false, 0), track("v720", true, 0), track("v480", true, 0)];
        assert_eq!(urgencies(&unknown), [5, 3, 3]);
        let many: Vec<_> = (0..7).map(|n| track("v0", true, 1_000 * (n + 1))).collect();
        assert_eq!(urgencies(&many), [3, 3, 4, 4, 5, 5, 6]);
    }

    #[test]
    fn a_response_has_a_priority_field_unless_an_origin_has_set_one() {
        let playlist = Resource::parse("/live/demo/v0.m3u8").unwrap();
        let mut response = Response::new(Body::from("text"));
        settle(Priority::default(), playlist.kind(), &mut response);
        assert_eq!(response.headers()["priority"], "u=1");
        assert_eq!(response.body().rank(), Priority::default().rank(1));
        let part = "/media/01890a5d-ac96-774b-bcce-b302099a8057/v0/7.0.m4s";
        let part = Resource::parse(part).unwrap();
        let mut response = Response::new(Body::from("media"));
        response.headers_mut().insert(PRIORITY, priority::value(6));
        settle(Priority::default(), part.kind(), &mut response);
        assert_eq!(response.headers()["priority"], "u=6");
        assert_eq!(response.body().rank(), Priority::default().rank(6));
    }
}
