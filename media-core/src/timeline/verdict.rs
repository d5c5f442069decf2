//! Whether a mapped time stays near the wall clock and the other tracks.
//!
//! A decode time leads the wall clock by at most [`FAR`], lags behind it by more than that only for
//! [`PATIENCE`], and differs from the other track by more than [`APART`] no longer than that.

use std::time::Duration;

use super::limits::FAR;
use crate::{MediaSpan, MediaTime};

/// The largest distance from the other track: 3 s.
const APART: MediaSpan = MediaSpan::from_millis(3_000);
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
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Fine,
    TooFarAhead,
    /// Too far behind; the time since then is recorded.
    Behind,
    /// Only this track is wrong: it continues at this time.
    Jump(MediaTime),
    /// All of the publisher is late by so much.
    Late(MediaSpan),
}

impl Position {
    /// Decides about the frame.
    pub(super) fn verdict(self) -> Verdict {
        let Self { at, wall, beside, behind } = self;
        let distance = |time: MediaTime| (time - wall).abs();
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

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: MediaTime = MediaTime::from_ticks(9_000_000);

    /// The verdict about a frame `at_s` seconds from the wall clock, beside a track `beside_s`
    /// seconds from it, whose track has been too far behind for `behind_ms`.
    fn verdict(at_s: i64, beside_s: Option<i64>, behind_ms: Option<u64>) -> Verdict {
        let position = Position {
            at: WALL + MediaSpan::from_millis(at_s * 1_000),
            wall: WALL,
            beside: beside_s.map(|beside_s| WALL + MediaSpan::from_millis(beside_s * 1_000)),
            behind: behind_ms.map(Duration::from_millis),
        };
        position.verdict()
    }

    #[test]
    fn a_lead_is_decided_at_once_and_a_lag_after_a_second() {
        assert_eq!(verdict(5, None, None), Verdict::Fine);
        assert_eq!(verdict(6, None, None), Verdict::TooFarAhead);
        assert_eq!(verdict(-5, None, Some(2_000)), Verdict::Fine);
        assert_eq!(verdict(-6, None, None), Verdict::Behind);
        assert_eq!(verdict(-6, None, Some(999)), Verdict::Behind);
        assert_eq!(verdict(-6, None, Some(1_000)), Verdict::Late(MediaSpan::from_ticks(540_000)));
    }

    #[test]
    fn of_two_tracks_that_diverge_the_one_farther_from_the_wall_clock_jumps() {
        assert_eq!(verdict(3, Some(0), None), Verdict::Fine);
        assert_eq!(verdict(4, Some(0), None), Verdict::Jump(WALL));
        assert_eq!(verdict(0, Some(4), None), Verdict::Fine);
        assert_eq!(verdict(-4, Some(0), None), Verdict::Behind);
        assert_eq!(verdict(-4, Some(0), Some(1_000)), Verdict::Jump(WALL));
    }
}
