//! Takes turns among the bodies of an HTTP/2 connection. hyper and h2 have no priorities, so a body
//! hands over a bounded number of bytes at a time, and only when no more urgent body has bytes to
//! send.
//!
//! RFC 9218 10: bodies that are not incremental are sent one after the other, in the order of
//! requests; incremental ones take turns. A body without a flow-control window, or without bytes
//! for now, does not block the others: when the connection has sent all that it can and waits, a
//! body that has not asked for a turn is passed over until it asks again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use crate::{delivery::Delivery, priority::Rank};

/// Bytes of one turn. While bodies of one urgency have this many bytes in the protocol's buffers,
/// no other body gets a turn.
const RUN: usize = 128 << 10;
/// Bytes of one turn of a body that overtakes a more urgent one without a window. It is small,
/// because the window of the whole connection may be what is exhausted, and then this run is sent
/// before the more urgent body.
const OVERTAKING: usize = 16 << 10;
/// Bodies that fit one frame (RFC 9113 4.2) are not scheduled: they are sent before a schedule
/// would matter.
pub(crate) const FRAME: u64 = 16 << 10;

/// The bodies of one connection that are larger than a frame.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: Mutex<Queue>,
}

/// The bodies in the order of their requests, and the number of the last one or of its last turn.
#[derive(Debug, Default)]
struct Queue {
    bodies: Vec<Entry>,
    serial: u64,
}

/// One body of the schedule.
#[derive(Debug)]
struct Entry {
    id: u64,
    key: Key,
    /// Its progress; gone when the body and its frames are dropped.
    delivery: Weak<Delivery>,
    /// The body has, or may have, more bytes to hand over.
    more: bool,
    state: State,
}

/// The order of turns; lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    level: u8,
    incremental: bool,
    /// The order of requests; for an incremental body, the order of its last turn.
    serial: u64,
}

/// The state of a body between its turns.
#[derive(Debug)]
enum State {
    /// Handed over the bytes of its turn, or waits for something other than a turn.
    Away,
    /// Waits for its turn.
    Wants(Waker),
    /// Woken for its turn this many rounds ago.
    Called(u8),
}

/// A body's membership in a schedule, until it has handed over all bytes.
#[derive(Debug)]
pub(crate) struct Turn {
    schedule: Arc<Schedule>,
    id: u64,
}

impl Schedule {
    /// Adds a body to the schedule by its rank. It stays listed until its last frame is sent, even
    /// after the returned [`Turn`] is dropped: its bytes in the protocol's buffers still count.
    pub(crate) fn join(self: &Arc<Self>, rank: Rank, delivery: &Arc<Delivery>) -> Turn {
        let mut queue = self.lock();
        queue.serial += 1;
        let id = queue.serial;
        queue.bodies.push(Entry {
            id,
            key: Key { level: rank.level, incremental: rank.incremental, serial: id },
            delivery: Arc::downgrade(delivery),
            more: true,
            state: State::Away,
        });
        Turn { schedule: Arc::clone(self), id }
    }

    /// Ends a round: the connection has done all that it can for now. `all_sent`: the socket
    /// accepted all bytes, so that bytes still in the protocol's buffers wait for the peer's
    /// flow-control window.
    pub(crate) fn round(&self, all_sent: bool) {
        let mut queue = self.lock();
        if queue.bodies.is_empty() {
            return;
        }
        queue.bodies.retain(|body| body.delivery.strong_count() > 0);
        // If the socket has not accepted everything, the connection is slow, and no body is at
        // fault.
        for body in queue.bodies.iter_mut().filter(|_| all_sent) {
            match &mut body.state {
                State::Away => body.pass_over(),
                State::Wants(_) => {}
                // A body called in this round gets one more round before it is passed over.
                State::Called(0) => body.state = State::Called(1),
                State::Called(_) => {
                    body.state = State::Away;
                    body.pass_over();
                }
            }
        }
        queue.call();
    }

    /// The lock is held for a scan of the connection's bodies, whose number is limited by
    /// `Config::max_streams`.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Ready with the number of bytes that may be handed over now. Pending otherwise: the task is
    /// woken when it is its turn.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, delivery: &Delivery) -> Poll<usize> {
        let mut queue = self.schedule.lock();
        delivery.set_passed_over(false);
        // Does not occur: an entry is removed only when its delivery is dropped, and the caller
        // holds that.
        let Some(index) = queue.bodies.iter().position(|body| body.id == self.id) else {
            return Poll::Ready(RUN);
        };
        let Some(run) = queue.run(index) else {
            delivery.set_held(true);
            queue.bodies[index].state = State::Wants(cx.waker().clone());
            return Poll::Pending;
        };
        delivery.set_held(false);
        queue.serial += 1;
        let serial = queue.serial;
        let body = &mut queue.bodies[index];
        body.state = State::Away;
        if body.key.incremental {
            body.key.serial = serial;
        }
        Poll::Ready(run)
    }

    /// Reports that the body has no bytes for now, so that the others continue.
    pub(crate) fn rest(&self, delivery: &Delivery) {
        delivery.set_passed_over(true);
        self.schedule.lock().call();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.schedule.lock();
        if let Some(body) = queue.bodies.iter_mut().find(|body| body.id == self.id) {
            body.more = false;
            body.state = State::Away;
        }
        queue.call();
    }
}

impl Entry {
    /// Lets bodies of later keys be sent before this one.
    fn pass_over(&self) {
        if let Some(delivery) = self.delivery.upgrade() {
            delivery.set_passed_over(true);
        }
    }
}

impl Queue {
    /// The number of bytes that the body may hand over now; `None` if it must wait for more urgent
    /// bodies, or until the protocol has sent bytes that it holds.
    fn run(&self, index: usize) -> Option<usize> {
        let own = self.bodies[index].key;
        let (mut in_hand, mut run) = (0, RUN);
        // Less urgent bodies never make this one wait.
        for body in self.bodies.iter().filter(|body| body.key.level <= own.level) {
            let Some(delivery) = body.delivery.upgrade() else {
                continue;
            };
            let sooner = body.more && body.key < own;
            // A body that waits for its peer's window does not block this one. If it is more urgent
            // and still has bytes, this one only gets a short run.
            if delivery.is_passed_over() {
                if sooner && !delivery.is_dry() {
                    run = OVERTAKING;
                }
                continue;
            }
            if sooner {
                return None;
            }
            // Bytes of bodies at least as urgent that the protocol still holds count against the
            // run.
            in_hand += delivery.waiting();
        }
        (in_hand < run).then_some(run)
    }

    /// Wakes the next body, if it may send. Only the first: the end of the round wakes the next
    /// one.
    fn call(&mut self) {
        let wanting = self.bodies.iter().enumerate();
        let next = wanting
            .filter(|(_, body)| matches!(body.state, State::Wants(_)))
            .min_by_key(|(_, body)| body.key)
            .map(|(index, _)| index);
        if let Some(index) = next.filter(|&index| self.run(index).is_some())
            && let State::Wants(waker) =
                std::mem::replace(&mut self.bodies[index].state, State::Called(0))
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use http_body::Body as _;

    use super::*;
    use crate::body::{Body, Data};

    const SIZE: usize = 1 << 20;

    fn rank(level: u8) -> Rank {
        Rank { level, incremental: false }
    }

    fn body(schedule: &Arc<Schedule>, rank: Rank) -> Body {
        let mut body = Body::from(Bytes::from(vec![0; SIZE]));
        body.set_rank(rank);
        body.schedule(schedule);
        body
    }

    /// The bytes that the body hands over, if it is its turn.
    fn take(body: &mut Body) -> Option<Data> {
        let mut cx = Context::from_waker(Waker::noop());
        match std::pin::Pin::new(body).poll_frame(&mut cx) {
            Poll::Ready(frame) => Some(frame.unwrap().unwrap().into_data().unwrap()),
            Poll::Pending => None,
        }
    }

    fn send(data: &mut Data) {
        data.advance(data.remaining());
    }

    #[test]
    fn a_body_is_sent_completely_in_bounded_runs() {
        let schedule = Arc::default();
        let mut body = body(&schedule, rank(3));
        let (mut total, mut in_hand) = (0, Vec::new());
        while total < SIZE {
            while let Some(data) = take(&mut body) {
                total += data.remaining();
                in_hand.push(data);
                if total == SIZE {
                    break;
                }
            }
            assert!(in_hand.iter().map(Buf::remaining).sum::<usize>() <= 2 * RUN);
            in_hand.iter_mut().for_each(send);
            in_hand.clear();
        }
        assert!(total == SIZE && body.is_end_stream());
    }

    #[test]
    fn a_more_urgent_body_is_sent_first_even_if_it_begins_later() {
        let schedule = Arc::default();
        let mut segment = body(&schedule, rank(30));
        let mut held = take(&mut segment).unwrap();
        let mut playlist = body(&schedule, rank(8));
        let mut first = take(&mut playlist).expect("it does not wait for what is less urgent");
        send(&mut held);
        assert!(take(&mut segment).is_none(), "the other has more to send");
        send(&mut first);
        while let Some(mut data) = take(&mut playlist) {
            send(&mut data);
            if playlist.is_end_stream() {
                break;
            }
        }
        assert!(take(&mut segment).is_some());
    }

    #[test]
    fn bodies_of_equal_urgency_are_sent_in_order_and_incremental_ones_alternate() {
        for (incremental, expected) in [(false, [0, 0, 0, 0]), (true, [0, 1, 0, 1])] {
            let schedule = Arc::default();
            let rank = Rank { level: 9, incremental };
            let mut bodies = [body(&schedule, rank), body(&schedule, rank)];
            let mut order = Vec::new();
            while order.len() < expected.len() {
                for (index, body) in bodies.iter_mut().enumerate() {
                    if let Some(mut data) = take(body) {
                        order.push(index);
                        send(&mut data);
                        break;
                    }
                }
            }
            assert_eq!(order, expected);
        }
    }

    #[test]
    fn a_body_without_flow_control_window_does_not_block_others() {
        let schedule = Arc::default();
        let (mut stuck, mut never) = (body(&schedule, rank(1)), body(&schedule, rank(2)));
        let mut held = take(&mut stuck).unwrap();
        let mut other = body(&schedule, rank(3));
        assert!(take(&mut other).is_none());
        schedule.round(false); // the socket is busy: what is in hand may be on its way
        assert!(take(&mut other).is_none());
        schedule.round(true);
        let mut data = take(&mut other).expect("nobody else can go on");
        assert_eq!(data.remaining(), OVERTAKING);
        send(&mut data);
        // The peer opens its window, and the order holds again:
        send(&mut held);
        assert!(take(&mut other).is_none());
        drop(held);
        assert!(take(&mut stuck).is_some());
        drop(stuck);
        assert!(take(&mut other).is_some());
        assert!(take(&mut never).is_some(), "asked for at last, it is in its place");
    }

    #[test]
    fn dropped_bodies_leave_no_entries_in_the_schedule() {
        let schedule: Arc<Schedule> = Arc::default();
        for _ in 0..1_000 {
            let mut body = body(&schedule, rank(1));
            let _ = take(&mut body);
            drop(body);
            schedule.round(true);
        }
        assert!(schedule.lock().bodies.capacity() <= 8);
    }
}
