//! Reading a broadcast: a cursor in its log, a batch copied out under one lock, and the handling of
//! slow readers.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, MutexGuard},
};

use super::{
    event::{Event, Presence, TrackStart},
    log::{Entry, State},
    shared::Broadcast,
    situation::Situation,
};
use crate::TrackIndex;

/// Maximum number of entries that a subscriber copies under one lock. It holds copied entries even
/// after their removal from the log.
const BATCH: usize = 64;
/// Maximum number of payload bytes that a subscriber copies under one lock.
const BATCH_BYTES: usize = 1 << 20;

/// Reads a broadcast. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Consumer {
    broadcast: Arc<Broadcast>,
    /// Position of the next entry to read.
    next: u64,
    /// For each track, the position of its first wanted frame.
    starts: Vec<u64>,
    /// At the first position read.
    situation: Situation,
    /// Number of tracks that have appeared before `next`.
    known: usize,
    /// The track with the marks at the first position read.
    master: TrackIndex,
    /// Whether renditions are read too, or only the source's tracks.
    renditions: bool,
    batch: VecDeque<Event>,
}

impl Broadcast {
    /// A subscriber of all tracks that starts at the oldest entry, for readers that must not miss
    /// any.
    pub fn subscribe_from_oldest(self: &Arc<Self>) -> Consumer {
        let state = self.lock();
        let next = state.front;
        self.consumer(state, next, true).with_older_groups()
    }

    /// A subscriber of the source's tracks only, which starts at the newest group of each.
    pub fn subscribe(self: &Arc<Self>) -> Consumer {
        let state = self.lock();
        let next = state.newest_groups(false);
        self.consumer(state, next, false)
    }

    fn consumer(
        self: &Arc<Self>,
        state: MutexGuard<'_, State>,
        next: u64,
        renditions: bool,
    ) -> Consumer {
        // All of them are read under one lock, so that they describe the same position.
        let starts = state.starts(next);
        let situation = state.situation_at(next);
        let master = state.master_at(next, situation.tracks.len());
        drop(state);
        Consumer::new(Arc::clone(self), next, starts, situation, master, renditions)
    }
}

impl Consumer {
    fn new(
        broadcast: Arc<Broadcast>,
        next: u64,
        starts: Vec<u64>,
        mut situation: Situation,
        master: TrackIndex,
        renditions: bool,
    ) -> Self {
        // Tracks that are not read count too, because a track's index is its position among all.
        let known = situation.tracks.len();
        situation.tracks.retain(|track| renditions || !track.rendition);
        Self {
            broadcast,
            next,
            starts,
            situation,
            known,
            master,
            renditions,
            batch: VecDeque::with_capacity(BATCH),
        }
    }

    /// The same subscriber, without skipping older groups.
    fn with_older_groups(mut self) -> Self {
        self.starts.fill(self.next);
        self
    }

    /// The broadcast it reads.
    pub fn broadcast(&self) -> &Arc<Broadcast> {
        &self.broadcast
    }

    /// The situation at the first position read, with the tracks that are read. Events change it.
    pub fn situation(&self) -> &Situation {
        &self.situation
    }

    /// The tracks at the first position read; later ones are [`Event::Track`].
    pub fn tracks(&self) -> &[TrackStart] {
        &self.situation.tracks
    }

    /// Index of the track with the marks at the first position read. A video track that was added
    /// later replaces it with its first frame that has a mark.
    pub fn master(&self) -> TrackIndex {
        self.master
    }

    /// Waits for the next event; `None` when the broadcast has ended and everything was read.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let broadcast = Arc::clone(&self.broadcast);
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            // Registered before the log is read, so that no event between the two is missed.
            let mut changed = pin!(broadcast.changed.notified());
            changed.as_mut().enable();
            match self.fill() {
                Filled::Some => {}
                Filled::Nothing => changed.await,
                Filled::Ended => return None,
            }
        }
    }

    /// The next event, if there is one.
    pub fn try_next(&mut self) -> Option<Event> {
        if self.batch.is_empty() {
            self.fill();
        }
        self.batch.pop_front()
    }

    /// Skips to the newest groups, as a lagging reader does; does nothing if it is there already.
    /// For readers that know that they are behind before the log drops their entries.
    pub fn skip_to_newest(&mut self) {
        let broadcast = Arc::clone(&self.broadcast);
        let state = broadcast.lock();
        if state.newest_groups(self.renditions) > self.next {
            // Copied frames are older still.
            self.batch.retain(|event| !matches!(event, Event::Frame { .. }));
            self.skip(&state);
        }
    }

    /// Whether events of this track are wanted.
    fn reads(&self, state: &State, track: TrackIndex) -> bool {
        self.renditions || state.tracks[track.get()].source
    }

    /// Continues at the newest groups.
    fn skip(&mut self, state: &State) {
        let resume = state.newest_groups(self.renditions);
        // The entries before the front are gone, and their kinds with them: each is counted as a
        // frame.
        let from = self.next.max(state.front);
        let (offset, skipped) = (span(state.front, from), span(from, resume));
        let is_frame = |entry: &&Entry| matches!(entry.event, Event::Frame { .. });
        let entries = || state.log.iter().skip(offset).take(skipped);
        let bytes = entries().map(|entry| entry.bytes as u64).sum();
        let frames = entries().filter(is_frame).count() as u64 + (from - self.next);
        self.batch.push_back(Event::Lagged { frames, bytes });
        self.starts = state.starts(resume);
        // All that the skipped entries may have declared is declared again.
        let Situation { tracks, presence, rule, awaited } = state.situation_at(resume);
        // Tracks that this reader knows are configured again. Others appear to it only now.
        let known = std::mem::replace(&mut self.known, tracks.len());
        for begun in tracks {
            let TrackStart { index: track, absent, .. } = begun;
            if !self.reads(state, track) {
                continue;
            }
            self.batch.push_back(match begun {
                TrackStart { config, .. } if track.get() < known => Event::Config { track, config },
                begun => Event::Track(begun),
            });
            if absent {
                self.batch.push_back(Event::Absent { track });
            }
        }
        self.batch.push_back(Event::Presence(presence));
        self.batch.push_back(Event::Rule(rule));
        self.batch.push_back(Event::Awaited(awaited));
        self.next = resume;
    }

    /// Copies at most a batch out of the log. The lock covers only this.
    fn fill(&mut self) -> Filled {
        let broadcast = Arc::clone(&self.broadcast);
        let state = broadcast.lock();
        if self.next < state.front {
            self.skip(&state);
        }
        let (offset, mut bytes) = (span(state.front, self.next), 0);
        // The copy is bounded, because publishers wait for the lock meanwhile.
        for entry in state.log.iter().skip(offset).take(BATCH) {
            if bytes >= BATCH_BYTES {
                break;
            }
            // Other entries are passed without a copy, so that renditions cost a reader of the
            // source nothing. Each position is counted, because positions are the log's.
            let wanted = match &entry.event {
                Event::Frame { track, .. } => {
                    // A track that appeared later is wanted from its first frame on.
                    self.reads(&state, *track)
                        && self.starts.get(track.get()).is_none_or(|start| self.next >= *start)
                }
                Event::Track(TrackStart { index: track, .. }) => {
                    self.known = track.get() + 1;
                    self.reads(&state, *track)
                }
                Event::Config { track, .. } | Event::Absent { track } => self.reads(&state, *track),
                Event::Gap(_)
                | Event::GapUntil(_)
                | Event::Presence(_)
                | Event::Rule(_)
                | Event::Lagged { .. } => true,
                Event::Awaited(_) => self.renditions,
            };
            if wanted {
                bytes += entry.bytes;
                self.batch.push_back(entry.event.clone());
            }
            self.next += 1;
        }
        // The reader sleeps after `Nothing`, so only a reader at the end of the log gets it.
        match (self.batch.is_empty(), state.presence) {
            (false, _) => Filled::Some,
            (true, _) if self.next < state.end() => Filled::Some,
            // A reader of renditions waits for the ends of those that are still being made.
            (true, Presence::Ended) if state.attached == 0 || !self.renditions => Filled::Ended,
            (true, _) => Filled::Nothing,
        }
    }
}

/// Number of entries between two positions.
fn span(from: u64, to: u64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX)
}

enum Filled {
    Some,
    Nothing,
    Ended,
}
