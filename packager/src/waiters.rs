//! Waiters for a track. Each is woken when the snapshot has the segment or part that it waits for,
//! or at its deadline, and by nothing else. Only wakers are kept here, in one piece of memory,
//! because thousands are scanned at each part.
//!
//! A large number of waiters is not woken at once, so that each task runs while its data are still
//! in the processor's cache.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::{sync::Notify, time::Instant};

use crate::Track;

/// A condition on a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// [`Track::has`] holds.
    Listed { msn: u64, part: Option<usize> },
    /// More parts of a segment than `parts`, or its end.
    More { msn: u64, parts: usize },
}

impl Awaited {
    /// Whether `track` satisfies it.
    pub(crate) fn is_in(self, track: &Track) -> bool {
        match self {
            Self::Listed { msn, part } => track.has(msn, part),
            Self::More { msn, parts } => {
                let open = track.open.as_ref().filter(|open| open.msn == msn);
                open.is_none_or(|open| open.parts.len() > parts)
            }
        }
    }
}

/// Waiters woken at once: half of the tasks that a worker thread of tokio queues before it shares
/// them with other threads.
const AT_ONCE: usize = 128;

/// The waiters for one track. Their number is that of the requests that wait, which the origin
/// limits.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Places>);

/// Waiters that are ready and were not woken yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    woken: Mutex<VecDeque<Waker>>,
    grown: Notify,
}

impl Crowd {
    /// Wakes the first at once, and leaves the others to [`Crowd::wake_rest`].
    fn wake(&self, mut ready: Vec<Waker>) {
        let mut waiting = self.lock();
        // While others wait to be woken, these queue behind them.
        let first = match waiting.is_empty() {
            true => ready.len().min(AT_ONCE),
            false => 0,
        };
        waiting.extend(ready.drain(first..));
        let more = !waiting.is_empty();
        drop(waiting);
        ready.into_iter().for_each(Waker::wake);
        if more {
            self.grown.notify_one();
        }
    }

    /// Wakes the waiters that are left, some at a time, forever.
    pub(crate) async fn wake_rest(&self) -> Infallible {
        loop {
            self.grown.notified().await;
            loop {
                // Tasks that were woken before run first.
                tokio::task::yield_now().await;
                let mut waiting = self.lock();
                let some = waiting.len().min(AT_ONCE);
                let some: Vec<Waker> = waiting.drain(..some).collect();
                drop(waiting);
                if some.is_empty() {
                    break;
                }
                some.into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Wakes all that are left at once, because [`Crowd::wake_rest`] is not polled any more.
    pub(crate) fn wake_now(&self) {
        self.lock().drain(..).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waker>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Places {
    places: Vec<Place>,
    free: Vec<usize>,
    taken: u64,
    /// See [`Waiters::first_until`].
    first_until: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    serial: u64,
    waiter: Option<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    awaited: Awaited,
    until: Option<Instant>,
    waker: Waker,
}

/// Refers to a waiter until it is woken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    place: usize,
    serial: u64,
}

impl Waiters {
    /// Adds a waiter. The caller then checks the condition once more: a snapshot that was published
    /// before does not wake it.
    pub(crate) fn join(&self, awaited: Awaited, until: Option<Instant>, waker: Waker) -> Ticket {
        let mut places = self.lock();
        places.taken += 1;
        places.first_until = [places.first_until, until].into_iter().flatten().min();
        let serial = places.taken;
        // The serial number distinguishes the ticket from that of the place's previous waiter.
        let taken = Place { serial, waiter: Some(Waiter { awaited, until, waker }) };
        // Places are used again, so that the list that is scanned at each part stays short.
        let place = match places.free.pop() {
            Some(place) => {
                places.places[place] = taken;
                place
            }
            None => {
                places.places.push(taken);
                places.places.len() - 1
            }
        };
        Ticket { place, serial }
    }

    /// Replaces the waker. Returns `false` if the wait is over, so that no waker will be woken.
    pub(crate) fn renew(&self, ticket: Ticket, waker: &Waker) -> bool {
        let mut places = self.lock();
        let waiter = places.of(ticket).and_then(|place| place.waiter.as_mut());
        waiter.map(|waiter| waiter.waker.clone_from(waker)).is_some()
    }

    /// Removes a waiter, unless it has been woken.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut places = self.lock();
        if places.of(ticket).and_then(|place| place.waiter.take()).is_some() {
            places.release(ticket.place);
        }
    }

    /// Wakes the waiters whose condition `track` satisfies, and those whose deadline has passed at
    /// `now`.
    pub(crate) fn wake(&self, track: &Track, now: Instant, crowd: &Crowd) {
        self.wake_where(crowd, |waiter| waiter.awaited.is_in(track) || waiter.is_late(now));
    }

    /// A time that no waiter's deadline precedes; `None` if no waiter has a deadline.
    pub(crate) fn first_until(&self) -> Option<Instant> {
        self.lock().first_until
    }

    /// Wakes the waiters whose deadline has passed at `now`.
    pub(crate) fn wake_late(&self, now: Instant, crowd: &Crowd) {
        // Without a deadline that has passed the scan would wake no waiter.
        if self.first_until().is_some_and(|first| first <= now) {
            self.wake_where(crowd, |waiter| waiter.is_late(now));
        }
    }

    /// Wakes all waiters.
    pub(crate) fn wake_all(&self, crowd: &Crowd) {
        self.wake_where(crowd, |_| true);
    }

    fn wake_where(&self, crowd: &Crowd, ready: impl Fn(&Waiter) -> bool) {
        let woken = self.lock().take_where(ready);
        // Without the lock, because the woken tasks take it.
        crowd.wake(woken);
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn of(&mut self, ticket: Ticket) -> Option<&mut Place> {
        let place = self.places.get_mut(ticket.place);
        // The place may belong to a later waiter, which has another serial number.
        place.filter(|place| place.serial == ticket.serial)
    }

    fn take_where(&mut self, ready: impl Fn(&Waiter) -> bool) -> Vec<Waker> {
        let mut woken = Vec::new();
        let mut first_until = None;
        for (index, place) in self.places.iter_mut().enumerate() {
            // One scan wakes the waiters, collects the free places and finds the next deadline.
            match place.waiter.take_if(|waiter| ready(waiter)) {
                Some(waiter) => {
                    woken.push(waiter.waker);
                    self.free.push(index);
                }
                None => {
                    let until = place.waiter.as_ref().and_then(|waiter| waiter.until);
                    first_until = [first_until, until].into_iter().flatten().min();
                }
            }
        }
        self.first_until = first_until;
        self.give_up();
        woken
    }

    fn release(&mut self, place: usize) {
        self.free.push(place);
        // No waiter is left, so no valid ticket refers to a place.
        if self.free.len() == self.places.len() {
            self.places.clear();
            self.free.clear();
        }
    }

    /// Removes the free places at the end, so that they are not scanned again. Their memory stays,
    /// because about as many waiters return for the next part.
    fn give_up(&mut self) {
        let taken = self.places.iter().rposition(|place| place.waiter.is_some());
        let kept = taken.map_or(0, |last| last + 1);
        if kept < self.places.len() {
            self.places.truncate(kept);
            self.free.retain(|&place| place < kept);
        }
    }
}

impl Waiter {
    fn is_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
        time::Duration,
    };

    use super::*;
    use crate::renderer::example::{Cut, Example, FIRST};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn seen(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// One complete segment and an open one of so many parts.
    fn with_parts(parts: usize) -> Example {
        let mut example = Example::of(&["v0"]);
        example.push(Cut::Media, 180_000);
        example.open_with(Cut::Media, 180_000, parts);
        example
    }

    fn part(part: usize) -> Awaited {
        Awaited::Listed { msn: FIRST + 1, part: Some(part) }
    }

    #[test]
    fn each_waiter_is_woken_once_when_its_part_exists() {
        let (waiters, now) = (Waiters::default(), Instant::now());
        let counts: Vec<Arc<Count>> = (0..4).map(|_| Arc::default()).collect();
        for (index, count) in counts.iter().enumerate() {
            waiters.join(part(index), None, Arc::clone(count).into());
        }
        let seen = || -> Vec<usize> { counts.iter().map(|count| count.seen()).collect() };
        waiters.wake(with_parts(2).track(0), now, &Crowd::default());
        assert_eq!(seen(), [1, 1, 0, 0]);
        waiters.wake(with_parts(3).track(0), now, &Crowd::default());
        assert_eq!(seen(), [1, 1, 1, 0]);
        waiters.wake_all(&Crowd::default());
        waiters.wake_all(&Crowd::default());
        assert_eq!(seen(), [1, 1, 1, 1]);
    }

    #[test]
    fn a_stale_ticket_does_not_affect_the_waiter_that_reuses_its_slot() {
        let (waiters, now) = (Waiters::default(), Instant::now());
        let [first, second, third]: [Arc<Count>; 3] = Default::default();
        let gone = waiters.join(part(0), None, Arc::clone(&first).into());
        let _other = waiters.join(part(9), None, Arc::<Count>::default().into());
        waiters.leave(gone);
        let ticket = waiters.join(part(0), None, Arc::clone(&second).into());
        waiters.leave(gone);
        assert!(!waiters.renew(gone, &Arc::clone(&first).into()));
        assert!(waiters.renew(ticket, &Arc::clone(&third).into()));
        waiters.wake(with_parts(1).track(0), now, &Crowd::default());
        assert!(!waiters.renew(ticket, &Arc::clone(&second).into()), "it must join again");
        assert_eq!([first.seen(), second.seen(), third.seen()], [0, 0, 1]);
    }

    #[test]
    fn a_waiter_is_woken_at_the_first_check_after_its_deadline() {
        let (waiters, start) = (Waiters::default(), Instant::now());
        let [soon, late]: [Arc<Count>; 2] = Default::default();
        let second = Duration::from_secs(1);
        waiters.join(part(5), Some(start + second), Arc::clone(&soon).into());
        waiters.join(part(5), Some(start + 9 * second), Arc::clone(&late).into());
        waiters.wake_late(start, &Crowd::default());
        assert_eq!([soon.seen(), late.seen()], [0, 0]);
        waiters.wake_late(start + second, &Crowd::default());
        assert_eq!([soon.seen(), late.seen()], [1, 0]);
        waiters.wake(with_parts(1).track(0), start + 9 * second, &Crowd::default());
        assert_eq!([soon.seen(), late.seen()], [1, 1]);
    }

    #[tokio::test]
    async fn a_crowd_of_waiters_is_woken_in_batches_and_in_order() {
        let (waiters, crowd, now) = (Waiters::default(), Crowd::default(), Instant::now());
        let count = Arc::<Count>::default();
        let join = |of: usize| {
            for _ in 0..of {
                waiters.join(part(0), None, Arc::clone(&count).into());
            }
        };
        join(AT_ONCE);
        waiters.wake(with_parts(1).track(0), now, &crowd);
        assert_eq!(count.seen(), AT_ONCE, "few are woken at once");
        join(10 * AT_ONCE + 1);
        waiters.wake(with_parts(1).track(0), now, &crowd);
        assert_eq!(count.seen(), 2 * AT_ONCE);
        join(1);
        waiters.wake(with_parts(1).track(0), now, &crowd);
        assert_eq!(count.seen(), 2 * AT_ONCE, "nobody overtakes");
        let all = async {
            while count.seen() < 11 * AT_ONCE + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = all => {}
            never = crowd.wake_rest() => match never {},
        }
        join(AT_ONCE + 1);
        waiters.wake_all(&crowd);
        crowd.wake_now();
        assert_eq!(count.seen(), 12 * AT_ONCE + 3, "none is forgotten");
    }

    #[test]
    fn slots_of_waiters_are_reused() {
        let waiters = Waiters::default();
        let _one = waiters.join(part(9), None, Arc::<Count>::default().into());
        for _ in 0..1_000 {
            let ticket = waiters.join(part(0), None, Arc::<Count>::default().into());
            waiters.leave(ticket);
        }
        assert_eq!(waiters.lock().places.len(), 2);
        for _ in 0..1_000 {
            waiters.join(part(0), None, Arc::<Count>::default().into());
        }
        waiters.wake(with_parts(1).track(0), Instant::now(), &Crowd::default());
        assert_eq!(waiters.lock().places.len(), 1, "a crowd that has gone");
        assert!(waiters.lock().free.is_empty());
    }
}
