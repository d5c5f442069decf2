//! One track of a broadcast: its configuration, the start of its newest group, and its bit rate.

use std::{sync::Arc, time::Instant};

use crate::{MediaTime, TrackName, broadcast::TrackStart, codec::Config};

mod index;

pub use index::TrackIndex;

/// Time over which a track's bit rate is measured, in seconds.
const RATE_SPAN_S: f64 = 2.0;

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) name: TrackName,
    /// Whether the publisher sends it; otherwise it is a rendition.
    pub(crate) source: bool,
    pub(crate) config: Arc<Config>,
    /// Position in the broadcast's log of the newest group's first frame, where a subscriber can
    /// start.
    pub(crate) group: Option<u64>,
    /// Time of the newest cut. An audio group starts at the first frame at or after it.
    pub(crate) next_group: Option<MediaTime>,
    /// Decode time of a rendition's newest frame.
    pub(crate) newest: Option<MediaTime>,
    /// Whether it is a rendition without a worker at present.
    pub(crate) absent: bool,
    /// Whether its configuration changed and no discontinuity has followed yet.
    pub(crate) reconfigured: bool,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) rate: Rate,
}

impl Track {
    pub(crate) fn new(name: TrackName, config: Arc<Config>, source: bool) -> Self {
        Self {
            name,
            source,
            config,
            group: None,
            next_group: None,
            newest: None,
            absent: false,
            reconfigured: false,
            frames: 0,
            bytes: 0,
            rate: Rate::default(),
        }
    }

    /// Its description with its present configuration.
    pub(crate) fn start(&self, index: TrackIndex) -> TrackStart {
        TrackStart {
            index,
            name: self.name.clone(),
            rendition: !self.source,
            config: Arc::clone(&self.config),
            absent: self.absent,
        }
    }
}

/// Bits a second over the last complete span.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    span: Option<Span>,
    pub(crate) bps: u64,
}

/// The time over which bytes are counted.
#[derive(Debug)]
struct Span {
    start: Instant,
    bytes: u64,
}

impl Rate {
    pub(crate) fn add(&mut self, bytes: u64, now: Instant) {
        let span = self.span.get_or_insert(Span { start: now, bytes: 0 });
        let elapsed = now.saturating_duration_since(span.start).as_secs_f64();
        // A span ends with the first frame after it, which is the first of the next one.
        if elapsed >= RATE_SPAN_S {
            #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
            let bps = (span.bytes as f64 * 8.0 / elapsed) as u64;
            self.bps = bps;
            self.span = Some(Span { start: now, bytes });
        } else {
            span.bytes += bytes;
        }
    }
}
