//! The state of a broadcast at a position of its log. It is computed from the events before that
//! position, so a reader needs only events.

use std::sync::Arc;

use super::event::{CutRule, Event, Presence, TrackStart};

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
