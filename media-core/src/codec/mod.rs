//! Codec configurations: what a sequence header says, as everything downstream needs it.
//!
//! Parsing of a bitstream's headers belongs here; sample entries (`avc1`, `mp4a`) belong to the packager.

pub mod aac;
pub mod adts;
pub mod avc;
pub mod nal;

use bytes::Bytes;

use crate::Timescale;

/// A track's codec configuration. Immutable: a change makes a new one.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    /// H.264 in AVCC form.
    Avc(avc::Config),
    /// AAC, raw access units.
    Aac(aac::Config),
}

impl Config {
    /// The codec string of RFC 6381, such as `avc1.64001f` or `mp4a.40.2`.
    pub fn codec_string(&self) -> &str {
        match self {
            Self::Avc(avc) => &avc.codec_string,
            Self::Aac(aac) => &aac.codec_string,
        }
    }

    /// The clock that the track's frames are stamped with.
    pub fn timescale(&self) -> Timescale {
        match self {
            Self::Avc(_) => Timescale::VIDEO,
            Self::Aac(aac) => aac.timescale,
        }
    }

    /// Whether it is video.
    pub fn is_video(&self) -> bool {
        matches!(self, Self::Avc(_))
    }

    /// The configuration record as it came: `AVCDecoderConfigurationRecord` or `AudioSpecificConfig`.
    pub fn record(&self) -> &Bytes {
        match self {
            Self::Avc(avc) => &avc.record,
            Self::Aac(aac) => &aac.record,
        }
    }
}
