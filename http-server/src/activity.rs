//! The activity of one connection, shared by its tasks: requests begun, requests in progress, and
//! responses being sent.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{body::Body, delivery::Delivery};

/// Number of inspections during which one response may stall, or nearly, while others progress: a
/// slow link sends them one after the other.
pub(crate) const PATIENCE: u32 = 6;
/// Bytes a second that a peer must accept of a response that has bytes for it, averaged over
/// [`PATIENCE`] inspections. A slower peer holds media in memory long after all other viewers have
/// passed them.
pub(crate) const LEAST_RATE: u64 = 1 << 10;
/// Number of inspections during which a response may wait for its turn on the connection.
const LONGEST_TURN: u32 = 10 * PATIENCE;

/// The activity of one connection. The task that drives the connection inspects it at intervals;
/// the tasks of requests update it.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Number of requests whose head has arrived, over the connection's life.
    begun: AtomicU64,
    /// Number of requests that are being read, or whose response has not begun.
    busy: AtomicUsize,
    /// The responses being sent. One whose [`Delivery`] was dropped is removed at the next
    /// inspection.
    deliveries: Mutex<Vec<Watched>>,
}

/// A response being sent, and its progress at the last inspection.
#[derive(Debug)]
struct Watched {
    delivery: Weak<Delivery>,
    /// Bytes sent at the last inspection, if there were further bytes that the peer could accept.
    stalled_at: Option<u64>,
    /// Number of consecutive inspections at which it had bytes that the peer could accept.
    looks: u32,
    /// Bytes sent before the first of these inspections.
    from: u64,
    /// Number of consecutive inspections at which it waited for its turn.
    held: u32,
}

/// The state of a connection's requests at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events {
    begun: u64,
    busy: usize,
    sending: usize,
}

/// Marks a request as in progress until dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Activity {
    /// Records that the head of a request has arrived.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Number of requests so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether a request is in progress: being read, or waiting for its response to begin.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// The state of all requests: it changes whenever one begins, or its response begins or ends.
    pub(crate) fn events(&self) -> Events {
        let deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        let sending = deliveries.iter().filter(|watched| watched.delivery.strong_count() > 0);
        Events {
            begun: self.begun(),
            busy: self.busy.load(Ordering::Relaxed),
            sending: sending.count(),
        }
    }

    /// Adds a response to the inspected ones. Its [`Delivery`] counts the bytes; the body itself
    /// stays with the connection.
    pub(crate) fn watch(&self, body: &mut Body) {
        let watched = Watched {
            delivery: Arc::downgrade(body.delivery()),
            stalled_at: None,
            looks: 0,
            from: 0,
            held: 0,
        };
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        // Ended responses are removed only before the list would grow, so that a connection with
        // many short responses between two inspections does not search the list for each of them.
        if deliveries.len() == deliveries.capacity() {
            deliveries.retain(|watched| watched.delivery.strong_count() > 0);
        }
        deliveries.push(watched);
    }

    /// Inspects all responses being sent. The caller calls it at regular intervals of `pace`.
    ///
    /// The result is [`Deliveries::Stalled`] if bytes wait and no response has progressed since the
    /// last inspection, or if one response has progressed by less than [`LEAST_RATE`] over
    /// [`PATIENCE`] inspections while others did.
    pub(crate) fn inspect(&self, pace: Duration) -> Deliveries {
        let least = least(pace * PATIENCE);
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, mut moved, mut stuck) = (false, false, false);
        // A response whose count of sent bytes has changed, or that has ended, shows that the peer
        // still reads: one that waits beside it may be slow because of the link.
        deliveries.retain_mut(|watched| {
            let Some(delivery) = watched.delivery.upgrade() else {
                moved = true; // to its end
                return false;
            };
            let stalled_at = delivery.stalled_at();
            waiting |= stalled_at.is_some();
            moved |= stalled_at.is_some() && stalled_at != watched.stalled_at;
            watched.stalled_at = stalled_at;
            stuck |= watched.is_stuck(&delivery, least);
            true
        });
        // One response that is stuck suffices: an HTTP/2 peer can keep one stream's window closed
        // while it reads the others.
        match deliveries.is_empty() {
            true => Deliveries::None,
            false if stuck || (waiting && !moved) => Deliveries::Stalled,
            false => Deliveries::Some,
        }
    }
}

impl Watched {
    /// Counts an inspection. Returns true if fewer than `least` bytes moved while the peer could
    /// accept some, or if the response has waited too long for its turn.
    fn is_stuck(&mut self, delivery: &Delivery, least: u64) -> bool {
        // Turns that begin and end do not reset the count: it continues after them.
        self.held = if delivery.is_held() { self.held + 1 } else { 0 };
        // The rate is measured over `PATIENCE` inspections with bytes to send, and then anew: a
        // peer that was fast for a minute gets no credit for it.
        match self.stalled_at {
            _ if self.held > 0 => return self.held >= LONGEST_TURN,
            Some(sent) if self.looks < PATIENCE => {
                if self.looks == 0 {
                    self.from = sent;
                }
                self.looks += 1;
            }
            Some(sent) if sent - self.from < least => return true,
            Some(sent) => (self.looks, self.from) = (1, sent),
            // The peer has accepted all bytes that there were.
            None => self.looks = 0,
        }
        false
    }
}

/// The least number of bytes that a peer must accept in `time`, at [`LEAST_RATE`].
pub(crate) fn least(time: Duration) -> u64 {
    LEAST_RATE.saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) / 1_000
}

/// The state of the responses being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deliveries {
    /// There are none.
    None,
    /// There are some; each progresses or has no bytes to send.
    Some,
    /// Bytes have waited since the last inspection and none was sent; or those of one response have
    /// for many inspections, and hardly any were sent.
    Stalled,
}

impl Drop for Busy {
    // The response has begun, or its request was cancelled.
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use http_body_util::BodyExt;

    use super::*;

    /// So short that one byte satisfies the least rate.
    const PACE: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_response_is_stalled_when_no_byte_of_it_is_sent_between_two_inspections() {
        let activity = Activity::default();
        let mut body = Body::from(Bytes::from_static(b"media"));
        activity.watch(&mut body);
        assert_eq!(activity.inspect(PACE), Deliveries::Some); // it has just begun
        let mut data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        data.advance(1);
        assert_eq!(activity.inspect(PACE), Deliveries::Some);
        assert_eq!(activity.inspect(PACE), Deliveries::Stalled);
        data.advance(4);
        assert_eq!(activity.inspect(PACE), Deliveries::Some);
        assert_eq!(activity.inspect(PACE), Deliveries::Some); // nothing to send
        drop((body, data));
        assert_eq!(activity.inspect(PACE), Deliveries::None);
    }

    #[test]
    fn a_response_that_is_not_polled_is_stalled_unless_it_waits_for_its_turn() {
        let activity = Activity::default();
        let mut body = Body::from(Bytes::from_static(b"media"));
        activity.watch(&mut body);
        assert_eq!(activity.inspect(PACE), Deliveries::Some);
        body.delivery().set_held(true);
        assert_eq!([activity.inspect(PACE), activity.inspect(PACE)], [Deliveries::Some; 2]);
        body.delivery().set_held(false);
        assert_eq!(
            [activity.inspect(PACE), activity.inspect(PACE)],
            [Deliveries::Some, Deliveries::Stalled]
        );
    }

    #[tokio::test]
    async fn a_response_without_progress_is_stalled_later_while_another_progresses() {
        let activity = Activity::default();
        let mut bodies = [0, 1].map(|_| Body::from(Bytes::from_static(b"media, and more of it")));
        bodies.iter_mut().for_each(|body| activity.watch(body));
        let _still = bodies[0].frame().await.unwrap().unwrap().into_data().unwrap();
        let mut moving = bodies[1].frame().await.unwrap().unwrap().into_data().unwrap();
        for _ in 0..PATIENCE {
            assert_eq!(activity.inspect(PACE), Deliveries::Some);
            moving.advance(1);
        }
        assert_eq!(activity.inspect(PACE), Deliveries::Stalled);
    }

    #[tokio::test]
    async fn a_response_below_the_minimum_rate_is_stalled() {
        let pace = Duration::from_secs(20);
        for (step, stalled) in [(1, true), (20 * 1_024 - 10, true), (20 * 1_024, false)] {
            let activity = Activity::default();
            let mut body = Body::from(Bytes::from(vec![0; 1 << 20]));
            activity.watch(&mut body);
            let mut data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            let mut looks = (0..30).map(|_| {
                data.advance(step);
                activity.inspect(pace)
            });
            assert_eq!(looks.any(|look| look == Deliveries::Stalled), stalled, "{step}");
        }
    }

    #[test]
    fn a_response_that_waits_too_long_for_its_turn_is_stalled() {
        let activity = Activity::default();
        let mut body = Body::from(Bytes::from_static(b"media"));
        activity.watch(&mut body);
        body.delivery().set_held(true);
        let looks = (1..).find(|_| activity.inspect(PACE) == Deliveries::Stalled);
        assert_eq!(looks, Some(LONGEST_TURN));
    }

    #[test]
    fn delivered_responses_are_no_longer_tracked() {
        let activity = Activity::default();
        for _ in 0..10_000 {
            activity.watch(&mut Body::empty());
        }
        assert!(activity.deliveries.lock().unwrap().capacity() <= 8);
    }
}
