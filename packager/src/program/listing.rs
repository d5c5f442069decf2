//! Which tracks are shown, and the snapshots of them. Players read the list of tracks once: so the first snapshot waits for the renditions
//! that have been announced, and those that come later are added at its end.

use std::time::Duration;

use media_core::{Mark, Timescale};

use super::{Line, Past, Program};
use crate::{Presentation, period::Opening, rendered::Rendered};

/// How long the source waits for its renditions, at the least.
const LEAST_WAIT: Duration = Duration::from_secs(3);

/// What has been shown.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Indices of the lines shown, in the order in which they appeared.
    shown: Vec<usize>,
    /// How far the master had come when each of the source's tracks had a complete segment.
    whole: Option<i64>,
    /// The longest PART-TARGET, settled with the first snapshot.
    part_target: Option<Duration>,
}

impl Listing {
    /// No PART-TARGET is longer, once there is a snapshot.
    pub(super) fn part_target(&self) -> Option<Duration> {
        self.part_target
    }
}

impl Program {
    /// The snapshot to serve, if something has changed since the last; with the tracks of it that have. None before each track of the
    /// source has a complete segment, or while renditions are waited for.
    pub fn snapshot(&mut self) -> Option<(Presentation, Vec<usize>)> {
        self.list();
        self.count_memory();
        let shown = self.listing.shown.clone();
        let changed: Vec<_> = (0..shown.len())
            .filter(|&index| self.lines[shown[index]].dirty || self.ended)
            .collect();
        if changed.is_empty() {
            return None;
        }
        let tracks: Vec<_> = shown.iter().map(|&line| self.lines[line].snapshot()).collect();
        let segment = self.broadcast.segment();
        let master = &self.lines[self.master];
        let presentation = Presentation {
            broadcast: self.broadcast.id(),
            channel: self.broadcast.name().clone(),
            anchor_utc: self.broadcast.anchor().utc,
            ended: self.ended,
            end: if self.ended {
                master.to_video(master.window.end().unwrap_or(0))
            } else {
                0
            },
            segment,
            part: self.settings.part,
            window: self.settings.window,
            target_duration_s: self
                .broadcast
                .longest_segment()
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            part_hold_back: 3 * self.listing.part_target.unwrap_or_default(),
            rendered: Rendered::new(tracks.len()),
            tracks,
            periods: self.periods.snapshot(),
        };
        Some((presentation, changed))
    }

    /// Adds the tracks that can be shown by now.
    pub(super) fn list(&mut self) {
        let first = self.listing.shown.is_empty();
        let started = |line: &Line| line.window.has_started();
        if first {
            if !self.lines.iter().filter(|line| !line.late).all(started) {
                return;
            }
            let whole = *self.listing.whole.get_or_insert(self.reached);
            if self.awaits_renditions() && self.reached.saturating_sub(whole) < self.longest_wait() && !self.ended {
                return;
            }
        }
        for (index, line) in self.lines.iter().enumerate() {
            if started(line) && !self.listing.shown.contains(&index) {
                self.listing.shown.push(index);
            }
        }
        if first {
            let targets = self
                .listing
                .shown
                .iter()
                .map(|&line| self.lines[line].window.part_target());
            let longest = targets.max().unwrap_or_default();
            self.listing.part_target = Some(longest);
            for line in self.lines.iter_mut().filter(|line| !started(line)) {
                line.window.limit_parts(longest);
            }
            self.tell_periods();
        }
    }

    /// Whether there are renditions that have not come to anything yet.
    fn awaits_renditions(&self) -> bool {
        let unborn = self
            .lines
            .iter()
            .any(|line| line.rendition && !line.window.has_started());
        unborn || self.broadcast.awaits_renditions()
    }

    fn longest_wait(&self) -> i64 {
        Timescale::VIDEO.ticks((2 * self.broadcast.segment()).max(LEAST_WAIT))
    }

    /// The periods so far, of the tracks that are shown from the start. Nobody has been told of any before.
    fn tell_periods(&mut self) {
        let history: Vec<_> = self.history.iter().copied().collect();
        for (index, past) in history.iter().enumerate() {
            let inits: Vec<_> = self
                .listing
                .shown
                .iter()
                .map(|&line| self.lines[line].init_of(past.mark.msn))
                .collect();
            self.periods.open(&past.opening(&inits, false));
            if let Some(next) = history.get(index + 1) {
                self.periods.close(past.mark.msn, next.start - past.start);
            }
        }
    }

    /// The master has cut: a Period goes on or begins. `resumes`: before was a gap of the source's own, after which renditions are
    /// expected to be there as well.
    pub(super) fn open_period(&mut self, past: Past, resumes: bool) {
        let mut interrupted = false;
        for &line in &self.listing.shown {
            let line = &mut self.lines[line];
            interrupted |= line.take_interrupted() && !line.is_missing();
        }
        let expected = |line: &Line| match resumes || !line.is_missing() {
            true => line.init_of(past.mark.msn),
            false => None,
        };
        let inits: Vec<_> = self
            .listing
            .shown
            .iter()
            .map(|&line| expected(&self.lines[line]))
            .collect();
        if !inits.is_empty() {
            self.periods.open(&past.opening(&inits, interrupted));
        }
    }
}

impl Past {
    fn opening<'a>(&self, inits: &'a [Option<u32>], interrupted: bool) -> Opening<'a> {
        let Mark {
            msn,
            gap,
            discontinuity,
            ..
        } = self.mark;
        Opening {
            msn,
            start: self.start,
            gap: gap && !self.held,
            discontinuity,
            gridded: self.gridded,
            interrupted,
            inits,
        }
    }
}
