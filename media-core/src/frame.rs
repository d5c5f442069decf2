//! One access unit, before and after it enters the hub, and the mark that starts a segment.

use std::time::Instant;

use bytes::Bytes;

use crate::{MediaSpan, MediaTime, Ticks};

/// One access unit as a publisher sends it. Its times are distances from the zero of the
/// publisher's own clock, which is unknown.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// Decode time, unwrapped.
    pub dts: MediaSpan,
    /// Presentation time on the same clock.
    pub pts: MediaSpan,
    /// Whether decoding can start here: an IDR picture, a recovery point of a source without IDR
    /// pictures, or any audio. Groups and segments start at key frames.
    pub key: bool,
    /// Whether any decoder that starts here can decode all following frames: an IDR picture, or any
    /// audio. A key frame that is not independent is a recovery point: pictures after it may refer
    /// to pictures before it.
    pub independent: bool,
    /// Arrival of its last byte.
    pub arrived: Instant,
    /// The sample as MP4 stores it: length-prefixed NAL units, or one raw AAC frame. Shared, never
    /// copied from here on.
    pub payload: Bytes,
}

/// One access unit on its broadcast's timeline. Its times are ticks of the track's timescale.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Decode time. It always increases within a track.
    pub dts: Ticks,
    /// Presentation time, on the same clock.
    pub pts: Ticks,
    /// Whether decoding can start here; see [`AccessUnit::key`].
    pub key: bool,
    /// Whether it depends on no earlier frame; see [`AccessUnit::independent`].
    pub independent: bool,
    /// Present if this frame starts a segment. Only frames of the master track, which decides cuts,
    /// have marks.
    pub mark: Option<Mark>,
    /// Arrival of its last byte.
    pub arrived: Instant,
    /// The payload; see [`AccessUnit::payload`].
    pub payload: Bytes,
}

/// The start of a segment, in every rendition. Only [`crate::cut::Cutter`] creates marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The segment's media sequence number.
    pub msn: u64,
    /// Presentation time of its start, the same in every track.
    pub pts: MediaTime,
    /// The segment holds no media: the cut rule declared it while no frames arrived (RFC 8216bis
    /// 4.4.4.7, EXT-X-GAP).
    pub gap: bool,
    /// The codec configuration, the size or the timing changes here (RFC 8216bis 4.4.4.3,
    /// EXT-X-DISCONTINUITY).
    pub discontinuity: bool,
}
