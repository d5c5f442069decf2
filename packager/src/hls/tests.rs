use proptest::prelude::*;

use media_core::{Ticks, TrackIndex, settings::Latency};

use crate::{
    Presentation, Skip,
    renderer::example::{Cut, Example, FIRST, Made, assert_golden},
};

fn text(presentation: &Presentation, track: usize, skip: Skip) -> String {
    String::from_utf8(presentation.media_playlist(TrackIndex::new(track), skip).plain().to_vec())
        .unwrap()
}

/// Two segments, the second cut short as the publisher disconnects, a gap, and after another start
/// a segment at the edge.
fn interrupted() -> Example {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 126_000);
    example.push(Cut::Gap, 180_000);
    example.push(Cut::Discontinuity, 180_000);
    example.open_with(Cut::Media, 180_000, 2);
    example
}

#[test]
fn multivariant_playlist_of_video_and_audio() {
    assert_golden("master.m3u8", interrupted().snapshot().multivariant());
}

#[test]
fn a_channel_of_standard_latency_lists_whole_segments_alone() {
    let mut example = interrupted();
    example.latency = Latency::Standard;
    assert_golden("standard.m3u8", example.snapshot().media_playlist(TrackIndex::FIRST, Skip::No));
    let snapshot = example.snapshot();
    assert_eq!(snapshot.manifest().plain(), snapshot.plain_manifest().plain());
    assert_golden("standard-ended.m3u8", example.end().media_playlist(TrackIndex::FIRST, Skip::No));
}

#[test]
fn multivariant_playlist_of_audio_alone_has_no_group() {
    let mut example = Example::of(&["a0"]);
    example.push(Cut::Media, 180_000);
    assert_golden("audio-master.m3u8", example.snapshot().multivariant());
}

#[test]
fn multivariant_playlist_of_video_alone_names_no_group() {
    let mut example = Example::of(&["v0"]);
    example.push(Cut::Media, 180_000);
    let text = String::from_utf8(example.snapshot().multivariant().plain().to_vec()).unwrap();
    assert!(
        text.contains(
            ",CODECS=\"avc1.64001e\",RESOLUTION=640x360,FRAME-RATE=25.000,\
             CLOSED-CAPTIONS=NONE\nv0.m3u8\n"
        ),
        "{text}"
    );
}

/// A source with three renditions of its pictures and one of its sound. `v360` was interrupted in
/// its second segment and is missing since, but for the newest.
fn laddered() -> Example {
    let mut example = Example::of(&["v0", "a0", "v480", "v360", "a64", "v160"]);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Begun);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Nothing);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Whole);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Begun);
    example.open_with(Cut::Media, 180_000, 3);
    example
}

#[test]
fn multivariant_playlist_of_a_ladder() {
    assert_golden("ladder-master.m3u8", laddered().snapshot().multivariant());
}

#[test]
fn a_gridded_source_and_an_all_gap_rendition_are_omitted_if_another_variant_has_media() {
    let mut example = laddered();
    let variants = |example: &Example| -> Vec<String> {
        let text = String::from_utf8(example.snapshot().multivariant().plain().to_vec()).unwrap();
        let names = text.lines().filter(|line| !line.starts_with('#'));
        names.map(|name| name.trim_end_matches(".m3u8").to_owned()).collect()
    };
    assert_eq!(variants(&example), ["v0", "v480", "v360", "v160"]);
    example.track(0).gridded = true;
    assert_eq!(variants(&example), ["v480", "v360", "v160"]);

    let mut example = Example::of(&["v0", "a0", "v480"]);
    example.make(2, Made::Nothing);
    example.push(Cut::Media, 180_000);
    example.track(0).gridded = true;
    assert_eq!(variants(&example), ["v0"]);
    // The source itself is away.
    let mut example = Example::of(&["v0", "a0", "v480"]);
    example.push(Cut::Gap, 180_000);
    assert_eq!(variants(&example), ["v0", "v480"]);
}

#[test]
fn media_playlist_of_a_rendition_that_was_interrupted() {
    let presentation = laddered().snapshot();
    assert_golden("v360.m3u8", presentation.media_playlist(TrackIndex::new(3), Skip::No));
    // Not all of it is there: hls.js looks for another variant as soon as it reads this.
    let text = text(&presentation, 3, Skip::No);
    assert!(!text.contains("PRELOAD-HINT"), "{text}");
    assert_eq!(text.matches("#EXT-X-GAP").count(), 3);
    assert_eq!(text.matches("#EXT-X-RENDITION-REPORT").count(), 5);
}

#[test]
fn the_resolution_attribute_is_the_display_size() {
    let mut example = Example::of(&["v0"]);
    example.push(Cut::Media, 180_000);
    let media_core::codec::Config::Avc(mut avc) = (*example.track(0).config).clone() else {
        panic!()
    };
    // PAL wide screen: 720 x 576 with samples of 64:45 is 16:9.
    (avc.width, avc.height) = (720, 576);
    avc.sample_aspect = media_core::codec::avc::SampleAspect { width: 64, height: 45 };
    example.track(0).config = std::sync::Arc::new(media_core::codec::Config::Avc(avc));
    let text = String::from_utf8(example.snapshot().multivariant().plain().to_vec()).unwrap();
    assert!(text.contains("RESOLUTION=1024x576"), "{text}");
}

#[test]
fn media_playlists_with_a_gap_a_discontinuity_and_parts_at_the_edge() {
    let presentation = interrupted().snapshot();
    assert_golden("v0.m3u8", presentation.media_playlist(TrackIndex::new(0), Skip::No));
    assert_golden("a0.m3u8", presentation.media_playlist(TrackIndex::new(1), Skip::No));
}

#[test]
fn delta_update_and_parts_of_the_last_three_target_durations() {
    let mut example = Example::new();
    for _ in 0..15 {
        example.push(Cut::Media, 180_000);
    }
    example.open_with(Cut::Media, 180_000, 1);
    let presentation = example.snapshot();
    assert_golden("v0-delta.m3u8", presentation.media_playlist(TrackIndex::new(0), Skip::Yes));
    let v2 = text(&presentation, 0, Skip::V2);
    assert_eq!(
        v2.replace("EXT-X-VERSION:10", "EXT-X-VERSION:9")
            .replace(",RECENTLY-REMOVED-DATERANGES=\"\"", ""),
        text(&presentation, 0, Skip::Yes)
    );
    assert_ne!(v2, text(&presentation, 0, Skip::Yes));
}

#[test]
fn an_ended_playlist_is_complete_without_hints_or_reports() {
    let mut example = Example::new();
    for _ in 0..20 {
        example.push(Cut::Media, 180_000);
    }
    example.push(Cut::Media, 81_000);
    let presentation = example.end();
    let whole = text(&presentation, 0, Skip::No);
    assert!(whole.ends_with(&format!(
        "#EXTINF:0.900000,\n../../media/{}/v0/{}.m4s\n#EXT-X-ENDLIST\n",
        presentation.broadcast,
        FIRST + 20
    )));
    assert!(!whole.contains("PRELOAD-HINT") && !whole.contains("RENDITION-REPORT"));
    assert_eq!(text(&presentation, 0, Skip::Yes), whole);
    assert_eq!(text(&presentation, 0, Skip::V2), whole);
}

#[test]
fn a_window_below_the_skip_boundary_has_no_delta_updates() {
    let mut example = Example::new();
    example.window = std::time::Duration::from_secs(24);
    for _ in 0..20 {
        example.push(Cut::Media, 180_000);
    }
    let presentation = example.snapshot();
    assert!(!text(&presentation, 0, Skip::No).contains("CAN-SKIP-UNTIL"));
    assert_eq!(text(&presentation, 0, Skip::Yes), text(&presentation, 0, Skip::No));
}

#[test]
fn a_dependent_segment_removes_the_independent_segments_tag_of_its_track() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.push(Cut::Gap, 180_000);
    assert!(text(&example.snapshot(), 0, Skip::No).contains("#EXT-X-INDEPENDENT-SEGMENTS\n"));
    example.track(0).dependent = 1;
    assert!(!text(&example.snapshot(), 0, Skip::No).contains("#EXT-X-INDEPENDENT-SEGMENTS\n"));
    assert!(text(&example.snapshot(), 1, Skip::No).contains("#EXT-X-INDEPENDENT-SEGMENTS\n"));
}

#[test]
fn another_init_segment_is_hinted_before_the_first_part_that_needs_it() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.open_with(Cut::Discontinuity, 180_000, 0);
    let text = text(&example.snapshot(), 0, Skip::No);
    assert!(
        text.contains("#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"../../media/")
            && text.contains("/v0/init.1.mp4\"\n"),
        "{text}"
    );
    assert!(!text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    assert_eq!(text.matches("#EXT-X-PRELOAD-HINT:TYPE=PART").count(), 1);
}

#[test]
fn a_segment_is_listed_by_its_parts_alone_until_the_next_has_a_part() {
    let listed =
        |example: &Example| text(&example.snapshot(), 0, Skip::No).matches("#EXTINF").count();
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.open_with(Cut::Media, 180_000, 0);
    assert_eq!(listed(&example), 1, "the only one is listed");
    example.push(Cut::Media, 180_000);
    example.open_with(Cut::Media, 180_000, 0);
    let presentation = example.snapshot();
    let playlist = text(&presentation, 0, Skip::No);
    let track = &presentation.tracks[0];
    let parts = track.segments[1].parts.len();
    let (last, hint) = (format!("{}.{}.m4s", FIRST + 1, parts - 1), format!("{}.0.m4s", FIRST + 2));
    let at = |what: &str| playlist.find(what).unwrap_or_else(|| panic!("{what} in {playlist}"));
    assert!(at(&last) < at("#EXT-X-PRELOAD-HINT") && at("#EXT-X-PRELOAD-HINT") < at(&hint));
    assert_eq!(listed(&example), 1);
    assert!(
        track.has(FIRST + 1, Some(parts - 1))
            && !track.has(FIRST + 1, Some(parts))
            && !track.has(FIRST + 1, None)
    );
    example.open_with(Cut::Media, 180_000, 1);
    let presentation = example.snapshot();
    assert_eq!(listed(&example), 2);
    assert!(
        presentation.tracks[0].has(FIRST + 1, Some(parts))
            && presentation.tracks[0].has(FIRST + 1, None)
    );
    example.open_with(Cut::Media, 180_000, 0);
    let mut ended = example.snapshot();
    ended.tracks.iter_mut().for_each(|track| std::sync::Arc::make_mut(track).open = None);
    ended.ended = true;
    assert_eq!(text(&ended, 0, Skip::No).matches("#EXTINF").count(), 2);
}

#[test]
fn nothing_is_hinted_in_a_gap() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.open_with(Cut::Gap, 180_000, 2);
    assert!(!text(&example.snapshot(), 0, Skip::No).contains("PRELOAD-HINT"));
}

/// A media playlist read back as a player keeps it. Times in microseconds.
#[derive(Debug, Default)]
struct Read {
    msn: u64,
    discontinuity_sequence: u64,
    part_target: i64,
    segments: Vec<ReadSegment>,
    /// Durations of the parts of the open segment.
    open: Vec<i64>,
}

/// A complete segment of it. Times in microseconds.
#[derive(Debug)]
struct ReadSegment {
    duration: i64,
    /// Its discontinuity sequence number.
    discontinuity: u64,
    /// Durations of the parts that are listed.
    parts: Vec<i64>,
}

fn micros(seconds: &str) -> i64 {
    let (whole, fraction) = seconds.split_once('.').unwrap();
    whole.parse::<i64>().unwrap() * 1_000_000 + format!("{fraction:0<6}").parse::<i64>().unwrap()
}

fn read(text: &str) -> Read {
    let mut read = Read::default();
    let (mut discontinuities, mut duration) = (0, 0);
    for line in text.lines() {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-MEDIA-SEQUENCE" => read.msn = value.parse().unwrap(),
            "#EXT-X-DISCONTINUITY-SEQUENCE" => read.discontinuity_sequence = value.parse().unwrap(),
            "#EXT-X-PART-INF" => read.part_target = micros(&value["PART-TARGET=".len()..]),
            "#EXT-X-DISCONTINUITY" => discontinuities += 1,
            "#EXT-X-PART" => {
                read.open.push(micros(value["DURATION=".len()..].split(',').next().unwrap()))
            }
            "#EXTINF" => duration = micros(value.trim_end_matches(',')),
            _ if !line.starts_with('#') => {
                let parts = std::mem::take(&mut read.open);
                let discontinuity = read.discontinuity_sequence + discontinuities;
                read.segments.push(ReadSegment { duration, discontinuity, parts });
            }
            _ => {}
        }
    }
    read
}

/// The whole playlist without the lines of its first `skipped` segments, and with the EXT-X-MAP
/// that applies to the first that is left.
fn without(whole: &str, skipped: usize) -> String {
    let header = whole.find("#EXT-X-DISCONTINUITY-SEQUENCE").unwrap();
    let header = header + whole[header..].find('\n').unwrap() + 1;
    let mut rest = &whole[header..];
    for _ in 0..skipped {
        let uri = rest.find("\n..").unwrap() + 1;
        rest = &rest[uri + rest[uri..].find('\n').unwrap() + 1..];
    }
    let gone = &whole[..whole.len() - rest.len()];
    let map = gone.lines().rfind(|line| line.starts_with("#EXT-X-MAP"));
    let own = rest.lines().take(2).any(|line| line.starts_with("#EXT-X-MAP"));
    let map = map.filter(|_| !own).map_or(String::new(), |map| format!("{map}\n"));
    format!("{}#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n{map}{rest}", &whole[..header])
}

fn script() -> impl Strategy<Value = Vec<(Cut, i64)>> {
    let cut =
        prop_oneof![8 => Just(Cut::Media), 1 => Just(Cut::Discontinuity), 2 => Just(Cut::Gap)];
    prop::collection::vec(
        (cut, prop_oneof![Just(180_000i64), Just(180_180), 30_000i64..360_000]),
        1..50,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn playlists_obey_rfc_8216bis_after_any_sequence_of_cuts(
        script in script(),
        parts in 0usize..4,
        window in 26u64..60,
    ) {
        let mut example = Example::new();
        example.window = std::time::Duration::from_secs(window);
        let mut numbers = std::collections::BTreeMap::new();
        let mut before = [(0, 0); 2];
        for (cut, duration) in script {
            example.push(cut, duration);
            example.open_with(Cut::Media, 180_000, parts);
            let presentation = example.snapshot();
            for (index, before) in before.iter_mut().enumerate() {
                let whole = text(&presentation, index, Skip::No);
                let read = read(&whole);
                prop_assert!(before.0 <= read.msn && before.1 <= read.discontinuity_sequence);
                *before = (read.msn, read.discontinuity_sequence);
                for (msn, segment) in (read.msn..).zip(&read.segments) {
                    let ReadSegment { duration, discontinuity, parts } = segment;
                    let first = *numbers.entry((index, msn)).or_insert(*discontinuity);
                    prop_assert_eq!(first, *discontinuity);
                    prop_assert!(parts.iter().all(|part| *part <= read.part_target));
                    prop_assert!(parts.is_empty() || parts.iter().sum::<i64>() == *duration);
                    prop_assert!((*duration + 500_000) / 1_000_000 <= 4);
                }
                // The parts of the last three target durations, and no others but those of a
                // segment that reaches into them.
                let track = &presentation.tracks[index];
                let hz = i64::from(track.timescale().hz());
                let withheld = track.segments.last().filter(|_| track.withholds_newest());
                let withheld = withheld.map_or(Ticks::ZERO, |withheld| withheld.duration);
                let open = track.open.as_ref().unwrap().duration + withheld;
                let open = open.get() * 1_000_000 / hz;
                let mut after = open;
                for ReadSegment { duration, parts, .. } in read.segments.iter().rev() {
                    prop_assert!(!parts.is_empty() || after + 2 >= 12_000_000, "{after}");
                    prop_assert!(parts.is_empty() || after <= 12_000_002, "{after}");
                    after += duration;
                }
                let delta = text(&presentation, index, Skip::Yes);
                match delta.split_once("SKIPPED-SEGMENTS=") {
                    None => prop_assert_eq!(&delta, &whole),
                    Some((_, rest)) => {
                        let skipped: usize = rest.lines().next().unwrap().parse().unwrap();
                        prop_assert_eq!(delta, without(&whole, skipped));
                        let left = read.segments[skipped..].iter();
                        let left: i64 = left.map(|segment| segment.duration).sum();
                        prop_assert!(left + open + 2 >= 24_000_000);
                    }
                }
            }
        }
    }
}

#[test]
fn trailing_gaps_are_listed_while_live_and_omitted_after_the_end() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 126_000);
    example.push(Cut::Gap, 180_000);
    example.push(Cut::Gap, 180_000);
    let waiting = text(&example.snapshot(), 0, Skip::No);
    assert_eq!(waiting.matches("#EXTINF").count(), 4);
    let presentation = example.end();
    let ended = text(&presentation, 0, Skip::No);
    assert!(
        !ended.contains("GAP") && ended.contains(&format!("#EXT-X-MEDIA-SEQUENCE:{FIRST}\n")),
        "{ended}"
    );
    let last = format!(
        "#EXTINF:1.400000,\n../../media/{}/v0/{}.m4s\n#EXT-X-ENDLIST\n",
        presentation.broadcast,
        FIRST + 1
    );
    assert!(ended.ends_with(&last), "{ended}");
}

#[test]
fn only_the_full_playlist_of_a_long_window_is_slow_to_render() {
    let mut example = Example::of(&["v0"]);
    example.window = std::time::Duration::from_secs(86_400);
    for _ in 0..3_000 {
        example.push(Cut::Media, 180_000);
    }
    example.open_with(Cut::Media, 180_000, 1);
    let presentation = example.snapshot();
    let playlist = |skip| crate::TextKey::Playlist { track: TrackIndex::new(0), skip };
    assert!(presentation.is_slow(&playlist(Skip::No), false));
    for skip in [Skip::Yes, Skip::V2] {
        assert!(!presentation.is_slow(&playlist(skip), true));
        let delta = text(&presentation, 0, skip);
        assert!(delta.contains("SKIPPED-SEGMENTS=298") && delta.len() < 10_000, "{delta}");
    }
    let whole = presentation.text(&playlist(Skip::No));
    whole.prepare(false);
    assert!(!presentation.is_slow(&playlist(Skip::No), false));
    assert!(presentation.is_slow(&playlist(Skip::No), true), "it is not compressed yet");
    whole.prepare(true);
    assert!(!presentation.is_slow(&playlist(Skip::No), true));
}
