//! The bound on the memory of a broadcast (docs/decisions/0021). Bytes are counted, not seconds,
//! because a publisher's timestamps do not limit the bytes that it sends.
//!
//! While more than the bound is held, the oldest segment leaves all tracks: first segments that
//! playlists do not list any more, then those that they list, down to the shortest live playlist
//! (RFC 8216bis 6.2.2). If even that does not fit, the broadcast cannot go on.

use std::time::Duration;

use media_core::broadcast::CutRule;
use prometheus_client::metrics::gauge::Gauge;

use crate::{metrics::Metrics, track::Track};

/// The smallest number of target durations that a live playlist holds.
const LEAST_TARGETS: u64 = 3;

/// The shortest playlists of a broadcast take more memory than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this stream takes more than {limit_mb} MiB for the {least_s} s of it that players need: \
     lower its bit rate or its key-frame interval, and if those are as they should be, see that \
     the encoder's timestamps advance (the server's limit is live.window_mb)"
)]
pub struct Full {
    /// The bound, in MiB.
    pub limit_mb: usize,
    /// The shortest that a playlist may be, in seconds.
    pub least_s: u64,
}

/// The memory of one broadcast, and its shares of the gauges, which are subtracted when it is
/// dropped.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    source: Share,
    renditions: Share,
    /// It has been logged that playlists are shorter than configured.
    logged: bool,
}

/// A broadcast's share of a gauge.
#[derive(Debug)]
struct Share {
    gauge: Gauge,
    bytes: usize,
}

impl Share {
    fn set(&mut self, bytes: usize) {
        // The gauge is shared by all broadcasts, so each adds only the change of its own share.
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
    /// The memory of a broadcast that may take `limit` bytes.
    pub(super) fn new(limit: usize, metrics: &Metrics) -> Self {
        let share = |tracks| Share { gauge: metrics.window_bytes(tracks), bytes: 0 };
        Self { limit, source: share("source"), renditions: share("rendition"), logged: false }
    }

    /// Drops the oldest segments while more than the limit is held.
    ///
    /// # Errors
    /// [`Full`]: more is held, and no segment can leave.
    pub(super) fn enforce(
        &mut self,
        tracks: &mut [Track],
        rule: CutRule,
        metrics: &Metrics,
    ) -> Result<(), Full> {
        while held(tracks) > self.limit {
            // The same number leaves all tracks, so that their lists begin together; and none
            // leaves while any track's list would become too short.
            let windows = tracks.iter().map(|track| &track.output.window);
            let oldest = windows.clone().filter_map(|window| window.oldest()).min();
            let least = least(rule.longest_segment());
            let spared = oldest
                .filter(|&oldest| windows.clone().all(|window| window.can_spare(oldest, least)));
            let gone = spared.is_some_and(|oldest| self.let_go(tracks, oldest, metrics));
            if !gone {
                return Err(Full { limit_mb: self.limit >> 20, least_s: least.as_secs() });
            }
        }
        Ok(())
    }

    /// Brings the gauges up to date.
    pub(super) fn count(&mut self, tracks: &[Track]) {
        let of = |rendition: bool| {
            let tracks = tracks.iter().filter(|track| track.output.rendition == rendition);
            tracks.map(Track::bytes).sum()
        };
        self.source.set(of(false));
        self.renditions.set(of(true));
    }

    /// Segment `oldest` leaves each track that has it. Returns whether any had it.
    fn let_go(&mut self, tracks: &mut [Track], oldest: u64, metrics: &Metrics) -> bool {
        let mut gone = false;
        for output in tracks.iter_mut().map(|track| &mut track.output) {
            // A track that joined later does not have the segment.
            let Some(listed) = output.window.give_up(oldest) else {
                continue;
            };
            gone = true;
            output.dirty = true;
            metrics.drop_segment(if listed { "listed" } else { "held" });
            if listed && !std::mem::replace(&mut self.logged, true) {
                tracing::warn!(
                    limit_mb = self.limit >> 20,
                    "playlists reach back less than live.window_s: \
                     its media do not fit in live.window_mb"
                );
            }
        }
        gone
    }
}

/// Memory that all tracks use.
pub(super) fn held(tracks: &[Track]) -> usize {
    tracks.iter().map(Track::bytes).sum()
}

/// The shortest that a playlist may be, of segments that last `longest` at the most.
fn least(longest: Duration) -> Duration {
    let target_s = longest.as_millis().div_ceil(1_000);
    Duration::from_secs(LEAST_TARGETS * u64::try_from(target_s).unwrap_or(u64::MAX))
}
