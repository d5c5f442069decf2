//! Shares of the machine. Tests mostly wait for real time to pass, so many of them run at once.
//! Those that decode, encode or measure take a share first, because players stand still and
//! encoders are late on a machine that is too busy.
//!
//! Shares are granted in the order of the requests, so that a large one waits for those before it
//! alone.

use std::sync::{Condvar, Mutex, PoisonError};

/// Shares in all, for two cores. Browsers use a fifth of a core each while they play, and most of
/// one while they start.
const ALL: u32 = 12;
/// A browser whose playback must not stand still.
pub(crate) const BROWSER: u32 = 2;
/// A browser that plays small renditions, and the worker that encodes them.
pub(crate) const BROWSER_AND_ENCODER: u32 = 3;
/// A worker that encodes small renditions in time.
pub(crate) const ENCODER: u32 = 2;
/// Processes that use a whole core, one after the other or together.
pub(crate) const CORE: u32 = 6;

/// The requests for shares. Both counts are of requests since the start.
struct Queue {
    free: u32,
    requested: u64,
    granted: u64,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { free: ALL, requested: 0, granted: 0 });
static CHANGED: Condvar = Condvar::new();

/// A share of the machine, until dropped. A test that holds one must not take another.
#[derive(Debug)]
pub(crate) struct Share(u32);

impl Share {
    /// Waits until all earlier requests are granted and `size` is free. Take it before a publisher
    /// starts, so that waiting costs no media.
    pub(crate) fn take(size: u32) -> Self {
        let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = queue.requested;
        queue.requested += 1;
        let waits = |queue: &mut Queue| queue.granted < turn || queue.free < size;
        queue = CHANGED.wait_while(queue, waits).unwrap_or_else(PoisonError::into_inner);
        queue.granted += 1;
        queue.free -= size;
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
