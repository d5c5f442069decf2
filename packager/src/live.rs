//! The presentation of one broadcast as it changes: the newest snapshot, requests that wait for the
//! next, and requests that follow a segment. `cursor`: readers of all complete segments.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use media_core::{Broadcast, BroadcastId, ChannelName, TrackIndex, broadcast::MAX_TRACKS};
use net_core::Rope;
use tokio::{sync::Notify, time};

use crate::{
    Presentation, Segment,
    waiters::{Awaited, Crowd, Ticket, Waiters},
};

pub(crate) mod cursor;

/// The presentation of one broadcast as it changes. Reading it takes no lock.
#[derive(Debug)]
pub struct Live {
    broadcast: BroadcastId,
    channel: ChannelName,
    current: ArcSwapOption<Presentation>,
    /// The waiters of each track, for as many as there may be.
    waiters: [Waiters; MAX_TRACKS],
    /// Waiters that are ready and were not woken yet.
    crowd: Crowd,
    /// The newest snapshot is the last.
    ended: AtomicBool,
    /// Notified at the first snapshot, and when no snapshot follows any more.
    turned: Notify,
}

impl Live {
    /// A presentation of `broadcast` without a snapshot.
    pub(crate) fn new(broadcast: &Broadcast) -> Self {
        Self {
            broadcast: broadcast.id(),
            channel: broadcast.name().clone(),
            current: ArcSwapOption::empty(),
            waiters: Default::default(),
            crowd: Crowd::default(),
            ended: AtomicBool::new(false),
            turned: Notify::new(),
        }
    }

    /// The broadcast's identity.
    pub fn broadcast(&self) -> BroadcastId {
        self.broadcast
    }

    /// The channel under which it was published.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The newest snapshot. `None` until each track of the source has a complete segment, because
    /// nothing can be listed before.
    pub fn current(&self) -> Option<Arc<Presentation>> {
        self.current.load_full()
    }

    /// Waits for the first snapshot. Returns `None` if the broadcast ended before there was one. It
    /// has no time limit; cancel-safe.
    pub async fn first(&self) -> Option<Arc<Presentation>> {
        loop {
            let mut turned = pin!(self.turned.notified());
            turned.as_mut().enable();
            if let Some(presentation) = self.current() {
                return Some(presentation);
            }
            if self.has_ended() {
                return None;
            }
            turned.await;
        }
    }

    /// Waits until no snapshot follows. It has no time limit; cancel-safe.
    pub async fn ended(&self) {
        loop {
            let mut turned = pin!(self.turned.notified());
            turned.as_mut().enable();
            if self.has_ended() {
                return;
            }
            turned.await;
        }
    }

    /// Waits until track `track` has segment `msn`, or its part `part` if that is given, or the
    /// broadcast has ended; for `limit` at the most, which is a second or more. See [`Changed`].
    pub fn changed(
        self: &Arc<Self>,
        track: TrackIndex,
        msn: u64,
        part: Option<usize>,
        limit: Duration,
    ) -> Changed {
        let until = time::Instant::now() + limit;
        Changed {
            live: Arc::clone(self),
            track,
            awaited: Awaited::Listed { msn, part },
            until: Some(until),
            ticket: None,
        }
    }

    /// Follows segment `msn` of a track from its first part, whether it is open or complete.
    pub fn follow(self: &Arc<Self>, track: TrackIndex, msn: u64) -> Follow {
        Follow { live: Arc::clone(self), track, msn, next: 0, waiting: None }
    }

    /// Swaps in a snapshot, and wakes the waiters for the tracks whose indices are `changed`.
    /// Returns whether it is the first.
    pub(crate) fn publish(&self, presentation: Presentation, changed: &[TrackIndex]) -> bool {
        if let Some(before) = self.current() {
            presentation.rendered.keep_sites(&before.rendered, Instant::now());
        }
        let first = self.current.swap(Some(Arc::new(presentation))).is_none();
        // Later snapshots wake only the waiters of the tracks that have changed.
        if first {
            self.turned.notify_waiters();
        }
        if let Some(current) = self.current() {
            let now = time::Instant::now();
            for &index in changed {
                if let (Some(waiters), Some(track)) =
                    (self.waiters.get(index.get()), current.tracks.get(index.get()))
                {
                    // Nothing follows the last snapshot, so every wait is over.
                    match current.ended {
                        true => waiters.wake_all(&self.crowd),
                        false => waiters.wake(track, now, &self.crowd),
                    }
                }
            }
        }
        first
    }

    /// The first deadline of all waiters.
    pub(crate) fn first_until(&self) -> Option<Instant> {
        let waited_for = self.waited_for().filter_map(Waiters::first_until);
        waited_for.min().map(time::Instant::into_std)
    }

    /// Wakes the waiters whose deadline has passed.
    pub(crate) fn look(&self) {
        let now = time::Instant::now();
        self.waited_for().for_each(|waiters| waiters.wake_late(now, &self.crowd));
    }

    /// The waiters of the existing tracks.
    fn waited_for(&self) -> impl Iterator<Item = &Waiters> {
        let tracks = self.current.load().as_ref().map_or(0, |current| current.tracks.len());
        self.waiters.iter().take(tracks)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Wakes the waiters that are ready and were not woken at once, some at a time, forever.
    pub(crate) async fn wake_rest(&self) -> Infallible {
        self.crowd.wake_rest().await
    }

    /// Wakes all waiters that are ready, at once.
    pub(crate) fn wake_now(&self) {
        self.crowd.wake_now();
    }

    /// No snapshot follows: wakes all waiters.
    pub(crate) fn close(&self) {
        self.ended.store(true, Ordering::Release);
        self.turned.notify_waiters();
        self.waiters.iter().for_each(|waiters| waiters.wake_all(&self.crowd));
    }
}

/// A wait for a segment or a part of a track. Resolves to the first snapshot that has it, or to the
/// last one; to `None` if the limit passed first, if the broadcast ended before there was a
/// snapshot, or if there is no such track. Dropping it ends the wait.
#[derive(Debug)]
pub struct Changed {
    live: Arc<Live>,
    track: TrackIndex,
    awaited: Awaited,
    until: Option<time::Instant>,
    ticket: Option<Ticket>,
}

impl Changed {
    /// The result, if it is known already.
    fn look(&self) -> Option<Option<Arc<Presentation>>> {
        // Read before the snapshot, which is then the last.
        let ended = self.live.has_ended();
        let Some(current) = self.live.current() else {
            return Some(None);
        };
        match current.tracks.get(self.track.get()) {
            _ if ended || current.ended => Some(Some(current)),
            None => Some(None),
            Some(track) => self.awaited.is_in(track).then(|| Some(Arc::clone(&current))),
        }
    }

    fn leave(&mut self) {
        if let (Some(ticket), Some(waiters)) =
            (self.ticket.take(), self.live.waiters.get(self.track.get()))
        {
            waiters.leave(ticket);
        }
    }
}

impl Future for Changed {
    type Output = Option<Arc<Presentation>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(result) = this.look() {
            this.leave();
            return Poll::Ready(result);
        }
        // The broadcast's task wakes a waiter whose deadline has passed, without a snapshot for it.
        if this.until.is_some_and(|until| until <= time::Instant::now()) {
            this.leave();
            return Poll::Ready(None);
        }
        let Some(waiters) = this.live.waiters.get(this.track.get()) else {
            return Poll::Ready(None);
        };
        // It waits already. The waker may differ from the last one, if another task polls.
        if this.ticket.is_some_and(|ticket| waiters.renew(ticket, cx.waker())) {
            return Poll::Pending;
        }
        this.ticket = Some(waiters.join(this.awaited, this.until, cx.waker().clone()));
        // A snapshot that was published before it joined does not wake it.
        let Some(result) = this.look() else {
            return Poll::Pending;
        };
        this.leave();
        Poll::Ready(result)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The segment that was followed is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rest of the segment is not held any more")]
pub struct Gone;

/// Reads the parts of one segment as they are made.
#[derive(Debug)]
pub struct Follow {
    live: Arc<Live>,
    track: TrackIndex,
    msn: u64,
    next: usize,
    waiting: Option<Changed>,
}

impl Follow {
    /// The bytes of the parts that were made since the last call, in one rope; `None` when the
    /// segment is complete.
    ///
    /// # Errors
    /// [`Gone`]: the reader was so slow that the rest is not held any more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rope, Gone>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(Pin::new(waiting).poll(cx));
                self.waiting = None;
            }
            // Read before the snapshot, which is then the last.
            let ended = self.live.has_ended();
            let Some(presentation) = self.live.current() else {
                return Poll::Ready(None);
            };
            let Some(track) = presentation.tracks.get(self.track.get()) else {
                return Poll::Ready(None);
            };
            let Some(segment) = track.segment(self.msn) else {
                return Poll::Ready(Some(Err(Gone)));
            };
            if let Some(bytes) = self.take(segment) {
                return Poll::Ready(Some(Ok(bytes)));
            }
            // All parts are taken. More follow only in an open segment.
            let open = track.open.as_ref().is_some_and(|open| open.msn == self.msn);
            if !open || ended || presentation.ended {
                return Poll::Ready(None);
            }
            self.waiting = Some(Changed {
                live: Arc::clone(&self.live),
                track: self.track,
                awaited: Awaited::More { msn: self.msn, parts: self.next },
                until: None,
                ticket: None,
            });
        }
    }

    fn take(&mut self, segment: &Segment) -> Option<Rope> {
        let parts = segment.parts.get(self.next..)?;
        self.next = segment.parts.len();
        match parts {
            // The rest of an interrupted segment has no bytes.
            parts if parts.iter().all(|part| part.gap) => None,
            [part] => Some(part.bytes.clone()),
            parts => Some(Rope::concat(parts.iter().map(|part| &part.bytes))),
        }
    }
}

#[cfg(test)]
mod tests;
