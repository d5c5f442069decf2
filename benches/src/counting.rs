//! The system's allocator, counting the bytes that pass through it. The one place with unsafe code: `GlobalAlloc` is an unsafe trait.
//! Each call goes to [`System`] with the arguments it came with, so what `System` promises and demands is promised and demanded
//! here; counting is relaxed atomics and allocates nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Allocations of the watched size that are remembered.
const SEEN: usize = 64;

static COUNT: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

static WATCHED: AtomicUsize = AtomicUsize::new(0);
static SEEN_COUNT: AtomicUsize = AtomicUsize::new(0);
static SEEN_AT: [AtomicUsize; SEEN] = [const { AtomicUsize::new(0) }; SEEN];

/// Counts for the whole process: `#[global_allocator] static ALLOCATOR: Counting = Counting;`.
#[derive(Debug)]
pub struct Counting;

/// What was counted since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Allocations and reallocations.
    pub calls: u64,
    /// Bytes asked for; of a reallocation that grows, the difference.
    pub bytes: u64,
    /// Bytes asked for and not yet given back.
    pub held: u64,
}

impl Count {
    /// As of now. Threads that allocate meanwhile may be seen in one figure and not in another.
    pub fn now() -> Self {
        let (calls, freed, bytes) = (COUNT.load(Relaxed), FREED.load(Relaxed), ALLOCATED.load(Relaxed));
        Self {
            calls,
            bytes,
            held: bytes.saturating_sub(freed),
        }
    }
}

/// Remembers from now on where allocations of exactly `bytes` are made.
pub fn watch(bytes: usize) {
    WATCHED.store(bytes, Relaxed);
    SEEN_COUNT.store(0, Relaxed);
}

/// The addresses of the watched size's allocations, in order; of the first 64.
pub fn seen() -> Vec<usize> {
    let count = SEEN_COUNT.load(Relaxed).min(SEEN);
    SEEN_AT[..count].iter().map(|at| at.load(Relaxed)).collect()
}

fn note(at: *mut u8, bytes: usize) -> *mut u8 {
    if bytes == WATCHED.load(Relaxed)
        && let Some(slot) = SEEN_AT.get(SEEN_COUNT.fetch_add(1, Relaxed))
    {
        slot.store(at.addr(), Relaxed);
    }
    at
}

// SAFETY: every method hands its arguments on to `System` unchanged and returns what that returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
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
        // SAFETY: `ptr` came from `System` with this layout, since all of ours do.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        match new_size.checked_sub(layout.size()) {
            Some(more) => ALLOCATED.fetch_add(more as u64, Relaxed),
            None => FREED.fetch_add((layout.size() - new_size) as u64, Relaxed),
        };
        // SAFETY: as in `dealloc`; the caller keeps `realloc`'s contract for `new_size`.
        note(unsafe { System.realloc(ptr, layout, new_size) }, new_size)
    }
}
