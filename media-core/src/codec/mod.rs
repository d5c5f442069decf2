//! Codec configurations: the values of a sequence header that the other crates need.
//!
//! Parsing of a bitstream's headers belongs here; sample entries (`avc1`, `mp4a`) belong to the
//! packager.

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
    /// The codec string of RFC 6381, for example `avc1.64001f` or `mp4a.40.2`.
    pub fn codec_string(&self) -> &str {
        match self {
            Self::Avc(avc) => &avc.codec_string,
            Self::Aac(aac) => &aac.codec_string,
        }
    }

    /// The codec string that covers all of `configs`, which are of one family: a decoder for it
    /// decodes each of them. `None` without any.
    pub fn covering<'a>(configs: impl IntoIterator<Item = &'a Self>) -> Option<String> {
        configs.into_iter().fold(None, |covering, config| {
            Some(match (covering, config) {
                (None, config) => config.codec_string().to_owned(),
                (Some(covering), Self::Avc(avc)) => avc::covering(&covering, &avc.codec_string),
                (Some(covering), Self::Aac(aac)) => aac::covering(&covering, &aac.codec_string),
            })
        })
    }

    /// The clock of the track's frames.
    pub fn timescale(&self) -> Timescale {
        match self {
            Self::Avc(_) => Timescale::VIDEO,
            Self::Aac(aac) => aac.timescale,
        }
    }

    /// Whether a decoder can continue with `other` after another header: profile, level, size,
    /// channels and sampling rate may differ.
    pub fn is_same_family(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether it is video.
    pub fn is_video(&self) -> bool {
        match self {
            Self::Avc(_) => true,
            Self::Aac(_) => false,
        }
    }

    /// Memory of the configuration, in bytes.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.record().len() + self.codec_string().len()
    }

    /// The configuration record as received: `AVCDecoderConfigurationRecord` or
    /// `AudioSpecificConfig`.
    pub fn record(&self) -> &Bytes {
        match self {
            Self::Avc(avc) => &avc.record,
            Self::Aac(aac) => &aac.record,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_covering_codec_string_is_the_greatest_profile_and_level() {
        let cases = [
            ("avc1.42c01e", "avc1.42c01e", "avc1.42c01e"),
            ("avc1.42c01e", "avc1.640028", "avc1.640028"),
            ("avc1.640028", "avc1.4d401f", "avc1.640028"),
            ("avc1.64001f", "avc1.4d4033", "avc1.640033"),
            ("avc1.42c01e", "avc1.42e015", "avc1.42c01e"),
            ("avc1.42001e", "avc1.42e01f", "avc1.42001f"),
        ];
        for (a, b, covering) in cases {
            assert_eq!(avc::covering(a, b), covering, "{a} {b}");
            assert_eq!(avc::covering(b, a), covering, "{b} {a}");
        }
        assert_eq!(aac::covering("mp4a.40.2", "mp4a.40.5"), "mp4a.40.5");
        assert_eq!(aac::covering("mp4a.40.29", "mp4a.40.5"), "mp4a.40.29");
    }
}
