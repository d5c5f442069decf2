//! A broadcast for tests of texts: segments are pushed, and snapshots taken. It has no media; times
//! and numbers are those of a window.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use hex_literal::hex;
use media_core::{MediaSpan, MediaTime, Ticks, codec, settings::Latency};
use net_core::Rope;

use crate::{
    Init, Part, Presentation, Rendered, Segment, Segments, TextKey, Track,
    period::{Opening, Periods},
};

/// The first media sequence number, and the Unix time at which the broadcast starts: 2026-11-03
/// 09:15:00 UTC.
pub(crate) const FIRST: u64 = 1_793_697_300;
/// Media time of the first segment, 90 kHz: 10 s.
pub(crate) const ORIGIN: i64 = 900_000;

/// One segment of the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cut {
    Media,
    /// With another init segment from here on.
    Discontinuity,
    Gap,
}

/// How much of its segments a rendition has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Made {
    Whole,
    /// The first part alone.
    Begun,
    /// Nothing, and no segment was expected.
    Nothing,
}

pub(crate) struct Example {
    pub(crate) part: Duration,
    pub(crate) part_target: Duration,
    pub(crate) window: Duration,
    lines: Vec<Line>,
    periods: Periods,
    next: Next,
    init: u32,
    interrupted: bool,
    /// The source's segments start where no key frame is.
    pub(crate) gridded: bool,
    pub(crate) latency: Latency,
}

/// The next segment.
#[derive(Debug, Clone, Copy)]
struct Next {
    msn: u64,
    start: MediaTime,
}

struct Line {
    track: Track,
    /// Ticks of one frame.
    frame: i64,
    part: Ticks,
    made: Made,
}

impl Example {
    /// 25 frames a second and AAC at 48 kHz, T = 2 s, parts of 500 ms, a window of 60 s.
    pub(crate) fn new() -> Self {
        Self::of(&["v0", "a0"])
    }

    pub(crate) fn of(names: &[&str]) -> Self {
        let line = |name: &&str| {
            // x264, high profile, level 3.0, 640x360; AAC-LC, 48 kHz, stereo.
            let record = hex!(
                "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006"
                "68ebe3cb22c0 fdf8f800"
            );
            let video = name.starts_with('v');
            let lines: u32 = name[1..].parse().unwrap();
            let mut config = match video {
                true => codec::Config::Avc(codec::avc::Config::parse(&record).unwrap()),
                false => codec::Config::Aac(codec::aac::Config::parse(&hex!("1190")).unwrap()),
            };
            if let codec::Config::Avc(avc) = &mut config
                && lines > 0
            {
                (avc.width, avc.height) = (lines * 16 / 9, lines);
            }
            let config = Arc::new(config);
            let (frame, part, peak_bps, average_bps) = match (video, lines) {
                (true, 0) => (3_600, 45_000, 2_612_345, 2_400_001),
                (true, _) => (3_600, 45_000, u64::from(lines) * 5_555, u64::from(lines) * 5_001),
                (false, 0) => (1_024, 24_576, 131_072, 128_500),
                (false, _) => (1_024, 24_576, u64::from(lines) * 1_024, u64::from(lines) * 1_010),
            };
            let track = Track {
                name: name.parse().unwrap(),
                rendition: name.len() > 2,
                gridded: false,
                clock: config.timescale(),
                config,
                part_target: Duration::from_millis(587),
                peak_bps,
                average_bps,
                frame_rate: video.then_some(25.0),
                inits: Vec::new(),
                segments: Segments::default(),
                listed_from: 0,
                withdrawn: 0,
                dependent: 0,
                open: None,
                discontinuity_sequence: FIRST,
            };
            let (part, made) = (Ticks::new(part), Made::Whole);
            Line { track, frame, part, made }
        };
        let lines = names.iter().map(line).collect();
        let (part, part_target) = (Duration::from_millis(500), Duration::from_millis(587));
        let window = Duration::from_secs(60);
        Self {
            part,
            part_target,
            window,
            lines,
            periods: Periods::new(MediaSpan::from_millis(2_000)),
            next: Next { msn: FIRST, start: MediaTime::from_ticks(ORIGIN) },
            init: 0,
            interrupted: false,
            gridded: false,
            latency: Latency::Low,
        }
    }

    pub(crate) fn track(&mut self, index: usize) -> &mut Track {
        &mut self.lines[index].track
    }

    /// Sets how much of the next segments a track has.
    pub(crate) fn make(&mut self, index: usize, made: Made) {
        self.lines[index].made = made;
    }

    /// A segment of `duration` (90 kHz) in all tracks; the master's and, except for a gap, the
    /// periods' next one opens.
    pub(crate) fn push(&mut self, cut: Cut, duration: i64) {
        self.open_with(cut, duration, usize::MAX);
        for line in &mut self.lines {
            let open = line.track.open.take().unwrap();
            let edge = open.end();
            let segments = &mut line.track.segments;
            let gap = open.parts.iter().any(|part| part.gap);
            self.interrupted |= gap && !open.gap;
            line.track.dependent += usize::from(!open.independent && !gap);
            segments.push(Arc::new(Segment { gap, ..(*open).clone() }));
            // As `window` does: segments leave the list by their distance from the edge.
            let window = Ticks::from_duration(self.window, line.track.clock);
            while edge - segments[line.track.listed_from].end() >= window {
                line.track.discontinuity_sequence +=
                    u64::from(segments[line.track.listed_from].discontinuity);
                line.track.listed_from += 1;
            }
        }
        let Next { msn, start } = self.next;
        let duration = MediaSpan::from_ticks(duration);
        self.periods.close(msn, duration);
        self.next = Next { msn: msn + 1, start: start + duration };
        let listed = self.lines[0].track.listed().first().map_or(0, |first| first.msn);
        self.periods.expire(listed);
    }

    /// The segment at the edge, with its first `parts` parts; it will be `duration` long.
    pub(crate) fn open_with(&mut self, cut: Cut, duration: i64, parts: usize) {
        let Next { msn, start } = self.next;
        let (gap, discontinuity) = (cut == Cut::Gap, cut == Cut::Discontinuity);
        self.init += u32::from(discontinuity);
        for line in &mut self.lines {
            let timescale = line.track.clock;
            // A discontinuity in this example is always a change of the configuration.
            if line.track.inits.last().is_none_or(|init| init.number != self.init) {
                let (number, config) = (self.init, Arc::clone(&line.track.config));
                line.track.inits.push(Arc::new(Init { number, config, bytes: Default::default() }));
            }
            // Video is cut at this time, audio at the first frame after it.
            let grid = if line.track.config.is_video() { 1 } else { line.frame };
            let place = |at: MediaTime| {
                let hz = i64::from(timescale.hz());
                Ticks::new((at.ticks() * hz + 90_000 * grid - 1) / (90_000 * grid) * grid)
            };
            let (mut at, end) = (place(start), place(start + MediaSpan::from_ticks(duration)));
            let mut segment = Segment {
                msn,
                start: at,
                duration: Ticks::ZERO,
                init: self.init,
                discontinuity,
                gap: gap || line.made == Made::Nothing,
                independent: line.track.rendition || !self.gridded || grid > 1,
                still: None,
                parts: Vec::new(),
                bytes: Rope::default(),
            };
            // A line that was only begun has media in its first part, and gaps after it.
            while at < end && segment.parts.len() < parts {
                let duration = line.part.min(end - at);
                let gap = segment.gap || line.made == Made::Begun && !segment.parts.is_empty();
                let independent = !gap && (grid > 1 || segment.parts.is_empty());
                segment.parts.push(Arc::new(Part {
                    start: at,
                    duration,
                    independent,
                    gap,
                    bytes: Rope::default(),
                }));
                at += duration;
                segment.duration += duration;
            }
            line.track.open = Some(Arc::new(segment));
        }
        // A line without media has no init segment, so the Period is made without its track.
        let inits = self.lines.iter();
        let inits: Vec<_> =
            inits.map(|line| (line.made != Made::Nothing).then_some(self.init)).collect();
        self.periods.open(&Opening {
            msn,
            start,
            gap,
            discontinuity,
            gridded: self.gridded,
            interrupted: std::mem::take(&mut self.interrupted),
            inits: &inits,
        });
    }

    pub(crate) fn snapshot(&self) -> Presentation {
        self.presentation(false)
    }

    pub(crate) fn end(mut self) -> Presentation {
        for line in &mut self.lines {
            line.track.open = None;
            let void = line.track.segments.iter().rev().take_while(|segment| segment.is_void());
            line.track.withdrawn = void.count();
        }
        self.presentation(true)
    }

    fn presentation(&self, ended: bool) -> Presentation {
        let tracks: Vec<_> = self.lines.iter().map(|line| Arc::new(line.track.clone())).collect();
        Presentation {
            broadcast: "019a48c5-7d20-7000-8000-000000000001".parse().unwrap(),
            channel: "demo".parse().unwrap(),
            anchor_utc: SystemTime::UNIX_EPOCH + Duration::from_millis(FIRST * 1000 - 9_750),
            ended,
            end: if ended { self.next.start } else { MediaTime::ZERO },
            segment: Duration::from_secs(2),
            part: self.part,
            window: self.window,
            target_duration_s: 4,
            latency: self.latency,
            part_hold_back: 3 * self.part_target,
            rendered: Rendered::new(tracks.len()),
            tracks,
            periods: self.periods.snapshot(),
        }
    }
}

impl Presentation {
    pub(crate) fn multivariant(&self) -> &crate::Text {
        self.text(&TextKey::Multivariant)
    }

    pub(crate) fn manifest(&self) -> &crate::Text {
        self.text(&TextKey::Manifest(None))
    }

    pub(crate) fn plain_manifest(&self) -> &crate::Text {
        self.text(&TextKey::PlainManifest(None))
    }
}

/// Compares with the text in `testdata/`; with `BLESS=1` in the environment it is written instead,
/// to be checked by eye.
pub(crate) fn assert_golden(name: &str, text: &crate::Text) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = std::str::from_utf8(text.plain()).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (number, (is, wanted)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(is, wanted, "{name}, line {}", number + 1);
    }
    assert_eq!(text, golden, "{name}");
}
