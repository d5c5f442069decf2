//! The bound on what a broadcast holds in memory (docs/decisions/0021). Counted is what is held, not
//! how long it lasts: a publisher's timestamps say nothing of how much it sends.
//!
//! While more is held than the bound, the oldest segment leaves all tracks: first those that playlists
//! do not list any more, then those that they list, down to the least that a live playlist has (RFC
//! 8216bis 6.2.2). Where even that does not fit the broadcast cannot go on.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

use super::Program;
use crate::metrics::Metrics;

/// A live playlist holds at least so many target durations.
const LEAST_TARGETS: u64 = 3;

/// The least that must be held of a broadcast takes more memory than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this stream takes more than {limit_mb} MiB for the {least_s} s of it that players need: lower its \
     bit rate or its key-frame interval, and if those are as they should be, see that the encoder's \
     timestamps advance (the server's limit is live.window_mb)"
)]
pub struct Full {
    /// The bound, in MiB.
    pub limit_mb: usize,
    /// The shortest that a playlist may be, in seconds.
    pub least_s: u64,
}

/// What one broadcast holds, as it is counted among all; nothing once dropped.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    source: Share,
    renditions: Share,
    /// The list has been shortened, and the log says so.
    told: bool,
}

/// A broadcast's share of a gauge.
#[derive(Debug)]
struct Share {
    gauge: Gauge,
    bytes: usize,
}

impl Share {
    fn set(&mut self, bytes: usize) {
        let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.gauge.inc_by(signed(bytes) - signed(self.bytes));
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Memory {
    pub(super) fn new(limit: usize, metrics: &Metrics) -> Self {
        let share = |tracks| Share {
            gauge: metrics.window_bytes(tracks),
            bytes: 0,
        };
        Self {
            limit,
            source: share("source"),
            renditions: share("rendition"),
            told: false,
        }
    }
}

impl Program {
    /// Lets go of the oldest segments while too much is held.
    ///
    /// # Errors
    /// [`Full`]: too much is held, and none can leave.
    pub(super) fn keep_within_memory(&mut self) -> Result<(), Full> {
        while self.bytes() > self.memory.limit {
            let windows = self.lines.iter().map(|line| &line.window);
            let oldest = windows.clone().filter_map(|window| window.oldest()).min();
            let least = self.least();
            let spared = oldest.filter(|&oldest| windows.clone().all(|window| window.can_spare(oldest, least)));
            let gone = spared.is_some_and(|oldest| self.let_go(oldest));
            if !gone {
                return Err(Full {
                    limit_mb: self.memory.limit >> 20,
                    least_s: least.as_secs(),
                });
            }
        }
        Ok(())
    }

    /// Brings the gauges up to date.
    pub(super) fn count_memory(&mut self) {
        let of = |rendition: bool| {
            let lines = self.lines.iter().filter(|line| line.rendition == rendition);
            lines.map(|line| line.bytes()).sum()
        };
        let (source, renditions) = (of(false), of(true));
        self.memory.source.set(source);
        self.memory.renditions.set(renditions);
    }

    /// Memory that is taken by all tracks.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.iter().map(|line| line.bytes()).sum()
    }

    /// The shortest that a playlist may be.
    fn least(&self) -> Duration {
        let target_s = self.broadcast.longest_segment().as_millis().div_ceil(1_000);
        Duration::from_secs(LEAST_TARGETS * u64::try_from(target_s).unwrap_or(u64::MAX))
    }

    /// Segment `oldest` leaves each track that has it; whether any had.
    fn let_go(&mut self, oldest: u64) -> bool {
        let mut gone = false;
        for line in &mut self.lines {
            let Some(listed) = line.window.give_up(oldest) else {
                continue;
            };
            gone = true;
            line.dirty = true;
            self.metrics.drop_segment(if listed { "listed" } else { "held" });
            if listed && !std::mem::replace(&mut self.memory.told, true) {
                let limit_mb = self.memory.limit >> 20;
                tracing::warn!(
                    limit_mb,
                    "playlists reach back less than live.window_s: its media do not fit in live.window_mb"
                );
            }
        }
        gone
    }
}
