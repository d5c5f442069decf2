//! The names that are live: who may publish under one, who goes on after an absence, and who hears of new broadcasts.
//!
//! A name has one publisher at a time. A publisher first claims the name; its broadcast starts when its tracks are known, or goes
//! on if one with the same tracks is waiting. The clock is an argument: the daemon calls [`Hub::advance`] at a steady pace.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use dashmap::{DashMap, mapref::entry::Entry};
use tokio::sync::Notify;

use crate::{
    AccessUnit, Broadcast, ChannelName, Error, TrackName,
    broadcast::{Limits, Refused},
    codec::Config,
};

mod revocation;

pub use revocation::{Cause, Revocation};

/// What a hub allows.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bounds of each broadcast.
    pub broadcast: Limits,
    /// How long a broadcast waits for its publisher to return.
    pub reconnect: Duration,
    /// Names that can be in use at once.
    pub max_channels: usize,
}

/// The names that are live. Cheap to clone; all clones are the same hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    channels: DashMap<ChannelName, Channel>,
    announced: Mutex<Announced>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Channel {
    /// Revoked to make the publisher go.
    publisher: Option<Revocation>,
    broadcast: Option<Arc<Broadcast>>,
}

impl Channel {
    fn is_unused(&self) -> bool {
        self.publisher.is_none() && self.broadcast.is_none()
    }
}

#[derive(Debug, Default)]
struct Announced {
    serial: u64,
    live: BTreeMap<u64, Arc<Broadcast>>,
}

impl Hub {
    /// An empty hub.
    pub fn new(settings: Settings) -> Self {
        let (channels, announced) = (DashMap::new(), Mutex::default());
        Self(Arc::new(Shared {
            settings,
            channels,
            announced,
            changed: Notify::new(),
        }))
    }

    /// Claims `name` for a publisher, whose tracks need not be known yet.
    ///
    /// # Errors
    /// [`Error::Busy`]: it has a publisher. [`Error::TooManyBroadcasts`]: the hub is full.
    pub fn claim(&self, name: ChannelName) -> Result<Claim, Error> {
        let limit = self.0.settings.max_channels;
        let full = self.0.channels.len() >= limit;
        let revoked = Revocation::default();
        match self.0.channels.entry(name.clone()) {
            Entry::Occupied(channel) if channel.get().publisher.is_some() => return Err(Error::Busy { name }),
            Entry::Occupied(mut channel) => channel.get_mut().publisher = Some(revoked.clone()),
            Entry::Vacant(_) if full => return Err(Error::TooManyBroadcasts { limit }),
            Entry::Vacant(vacant) => {
                vacant.insert(Channel {
                    publisher: Some(revoked.clone()),
                    broadcast: None,
                });
            }
        }
        Ok(Claim {
            hub: self.clone(),
            name,
            revoked,
        })
    }

    /// The broadcast under `name`, live or waiting for its publisher.
    pub fn broadcast(&self, name: &ChannelName) -> Option<Arc<Broadcast>> {
        self.0.channels.get(name)?.broadcast.clone()
    }

    /// All broadcasts, in the order they started.
    pub fn broadcasts(&self) -> Vec<Arc<Broadcast>> {
        self.announced().live.values().cloned().collect()
    }

    /// Ends the broadcast under `name` and makes its publisher go. Whether there was one.
    pub fn kick(&self, name: &ChannelName) -> bool {
        let Some(channel) = self.0.channels.get(name) else {
            return false;
        };
        if let Some(publisher) = &channel.publisher {
            publisher.revoke(Cause::Operator);
        }
        let broadcast = channel.broadcast.clone();
        drop(channel);
        if let Some(broadcast) = broadcast {
            self.end(&broadcast);
        }
        true
    }

    /// Ends `broadcast`, which cannot go on, and sends its publisher off; `words` tell the person at
    /// the encoder why, and the remedy.
    pub fn fail(&self, broadcast: &Arc<Broadcast>, words: String) {
        let publisher = self.0.channels.get(broadcast.name()).and_then(|channel| {
            // The name may have passed on to another broadcast, which goes on.
            let held = channel.broadcast.as_ref()?;
            Arc::ptr_eq(held, broadcast).then(|| channel.publisher.clone())?
        });
        if let Some(publisher) = publisher {
            publisher.revoke(Cause::Failed(words));
        }
        self.end(broadcast);
    }

    /// Lets the clock act on all broadcasts: gaps while no frames come, and the end of those whose publisher stays away. To be
    /// called several times a second.
    pub fn advance(&self, now: Instant) {
        for broadcast in self.broadcasts() {
            let away = broadcast.advance(now);
            if away.is_some_and(|away| away >= self.0.settings.reconnect) && broadcast.end_unless_live() {
                self.forget(&broadcast);
            }
        }
    }

    /// Ends all broadcasts and makes all publishers go.
    pub fn close(&self) {
        let names: Vec<_> = self.0.channels.iter().map(|channel| channel.key().clone()).collect();
        for name in names {
            self.kick(&name);
        }
    }

    /// Hears of each broadcast, those that are live already first.
    pub fn announcements(&self) -> Announcements {
        Announcements {
            hub: self.clone(),
            seen: 0,
        }
    }

    fn start(
        &self,
        claim: &Claim,
        tracks: Vec<(TrackName, Config)>,
        now: Instant,
        utc: SystemTime,
    ) -> Result<Arc<Broadcast>, Error> {
        let waiting = self.broadcast(&claim.name);
        if let Some(broadcast) = waiting {
            if broadcast.resume(&tracks) {
                return Ok(broadcast);
            }
            self.end(&broadcast);
        }
        let broadcast = Arc::new(Broadcast::new(
            claim.name.clone(),
            tracks,
            self.0.settings.broadcast,
            now,
            utc,
        )?);
        if let Some(mut channel) = self.0.channels.get_mut(&claim.name) {
            channel.broadcast = Some(Arc::clone(&broadcast));
        }
        let mut announced = self.announced();
        announced.serial += 1;
        let serial = announced.serial;
        announced.live.insert(serial, Arc::clone(&broadcast));
        drop(announced);
        self.0.changed.notify_waiters();
        Ok(broadcast)
    }

    fn end(&self, broadcast: &Arc<Broadcast>) {
        broadcast.end();
        self.forget(broadcast);
    }

    fn forget(&self, broadcast: &Arc<Broadcast>) {
        self.announced().live.retain(|_, live| !Arc::ptr_eq(live, broadcast));
        if let Entry::Occupied(mut channel) = self.0.channels.entry(broadcast.name().clone()) {
            if channel
                .get()
                .broadcast
                .as_ref()
                .is_some_and(|held| Arc::ptr_eq(held, broadcast))
            {
                channel.get_mut().broadcast = None;
            }
            if channel.get().is_unused() {
                channel.remove();
            }
        }
    }

    fn release(&self, name: &ChannelName) {
        if let Entry::Occupied(mut channel) = self.0.channels.entry(name.clone()) {
            channel.get_mut().publisher = None;
            if channel.get().is_unused() {
                channel.remove();
            }
        }
    }

    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.0.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to publish under a name. Dropping it gives the name free.
#[derive(Debug)]
pub struct Claim {
    hub: Hub,
    name: ChannelName,
    revoked: Revocation,
}

impl Claim {
    /// The name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Tells when the publisher must go.
    pub fn revoked(&self) -> Revocation {
        self.revoked.clone()
    }

    /// Starts publishing: goes on with the broadcast that waits under the name if its tracks are these with the same codec
    /// strings, else ends it and begins a new one. `now` is when the first frame came, `utc` the wall clock then.
    ///
    /// # Errors
    /// [`Error::BadCatalogue`]; the claim is given up.
    pub fn start(self, tracks: Vec<(TrackName, Config)>, now: Instant, utc: SystemTime) -> Result<Producer, Error> {
        let broadcast = self.hub.start(&self, tracks, now, utc)?;
        Ok(Producer {
            broadcast,
            claim: Some(self),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.hub.release(&self.name);
    }
}

/// Publishes a broadcast. Dropping it means that the publisher is gone: the broadcast waits for it to return.
#[derive(Debug)]
pub struct Producer {
    broadcast: Arc<Broadcast>,
    /// There until [`Producer::end`] takes it.
    claim: Option<Claim>,
}

impl Producer {
    /// The broadcast.
    pub fn broadcast(&self) -> &Arc<Broadcast> {
        &self.broadcast
    }

    /// Tells when the publisher must go.
    pub fn revoked(&self) -> Option<Revocation> {
        self.claim.as_ref().map(Claim::revoked)
    }

    /// Publishes an access unit of the track with this index. Never waits.
    ///
    /// # Errors
    /// Why it was not taken; the broadcast goes on, unless it has [ended](Refused::Ended).
    pub fn push(&self, track: usize, unit: AccessUnit) -> Result<(), Refused> {
        self.broadcast.push(track, unit)
    }

    /// The track's next frames need another configuration. An equal one changes nothing; another one starts a segment with a
    /// discontinuity at the next key frame.
    ///
    /// # Errors
    /// [`Error::CodecChanged`]: players could not follow. [`Producer::end`] this broadcast and start another.
    pub fn configure(&self, track: usize, config: &Config) -> Result<(), Error> {
        self.broadcast.configure(track, config)
    }

    /// The publisher is gone since `now`, and may return.
    pub fn leave(self, now: Instant) {
        self.broadcast.leave(Some(now));
    }

    /// Ends the broadcast for good and keeps the name for another.
    pub fn end(mut self) -> Option<Claim> {
        let claim = self.claim.take();
        if let Some(claim) = &claim {
            claim.hub.end(&self.broadcast);
        }
        claim
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.broadcast.leave(None);
    }
}

/// Hears of new broadcasts.
#[derive(Debug)]
pub struct Announcements {
    hub: Hub,
    seen: u64,
}

impl Announcements {
    /// The next broadcast that is live, waiting for one. One that has ended meanwhile is not told of. Cancel-safe.
    pub async fn next(&mut self) -> Arc<Broadcast> {
        let hub = self.hub.clone();
        loop {
            let mut changed = pin!(hub.0.changed.notified());
            changed.as_mut().enable();
            let next = hub
                .announced()
                .live
                .range(self.seen + 1..)
                .next()
                .map(|(serial, live)| (*serial, Arc::clone(live)));
            if let Some((serial, broadcast)) = next {
                self.seen = serial;
                return broadcast;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests;
