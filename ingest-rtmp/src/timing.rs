//! A publisher's clock as the hub found it: when its connection may be read again, and words for the log where timestamps were
//! placed anew. The hub decides; here it is only counted and logged.

use std::time::{Duration, Instant};

use media_core::{
    BroadcastId,
    broadcast::{Notice, Pushed},
};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// One line a publisher and kind in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Timing {
    resume_at: Option<Instant>,
    jumped: Limit,
    late: Limit,
    retimed: Limit,
}

/// Limits log lines of one kind.
#[derive(Debug, Default)]
struct Limit {
    logged: Option<Instant>,
    /// Occurrences since the last line.
    count: u64,
}

impl Limit {
    /// Counts an occurrence; how many there were since the last line, if another is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self
            .logged
            .is_some_and(|logged| now.saturating_duration_since(logged) < LOG_INTERVAL)
        {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Timing {
    /// Until when nothing more is to be read of the publisher, because it runs ahead of the wall clock.
    pub(crate) fn resume_at(&self, now: Instant) -> Option<Instant> {
        self.resume_at.filter(|at| *at > now)
    }

    /// A frame was taken; `track` names a track by its index.
    pub(crate) fn note(
        &mut self,
        pushed: Pushed,
        track: impl FnOnce(usize) -> &'static str,
        broadcast: BroadcastId,
        metrics: &Metrics,
        now: Instant,
    ) {
        self.resume_at = pushed.resume_at;
        let Some((index, notice)) = pushed.notice else { return };
        metrics.correct_clock(notice);
        let limit = match notice {
            Notice::Jumped => &mut self.jumped,
            Notice::Late => &mut self.late,
            Notice::Retimed => &mut self.retimed,
        };
        let Some(times) = limit.count(now) else { return };
        let track = track(index);
        match notice {
            Notice::Jumped => info!(%broadcast, track, times, "timestamps jumped: the track goes on at the wall clock"),
            Notice::Late => warn!(
                %broadcast, track, times,
                "frames arrive more than 5 s late: the publisher goes on at the wall clock, after a gap; check its uplink and bit rate"
            ),
            Notice::Retimed => warn!(
                %broadcast, track, times,
                "timestamps are no clock: frames are timed by arrival; check the encoder's time base"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_logged_once_a_minute_with_the_count_of_those_between() {
        let (now, mut limit) = (Instant::now(), Limit::default());
        assert_eq!(limit.count(now), Some(1));
        assert_eq!(limit.count(now + Duration::from_secs(1)), None);
        assert_eq!(limit.count(now + Duration::from_secs(59)), None);
        assert_eq!(limit.count(now + Duration::from_secs(60)), Some(3));
    }
}
