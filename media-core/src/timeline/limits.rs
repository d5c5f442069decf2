//! Distances between timestamps, media time and the wall clock that several parts of the timeline
//! compare with.

use std::time::Duration;

use crate::MediaSpan;

/// The largest distance from the wall clock: 5 s.
pub(super) const FAR: MediaSpan = MediaSpan::from_millis(5_000);
/// A publisher whose tracks all lead the wall clock by more than 2.5 s should not be read.
pub(super) const AHEAD: MediaSpan = MediaSpan::from_millis(2_500);
/// A track without a frame for this long does not show the publisher's clock.
pub(super) const ACTIVE: Duration = Duration::from_secs(1);
/// The least step between two frames of a track: 1 ms, the unit of RTMP timestamps.
pub(super) const LEAST_STEP: MediaSpan = MediaSpan::from_millis(1);
