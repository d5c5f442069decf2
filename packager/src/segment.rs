//! A segment of a track and its parts, as they are served. Plain data; `segmenter` makes it.
//!
//! Times are ticks of the track's timescale on the broadcast's timeline.

use std::sync::Arc;

use bytes::Bytes;
use media_core::Ticks;
use net_core::Rope;

/// A segment, complete or at the edge.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Media sequence number.
    pub msn: u64,
    /// Earliest presentation time: its first `tfdt`.
    pub start: Ticks,
    /// Sum of its parts' durations (so far).
    pub duration: Ticks,
    /// Number of the init segment that it needs.
    pub init: u32,
    /// EXT-X-DISCONTINUITY precedes it.
    pub discontinuity: bool,
    /// Some of its media are missing: EXT-X-GAP. An open segment with it gets no media.
    pub gap: bool,
    /// It starts with an IDR picture (any audio segment is independent).
    pub independent: bool,
    /// The source's video is silent: each part is this picture, an IDR access unit
    /// (docs/decisions/0023).
    pub still: Option<Bytes>,
    /// Its parts (so far), in order.
    pub parts: Vec<Arc<Part>>,
    /// All of its bytes, which are those of its parts; empty while it is open.
    pub bytes: Rope,
}

impl Segment {
    /// Whether it is a gap from its start to its end (so far).
    pub fn is_void(&self) -> bool {
        self.parts.iter().all(|part| part.gap)
    }

    /// Memory in use: the bytes of its parts and their bookkeeping. A still picture is held once.
    pub(crate) fn held_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.held_bytes()).sum();
        let still = self.still.as_ref().map_or(0, Bytes::len);
        // Each part counts the picture, though all share its memory.
        let repeated = still * self.parts.len().saturating_sub(1);
        size_of::<Self>() + parts.saturating_sub(repeated) + self.bytes.held_bytes(false)
    }

    /// Bytes that both segments count but that are held once: the still picture, if it is the same.
    pub(crate) fn bytes_shared_with(&self, other: &Segment) -> usize {
        match (&self.still, &other.still) {
            (Some(still), Some(other)) if still.as_ptr() == other.as_ptr() => still.len(),
            _ => 0,
        }
    }

    /// Where it ends (so far).
    pub fn end(&self) -> Ticks {
        self.start + self.duration
    }
}

/// A partial segment: one CMAF chunk, `moof` and `mdat`.
#[derive(Debug)]
pub struct Part {
    /// Presentation time of its start.
    pub start: Ticks,
    /// Its duration.
    pub duration: Ticks,
    /// It has an IDR picture at any position (INDEPENDENT=YES).
    pub independent: bool,
    /// It holds no media (GAP=YES), and has no bytes.
    pub gap: bool,
    /// Its bytes.
    pub bytes: Rope,
}

impl Part {
    /// Memory in use: its bytes and their bookkeeping.
    pub(crate) fn held_bytes(&self) -> usize {
        // Its entry in the segment's list of parts, and its reference counts.
        let place = 4 * size_of::<usize>();
        size_of::<Self>() + place + self.bytes.held_bytes(true)
    }
}
