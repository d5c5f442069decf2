//! The master's progress, as the tracks beside it need to know it.

use std::time::Duration;

/// The time that the master has reached. It decides which steps are due on the tracks beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Presentation time of its newest frame, 90 kHz.
    pub(crate) reached: i64,
    /// The same, as far as its marks are known, 90 kHz.
    pub(crate) marked: i64,
    /// The segment duration aimed at.
    pub(crate) segment: Duration,
    /// The longest that a segment may be, as of the newest cut.
    pub(crate) longest: Duration,
}
