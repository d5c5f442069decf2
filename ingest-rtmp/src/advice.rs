//! What a publisher is told while it publishes: one sentence for the person at the encoder, for the
//! log and for the API.

use std::{fmt, time::Duration};

use crate::{health, metrics::Drop};

/// What is to be changed at the encoder. Each is told once in a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Key frames are further apart than a segment may be long.
    LongGroups {
        /// As measured last.
        interval: Duration,
    },
    /// No key frame has come for longer than a segment may be long.
    NoKeyFrame,
    /// Groups have become longer than the first, by which the length of segments was settled.
    GrowingGroups,
    /// There are no IDR pictures but recovery points.
    OpenGroups,
    /// Pictures are refreshed bit by bit, and no key frames come.
    IntraRefresh,
    /// Media have come faster than real time for long, and are waited for.
    Paced,
    /// Nothing of a track can be published, while the other goes on.
    Dropped {
        /// Of video, else of audio.
        video: bool,
        /// Why.
        reason: Drop,
    },
}

impl Advice {
    /// Whether it is the same advice, whatever was measured.
    pub(crate) fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const JOIN: &str = "players cannot start between key frames";
        match self {
            Self::LongGroups { interval } => write!(
                f,
                "key frames are {:.1} s apart, and {JOIN}: set the encoder's keyframe interval to 2 s",
                interval.as_secs_f64()
            ),
            Self::NoKeyFrame => write!(
                f,
                "no key frame has come for more than 12 s, and {JOIN}: set the encoder's keyframe interval to 2 s"
            ),
            Self::GrowingGroups => write!(
                f,
                "key frames have moved further apart since the start, and {JOIN}: set a fixed keyframe interval of 2 s"
            ),
            Self::OpenGroups => f.write_str(
                "the video has open groups, without IDR pictures, at which most players cannot start: set the encoder to \
                 closed GOP, with an IDR picture every 2 s",
            ),
            Self::IntraRefresh => f.write_str(
                "the video is refreshed bit by bit, without key frames, so that players cannot start: turn periodic intra \
                 refresh off and set the encoder's keyframe interval to 2 s",
            ),
            Self::Paced => f.write_str(
                "media come faster than real time, so that the encoder is made to wait: check its clock and frame rate, or \
                 send a file at its own rate (ffmpeg -re)",
            ),
            Self::Dropped { video, reason } => f.write_str(health::words(*video, *reason)),
        }
    }
}
