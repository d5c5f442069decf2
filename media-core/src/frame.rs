//! One access unit, before and after it enters the hub, and the mark that starts a segment.

use std::time::Instant;

use bytes::Bytes;

/// One access unit as a publisher sends it, on the publisher's own clock.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// Decode time in 90 kHz ticks of the publisher's clock, unwrapped; any origin.
    pub dts: i64,
    /// Presentation time on the same clock.
    pub pts: i64,
    /// Whether decoding can start here: an IDR picture, a recovery point of a source without IDR pictures, or any
    /// audio. Groups and segments start at key frames.
    pub key: bool,
    /// Whether all that follows can be decoded if decoding starts here, by any decoder: an IDR picture, or any audio.
    /// A key frame that is not independent is a recovery point: pictures after it may refer to pictures before it.
    pub independent: bool,
    /// When its last byte came.
    pub arrived: Instant,
    /// What MP4 stores: length-prefixed NAL units, or one raw AAC frame. Shared, never copied from here on.
    pub payload: Bytes,
}

/// One access unit on its broadcast's timeline.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Decode time in ticks of the track's timescale. Within a track it always grows.
    pub dts: i64,
    /// Presentation time in ticks of the track's timescale; may be below `dts` for no codec we take.
    pub pts: i64,
    /// Whether decoding can start here; see [`AccessUnit::key`].
    pub key: bool,
    /// Whether it depends on nothing before it; see [`AccessUnit::independent`].
    pub independent: bool,
    /// Set where this frame starts a segment. Only frames of the track that decides cuts carry marks.
    pub mark: Option<Mark>,
    /// When its last byte came.
    pub arrived: Instant,
    /// The payload; see [`AccessUnit::payload`].
    pub payload: Bytes,
}

/// Where a segment starts, in every rendition. Decided once, by [`crate::cut::Cutter`]; nobody else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The segment's media sequence number.
    pub msn: u64,
    /// Presentation time of its start, in 90 kHz ticks of the broadcast's timeline whatever the track.
    pub pts: i64,
    /// The segment holds no media: the clock made it while no frames came (RFC 8216bis 4.4.4.7, EXT-X-GAP).
    pub gap: bool,
    /// Codec configuration, size or timing changed here (RFC 8216bis 4.4.4.3, EXT-X-DISCONTINUITY).
    pub discontinuity: bool,
}
