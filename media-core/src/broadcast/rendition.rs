//! The handle with which the ladder adds tracks to a broadcast that it makes of the source.
//!
//! A rendition is announced before it has media, so that the first snapshot can wait for it; its
//! track appears with its first configuration. Its frames carry no marks, because it has a key
//! frame at each of the source's marks.

use std::sync::Arc;

use super::{
    event::{Event, Presence},
    limits::MAX_TRACKS,
    shared::Broadcast,
};
use crate::{
    AccessUnit, Error, Frame, MediaTime, Ticks, TrackIndex, TrackName, codec::Config, track::Track,
};

/// The access unit is not decoded after the one before it, or the rendition has no configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a unit out of order")]
pub struct OutOfOrder;

impl Broadcast {
    /// Announces a rendition.
    ///
    /// # Errors
    /// [`Error::BadCatalogue`]: there is such a track, or too many tracks.
    pub fn rendition(self: &Arc<Self>, name: TrackName) -> Result<Rendition, Error> {
        let mut state = self.lock();
        // Other announced renditions have reserved their places.
        let len = state.tracks.len() + state.awaited + 1;
        if len > MAX_TRACKS || state.tracks.iter().any(|track| track.name == name) {
            return Err(Error::BadCatalogue { len, max: MAX_TRACKS });
        }
        state.attached += 1;
        let awaited = state.awaited + 1;
        state.await_renditions(awaited, self.anchor.instant);
        drop(state);
        self.changed.notify_waiters();
        Ok(Rendition { broadcast: Arc::clone(self), name, track: None, shown: false })
    }
}

/// Publishes one rendition. Dropping it ends the rendition; a broadcast that has ended is finished
/// for its readers when all are dropped.
#[derive(Debug)]
pub struct Rendition {
    broadcast: Arc<Broadcast>,
    name: TrackName,
    /// Its index, once it has a configuration.
    track: Option<TrackIndex>,
    /// Whether frames are expected: it is configured, and was not declared absent since.
    shown: bool,
}

impl Rendition {
    /// Its track's name.
    pub fn name(&self) -> &TrackName {
        &self.name
    }

    /// Whether frames can be pushed: it has been configured, and not been
    /// [absent](Rendition::absent) since.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Declares that frames with `config` follow. Must be called before the first frame, and again
    /// after [`Rendition::absent`].
    ///
    /// # Errors
    /// [`Error::CodecChanged`]: players could not follow; the rendition is unchanged.
    pub fn configure(&mut self, config: &Config) -> Result<(), Error> {
        let mut state = self.broadcast.lock();
        // The first configuration makes the track, which takes the place that was reserved for it.
        let Some(index) = self.track else {
            let index = state.tracks.len();
            if index >= MAX_TRACKS {
                return Err(Error::BadCatalogue { len: index + 1, max: MAX_TRACKS });
            }
            let track = Track::new(self.name.clone(), Arc::new(config.clone()), false);
            state.begin_track(track, self.broadcast.anchor.instant);
            let awaited = state.awaited - 1;
            state.await_renditions(awaited, self.broadcast.anchor.instant);
            drop(state);
            (self.track, self.shown) = (Some(TrackIndex::new(index)), true);
            self.broadcast.changed.notify_waiters();
            return Ok(());
        };
        let known = &mut state.tracks[index.get()];
        if !known.config.is_same_family(config) {
            return Err(Error::CodecChanged {
                track: known.name.clone(),
                from: known.config.codec_string().into(),
                to: config.codec_string().into(),
            });
        }
        // An equal configuration is declared again only after an absence, which it ends.
        if *known.config != *config {
            known.config = Arc::new(config.clone());
        } else if self.shown {
            return Ok(());
        }
        known.absent = false;
        let config = Arc::clone(&known.config);
        state.declare(Event::Config { track: index, config }, self.broadcast.anchor.instant);
        drop(state);
        self.shown = true;
        self.broadcast.changed.notify_waiters();
        Ok(())
    }

    /// Publishes an access unit, whose times are distances from media time zero of the broadcast.
    /// Never waits. It is accepted even after the end of the broadcast.
    ///
    /// # Errors
    /// [`OutOfOrder`]: the unit is refused.
    pub fn push(&self, unit: AccessUnit) -> Result<(), OutOfOrder> {
        let index = self.track.filter(|_| self.shown).ok_or(OutOfOrder)?;
        let mut state = self.broadcast.lock();
        let position = state.end();
        let track = &mut state.tracks[index.get()];
        let decoded = MediaTime::ZERO + unit.dts;
        // A worker that replaces another one starts with frames that may have been published
        // already.
        if track.newest.is_some_and(|newest| decoded <= newest) {
            return Err(OutOfOrder);
        }
        track.newest = Some(decoded);
        // Audio can be decoded at any frame, so its groups only need to be short enough to skip.
        if unit.key {
            track.group = Some(position);
        }
        let (arrived, bytes) = (unit.arrived, unit.payload.len());
        track.frames += 1;
        track.bytes += bytes as u64;
        track.rate.add(bytes as u64, arrived);
        let timescale = track.config.timescale();
        let frame = Frame {
            dts: Ticks::of(decoded, timescale),
            pts: Ticks::of(MediaTime::ZERO + unit.pts, timescale),
            key: unit.key,
            independent: unit.independent,
            mark: None,
            arrived,
            payload: unit.payload,
        };
        state.append(Event::Frame { track: index, frame }, arrived, bytes);
        state.evict(&self.broadcast.limits, arrived);
        drop(state);
        self.broadcast.changed.notify_waiters();
        Ok(())
    }

    /// Declares that the rendition has no worker at present: no frames follow until it is
    /// configured again.
    pub fn absent(&mut self) {
        let Some(track) = self.track.filter(|_| self.shown) else {
            return;
        };
        self.shown = false;
        let mut state = self.broadcast.lock();
        state.tracks[track.get()].group = None;
        state.tracks[track.get()].absent = true;
        state.declare(Event::Absent { track }, self.broadcast.anchor.instant);
        drop(state);
        self.broadcast.changed.notify_waiters();
    }
}

impl Drop for Rendition {
    fn drop(&mut self) {
        if self.broadcast.presence() != Presence::Ended {
            self.absent();
        }
        let mut state = self.broadcast.lock();
        state.attached -= 1;
        // Without a track, nobody waits for it any longer. With one, no reader can start in a group
        // that does not go on.
        match self.track {
            Some(track) => state.tracks[track.get()].group = None,
            None => {
                let awaited = state.awaited - 1;
                state.await_renditions(awaited, self.broadcast.anchor.instant);
            }
        }
        drop(state);
        self.broadcast.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
