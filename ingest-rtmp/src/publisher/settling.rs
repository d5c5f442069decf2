//! A publisher before its broadcast: holds its access units until the list of tracks is settled.
//!
//! A broadcast starts when its list of tracks is settled. A track is in it once it has a frame at
//! which decoding can start: a sequence header alone promises nothing. The list is settled when
//! both tracks have such a frame; or when one has, onMetaData names no other, and no other sequence
//! header has arrived; or when one has, and 1.5 s of media (7 s while pictures arrive without such
//! a one), three times as long by the wall clock, or 4 MiB of frames have passed. A track that was
//! left out joins with its first such frame.

use std::time::Instant;

use media_core::{AccessUnit, hub::Claim};

use super::tracks::{Kind, Track, Tracks};
use crate::metrics::{Drop, Metrics};

/// Media time after which a broadcast starts with only one track, in milliseconds.
const SETTLE_MS: i64 = 1_500;
/// Media time after which a broadcast starts with only one track, in milliseconds, while pictures
/// arrive, but none yet at which decoding can start. A source without IDR pictures whose groups are
/// shorter than 3.5 s has its first start point within this time (`groups`).
const SETTLE_WITHOUT_KEY_MS: i64 = 7_000;
/// The wait by the wall clock is this many times the wait by media time: timestamps may stand
/// still, and media of a slow connection arrive late.
const SLOWEST: i64 = 3;
/// Maximum number of payload bytes held until the list of tracks is settled.
const HELD_BYTES: usize = 4 << 20;
/// Maximum number of frames held until the list of tracks is settled.
const HELD_FRAMES: usize = 2_048;

/// The state of a publisher whose list of tracks is not settled.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) claim: Claim,
    /// The tracks that onMetaData names, if it names one.
    pub(super) announced: Option<Announced>,
    /// From here the wait for the list of tracks counts.
    first: Option<First>,
    /// Whether pictures arrive, but none yet at which decoding can start.
    pub(super) awaits_key: bool,
    /// Whether the wait for another track is over.
    overdue: bool,
    pub(super) held: Vec<HeldUnit>,
    /// Payload bytes of `held`.
    held_bytes: usize,
}

/// Whether onMetaData names a codec of each kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced {
    pub(super) video: bool,
    pub(super) audio: bool,
}

/// The first frame, accepted or not.
#[derive(Debug, Clone, Copy)]
struct First {
    /// Timestamp on the publisher's clock.
    ms: i64,
    /// Arrival by the wall clock.
    arrived: Instant,
}

/// An access unit that waits for the broadcast.
#[derive(Debug)]
pub(super) struct HeldUnit {
    pub(super) kind: Kind,
    pub(super) unit: AccessUnit,
}

impl Settling {
    /// Of a publisher that has sent nothing yet.
    pub(super) fn new(claim: Claim) -> Self {
        Self {
            claim,
            announced: None,
            first: None,
            awaits_key: false,
            overdue: false,
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    /// Records that media up to `ms` have arrived, whether or not they were accepted.
    pub(super) fn note_passed(&mut self, ms: i64, now: Instant) {
        let first = *self.first.get_or_insert(First { ms, arrived: now });
        let since = i64::try_from(now.saturating_duration_since(first.arrived).as_millis())
            .unwrap_or(i64::MAX);
        // Three limits: memory, media time, and the wall clock for a publisher whose timestamps
        // stand still.
        let full = self.held_bytes >= HELD_BYTES || self.held.len() >= HELD_FRAMES;
        let limit = if self.awaits_key { SETTLE_WITHOUT_KEY_MS } else { SETTLE_MS };
        self.overdue |= full || ms.saturating_sub(first.ms) >= limit || since >= SLOWEST * limit;
    }

    /// Whether there is a track, and no other is awaited.
    pub(super) fn is_settled(&self, tracks: &Tracks) -> bool {
        // Without metadata either track may still arrive.
        let announced = self.announced.unwrap_or(Announced { video: true, audio: true });
        // A sequence header takes precedence over metadata that do not name its track.
        let waits = |track: &Option<Track>, announced| {
            track.as_ref().map_or(announced, |track| !track.shown)
        };
        let waits = waits(&tracks.video, announced.video) || waits(&tracks.audio, announced.audio);
        tracks.shown().next().is_some() && (self.overdue || !waits)
    }

    /// Holds an access unit: after all units of its track, and before those of the other track that
    /// are decoded later.
    ///
    /// The first picture waits for the next message of its track, and audio arrives in the
    /// meantime. Renditions of the audio start at the first unit after the picture's mark in the
    /// log, so that unit must not precede the mark there.
    pub(super) fn hold(&mut self, kind: Kind, unit: AccessUnit) {
        self.held_bytes += unit.payload.len();
        let before = |held: &HeldUnit| held.kind == kind || held.unit.dts < unit.dts;
        let at = self.held.iter().rposition(before).map_or(0, |last| last + 1);
        self.held.insert(at, HeldUnit { kind, unit });
    }

    /// Drops a track's held frames, because their configuration was replaced.
    pub(super) fn forget(&mut self, kind: Kind, metrics: &Metrics) {
        self.held.retain(|held| {
            // The frames cannot be decoded with another configuration.
            if held.kind == kind {
                self.held_bytes -= held.unit.payload.len();
                metrics.drop_frame(Drop::Replaced);
            }
            held.kind != kind
        });
    }

    /// Drops all held frames, because the broadcast will not begin.
    pub(super) fn drop_held(self, metrics: &Metrics) {
        self.held.iter().for_each(|_| metrics.drop_frame(Drop::NeverLive));
    }
}
