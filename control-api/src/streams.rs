//! A stream as the API shows it: a broadcast, its tracks and its audience.

use std::time::SystemTime;

use media_core::{
    Anchor, Broadcast, ChannelName,
    broadcast::{Health, Presence, TrackInfo},
    codec::Config,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    cursor,
    elsewhere::Theirs,
    page::{Entry, Page},
    problem::{Kind, Problem},
    renditions::{Rendition, Renditions},
    viewers::{Count, Viewers},
};

/// The name of the list in its cursors.
const LIST: &str = "streams";

/// Live broadcasts, in the order of the channels' names.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) streams: Vec<Listed>,
    /// The channel after which the next page begins; `None` on the last page.
    pub(crate) next: Option<String>,
}

/// A page of them, as sent.
pub(crate) type StreamsPage = Page<Listed>;

impl Streams {
    /// The page.
    pub(crate) fn page(self) -> Result<StreamsPage, Problem> {
        Page::new(LIST, self.streams, self.next.as_deref().map(str::as_bytes))
    }
}

/// The channel after which a page begins. Versions before cursors were opaque have the plain name
/// of the channel as their cursor, so it is accepted too.
///
/// # Errors
/// 400 if it is neither.
pub(crate) fn position(cursor: &str) -> Result<String, Problem> {
    let parsed = cursor::parse(LIST, cursor);
    let name = match &parsed {
        Ok(key) => str::from_utf8(key).unwrap_or_default(),
        Err(_) => cursor,
    };
    // The check of a cursor is no secret, so that the name may be anything.
    if name.parse::<ChannelName>().is_ok() {
        return Ok(name.to_owned());
    }
    let words = "this cursor names no channel of this list";
    Err(parsed.err().unwrap_or_else(|| Problem::new(Kind::InvalidCursor, words)))
}

/// A stream of this or the other process.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Listed {
    /// In this process.
    Here(Box<Stream>),
    /// In the previous process.
    There(Theirs),
}

impl Entry for Listed {
    const MEMBER: &'static str = "streams";
    const PAGE: &'static str = "Streams";
    const DESCRIPTION: &'static str = "Live broadcasts, in the order of the channels' names.";
    type Schema = Stream;
}

/// One broadcast.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stream {
    /// The channel's name.
    #[schema(example = "demo", pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub(crate) channel: String,
    /// The broadcast's id, a UUIDv7: it is kept across reconnects and is never reused.
    #[schema(format = "uuid")]
    broadcast: String,
    state: State,
    /// Whether the broadcast belongs to a process that has handed over in an upgrade, and continues
    /// until its publisher leaves.
    draining: bool,
    /// Start of the broadcast, RFC 3339 in UTC.
    #[schema(format = "date-time", example = "2026-01-31T20:15:00.000Z")]
    started_at: String,
    /// Interval between the last two key frames of the source's video in seconds; null before the
    /// second.
    #[schema(required, example = 2.0)]
    keyframe_interval_s: Option<f64>,
    /// The encoder setting to change so that players can start and switch, in one sentence; null if
    /// nothing needs a change.
    #[schema(required)]
    advice: Option<String>,
    tracks: Vec<Track>,
    /// The planned renditions of the ladder, the most expensive first.
    renditions: Vec<Rendition>,
    viewers: Count,
}

/// `live`: a publisher is connected. `away`: it has left, and the broadcast waits for its return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Live,
    Away,
}

/// One track of a broadcast.
#[derive(Debug, Serialize, ToSchema)]
struct Track {
    /// Its name in media addresses.
    #[schema(example = "v0", pattern = "^[a-z0-9-]{1,32}$")]
    name: String,
    /// Whether the ladder made it here of the source.
    rendition: bool,
    /// The codec string of RFC 6381.
    #[schema(example = "avc1.64001f")]
    codec: String,
    /// Bits a second of payload over the last seconds.
    bitrate_bps: u64,
    /// Frames since the broadcast began.
    frames: u64,
    /// Payload bytes since the broadcast began.
    bytes: u64,
    #[serde(flatten)]
    media: Media,
}

/// Properties of the kind of media.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Media {
    /// Video.
    Video {
        /// Width in luma samples.
        width: u32,
        /// Height in luma samples.
        height: u32,
        /// Frames a second as declared in the stream; null if not declared.
        #[schema(required)]
        frame_rate: Option<f64>,
    },
    /// Audio.
    Audio {
        /// Samples a second.
        sampling_rate_hz: u32,
        /// 0 if only the stream itself has the number.
        channels: u8,
    },
}

impl Stream {
    /// Describes a broadcast. `None` when it has ended.
    pub(crate) fn of(
        broadcast: &Broadcast,
        viewers: &dyn Viewers,
        renditions: &dyn Renditions,
    ) -> Option<Self> {
        let state = match broadcast.presence() {
            Presence::Live => State::Live,
            Presence::Away(_) => State::Away,
            // A broadcast may end between the listing and this call.
            Presence::Ended => return None,
        };
        let Health { key_interval, advice } = broadcast.health();
        Some(Self {
            channel: broadcast.name().to_string(),
            broadcast: broadcast.id().to_string(),
            state,
            draining: false,
            // Media time 0 lies `LEAD` before the first frame.
            started_at: rfc3339(broadcast.anchor().utc + Anchor::LEAD),
            keyframe_interval_s: key_interval.map(|interval| interval.as_secs_f64()),
            advice: advice.map(|advice| advice.to_string()),
            tracks: broadcast.tracks().into_iter().map(Track::of).collect(),
            renditions: renditions.of(broadcast.id()).into_iter().map(Rendition::new).collect(),
            viewers: viewers.count(broadcast.name(), broadcast.id()),
        })
    }
}

impl Track {
    /// Describes a track by its newest configuration.
    fn of(track: TrackInfo) -> Self {
        let media = match &*track.config {
            Config::Avc(avc) => {
                Media::Video { width: avc.width, height: avc.height, frame_rate: avc.frame_rate }
            }
            Config::Aac(aac) => {
                Media::Audio { sampling_rate_hz: aac.timescale.hz(), channels: aac.channels }
            }
        };
        Self {
            name: track.name.to_string(),
            rendition: track.rendition,
            codec: track.config.codec_string().to_owned(),
            bitrate_bps: track.bitrate_bps,
            frames: track.frames,
            bytes: track.bytes,
            media,
        }
    }
}

/// A time with milliseconds in UTC, for example `2026-01-31T20:15:00.000Z` (RFC 3339 5.6).
fn rfc3339(utc: SystemTime) -> String {
    humantime::format_rfc3339_millis(utc).to_string()
}
