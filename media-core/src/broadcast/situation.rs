//! The state of a broadcast at a position of its log. It is computed from the events before that
//! position, so a reader needs only events.

use std::{sync::Arc, time::Duration};

use super::{Event, Presence};
use crate::{Timescale, TrackIndex, TrackName, codec::Config};

/// A track at a position of the log.
#[derive(Debug, Clone)]
pub struct TrackStart {
    /// Index in [`super::Broadcast::tracks`]. Tracks appear in the order of their indices.
    pub index: TrackIndex,
    /// Its name.
    pub name: TrackName,
    /// Whether the ladder made it here of the source.
    pub rendition: bool,
    /// The configuration of its next frames.
    pub config: Arc<Config>,
    /// Whether it has no frames at present: see [`Event::Absent`].
    pub absent: bool,
}

/// The rule by which the source is cut at present, see [`crate::cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRule {
    /// Whether segments start where players cannot: without a key frame, or at recovery points.
    pub gridded: bool,
    /// L in ticks of [`Timescale::VIDEO`].
    pub(super) longest: i64,
}

impl CutRule {
    /// The longest duration of a segment; final when the first segment has ended.
    pub fn longest_segment(&self) -> Duration {
        Timescale::VIDEO.duration(self.longest)
    }
}

/// The state of a broadcast at one position of its log.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The tracks that have appeared.
    pub tracks: Vec<TrackStart>,
    /// Whether a publisher is connected.
    pub presence: Presence,
    /// The cut rule.
    pub rule: CutRule,
    /// Number of announced renditions that have no track yet.
    pub awaited: usize,
}

impl Situation {
    /// The situation after `event`.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Track(begun) => self.tracks.push(begun.clone()),
            Event::Config { track, config } => {
                if let Some(track) = self.tracks.get_mut(track.get()) {
                    (track.config, track.absent) = (Arc::clone(config), false);
                }
            }
            Event::Absent { track } => {
                if let Some(track) = self.tracks.get_mut(track.get()) {
                    track.absent = true;
                }
            }
            Event::Presence(presence) => self.presence = *presence,
            Event::Rule(rule) => self.rule = *rule,
            Event::Awaited(awaited) => self.awaited = *awaited,
            Event::Frame { .. } | Event::Gap(_) | Event::GapUntil(_) | Event::Lagged { .. } => {}
        }
    }
}
