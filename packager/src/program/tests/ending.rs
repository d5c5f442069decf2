//! The end of a broadcast: the lists end with the last media, so that players reach it.

use super::*;
use crate::{Skip, TextKey};

/// The playlist of a track after the end: number, whether it is a gap, and the number of parts that
/// are gaps.
fn listed(track: &Track) -> Vec<(u64, bool, usize)> {
    let gaps = |segment: &Segment| segment.parts.iter().filter(|part| part.gap).count();
    let segments = track.listed();
    segments.map(|segment| (segment.msn, segment.gap, gaps(segment))).collect()
}

#[track_caller]
fn assert_ends_with_media(presentation: &Presentation) {
    for (index, track) in presentation.tracks.iter().enumerate() {
        let rows = listed(track);
        let last = rows.last().unwrap_or_else(|| panic!("{} lists nothing", track.name));
        assert_eq!((last.1, last.2), (false, 0), "{}: {rows:?}", track.name);
        let text =
            presentation.text(&TextKey::Playlist { track: TrackIndex::new(index), skip: Skip::No });
        let text = String::from_utf8(text.plain().to_vec()).unwrap();
        assert!(!text.contains("#EXT-X-PART:"), "{text}");
        let (_, after) = text.rsplit_once("#EXTINF").unwrap();
        assert!(after.ends_with(&format!("/{}.m4s\n#EXT-X-ENDLIST\n", last.0)), "{text}");
        let end = track.listed().newest().unwrap().end().duration(track.timescale());
        let manifest: f64 = manifest_end(presentation).parse().unwrap();
        assert!(
            manifest - end.as_secs_f64() > 0.000_9,
            "{} ends at {end:?}, the manifest at {manifest}: players must not meet its end",
            track.name
        );
    }
}

/// The end of the presentation in its manifest.
fn manifest_end(presentation: &Presentation) -> String {
    let text = presentation.text(&TextKey::Manifest(None));
    let text = String::from_utf8(text.plain().to_vec()).unwrap();
    assert!(text.contains(" type=\"static\"") && !text.contains("minimumUpdatePeriod"), "{text}");
    let (_, end) = text.split_once("mediaPresentationDuration=\"PT").unwrap();
    end.split('S').next().unwrap().to_owned()
}

#[test]
fn gaps_of_an_unsuccessful_wait_for_a_return_are_not_listed_after_the_end() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..5.0, 0.0);
    bench.producer.take().unwrap().leave(bench.at(5_000));
    bench.tick(5_000..15_100);
    let waiting = bench.last.as_ref().unwrap();
    let before = waiting.tracks[0].listed().newest().unwrap().msn;
    let presentation = bench.end(15_100);
    assert_ends_with_media(presentation);
    assert_eq!(listed(&presentation.tracks[0]).last().unwrap().0, 1_002);
    assert!(before > 1_002, "gaps were listed: {before}");
    // They are still held: DASH players ask for their numbers until they know of the end.
    assert!(presentation.tracks[0].segment(before).is_some());
    assert_eq!(manifest_end(presentation), "15.035000", "media time begins at 10 s");
}

#[test]
fn both_tracks_end_together_while_video_is_a_still_picture() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..3.0, 0.0);
    for n in 141..600i64 {
        let ms = n * 1024 / 48;
        bench.hub.advance(bench.at(ms));
        bench.send(1, ms, ms, 0, true);
    }
    let presentation = bench.end(12_800);
    assert_ends_with_media(presentation);
    let last = |track: usize| listed(&presentation.tracks[track]).last().unwrap().0;
    assert_eq!(last(0), last(1));
}

#[test]
fn a_broadcast_shorter_than_a_segment_lists_one_media_segment() {
    for away_ms in [0, 10_100] {
        let mut bench = Bench::new(tracks(AAC_48, true));
        bench.run(30.0, 60, false, Some(48_000.0), 0.0..0.7, 0.0);
        bench.producer.take().unwrap().leave(bench.at(700));
        bench.tick(700..700 + away_ms);
        let presentation = bench.end(700 + away_ms);
        assert_ends_with_media(presentation);
        assert_eq!(listed(&presentation.tracks[0]), [(1_000, false, 0)]);
        assert_eq!(manifest_end(presentation), "10.705000");
    }
}

#[test]
fn every_rendition_ends_with_media_when_its_worker_is_killed_with_the_source() {
    for (seconds, delay) in [(7.0, 300), (7.3, 700), (8.1, 900), (6.02, 2_000)] {
        let mut bench = Bench::new(tracks(AAC_48, true));
        let rung = Rung::new(bench.consumer.broadcast(), "v180", delay);
        bench.rungs.push(rung);
        bench.run(30.0, 60, false, Some(48_000.0), 0.0..seconds, 0.0);
        // Its worker is killed with the source.
        bench.rungs.clear();
        let presentation = bench.end(8_200);
        assert_eq!(presentation.tracks.len(), 3);
        assert_ends_with_media(presentation);
    }
}

#[test]
fn a_rendition_missing_for_22_s_lists_gaps_up_to_the_end_of_the_source() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    let rung = Rung::new(bench.consumer.broadcast(), "v180", 300);
    bench.rungs.push(rung);
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..8.0, 0.0);
    bench.rungs.clear();
    bench.run(30.0, 60, false, Some(48_000.0), 8.0..30.0, 0.0);
    let presentation = bench.end(30_000);
    let [source, rendition] = [0, 2].map(|track| listed(&presentation.tracks[track]));
    // A player that chose it would take its list's end for the broadcast's.
    assert_eq!(source.last().unwrap().0, rendition.last().unwrap().0);
    assert!(rendition.last().unwrap().1 && !source.last().unwrap().1);
}
