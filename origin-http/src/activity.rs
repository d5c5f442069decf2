//! What goes on on one connection, known to all who work on it: requests begun, requests being worked on, answers on their way.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::body::{Body, Delivery};

/// Looks for which one answer may stand still, or nearly, while others go on: a slow link sends them one after the other.
pub(crate) const PATIENCE: u32 = 6;
/// Bytes each second that a peer must take of an answer which has some for it, over so many looks: whoever takes less holds media long
/// after all others have left them behind.
pub(crate) const LEAST_RATE: u64 = 1 << 10;
/// Looks for which an answer may wait for its turn among those of its connection.
const LONGEST_TURN: u32 = 10 * PATIENCE;

/// One connection's activity.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicU64,
    busy: AtomicUsize,
    deliveries: Mutex<Vec<Watched>>,
}

/// An answer on its way, and where it had stalled when it was last looked at.
#[derive(Debug)]
struct Watched {
    delivery: Weak<Delivery>,
    stalled_at: Option<u64>,
    /// Looks in a row at which it had bytes that its peer could take, and what had been sent before.
    looks: u32,
    from: u64,
    /// Looks in a row at which it waited for its turn.
    held: u32,
}

/// A request is being worked on for as long as this lives.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Activity {
    /// A request's head has come.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// How many requests there have been.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether a request is being worked on: read, or waiting for its answer to begin.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Keeps an eye on an answer's way.
    pub(crate) fn watch(&self, body: &mut Body) {
        let watched = Watched {
            delivery: Arc::downgrade(body.delivery()),
            stalled_at: None,
            looks: 0,
            from: 0,
            held: 0,
        };
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        if deliveries.len() == deliveries.capacity() {
            deliveries.retain(|watched| watched.delivery.strong_count() > 0);
        }
        deliveries.push(watched);
    }

    /// Looks at all answers on their way, of which there are some or none. To be called at a steady pace: each `pace`.
    pub(crate) fn inspect(&self, pace: Duration) -> Deliveries {
        let least = least(pace * PATIENCE);
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, mut moved, mut stuck) = (false, false, false);
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
        match deliveries.is_empty() {
            true => Deliveries::None,
            false if stuck || (waiting && !moved) => Deliveries::Stalled,
            false => Deliveries::Some,
        }
    }
}

impl Watched {
    /// Counts a look. It is stuck if less than `least` bytes have moved while its peer could take some, or it has waited too long for a turn.
    fn is_stuck(&mut self, delivery: &Delivery, least: u64) -> bool {
        // Turns that come and go are no excuse: the count goes on when they are over.
        self.held = if delivery.is_held() { self.held + 1 } else { 0 };
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
            // It has taken all that there was.
            None => self.looks = 0,
        }
        false
    }
}

/// The least that a peer must take in so long a time.
pub(crate) fn least(time: Duration) -> u64 {
    LEAST_RATE.saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) / 1_000
}

/// Answers on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deliveries {
    /// There are none.
    None,
    /// There are some, and they go on, or have nothing to send.
    Some,
    /// Bytes have waited since the last look and none was sent; or those of one answer for many looks, and hardly any were.
    Stalled,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use http_body_util::BodyExt;

    use super::*;

    /// So short that a byte is enough for the least rate.
    const PACE: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn an_answer_is_stalled_when_nothing_of_it_moves_between_two_looks() {
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
    fn an_answer_that_its_peer_never_asks_for_is_stalled_and_one_that_waits_for_its_turn_is_not() {
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
    async fn an_answer_may_stand_still_for_a_while_when_another_goes_on() {
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
    async fn an_answer_of_which_a_little_moves_all_the_time_is_stalled_and_one_at_the_least_rate_is_not() {
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
    fn an_answer_that_waits_for_its_turn_for_ever_is_stalled() {
        let activity = Activity::default();
        let mut body = Body::from(Bytes::from_static(b"media"));
        activity.watch(&mut body);
        body.delivery().set_held(true);
        let looks = (1..).find(|_| activity.inspect(PACE) == Deliveries::Stalled);
        assert_eq!(looks, Some(LONGEST_TURN));
    }

    #[test]
    fn answers_that_have_arrived_are_forgotten() {
        let activity = Activity::default();
        for _ in 0..10_000 {
            activity.watch(&mut Body::empty());
        }
        assert!(activity.deliveries.lock().unwrap().capacity() <= 8);
    }
}
