//! The master's progress, as the tracks beside it need to know it.

use std::time::Duration;

use media_core::MediaTime;

/// The time that the master has reached. It decides which steps are due on the tracks beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Presentation time of its newest frame.
    pub(crate) reached: MediaTime,
    /// The time up to which its marks are known; not later than `reached`.
    pub(crate) marked: MediaTime,
    /// The segment duration aimed at.
    pub(crate) segment: Duration,
    /// The longest that a segment may be, as of the newest cut.
    pub(crate) longest: Duration,
}
