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

use super::{
    limits::{ACTIVE, AHEAD, FAR},
    mapping::{Clock, Mapped, Timeline},
};
use crate::{MediaSpan, MediaTime, TrackIndex};

/// Media continue where they lead the wall clock by at most 1 s, so that not every burst causes
/// another drop.
const RESUME: MediaSpan = MediaSpan::from_millis(1_000);
/// Distance of the first frame after a drop from the newest kept frame: 40 ms, about a frame.
const FRAME: MediaSpan = MediaSpan::from_millis(40);

impl Timeline {
    /// The time until which the publisher should not be read, because all its tracks lead the wall
    /// clock too far. Nothing is lost by that, because its data wait in the network's buffers. A
    /// lead that an outage explains is not waited for ([`Timeline::leaves_out`]).
    pub fn ahead_until(&self, now: Instant) -> Option<Instant> {
        let ahead = self.lead(now)? - AHEAD;
        (ahead > MediaSpan::ZERO && !self.outage.is_known()).then(|| now + ahead.duration())
    }

    /// The lead over the wall clock that all active tracks have; negative if one lags.
    fn lead(&self, now: Instant) -> Option<MediaSpan> {
        let newest = self.newest?.arrived;
        let active = |clock: &&Clock| {
            let arrived = clock.own.as_ref().map(|own| own.arrived);
            arrived.is_some_and(|arrived| newest.saturating_duration_since(arrived) < ACTIVE)
        };
        let decoded = self.tracks.iter().filter(active).filter_map(|clock| clock.newest);
        let least = decoded.map(|newest| newest.dts).min()?;
        Some(least - self.wall(now))
    }

    /// The publisher's lead is a burst, after which it sends in real time: from now on, media are
    /// dropped until a key frame leads the wall clock by at most 1 s. Changes nothing if the lead
    /// is no longer than that.
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
        stamp: MediaSpan,
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
        let back = if follows { self.surplus(track, stamp, arrived) } else { MediaSpan::ZERO };
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
            self.follow(track, Mapped { offset, stamp, arrived }, true, false);
        }
        true
    }

    /// The distance of a frame's mapped time from the first free time after the newest kept frames
    /// and the wall clock.
    fn surplus(&self, track: TrackIndex, stamp: MediaSpan, arrived: Instant) -> MediaSpan {
        let own = self.tracks[track.get()].own.as_ref();
        let offset = own.map_or(MediaTime::ZERO, |own| own.offset);
        let place = self.at(arrived) + FRAME;
        (self.place(stamp, offset) - place).max(MediaSpan::ZERO)
    }
}
