//! The system's allocator, counting the bytes that pass through it. The only place with unsafe
//! code: `GlobalAlloc` is an unsafe trait. Each call is passed to [`System`] with unchanged
//! arguments, so the contract of `System` applies on both sides; the counters are relaxed atomics
//! and allocate nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Number of recorded allocations of the watched size.
const SEEN: usize = 64;

/// Number of allocations and reallocations.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Allocated bytes so far.
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
/// Released bytes so far.
static FREED: AtomicU64 = AtomicU64::new(0);

/// The size in bytes whose allocations are recorded; 0 for none.
static WATCHED: AtomicUsize = AtomicUsize::new(0);
/// Number of allocations of this size since [`watch`].
static SEEN_COUNT: AtomicUsize = AtomicUsize::new(0);
/// Their addresses, up to [`SEEN`].
static SEEN_AT: [AtomicUsize; SEEN] = [const { AtomicUsize::new(0) }; SEEN];

/// Counts for the whole process: `#[global_allocator] static ALLOCATOR: Counting = Counting;`.
#[derive(Debug)]
pub struct Counting;

/// The counts since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Allocations and reallocations.
    pub calls: u64,
    /// Allocated bytes; for a growing reallocation, the difference.
    pub bytes: u64,
    /// Allocated bytes that are not released.
    pub held: u64,
}

impl Count {
    /// The present counts. Concurrent allocations may be included in one count and not in another.
    pub fn now() -> Self {
        let (calls, freed, bytes) =
            (COUNT.load(Relaxed), FREED.load(Relaxed), ALLOCATED.load(Relaxed));
        Self { calls, bytes, held: bytes.saturating_sub(freed) }
    }
}

/// Records from now on the addresses of allocations of exactly `bytes`.
pub fn watch(bytes: usize) {
    WATCHED.store(bytes, Relaxed);
    SEEN_COUNT.store(0, Relaxed);
}

/// The addresses of the first 64 allocations of the watched size, in the order of allocation.
pub fn seen() -> Vec<usize> {
    let count = SEEN_COUNT.load(Relaxed).min(SEEN);
    SEEN_AT[..count].iter().map(|at| at.load(Relaxed)).collect()
}

/// Records the address if the size is watched. Returns the address.
fn note(at: *mut u8, bytes: usize) -> *mut u8 {
    if bytes == WATCHED.load(Relaxed)
        && let Some(slot) = SEEN_AT.get(SEEN_COUNT.fetch_add(1, Relaxed))
    {
        slot.store(at.addr(), Relaxed);
    }
    at
}

// SAFETY: every method passes its arguments to `System` unchanged and returns its result.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller meets the contract of `alloc`, which is that of `System`.
        note(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: as in `alloc`.
        note(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: `ptr` was allocated by `System` with this layout, since all of ours are.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        match new_size.checked_sub(layout.size()) {
            Some(more) => ALLOCATED.fetch_add(more as u64, Relaxed),
            None => FREED.fetch_add((layout.size() - new_size) as u64, Relaxed),
        };
        // SAFETY: as in `dealloc`; the caller meets the contract of `realloc` for `new_size`.
        note(unsafe { System.realloc(ptr, layout, new_size) }, new_size)
    }
}
