//! Errors between a publisher and its subscribers.

use crate::name::{ChannelName, TrackName};

/// Errors of codec configurations and the hub; [`crate::name::Invalid`] is that of a name. Each is
/// the publisher's fault, never ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The name already has a publisher.
    #[error("channel {name} is being published already")]
    Busy {
        /// The requested name.
        name: ChannelName,
    },
    /// The publisher was kicked, or another one took over its name.
    #[error("the right to the name was revoked")]
    Revoked,
    /// The channel's broadcasts have begun so fast one after the other that their segment numbers
    /// would outrun the clock.
    #[error(
        "the channel has begun too many broadcasts in a short time: connect again in {wait_s} s"
    )]
    TooSoon {
        /// Seconds until another broadcast can begin.
        wait_s: u64,
    },
    /// The hub was closed because the daemon stops.
    #[error("the server is shutting down")]
    Closed,
    /// The hub has reached its limit of broadcasts.
    #[error("{limit} broadcasts are live, the limit")]
    TooManyBroadcasts {
        /// The limit.
        limit: usize,
    },
    /// A broadcast needs at least one track, and different track names.
    #[error("a broadcast has between 1 and {max} tracks of different names, not {len}")]
    BadCatalogue {
        /// Number of offered tracks.
        len: usize,
        /// Maximum number of tracks.
        max: usize,
    },
    /// A configuration record does not parse.
    #[error("{record} record of {len} bytes: {fault}")]
    BadConfig {
        /// `avcC` or `AudioSpecificConfig`.
        record: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The reason.
        fault: RecordFault,
    },
    /// A track changed to another codec family: players cannot follow, so the broadcast cannot
    /// continue.
    #[error("track {track} changed from {from} to {to}")]
    CodecChanged {
        /// The track.
        track: TrackName,
        /// The codec string with which the broadcast was announced.
        from: String,
        /// The new one.
        to: String,
    },
    /// A track's configuration changes so often that players could not follow.
    #[error(
        "the codec configuration of track {track} changed more than {limit} times within a minute: \
         let the encoder keep its parameter sets, and change them only with its settings"
    )]
    ChangesTooOften {
        /// The track.
        track: TrackName,
        /// Maximum number of changes within a minute.
        limit: u32,
    },
}

/// The reason why a configuration record is not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordFault {
    /// It is longer than any encoder's.
    #[error("longer than {max}")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// It ends within a field.
    #[error("truncated")]
    Truncated,
    /// A parameter set of an `avcC` is cut off or has no bytes.
    #[error("a parameter set is truncated or empty")]
    EmptySet,
    /// An `avcC` lacks this kind of parameter set.
    #[error("no {kind} parameter set")]
    NoSet {
        /// `sequence` or `picture`.
        kind: &'static str,
    },
    /// NAL units have lengths of a size that ISO/IEC 14496-15 5.3.3.1.2 does not permit.
    #[error("NAL unit lengths of {bytes} bytes")]
    LengthSize {
        /// The size of a length.
        bytes: u8,
    },
    /// Pictures are larger than any decoder accepts.
    #[error("picture larger than {max}")]
    TooLarge {
        /// The limit in pixels, of either side.
        max: u32,
    },
    /// Pictures have no pixels.
    #[error("empty picture")]
    EmptyPicture,
    /// A sampling rate is reserved, or no rate of audio.
    #[error("sampling rate index {index}")]
    SamplingRate {
        /// The index of ISO/IEC 14496-3 table 1.18; 15 for an explicit rate.
        index: u32,
    },
    /// Audio of another kind than AAC-LC.
    #[error("audio object type {object_type} is not AAC-LC")]
    ObjectType {
        /// The type of ISO/IEC 14496-3 table 1.17.
        object_type: u32,
    },
    /// A channel configuration is reserved or not carried.
    #[error("channel configuration {index}")]
    Channels {
        /// The index of ISO/IEC 14496-3 table 1.19.
        index: u32,
    },
    /// The reader of H.264 does not accept it.
    #[error("{part}: {reason}")]
    Avc {
        /// The part of the record.
        part: &'static str,
        /// The reader's words: its errors cannot be compared.
        reason: String,
    },
}
