//! The live names: the right to publish under a name, the continuation after an absence, and the
//! broadcasts that begin and end.
//!
//! A name has one publisher at a time. A publisher first claims the name; its broadcast starts when
//! its tracks are known, or continues one that waits under the name. A publisher that has been
//! silent for [`TAKEOVER`] loses its name to another. The clock is an argument: the daemon calls
//! [`Hub::advance`] at a steady pace.
//!
//! The lock of a name's entry orders its claims, starts, kicks and takeovers: a publisher that was
//! kicked or replaced cannot start afterwards, and the broadcast no longer accepts its number.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use dashmap::{DashMap, mapref::entry::Entry};

use crate::{
    AccessUnit, Broadcast, ChannelName, ChannelSettings, Error, TrackIndex, TrackName,
    broadcast::{Limits, Pushed, Refused},
    codec::Config,
};

mod announced;
mod events;
mod hold;
mod numbers;
mod revocation;

use announced::Announced;
pub use events::{Event, Events};
pub use hold::{Hold, TAKEOVER};
pub use numbers::Numbers;
use numbers::Used;
pub use revocation::{Cause, Revocation};

/// A broadcast waits this many times [`Settings::reconnect`] for a publisher that has claimed its
/// name again.
const SETTLING: u32 = 4;

/// Settings of a hub.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Limits of each broadcast.
    pub broadcast: Limits,
    /// Time for which a broadcast waits for its publisher to return.
    pub reconnect: Duration,
    /// Maximum number of names in use.
    pub max_channels: usize,
}

/// The live names. Cheap to clone; all clones are the same hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    channels: DashMap<ChannelName, Channel>,
    announced: Arc<Announced>,
    used: Mutex<Used>,
    /// Number of claims so far.
    claims: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Channel {
    publisher: Option<Hold>,
    broadcast: Option<Arc<Broadcast>>,
}

impl Channel {
    fn is_unused(&self) -> bool {
        self.publisher.is_none() && self.broadcast.is_none()
    }

    /// Whether the publisher with this hold still has the right to the name.
    fn is_held_by(&self, hold: &Hold) -> bool {
        self.publisher.as_ref() == Some(hold) && !hold.revocation().is_revoked()
    }
}

impl Hub {
    /// An empty hub.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            channels: DashMap::new(),
            announced: Arc::default(),
            used: Mutex::default(),
            claims: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }))
    }

    /// Claims `name` for a publisher, whose tracks need not be known yet. The name is reserved
    /// until the claim is dropped.
    ///
    /// # Errors
    /// [`Error::Busy`]: the name has a publisher. [`Error::TooManyBroadcasts`]: the hub is full.
    /// [`Error::Closed`]: the daemon stops.
    pub fn claim(&self, name: ChannelName) -> Result<Claim, Error> {
        self.claim_since(name, None)
    }

    /// Claims `name` at `now` for a publisher that reports its activity ([`Hold::touch`]). A
    /// publisher that has been silent for [`TAKEOVER`] is revoked, and its broadcast waits for this
    /// one.
    ///
    /// # Errors
    /// As [`Hub::claim`]; [`Error::Busy`] if the name's publisher is active.
    pub fn claim_active(&self, name: ChannelName, now: Instant) -> Result<Claim, Error> {
        self.claim_since(name, Some(now))
    }

    fn claim_since(&self, name: ChannelName, since: Option<Instant>) -> Result<Claim, Error> {
        let limit = self.0.settings.max_channels;
        // Counted before the entry is locked, because the count takes the locks of all entries.
        let full = self.0.channels.len() >= limit;
        let hold = Hold::new(1 + self.0.claims.fetch_add(1, Ordering::Relaxed), since);
        let entry = self.0.channels.entry(name.clone());
        // Read under the entry's lock, so that `close` finds every claim that was made before the
        // flag was set.
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match entry {
            Entry::Occupied(mut channel) => {
                let channel = channel.get_mut();
                if let Some(holder) = &channel.publisher {
                    if !holder.gives_way(since) {
                        return Err(Error::Busy { name });
                    }
                    // The revocation disconnects the former publisher. Its frames are refused at
                    // once, because the broadcast forgets its number when it leaves.
                    holder.revoke(Cause::TakenOver);
                    if let Some(broadcast) = &channel.broadcast {
                        broadcast.leave(holder.serial(), since);
                    }
                }
                channel.publisher = Some(hold.clone());
            }
            Entry::Vacant(_) if full => return Err(Error::TooManyBroadcasts { limit }),
            Entry::Vacant(vacant) => {
                vacant.insert(Channel { publisher: Some(hold.clone()), broadcast: None });
            }
        }
        let settings = Arc::default();
        Ok(Claim { hub: self.clone(), name, hold, settings })
    }

    /// The broadcast under `name`, live or waiting for its publisher.
    pub fn broadcast(&self, name: &ChannelName) -> Option<Arc<Broadcast>> {
        self.0.channels.get(name)?.broadcast.clone()
    }

    /// All broadcasts, in the order they started.
    pub fn broadcasts(&self) -> Vec<Arc<Broadcast>> {
        self.0.announced.live()
    }

    /// Ends the broadcast under `name` and revokes its publisher. Returns whether there was one.
    pub fn kick(&self, name: &ChannelName) -> bool {
        let Some(channel) = self.0.channels.get(name) else {
            return false;
        };
        if let Some(publisher) = &channel.publisher {
            publisher.revoke(Cause::Operator);
        }
        // The entry is released first, because the end of the broadcast locks it again.
        let broadcast = channel.broadcast.clone();
        drop(channel);
        if let Some(broadcast) = broadcast {
            self.end(&broadcast);
        }
        true
    }

    /// Ends `broadcast`, which cannot continue, and revokes its publisher. `words` name the reason
    /// and the remedy for the streamer.
    pub fn fail(&self, broadcast: &Arc<Broadcast>, words: String) {
        if let Some(channel) = self.0.channels.get(broadcast.name())
            // The name may belong to another broadcast meanwhile, which continues.
            && channel.broadcast.as_ref().is_some_and(|held| Arc::ptr_eq(held, broadcast))
            && let Some(publisher) = &channel.publisher
        {
            publisher.revoke(Cause::Failed(words));
        }
        self.end(broadcast);
    }

    /// Applies the passage of time to all broadcasts: gaps while no frames arrive, and the end of
    /// those whose publisher stays away. Call it several times a second.
    pub fn advance(&self, now: Instant) {
        for broadcast in self.broadcasts() {
            let reconnect = broadcast.settings().reconnect.unwrap_or(self.0.settings.reconnect);
            let Some(away) = broadcast.advance(now).filter(|away| *away >= reconnect) else {
                continue;
            };
            // A publisher that is back may still wait for its first key frame.
            let is_over = away >= SETTLING * reconnect || !self.is_claimed(broadcast.name());
            if is_over && broadcast.end_unless_live() {
                self.forget(&broadcast);
            }
        }
    }

    fn is_claimed(&self, name: &ChannelName) -> bool {
        let channel = self.0.channels.get(name);
        channel.is_some_and(|channel| channel.publisher.is_some())
    }

    /// Numbers above those of all broadcasts so far, for a process that takes over.
    pub fn next_numbers(&self, now: Instant) -> Numbers {
        // The live ones are read first: one that ends meanwhile is among the used numbers then.
        let live = self.broadcasts();
        let used = self.used().highest(now);
        live.iter().map(|broadcast| broadcast.next_numbers()).fold(used, Numbers::max)
    }

    /// New broadcasts begin above `numbers`, which another process has not reached at `now`. The
    /// bound grows with time as that process's numbers may.
    pub fn begin_after(&self, numbers: Numbers, now: Instant) {
        self.used().begin_after(numbers, now);
    }

    /// Ends all broadcasts and revokes all publishers. Further claims are refused.
    pub fn close(&self) {
        // The flag is set first, so that each claim is either refused or found below.
        self.0.closed.store(true, Ordering::Release);
        let names: Vec<_> = self.0.channels.iter().map(|channel| channel.key().clone()).collect();
        for name in names {
            self.kick(&name);
        }
    }

    /// The broadcasts that begin and end, first those that are live already.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.0.announced))
    }

    fn start(
        &self,
        claim: &Claim,
        tracks: Vec<(TrackName, Config)>,
        now: Instant,
        utc: SystemTime,
    ) -> Result<Arc<Broadcast>, Error> {
        let channel = self.0.channels.get_mut(&claim.name);
        // The entry is locked until the end: a kick or takeover either precedes and makes this
        // fail, or follows and finds the broadcast.
        let mut channel =
            channel.filter(|channel| channel.is_held_by(&claim.hold)).ok_or(Error::Revoked)?;
        // A broadcast that cannot continue with these tracks ends before the next one takes its
        // name.
        if let Some(waiting) = &channel.broadcast {
            if waiting.resume(claim.hold.serial(), &tracks) {
                return Ok(Arc::clone(waiting));
            }
            waiting.end();
            self.unlist(waiting);
            channel.broadcast = None;
        }
        let first = self.used().first(&claim.name, now, utc);
        let first = first.map_err(|wait| Error::TooSoon { wait_s: wait.as_secs() })?;
        let broadcast =
            Broadcast::new(claim.name.clone(), tracks, self.0.settings.broadcast, first, now, utc)?;
        let broadcast = broadcast.with_settings(Arc::clone(&claim.settings));
        broadcast.adopt(claim.hold.serial());
        let broadcast = Arc::new(broadcast);
        channel.broadcast = Some(Arc::clone(&broadcast));
        self.0.announced.insert(&broadcast);
        drop(channel);
        self.0.announced.wake();
        Ok(broadcast)
    }

    fn end(&self, broadcast: &Arc<Broadcast>) {
        broadcast.end();
        self.forget(broadcast);
    }

    fn unlist(&self, broadcast: &Arc<Broadcast>) {
        let next = broadcast.next_numbers();
        self.used().remember(broadcast.name(), next);
        self.0.announced.remove(broadcast);
        self.0.announced.wake();
    }

    fn forget(&self, broadcast: &Arc<Broadcast>) {
        self.unlist(broadcast);
        if let Entry::Occupied(mut channel) = self.0.channels.entry(broadcast.name().clone()) {
            // The name may belong to another broadcast by now, which stays.
            if channel.get().broadcast.as_ref().is_some_and(|held| Arc::ptr_eq(held, broadcast)) {
                channel.get_mut().broadcast = None;
            }
            if channel.get().is_unused() {
                channel.remove();
            }
        }
    }

    fn release(&self, claim: &Claim) {
        if let Entry::Occupied(mut channel) = self.0.channels.entry(claim.name.clone()) {
            // A publisher that has taken over holds the name now, and keeps it.
            channel.get_mut().publisher.take_if(|holder| *holder == claim.hold);
            if channel.get().is_unused() {
                channel.remove();
            }
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to publish under a name. Dropping it releases the name.
#[derive(Debug)]
pub struct Claim {
    hub: Hub,
    name: ChannelName,
    hold: Hold,
    settings: Arc<ChannelSettings>,
}

impl Claim {
    /// The same for a broadcast with these settings. One that waits for its publisher keeps its
    /// own.
    #[must_use]
    pub fn with_settings(mut self, settings: ChannelSettings) -> Self {
        self.settings = settings.into();
        self
    }

    /// The name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// The publisher's hold on the name.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Reports the revocation of the right.
    pub fn revoked(&self) -> Revocation {
        self.hold.revocation().clone()
    }

    /// Starts publishing: continues the broadcast that waits under the name, unless a track has
    /// changed to another codec family; then it ends that one and begins a new one. `now` is the
    /// arrival of the first frame, `utc` the wall clock at that time.
    ///
    /// # Errors
    /// [`Error::BadCatalogue`], [`Error::TooSoon`], or [`Error::Revoked`] if the claim was revoked;
    /// the claim is released.
    pub fn start(
        self,
        tracks: Vec<(TrackName, Config)>,
        now: Instant,
        utc: SystemTime,
    ) -> Result<Producer, Error> {
        let broadcast = self.hub.start(&self, tracks, now, utc)?;
        Ok(Producer { broadcast, publisher: self.hold.serial(), claim: Some(self) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.hub.release(self);
    }
}

/// Publishes a broadcast. Dropping it means that the publisher has left: the broadcast waits for
/// its return.
#[derive(Debug)]
pub struct Producer {
    broadcast: Arc<Broadcast>,
    /// The number by which the broadcast knows this publisher.
    publisher: u64,
    /// Present until [`Producer::end`] takes it.
    claim: Option<Claim>,
}

impl Producer {
    /// The broadcast.
    pub fn broadcast(&self) -> &Arc<Broadcast> {
        &self.broadcast
    }

    /// Reports the revocation of the right.
    pub fn revoked(&self) -> Option<Revocation> {
        self.claim.as_ref().map(Claim::revoked)
    }

    /// The index of the source's track of this name.
    pub fn track(&self, name: &TrackName) -> Option<TrackIndex> {
        self.broadcast.source_track(name)
    }

    /// Adds a late track. Returns its index. Video that is added to audio decides where segments
    /// start from its first key frame on; frames before that are refused.
    ///
    /// # Errors
    /// [`Error::BadCatalogue`]: the track exists, or there are too many. [`Error::Revoked`]:
    /// another publisher has taken over.
    pub fn add(&self, name: TrackName, config: Config) -> Result<TrackIndex, Error> {
        self.broadcast.add(self.publisher, name, config)
    }

    /// Publishes an access unit of the track with this index. Never waits.
    ///
    /// # Errors
    /// The reason of the refusal; the broadcast continues, unless it has [ended](Refused::Ended).
    /// After [`Refused::Superseded`] no frame of this publisher is accepted.
    pub fn push(&self, track: TrackIndex, unit: AccessUnit) -> Result<Pushed, Refused> {
        self.broadcast.push(self.publisher, track, unit)
    }

    /// The publisher began with a burst of media, and sends in real time since then: its next media
    /// are refused as [`Refused::AfterOutage`] until a key frame is near the wall clock.
    pub fn drop_lead(&self, now: Instant) {
        self.broadcast.drop_lead(self.publisher, now);
    }

    /// Declares the configuration of the track's next frames. An equal one changes nothing; another
    /// one starts a segment with a discontinuity at the next key frame.
    ///
    /// # Errors
    /// [`Error::CodecChanged`]: another codec family. [`Producer::end`] this broadcast and start
    /// another. [`Error::ChangesTooOften`]: the broadcast is ended, and the publisher's claim is
    /// revoked.
    pub fn configure(&self, track: TrackIndex, config: &Config) -> Result<(), Error> {
        // The hub ends a broadcast that changes too often, so that its publisher gets the reason
        // with the revocation.
        let configured = self.broadcast.configure(self.publisher, track, config);
        if let (Err(err @ Error::ChangesTooOften { .. }), Some(claim)) = (&configured, &self.claim)
        {
            claim.hub.fail(&self.broadcast, err.to_string());
        }
        configured
    }

    /// The publisher left at `now`, and may return.
    pub fn leave(self, now: Instant) {
        self.broadcast.leave(self.publisher, Some(now));
    }

    /// Ends the broadcast, unless another publisher continues it. Returns the claim for another
    /// broadcast under the name.
    pub fn end(mut self) -> Option<Claim> {
        let claim = self.claim.take();
        if let Some(claim) = &claim
            && self.broadcast.end_by(self.publisher)
        {
            claim.hub.forget(&self.broadcast);
        }
        claim
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.broadcast.leave(self.publisher, None);
    }
}

#[cfg(test)]
mod tests;
