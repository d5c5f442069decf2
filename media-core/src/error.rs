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
    #[error("{record} record of {len} bytes: {what}")]
    BadConfig {
        /// `avcC` or `AudioSpecificConfig`.
        record: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The reason.
        what: String,
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
