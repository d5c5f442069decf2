//! The rate at which a peer accepts the bytes sent to it. Pure: durations in. Without this, a peer
//! that accepts a few bytes now and then would meet the limit of each write without end.

use std::time::Duration;

use crate::Error;

/// Minimum number of bytes a second that a peer must accept while some wait for it.
const LEAST_RATE: u64 = 1 << 10;
/// The rate is measured over this many times the limit of one write.
const PATIENCE: u32 = 6;

/// Bytes that one peer has accepted, and the time for which writes waited. Time without waiting
/// writes does not count.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Waiting time after which the rate is judged.
    span: Duration,
    /// Time for which writes waited since the last judgement, and the bytes accepted in it.
    waited: Duration,
    taken: u64,
}

impl Pace {
    /// Measures over [`PATIENCE`] times `write_limit`.
    pub(crate) fn new(write_limit: Duration) -> Self {
        Self { span: write_limit * PATIENCE, waited: Duration::ZERO, taken: 0 }
    }

    /// Records that the peer accepted `bytes` after a wait of `waited`.
    ///
    /// # Errors
    /// [`Error::TooSlow`]: over the span it accepted less than the minimum rate.
    pub(crate) fn note(&mut self, waited: Duration, bytes: usize) -> Result<(), Error> {
        self.waited += waited;
        self.taken += bytes as u64;
        // Only time that was spent waiting counts, so a peer to which nothing is sent is not slow.
        if self.waited < self.span {
            return Ok(());
        }
        let waited_ms = u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX);
        let (taken, least) = (self.taken, LEAST_RATE.saturating_mul(waited_ms) / 1_000);
        (self.waited, self.taken) = (Duration::ZERO, 0);
        match taken >= least {
            true => Ok(()),
            false => Err(Error::TooSlow { taken, waited_ms }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn a_peer_that_reads_a_few_bytes_a_write_is_too_slow_after_six_write_limits() {
        let mut pace = Pace::new(LIMIT);
        let slow = (1..).find(|_| pace.note(LIMIT - Duration::from_millis(1), 10).is_err());
        assert_eq!(slow, Some(7));
    }

    #[test]
    fn a_peer_at_the_minimum_rate_stays_and_one_below_it_is_too_slow() {
        for (bytes, stays) in [(5 * 1_024, true), (5 * 1_024 - 1, false)] {
            let mut pace = Pace::new(LIMIT);
            let ends = (0..600).any(|_| pace.note(LIMIT, bytes).is_err());
            assert_eq!(!ends, stays, "{bytes}");
        }
    }

    #[test]
    fn fast_writes_are_never_too_slow_and_excuse_at_most_one_span() {
        let mut pace = Pace::new(LIMIT);
        for _ in 0..100_000 {
            pace.note(Duration::ZERO, 1).unwrap();
        }
        let slow = (1..).find(|_| pace.note(LIMIT, 1).is_err());
        assert!(slow <= Some(12), "{slow:?}");
    }
}
