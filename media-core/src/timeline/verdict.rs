//! Whether a mapped time stays near the wall clock and the other tracks.
//!
//! A decode time leads the wall clock by at most [`FAR`], lags behind it by more than that only for
//! [`PATIENCE`], and differs from the other track by more than [`APART`] no longer than that.

use std::time::Duration;

use super::limits::FAR;
use crate::MediaTime;

/// The largest distance from the other track: 3 s.
const APART: i64 = 270_000;
/// Time for which a track may lag too far. A backlog that arrives at once does not change its
/// offset.
const PATIENCE: Duration = Duration::from_secs(1);

/// The mapped time of a frame, and the times that it is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// The time to which its timestamp maps.
    pub(super) at: MediaTime,
    /// The wall clock at its arrival.
    pub(super) wall: MediaTime,
    /// The latest position of the other active tracks.
    pub(super) beside: Option<MediaTime>,
    /// Time for which its track has been too far behind.
    pub(super) behind: Option<Duration>,
}

/// The decision about a frame at its mapped time.
pub(super) enum Verdict {
    Fine,
    TooFarAhead,
    /// Too far behind; the time since then is recorded.
    Behind,
    /// Only this track is wrong: it continues at this time.
    Jump(MediaTime),
    /// All of the publisher is late by so many ticks.
    Late(i64),
}

impl Position {
    /// Decides about the frame.
    pub(super) fn verdict(self) -> Verdict {
        let Self { at, wall, beside, behind } = self;
        let distance = |time: MediaTime| (time - wall).saturating_abs();
        // Of two tracks that diverge, the one farther from the wall clock is wrong.
        let wrong = beside.filter(|other| distance(at) > distance(*other));
        match wrong.filter(|other| at - *other > APART) {
            Some(other) => return Verdict::Jump(other),
            None if at - wall > FAR => return Verdict::TooFarAhead,
            None => {}
        }
        // A lead needs an immediate decision, because the time would be published. A lag may be a
        // backlog that arrives in one burst, so it is tolerated for `PATIENCE`.
        let parted = wrong.filter(|other| *other - at > APART);
        if parted.is_none() && wall - at <= FAR {
            return Verdict::Fine;
        }
        match (behind, parted) {
            (Some(behind), _) if behind < PATIENCE => Verdict::Behind,
            (Some(_), Some(other)) => Verdict::Jump(other),
            (Some(_), None) => Verdict::Late(wall - at),
            (None, _) => Verdict::Behind,
        }
    }
}
