//! Advice to a publisher while it publishes: one sentence for the streamer, the log and the API.

use std::{fmt, time::Duration};

use crate::metrics::Drop;

/// The setting to change at the encoder. Each kind is sent once in a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Key frames are further apart than the longest segment.
    LongGroups {
        /// The last measured interval.
        interval: Duration,
    },
    /// No key frame has arrived for longer than the longest segment.
    NoKeyFrame,
    /// Groups have become longer than the first one, which determined the longest segment.
    GrowingGroups,
    /// There are recovery points but no IDR pictures.
    OpenGroups,
    /// Pictures are refreshed gradually, without key frames.
    IntraRefresh,
    /// Media have been faster than real time for long, so the publisher is paced.
    Paced,
    /// ADTS headers contradict the AudioSpecificConfig that was sent before them.
    AdtsDiffers,
    /// No frame of a track can be published, while the other track continues.
    Dropped {
        /// Whether the track is video; otherwise audio.
        video: bool,
        /// The reason.
        reason: Drop,
    },
}

impl Advice {
    /// Whether it is the same kind of advice, with any values.
    pub(crate) fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The consequence for viewers, shared by the texts about key frames.
        const JOIN: &str = "players cannot start between key frames";
        match self {
            Self::LongGroups { interval } => write!(
                f,
                "key frames are {:.1} s apart, and {JOIN}: set the encoder's keyframe interval to \
                 2 s",
                interval.as_secs_f64()
            ),
            Self::NoKeyFrame => write!(
                f,
                "no key frame has arrived for more than 12 s, and {JOIN}: set the encoder's \
                 keyframe interval to 2 s"
            ),
            Self::GrowingGroups => write!(
                f,
                "key frames are further apart than at the start, and {JOIN}: set a fixed keyframe \
                 interval of 2 s"
            ),
            Self::OpenGroups => f.write_str(
                "the video has open groups, without IDR pictures, at which most players cannot \
                 start: set the encoder to closed GOP, with an IDR picture every 2 s",
            ),
            Self::IntraRefresh => f.write_str(
                "the video is refreshed gradually, without key frames, so that players cannot \
                 start: turn periodic intra refresh off and set the encoder's keyframe interval to \
                 2 s",
            ),
            Self::Paced => f.write_str(
                "media arrive faster than real time, so the server reads them more slowly: check \
                 the encoder's clock and frame rate, or send a file at its own rate (ffmpeg -re)",
            ),
            Self::AdtsDiffers => f.write_str(
                "the ADTS headers in the audio state another sampling rate or number of channels \
                 than its sequence header, which is used: restart the encoder, and set one audio \
                 format for all of its outputs",
            ),
            Self::Dropped { video, reason } => f.write_str(fault(*video, *reason)),
        }
    }
}

/// The fault of the received media, and the setting to change.
pub(crate) fn fault(video: bool, reason: Drop) -> &'static str {
    // Each text names the fault and then a setting, because the streamer sees the encoder and not
    // our log.
    match (reason, video) {
        (Drop::BeforeConfig, true) => {
            "the video has no configuration: neither a sequence header nor SPS and PPS in front of \
             a key frame have arrived; restart the encoder, or let it repeat its headers"
        }
        (Drop::BeforeConfig, false) => {
            "the audio has no configuration: neither an AudioSpecificConfig nor ADTS headers have \
             arrived; restart the encoder, and set it to AAC-LC"
        }
        (Drop::BeforeKey, true) => {
            "the video has no key frame to start at: set the encoder's keyframe interval to 2 s \
             and turn intra refresh off"
        }
        (Drop::Malformed, true) => {
            "the video cannot be read: its messages contain neither NAL units with length prefixes \
             (AVCC) nor start codes (Annex B); set the encoder to H.264 for FLV or RTMP"
        }
        (Drop::Malformed, false) => {
            "the audio cannot be read: its messages contain neither raw AAC frames nor whole ADTS \
             frames; set the encoder to AAC-LC"
        }
        (Drop::NoPicture, _) => {
            "the video messages contain delimiters, SEI or parameter sets, but no picture: restart \
             the encoder"
        }
        (Drop::Empty, true) => {
            "the video messages are empty: restart the encoder, and check its video source"
        }
        (Drop::Empty, false) => {
            "the audio messages are empty: restart the encoder, and check its audio source"
        }
        (Drop::OtherTrack, _) => {
            "all frames belong to tracks beyond the first, which are not supported: send one video \
             and one audio track"
        }
        (Drop::InGap, _) => {
            "the timestamps are slower than real time: restart the stream, and let the encoder use \
             its clock for timestamps"
        }
        (Drop::TooFarAhead | Drop::AfterOutage, _) => {
            "the timestamps are faster than real time: restart the stream, and let the encoder use \
             its clock for timestamps"
        }
        (Drop::BeforeKey | Drop::Replaced | Drop::NeverLive, _) => {
            "the headers change before any picture can be shown: restart the encoder"
        }
    }
}
