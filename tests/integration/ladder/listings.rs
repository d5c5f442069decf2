//! Listing of a broadcast's renditions: in the multivariant playlist from the first response on, in
//! the manifests as switchable sets; and playback from there.

use crate::{
    ladder::stage::{self, RUNGS, Rendition, Stage, VIDEO},
    support::{
        daemon::Settings,
        dash, ffprobe,
        follow::{self, Followed},
        media::{PLAIN, Recipe},
        playlist::Multivariant,
        push::{self, Push},
        rtmp, wait_for,
    },
};
use roxmltree::Node;
use serde_json::Value;
use std::{collections::BTreeSet, thread, time::Duration};

const LIMIT: Duration = Duration::from_secs(120);

fn push(stage: &Stage, channel: &str, recipe: Recipe, seconds: u32) -> Push {
    let tags = push::first(&rtmp::tags(&recipe.flv()), seconds);
    Push::start(stage.rtmp, channel, tags)
}

/// The first response with the multivariant playlist, which is requested before publishing.
#[track_caller]
fn first_answer(stage: &Stage, channel: &str) -> Multivariant {
    let path = format!("/live/{channel}/master.m3u8");
    for _ in 0..1000 {
        let response = stage.get(&path);
        if response.status == 200 {
            return Multivariant::parse(&response.text());
        }
        assert_eq!(response.status, 404, "{}", response.text());
        thread::sleep(Duration::from_millis(20));
    }
    panic!("no {path}");
}

/// The names of a multivariant playlist's video tracks, in its order.
fn names(master: &Multivariant) -> Vec<String> {
    let uris = master.variants.iter().map(|(_, uri)| uri);
    uris.map(|uri| uri.trim_end_matches(".m3u8").to_owned()).collect()
}

/// `avc1.PPCCLL` of a header: the three bytes after the version of its avcC (RFC 6381 3.4, ISO/IEC
/// 14496-15 5.3.3.1).
fn codec(init: &[u8]) -> String {
    let at = init.windows(4).position(|name| name == b"avcC").expect("an avcC");
    let [profile, constraints, level] = init[at + 5..at + 8] else { panic!("three bytes") };
    format!("avc1.{profile:02x}{constraints:02x}{level:02x}")
}

/// Bit rate of each whole segment of a rendition, and of all together.
fn rates(followed: &Followed) -> (Vec<f64>, f64) {
    let whole = followed.segments.iter().filter(|(segment, _)| !segment.gap);
    #[expect(clippy::cast_precision_loss, reason = "bits of seconds")]
    let bits = |bytes: &[u8]| bytes.len() as f64 * 8.0;
    let all: Vec<(f64, f64)> =
        whole.map(|(segment, bytes)| (bits(bytes), segment.duration)).collect();
    let (bits, seconds) =
        all.iter().fold((0.0, 0.0), |sum, (bits, seconds)| (sum.0 + bits, sum.1 + seconds));
    (all.iter().map(|(bits, seconds)| bits / seconds).collect(), bits / seconds)
}

/// Asserts that a variant's attributes are correct for a rendition with audio.
#[track_caller]
fn assert_variant_attributes(
    stage: &Stage,
    channel: &str,
    master: &Multivariant,
    rendition: &Rendition,
    audio: &Followed,
) {
    let uri = format!("{}.m3u8", rendition.name);
    let found = master.variants.iter().find(|(_, have)| *have == uri);
    let (variant, _) = found.unwrap_or_else(|| panic!("no {uri} in {master:?}"));
    let name = &rendition.name;
    assert_eq!(
        variant.quoted("CODECS"),
        Some(format!("{},mp4a.40.2", codec(&rendition.followed.init))),
        "{name}"
    );
    let shown = rendition.shown_sizes(stage, channel);
    let said = variant.raw("RESOLUTION").map(str::to_owned);
    assert_eq!(said, shown.first().map(|(width, height)| format!("{width}x{height}")), "{name}");
    // RFC 8216bis 4.4.6.2: the highest rate of a segment plus the audio's, and the average.
    let ((video, mean), (sound, sound_mean)) = (rates(&rendition.followed), rates(audio));
    let highest = |rates: Vec<f64>| rates.into_iter().fold(0.0, f64::max);
    for (attribute, want) in
        [("BANDWIDTH", highest(video) + highest(sound)), ("AVERAGE-BANDWIDTH", mean + sound_mean)]
    {
        let said: f64 = variant.number(attribute).expect("a number");
        let off = said / want - 1.0;
        assert!(off.abs() < 0.02, "{name}: {attribute}={said}, measured {want}");
    }
}

#[test]
fn rungs_are_listed_in_the_first_playlist_with_correct_attributes_for_every_aspect_ratio() {
    // The picture is 640x360 in each, landscape or portrait; rungs of 360 lines and more would be
    // no smaller.
    let rungs = "rungs = [{ height = 240, video_kbps = 400 }, { height = 144, video_kbps = 200 }, \
                 { height = 360, video_kbps = 800 }, { height = 720, video_kbps = 2000 }]";
    let stage = Stage::with(&Settings {
        ladder: RUNGS.replace(RUNGS.lines().next().expect("the rungs"), rungs),
        ..stage::lasting()
    });
    let short = Recipe { seconds: 12, ..PLAIN };
    let sources = [
        ("landscape", short, [(640, 360), (426, 240), (256, 144)]),
        ("portrait", Recipe { size: (360, 640), ..short }, [(360, 640), (240, 426), (144, 256)]),
        (
            "anamorphic",
            Recipe { size: (480, 360), sample_aspect: (4, 3), ..short },
            [(640, 360), (426, 240), (256, 144)],
        ),
    ];
    thread::scope(|scope| {
        for (channel, recipe, sizes) in sources {
            let stage = &stage;
            scope.spawn(move || {
                let push = push(stage, channel, recipe, 10);
                let first = first_answer(stage, channel);
                assert_eq!(names(&first), VIDEO, "{channel}: the first answer");
                let resolutions: Vec<_> =
                    first.variants.iter().map(|(variant, _)| variant.raw("RESOLUTION")).collect();
                let sizes = sizes.map(|(width, height)| format!("{width}x{height}"));
                assert_eq!(resolutions, sizes.each_ref().map(|size| Some(&**size)), "{channel}");
                for (variant, uri) in &first.variants {
                    let peak: u64 = variant.number("BANDWIDTH").expect("BANDWIDTH");
                    assert!(peak > 100_000, "{channel}: {peak} bit/s of {uri} is measured");
                    assert_eq!(variant.number::<f64>("FRAME-RATE"), Some(25.0), "{channel}: {uri}");
                }

                let tracks = [&VIDEO[..], &["a0"]].concat();
                let mut renditions = stage::follow_to_the_end(stage, channel, &tracks, LIMIT);
                push.finish();
                let audio = renditions.pop().expect("the audio");
                let last =
                    Multivariant::parse(&stage.get(&format!("/live/{channel}/master.m3u8")).text());
                assert_eq!(names(&last), VIDEO, "{channel}: the last answer");
                for rendition in &renditions {
                    assert_variant_attributes(stage, channel, &last, rendition, &audio.followed);
                }
            });
        }
    });
}

#[test]
fn ffmpeg_plays_the_source_and_each_rung_from_the_playlists() {
    let stage = Stage::start();
    let _push = push(&stage, "played", PLAIN, 40);
    stage.wait_until_live("played");
    thread::scope(|scope| {
        for name in ["master", "v0", "v240", "v144"] {
            let url = stage.url(&format!("/live/played/{name}.m3u8"));
            scope.spawn(move || {
                let numbers = ffprobe::numbers(&url, Some(150));
                assert_eq!(numbers.len(), 150, "{name}");
                assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{name}: {numbers:?}");
            });
        }
    });
}

#[test]
fn the_manifests_have_source_and_rungs_in_one_set_with_aligned_segments() {
    let stage = Stage::start();
    let _push = push(&stage, "dash", PLAIN, 40);
    stage.wait_until_live("dash");
    // A few segments.
    follow::follow(stage.http, "/live/dash/v0.m3u8", LIMIT, |media| media.segments.len() >= 5);
    let manifest = |name: &str| {
        let path = format!("/live/dash/{name}");
        let text = stage.get(&path).text();
        dash::assert_valid(&text);
        (path, text)
    };
    for name in ["manifest.mpd", "plain.mpd"] {
        let (_, text) = manifest(name);
        let document = dash::parse(&text);
        let sets = document
            .descendants()
            .filter(|node| node.has_tag_name((dash::NAMESPACE, "AdaptationSet")));
        let video: Vec<_> =
            sets.filter(|set| set.attribute("contentType") == Some("video")).collect();
        let [set] = &video[..] else { panic!("one video set in {text}") };
        assert_eq!(set.attribute("segmentAlignment"), Some("true"), "{name}");
        assert_eq!(set.attribute("startWithSAP"), Some("1"), "{name}");
        let shape = |node: Node<'_, '_>| {
            let side = |name| node.attribute(name).expect("a side").to_owned();
            (node.attribute("id").expect("@id").to_owned(), side("width"), side("height"))
        };
        let representations =
            set.children().filter(|node| node.has_tag_name((dash::NAMESPACE, "Representation")));
        let shapes: BTreeSet<_> = representations.map(shape).collect();
        let want = [("v0", "640", "360"), ("v240", "426", "240"), ("v144", "256", "144")];
        assert_eq!(
            shapes,
            BTreeSet::from(want.map(|(id, w, h)| (id.to_owned(), w.to_owned(), h.to_owned()))),
            "{name}"
        );
    }
    let (path, text) = manifest("plain.mpd");
    let video: Vec<_> = dash::timeline(&path, &text)
        .into_iter()
        .filter(|representation| representation.content_type == "video")
        .collect();
    let spans = |representation: &dash::Representation| {
        let segments = representation.segments.iter();
        segments
            .map(|segment| (segment.number, segment.start, segment.duration))
            .collect::<Vec<_>>()
    };
    let of_source = spans(&video[0]);
    assert_eq!(video.len(), 3);
    for representation in &video {
        // The newest media may not be encoded yet.
        let spans = spans(representation);
        assert!(spans.len() >= 3, "{text}");
        assert!(of_source.starts_with(&spans), "{}: {spans:?} {of_source:?}", representation.id);
        for segment in &representation.segments {
            assert_eq!(stage.get(&segment.path).status, 200, "{}", segment.path);
        }
    }
    let of_manifest = ffprobe::streams(stage.url("/live/dash/manifest.mpd"));
    let heights: BTreeSet<_> =
        of_manifest.iter().filter_map(|stream| stream.get("height")?.as_u64()).collect();
    assert_eq!(heights, BTreeSet::from([360, 240, 144]), "as ffprobe reads it");
}

#[test]
fn a_gridded_source_is_not_listed_and_its_stand_in_is() {
    let stage = Stage::start();
    thread::scope(|scope| {
        for (channel, b_frames) in [("plain", 0), ("reordered", 2)] {
            let stage = &stage;
            let endless = Recipe { seconds: 40, group: 100_000, b_frames, ..PLAIN };
            scope.spawn(move || assert_stands_in(stage, channel, endless));
        }
    });
}

#[test]
fn a_source_without_idr_pictures_has_a_stand_in_without_a_ladder() {
    let stage = Stage::with(&Settings {
        ladder: "enabled = false\nstand_in = true\npreset = \"superfast\"\ncpu_percent = 100\n"
            .into(),
        ..stage::lasting()
    });
    let open = Recipe { b_frames: 2, open_groups: true, audio_hz: None, ..PLAIN };
    // From the second group on: there is no IDR picture at all.
    let mut tags = push::first(&rtmp::tags(&open.flv()), 16);
    tags.retain(|tag| !tag.is_picture() || tag.timestamp >= 2_000);
    let push = Push::start(stage.rtmp, "open", tags);
    let source = stage.wait_until_live("open");
    assert_eq!(source.variants.len(), 1, "the source or what stands in for it");
    wait_for("a rendition of the source's size", Duration::from_secs(30), || {
        let master = Multivariant::parse(&stage.get("/live/open/master.m3u8").text());
        (names(&master) == ["v360"]).then_some(())
    });
    let stream = stage.get("/api/v1/streams/open").text();
    let stream: Value = serde_json::from_str(&stream).expect("JSON");
    assert!(
        stream["advice"].as_str().is_some_and(|words| words.contains("closed GOP")),
        "{stream}"
    );
    let stand_in = stage::follow_to_the_end(&stage, "open", &["v360"], LIMIT).remove(0);
    push.finish();
    assert!(stand_in.followed.last.independent_segments);
    let pictures = stand_in.segments.values().filter(|cut| cut.span.is_some()).count();
    assert!(pictures > 0, "a segment of pictures");
}

#[track_caller]
fn assert_stands_in(stage: &Stage, channel: &str, endless: Recipe) {
    let master = format!("/live/{channel}/master.m3u8");
    let push = push(stage, channel, endless, 36);
    let first = first_answer(stage, channel);
    assert_eq!(names(&first), ["v240", "v144"], "players never read it again");
    let (renditions, stand_in) = thread::scope(|scope| {
        let follower = scope.spawn(|| stage::follow_to_the_end(stage, channel, &VIDEO, LIMIT));
        wait_for("rung of the source's size", Duration::from_secs(30), || {
            let master = Multivariant::parse(&stage.get(&master).text());
            (names(&master) == ["v360", "v240", "v144"]).then_some(())
        });
        let mut stand_in = stage::follow_to_the_end(stage, channel, &["v360"], LIMIT);
        let renditions = follower.join().expect("all renditions can be followed");
        (renditions, stand_in.remove(0))
    });
    push.finish();
    let [original, top, lowest] = &renditions[..] else { panic!("a source and two rungs") };
    if endless.b_frames == 0 {
        stage::assert_in_step(&renditions);
        stage::assert_frames_of_whole(&stand_in, original, 1);
    } else {
        // At its cuts, the source's own segments have pictures that are shown before the first one
        // in decoding order.
        stage::assert_in_step(&renditions[1..]);
        stage::assert_frames_of_whole(&stand_in, top, 1);
    }
    for rung in [top, lowest] {
        assert_eq!(rung.gaps(), original.gaps(), "adding another takes nothing from {}", rung.name);
        assert_eq!(rung.times(), sorted(original.times()), "{}", rung.name);
    }
    for rung in [top, lowest, &stand_in] {
        assert!(rung.followed.last.independent_segments, "{}", rung.name);
        let mut spans: Vec<_> =
            rung.segments.values().filter_map(|cut| Some(cut.span?.1)).collect();
        spans.pop();
        assert!(spans.len() >= 6, "{}: {spans:?}", rung.name);
        // The first ends when the absence of key frames was detected; with B-frames one may be
        // longer by some of them.
        let regular = spans.iter().filter(|ticks| ticks.abs_diff(180_000) <= 7_200).count();
        assert!(regular + 1 >= spans.len(), "{}: {spans:?}", rung.name);
    }
    assert_eq!(stand_in.shown_sizes(stage, channel)[0], (640, 360));
    assert!(!original.followed.last.independent_segments, "switching to it shows garbage");
    let sets = heights_of_sets(&stage.get(&format!("/live/{channel}/manifest.mpd")).text());
    // Players cannot start in the source, so it is left out where renditions stand in for it.
    assert_eq!(sets, [vec![144, 240, 360]]);
}

fn sorted(mut times: Vec<i64>) -> Vec<i64> {
    times.sort_unstable();
    times
}

/// The heights in each video AdaptationSet of the last Period, lowest first.
fn heights_of_sets(manifest: &str) -> Vec<Vec<u32>> {
    let document = dash::parse(manifest);
    let named = |node: &Node<'_, '_>, name: &str| node.has_tag_name((dash::NAMESPACE, name));
    let root = document.root_element();
    let period = root.children().rfind(|node| named(node, "Period")).expect("a Period");
    let sets = period.children().filter(|node| node.attribute("contentType") == Some("video"));
    let height =
        |node: Node<'_, '_>| node.attribute("height").expect("@height").parse().expect("lines");
    sets.map(|set| {
        let representations = set.children().filter(|node| named(node, "Representation"));
        let mut heights: Vec<_> = representations.map(height).collect();
        heights.sort_unstable();
        heights
    })
    .collect()
}

#[test]
fn a_source_with_8_3_s_groups_of_obs_is_listed_with_its_rungs() {
    let stage = Stage::start();
    let obs = Recipe { fps: Some((30, 1)), group: 250, b_frames: 2, seconds: 20, ..PLAIN };
    let push = push(&stage, "obs", obs, 20);
    let first = first_answer(&stage, "obs");
    assert_eq!(names(&first), VIDEO, "{first:?}");
    push.finish();
    let last = Multivariant::parse(&stage.get("/live/obs/master.m3u8").text());
    assert_eq!(names(&last), VIDEO, "{last:?}");
}

#[test]
fn an_audio_rendition_is_listed_decodable_and_as_long_as_the_source() {
    let stage =
        Stage::with(&Settings { ladder: format!("{RUNGS}audio_kbps = 64\n"), ..stage::lasting() });
    let push = push(&stage, "sound", PLAIN, 20);
    let first = first_answer(&stage, "sound");
    assert_eq!(names(&first), VIDEO);
    let uris: Vec<_> = first.renditions.iter().filter_map(|media| media.quoted("URI")).collect();
    assert_eq!(uris, ["a0.m3u8", "a64.m3u8"]);
    let group = |index: usize| first.renditions[index].quoted("GROUP-ID");
    for (variant, uri) in &first.variants {
        // Audio must not be a large share of a small rendition; the source's audio stays with the
        // source.
        let want = if uri == "v0.m3u8" { group(0) } else { group(1) };
        assert_eq!(variant.quoted("AUDIO"), want, "{uri}");
    }
    let renditions = stage::follow_to_the_end(&stage, "sound", &["v0", "a0", "a64"], LIMIT);
    push.finish();
    let [video, original, made] = &renditions[..] else { panic!("three tracks") };
    assert_eq!(made.gaps(), original.gaps());
    assert_eq!(made.gaps(), video.gaps());
    let access_unit = 1024;
    let (original_times, made_times) = (original.times(), made.times());
    let ends = |times: &[i64]| (times[0], times[times.len() - 1]);
    let ((from, to), (made_from, made_to)) = (ends(&original_times), ends(&made_times));
    assert!((made_from - from).abs() <= access_unit, "starts at {made_from}, the source at {from}");
    assert!((made_to - to).abs() <= access_unit, "ends at {made_to}, the source at {to}");
    assert!(made_times.windows(2).all(|pair| pair[1] - pair[0] == access_unit), "without a hole");
    for (msn, cut) in &made.segments {
        let (Some((have, _)), Some((want, _))) = (cut.span, video.segments[msn].span) else {
            continue;
        };
        // 48 000 of 90 000 ticks.
        let late = have - want * 8 / 15;
        assert!(
            (0..=access_unit).contains(&late),
            "segment {msn} starts {late} samples after the video"
        );
    }
    let (_, mean) = rates(&made.followed);
    assert!((50_000.0..90_000.0).contains(&mean), "{mean} bit/s");
    let file = made.file();
    ffprobe::assert_decodes(file.path());
    let stream = &ffprobe::streams(file.path())[0];
    assert_eq!(stream.get("codec_name").and_then(Value::as_str), Some("aac"));
    assert_eq!(stream.get("channels").and_then(Value::as_u64), Some(2));
}
