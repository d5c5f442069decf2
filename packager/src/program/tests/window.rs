//! The list of segments: how far it reaches back, and how long a segment is held after it.

use super::*;

#[test]
fn unlisted_segments_are_held_for_another_window() {
    let mut bench = Bench::new(tracks(None, true));
    bench.run(10.0, 20, false, None, 0.0..200.0, 0.0);
    let track = &bench.last.as_ref().unwrap().tracks[0];
    assert_eq!(track.listed().len(), 30);
    assert_eq!(track.segments.len(), 62);
    assert_eq!(track.segments.first().unwrap().msn, 1_000 + 99 - 62);
}

#[test]
fn a_list_of_long_segments_covers_three_target_durations() {
    let mut bench = Bench::new(tracks(None, true));
    bench.program.settings.window = Duration::from_secs(12);
    bench.run(30.0, 250, false, None, 0.0..80.0, 0.0);
    let presentation = bench.last.as_ref().unwrap();
    assert_eq!(presentation.target_duration_s, 9);
    let listed: Ticks = presentation.tracks[0].listed().map(|segment| segment.duration).sum();
    let listed = listed.duration(Timescale::VIDEO);
    assert!(listed >= 3 * Duration::from_secs(9), "{listed:?}");
}
