//! Where segments start. Cuts are decided once, here, when the source enters the hub. The
//! transcoder forces key frames at the marks; the packager, recordings and gaps follow them.
//!
//! The rule, with T the configured segment duration and L the longest duration of a segment: a mark
//! precedes a key frame if at least 3/4 T and at least a second have passed since the last mark. If
//! a frame would make a segment longer than L, a mark precedes it even if it is not a key frame,
//! and the track is *gridded* until its next discontinuity: it has a mark every T. Audio alone,
//! where any frame is a key frame, has a mark every T.
//!
//! Segment numbers never outrun the clock: a broadcast has at most one mark for each second of
//! media time, and [`BURST`] more. A discontinuity or a gap may follow another mark closely, but if
//! they are more frequent they wait until the clock allows another number.
//!
//! L is 2T, unless the source's groups are longer: for example, OBS's default is 250 frames. L is
//! fixed when the first segment ends, from the duration of that segment or from the encoder's own
//! statement, and is at most [`LONGEST`]. So no segment's duration rounds to more than L (RFC
//! 8216bis 4.4.3.1).
//!
//! If no frames arrive, a gap is declared: a sequence of segments without media, with a mark every
//! T. The clock declares it during the absence ([`Cutter::begin_gap`]); a frame that follows a hole
//! declares it in hindsight ([`Cutter::is_hole`]).

use std::time::Duration;

use crate::{Mark, MediaSpan, MediaTime};

/// Half a millisecond: RTMP timestamps are whole milliseconds, and rounding must not delay a cut by
/// a frame.
const GRAIN: MediaSpan = MediaSpan::from_ticks(45);

/// The longest group that is kept whole: 250 frames, the default of many encoders, at 24 a second,
/// and a margin.
pub const LONGEST: Duration = Duration::from_secs(12);

/// A frame that lasts longer than this is followed by a hole, unless all frames do.
const HOLE: Duration = Duration::from_millis(1_500);

/// The least duration of a gap before media resume: 200 ms, a part.
const LEAST_GAP: MediaSpan = MediaSpan::from_millis(200);

/// The assumed duration of a frame, 100 ms, if a gap follows it sooner than its usual duration.
const LEAST_KNOWN: MediaSpan = MediaSpan::from_millis(100);

/// Media time for each segment number: numbers begin at the Unix time in seconds, and
/// must not outrun it.
const NUMBER: MediaSpan = MediaSpan::from_millis(1_000);
/// Media time by which marks may be ahead of the numbers' clock, four numbers, so that a
/// discontinuity or a gap can be placed where it occurs.
const BURST: MediaSpan = MediaSpan::from_millis(4_000);
/// The longest time by which a segment may exceed L because its last frame lasts longer than the
/// one before, 400 ms. It is so short that the duration still rounds to at most L (RFC 8216bis
/// 4.4.3.1).
const OVERRUN: MediaSpan = MediaSpan::from_millis(400);

/// The open segment.
#[derive(Debug, Clone, Copy)]
struct Open {
    start: MediaTime,
    gap: bool,
}

/// The newest frame.
#[derive(Debug, Clone, Copy)]
struct Newest {
    time: MediaTime,
    /// The duration of the frame before it; zero if it is not known.
    lasted: MediaSpan,
}

/// Decides where segments start. Times are presentation times.
#[derive(Debug)]
pub struct Cutter {
    segment: MediaSpan,
    next_msn: u64,
    /// L; it may still grow until `settled`.
    longest: MediaSpan,
    /// Whether L is final.
    settled: bool,
    /// Time since the last mark after which a key frame starts another segment.
    least: MediaSpan,
    /// `None` before the first segment.
    open: Option<Open>,
    gridded: bool,
    /// Whether a discontinuity is due at the next key frame.
    discontinuity: bool,
    /// `None` before the first frame.
    newest: Option<Newest>,
    /// The time up to which the open gap has been published: media resume there or later.
    published: MediaTime,
    /// Whether the frame after a hole resumes even if it is not a key frame, because the frames
    /// that it refers to were sent.
    resume_anywhere: bool,
    /// The media time that the issued numbers have used up. A mark is at least this time minus
    /// [`BURST`].
    used: MediaTime,
    /// Number of discontinuities.
    discontinuities: u64,
}

impl Cutter {
    /// A cutter for segments of about `segment`, the first numbered `first_msn`. `groups`: only
    /// some frames are key frames, as in video.
    pub fn new(segment: Duration, first_msn: u64, groups: bool) -> Self {
        let segment = MediaSpan::from_duration(segment).max(MediaSpan::ONE);
        Self {
            segment,
            longest: segment * 2,
            settled: !groups,
            least: if groups { (segment * 3 / 4).max(NUMBER) } else { segment },
            next_msn: first_msn,
            open: None,
            gridded: false,
            discontinuity: false,
            newest: None,
            published: MediaTime::MIN,
            resume_anywhere: false,
            used: MediaTime::MIN,
            discontinuities: 0,
        }
    }

    /// The number of the next segment.
    pub fn next_msn(&self) -> u64 {
        self.next_msn
    }

    /// Number of discontinuities.
    pub fn discontinuities(&self) -> u64 {
        self.discontinuities
    }

    /// L: the longest duration of a segment, final once the first segment has ended.
    pub fn longest(&self) -> Duration {
        self.longest.duration()
    }

    /// The same as media time.
    pub(crate) fn longest_span(&self) -> MediaSpan {
        self.longest
    }

    /// The encoder states that its groups last up to `group`. Ignored once L is final.
    pub fn expect_groups(&mut self, group: Duration) {
        if !self.settled {
            self.allow(MediaSpan::from_duration(group));
        }
    }

    /// Makes L cover groups that last `group`, with a margin for jitter, up to its maximum.
    fn allow(&mut self, group: MediaSpan) {
        let most = MediaSpan::from_duration(LONGEST).max(self.segment * 2);
        self.longest = self.longest.max((group + group / 20).min(most));
    }

    /// Whether segments may start without a key frame.
    pub fn is_gridded(&self) -> bool {
        self.gridded
    }

    /// Whether the open segment is a gap; false before the first segment.
    pub fn in_gap(&self) -> bool {
        matches!(self.open, Some(Open { gap: true, .. }))
    }

    /// Whether a segment has been started.
    pub fn has_started(&self) -> bool {
        self.open.is_some()
    }

    /// Requests a discontinuity: the next key frame starts a segment, or a later one if there were
    /// too many recent marks.
    pub fn expect_discontinuity(&mut self) {
        self.discontinuity = true;
    }

    /// Whether a key frame at `time` starts the segment that [`Cutter::expect_discontinuity`]
    /// requested.
    pub fn takes_discontinuity(&self, time: MediaTime) -> bool {
        match self.open {
            // The frame that ends a gap can be placed later.
            None | Some(Open { gap: true, .. }) => true,
            Some(Open { start, .. }) => time > start + GRAIN && self.allows(time),
        }
    }

    /// Whether the clock allows another segment number at `time`.
    fn allows(&self, time: MediaTime) -> bool {
        time >= self.earliest()
    }

    /// The earliest time of the next mark.
    fn earliest(&self) -> MediaTime {
        self.used - BURST
    }

    /// L, or its maximum while it may still grow.
    fn limit(&self) -> MediaSpan {
        // Before the first segment has ended, its own groups may still raise L, so that it must not
        // be cut at the present value.
        match self.settled {
            true => self.longest,
            false => MediaSpan::from_duration(LONGEST).max(self.longest),
        }
    }

    /// Takes the next frame, at `time`. Returns the mark before it, if it starts a segment.
    ///
    /// `None` while [`Cutter::in_gap`] or before the first segment means that the frame belongs to
    /// no segment.
    pub fn frame(&mut self, time: MediaTime, key: bool) -> Option<Mark> {
        let lasted = self.lasted(time);
        // A gap ends with a key frame, after the part of it that is already published. An open
        // segment ends at a requested discontinuity, at a key frame after `least`, on the grid, or
        // before it becomes too long. Its last frame is assumed to last as long as the one before;
        // if that frame was long, `overrun` covers a longer one.
        let due = match self.open {
            None => key,
            Some(Open { start, gap: true }) => {
                (key || self.resume_anywhere) && time >= start + LEAST_GAP && time >= self.published
            }
            Some(Open { start, gap: false }) => {
                let passed = time - start;
                let overrun = (lasted / 2 - OVERRUN).max(MediaSpan::ZERO);
                let too_long = passed > GRAIN && passed + lasted + overrun > self.limit() + GRAIN;
                self.gridded |= too_long && !key;
                (key && (self.discontinuity && passed > GRAIN
                    || !self.gridded && passed + GRAIN >= self.least))
                    || (self.gridded && passed + GRAIN >= self.segment)
                    || too_long
            }
        };
        let due = due && self.allows(time);
        self.newest = Some(Newest { time, lasted });
        due.then(|| {
            self.resume_anywhere = false;
            let discontinuity = key && std::mem::take(&mut self.discontinuity);
            self.gridded &= !discontinuity;
            self.start(time, false, discontinuity)
        })
    }

    /// Makes another track decide about cuts, one where only some frames are key frames. Returns
    /// the mark before its key frame at `time`, however short that makes the open segment. Its
    /// segments cannot be longer than those before.
    ///
    /// `None`: the time lies before the start of the open segment, or in a published gap. The open
    /// segment is then kept open as long as possible, so that a later key frame lies in it.
    pub fn change_master(&mut self, time: MediaTime) -> Option<Mark> {
        // However short that makes the open segment, the cut is made, unless it would lie before
        // the segment's start, in a published gap, or ahead of the numbers' clock.
        let Open { start, gap } = self.open?;
        let least = start + if gap { LEAST_GAP } else { GRAIN + MediaSpan::ONE };
        if time < least || gap && time < self.published || !self.allows(time) {
            self.least = self.longest;
            return None;
        }
        self.least = (self.segment * 3 / 4).max(NUMBER);
        let lasted = self.lasted(time);
        self.newest = Some(Newest { time, lasted });
        let discontinuity = std::mem::take(&mut self.discontinuity);
        Some(self.start(time, false, discontinuity))
    }

    /// Duration of the newest frame if the next one is at `time`. Time in a gap belongs to no
    /// frame.
    fn lasted(&self, time: MediaTime) -> MediaSpan {
        match self.newest {
            Some(newest) if time > newest.time && !self.in_gap() => time - newest.time,
            Some(newest) => newest.lasted,
            None => MediaSpan::ZERO,
        }
    }

    /// Whether a frame at `time` follows a hole, which must be declared as a gap: the newest frame
    /// would last much longer than the one before it, or so long that its segment becomes too long.
    /// The duration of a broadcast's first frame is known only from the second, because its
    /// pictures may be slow.
    pub fn is_hole(&self, time: MediaTime) -> bool {
        // Slow pictures are no hole: a frame that lasts long follows others that do.
        let (Some(newest), Some(Open { start, gap: false })) = (self.newest, self.open) else {
            return false;
        };
        let lasted = newest.lasted;
        let step = time - newest.time;
        let longer = step * 2 > lasted.max(GRAIN) * 3;
        (lasted > MediaSpan::ZERO && step > MediaSpan::from_duration(HOLE).max(lasted * 4))
            || (longer && time - start > self.limit() + GRAIN * 4)
            || self.is_beyond(time)
    }

    /// Whether a frame at `time` lies beyond the longest end of the open segment.
    pub fn is_beyond(&self, time: MediaTime) -> bool {
        let limit = self.limit() + OVERRUN;
        matches!(self.open, Some(Open { start, gap: false }) if time - start > limit)
    }

    /// Whether a stall is due at media time `now`, `silent` after the newest frame. `stall` is the
    /// usual patience; the newest frame must also last half as long again as the one before, unless
    /// its segment becomes too long.
    pub fn is_overdue(&self, silent: Duration, stall: Duration, now: MediaTime) -> bool {
        let [silent, stall] = [silent, stall].map(MediaSpan::from_duration);
        // A duration of 0 is unknown: the first frame has no successor yet, and may be one of slow
        // pictures.
        let patience = match self.newest {
            Some(Newest { lasted: MediaSpan::ZERO, .. }) => stall * 2,
            Some(Newest { lasted, .. }) => stall.max(lasted + lasted / 2),
            None => stall,
        };
        let full =
            matches!(self.open, Some(Open { start, gap: false }) if now >= start + self.limit());
        silent >= patience || silent >= stall && full
    }

    /// `time`, but later than the newest frame: a key frame may be reordered less than the one
    /// before it, and time must not decrease. A frame that ends a gap follows the gap.
    pub fn after_newest(&self, time: MediaTime) -> MediaTime {
        let newest = self.newest.filter(|_| !self.in_gap());
        newest.map_or(time, |newest| time.max(newest.time + MediaSpan::ONE))
    }

    /// Raises the newest frame's time to `time`.
    pub fn reach(&mut self, time: MediaTime) {
        if let Some(newest) = &mut self.newest {
            newest.time = newest.time.max(time);
        }
    }

    /// The time up to which gaps are declared before a frame at `time` that ends a gap. The last
    /// gap segment may be as long as any segment, so that no very short one remains.
    pub fn hindsight(&self, time: MediaTime) -> MediaTime {
        time - (self.longest - self.segment).max(LEAST_GAP)
    }

    /// Lets the next frame end the gap even if it is not a key frame.
    pub fn resume_anywhere(&mut self) {
        self.resume_anywhere = true;
    }

    /// Publishes the open gap up to `time`. Returns whether that is further than before.
    pub fn publish_gap(&mut self, time: MediaTime) -> bool {
        let further = self.in_gap() && time > self.published;
        if further {
            self.published = time;
        }
        further
    }

    /// The time up to which the open gap has been published; `None` outside a gap.
    #[cfg(test)]
    pub(crate) fn published_gap(&self) -> Option<MediaTime> {
        self.in_gap().then_some(self.published)
    }

    /// The earliest time at which media can resume; `None` outside a gap.
    pub fn resume_from(&self) -> Option<MediaTime> {
        match self.open {
            Some(Open { start, gap: true }) => {
                Some(self.published.max(start + LEAST_GAP).max(self.earliest()))
            }
            _ => None,
        }
    }

    /// Whether a frame that is not a key frame can end the gap.
    pub fn resumes_anywhere(&self) -> bool {
        self.resume_anywhere
    }

    /// Declares at media time `now` that frames have stopped: the open segment ends at the end of
    /// its last frame, and a gap starts there. A frame of unknown duration lasts until `now`.
    /// Returns `None` before the first segment, or while a gap is open.
    pub fn begin_gap(&mut self, now: MediaTime) -> Option<Mark> {
        let newest = self.newest?;
        let Open { start, gap } = self.open?;
        let known = now - newest.time;
        // The last frame is assumed to last as long as the one before it, but not into the time in
        // which its successor is already missing.
        let lasts = match newest.lasted {
            MediaSpan::ZERO => known,
            lasted => lasted.min(known.max(LEAST_KNOWN)),
        };
        let end = (newest.time + lasts.max(GRAIN)).min(start + self.limit());
        let end = end.max(start + GRAIN).max(self.earliest());
        (!gap).then(|| self.start(end, true, false))
    }

    /// The next gap segment that is due at media time `now`; call it until it returns `None`.
    pub fn next_gap(&mut self, now: MediaTime) -> Option<Mark> {
        match self.open {
            Some(Open { start, gap: true }) if now >= start + self.segment => {
                Some(self.start(start + self.segment, true, false))
            }
            _ => None,
        }
    }

    fn start(&mut self, pts: MediaTime, gap: bool, discontinuity: bool) -> Mark {
        // The first segment that ends fixes L for the life of the broadcast.
        if let Some(first) = self.open.filter(|_| !self.settled) {
            if pts - first.start > self.longest {
                self.allow(pts - first.start);
            }
            self.settled = true;
        }
        let msn = self.next_msn;
        self.next_msn += 1;
        self.discontinuities += u64::from(discontinuity);
        // The first mark leaves nothing of the burst, which becomes available with time.
        let used = if self.open.is_some() { self.used } else { pts + BURST - NUMBER };
        self.used = used.max(pts) + NUMBER;
        self.open = Some(Open { start: pts, gap });
        Mark { msn, pts, gap, discontinuity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(2);
    const MS: i64 = 90;

    fn at(ticks: i64) -> MediaTime {
        MediaTime::from_ticks(ticks)
    }

    /// Marks of a source of `fps` with a key frame every `group` frames, for `seconds`:
    /// (milliseconds, on a key frame).
    #[expect(clippy::cast_possible_truncation, reason = "small test numbers")]
    fn marks(fps: f64, group: u64, seconds: u64) -> Vec<(i64, bool)> {
        let mut cutter = Cutter::new(T, 100, true);
        let frames = (fps * seconds as f64) as u64;
        let mut marks = Vec::new();
        for n in 0..frames {
            let time = (n as f64 * 1000.0 / fps).round() as i64 * MS;
            let key = n % group == 0;
            if let Some(mark) = cutter.frame(at(time), key) {
                assert_eq!(mark.msn, 100 + marks.len() as u64);
                assert!(!mark.gap && !mark.discontinuity);
                marks.push((mark.pts.ticks() / MS, key));
            }
        }
        marks
    }

    #[test]
    fn groups_of_the_segment_duration_are_segments() {
        assert_eq!(marks(25.0, 50, 7), [(0, true), (2000, true), (4000, true), (6000, true)]);
    }

    #[test]
    fn short_groups_are_joined_and_longer_ones_kept() {
        assert_eq!(marks(25.0, 25, 7), [(0, true), (2000, true), (4000, true), (6000, true)]);
        assert_eq!(marks(30.0, 75, 8), [(0, true), (2500, true), (5000, true), (7500, true)]);
        assert_eq!(marks(60.0, 60 * 4, 9), [(0, true), (4000, true), (8000, true)]);
    }

    #[test]
    fn groups_as_long_as_the_first_are_not_split() {
        assert_eq!(marks(30.0, 250, 30), [(0, true), (8333, true), (16667, true), (25000, true)]);
    }

    #[test]
    fn an_endless_group_is_gridded() {
        let marks = marks(30.0, 1_000, 50);
        assert_eq!(&marks[..4], [(0, true), (11967, false), (13967, false), (15967, false)]);
        // The grid is even for any key frames, because DASH numbers segments by it.
        assert!(
            marks.windows(2).skip(1).all(|pair| (1966..=2034).contains(&(pair[1].0 - pair[0].0))),
            "{marks:?}"
        );
    }

    /// A group of 2 s, then an endless one. `group`: the encoder's statement.
    fn marks_after_a_short_group(group: Option<Duration>) -> Vec<i64> {
        let mut cutter = Cutter::new(T, 0, true);
        group.into_iter().for_each(|group| cutter.expect_groups(group));
        let marks = (0..300).filter_map(|n| cutter.frame(at(n * 40 * MS), n == 0 || n == 50));
        marks.map(|mark| mark.pts.ticks() / MS).collect()
    }

    #[test]
    fn a_group_longer_than_the_first_and_the_declared_length_is_gridded() {
        assert_eq!(marks_after_a_short_group(None), [0, 2_000, 6_000, 8_000, 10_000]);
        // x264 states 250 frames, and a scene change shortened the first group.
        assert_eq!(marks_after_a_short_group(Some(Duration::from_secs(8))), [0, 2_000, 10_400]);
    }

    #[test]
    fn audio_alone_is_cut_every_segment_duration() {
        let mut cutter = Cutter::new(T, 0, false);
        let marks: Vec<_> = (0..300)
            .filter_map(|n| cutter.frame(at(n * 1_920), true))
            .map(|mark| mark.pts.ticks() / MS)
            .collect();
        assert_eq!(marks, [0, 2_005, 4_010, 6_016]);
    }

    #[test]
    fn gap_marks_start_at_the_end_of_the_last_frame_and_follow_the_clock() {
        let mut cutter = Cutter::new(T, 7, true);
        assert_eq!(cutter.begin_gap(at(2_400 * MS)), None);
        for n in 0..10 {
            cutter.frame(at(n * 40 * MS), n == 0);
        }
        let gap = cutter.begin_gap(at(2_400 * MS)).unwrap();
        assert_eq!(gap, Mark { msn: 8, pts: at(400 * MS), gap: true, discontinuity: false });
        assert_eq!(cutter.begin_gap(at(2_400 * MS)), None);
        assert_eq!(cutter.next_gap(at(2_399 * MS)), None);
        assert_eq!(
            cutter.next_gap(at(4_500 * MS)).map(|mark| (mark.msn, mark.pts)),
            Some((9, at(2_400 * MS)))
        );
        assert_eq!(
            cutter.next_gap(at(4_500 * MS)).map(|mark| (mark.msn, mark.pts)),
            Some((10, at(4_400 * MS)))
        );
        assert_eq!(cutter.next_gap(at(4_500 * MS)), None);
        // Late frames, and frames that are not key frames, belong to no segment.
        assert_eq!(cutter.frame(at(4_000 * MS), true), None);
        assert_eq!(cutter.frame(at(4_600 * MS), false), None);
        let back = cutter.frame(at(4_700 * MS), true).unwrap();
        assert_eq!(back, Mark { msn: 11, pts: at(4_700 * MS), gap: false, discontinuity: false });
    }

    #[test]
    fn a_discontinuity_waits_for_a_key_frame_and_ends_the_grid() {
        let mut cutter = Cutter::new(T, 0, true);
        for n in 0..160 {
            cutter.frame(at(n * 40 * MS), n == 0 || n == 50);
        }
        assert!(cutter.is_gridded());
        cutter.expect_discontinuity();
        assert_eq!(cutter.frame(at(6_400 * MS), false), None);
        assert!(cutter.frame(at(6_440 * MS), true).unwrap().discontinuity);
        assert!(!cutter.is_gridded());
    }

    proptest::proptest! {
        // By at most the jitter of one frame: EXTINF is rounded to the nearest second before the
        // comparison.
        #[test]
        fn no_segment_exceeds_the_longest_duration(
            steps in proptest::collection::vec(
                (1i64..100, proptest::bool::weighted(0.01)),
                2..1_000,
            ),
        ) {
            let mut cutter = Cutter::new(T, 0, true);
            let (mut time, mut start) = (0, at(0));
            cutter.frame(at(0), true);
            for (step, key) in steps {
                time += step * MS;
                if let Some(mark) = cutter.frame(at(time), key) {
                    let longest = MediaSpan::from_duration(cutter.longest());
                    proptest::prop_assert!(
                        mark.pts - start <= longest + MediaSpan::from_millis(100),
                        "{:?} to {:?}",
                        start,
                        mark.pts
                    );
                    start = mark.pts;
                }
            }
        }
    }
}
