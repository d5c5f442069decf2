//! Samples: access units as MP4 stores them. Cut by `segmenter`, described by `boxes`, joined to
//! chunks by `fragment`.

use std::time::SystemTime;

use bytes::Bytes;

/// One access unit as a chunk holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Decode time of the next sample minus that of this one, in ticks of the track's timescale.
    pub duration: u32,
    /// Presentation time minus decode time, in ticks.
    pub composition: i32,
    /// Whether decoding can start here: an IDR picture, or any audio.
    pub key: bool,
    /// Bytes in front of the payload in `mdat`: parameter sets, or nothing.
    pub head: Bytes,
    /// Length-prefixed NAL units, or one raw AAC frame; less than 4 GiB. The chunk shares it and
    /// copies nothing.
    pub payload: Bytes,
}

impl Sample {
    /// Bytes in `mdat`.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

/// Maps a media time of the track to the wall clock (ISO/IEC 14496-12 8.16.5, `prft`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The wall clock at `media_time`.
    pub utc: SystemTime,
    /// Ticks of the track's timescale.
    pub media_time: u64,
}
