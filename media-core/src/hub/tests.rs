mod claims;
mod events;
mod gaps;
mod readers;
mod returns;
mod segments;

use bytes::Bytes;
use hex_literal::hex;

use super::*;
use crate::{
    MediaSpan, MediaTime, Timescale,
    broadcast::{Consumer, Event, LogSize, Presence, Situation, TrackStart},
};

const T: Duration = Duration::from_secs(2);
const FIRST: TrackIndex = TrackIndex::FIRST;
const SECOND: TrackIndex = TrackIndex::new(1);

fn hub() -> Hub {
    let broadcast = Limits { bytes: 1 << 20, age: Duration::from_secs(10), segment: T, stall: T };
    Hub::new(Settings { broadcast, reconnect: Duration::from_secs(10), max_channels: 3 })
}

fn video() -> (TrackName, Config) {
    let record = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );
    (TrackName::source_video(), Config::Avc(crate::codec::avc::Config::parse(&record).unwrap()))
}

fn audio(record: [u8; 2]) -> (TrackName, Config) {
    (TrackName::source_audio(), Config::Aac(crate::codec::aac::Config::parse(&record).unwrap()))
}

fn name() -> ChannelName {
    "demo".parse().unwrap()
}

struct Source {
    producer: Producer,
    start: Instant,
}

impl Source {
    fn new(hub: &Hub, start: Instant) -> Self {
        let tracks = vec![video(), audio(hex!("1190"))];
        let producer = hub
            .claim(name())
            .unwrap()
            .start(tracks, start, SystemTime::UNIX_EPOCH + T * 1_000)
            .unwrap();
        Self { producer, start }
    }

    fn push(&self, track: usize, ms: u64, key: bool) -> Result<(), Refused> {
        let (dts, arrived) = (ms as i64 * 90, self.start + Duration::from_millis(ms));
        self.producer
            .push(
                TrackIndex::new(track),
                AccessUnit {
                    dts: MediaSpan::from_ticks(dts),
                    pts: MediaSpan::from_ticks(dts),
                    key,
                    independent: key,
                    arrived,
                    payload: Bytes::from(vec![0; 1_000]),
                },
            )
            .map(drop)
    }

    /// 25 frames a second of video with a key frame every 2 s, audio every 20 ms, from and to these
    /// milliseconds.
    fn run(&self, ms: std::ops::Range<u64>) {
        for ms in ms.filter(|ms| ms % 20 == 0) {
            if ms % 40 == 0 {
                self.push(0, ms, ms % 2_000 == 0).unwrap();
            }
            self.push(1, ms, true).unwrap();
        }
    }
}

fn start() -> Instant {
    Instant::now() + Duration::from_secs(1_000)
}

fn drain(consumer: &mut Consumer) -> Vec<Event> {
    std::iter::from_fn(|| consumer.try_next()).collect()
}

fn marks(events: &[Event]) -> Vec<(u64, bool)> {
    let mark = |event: &Event| match event {
        Event::Frame { frame, .. } => frame.mark.map(|mark| (mark.msn, mark.gap)),
        Event::Gap(mark) => Some((mark.msn, mark.gap)),
        _ => None,
    };
    events.iter().filter_map(mark).collect()
}

/// `avcC` with fifteen more picture parameter sets of 250 bytes, which differ by `n`.
fn large_video(n: u8) -> Config {
    let (_, Config::Avc(avc)) = video() else { panic!("video") };
    let record = &avc.record;
    let sets = 8 + 0x19;
    let mut large = record[..sets].to_vec();
    large.push(16);
    large.extend(&record[sets + 1..record.len() - 4]);
    for _ in 0..15 {
        large.extend([0, 250, 0x68]);
        large.extend([n | 1; 249]);
    }
    large.extend(&record[record.len() - 4..]);
    Config::Avc(crate::codec::avc::Config::parse(&large).unwrap())
}

/// Where segments start, in milliseconds since the first, and whether they are gaps.
fn starts(events: &[Event]) -> Vec<(i64, bool)> {
    let mark = |event: &Event| match event {
        Event::Frame { frame, .. } => frame.mark,
        Event::Gap(mark) => Some(*mark),
        _ => None,
    };
    let marks: Vec<_> = events.iter().filter_map(mark).collect();
    assert!(
        marks.windows(2).all(|pair| pair[0].msn + 1 == pair[1].msn && pair[0].pts < pair[1].pts)
    );
    marks.iter().map(|mark| ((mark.pts - marks[0].pts).whole_millis(), mark.gap)).collect()
}
