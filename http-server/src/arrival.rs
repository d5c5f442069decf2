//! Whether a response's body was sent to its end, for observers that cannot afford an allocation
//! for each response: the observer's own box is all that is needed.

use std::fmt;

/// Learns whether a body was sent to its end. Compare [`crate::Finish`], which learns the number of
/// bytes.
pub trait Arrival: Send + Sync {
    /// The connection has accepted the last byte of the body, or (`complete` is false) the body was
    /// dropped before.
    fn arrived(self: Box<Self>, complete: bool);
}

/// The observer of a body, if it has one. Dropping it means that the body was not sent to its end.
#[derive(Default)]
pub(crate) struct Observer(Option<Box<dyn Arrival>>);

impl Observer {
    /// This observer.
    pub(crate) fn new(arrival: Box<dyn Arrival>) -> Self {
        Self(Some(arrival))
    }

    /// Notifies the observer, once.
    pub(crate) fn finish(&mut self, complete: bool) {
        if let Some(arrival) = self.0.take() {
            arrival.arrived(complete);
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.finish(false);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{Arc, Mutex},
        task::{Context, Poll, Waker},
    };

    use bytes::{Buf as _, Bytes};
    use http_body::Body as _;
    use net_core::Rope;

    use super::*;
    use crate::{Body, BoxError, Data, Growing};

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<bool>>>);

    impl Arrival for Seen {
        fn arrived(self: Box<Self>, complete: bool) {
            self.0.lock().unwrap().push(complete);
        }
    }

    fn observed(mut body: Body) -> (Body, Seen) {
        let seen = Seen::default();
        body.on_arrival(Box::new(seen.clone()));
        (body, seen)
    }

    fn next(body: &mut Body) -> Option<Data> {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    fn whole() -> Body {
        Bytes::from_static(b"abcd").into()
    }

    struct Two(usize);

    impl Growing for Two {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Rope, BoxError>>> {
            self.0 += 1;
            Poll::Ready((self.0 <= 2).then(|| Ok(Bytes::from_static(b"part").into())))
        }
    }

    #[test]
    fn a_body_has_arrived_when_its_last_byte_was_sent() {
        let (mut body, seen) = observed(whole());
        let mut data = next(&mut body).unwrap();
        data.advance(3);
        drop(body);
        assert!(seen.0.lock().unwrap().is_empty(), "the last byte is not sent");
        data.advance(1);
        drop(data);
        assert_eq!(*seen.0.lock().unwrap(), [true]);
    }

    #[test]
    fn a_body_that_is_dropped_before_has_not_arrived() {
        let (mut body, seen) = observed(whole());
        next(&mut body).unwrap().advance(3);
        let (unread, unread_seen) = observed(whole());
        drop((body, unread));
        assert_eq!(*seen.0.lock().unwrap(), [false]);
        assert_eq!(*unread_seen.0.lock().unwrap(), [false]);
    }

    #[test]
    fn the_body_of_a_response_to_head_does_not_arrive() {
        let (mut body, seen) = observed(whole());
        body.clear();
        assert!(next(&mut body).is_none());
        assert_eq!(*seen.0.lock().unwrap(), [false]);
    }

    #[test]
    fn content_that_grows_has_arrived_at_its_end() {
        let (mut body, seen) = observed(Body::growing(Two(0)));
        for _ in 0..2 {
            let mut data = next(&mut body).unwrap();
            data.advance(data.remaining());
        }
        assert!(seen.0.lock().unwrap().is_empty());
        assert!(next(&mut body).is_none());
        assert_eq!(*seen.0.lock().unwrap(), [true]);
    }
}
