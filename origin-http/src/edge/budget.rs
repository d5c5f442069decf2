//! The memory of an edge: one budget for everything that it holds, and the charges against it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::metrics::gauge::Gauge;

/// The purpose of memory. Viewers that read slowly hold the objects that they read, so a reserve is
/// closed to large objects; otherwise they would exclude small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A playlist, a manifest, a picture or an error: all of the memory.
    Text,
    /// A part or a CMAF header: all but a sixteenth.
    Small,
    /// A segment: all but an eighth.
    Large,
}

/// The memory of all objects together.
#[derive(Debug)]
pub(super) struct Budget {
    /// `edge.memory_mb` in bytes.
    limit: u64,
    /// Bytes charged now. May exceed `limit`, if several owners charge at the same time.
    used: AtomicU64,
    /// Shows `used`.
    gauge: Gauge,
}

/// Memory charged to a budget by one owner, released when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    /// The budget that gets the bytes back.
    budget: Arc<Budget>,
    /// Bytes of this charge.
    bytes: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes; `gauge` shows the charged bytes.
    pub(super) fn new(limit: u64, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), gauge })
    }

    /// Whether `bytes` more would exceed the limit of this claim.
    pub(super) fn is_short_of(&self, bytes: u64, claim: Claim) -> bool {
        // Texts are small and urgent, and segments large: they may use the least of the memory, so
        // that slow readers of segments cannot exclude playlists.
        let reserve = match claim {
            Claim::Text => 0,
            Claim::Small => self.limit / 16,
            Claim::Large => self.limit / 8,
        };
        self.used.load(Ordering::Relaxed).saturating_add(bytes) > self.limit - reserve
    }

    /// Charges `bytes`, even beyond the limit: the caller has made room.
    pub(super) fn charge(self: &Arc<Self>, bytes: u64) -> Charge {
        let charge = Charge { budget: Arc::clone(self), bytes: AtomicU64::new(0) };
        charge.add(bytes);
        charge
    }
}

impl Charge {
    /// Charges `bytes` more.
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.gauge.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The charged budget.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.gauge.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
