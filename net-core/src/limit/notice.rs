//! Limits the log lines about a limit, and collects their numbers.

use std::mem;

/// The log has at most one line in this time about each limit.
pub(super) const LOG_INTERVAL_MS: u64 = 60_000;

/// Events at one limit since the log's last line about it.
#[derive(Debug, Default)]
pub(super) struct Notice {
    next_ms: u64,
    pub(super) closed: u64,
    pub(super) refused: u64,
}

impl Notice {
    /// Counts an event. Returns the sums since the last line if a line is due.
    pub(super) fn add(&mut self, now_ms: u64, count: impl FnOnce(&mut Self)) -> Option<Self> {
        count(self);
        if now_ms < self.next_ms {
            return None;
        }
        // The first event after a pause is reported at once, the others in sums.
        let next = Self { next_ms: now_ms + LOG_INTERVAL_MS, ..Self::default() };
        Some(mem::replace(self, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_a_line_at_the_first_event_and_sums_once_a_minute() {
        let mut notice = Notice::default();
        let mut closed = |now_ms| notice.add(now_ms, |notice| notice.closed += 1);
        assert_eq!(closed(5).unwrap().closed, 1);
        assert!((6..10_000).all(|now_ms| closed(now_ms).is_none()));
        assert_eq!(closed(5 + LOG_INTERVAL_MS).unwrap().closed, 9_995);
    }
}
