use std::time::SystemTime;

use bytes::Bytes;
use hex_literal::hex;
use media_core::{
    AccessUnit, Hub, TrackName,
    broadcast::Limits,
    codec::{aac, avc},
    hub::{self, Producer},
};

use super::*;
use crate::{Part, Presentation, Segment, Track};

mod absence;
mod clocks;
mod description;
mod ending;
mod memory;
mod renditions;

use renditions::Rung;

type Act = Box<dyn FnOnce(&mut Bench)>;

const T: Duration = Duration::from_secs(2);

/// A publisher, the hub and a program, on a clock of their own.
struct Bench {
    settings: Settings,
    metrics: Metrics,
    hub: Hub,
    start: Instant,
    producer: Option<Producer>,
    consumer: Consumer,
    program: Program,
    last: Option<Presentation>,
    rungs: Vec<Rung>,
    /// What happens when so many milliseconds have passed, in order.
    script: VecDeque<(i64, Act)>,
    /// Seconds by which audio's stamps lie after video's.
    audio_late: f64,
    /// Key frames of video after the first are recovery points.
    open_gop: bool,
    /// Part of a millisecond by which all stamps lie after a whole one, before they are rounded down.
    phase: f64,
}

fn tracks(audio: Option<[u8; 2]>, video: bool) -> Vec<(TrackName, Config)> {
    let record =
        hex!("0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0 fdf8f800");
    let video = video.then(|| {
        (
            TrackName::source_video(),
            Config::Avc(avc::Config::parse(&record).unwrap()),
        )
    });
    let audio = audio.map(|asc| {
        (
            TrackName::source_audio(),
            Config::Aac(aac::Config::parse(&asc).unwrap()),
        )
    });
    video.into_iter().chain(audio).collect()
}

const AAC_48: Option<[u8; 2]> = Some(hex!("1190"));
const AAC_44: Option<[u8; 2]> = Some(hex!("1210"));

impl Program {
    /// Memory that all tracks use.
    fn bytes(&self) -> usize {
        super::memory::held(&self.tracks)
    }
}

impl Bench {
    fn new(tracks: Vec<(TrackName, Config)>) -> Self {
        let limits = Limits {
            bytes: 1 << 26,
            age: Duration::from_secs(60),
            segment: T,
            stall: T,
        };
        let hub = Hub::new(hub::Settings {
            broadcast: limits,
            reconnect: Duration::from_secs(10),
            max_channels: 4,
        });
        let start = Instant::now() + Duration::from_secs(1_000);
        let claim = hub.claim("demo".parse().unwrap()).unwrap();
        let producer = claim.start(tracks, start, SystemTime::UNIX_EPOCH + T * 500).unwrap();
        let broadcast = Arc::clone(producer.broadcast());
        let consumer = broadcast.subscribe_from_oldest();
        let settings = Settings {
            part: Duration::from_millis(200),
            window: Duration::from_secs(60),
            window_bytes: 1 << 30,
        };
        let metrics = Metrics::default();
        let program = Program::new(&consumer, settings, metrics.clone(), None);
        Self {
            settings,
            metrics,
            hub,
            start,
            producer: Some(producer),
            consumer,
            program,
            last: None,
            rungs: Vec::new(),
            script: VecDeque::new(),
            audio_late: 0.0,
            open_gop: false,
            phase: 0.0,
        }
    }

    /// Packages anew from the oldest frame that the hub holds, with the settings and metrics of now.
    fn restart(&mut self) {
        self.consumer = self.program.broadcast.subscribe_from_oldest();
        self.program = Program::new(&self.consumer, self.settings, self.metrics.clone(), None);
        self.last = None;
    }

    fn at(&self, ms: i64) -> Instant {
        self.start + Duration::from_millis(ms.unsigned_abs())
    }

    /// Sends a unit stamped `dts` ms when `ms` have passed; its payload is its stamp.
    fn send(&mut self, track: usize, ms: i64, dts: i64, composition: i64, key: bool) {
        let (stamp, arrived) = (dts * 90, self.at(ms));
        let payload = Bytes::copy_from_slice(&dts.to_be_bytes());
        let unit = AccessUnit {
            dts: stamp,
            pts: stamp + composition * 90,
            key,
            independent: key && !(self.open_gop && track == 0 && dts > 0),
            arrived,
            payload,
        };
        let _ = self.producer.as_ref().unwrap().push(track, unit);
        self.pump(ms);
    }

    fn pump(&mut self, ms: i64) {
        let now = self.at(ms);
        while self.script.front().is_some_and(|(due, _)| *due <= ms) {
            let (_, act) = self.script.pop_front().unwrap();
            act(self);
        }
        for rung in &mut self.rungs {
            rung.work(ms, now);
        }
        while let Some(event) = self.consumer.try_next() {
            self.program.apply(event, now).unwrap();
        }
        if self.program.poll_timeout().is_some_and(|deadline| deadline <= now) || self.program.in_gap() {
            self.program.handle_timeout(now);
        }
        self.last = self
            .program
            .snapshot()
            .map(|(presentation, _)| presentation)
            .or(self.last.take());
    }

    fn tick(&mut self, ms: std::ops::Range<i64>) {
        for ms in ms.step_by(50) {
            self.hub.advance(self.at(ms));
            self.pump(ms);
        }
    }

    /// Both tracks from and to these milliseconds, stamps rounded down as RTMP's are, interleaved by time.
    fn run(
        &mut self,
        fps: f64,
        group: u64,
        b_frames: bool,
        rate: Option<f64>,
        seconds: std::ops::Range<f64>,
        origin: f64,
    ) {
        let frames = |hz: f64| {
            (0u32..)
                .map(move |n| (n, f64::from(n) / hz + seconds.start))
                .take_while({
                    let end = seconds.end;
                    move |(_, at)| *at < end
                })
        };
        let (phase, audio_late) = (self.phase, self.audio_late);
        let ms = |at: f64| -> i64 { format!("{:.0}", (at * 1000.0 + phase).floor()).parse().unwrap() };
        let video = frames(fps).map(|(n, at)| {
            let index = u64::from(n) % group;
            let key = index == 0;
            // I P B P B ..., and a P where the group ends before its B: one frame of reordering.
            let shown = match index % 2 {
                _ if !b_frames => 0.0,
                _ if key || index + 1 == group => f64::from(u32::from(key || index % 2 == 1)),
                1 => 2.0,
                _ => 0.0,
            };
            (at, 0, key, ms(at + shown / fps) - ms(at))
        });
        let mut units: Vec<_> = video.collect();
        if let Some(rate) = rate {
            units.extend(frames(rate / 1024.0).map(|(_, at)| (at + audio_late, 1, true, 0)));
        }
        units.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at, track, key, composition) in units {
            self.send(track, ms(at), ms(at - origin), composition, key);
        }
    }

    fn end(&mut self, ms: i64) -> &Presentation {
        self.hub.close();
        self.pump(ms);
        for later in (ms..ms + 20_000).step_by(50) {
            if self.rungs.iter().any(Rung::is_busy) {
                self.rungs.iter_mut().for_each(Rung::flush);
                self.pump(later);
            }
        }
        self.rungs.clear();
        self.pump(ms);
        let before = self.last.as_ref().map(|last| last.tracks.clone()).unwrap_or_default();
        self.program.finish();
        self.pump(ms);
        let last = self.last.as_ref().unwrap();
        for (before, after) in before.iter().zip(&last.tracks) {
            for segment in after.listed() {
                let described = |segment: &Segment| (segment.start, segment.duration, segment.gap);
                let listed = before.segments.iter().find(|listed| listed.msn == segment.msn);
                assert!(
                    listed.is_none_or(|listed| described(listed) == described(segment)),
                    "segment {} of {} changed at the end",
                    segment.msn,
                    after.name
                );
            }
        }
        let open: Vec<_> = last.tracks.iter().filter_map(|track| track.open.as_ref()).collect();
        assert!(last.ended && open.is_empty(), "nothing is open after the end: {open:?}");
        last
    }
}

/// Stamps of the samples in a track's segments, in order.
fn stamps(track: &Track) -> Vec<i64> {
    let parts = track
        .segments
        .iter()
        .flat_map(|segment| &segment.parts)
        .filter(|part| !part.gap);
    let samples = parts.flat_map(|part| payloads(track, part));
    samples
        .map(|sample| i64::from_be_bytes(sample[..].try_into().unwrap_or([0xff; 8])))
        .collect()
}

/// The payload of each sample, without the parameter sets in front of it.
fn payloads(track: &Track, part: &Part) -> Vec<Bytes> {
    let sets = track.inits.iter().map(|init| match &*init.config {
        Config::Avc(avc) => avc.sets_in_band(),
        Config::Aac(_) => Vec::new(),
    });
    let sets: Vec<_> = sets.collect();
    let media = part.bytes.pieces().skip(1);
    media.filter(|piece| sets.iter().all(|set| set != piece)).collect()
}

fn assert_continuous(track: &Track) {
    for pair in track.listed().zip(track.listed().skip(1)) {
        let pair = [pair.0, pair.1];
        assert_eq!(pair[0].msn + 1, pair[1].msn);
        assert_eq!(
            pair[0].end(),
            pair[1].start,
            "segment {} of {}",
            pair[1].msn,
            track.name
        );
    }
    for segment in track.segments.iter() {
        let mut at = segment.start;
        for part in &segment.parts {
            assert_eq!(part.start, at);
            at += part.duration;
        }
        assert_eq!(at, segment.end());
        assert_eq!(
            segment.bytes.len(),
            segment.parts.iter().map(|part| part.bytes.len()).sum::<usize>()
        );
    }
}

/// RFC 8216bis 4.4.4.9: at most PART-TARGET; at least 85 % of it unless last or independent.
fn assert_parts_keep_the_target(track: &Track) {
    let timescale = track.timescale();
    for segment in track.segments.iter() {
        let (last, parts) = segment.parts.split_last().unwrap();
        for part in parts.iter().filter(|part| !part.gap) {
            let duration = timescale.duration(part.duration);
            assert!(
                duration <= track.part_target,
                "{duration:?} of {:?} in {}",
                track.part_target,
                track.name
            );
            let short = duration < track.part_target.mul_f64(0.85);
            assert!(
                !short || part.independent && part.start == segment.start,
                "{duration:?} of {:?}",
                track.part_target
            );
        }
        assert!(timescale.duration(last.duration) <= track.part_target);
    }
}

fn assert_in_step(presentation: &Presentation) {
    let [video, audio] = &presentation.tracks[..] else {
        panic!("two tracks")
    };
    for (v, a) in video.segments.iter().zip(audio.segments.iter()) {
        assert_eq!(v.msn, a.msn);
        let late = audio.timescale().rescale(a.start, Timescale::VIDEO) - v.start;
        // A tick of 44.1 kHz is two of 90.
        assert!(
            (-1..=90 * 25).contains(&late),
            "segment {} of audio starts {late} ticks late",
            v.msn
        );
    }
}

/// What a row of segments must be whatever came: RFC 8216bis 4.4.3.1 and 4.4.4.9, and no time that goes back.
fn assert_sound(presentation: &Presentation) {
    let numbers = |track: &Track| track.segments.iter().map(|segment| segment.msn).collect::<Vec<_>>();
    for track in &presentation.tracks {
        assert_continuous(track);
        assert_eq!(numbers(track), numbers(&presentation.tracks[0]), "{}", track.name);
        let timescale = track.timescale();
        for segment in track.segments.iter() {
            let duration = timescale.duration(segment.duration);
            let longest = Duration::from_secs(presentation.target_duration_s) + Duration::from_millis(499);
            assert!(duration <= longest, "{duration:?} of {} in {}", segment.msn, track.name);
            for (index, part) in segment.parts.iter().enumerate() {
                assert_eq!(part.gap, part.bytes.is_empty());
                assert!(part.duration > 0, "part {index} of {} in {}", segment.msn, track.name);
            }
        }
    }
}

const RATES: [(f64, u64); 8] = [
    (23.976, 48),
    (24.0, 48),
    (25.0, 50),
    (29.97, 60),
    (30.0, 60),
    (50.0, 100),
    (59.94, 120),
    (60.0, 120),
];

/// 12 s of audio and video: each frame in one part, in order, and the rules of parts and segments kept.
fn assert_whole(
    fps: f64,
    group: u64,
    b_frames: bool,
    (asc, rate): (Option<[u8; 2]>, f64),
    phase: f64,
    audio_late: f64,
) {
    let mut bench = Bench::new(tracks(asc, true));
    (bench.phase, bench.audio_late) = (phase, audio_late);
    bench.run(fps, group, b_frames, Some(rate), 0.0..12.0, 0.0);
    let presentation = bench.end(12_000);
    assert_sound(presentation);
    for track in &presentation.tracks {
        assert_parts_keep_the_target(track);
        assert_eq!(track.part_target, Duration::from_millis(234));
        let stamps: Vec<_> = stamps(track).into_iter().filter(|stamp| *stamp >= 0).collect();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{fps} {}", track.name);
    }
    assert_in_step(presentation);
    let video = &presentation.tracks[0];
    let sent = (0u32..).take_while(|&n| f64::from(n) / fps < 12.0).count();
    assert_eq!(stamps(video).len(), sent);
    let rate = video.frame_rate.unwrap();
    assert!((rate - fps).abs() < 0.05, "{fps}: {rate}");
    let first = video.segments.first().unwrap();
    assert!(first.msn == 1_000 && first.independent);
}

#[test]
fn at_every_usual_frame_rate_each_frame_is_in_one_part_and_the_rules_are_kept() {
    for (fps, group) in RATES {
        assert_whole(fps, group, false, (AAC_48, 48_000.0), 0.0, 0.0);
        assert_whole(fps, group, true, (AAC_44, 44_100.0), 0.0, 0.0);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn however_stamps_are_rounded_and_audio_lies_beside_video_each_frame_is_in_one_part(
        rate in 0usize..8, b_frames: bool, cd: bool, phase in 0.0..1.0f64, audio_early in 0.0..0.09f64,
    ) {
        let (fps, group) = RATES[rate];
        let audio = if cd { (AAC_44, 44_100.0) } else { (AAC_48, 48_000.0) };
        assert_whole(fps, group, b_frames, audio, phase, -audio_early);
    }
}

#[test]
fn a_track_of_long_frames_gets_the_part_target_that_its_frames_keep() {
    let mut bench = Bench::new(tracks(None, true));
    bench.run(12.5, 25, false, None, 0.0..8.0, 0.0);
    let track = &bench.end(8_000).tracks[0];
    assert_eq!(track.part_target, Duration::from_millis(240));
    assert_parts_keep_the_target(track);
}

#[test]
fn audio_alone_is_cut_every_two_seconds() {
    let mut bench = Bench::new(tracks(AAC_44, false));
    for n in 0..500i64 {
        let ms = n * 1024 * 1000 / 44_100;
        bench.send(0, ms, ms, 0, true);
    }
    let track = &bench.end(11_610).tracks[0];
    assert_continuous(track);
    assert_parts_keep_the_target(track);
    assert_eq!(stamps(track).len(), 500);
    assert_eq!(track.segments.len(), 6);
}

#[test]
fn another_configuration_has_an_init_segment_of_its_own_after_a_discontinuity_in_every_track() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..4.0, 0.0);
    let mono = Config::Aac(aac::Config::parse(&hex!("1188")).unwrap());
    bench.producer.as_ref().unwrap().configure(1, &mono).unwrap();
    bench.run(25.0, 50, false, Some(48_000.0), 4.0..8.0, 0.0);
    let presentation = bench.end(8_000);
    for track in &presentation.tracks {
        assert_continuous(track);
        let discontinuities: Vec<_> = track.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(discontinuities, [false, false, true, false], "{}", track.name);
    }
    assert_in_step(presentation);
    let audio = &presentation.tracks[1];
    assert_eq!(
        audio.segments.iter().map(|segment| segment.init).collect::<Vec<_>>(),
        [0, 0, 1, 1]
    );
    assert_eq!(audio.inits.len(), 2);
    assert_eq!(presentation.tracks[0].inits.len(), 1);
}

#[test]
fn what_left_the_list_is_held_for_as_long_as_the_longest_list() {
    let mut bench = Bench::new(tracks(None, true));
    bench.run(10.0, 20, false, None, 0.0..200.0, 0.0);
    let track = &bench.last.as_ref().unwrap().tracks[0];
    assert_eq!(track.listed().len(), 30);
    assert_eq!(track.segments.len(), 62);
    assert_eq!(track.segments.first().unwrap().msn, 1_000 + 99 - 62);
}

#[test]
fn a_payload_is_in_the_segment_by_pointer() {
    let mut bench = Bench::new(tracks(None, true));
    let mut sent = Vec::new();
    for n in 0..61i64 {
        let payload = Bytes::from(vec![7; 100]);
        sent.push(payload.as_ptr());
        let arrived = bench.at(n * 40);
        let unit = AccessUnit {
            dts: n * 3_600,
            pts: n * 3_600,
            key: n % 50 == 0,
            independent: n % 50 == 0,
            arrived,
            payload,
        };
        bench.producer.as_ref().unwrap().push(0, unit).unwrap();
        bench.pump(n * 40);
    }
    let segment = &bench.last.as_ref().unwrap().tracks[0].segments[0];
    let samples = segment
        .bytes
        .pieces()
        .filter(|piece| piece.len() == 100)
        .map(|piece| piece.as_ptr());
    assert_eq!(samples.collect::<Vec<_>>(), sent[..50]);
}

#[test]
fn a_part_that_is_hinted_at_comes() {
    // 48 frames at 25 a second are 90 access units, 9 full parts: nothing is left of a segment after its ninth.
    let mut bench = Bench::new(tracks(AAC_48, true));
    let mut hints = Vec::new();
    for n in 0..400i64 {
        bench.send(0, n * 40, n * 40, 0, n % 48 == 0);
        for unit in (n * 40 * 48).div_euclid(1024)..((n + 1) * 40 * 48).div_euclid(1024) {
            bench.send(1, n * 40 + 20, unit * 1024 / 48, 0, true);
        }
        if let Some(open) = bench.last.as_ref().and_then(|last| last.tracks[1].open.clone()) {
            hints.push((open.msn, open.parts.len()));
        }
    }
    let audio = &bench.end(16_000).tracks[1];
    hints.dedup();
    for (msn, part) in &hints[..hints.len() - 1] {
        assert!(
            audio.segment(*msn).unwrap().parts.len() > *part,
            "part {part} of {msn} was hinted at"
        );
    }
}

#[test]
fn a_broadcast_that_replaces_another_starts_with_a_discontinuity_that_only_grows() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    let settings = bench.program.settings;
    bench.program = Program::new(&bench.consumer, settings, Metrics::default(), Some(70_000));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..5.0, 0.0);
    let presentation = bench.end(5_000);
    assert_sound(presentation);
    for track in &presentation.tracks {
        assert_eq!(
            (track.discontinuity_sequence, track.discontinuities()),
            (70_000, 70_001)
        );
        let discontinuities: Vec<_> = track.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(discontinuities, [true, false, false]);
    }
}

#[test]
fn a_list_of_long_segments_reaches_back_far_enough_for_players() {
    let mut bench = Bench::new(tracks(None, true));
    bench.program.settings.window = Duration::from_secs(12);
    bench.run(30.0, 250, false, None, 0.0..80.0, 0.0);
    let presentation = bench.last.as_ref().unwrap();
    assert_eq!(presentation.target_duration_s, 9);
    let listed: i64 = presentation.tracks[0].listed().map(|segment| segment.duration).sum();
    assert!(
        Timescale::VIDEO.duration(listed) >= 3 * Duration::from_secs(9),
        "{listed}"
    );
}
