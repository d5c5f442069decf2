//! The output of a track, the same for all kinds: its segmenter, its window, and the init segments
//! that its segments need. The kind of track (`source`, `audio`, `follower`) decides where a
//! segment starts and which samples it gets.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use media_core::{Anchor, Frame, Mark, MediaSpan, MediaTime, Ticks, codec::Config};
use net_core::Rope;

use super::cut::{Cut, PendingCut};
use crate::{
    Segment, metrics::Metrics, presentation, sample::Sample, segmenter::Segmenter, sets::Sets,
    window::Window,
};

/// Bit rate that a still picture, which is sent once in each part, may have on any track, even if
/// the track's peak is lower: twice that of a good 1080p broadcast.
const MAX_STILL_BPS: u64 = 20_000_000;

/// Turns the samples of one track into segments.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) segmenter: Segmenter,
    pub(crate) window: Window,
    /// Configuration of the frames that arrive now. The window's is that of the open segment.
    pub(crate) config: Arc<Config>,
    /// The ladder made this track from the source.
    pub(crate) rendition: bool,
    /// The track appeared after the broadcast had begun: it is listed from its first whole segment
    /// on.
    pub(crate) late: bool,
    /// The init segment that the segment at the newest cut needs.
    plan: Plan,
    /// Parameter sets in front of the key frames of the next segment: none while the first init
    /// segment is the only one.
    sets: Sets,
    /// The independent frame at the start of the newest group or segment of video, if the newest
    /// init segment is its own.
    still: Option<Bytes>,
    /// Media of a segment were found to be missing after the master's newest cut.
    pub(super) interrupted: bool,
    /// Parts or segments were added after the newest snapshot.
    pub(crate) dirty: bool,
    snapshot: Option<Arc<presentation::Track>>,
}

/// An init segment whose number is announced. `config` is `None` until a segment that needs it
/// starts.
#[derive(Debug, Clone)]
struct Plan {
    number: u32,
    config: Option<Arc<Config>>,
}

/// An init segment whose number is announced, for a known configuration.
#[derive(Debug, Clone)]
pub(super) struct PlannedInit {
    pub(super) number: u32,
    pub(super) config: Arc<Config>,
}

impl Output {
    /// An output without segments. `rendition` and `late` as in the fields of these names; `part`
    /// is the part duration aimed at.
    pub(super) fn new(
        window: Window,
        config: Arc<Config>,
        anchor: Anchor,
        part: Duration,
        rendition: bool,
        late: bool,
    ) -> Self {
        let mut segmenter = Segmenter::new(window.timescale(), anchor, part);
        if late {
            // PART-HOLD-BACK is settled for all tracks by then.
            segmenter.limit_parts(window.part_target());
        }
        let plan = Plan { number: window.init(), config: Some(Arc::clone(&config)) };
        Self {
            segmenter,
            window,
            config,
            rendition,
            late,
            plan,
            sets: Sets::default(),
            still: None,
            interrupted: false,
            dirty: true,
            snapshot: None,
        }
    }

    // Clocks.

    /// A duration on the track's clock as a distance between media times.
    pub(crate) fn span(&self, duration: Ticks) -> MediaSpan {
        duration.span(self.window.timescale())
    }

    /// The media time of an instant on the track's clock.
    pub(crate) fn media_time(&self, at: Ticks) -> MediaTime {
        at.media_time(self.window.timescale())
    }

    /// A media time on the track's clock.
    pub(crate) fn in_ticks(&self, time: MediaTime) -> Ticks {
        Ticks::of(time, self.window.timescale())
    }

    /// Converts a frame of the hub to the track's clock. The hub's times are ticks of the frame's
    /// own configuration, whose sampling rate may differ from the track's first.
    pub(crate) fn on_clock(&self, frame: Frame) -> Frame {
        let (from, to) = (self.config.timescale(), self.window.timescale());
        Frame { dts: frame.dts.rescale(from, to), pts: frame.pts.rescale(from, to), ..frame }
    }

    // Samples and segments.

    /// Whether a segment is open that takes media: not a gap.
    pub(super) fn is_in_media(&self) -> bool {
        self.segmenter.open().is_some_and(|open| !open.gap)
    }

    /// Whether a track that appeared late has not started its first segment yet.
    pub(super) fn is_joining(&self) -> bool {
        self.late && self.segmenter.open().is_none()
    }

    /// Appends a sample to the open segment.
    pub(super) fn push(&mut self, sample: Sample, metrics: &Metrics) {
        let parts = self.segmenter.push(sample);
        self.count_parts(parts, metrics);
    }

    /// Appends the parts that the clock makes in the open segment, a gap or a still picture, up to
    /// `until`.
    pub(super) fn push_gaps(&mut self, until: MediaTime) {
        // Rounded down, because frames resume at `until` or later.
        let until = self.in_ticks(until) - Ticks::ONE;
        self.dirty |= self.segmenter.push_gaps(until) > 0;
    }

    /// The rest of the open segment will be gap parts.
    pub(super) fn interrupt(&mut self, metrics: &Metrics) {
        self.interrupted = true;
        let parts = self.segmenter.interrupt();
        self.count_parts(parts, metrics);
    }

    fn count_parts(&mut self, parts: usize, metrics: &Metrics) {
        if parts > 0 {
            metrics.parts.inc_by(parts as u64);
            self.dirty = true;
        }
    }

    /// Closes the open segment, if there is one, into the window. `end` is the end of a gap;
    /// media end with their last sample.
    pub(super) fn close(&mut self, end: Ticks, metrics: &Metrics) {
        let Some(segment) = self.segmenter.close(end) else {
            return;
        };
        if self.late && segment.gap && !self.window.has_started() {
            return; // The track appears with its first whole segment.
        }
        metrics.segments.inc();
        metrics.gaps.inc_by(u64::from(segment.gap));
        metrics.bytes.inc_by(segment.bytes.len() as u64);
        self.window.push(segment);
        self.segmenter.limit_parts(self.window.part_target());
        self.dirty = true;
    }

    /// Opens a segment at `at`.
    pub(super) fn start(&mut self, mark: Mark, at: Ticks, independent: bool) {
        // A gap may have been listed past `at`, by the rounding of another timescale. It stays, and
        // the segment starts after it.
        let at = self.window.end().map_or(at, |end| at.max(end));
        let segment = Segment {
            msn: mark.msn,
            start: at,
            duration: Ticks::ZERO,
            init: self.window.init(),
            discontinuity: mark.discontinuity,
            gap: mark.gap,
            independent,
            still: None,
            parts: Vec::new(),
            bytes: Rope::default(),
        };
        self.segmenter.start(segment, self.sets.clone());
        self.dirty = true;
    }

    /// Closes the open segment at the end of the broadcast. A gap ends with its last part, because
    /// the clock that makes its parts has stopped.
    pub(super) fn finish(&mut self, metrics: &Metrics) {
        // A gap without a part was never listed.
        self.segmenter.discard_empty_gap();
        self.dirty = true;
        let end = self.segmenter.open().map_or(Ticks::ZERO, Segment::end);
        self.close(end, metrics);
    }

    // Still pictures.

    /// Keeps `frame`, which starts a group or a segment, as the picture to show if frames stop.
    /// Keeps none if the frame depends on others.
    pub(super) fn keep_still(&mut self, frame: &Frame) {
        self.still = frame.independent.then(|| frame.payload.clone());
    }

    /// The picture to show while no frames arrive. `None` if there is none, or if its bit rate
    /// exceeds both the track's peak and [`MAX_STILL_BPS`].
    pub(super) fn still_to_show(&self) -> Option<Bytes> {
        let most = self.window.peak_bps().max(MAX_STILL_BPS);
        let still = self.still.as_ref();
        still.filter(|still| self.segmenter.still_bps(still) <= most).cloned()
    }

    // Init segments.

    /// Whether the frames that arrive now need another init segment than the open segment has.
    pub(crate) fn awaits_init(&self) -> bool {
        !Arc::ptr_eq(&self.config, self.window.config())
    }

    /// Whether the frames that arrive now need another init segment than is planned. Never true of
    /// a rendition, which gets a new one at the source's discontinuities.
    pub(crate) fn wants_init(&self) -> bool {
        let planned = self.plan.config.as_ref();
        !self.rendition && planned.is_some_and(|planned| !Arc::ptr_eq(planned, &self.config))
    }

    /// Plans the init segment of the segment at the next cut. `anew`: the configuration may change
    /// there.
    ///
    /// Numbers are published before a rendition's frames arrive. So a rendition gets a new init
    /// segment at each discontinuity, which describes the configuration that is known when the
    /// segment starts. Elsewhere it gets a new one if its configuration is known to have changed.
    pub(super) fn plan_init(&mut self, cut: Cut) -> PendingCut {
        let Plan { number, config } = self.plan(cut.mark.discontinuity);
        PendingCut { cut, init: *number, config: config.clone() }
    }

    fn plan(&mut self, anew: bool) -> &Plan {
        let changed = self.plan.config.as_ref();
        let changed = changed.is_some_and(|config| !Arc::ptr_eq(config, &self.config));
        // The next configuration of a rendition may arrive after its number is published, so that
        // init segment is described later.
        if self.rendition && anew {
            self.plan = Plan { number: self.plan.number + 1, config: None };
        } else if changed && (self.rendition || anew) {
            self.plan =
                Plan { number: self.plan.number + 1, config: Some(Arc::clone(&self.config)) };
        }
        &self.plan
    }

    /// Makes the init segment that the segment at `pending` needs, unless it exists. Returns
    /// whether it made one.
    pub(super) fn bind_init(&mut self, pending: &PendingCut) -> bool {
        // Most segments need the newest init segment.
        if pending.init == self.window.init() {
            return false;
        }
        let config = Arc::clone(pending.config.as_ref().unwrap_or(&self.config));
        if self.plan.number == pending.init {
            self.plan.config = Some(Arc::clone(&config));
        }
        self.change_init(pending.init, config);
        true
    }

    /// Makes a new init segment for the segment that the master starts, if the configuration has
    /// changed and `anew` allows it. Returns whether it made one.
    pub(super) fn renew_init(&mut self, anew: bool) -> bool {
        let Plan { number, config } = self.plan(anew).clone();
        let Some(config) = config.filter(|_| number != self.window.init()) else {
            return false;
        };
        self.change_init(number, config);
        true
    }

    /// Plans a new init segment, for the configuration that is known now, in place of the newest.
    /// `None` if one is planned already.
    pub(super) fn replace_init(&mut self) -> Option<PlannedInit> {
        if self.plan.number != self.window.init() {
            return None;
        }
        let config = Arc::clone(&self.config);
        self.plan = Plan { number: self.plan.number + 1, config: Some(Arc::clone(&config)) };
        Some(PlannedInit { number: self.plan.number, config })
    }

    fn change_init(&mut self, number: u32, config: Arc<Config>) {
        // A decoder with the new init segment cannot decode the picture of the old one.
        if !Arc::ptr_eq(&config, self.window.config()) {
            self.still = None;
        }
        self.sets = Sets::of(&config);
        self.window.configure(number, config);
    }

    // Snapshots.

    /// Segment `msn`, complete or open.
    pub(super) fn segment(&self, msn: u64) -> Option<&Segment> {
        // Complete segments are found by their number, without a search.
        let complete = self.window.segment(msn).map(|segment| &**segment);
        complete.or(self.segmenter.open().filter(|open| open.msn == msn))
    }

    /// Memory in use: complete segments and the open one.
    pub(super) fn bytes(&self) -> usize {
        self.window.bytes() + self.segmenter.bytes()
    }

    /// The track as it is served; the same snapshot again while nothing has changed.
    pub(super) fn snapshot(&mut self) -> Arc<presentation::Track> {
        match &self.snapshot {
            Some(snapshot) if !self.dirty => Arc::clone(snapshot),
            _ => {
                let track = Arc::new(self.window.snapshot(self.segmenter.open()));
                self.snapshot = Some(Arc::clone(&track));
                self.dirty = false;
                track
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{T, cut, frame, mark, output, segments, video},
        *,
    };

    #[test]
    fn a_rendition_plans_an_init_segment_at_each_discontinuity_and_the_source_only_when_needed() {
        let config = video();
        let discontinuity = |msn| cut(Mark { discontinuity: true, ..mark(msn, 0) });
        let (mut source, mut rendition) =
            (output(&config, false, false), output(&config, true, true));
        let plan = |output: &mut Output, cut| {
            let pending = output.plan_init(cut);
            (pending.init, pending.config.is_some())
        };
        assert_eq!(plan(&mut source, discontinuity(0)), (0, true));
        assert_eq!(plan(&mut rendition, discontinuity(0)), (1, false));
        (source.config, rendition.config) = (video(), video());
        // Elsewhere only a rendition may change: no other track depends on it.
        assert_eq!(plan(&mut source, cut(mark(1, 0))), (0, true));
        assert!(source.wants_init() && !rendition.wants_init());
        assert_eq!(plan(&mut source, discontinuity(2)), (1, true));
        assert_eq!(plan(&mut rendition, discontinuity(2)), (2, false));
    }

    #[test]
    fn a_planned_init_segment_has_the_configuration_at_the_start_of_its_segment() {
        let mut output = output(&video(), true, true);
        let pending = output.plan_init(cut(Mark { discontinuity: true, ..mark(0, 0) }));
        let config = video();
        output.config = Arc::clone(&config);
        assert!(output.awaits_init() && output.bind_init(&pending));
        assert!(Arc::ptr_eq(output.window.config(), &config) && !output.awaits_init());
        assert!(!output.bind_init(&pending), "it is there");
        assert_eq!(output.window.init(), 1);
    }

    #[test]
    fn a_segment_whose_mark_lies_in_a_listed_gap_starts_at_the_end_of_the_gap() {
        let (mut output, metrics) = (output(&video(), false, false), Metrics::default());
        let gap = Mark { gap: true, ..mark(0, 0) };
        output.start(gap, Ticks::ZERO, false);
        output.close(Ticks::new(T), &metrics);
        output.start(mark(1, T - 1), Ticks::new(T - 1), true);
        assert_eq!(segments(&output), [(0, 0, T, true)]);
        assert_eq!(output.segmenter.open().map(|open| open.start), Some(Ticks::new(T)));
    }

    #[test]
    fn a_late_track_does_not_list_gaps_before_its_first_media() {
        let (mut output, metrics) = (output(&video(), true, true), Metrics::default());
        let gap = Mark { gap: true, ..mark(0, 0) };
        output.start(gap, Ticks::ZERO, false);
        output.close(Ticks::new(T), &metrics);
        assert_eq!((segments(&output), metrics.segments.get()), (Vec::new(), 0));
    }

    #[test]
    fn a_picture_is_kept_as_a_still_if_it_is_independent_small_and_of_the_current_configuration() {
        let mut output = output(&video(), false, false);
        assert_eq!(output.still_to_show(), None);
        let picture = frame(0, true);
        output.keep_still(&picture);
        assert_eq!(output.still_to_show(), Some(picture.payload.clone()));
        output.keep_still(&Frame { independent: false, ..picture.clone() });
        assert_eq!(output.still_to_show(), None);
        // 20 Mbit/s are 500 kB in a part of 200 ms.
        for (size, shown) in [(490_000, true), (510_000, false)] {
            output.keep_still(&Frame { payload: vec![0; size].into(), ..picture.clone() });
            assert_eq!(output.still_to_show().is_some(), shown, "{size}");
        }
        output.keep_still(&picture);
        output.config = video();
        assert!(output.renew_init(true));
        assert_eq!(output.still_to_show(), None, "it is of another configuration");
    }

    #[test]
    fn a_snapshot_is_shared_until_something_changes() {
        let mut output = output(&video(), false, false);
        let first = output.snapshot();
        assert!(Arc::ptr_eq(&first, &output.snapshot()));
        output.start(mark(0, 0), Ticks::ZERO, true);
        assert!(!Arc::ptr_eq(&first, &output.snapshot()));
    }
}
