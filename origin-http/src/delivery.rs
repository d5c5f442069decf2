//! The progress of a response on its connection.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use net_core::InFlight;

use crate::access_log::Entry;

/// The progress of a response, for protocols that do not report it: an HTTP/2 stream may stall
/// while its connection progresses.
#[derive(Debug, Default)]
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
    /// The entry of the access log to complete at its end.
    entry: Option<Entry>,
    /// The connection is not idle before the last byte has been sent.
    in_flight: OnceLock<InFlight>,
}

impl Delivery {
    /// Completes `entry` when it is dropped.
    pub(crate) fn logged(entry: Entry) -> Self {
        let mut delivery = Self::default();
        delivery.entry = Some(entry);
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

    /// Counts bytes that were handed over and will not be sent.
    pub(crate) fn take_back(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Counts bytes that were handed over and have been sent.
    pub(crate) fn send(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        self.set_passed_over(false);
    }

    /// Bytes sent so far, if there are further bytes that the peer could accept.
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

    pub(crate) fn set_dry(&self, dry: bool) {
        self.dry.store(dry, Ordering::Relaxed);
    }

    /// Whether it has bytes and the schedule makes it wait.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn set_held(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    pub(crate) fn set_passed_over(&self, passed_over: bool) {
        self.passed_over.store(passed_over, Ordering::Relaxed);
    }

    pub(crate) fn is_passed_over(&self) -> bool {
        self.passed_over.load(Ordering::Relaxed)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.sent(*self.sent.get_mut());
        }
    }
}
