//! Bytes that a connection has written and that its peer has not accepted.

use std::sync::Arc;

use net_core::Usage;
use tokio::time::Instant;

/// Written bytes that the peer has not accepted. They count as an exchange of the connection,
/// which therefore keeps its permit until the response has left.
pub(super) struct Unsent<'a> {
    usage: &'a Arc<Usage>,
    /// Whether `usage` counts the exchange.
    is_begun: bool,
}

impl<'a> Unsent<'a> {
    /// Starts without such bytes.
    pub(super) fn new(usage: &'a Arc<Usage>) -> Self {
        Self { usage, is_begun: false }
    }

    /// Sets whether there are such bytes. Only a change is passed to `usage`.
    pub(super) fn set(&mut self, some: bool) {
        if some == self.is_begun {
            return;
        }
        self.is_begun = some && self.usage.begin();
        if !some {
            self.usage.end(Instant::now());
        }
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}
