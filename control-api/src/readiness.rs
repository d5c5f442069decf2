//! Whether the daemon accepts work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether the daemon accepts work: from the moment that all its listeners are bound until it
/// drains. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets the state.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// The state.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
