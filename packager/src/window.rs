//! The segments of one track: those that are listed, those held after that for players that saw
//! them listed, and the rates measured over them (`rates`). Its [`Window::snapshot`] is the track
//! as it is served.
//!
//! A segment is held for its duration and the longest playlist that listed it after it has left the
//! list (RFC 8216bis 6.2.2).

use std::{sync::Arc, time::Duration};

use media_core::{Ticks, Timescale, TrackName, codec::Config};

use crate::{Init, Segment, Segments, Track, fragment, segmenter};

mod rates;

use rates::{Bits, frame_rate};

/// Memory of an init segment beside its bytes: its configuration and bookkeeping.
const INIT_BYTES: usize = 1_024;

/// One track's segments.
#[derive(Debug)]
pub(crate) struct Window {
    track: Track,
    /// How far behind the edge a segment is listed, and how far it is held.
    listed: Ticks,
    held: Ticks,
    bits: Bits,
    /// Memory that the segments take, and that the init segments take.
    bytes: usize,
    init_bytes: usize,
    /// The longest PART-TARGET that is allowed; `None`: any.
    most: Option<Duration>,
    /// The frame rate is to be measured in the next segment without gaps.
    rate_is_due: bool,
}

impl Window {
    /// The window of a track whose first segment has this discontinuity sequence; playlists reach
    /// back `window`.
    pub(crate) fn new(
        name: TrackName,
        config: Arc<Config>,
        rendition: bool,
        discontinuity: u64,
        part: Duration,
        window: Duration,
    ) -> Self {
        let timescale = config.timescale();
        let listed = Ticks::from_duration(window, timescale);
        let init = Arc::new(Init {
            number: 0,
            bytes: fragment::header(&config, timescale),
            config: Arc::clone(&config),
        });
        let init_bytes = INIT_BYTES + init.bytes.len();
        let track = Track {
            name,
            rendition,
            gridded: false,
            clock: timescale,
            part_target: match &*config {
                Config::Avc(avc) if rendition => {
                    segmenter::part_target_within(part, avc.frame_rate)
                }
                _ => segmenter::part_target(part),
            },
            peak_bps: 0,
            average_bps: 0,
            frame_rate: None,
            inits: vec![init],
            segments: Segments::default(),
            listed_from: 0,
            withdrawn: 0,
            dependent: 0,
            open: None,
            discontinuity_sequence: discontinuity,
            config,
        };
        Self {
            track,
            listed,
            held: listed * 2,
            bits: Bits::default(),
            bytes: 0,
            init_bytes,
            most: None,
            rate_is_due: true,
        }
    }

    /// The track as it is now, with `open` at the edge.
    pub(crate) fn snapshot(&self, open: Option<&Segment>) -> Track {
        Track { open: open.map(|open| Arc::new(open.clone())), ..self.track.clone() }
    }

    /// Playlists reach back `window` from now on.
    pub(crate) fn reach_back(&mut self, window: Duration) {
        self.listed = Ticks::from_duration(window, self.timescale());
        self.held = self.listed * 2;
    }

    /// Sets the discontinuity sequence of the first segment, which has not been added yet.
    pub(crate) fn begin(&mut self, discontinuity: u64) {
        self.track.discontinuity_sequence = discontinuity;
    }

    /// Limits PART-TARGET, which the first segment settles.
    pub(crate) fn limit_parts(&mut self, target: Duration) {
        self.most = Some(target);
    }

    /// Whether segments from now on start at frames that are not independent.
    pub(crate) fn set_gridded(&mut self, gridded: bool) {
        self.track.gridded = gridded;
    }

    /// Whether the ladder made the track from the source.
    pub(crate) fn is_rendition(&self) -> bool {
        self.track.rendition
    }

    /// The track's clock.
    pub(crate) fn timescale(&self) -> Timescale {
        self.track.clock
    }

    /// Number of the newest init segment.
    pub(crate) fn init(&self) -> u32 {
        self.track.inits.last().map_or(0, |init| init.number)
    }

    /// The configuration of the newest init segment.
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.track.config
    }

    /// Whether any segment is complete.
    pub(crate) fn has_started(&self) -> bool {
        !self.track.segments.is_empty()
    }

    /// PART-TARGET.
    pub(crate) fn part_target(&self) -> Duration {
        self.track.part_target
    }

    /// Where the newest complete segment ends.
    pub(crate) fn end(&self) -> Option<Ticks> {
        self.track.segments.last().map(|segment| segment.end())
    }

    /// Number of the newest complete segment.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.track.segments.last().map(|segment| segment.msn)
    }

    /// Number of the newest segment that has any media.
    pub(crate) fn last_media(&self) -> Option<u64> {
        let mut newest_first = self.track.segments.iter().rev();
        newest_first.find(|segment| !segment.is_void()).map(|segment| segment.msn)
    }

    /// Number of the oldest segment held.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.track.segments.first().map(|segment| segment.msn)
    }

    /// The complete segment `msn`, if it is held.
    pub(crate) fn segment(&self, msn: u64) -> Option<&Arc<Segment>> {
        let index = msn.checked_sub(self.oldest()?)?;
        self.track.segments.get(usize::try_from(index).ok()?)
    }

    /// Segments from the next on need another init segment, which has this number.
    pub(crate) fn configure(&mut self, number: u32, config: Arc<Config>) {
        // No segment needs the init segments that were planned before the first one.
        if !self.has_started() {
            self.track.inits.clear();
        }
        self.track.inits.push(Arc::new(Init {
            number,
            bytes: fragment::header(&config, self.track.clock),
            config: Arc::clone(&config),
        }));
        self.track.config = config;
        self.rate_is_due = true;
        self.count_inits();
    }

    /// Highest bit rate of any segment, stills left out.
    pub(crate) fn peak_bps(&self) -> u64 {
        self.track.peak_bps
    }

    /// Memory that is taken: segments and init segments.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.init_bytes
    }

    /// Adds the next complete segment, and drops segments that need not be held any more.
    pub(crate) fn push(&mut self, segment: Segment) {
        // Playlists state PART-TARGET from the first segment on, so no later one can change it.
        if !self.has_started() {
            self.measure(&segment);
        }
        if self.rate_is_due && !segment.gap && segment.still.is_none() {
            self.measure_rate(&segment);
        }
        self.bits.add(&segment, &mut self.track);
        let edge = segment.end();
        // A still picture that continues from the segment before is held once, so it is counted
        // once.
        let newest = self.track.segments.last();
        let shared = newest.map_or(0, |newest| segment.bytes_shared_with(newest));
        self.bytes += segment.held_bytes() - shared;
        self.track.dependent += usize::from(is_dependent(&segment));
        self.track.segments.push(Arc::new(segment));
        // A segment may be requested for the length of the longest playlist that listed it, and its
        // own duration (6.2.2).
        let (held, listed) = (self.held, self.listed);
        while self.oldest_is(|old| edge - old.end() > held + old.duration) {
            self.let_go();
        }
        // A discontinuity that leaves the list is counted in EXT-X-DISCONTINUITY-SEQUENCE.
        while let Some(old) = self.track.segments.get(self.track.listed_from)
            && edge - old.end() >= listed
        {
            self.track.discontinuity_sequence += u64::from(old.discontinuity);
            self.track.listed_from += 1;
        }
        self.forget_inits();
    }

    /// Drops segment `msn` if it is the oldest held and not the only one. Returns whether it was
    /// still listed; `None` if it was not dropped.
    pub(crate) fn give_up(&mut self, msn: u64) -> Option<bool> {
        if self.track.segments.len() < 2 || !self.oldest_is(|old| old.msn == msn) {
            return None;
        }
        let listed = self.let_go();
        self.forget_inits();
        Some(listed)
    }

    /// Whether at least `least` stays listed without segment `msn`.
    pub(crate) fn can_spare(&self, msn: u64, least: Duration) -> bool {
        if self.track.listed_from > 0 || !self.oldest_is(|old| old.msn == msn) {
            return true;
        }
        // The list would begin with the second segment.
        let (second, end) = (self.track.segments.get(1), self.end());
        let rest = second.zip(end).map_or(Ticks::ZERO, |(second, end)| end - second.start);
        rest >= Ticks::from_duration(least, self.timescale())
    }

    /// Ends the list with the last media, because nothing follows. Gap segments leave it after
    /// segment `last`, the last that has media in any track of this kind. Gap segments of this
    /// track before that leave it too, if they last less than `patience`. Gap parts at the end of
    /// the last segment are cut off if the segment is newer than `listed`; otherwise the segment
    /// leaves, because a listed segment never changes.
    pub(crate) fn withdraw_gaps(&mut self, last: u64, patience: Duration, listed: Option<u64>) {
        let segments = &self.track.segments;
        let void = segments.iter().rev().take_while(|segment| segment.is_void());
        let void = void.count();
        // The list may end with gaps of the track itself, or of all tracks of its kind.
        let own = segments.len() - void;
        if own <= self.track.listed_from {
            return; // All that is listed is a gap.
        }
        let of_all = segments.partition_point(|segment| segment.msn <= last).max(own);
        let start = segments.get(own).map_or(Ticks::ZERO, |segment| segment.start);
        let missing = segments.get(of_all.saturating_sub(1));
        let missing = missing.map_or(Ticks::ZERO, |newest| newest.end() - start);
        let keep = match missing < Ticks::from_duration(patience, self.timescale()) {
            true => own,
            false => of_all,
        };
        // A list never changes a segment that it has: gap parts that were listed leave with their
        // segment, and others are cut off.
        let newest = segments.get(own - 1);
        let ends_in_gap = |newest: &Arc<Segment>| newest.parts.last().is_some_and(|part| part.gap);
        let was_listed =
            newest.is_some_and(|newest| ends_in_gap(newest) && Some(newest.msn) <= listed);
        let leaves = usize::from(keep == own && was_listed && own - 1 > self.track.listed_from);
        self.track.withdrawn = segments.len() - keep + leaves;
        if keep == own && !was_listed {
            self.shorten(own - 1);
        }
    }

    /// Cuts off the gap parts at the end of the segment at `index`.
    fn shorten(&mut self, index: usize) {
        let segments = &self.track.segments;
        // Snapshots share the segments, so the shorter one is a copy in another sequence.
        let media = |segment: &Segment| segment.parts.iter().rposition(|part| !part.gap);
        let Some((segment, last)) =
            segments.get(index).and_then(|old| Some((old, media(old)? + 1)))
        else {
            return;
        };
        if last == segment.parts.len() {
            return;
        }
        let mut shorter = (**segment).clone();
        let gaps: Ticks = shorter.parts.drain(last..).map(|part| part.duration).sum();
        shorter.duration -= gaps;
        shorter.gap = shorter.parts.iter().any(|part| part.gap);
        let after = segments.iter().skip(index + 1).cloned();
        let shorter = std::iter::once(Arc::new(shorter));
        self.track.segments =
            segments.range(0, index).cloned().chain(shorter).chain(after).collect();
    }

    fn oldest_is(&self, so: impl FnOnce(&Segment) -> bool) -> bool {
        self.track.segments.first().is_some_and(|oldest| so(oldest))
    }

    /// Drops the oldest segment. Returns whether it was still listed.
    fn let_go(&mut self) -> bool {
        let Some(oldest) = self.track.segments.pop_front() else {
            return false;
        };
        // The picture that it shares with the next segment stays in memory.
        let next = self.track.segments.first();
        let shared = next.map_or(0, |next| oldest.bytes_shared_with(next));
        self.bytes = self.bytes.saturating_sub(oldest.held_bytes() - shared);
        self.track.dependent -= usize::from(is_dependent(&oldest));
        // The list begins with the oldest segment held, or with one after it.
        let listed = self.track.listed_from == 0;
        if listed {
            self.track.discontinuity_sequence += u64::from(oldest.discontinuity);
        }
        self.track.listed_from = self.track.listed_from.saturating_sub(1);
        listed
    }

    /// Forgets the init segments that no held segment needs.
    fn forget_inits(&mut self) {
        let oldest = self.track.segments.first().map_or(0, |oldest| oldest.init);
        let count = self.track.inits.len();
        self.track.inits.retain(|init| init.number >= oldest);
        if self.track.inits.len() < count {
            self.count_inits();
        }
    }

    fn count_inits(&mut self) {
        let inits = self.track.inits.iter();
        self.init_bytes = inits.map(|init| INIT_BYTES + init.bytes.len()).sum();
    }

    /// Settles PART-TARGET by the parts of the first segment.
    fn measure(&mut self, first: &Segment) {
        let timescale = self.track.timescale();
        // PART-TARGET stays for the broadcast's life, so a part that late frames made longer than
        // the others must not settle it.
        let mut durations: Vec<_> =
            first.parts.iter().filter(|part| !part.gap).map(|part| part.duration).collect();
        durations.sort_unstable();
        // Parts that are more than an eighth longer than the median one do not count.
        let usual = durations.get(durations.len() / 2).copied().unwrap_or_default();
        let longest = durations
            .into_iter()
            .filter(|duration| (*duration - usual) * 8 <= usual)
            .max()
            .unwrap_or_default()
            .duration(timescale);
        if longest > self.track.part_target {
            self.track.part_target = Duration::from_millis(
                u64::try_from(longest.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
            );
        }
        if let Some(most) = self.most {
            self.track.part_target = self.track.part_target.min(most);
        }
    }

    /// Measures the frame rate over the first segment of a configuration.
    fn measure_rate(&mut self, first: &Segment) {
        self.rate_is_due = false;
        if let Config::Avc(avc) = &*self.track.config {
            // The boxes of a part are one piece, and each of its frames is another.
            let frames = first
                .parts
                .iter()
                .map(|part| part.bytes.pieces().count().saturating_sub(1))
                .sum::<usize>();
            let seconds = first.duration.seconds(self.track.clock);
            let measured = if seconds > 0.0 { frames as f64 / seconds } else { 0.0 };
            self.track.frame_rate = frame_rate(measured, avc.frame_rate);
        }
    }
}

/// Whether players cannot start with it, although it has media.
fn is_dependent(segment: &Segment) -> bool {
    !segment.independent && !segment.gap
}

#[cfg(test)]
mod tests;
