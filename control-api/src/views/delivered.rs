//! Media that were delivered to a viewer: the ground of all counts, which the origin provides.

use control_domain::id::VideoId;
use media_core::{BroadcastId, ChannelName};

/// A segment or part that was sent to its end, or a range of one.
#[derive(Debug, Clone)]
pub struct Delivered<'a> {
    /// The viewer, as far as it can be distinguished: a hash under a key of the day.
    pub viewer: u64,
    /// The same viewer under the key of the day before, for a while after the change.
    pub viewer_before: Option<u64>,
    /// The viewer's host, the same for all viewers with its address.
    pub host: u64,
    /// The presentation to which the media belong.
    pub presentation: Presentation<'a>,
    /// The name of the track.
    pub track: &'a str,
    /// Whether the track is video.
    pub is_video: bool,
    /// The start of the media on the presentation's timeline, in milliseconds.
    pub start_ms: u64,
    /// Their duration; 0 if only a range of the object was sent.
    pub duration_ms: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// The report of the player.
    pub report: Report<'a>,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presentation<'a> {
    /// A live broadcast.
    Broadcast {
        /// The broadcast.
        id: BroadcastId,
        /// Its channel.
        channel: &'a ChannelName,
    },
    /// A video on demand.
    Video {
        /// The video.
        id: VideoId,
        /// Its duration in milliseconds.
        duration_ms: u64,
    },
}

/// The identity of a presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PresentationId {
    Broadcast(BroadcastId),
    Video(VideoId),
}

impl Presentation<'_> {
    pub(super) fn id(&self) -> PresentationId {
        match *self {
            Self::Broadcast { id, .. } => PresentationId::Broadcast(id),
            Self::Video { id, .. } => PresentationId::Video(id),
        }
    }
}

/// The report of a player (CTA-5004), with its request for the media. It is the player's word, so
/// that it decides about no view and no watch time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Report<'a> {
    /// The request has none.
    #[default]
    None,
    /// It cannot be read.
    Malformed,
    /// Its values.
    Valid(Values<'a>),
}

/// The values of a report that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Values<'a> {
    /// The session, as the player names it. It tells viewers behind one address apart.
    pub session: Option<&'a str>,
    /// The player has rebuffered since its last request.
    pub has_rebuffered: bool,
    /// Playback has not started yet, or was interrupted.
    pub is_starting: bool,
    /// The time to the first picture, in milliseconds.
    pub start_delay_ms: Option<u32>,
    /// The bit rate of the requested object.
    pub bitrate_kbps: Option<u32>,
    /// The throughput that the player has measured.
    pub throughput_kbps: Option<u32>,
    /// Media in the player's buffer.
    pub buffer_ms: Option<u32>,
    /// The distance to the live edge.
    pub latency_ms: Option<u32>,
}

/// Provides the media that are delivered. Calls must be quick and must not block.
pub trait Source: Send + Sync + 'static {
    /// Passes on all media that were delivered since the last call.
    fn collect(&self, each: &mut dyn FnMut(Delivered<'_>));

    /// Hashes viewers under a new random key, and under the old one too until
    /// [`Source::forget_key`].
    fn change_key(&self);

    /// Forgets the key before the present one.
    fn forget_key(&self);

    /// Observes no more media.
    fn close(&self);
}
