//! The progress of a response on its connection.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use net_core::InFlight;

/// Learns how much of a response's body was sent, for example for the access log.
pub trait Finish: Send + Sync {
    /// The body has been sent or is dropped. The peer's connection accepted `sent_bytes` bytes of
    /// it, without framing.
    fn finish(self: Box<Self>, sent_bytes: u64);
}

/// The progress of a response, for protocols that do not report it: an HTTP/2 stream may stall
/// while its connection progresses.
///
/// The body and its frames share it, so that the bytes in the protocol's buffers are known. Its
/// fields are independent counters and marks, so no order between them is needed (`Relaxed`).
#[derive(Default)]
pub(crate) struct Delivery {
    /// Bytes handed to the protocol and not yet sent.
    waiting: AtomicUsize,
    /// Bytes sent.
    sent: AtomicU64,
    /// There are no bytes to hand to the protocol, now or at all.
    dry: AtomicBool,
    /// The schedule makes it wait.
    held: AtomicBool,
    /// Others need not wait for it (see `schedule`).
    passed_over: AtomicBool,
    /// Called at its end.
    finish: Option<Box<dyn Finish>>,
    /// The connection is not idle before the last byte has been sent.
    in_flight: OnceLock<InFlight>,
}

impl Delivery {
    /// Calls `finish` when it is dropped.
    pub(crate) fn watched(finish: Box<dyn Finish>) -> Self {
        let mut delivery = Self::default();
        delivery.finish = Some(finish);
        delivery
    }

    /// Ends `in_flight` when it is dropped.
    pub(crate) fn hold(&self, in_flight: InFlight) {
        // A response is given to a connection once.
        let _ = self.in_flight.set(in_flight);
    }

    /// Counts bytes that are handed to the protocol.
    pub(crate) fn hand_over(&self, count: usize) {
        self.waiting.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts bytes that were handed over and will not be sent, because their frame was dropped.
    pub(crate) fn take_back(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Counts bytes that were handed over and have been sent.
    pub(crate) fn send(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        self.set_passed_over(false);
    }

    /// Bytes sent so far, if there are further bytes that the peer could accept. `None` if all
    /// bytes were sent, or if the schedule makes the response wait: the peer is not the reason
    /// then.
    pub(crate) fn stalled_at(&self) -> Option<u64> {
        let has_more = self.waiting() > 0 || !self.is_dry();
        (has_more && !self.held.load(Ordering::Relaxed)).then(|| self.sent.load(Ordering::Relaxed))
    }

    /// Bytes in the protocol's buffers.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether there are no bytes to hand to the protocol, now or at all.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry.load(Ordering::Relaxed)
    }

    /// Sets whether the body has no bytes to hand over.
    pub(crate) fn set_dry(&self, dry: bool) {
        self.dry.store(dry, Ordering::Relaxed);
    }

    /// Whether it has bytes and the schedule makes it wait.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Sets whether the body waits for its turn.
    pub(crate) fn set_held(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// Sets whether bodies of later ranks may be sent before this one. [`Self::send`] resets it.
    pub(crate) fn set_passed_over(&self, passed_over: bool) {
        self.passed_over.store(passed_over, Ordering::Relaxed);
    }

    /// Whether bodies of later ranks may be sent before this one.
    pub(crate) fn is_passed_over(&self) -> bool {
        self.passed_over.load(Ordering::Relaxed)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(finish) = self.finish.take() {
            finish.finish(*self.sent.get_mut());
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("waiting", &self.waiting)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}
