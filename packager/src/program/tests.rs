use std::{collections::VecDeque, time::SystemTime};

use bytes::Bytes;
use hex_literal::hex;
use media_core::{
    AccessUnit, Hub, MediaSpan, TrackName,
    broadcast::{Limits, LogSize},
    codec::{Config, aac, avc},
    hub::{self, Producer},
};

use super::*;
use crate::{Part, Presentation, Segment, Track};

mod absence;
mod clocks;
mod description;
mod ending;
mod joining;
mod memory;
mod missing;
mod parts;
mod renditions;
mod rung;
mod window;

use rung::Rung;

/// An action of a script.
struct Act {
    /// When it is due, in milliseconds.
    due: i64,
    run: Box<dyn FnOnce(&mut Bench)>,
}

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
    /// Actions, in the order in which they are due.
    script: VecDeque<Act>,
    /// Seconds by which audio's stamps lie after video's.
    audio_late: f64,
    /// Key frames of video after the first are recovery points.
    open_gop: bool,
    /// Part of a millisecond by which all stamps lie after a whole one, before they are rounded
    /// down.
    phase: f64,
}

fn tracks(audio: Option<[u8; 2]>, video: bool) -> Vec<(TrackName, Config)> {
    let record = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );
    let video = video
        .then(|| (TrackName::source_video(), Config::Avc(avc::Config::parse(&record).unwrap())));
    let audio = audio
        .map(|asc| (TrackName::source_audio(), Config::Aac(aac::Config::parse(&asc).unwrap())));
    video.into_iter().chain(audio).collect()
}

const AAC_48: Option<[u8; 2]> = Some(hex!("1190"));
const AAC_44: Option<[u8; 2]> = Some(hex!("1210"));

impl Bench {
    fn new(tracks: Vec<(TrackName, Config)>) -> Self {
        let limits = Limits { bytes: 1 << 26, age: Duration::from_secs(60), segment: T, stall: T };
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

    /// Packages anew from the oldest frame that the hub holds, with the settings and metrics of
    /// now.
    fn restart(&mut self) {
        self.consumer = self.consumer.broadcast().subscribe_from_oldest();
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
            dts: MediaSpan::from_ticks(stamp),
            pts: MediaSpan::from_ticks(stamp + composition * 90),
            key,
            independent: key && !(self.open_gop && track == 0 && dts > 0),
            arrived,
            payload,
        };
        let _ = self.producer.as_ref().unwrap().push(TrackIndex::new(track), unit);
        self.pump(ms);
    }

    fn pump(&mut self, ms: i64) {
        let now = self.at(ms);
        while let Some(act) = self.script.pop_front_if(|act| act.due <= ms) {
            (act.run)(self);
        }
        for rung in &mut self.rungs {
            rung.work(ms, now);
        }
        while let Some(event) = self.consumer.try_next() {
            self.program.apply(event, now).unwrap();
        }
        if self.program.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.program.handle_timeout(now);
        }
        self.last =
            self.program.snapshot().map(|snapshot| snapshot.presentation).or(self.last.take());
    }

    fn tick(&mut self, ms: std::ops::Range<i64>) {
        for ms in ms.step_by(50) {
            self.hub.advance(self.at(ms));
            self.pump(ms);
        }
    }

    /// Both tracks from and to these milliseconds, stamps rounded down as RTMP's are, interleaved
    /// by time.
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
            (0u32..).map(move |n| (n, f64::from(n) / hz + seconds.start)).take_while({
                let end = seconds.end;
                move |(_, at)| *at < end
            })
        };
        let (phase, audio_late) = (self.phase, self.audio_late);
        let ms =
            |at: f64| -> i64 { format!("{:.0}", (at * 1000.0 + phase).floor()).parse().unwrap() };
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

impl Track {
    fn media_time(&self, ticks: Ticks) -> MediaTime {
        ticks.media_time(self.timescale())
    }
}

/// Stamps of the samples in a track's segments, in order.
fn stamps(track: &Track) -> Vec<i64> {
    let parts = track.segments.iter().flat_map(|segment| &segment.parts).filter(|part| !part.gap);
    let samples = parts.flat_map(|part| payloads(track, part));
    samples.map(|sample| i64::from_be_bytes(sample[..].try_into().unwrap_or([0xff; 8]))).collect()
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
        assert_eq!(pair[0].end(), pair[1].start, "segment {} of {}", pair[1].msn, track.name);
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
            let duration = part.duration.duration(timescale);
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
        assert!(last.duration.duration(timescale) <= track.part_target);
    }
}

fn assert_in_step(presentation: &Presentation) {
    let [video, audio] = &presentation.tracks[..] else { panic!("two tracks") };
    for (v, a) in video.segments.iter().zip(audio.segments.iter()) {
        assert_eq!(v.msn, a.msn);
        let late = (audio.media_time(a.start) - video.media_time(v.start)).ticks();
        // A tick of 44.1 kHz is two of 90.
        assert!(
            (-1..=90 * 25).contains(&late),
            "segment {} of audio starts {late} ticks late",
            v.msn
        );
    }
}

/// Checks the segments of a track for any input: RFC 8216bis 4.4.3.1 and 4.4.4.9, and no time that
/// goes back.
fn assert_sound(presentation: &Presentation) {
    let first = &presentation.tracks[0];
    for track in &presentation.tracks {
        assert_continuous(track);
        // The oldest leave each track by its own durations.
        let mut both = track.segments.iter().rev().zip(first.segments.iter().rev());
        assert!(both.all(|(segment, other)| segment.msn == other.msn), "{}", track.name);
        let timescale = track.timescale();
        for segment in track.segments.iter() {
            let duration = segment.duration.duration(timescale);
            // EXTINF, rounded to the nearest second.
            let rounded = (duration + Duration::from_millis(500)).as_secs();
            assert!(
                rounded <= presentation.target_duration_s,
                "{duration:?} of {} in {}",
                segment.msn,
                track.name
            );
            for (index, part) in segment.parts.iter().enumerate() {
                assert_eq!(part.gap, part.bytes.is_empty());
                assert!(
                    part.duration > Ticks::ZERO,
                    "part {index} of {} in {}",
                    segment.msn,
                    track.name
                );
            }
        }
    }
}

/// Frames a second, and frames of a group of about 2 s.
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
