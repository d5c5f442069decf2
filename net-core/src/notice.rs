//! Limits the log lines about events that a peer can cause, and counts the events.

use std::mem;

/// The log has at most one line of a notice in this time.
const LOG_INTERVAL_MS: u64 = 60_000;

/// Events since the log's last line about them. `C` has their counts.
#[derive(Debug, Default)]
pub(crate) struct Notice<C> {
    next_ms: u64,
    counts: C,
}

impl<C: Default> Notice<C> {
    /// Counts an event. Returns the counts since the last line if a line is due.
    pub(crate) fn add(&mut self, now_ms: u64, count: impl FnOnce(&mut C)) -> Option<C> {
        count(&mut self.counts);
        if now_ms < self.next_ms {
            return None;
        }
        // The first event after a pause is reported at once, the others in sums.
        self.next_ms = now_ms + LOG_INTERVAL_MS;
        Some(mem::take(&mut self.counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_at_once_and_later_ones_as_sums_once_a_minute() {
        let mut notice = Notice::<u64>::default();
        let mut add = |now_ms| notice.add(now_ms, |count| *count += 1);
        assert_eq!(add(5), Some(1));
        assert!((6..10_000).all(|now_ms| add(now_ms).is_none()));
        assert_eq!(add(5 + LOG_INTERVAL_MS), Some(9_995));
    }
}
