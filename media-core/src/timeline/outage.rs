//! The shift of a publisher's media after an outage, by which `lead` decides which frames are
//! dropped.

use crate::MediaSpan;

/// A shift of at most 1 s is no outage: it leaves room below `AHEAD`, and does not justify the
/// loss of a group.
const OUTAGE: MediaSpan = MediaSpan::from_millis(1_000);

/// The shift of timestamps, and whether media are dropped because of it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Time by which media are placed later than their original timestamps; never negative.
    pub(super) shifted: MediaSpan,
    /// The lead is a burst: it is dropped whatever was shifted.
    pub(super) burst: bool,
    /// Frames are dropped until media can continue near the wall clock.
    pub(super) leaves_out: bool,
}

impl Outage {
    /// Starts again for another clock.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Records a shift of the whole publisher by `later`; negative for an earlier time.
    pub(super) fn shift(&mut self, later: MediaSpan) {
        self.shifted = (self.shifted + later).max(MediaSpan::ZERO);
    }

    /// Whether an outage or a burst explains a lead.
    pub(super) fn is_known(&self) -> bool {
        self.shifted > OUTAGE || self.burst
    }
}
