//! The snapshot that is served: a broadcast's tracks and their segments, immutable, swapped at each
//! change. Playlists and manifests are functions of it. Plain data; `program` makes it, `renderer`
//! writes its texts.
//!
//! All times of a track are ticks of its timescale on the broadcast's timeline; media time zero is
//! `anchor_utc` on the wall clock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use media_core::{
    BroadcastId, ChannelName, MediaTime, Timescale, TrackName, codec::Config, settings::Latency,
};

use crate::{Period, Segment, Segments, rendered::Rendered, segments::Iter};

/// A snapshot of a broadcast.
#[derive(Debug)]
pub struct Presentation {
    /// Identity of the broadcast: `/media/{broadcast}/...`.
    pub broadcast: BroadcastId,
    /// The channel's name.
    pub channel: ChannelName,
    /// The wall clock at media time zero; one for the broadcast's life.
    pub anchor_utc: SystemTime,
    /// The broadcast has ended: EXT-X-ENDLIST, a static MPD.
    pub ended: bool,
    /// When it ended: the end of the last segment. [`MediaTime::ZERO`] while live.
    pub end: MediaTime,
    /// T: the segment duration aimed at.
    pub segment: Duration,
    /// The part duration aimed at (`live.part_ms`).
    pub part: Duration,
    /// How far playlists reach back.
    pub window: Duration,
    /// EXT-X-TARGETDURATION in seconds: the same in all playlists, for the broadcast's life.
    pub target_duration_s: u64,
    /// Whether texts list parts, or whole segments only.
    pub latency: Latency,
    /// PART-HOLD-BACK: three times the largest PART-TARGET, the same in all playlists.
    pub part_hold_back: Duration,
    /// The source's, video first, then renditions as they appear; the order never changes.
    pub tracks: Vec<Arc<Track>>,
    /// DASH periods of the segments held, oldest first.
    pub periods: Arc<[Period]>,
    /// Texts, each rendered by the first request that needs it.
    pub rendered: Rendered,
}

/// A track in a snapshot.
#[derive(Debug, Clone)]
pub struct Track {
    /// Its name: `/media/{broadcast}/{name}/...`, `{name}.m3u8`.
    pub name: TrackName,
    /// Made of the source by the ladder.
    pub rendition: bool,
    /// Its segments start at frames that are not independent, until its next discontinuity: a
    /// player that switches to it shows broken pictures.
    pub gridded: bool,
    /// Its clock, for the broadcast's life, even if the sampling rate changes.
    pub clock: Timescale,
    /// The configuration of the newest segment.
    pub config: Arc<Config>,
    /// PART-TARGET: fixed at the start. Whole milliseconds.
    pub part_target: Duration,
    /// Highest bit rate of any complete segment, and the mean over all segments since the start;
    /// both with container overhead, in bits a second (RFC 8216bis 4.4.6.2). 0 before the first
    /// segment is complete.
    pub peak_bps: u64,
    /// See `peak_bps`.
    pub average_bps: u64,
    /// Frames a second as measured, else as the configuration has it; `None` for audio.
    pub frame_rate: Option<f64>,
    /// Init segments that held segments refer to by [`Init::number`].
    pub inits: Vec<Arc<Init>>,
    /// Complete segments held, oldest first, numbered without holes. Not all of them are listed.
    pub segments: Segments,
    /// Index in `segments` of the first that playlists list; its length if none.
    pub listed_from: usize,
    /// How many of the newest are not listed: after the end, those without media
    /// (docs/decisions/0020).
    pub withdrawn: usize,
    /// How many of `segments` are not independent and not gaps.
    pub dependent: usize,
    /// The segment at the edge: its parts so far. `None` before the first segment and after the
    /// end.
    pub open: Option<Arc<Segment>>,
    /// EXT-X-DISCONTINUITY-SEQUENCE of the first listed segment.
    pub discontinuity_sequence: u64,
}

impl Track {
    /// Its clock.
    pub fn timescale(&self) -> Timescale {
        self.clock
    }

    /// Complete segments that playlists list.
    pub fn listed(&self) -> Iter<'_> {
        let to = self.segments.len().saturating_sub(self.withdrawn);
        self.segments.range(self.listed_from, to)
    }

    /// The segment with this number: complete and held, or the open one.
    pub fn segment(&self, msn: u64) -> Option<&Arc<Segment>> {
        let first = self.segments.first().or(self.open.as_ref())?.msn;
        // Numbers have no holes, so a segment's index follows from its number.
        let index = usize::try_from(msn.checked_sub(first)?).ok()?;
        self.segments.get(index).or(self.open.as_ref().filter(|open| open.msn == msn))
    }

    /// The newest segment, open or complete. `None` before the first.
    pub fn edge(&self) -> Option<LiveEdge> {
        let newest = self.open.as_ref().or(self.segments.last())?;
        Some(LiveEdge { msn: newest.msn, parts: newest.parts.len() })
    }

    /// Whether the newest complete segment is listed by its parts alone, until the next has a part;
    /// never the only one. hls.js may take a segment with an EXTINF for loaded without its last
    /// part (docs/decisions/0015).
    pub fn withholds_newest(&self) -> bool {
        // If the next segment has a part, players know by it that this one is complete.
        let begun = self.open.as_ref().is_none_or(|open| !open.parts.is_empty());
        let has_parts = self.segments.last().is_some_and(|newest| !newest.parts.is_empty());
        !begun && has_parts && self.listed().len() > 1
    }

    /// Whether segment `msn` is listed as complete, or part `part` (counted from 0) of an open
    /// segment is listed. A part past the last of a complete segment counts as part 0 of the next
    /// (RFC 8216bis 6.2.5.2).
    pub fn has(&self, msn: u64, part: Option<usize>) -> bool {
        let Some(LiveEdge { msn: newest, parts }) = self.edge() else {
            return false;
        };
        // Without an open segment the newest is complete, and so are all its parts.
        let open = self.open.is_some();
        match part {
            _ if msn > newest => false,
            _ if msn == newest && !open => true,
            None => msn < newest && !(msn + 1 == newest && self.withholds_newest()),
            Some(part) if msn == newest => part < parts,
            Some(part) if msn + 1 == newest && open => {
                let whole = self.segments.last().map_or(0, |last| last.parts.len());
                part < whole || parts > 0
            }
            Some(_) => true,
        }
    }

    /// The discontinuity sequence of a segment after the newest.
    pub fn discontinuities(&self) -> u64 {
        let segments = self.listed().chain(&self.open);
        self.discontinuity_sequence
            + segments.filter(|segment| segment.discontinuity).count() as u64
    }

    /// The codec string that covers all segments held: players read it once.
    pub fn codec_string(&self) -> String {
        let configs = self.inits.iter().map(|init| &*init.config);
        Config::covering(configs).unwrap_or_else(|| self.config.codec_string().to_owned())
    }

    /// The init segment with this number.
    pub fn init(&self, number: u32) -> Option<&Arc<Init>> {
        self.inits.iter().find(|init| init.number == number)
    }
}

/// The newest segment of a track, and the number of its parts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveEdge {
    /// Media sequence number of the newest segment, open or complete.
    pub msn: u64,
    /// How many parts it has so far.
    pub parts: usize,
}

/// A CMAF header: `/media/{broadcast}/{track}/init.{number}.mp4`.
#[derive(Debug)]
pub struct Init {
    /// Counted from 0 at the broadcast's start.
    pub number: u32,
    /// The configuration that it describes.
    pub config: Arc<Config>,
    /// `ftyp` and `moov`.
    pub bytes: Bytes,
}
