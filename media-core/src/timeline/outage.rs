//! Keeps an outage of a live publisher from becoming latency.
//!
//! Media that waited behind an outage are placed after it, later than their timestamps say, and all
//! later media with them. A live publisher then leads the wall clock by as much as was shifted, once
//! its backlog has come. To read no more from it until the wall clock has come as far would keep that
//! time in its buffers for good, because it goes on in real time. So media are left out instead, and
//! the shift is taken back where media go on. Only time that was shifted is taken back: a publisher
//! whose timestamps themselves run ahead loses nothing, and is waited for
//! ([`Timeline::ahead_until`]).

use std::time::Instant;

use super::{AHEAD, FAR, Timeline};

/// A shift of at most 1 s is no outage: it leaves room below [`AHEAD`], and would not pay for a group.
const OUTAGE: i64 = 90_000;
/// Media go on where they lead the wall clock by at most 1 s, so that not every burst leaves out more.
const RESUME: i64 = 90_000;
/// Media go on this long after the newest that were kept: 40 ms, about a frame.
const FRAME: i64 = 3_600;

/// What timestamps were shifted by, and whether media are left out because of it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Ticks by which media are placed later than their timestamps said at first; never negative.
    shifted: i64,
    leaves_out: bool,
}

impl Outage {
    /// Another clock is to be followed from here on.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// All of the publisher is placed `later` ticks later, or earlier if that is negative.
    pub(super) fn shift(&mut self, later: i64) {
        self.shifted = self.shifted.saturating_add(later).max(0);
    }

    /// Whether a lead is explained by an outage.
    pub(super) fn is_known(&self) -> bool {
        self.shifted > OUTAGE
    }

    /// Whether media are left out at present.
    pub(super) fn leaves_out(&self) -> bool {
        self.leaves_out
    }
}

impl Timeline {
    /// Whether a frame of `track` is to be left out, because an outage would otherwise stay as latency.
    /// To be asked of each frame before it is mapped. `starts`: a group of the track that decides cuts
    /// starts with it, so that media can go on there.
    pub fn leaves_out(&mut self, track: usize, stamp: i64, starts: bool, arrived: Instant) -> bool {
        if !self.outage.is_known() && !self.outage.leaves_out {
            return false;
        }
        let Some(lead) = self.lead(arrived) else { return false };
        self.outage.leaves_out |= lead > AHEAD;
        if !self.outage.leaves_out {
            return false;
        }
        let follows = self.follows(track, stamp, arrived);
        let back = if follows {
            self.surplus(track, stamp, arrived)
        } else {
            0
        };
        // No more is left out than was shifted, but for the rest of a group. A source without key frames
        // would have nowhere to go on.
        if starts && (lead <= RESUME || back >= self.outage.shifted) || lead < -FAR {
            self.outage.leaves_out = false;
            let wall = self.wall(arrived);
            self.shift(track, -back, wall);
            return false;
        }
        if follows && let Some(offset) = self.tracks[track].own.as_ref().map(|own| own.offset) {
            self.follow(track, (offset, stamp, arrived), true, false);
        }
        true
    }

    /// By how much a frame would be placed after the newest that were kept and the wall clock.
    fn surplus(&self, track: usize, stamp: i64, arrived: Instant) -> i64 {
        let offset = self.tracks[track].own.as_ref().map_or(0, |own| own.offset);
        let mapped = stamp.saturating_add(offset).saturating_add(self.drift.ticks());
        let place = self.at(arrived).saturating_add(FRAME);
        mapped.saturating_sub(place).max(0)
    }
}
