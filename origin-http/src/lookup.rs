//! The bytes for a media request, according to one snapshot. Pure.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use media_core::Ticks;
use net_core::Rope;
use packager::{LiveEdge, Presentation, Track};

use crate::resource::Object;

/// A segment without a chunk: `styp` with the brand `msdh` (ISO/IEC 14496-12 8.16.2).
const NO_MEDIA: &[u8] = b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix";

/// Number of segments after a broadcast's last one that are whole without media: as many as
/// players' clocks reach before they have read the end. DASH players treat a 404 as a fault, and
/// Shaka stops.
const AFTER_END: u64 = 16;

/// The state of a track's address.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Complete bytes.
    Bytes(Rope),
    /// The open segment: its parts as they are completed.
    Growing(u64),
    /// A hinted part: held until it is complete (RFC 8216bis 4.4.5.3).
    Hinted(u64, usize),
    /// The segment after the open one, which will be growing soon. DASH players, which follow the
    /// clock, may request it a little early.
    Next(u64),
    /// Not there yet, and not announced.
    Future,
    /// Not there any more, or only a gap.
    Gone,
}

/// Looks up `object` in `track`. `ended`: nothing follows, so that nothing is worth waiting for.
pub(crate) fn find(track: &Track, object: Object, ended: bool) -> Found {
    // A number beyond the live edge is for the future, any other absent one has left the window.
    let absent = |future: bool| if future && !ended { Found::Future } else { Found::Gone };
    match object {
        Object::Init(number) => match track.init(number) {
            Some(init) => Found::Bytes(init.bytes.clone().into()),
            None => {
                let newest = track.inits.last().map(|newest| newest.number);
                // A Period lists it when the source starts the segment that needs it; a rendition
                // does so a little later.
                let next = newest.and_then(|newest| newest.checked_add(1)) == Some(number);
                match track.edge().filter(|_| next && !ended) {
                    Some(edge) => Found::Next(edge.msn.saturating_add(1)),
                    None => absent(newest.is_none_or(|newest| number > newest)),
                }
            }
        },
        Object::Segment(msn) => match track.segment(msn) {
            // DASH players request gaps too, and stop at a 404: a gap is a whole segment without
            // media.
            Some(segment) if segment.gap && segment.parts.iter().all(|part| part.gap) => {
                Found::Bytes(Rope::from(Bytes::from_static(NO_MEDIA)))
            }
            Some(_) if track.open.as_ref().is_some_and(|open| open.msn == msn) => {
                Found::Growing(msn)
            }
            Some(segment) => Found::Bytes(segment.bytes.clone()),
            None if !ended
                && track.edge().is_some_and(|edge| msn == edge.msn.saturating_add(1)) =>
            {
                Found::Next(msn)
            }
            None if ended && is_after_end(track, msn) => {
                Found::Bytes(Rope::from(Bytes::from_static(NO_MEDIA)))
            }
            None => absent(track.edge().is_none_or(|edge| msn > edge.msn)),
        },
        Object::Part(msn, index) => {
            // The edge is the newest segment and the number of its parts.
            let LiveEdge { msn: newest, parts } = track.edge().unwrap_or_default();
            let open = track.open.is_some();
            // The part after the last one of the open segment, or the first of the next segment.
            let hinted = (open && msn == newest && index == parts)
                || (msn == newest.saturating_add(1) && index == 0);
            match track.segment(msn).and_then(|segment| segment.parts.get(index)) {
                Some(part) if part.gap => Found::Gone,
                Some(part) => Found::Bytes(part.bytes.clone()),
                None if hinted && !ended => Found::Hinted(msn, index),
                None => absent(msn > newest || (open && msn == newest)),
            }
        }
    }
}

/// Time of an object's last modification, for If-Unmodified-Since: the wall clock at its end. A
/// header belongs to the start of the broadcast. An object that does not exist has the same time,
/// and is never sent.
pub(crate) fn published(presentation: &Presentation, track: &Track, object: Object) -> SystemTime {
    // Times are in ticks of the track; the end of an object that is not held counts as the start.
    let end = match object {
        Object::Init(_) => None,
        Object::Segment(msn) => track.segment(msn).map(|segment| segment.end()),
        Object::Part(msn, index) => {
            let part = track.segment(msn).and_then(|segment| segment.parts.get(index));
            part.map(|part| part.start + part.duration)
        }
    };
    wall(presentation, track, end.unwrap_or(Ticks::ZERO))
}

/// Time of the last change of a track's lists: the wall clock at its live edge.
pub(crate) fn updated(presentation: &Presentation, track: &Track) -> SystemTime {
    let newest = track.open.as_ref().or(track.segments.last());
    wall(presentation, track, newest.map_or(Ticks::ZERO, |segment| segment.end()))
}

/// The wall clock at a time of a track, but not later than now, whatever the publisher's clock is.
fn wall(presentation: &Presentation, track: &Track, time: Ticks) -> SystemTime {
    let millis = i128::from(time.get()) * 1_000 / i128::from(track.timescale().hz());
    let since_anchor = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    (presentation.anchor_utc + since_anchor).min(SystemTime::now())
}

/// Whether the clock reaches segment `msn` soon after the end.
fn is_after_end(track: &Track, msn: u64) -> bool {
    let newest = track.edge().map_or(0, |edge| edge.msn);
    (1..=AFTER_END).contains(&msn.saturating_sub(newest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    fn name(found: &Found) -> &'static str {
        match found {
            Found::Bytes(_) => "bytes",
            Found::Growing(_) => "growing",
            Found::Hinted(..) => "hinted",
            Found::Next(_) => "next",
            Found::Future => "future",
            Found::Gone => "gone",
        }
    }

    #[test]
    fn objects_near_the_live_edge_are_classified_before_and_after_the_end() {
        // Given segments 100 to 102 of 5 parts each, and segment 103 with 2 parts:
        let track = sample::track("v0", 100, 3, 5, Some(2));
        for (object, expected, after_the_end) in [
            (Object::Init(0), "bytes", "bytes"),
            (Object::Init(1), "next", "gone"),
            (Object::Init(2), "future", "gone"),
            (Object::Segment(99), "gone", "gone"),
            (Object::Segment(100), "bytes", "bytes"),
            (Object::Segment(103), "growing", "growing"),
            (Object::Segment(104), "next", "bytes"),
            (Object::Segment(119), "future", "bytes"),
            (Object::Segment(120), "future", "gone"),
            (Object::Segment(u64::MAX), "future", "gone"),
            (Object::Part(99, 0), "gone", "gone"),
            (Object::Part(102, 4), "bytes", "bytes"),
            (Object::Part(102, 5), "gone", "gone"),
            (Object::Part(103, 1), "bytes", "bytes"),
            (Object::Part(103, 2), "hinted", "gone"),
            (Object::Part(103, 3), "future", "gone"),
            (Object::Part(104, 0), "hinted", "gone"),
            (Object::Part(104, 1), "future", "gone"),
            (Object::Part(u64::MAX, 0), "future", "gone"),
        ] {
            assert_eq!(name(&find(&track, object, false)), expected, "{object:?}");
            assert_eq!(
                name(&find(&track, object, true)),
                after_the_end,
                "{object:?} after the end"
            );
        }
    }

    #[test]
    fn a_gap_segment_has_placeholder_bytes_and_a_gap_part_is_gone() {
        let mut track = sample::track("v0", 100, 3, 5, None);
        let mut segments: Vec<_> = track.segments.iter().cloned().collect();
        let gap = Arc::make_mut(&mut segments[1]);
        gap.gap = true;
        gap.parts = gap.parts.iter().map(|part| Arc::new(sample::gap_of(part))).collect();
        track.segments = segments.into_iter().collect();
        let Found::Bytes(bytes) = find(&track, Object::Segment(101), false) else {
            panic!("no bytes")
        };
        assert_eq!(bytes.to_bytes(), NO_MEDIA);
        assert_eq!(name(&find(&track, Object::Part(101, 0), false)), "gone");
    }

    #[test]
    fn an_interrupted_segment_consists_of_its_parts_before_the_gap() {
        let mut track = sample::track("v0", 100, 3, 5, None);
        let mut segments: Vec<_> = track.segments.iter().cloned().collect();
        let cut = Arc::make_mut(&mut segments[1]);
        cut.gap = true;
        cut.parts[4] = Arc::new(sample::gap_of(&cut.parts[4]));
        cut.bytes = Rope::concat(cut.parts.iter().map(|part| &part.bytes));
        track.segments = segments.into_iter().collect();
        let Found::Bytes(bytes) = find(&track, Object::Segment(101), false) else {
            panic!("no bytes")
        };
        assert_eq!(bytes.to_bytes()[..], *b"101.0 101.1 101.2 101.3 ");
        assert_eq!(name(&find(&track, Object::Part(101, 3), false)), "bytes");
        assert_eq!(name(&find(&track, Object::Part(101, 4), false)), "gone");
    }

    proptest! {
        #[test]
        fn every_held_part_and_segment_is_found_and_arbitrary_objects_never_panic(
            first in 0u64..3, segments in 0usize..4, parts in 1usize..4,
            open in proptest::option::of(0usize..4),
            msn: u64, index: usize, number: u32,
        ) {
            let track = sample::track("v0", first, segments, parts, open);
            for at in first..first + segments as u64 {
                prop_assert_eq!(name(&find(&track, Object::Segment(at), false)), "bytes");
                for index in 0..parts {
                    prop_assert_eq!(name(&find(&track, Object::Part(at, index), false)), "bytes");
                }
            }
            for object in [
                Object::Segment(msn),
                Object::Part(msn, index),
                Object::Init(number),
                Object::Part(msn % 8, index % 8),
            ] {
                let _ = find(&track, object, false);
            }
        }
    }
}
