//! Shares of the machine. Tests mostly wait for real time to pass, so many of them run at once.
//! Those that decode, encode or measure take a share first, because players stand still and
//! encoders are late on a machine that is too busy.
//!
//! Shares are granted in the order of the requests, so that a large one waits for those before it
//! alone. Encoders have a lower priority than players, and would be late beside them: tests of
//! encoders and tests of players take turns.

use std::sync::{Condvar, Mutex, PoisonError};

/// Shares in all, for two cores. Browsers use a fifth of a core each while they play, and most of
/// one while they start.
pub(crate) const ALL: u32 = 12;
/// A browser whose playback must not stand still.
pub(crate) const BROWSER: u32 = 3;
/// A browser whose playback may stand still for a moment.
pub(crate) const PATIENT_BROWSER: u32 = 2;
/// A browser that plays small renditions, and the worker that encodes them.
pub(crate) const BROWSER_AND_ENCODER: u32 = 4;
/// A worker that encodes small renditions in time.
pub(crate) const ENCODER: u32 = 4;

/// The tests that may hold shares at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Players,
    Encoders,
}

/// The requests for shares. Both counts are of requests since the start.
struct Queue {
    free: u32,
    /// The kind of those that hold shares, or held the last one.
    kind: Kind,
    requested: u64,
    granted: u64,
}

static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { free: ALL, kind: Kind::Players, requested: 0, granted: 0 });
static CHANGED: Condvar = Condvar::new();

/// A share of the machine, until dropped. A test that holds one must not take another.
#[derive(Debug)]
pub(crate) struct Share(u32);

impl Share {
    /// Waits until all earlier requests are granted, `size` is free, and no test of the other kind
    /// holds a share. Take it before a publisher starts, so that waiting costs no media.
    pub(crate) fn take(kind: Kind, size: u32) -> Self {
        let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = queue.requested;
        queue.requested += 1;
        let waits = |queue: &mut Queue| {
            let other = queue.free < ALL && queue.kind != kind;
            queue.granted < turn || other || queue.free < size
        };
        queue = CHANGED.wait_while(queue, waits).unwrap_or_else(PoisonError::into_inner);
        queue.granted += 1;
        queue.free -= size;
        queue.kind = kind;
        CHANGED.notify_all();
        Self(size)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        QUEUE.lock().unwrap_or_else(PoisonError::into_inner).free += self.0;
        CHANGED.notify_all();
    }
}
