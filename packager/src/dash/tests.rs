use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Presentation, Text,
    renderer::example::{Cut, Example, FIRST, Made, assert_golden},
    segments::tests::READS,
};

/// Three segments, the last cut short as the publisher disconnects, a gap, another start, and a
/// segment at the edge.
fn interrupted() -> Example {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 126_000);
    example.push(Cut::Gap, 180_000);
    example.push(Cut::Discontinuity, 180_000);
    example.open_with(Cut::Media, 180_000, 2);
    example
}

/// A grid begins: a segment of 2T is followed by those of T, then the broadcast ends.
fn gridded() -> Presentation {
    let mut example = Example::new();
    for duration in [360_000, 180_000, 180_000, 180_000, 81_000] {
        example.push(Cut::Media, duration);
    }
    example.end()
}

fn string(text: &Text) -> String {
    String::from_utf8(text.plain().to_vec()).unwrap()
}

#[test]
fn manifests_with_a_gap_and_a_discontinuity() {
    let presentation = interrupted().snapshot();
    assert_golden("manifest.mpd", presentation.manifest());
    assert_golden("plain.mpd", presentation.plain_manifest());
}

#[test]
fn manifests_of_a_broadcast_that_has_ended() {
    let presentation = gridded();
    assert_golden("ended-manifest.mpd", presentation.manifest());
    assert_golden("ended-plain.mpd", presentation.plain_manifest());
}

/// A ladder of which `v360` is interrupted in its second segment, missing for two, and back; the
/// source is gridded from its sixth on.
fn laddered() -> Example {
    let mut example = Example::of(&["v0", "a0", "v480", "v360", "a64"]);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Begun);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Nothing);
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Whole);
    example.push(Cut::Media, 180_000);
    example.gridded = true;
    example.push(Cut::Media, 180_000);
    example.open_with(Cut::Media, 180_000, 2);
    example
}

#[test]
fn manifests_of_a_ladder() {
    let presentation = laddered().snapshot();
    assert_golden("ladder-manifest.mpd", presentation.manifest());
    assert_golden("ladder-plain.mpd", presentation.plain_manifest());
}

#[test]
fn the_plain_manifest_lists_a_period_when_every_rendition_has_reached_it() {
    let mut example = Example::of(&["v0", "a0", "v480", "v360"]);
    example.push(Cut::Media, 180_000);
    example.push(Cut::Discontinuity, 180_000);
    example.open_with(Cut::Media, 180_000, 1);
    let periods =
        |example: &Example| string(example.snapshot().plain_manifest()).matches("<Period ").count();
    assert_eq!(periods(&example), 2);
    // A rendition is a little behind:
    let track = example.track(3);
    track.open = track.segments.pop();
    assert_eq!(periods(&example), 1);
    assert_eq!(string(example.snapshot().manifest()).matches("<Period ").count(), 2);
}

#[test]
fn a_rendition_whose_first_segment_of_a_period_is_a_gap_is_not_in_it() {
    let mut example = Example::of(&["v0", "a0", "v480", "v360"]);
    example.push(Cut::Media, 180_000);
    example.make(3, Made::Begun);
    example.push(Cut::Discontinuity, 180_000);
    example.make(3, Made::Whole);
    example.push(Cut::Media, 180_000);
    let text = string(example.snapshot().plain_manifest());
    let periods: Vec<_> =
        text.split("<Period ").skip(1).map(|period| period.contains("id=\"v360\"")).collect();
    assert_eq!(periods, [true, false, true]);
}

#[test]
fn manifests_of_audio_alone() {
    let mut example = Example::of(&["a0"]);
    example.push(Cut::Media, 180_000);
    example.open_with(Cut::Media, 180_000, 1);
    let presentation = example.snapshot();
    assert_golden("audio-manifest.mpd", presentation.manifest());
}

#[test]
fn manifests_list_neither_an_end_nor_gaps_while_the_publisher_is_away() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 126_000);
    example.push(Cut::Gap, 180_000);
    example.open_with(Cut::Gap, 180_000, 1);
    let away = example.snapshot();
    for text in [away.manifest(), away.plain_manifest()].map(string) {
        assert!(
            text.contains(&format!("<Period id=\"{FIRST}\" start=\"PT10.000000S\">")),
            "{text}"
        );
        assert!(!text.contains("endNumber") && text.contains("minimumUpdatePeriod"), "{text}");
    }
    assert!(
        string(away.plain_manifest())
            .contains("     <S t=\"900000\" d=\"180000\"/>\n     <S d=\"126000\"/>\n    </Seg")
    );
    // It does not return:
    let text = string(example.end().manifest());
    assert!(text.contains("mediaPresentationDuration=\"PT13.420000S\""), "{text}");
    assert!(text.contains(&format!("endNumber=\"{}\"", FIRST + 1)), "{text}");
}

#[test]
fn the_presentation_delay_reaches_back_to_the_last_media_while_the_publisher_is_away() {
    let delays = |example: &Example| {
        let presentation = example.snapshot();
        let (manifest, plain) =
            (string(presentation.manifest()), string(presentation.plain_manifest()));
        let value = |text: &str, name: &str| {
            let value = text.split(&format!(" {name}=\"")).nth(1).unwrap();
            value.split('"').next().unwrap().to_owned()
        };
        [
            value(&manifest, "suggestedPresentationDelay"),
            value(&manifest, "target"),
            value(&manifest, "max"),
            value(&plain, "suggestedPresentationDelay"),
        ]
    };
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 126_000);
    let usual = delays(&example);
    assert_eq!(usual, ["PT4.000S", "2261", "62261", "PT6.000S"]);
    // Up to the end of the gap that is open, and one may fall behind by the window.
    example.open_with(Cut::Gap, 180_000, 1);
    assert_eq!(delays(&example), ["PT4.261S", "4261", "64261", "PT6.000S"]);
    for _ in 0..3 {
        example.push(Cut::Gap, 180_000);
    }
    example.open_with(Cut::Gap, 180_000, 1);
    assert_eq!(delays(&example), ["PT10.261S", "10261", "70261", "PT10.000S"]);
    // No further back than there is something listed.
    for _ in 0..24 {
        example.push(Cut::Gap, 180_000);
    }
    example.open_with(Cut::Gap, 180_000, 1);
    assert_eq!(delays(&example), ["PT56.261S", "56261", "116261", "PT56.000S"]);
    example.open_with(Cut::Discontinuity, 180_000, 1);
    assert_eq!(delays(&example), usual);
}

#[test]
fn both_manifests_name_the_same_segments() {
    let presentation = interrupted().snapshot();
    let attribute = |text: &str, name: &str| -> Vec<u64> {
        let key = format!(" {name}=\"");
        let values = text.split(&key).skip(1);
        values.map(|value| value.split('"').next().unwrap().parse().unwrap()).collect()
    };
    let (manifest, plain) =
        (string(presentation.manifest()), string(presentation.plain_manifest()));
    assert_eq!(attribute(&manifest, "startNumber"), attribute(&plain, "startNumber"));
    assert_eq!(
        attribute(&manifest, "presentationTimeOffset"),
        attribute(&plain, "presentationTimeOffset")
    );
    let segments = plain.matches("<S ").count() as u64 + attribute(&plain, "r").iter().sum::<u64>();
    assert_eq!(segments, 8, "three and one, of two tracks");
}

/// Valid against mpd.xsd of the integration tests, which permits only elements of the standard's
/// schema; and against that schema itself if DASH_MPD_XSD names a copy of it, which we may not
/// distribute (github.com/MPEGGroup/DASHSchema: DASH-MPD.xsd, with W3C's xlink.xsd beside it).
#[test]
fn manifests_are_valid_against_the_schema() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/integration/support/mpd.xsd");
    let theirs = std::env::var_os("DASH_MPD_XSD").map(PathBuf::from);
    let ended = gridded();
    let live = interrupted().snapshot();
    let ladder = laddered().snapshot();
    let texts = [
        ladder.manifest(),
        ladder.plain_manifest(),
        live.manifest(),
        live.plain_manifest(),
        ended.manifest(),
        ended.plain_manifest(),
    ];
    let dir = std::env::temp_dir().join(format!("packager-mpd-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (index, text) in texts.into_iter().enumerate() {
        let path = dir.join(format!("{index}.mpd"));
        std::fs::write(&path, text.plain()).unwrap();
        for schema in [Some(&ours), theirs.as_ref()].into_iter().flatten() {
            let mut xmllint = Command::new("xmllint");
            xmllint.args(["--nonet", "--noout", "--schema"]).arg(schema).arg(&path);
            let run = xmllint.output().expect("xmllint is installed");
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_static_manifest_starts_at_the_first_listed_segment() {
    let mut example = Example::new();
    example.window = std::time::Duration::from_secs(10);
    for _ in 0..12 {
        example.push(Cut::Media, 180_000);
    }
    let live = string(example.snapshot().manifest());
    assert!(live.contains(&format!(" startNumber=\"{FIRST}\"")), "{live}");
    let ended = example.end();
    let first = ended.tracks[0].listed().first().unwrap().msn;
    assert_eq!(first, FIRST + 7);
    for text in [ended.manifest(), ended.plain_manifest()].map(string) {
        assert!(text.contains(" type=\"static\""), "{text}");
        assert!(text.contains(&format!("<Period id=\"{FIRST}\" start=\"PT24.000000S\"")), "{text}");
        assert!(text.contains(&format!(" startNumber=\"{first}\"")), "{text}");
        assert!(text.contains(" presentationTimeOffset=\"2160000\""), "{text}");
        assert!(text.contains("mediaPresentationDuration=\"PT34.007000S\""), "{text}");
        for live in
            ["minimumUpdatePeriod", "timeShiftBufferDepth", "availabilityTimeOffset", "Latency"]
        {
            assert!(!text.contains(live), "{live} in {text}");
        }
    }
}

#[test]
fn manifests_list_the_absolute_clock_address_of_up_to_four_sites() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    let presentation = example.snapshot();
    let at = |site: &str| string(presentation.text(&crate::TextKey::Manifest(Some(site.into()))));
    for n in [0, 1, 2, 3, 0, 3] {
        let text = at(&format!("https://host-{n}.example/a"));
        let clock = format!("value=\"https://host-{n}.example/a/time\"");
        assert_eq!(text.matches(&clock).count(), 4, "{text}");
        assert_eq!(text.matches("/time\"").count(), 5, "{text}");
        let clocks: Vec<_> = text.lines().filter(|line| line.starts_with("<UTCTiming")).collect();
        assert!(clocks[0].contains(&clock) && clocks[2].contains(&clock), "{clocks:?}");
        assert!(clocks[1].contains("value=\"../../time\"") && clocks.len() == 3, "{clocks:?}");
        assert!(clocks.iter().all(|line| line.contains(":http-iso:")), "{clocks:?}");
    }
    assert_eq!(at("https://host-4.example").matches("value=\"../../time\"").count(), 3);
    let first =
        presentation.text(&crate::TextKey::Manifest(Some("https://host-0.example/a".into())));
    let again =
        presentation.text(&crate::TextKey::Manifest(Some("https://host-0.example/a".into())));
    assert!(std::ptr::eq(first, again), "rendered once");
}

#[test]
fn a_requested_site_keeps_its_manifest_slot_for_a_minute_across_snapshots() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    let begun = std::time::Instant::now();
    let at = |presentation: &crate::Presentation, site: &str| {
        let text = string(presentation.text(&crate::TextKey::Manifest(Some(site.into()))));
        text.contains(&format!("value=\"{site}/time\""))
    };
    let follow = |before: &crate::Presentation, seconds| {
        let next = example.snapshot();
        let now = begun + std::time::Duration::from_secs(seconds);
        next.rendered.keep_sites(&before.rendered, now);
        next
    };
    let first = example.snapshot();
    assert!(at(&first, "https://ours.example"));
    // The first requests to the next snapshot take free places, not ours.
    let second = follow(&first, 1);
    let invented = (0..4).filter(|n| at(&second, &format!("https://host-{n}.example")));
    assert_eq!(invented.count(), 3);
    assert!(at(&second, "https://ours.example"));
    // A minute after the last request for it, a place is free.
    let mut newest = follow(&second, 2);
    for seconds in [30, 61] {
        newest = follow(&newest, seconds);
    }
    assert!(!at(&newest, "https://other.example"));
    let later = follow(&newest, 62);
    assert!(at(&later, "https://other.example"));
}

#[test]
fn a_plain_manifest_of_201_periods_lists_each_of_2000_segments_once() {
    // Periods of ten segments, each found by its numbers. Half of the segments are listed.
    let mut example = Example::of(&["v0", "a0"]);
    example.window = std::time::Duration::from_secs(2_000);
    for n in 0..2_000 {
        let cut = if n % 10 == 9 { Cut::Discontinuity } else { Cut::Media };
        example.push(cut, 180_000);
    }
    let presentation = example.snapshot();
    let before = READS.get();
    let text = string(presentation.plain_manifest());
    let reads = READS.get() - before;
    let periods = text.matches("<Period ").count();
    assert_eq!(periods, 101);
    let segments: u64 = text
        .split(" r=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let listed = segments + text.matches("<S ").count() as u64;
    assert_eq!(listed, 2 * 1_000);
    // A walk through the held segments for each Period would be 100 times as many.
    assert!(reads <= 2 * 1_000 + 40 * periods, "{reads} reads");
}
