use hex_literal::hex;
use media_core::codec::aac;
use net_core::Rope;

use super::*;
use crate::Part;

/// A window of audio at 48 kHz whose playlists reach back 10 s.
fn window() -> Window {
    let config = Config::Aac(aac::Config::parse(&hex!("1190")).unwrap());
    let (part, list) = (Duration::from_millis(200), Duration::from_secs(10));
    Window::new(TrackName::source_audio(), Arc::new(config), false, 5, part, list)
}

/// Segment `msn` of 2 s, whose parts of 1 s are `g`aps or `m`edia of 100 bytes.
fn segment(msn: u64, kinds: &str) -> Segment {
    let start = Ticks::new(96_000) * i64::try_from(msn).unwrap();
    let parts: Vec<_> = (0..)
        .zip(kinds.chars())
        .map(|(n, kind)| {
            Arc::new(Part {
                start: start + Ticks::new(48_000) * n,
                duration: Ticks::new(48_000),
                independent: true,
                gap: kind == 'g',
                bytes: match kind {
                    'g' => Rope::default(),
                    _ => Rope::from(bytes::Bytes::from(vec![0; 100])),
                },
            })
        })
        .collect();
    Segment {
        msn,
        start,
        duration: Ticks::new(96_000),
        init: 0,
        discontinuity: msn == 3,
        gap: kinds.contains('g'),
        independent: true,
        still: None,
        bytes: Rope::concat(parts.iter().map(|part| &part.bytes)),
        parts,
    }
}

fn filled(kinds: &[&str]) -> Window {
    let mut window = window();
    for (msn, kinds) in (0..).zip(kinds) {
        window.push(segment(msn, kinds));
    }
    window
}

/// Numbers of the segments listed, and how many parts the last has.
fn listed(window: &Window) -> (Vec<u64>, usize) {
    let track = window.snapshot(None);
    let last = track.listed().newest().map_or(0, |last| last.parts.len());
    (track.listed().map(|segment| segment.msn).collect(), last)
}

#[test]
fn a_segment_is_listed_for_the_window_and_held_for_as_long_again() {
    let window = filled(&["mm"; 30]);
    assert_eq!(listed(&window).0, [25, 26, 27, 28, 29]);
    // 20 s behind the edge, and its own duration.
    assert_eq!((window.oldest(), window.newest()), (Some(18), Some(29)));
    assert!(window.segment(17).is_none() && window.segment(18).is_some_and(|old| old.msn == 18));
    let track = window.snapshot(None);
    assert_eq!(track.discontinuity_sequence, 6, "segment 3 left the list");
}

#[test]
fn the_window_counts_the_bytes_of_its_held_segments() {
    let mut window = window();
    let empty = window.bytes();
    for msn in 0..200 {
        window.push(segment(msn, "mm"));
    }
    let held = segment(0, "mm").held_bytes();
    assert_eq!(window.bytes(), empty + 12 * held);
}

#[test]
fn the_oldest_segment_is_evicted_early_but_the_last_is_kept() {
    let mut window = filled(&["mm"; 4]);
    assert_eq!(window.give_up(1), None, "it is not the oldest");
    assert_eq!(window.give_up(0), Some(true));
    assert!(
        window.can_spare(1, Duration::from_secs(4)) && !window.can_spare(1, Duration::from_secs(5))
    );
    assert_eq!(
        (window.give_up(1), window.give_up(2), window.give_up(3)),
        (Some(true), Some(true), None)
    );
    assert_eq!(window.snapshot(None).discontinuity_sequence, 5);
}

#[test]
fn at_the_end_the_list_ends_with_the_last_media_of_its_kind_or_with_its_own_if_little_is_missing() {
    let patience = Duration::from_secs(3);
    // Gaps after the last media of all tracks.
    let mut window = filled(&["mm", "mm", "gg", "gg"]);
    window.withdraw_gaps(1, patience, Some(3));
    assert_eq!(listed(&window), (vec![0, 1], 2));
    // A rendition that was missing for less than patience, and for more.
    for (kinds, wanted) in
        [(&["mm", "mm", "gg"][..], vec![0, 1]), (&["mm", "gg", "gg"][..], vec![0, 1, 2])]
    {
        let mut window = filled(kinds);
        window.withdraw_gaps(2, patience, Some(2));
        assert_eq!(listed(&window).0, wanted);
    }
    // Gap parts at the end of a segment leave it, unless it was listed with them.
    let mut window = filled(&["mm", "mg"]);
    window.withdraw_gaps(1, patience, Some(0));
    assert_eq!(listed(&window), (vec![0, 1], 1));
    let mut window = filled(&["mm", "mg"]);
    window.withdraw_gaps(1, patience, Some(1));
    assert_eq!(listed(&window), (vec![0], 2));
}

#[test]
fn the_part_target_is_the_longest_usual_part_of_the_first_segment_within_the_limit() {
    let mut window = window();
    window.limit_parts(Duration::from_millis(300));
    window.push(segment(0, "mm"));
    assert_eq!(window.part_target(), Duration::from_millis(300));
    assert_eq!(filled(&["mm"]).part_target(), Duration::from_secs(1));
    // A first segment that is a gap settles the target that parts aim at.
    assert_eq!(filled(&["gg"]).part_target(), Duration::from_millis(234));
}

#[test]
fn init_segments_leave_with_the_last_segment_that_needs_them() {
    let mut window = window();
    let config = Arc::clone(window.config());
    for msn in 0..40 {
        if msn == 10 {
            window.configure(1, Arc::clone(&config));
        }
        window.push(Segment { init: window.init(), ..segment(msn, "mm") });
    }
    let numbers: Vec<_> = window.snapshot(None).inits.iter().map(|init| init.number).collect();
    assert_eq!(numbers, [1]);
}
