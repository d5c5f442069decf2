//! Limits of a broadcast.

use std::time::Duration;

/// Maximum number of tracks of a broadcast.
pub const MAX_TRACKS: usize = 16;

/// Limits of a broadcast's memory, and the duration of its segments.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Payload bytes held for subscribers; the oldest entries are removed first, even of the newest
    /// group.
    pub bytes: usize,
    /// Age after which frames before the newest groups are removed.
    pub age: Duration,
    /// T of the cut rule: the intended segment duration.
    pub segment: Duration,
    /// Silence of a connected publisher after which a gap is declared.
    pub stall: Duration,
}
