//! A source whose description changes, or whose tracks appear one after the other: the same
//! broadcast continues.

use super::*;

/// The video configuration with another level.
fn level(level: u8) -> Config {
    let record = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );
    let mut record = record;
    (record[3], record[11]) = (level, level);
    Config::Avc(avc::Config::parse(&record).unwrap())
}

fn aac(record: [u8; 2]) -> Config {
    Config::Aac(aac::Config::parse(&record).unwrap())
}

/// Number, whether a discontinuity precedes it, and init segment of each segment.
fn kinds(track: &Track) -> Vec<(u64, bool, u32)> {
    let kind = |segment: &Arc<Segment>| (segment.msn, segment.discontinuity, segment.init);
    track.segments.iter().map(kind).collect()
}

impl Bench {
    /// Frames of track `video` (25 a second, groups of 2 s) and units of track `audio` at `rate`,
    /// in the order of time.
    fn both(
        &mut self,
        video: Option<usize>,
        audio: Option<(usize, i64)>,
        ms: std::ops::Range<i64>,
    ) {
        let frames = video.into_iter().flat_map(|track| {
            let frames = ms.clone().filter(|ms| ms % 40 == 0);
            frames.map(move |ms| (ms, track, ms % 2_000 == 0))
        });
        let units = audio.into_iter().flat_map(|(track, rate)| {
            let ms = ms.clone();
            (ms.start * rate / 1_024_000..)
                .map(move |n| n * 1_024_000 / rate)
                .skip_while(move |at| *at < ms.start)
                .take_while(move |at| *at < ms.end)
                .map(move |at| (at, track, true))
        });
        let mut all: Vec<_> = frames.chain(units).collect();
        all.sort_by_key(|(ms, track, _)| (*ms, *track));
        for (ms, track, key) in all {
            self.send(track, ms, ms, 0, key);
        }
    }
}

#[test]
fn a_new_level_makes_a_discontinuity_and_a_new_init_segment() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.both(Some(0), Some((1, 48_000)), 0..4_000);
    bench.producer.as_ref().unwrap().configure(TrackIndex::new(0), &level(40)).unwrap();
    bench.both(Some(0), Some((1, 48_000)), 4_000..8_000);
    let presentation = bench.end(8_000);
    assert_sound(presentation);
    assert_in_step(presentation);
    let [video, audio] = &presentation.tracks[..] else { panic!("two tracks") };
    let wanted = [(1_000, false, 0), (1_001, false, 0), (1_002, true, 1), (1_003, false, 1)];
    assert_eq!(kinds(video), wanted);
    assert_eq!(kinds(audio), wanted.map(|(msn, discontinuity, _)| (msn, discontinuity, 0)));
    assert_eq!(stamps(video).len(), 200, "no picture is lost");
    // A player may have requested the third before it knew of its init segment.
    let sets = |level: u8| {
        let Config::Avc(avc) = self::level(level) else { panic!("video") };
        avc.sets_in_band()
    };
    for segment in video.segments.iter() {
        let bytes = segment.bytes.to_bytes();
        let carried = |sets: &[u8]| bytes.windows(sets.len()).filter(|at| *at == sets).count();
        let carries = [carried(&sets(30)), carried(&sets(40))];
        assert_eq!(carries, [0, usize::from(segment.init == 1)], "{}", segment.msn);
    }
    assert_eq!(video.config.codec_string(), "avc1.640028");
    assert_eq!(video.codec_string(), "avc1.640028");
    let master = presentation.multivariant();
    let master = std::str::from_utf8(master.plain()).unwrap().to_owned();
    assert!(master.contains("CODECS=\"avc1.640028,mp4a.40.2\""), "{master}");
    let periods: Vec<_> =
        presentation.periods.iter().map(|period| (period.first, period.continues)).collect();
    assert_eq!(periods, [(1_000, None), (1_002, None)]);
}

#[test]
fn a_lower_level_keeps_the_codec_string_that_held_segments_need() {
    let mut bench = Bench::new(vec![(TrackName::source_video(), level(40))]);
    bench.both(Some(0), None, 0..4_000);
    bench.producer.as_ref().unwrap().configure(TrackIndex::new(0), &level(30)).unwrap();
    bench.both(Some(0), None, 4_000..8_000);
    let presentation = bench.end(8_000);
    let video = &presentation.tracks[0];
    assert_eq!(video.config.codec_string(), "avc1.64001e");
    assert_eq!(video.codec_string(), "avc1.640028");
}

#[test]
fn a_new_sampling_rate_continues_without_a_hole_on_the_first_timescale() {
    for (first, second) in
        [((AAC_48, 48_000), (AAC_44, 44_100)), ((AAC_44, 44_100), (AAC_48, 48_000))]
    {
        let mut bench = Bench::new(tracks(first.0, true));
        bench.both(Some(0), Some((1, first.1)), 0..4_000);
        bench
            .producer
            .as_ref()
            .unwrap()
            .configure(TrackIndex::new(1), &aac(second.0.unwrap()))
            .unwrap();
        bench.both(Some(0), Some((1, second.1)), 4_000..24_000);
        let presentation = bench.end(24_000);
        assert_sound(presentation);
        assert_in_step(presentation);
        let audio = &presentation.tracks[1];
        assert_eq!(i64::from(audio.timescale().hz()), first.1);
        assert!(
            kinds(audio)[..2].iter().all(|(_, discontinuity, init)| !discontinuity && *init == 0)
        );
        assert_eq!(kinds(audio)[2], (1_002, true, 1));
        let hz = |init: &Arc<crate::Init>| i64::from(init.config.timescale().hz());
        assert_eq!(audio.inits.iter().map(hz).collect::<Vec<_>>(), [first.1, second.1]);
        let units = 4_000 * first.1 / 1_024_000 + 20_000 * second.1 / 1_024_000;
        let heard = stamps(audio).iter().filter(|stamp| **stamp >= 0).count();
        assert!(
            (units - 3..=units + 3).contains(&i64::try_from(heard).unwrap()),
            "{heard} of {units}"
        );
    }
}

#[test]
fn late_audio_joins_at_the_next_segment() {
    let mut bench = Bench::new(tracks(None, true));
    bench.both(Some(0), None, 0..5_000);
    assert!(bench.last.is_some(), "video alone is shown");
    let audio = bench
        .producer
        .as_ref()
        .unwrap()
        .add(TrackName::source_audio(), aac(AAC_48.unwrap()))
        .unwrap();
    bench.both(Some(0), Some((audio.get(), 48_000)), 5_000..12_000);
    let presentation = bench.end(12_000);
    let [video, audio] = &presentation.tracks[..] else { panic!("two tracks") };
    assert_continuous(video);
    assert_continuous(audio);
    assert_eq!(audio.segments[0].msn, 1_003);
    let (first, beside) = (&audio.segments[0], &video.segments[3]);
    let late = (audio.media_time(first.start) - video.media_time(beside.start)).ticks();
    assert!((0..90 * 25).contains(&late), "{late}");
    assert!(
        video.segments.iter().chain(audio.segments.iter()).all(|segment| !segment.discontinuity)
    );
    let master = presentation.multivariant();
    let master = std::str::from_utf8(master.plain()).unwrap().to_owned();
    assert!(master.contains("TYPE=AUDIO") && master.contains("AUDIO=\"audio\""), "{master}");
    let newest = presentation.periods.last().unwrap();
    assert_eq!((newest.continues, newest.init(TrackIndex::new(1))), (Some(1_000), Some(0)));
    let plain = std::str::from_utf8(presentation.plain_manifest().plain()).unwrap().to_owned();
    assert_eq!(plain.matches("<Period").count(), 2, "{plain}");
}

#[test]
fn late_video_joins_and_becomes_the_master() {
    for late in [0, 280] {
        let mut bench = Bench::new(tracks(AAC_48, false));
        bench.both(None, Some((0, 48_000)), 0..5_000);
        assert!(bench.last.is_some(), "audio alone is shown");
        let name = TrackName::source_video();
        let (_, config) = tracks(None, true).remove(0);
        assert_eq!(bench.producer.as_ref().unwrap().add(name, config), Ok(TrackIndex::new(1)));
        // Video arrives that much later than audio of the same time.
        let mut at = 5_000;
        while at < 15_000 {
            bench.both(None, Some((0, 48_000)), at..at + 40);
            let stamp = at - late;
            bench.send(1, at + 39, stamp, 0, stamp % 2_000 == 720);
            at += 40;
        }
        let presentation = bench.end(15_000);
        let [audio, video] = &presentation.tracks[..] else { panic!("two tracks") };
        assert_continuous(video);
        assert_continuous(audio);
        assert!(video.segments.len() >= 4);
        assert!(video.segments.iter().all(|segment| segment.independent && !segment.gap));
        assert!(audio.segments.iter().all(|segment| !segment.gap && !segment.discontinuity));
        for (index, v) in video.segments.iter().enumerate() {
            let a = audio.segment(v.msn).unwrap();
            let apart = (audio.media_time(a.start) - video.media_time(v.start)).ticks();
            // The first starts where audio ended.
            let most = if index == 0 { 90 * (25 + 40 + late) } else { 90 * 25 };
            assert!((-1..=most).contains(&apart), "{apart} in {}", v.msn);
        }
        let shown = stamps(video);
        assert!(
            shown.len() >= 200 && shown.windows(2).all(|pair| pair[0] + 40 == pair[1]),
            "{shown:?}"
        );
        let newest = presentation.periods.last().unwrap();
        assert!(
            newest.init(TrackIndex::new(0)).is_some() && newest.init(TrackIndex::new(1)).is_some()
        );
    }
}

#[test]
fn late_video_becomes_the_master_at_the_same_mark_after_a_packager_restart() {
    let mut bench = Bench::new(tracks(AAC_48, false));
    bench.both(None, Some((0, 48_000)), 0..3_000);
    let (name, (_, config)) = (TrackName::source_video(), tracks(None, true).remove(0));
    assert_eq!(bench.producer.as_ref().unwrap().add(name, config), Ok(TrackIndex::new(1)));
    bench.both(Some(1), Some((0, 48_000)), 3_000..7_000);
    bench.restart();
    bench.both(Some(1), Some((0, 48_000)), 7_000..14_000);
    let presentation = bench.end(14_000);
    let [audio, video] = &presentation.tracks[..] else { panic!("two tracks") };
    for track in [audio, video] {
        assert_continuous(track);
        assert!(track.segments.iter().all(|segment| !segment.gap && segment.independent));
    }
    let numbers =
        |track: &Track| track.segments.iter().map(|segment| segment.msn).collect::<Vec<_>>();
    assert_eq!(numbers(audio), [1_000, 1_001, 1_002, 1_003, 1_004, 1_005, 1_006]);
    assert_eq!(numbers(video), numbers(audio)[2..]);
    assert_eq!(stamps(audio).iter().filter(|stamp| **stamp >= 0).count(), 657);
    assert_eq!(stamps(video).len(), 250);
}

#[test]
fn video_with_a_new_level_resumes_after_its_discontinuity_mark_was_lost() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.both(Some(0), Some((1, 48_000)), 0..3_000);
    bench.producer.as_ref().unwrap().configure(TrackIndex::new(0), &level(40)).unwrap();
    // Nothing is read for a while, and more is sent than the log holds: the mark of the change is
    // among it.
    for n in 75..2_600i64 {
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(n * 3_600),
            pts: MediaSpan::from_ticks(n * 3_600),
            key: n % 50 == 0,
            independent: n % 50 == 0,
            arrived: bench.at(n * 40),
            payload: Bytes::from(vec![1; 64 << 10]),
        };
        let taken = bench.producer.as_ref().unwrap().push(TrackIndex::new(0), unit).is_ok();
        assert_eq!(taken, n >= 100, "what comes before the next key frame cannot be decoded");
    }
    bench.both(Some(0), Some((1, 48_000)), 104_000..112_000);
    let presentation = bench.end(112_000);
    assert_sound(presentation);
    let video = &presentation.tracks[0];
    let newest = video.segments.last().unwrap();
    assert_eq!((newest.gap, newest.init), (false, 1));
    assert_eq!(video.config.codec_string(), "avc1.640028");
}

#[test]
fn a_new_audio_configuration_makes_an_init_segment_and_a_discontinuity_in_both_tracks() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..4.0, 0.0);
    let mono = Config::Aac(aac::Config::parse(&hex!("1188")).unwrap());
    bench.producer.as_ref().unwrap().configure(TrackIndex::new(1), &mono).unwrap();
    bench.run(25.0, 50, false, Some(48_000.0), 4.0..8.0, 0.0);
    let presentation = bench.end(8_000);
    for track in &presentation.tracks {
        assert_continuous(track);
        let discontinuities: Vec<_> =
            track.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(discontinuities, [false, false, true, false], "{}", track.name);
    }
    assert_in_step(presentation);
    let audio = &presentation.tracks[1];
    assert_eq!(audio.segments.iter().map(|segment| segment.init).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!(audio.inits.len(), 2);
    assert_eq!(presentation.tracks[0].inits.len(), 1);
}

#[test]
fn a_replacing_broadcast_starts_with_a_discontinuity_after_the_previous_count() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    let settings = bench.program.settings;
    bench.program = Program::new(&bench.consumer, settings, Metrics::default(), Some(70_000));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..5.0, 0.0);
    let presentation = bench.end(5_000);
    assert_sound(presentation);
    for track in &presentation.tracks {
        assert_eq!((track.discontinuity_sequence, track.discontinuities()), (70_000, 70_001));
        let discontinuities: Vec<_> =
            track.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(discontinuities, [true, false, false]);
    }
}
