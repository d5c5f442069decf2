//! Distinguishes the burst at the start of a live publisher from a file that is sent faster than
//! real time. Pure: numbers of bytes and instants in.
//!
//! A relay with a cache of groups, or of an HLS stream, sends some seconds of media at once, and
//! then continues in real time. If it is not read while it leads the wall clock, its lead stays in
//! network buffers permanently, and it looks like a file. So the data of a publisher that leads at
//! its start are read ahead. A file fills [`BYTES`], or ends. If the publisher instead sends no
//! faster than its media for [`WINDOW`], and still sends after that, the lead is a burst.
//!
//! The rate is measured in bytes, against those of the first 2.5 s of media, which are the lead at
//! which the hub stops reading.

use std::time::{Duration, Instant};

/// Longest time from the first frame to the lead of 2.5 s: a burst is more than twice as fast as
/// real time.
const START: Duration = Duration::from_secs(2);
/// Time for which data are read ahead.
const WATCH: Duration = Duration::from_secs(15);
/// Time over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(2);
/// Maximum number of bytes that are read ahead: 20 s at 6 Mbit/s.
pub(crate) const BYTES: usize = 16 << 20;

/// The start of one publisher, as observed so far.
#[derive(Debug)]
pub(crate) enum Burst {
    /// The publisher has not led so far.
    Starting {
        /// Arrival of the first frame.
        first: Option<Instant>,
        /// Bytes received so far.
        received: usize,
    },
    /// It leads, and its data are read ahead until then.
    Watched {
        /// End of the watch: a lead that lasts for longer is that of a file.
        until: Instant,
        /// Bytes received up to the lead.
        received: usize,
        /// `None` until the number of bytes is known that were not used at the lead.
        window: Option<Window>,
    },
    /// It is not at its start, or what it is has been decided.
    Settled,
}

/// A measurement of the rate at which a watched publisher sends.
#[derive(Debug)]
pub(crate) struct Window {
    /// Bytes of a second of media.
    rate: usize,
    /// Start of the measurement.
    since: Instant,
    /// Bytes received since then.
    bytes: usize,
}

impl Default for Burst {
    fn default() -> Self {
        Self::Starting { first: None, received: 0 }
    }
}

impl Burst {
    /// Records an accepted frame, and whether the publisher should not be read after it.
    pub(crate) fn note_frame(&mut self, leads: bool, now: Instant) {
        if let Self::Starting { first, received } = *self {
            let since = first.unwrap_or(now);
            // A lead that develops slowly is that of a fast clock: pacing handles it.
            *self = match now.saturating_duration_since(since) > START {
                true => Self::Settled,
                false if leads => Self::Watched { until: now + WATCH, received, window: None },
                false => Self::Starting { first: Some(since), received },
            };
        }
    }

    /// Records that `held` of the received bytes remain after frames were accepted.
    pub(crate) fn note_held(&mut self, held: usize, now: Instant) {
        if let Self::Watched { received, window, .. } = self {
            // The bytes used so far are the 2.5 s of media up to the lead: two fifths of them are a
            // second's.
            window.get_or_insert(Window {
                rate: received.saturating_sub(held) * 2 / 5,
                since: now,
                bytes: 0,
            });
        }
    }

    /// Records received bytes. Returns whether the lead is a burst that has ended; only once.
    pub(crate) fn note_received(&mut self, bytes: usize, now: Instant) -> bool {
        let window = match self {
            Self::Starting { received, .. } => {
                *received += bytes;
                return false;
            }
            Self::Watched { until, window, .. } if now < *until => window,
            Self::Watched { .. } | Self::Settled => {
                *self = Self::Settled;
                return false;
            }
        };
        let Some(window) = window else { return false };
        window.bytes += bytes;
        if now.saturating_duration_since(window.since) >= WINDOW {
            // Half a second of media is more than a farewell.
            let ended = window.bytes >= window.rate / 2;
            if ended {
                *self = Self::Settled;
            }
            return ended;
        }
        // Three seconds of media in less than the window, one and a half times real time: the burst
        // lasts, so the measurement starts again.
        if window.bytes > window.rate * 3 {
            (window.since, window.bytes) = (now, 0);
        }
        false
    }

    /// Whether data are to be read although the publisher leads, while `held` bytes wait. A
    /// publisher that has filled [`BYTES`] is a file from then on: it is read at the rate of its
    /// media, so that its rate is ours and cannot be judged any more.
    pub(crate) fn reads_ahead(&mut self, held: usize, now: Instant) -> bool {
        if held >= BYTES {
            self.settle();
        }
        matches!(self, Self::Watched { until, .. } if now < *until)
    }

    /// The publisher sends no more: all that it sent is to be published.
    pub(crate) fn settle(&mut self) {
        *self = Self::Settled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A publisher of 1000 bytes for a second of media that sends 5000 at once and leads, with 2500
    /// of them held. Then it sends `bytes` of a millisecond, every 40 ms. Returns when that is
    /// found to be live.
    fn found(bytes: impl Fn(u64) -> usize) -> Option<u64> {
        let (start, mut burst) = (Instant::now(), Burst::default());
        assert!(!burst.note_received(5_000, start));
        burst.note_frame(false, start);
        assert!(!burst.reads_ahead(0, start));
        burst.note_frame(true, start);
        burst.note_held(2_500, start);
        for ms in (40..20_000).step_by(40) {
            let now = start + Duration::from_millis(ms);
            let bytes = bytes(ms);
            if bytes > 0 && burst.note_received(bytes, now) {
                assert!(!burst.note_received(bytes, now) && !burst.reads_ahead(0, now));
                return Some(ms);
            }
            assert_eq!(burst.reads_ahead(0, now), ms < 15_000, "{ms}");
        }
        None
    }

    #[test]
    fn a_publisher_that_continues_in_real_time_after_its_burst_is_live() {
        assert_eq!(found(|_| 40), Some(2_000));
        // The burst lasts longer.
        assert!(matches!(found(|ms| if ms < 3_000 { 1_000 } else { 40 }), Some(4_900..=7_000)));
        // A relay of segments of 6 s.
        assert_eq!(found(|ms| if ms % 6_000 == 0 { 6_000 } else { 0 }), Some(6_000));
    }

    #[test]
    fn a_publisher_that_stays_faster_or_ends_is_treated_as_a_file() {
        assert_eq!(found(|_| 70), None);
        assert_eq!(found(|_| 100_000), None);
        assert_eq!(found(|_| 0), None);
        // deleteStream, after a silence.
        assert_eq!(found(|ms| if ms == 4_000 { 40 } else { 0 }), None);
    }

    #[test]
    fn a_slowly_growing_lead_is_no_burst_and_reading_ahead_is_bounded() {
        let (start, mut burst) = (Instant::now(), Burst::default());
        burst.note_frame(true, start);
        assert!(burst.reads_ahead(BYTES - 1, start) && !burst.reads_ahead(BYTES, start));
        // It is read in real time from then on, and is no burst for that.
        burst.note_held(BYTES - 1, start);
        for ms in (0..15_000).step_by(40) {
            let now = start + Duration::from_millis(ms);
            assert!(!burst.note_received(1, now) && !burst.reads_ahead(BYTES - 1, now));
        }
        let mut burst = Burst::default();
        burst.note_frame(false, start);
        burst.note_frame(true, start + Duration::from_millis(2_001));
        assert!(!burst.reads_ahead(0, start + Duration::from_millis(2_001)));
    }
}
