//! Keeps an outage of a live publisher, or a burst at its start, from becoming latency.
//!
//! Media that waited behind an outage are placed after it, later than their timestamps, and all
//! later media with them. Once its backlog has arrived, a live publisher leads the wall clock by
//! the shift. If the daemon stopped reading until the wall clock has caught up, that time would
//! stay in the publisher's buffers permanently, because it continues in real time. So media are
//! dropped instead, and the shift is removed where media continue. Only shifted time is removed: a
//! publisher whose timestamps themselves run ahead loses nothing, and is waited for
//! ([`Timeline::ahead_until`]).
//!
//! A relay that begins with a burst and continues in real time leads in the same way, and so does a
//! file that is sent too fast. The caller distinguishes them ([`Timeline::drop_lead`]).

use std::time::Instant;

use super::{AHEAD, FAR, Timeline};
use crate::TrackIndex;

/// A shift of at most 1 s is no outage: it leaves room below [`AHEAD`], and does not justify the
/// loss of a group.
const OUTAGE: i64 = 90_000;
/// Media continue where they lead the wall clock by at most 1 s, so that not every burst causes
/// another drop.
const RESUME: i64 = 90_000;
/// Distance of the first frame after a drop from the newest kept frame: 40 ms, about a frame.
const FRAME: i64 = 3_600;

/// The shift of timestamps, and whether media are dropped because of it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Ticks by which media are placed later than their original timestamps; never negative.
    shifted: i64,
    /// The lead is a burst: it is dropped whatever was shifted.
    burst: bool,
    leaves_out: bool,
}

impl Outage {
    /// Starts again for another clock.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Records a shift of the whole publisher by `later` ticks; negative for an earlier time.
    pub(super) fn shift(&mut self, later: i64) {
        self.shifted = self.shifted.saturating_add(later).max(0);
    }

    /// Whether an outage or a burst explains a lead.
    pub(super) fn is_known(&self) -> bool {
        self.shifted > OUTAGE || self.burst
    }
}

impl Timeline {
    /// The publisher's lead is a burst, after which it sends in real time: from now on, media are
    /// dropped until a key frame leads the wall clock by at most 1 s. Changes nothing if the lead is
    /// no longer than that.
    pub fn drop_lead(&mut self, now: Instant) {
        if self.lead(now).is_some_and(|lead| lead > RESUME) {
            (self.outage.burst, self.outage.leaves_out) = (true, true);
        }
    }

    /// Whether to drop a frame of `track`, because an outage would otherwise remain as latency.
    /// Call it for each frame before mapping it. `starts`: a group of the master track starts with
    /// the frame, so that media can continue there.
    pub fn leaves_out(
        &mut self,
        track: TrackIndex,
        stamp: i64,
        starts: bool,
        arrived: Instant,
    ) -> bool {
        if !self.outage.is_known() && !self.outage.leaves_out {
            return false;
        }
        let Some(lead) = self.lead(arrived) else { return false };
        self.outage.leaves_out |= lead > AHEAD;
        if !self.outage.leaves_out {
            return false;
        }
        let follows = self.follows(track, stamp, arrived);
        let offset = self.tracks[track.get()].own.as_ref().map(|own| own.offset);
        let back = if follows { self.surplus(track, stamp, arrived) } else { 0 };
        // No more is dropped than was shifted, except for the rest of a group. A source without key
        // frames would have no point to continue at.
        let all = !self.outage.burst && back >= self.outage.shifted;
        if starts && (lead <= RESUME || all) || lead < -FAR {
            (self.outage.burst, self.outage.leaves_out) = (false, false);
            if let Some(offset) = offset {
                let wall = self.wall(arrived);
                self.shift(track, offset, -back, wall);
            }
            return false;
        }
        // A dropped frame still advances the track's clock, so that its successor remains
        // plausible.
        if follows && let Some(offset) = offset {
            self.follow(track, (offset, stamp, arrived), true, false);
        }
        true
    }

    /// The distance of a frame's mapped time from the first free time after the newest kept frames
    /// and the wall clock.
    fn surplus(&self, track: TrackIndex, stamp: i64, arrived: Instant) -> i64 {
        let offset = self.tracks[track.get()].own.as_ref().map_or(0, |own| own.offset);
        let mapped = stamp.saturating_add(offset).saturating_add(self.drift.ticks());
        let place = self.at(arrived).saturating_add(FRAME);
        mapped.saturating_sub(place).max(0)
    }
}
