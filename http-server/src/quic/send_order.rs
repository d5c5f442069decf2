//! Decides which response writes next when a connection has more to send than quinn accepts at once
//! (RFC 9218 10). quinn sends its buffered data by priority. The data that it has no room for wait
//! here, so that room that becomes free goes to the most urgent response and to no other.
//!
//! quinn does not report whether its window is full or only the peer's window for one stream. In
//! the first case less urgent responses must wait; in the second they must not, or one stream that
//! is not read would stop all others. So the send window is enlarged a little for a moment to find
//! out.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::priority::Rank;

/// Bytes by which the send window is enlarged to find out why nothing can be written, once each
/// time that it is full.
pub(super) const PROBE: u64 = 1_024;

/// The order of responses on one connection; lower goes first, equal ones share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order(u64);

impl Order {
    /// The order of the response on stream `id`. Responses that are not incremental keep the order
    /// of their requests (RFC 9218 10).
    pub(super) fn new(rank: Rank, id: u64) -> Self {
        let nth = if rank.incremental { 0 } else { 1 + id / 4 };
        Self(u64::from(rank.level) << 32 | nth.min(u32::MAX.into()))
    }

    /// quinn's priority: higher goes first, and the default is 0.
    pub(super) fn priority(self) -> i32 {
        let (level, nth) = (self.0 >> 32, self.0 & u64::from(u32::MAX));
        // Levels are below 64; 2^24 requests of one level are distinguished.
        i32::try_from(nth.min((1 << 24) - 1) | level << 24).map_or(i32::MIN, |order| -order)
    }
}

/// The responses that wait to write on one connection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The responses that could not write.
    waiting: Mutex<Vec<Waiting>>,
    /// The number of waiting responses: mostly none.
    count: AtomicUsize,
    /// The number of responses being written.
    writing: AtomicUsize,
}

/// A response that could not write, and the reason.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    order: Order,
    state: State,
    waker: Waker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// quinn's window is full: less urgent responses must not take the room that becomes free.
    Full,
    /// The peer's window for this stream is full.
    Unwanted,
    /// A more urgent response goes first.
    KeptBack,
}

/// The membership of one response; dropping it leaves.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    ticket: u64,
    order: Order,
    listed: bool,
    /// The reason why quinn accepts nothing has been found out since it last accepted something.
    probed: bool,
}

impl Turns {
    /// Adds the response on stream `ticket`.
    pub(super) fn turn(&self, ticket: u64, order: Order) -> Turn<'_> {
        if self.writing.fetch_add(1, Ordering::Relaxed) == 1 {
            // A response that was alone until now must find out whether it blocks the others.
            for waiting in self.waiting().iter() {
                waiting.waker.wake_by_ref();
            }
        }
        Turn { turns: self, ticket, order, listed: false, probed: false }
    }

    /// The lock is held for a scan or an update of the list, never while bytes are written.
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the responses that wait for more urgent ones. Each checks again whether it may write.
    fn wake_kept_back(waiting: &[Waiting]) {
        for waiting in waiting.iter().filter(|waiting| waiting.state == State::KeptBack) {
            waiting.waker.wake_by_ref();
        }
    }
}

impl Turn<'_> {
    /// Calls `write` when it is this response's turn. `open` enlarges the send window by [`PROBE`],
    /// or restores it.
    ///
    /// Pending: the task is woken by quinn when there is room, or by a more urgent response that
    /// leaves.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>) -> Poll<T>,
        open: impl Fn(bool),
    ) -> Poll<T> {
        // The counter spares the lock in the usual case that nobody waits.
        if self.turns.count.load(Ordering::Relaxed) > 0 && self.must_wait() {
            self.list(State::KeptBack, cx);
            return Poll::Pending;
        }
        if let Poll::Ready(written) = write(cx) {
            self.probed = false;
            return Poll::Ready(written);
        }
        // A response that is alone blocks nobody, so that the reason does not matter.
        if self.probed || self.turns.writing.load(Ordering::Relaxed) == 1 {
            self.list(State::Full, cx);
            return Poll::Pending;
        }
        self.probed = true;
        open(true);
        let probe = write(cx);
        open(false);
        // With the larger window quinn accepts data unless the stream's own window is full.
        let state = if probe.is_ready() { State::Full } else { State::Unwanted };
        self.list(state, cx);
        probe
    }

    /// Removes the response from those that wait, because it has no bytes to write for now.
    pub(super) fn leave(&mut self) {
        self.probed = false;
        if !std::mem::take(&mut self.listed) {
            return;
        }
        let mut waiting = self.turns.waiting();
        waiting.retain(|waiting| waiting.ticket != self.ticket);
        self.turns.count.store(waiting.len(), Ordering::Relaxed);
        Turns::wake_kept_back(&waiting);
    }

    /// Whether a more urgent response waits for the room that becomes free.
    fn must_wait(&self) -> bool {
        let waiting = self.turns.waiting();
        waiting.iter().any(|other| other.order < self.order && other.state == State::Full)
    }

    /// Adds the response to those that wait, or updates its state and waker.
    fn list(&mut self, state: State, cx: &Context<'_>) {
        let mut waiting = self.turns.waiting();
        // A response that is polled again keeps its entry, so that the list has one for each
        // response at most.
        match waiting.iter_mut().find(|waiting| waiting.ticket == self.ticket) {
            Some(known) => {
                known.state = state;
                known.waker.clone_from(cx.waker());
            }
            None => waiting.push(Waiting {
                ticket: self.ticket,
                order: self.order,
                state,
                waker: cx.waker().clone(),
            }),
        }
        self.listed = true;
        self.turns.count.store(waiting.len(), Ordering::Relaxed);
        // This response does not need the room that becomes free, so less urgent ones may take it.
        if state == State::Unwanted {
            Turns::wake_kept_back(&waiting);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.leave();
        self.turns.writing.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc, task::Wake};

    use super::*;

    const URGENT: Order = Order(1);
    const LATER: Order = Order(2);

    /// The room in quinn's window and in one stream's window, in bytes.
    struct Room {
        window: Cell<u64>,
        stream: Cell<u64>,
    }

    impl Room {
        fn of(window: u64, stream: u64) -> Self {
            Self { window: Cell::new(window), stream: Cell::new(stream) }
        }

        fn write(&self) -> Poll<u64> {
            match self.window.get().min(self.stream.get()) {
                0 => Poll::Pending,
                room => {
                    self.window.set(self.window.get() - room);
                    self.stream.set(self.stream.get() - room);
                    Poll::Ready(room)
                }
            }
        }

        fn open(&self, open: bool) {
            self.window.set(if open { self.window.get() + PROBE } else { 0 });
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(turn: &mut Turn<'_>, room: &Room, waker: &Arc<Woken>) -> Poll<u64> {
        let waker = Arc::clone(waker).into();
        turn.poll(&mut Context::from_waker(&waker), |_| room.write(), |open| room.open(open))
    }

    #[test]
    fn send_capacity_goes_to_the_most_urgent_stream() {
        let (turns, woken, room) = (Turns::default(), Arc::default(), Room::of(0, 1 << 20));
        let (mut urgent, mut later) = (turns.turn(0, URGENT), turns.turn(4, LATER));
        assert_eq!(poll(&mut urgent, &room, &woken), Poll::Ready(PROBE));
        assert_eq!(poll(&mut urgent, &room, &woken), Poll::Pending);
        room.window.set(500);
        assert_eq!(poll(&mut later, &room, &woken), Poll::Pending);
        assert_eq!(poll(&mut urgent, &room, &woken), Poll::Ready(500));
        room.window.set(500);
        urgent.leave();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(&mut later, &room, &woken), Poll::Ready(500));
    }

    #[test]
    fn a_stream_without_stream_credit_does_not_block_less_urgent_streams() {
        let (turns, woken) = (Turns::default(), Arc::default());
        let (mut urgent, mut later) = (turns.turn(0, URGENT), turns.turn(4, LATER));
        assert_eq!(poll(&mut urgent, &Room::of(500, 0), &woken), Poll::Pending);
        assert_eq!(poll(&mut later, &Room::of(500, 500), &woken), Poll::Ready(500));
    }

    #[test]
    fn a_blocked_stream_is_woken_when_the_most_urgent_one_has_no_stream_credit() {
        let (turns, woken, room) = (Turns::default(), Arc::default(), Room::of(0, PROBE));
        let (mut urgent, mut later) = (turns.turn(0, URGENT), turns.turn(4, LATER));
        assert!(poll(&mut urgent, &room, &woken).is_ready());
        assert_eq!(poll(&mut later, &Room::of(500, 500), &woken), Poll::Pending);
        // There is room again, but not in the stream's window.
        room.stream.set(10);
        room.window.set(10);
        assert_eq!(poll(&mut urgent, &room, &woken), Poll::Ready(10));
        assert_eq!(poll(&mut urgent, &room, &woken), Poll::Pending);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(&mut later, &Room::of(500, 500), &woken), Poll::Ready(500));
    }

    #[test]
    fn only_one_probe_is_written_while_the_window_is_closed() {
        let (turns, woken, room) = (Turns::default(), Arc::default(), Room::of(0, 1 << 20));
        let (mut turn, other) = (turns.turn(0, URGENT), turns.turn(4, LATER));
        let written = (0..100).filter(|_| poll(&mut turn, &room, &woken).is_ready()).count();
        assert_eq!(written, 1);
        drop((turn, other));
        assert!(turns.waiting().is_empty());
    }

    #[test]
    fn a_single_waiting_stream_is_woken_when_another_begins() {
        let (turns, woken) = (Turns::default(), Arc::default());
        let mut first = turns.turn(0, URGENT);
        assert_eq!(poll(&mut first, &Room::of(500, 0), &woken), Poll::Pending);
        let mut second = turns.turn(4, LATER);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(&mut second, &Room::of(500, 500), &woken), Poll::Pending);
        assert_eq!(poll(&mut first, &Room::of(500, 0), &woken), Poll::Pending);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!(poll(&mut second, &Room::of(500, 500), &woken), Poll::Ready(500));
    }

    #[test]
    fn streams_are_ordered_by_rank_and_then_by_request() {
        let rank = |level, incremental| Rank { level, incremental };
        let orders = [
            Order::new(rank(1, false), 4_000),
            Order::new(rank(2, true), 400),
            Order::new(rank(2, false), 0),
            Order::new(rank(2, false), 4),
            Order::new(rank(63, false), u64::MAX >> 2),
        ];
        assert!(orders.is_sorted_by(|a, b| a < b));
        assert!(orders.map(Order::priority).is_sorted_by(|a, b| a > b));
        assert_eq!(Order::new(rank(2, true), 400), Order::new(rank(2, true), 800));
    }
}
