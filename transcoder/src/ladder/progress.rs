//! The progress of the units sent to a worker, for each rendition. Pure: `now` is an argument.
//!
//! A worker handles untrusted media, so its output is checked against its input: each rendition has
//! at most one unit for each of the source's, and at most a few times the bytes of its encoder's
//! bit rate.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use media_core::{MediaSpan, MediaTime};

/// Number of remembered units: 10 s at 60 a second, more than all queues in between hold.
const MOST: usize = 600;
/// Factor by which an encoder may exceed its bit rate over any time.
const EXCESS: u64 = 4;
/// Bytes that an encoder may output at once: a key frame of the largest size.
const AT_ONCE: u64 = 4 << 20;
/// The largest distance of the source's other tracks from the sent units: 10 s.
const NEAR: MediaSpan = MediaSpan::from_millis(10_000);
/// More units than any decoder and encoder hold together.
const MANY: u32 = 30;

/// The units sent, and the progress of each rendition.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Units sent, in order.
    fed: VecDeque<Fed>,
    /// The newest presentation time sent.
    newest: Option<MediaTime>,
    out: Vec<Out>,
    /// Units sent since the last output, and the start of the present wait.
    waiting: u32,
    waiting_since: Option<Instant>,
    /// Whether the newest unit still waits for room in the socket.
    blocked: bool,
    /// Media from this time on belong to the next worker.
    until: Option<MediaTime>,
}

/// A unit sent to the worker.
#[derive(Debug)]
struct Fed {
    /// Presentation time: the key by which outputs are matched.
    pts: MediaTime,
    /// When the source's unit arrived at the daemon, for the latency.
    arrived: Instant,
    /// A bit for each rendition that has output it.
    out: u32,
}

/// One rendition.
#[derive(Debug)]
struct Out {
    /// Maximum rate in bytes per second of media time: [`EXCESS`] times the configured rate.
    bytes_per_s: u64,
    /// Bytes that it may still output.
    left: u64,
    /// Presentation time of its newest unit since its last start.
    newest: Option<MediaTime>,
    /// Time of that output, or of the start.
    since: Option<Instant>,
}

impl Progress {
    /// Renditions with these bit rates.
    pub(crate) fn new(bitrates_bps: &[u32]) -> Self {
        let out = bitrates_bps.iter().map(|bps| Out {
            bytes_per_s: EXCESS * u64::from(*bps) / 8,
            left: AT_ONCE,
            newest: None,
            since: None,
        });
        Self {
            fed: VecDeque::with_capacity(MOST),
            newest: None,
            out: out.collect(),
            waiting: 0,
            waiting_since: None,
            blocked: false,
            until: None,
        }
    }

    /// Records that a unit is being sent, which arrived at `arrived`.
    pub(crate) fn feed(&mut self, pts: MediaTime, arrived: Instant, now: Instant) {
        // The oldest unit is forgotten: all queues together hold fewer, so no valid output refers
        // to it.
        if self.fed.len() == MOST {
            self.fed.pop_front();
        }
        self.fed.push_back(Fed { pts, arrived, out: 0 });
        // A leap forward counts as one second at the most: a gap in the source is no reason for
        // more bytes. Reordered units, which are before the newest, add nothing.
        let advance = self.newest.map_or(MediaSpan::ZERO, |newest| pts - newest);
        let advance = advance.clamp(MediaSpan::ZERO, MediaSpan::from_millis(1_000));
        self.newest = self.newest.max(Some(pts));
        for out in &mut self.out {
            // The budget grows with media time, not with real time, so that a backlog that is
            // encoded at once does not count as excess. Ten seconds are saved up at the most.
            let more = out.bytes_per_s * advance.ticks().unsigned_abs() / 90_000;
            out.left = (out.left + more).min(AT_ONCE + 10 * out.bytes_per_s);
            out.since.get_or_insert(now);
        }
        // The wait is measured from the first unit that is owed, not from the last output: a source
        // that pauses owes nothing.
        if self.waiting == 0 {
            self.waiting_since = Some(now);
        }
        self.waiting = self.waiting.saturating_add(1);
        self.blocked = true;
    }

    /// Records that the newest unit was sent.
    pub(crate) fn fed(&mut self) {
        self.blocked = false;
    }

    /// Media from `pts` on belong to the next worker.
    pub(crate) fn leave_at(&mut self, pts: MediaTime) {
        self.until = Some(pts);
    }

    /// Whether a unit belongs to the next worker.
    pub(crate) fn is_left(&self, pts: MediaTime) -> bool {
        self.until.is_some_and(|until| pts >= until)
    }

    /// A rendition is made from now on: its earlier progress is discarded.
    pub(crate) fn begin(&mut self, rendition: usize, now: Instant) {
        if let Some(out) = self.out.get_mut(rendition) {
            (out.newest, out.since) = (None, Some(now));
        }
    }

    /// Records the output of a unit with `bytes` bytes. Returns the arrival of its source unit.
    /// `None`: no unit with this time was sent, it was output before, or it is far too large.
    pub(crate) fn record_output(
        &mut self,
        rendition: usize,
        pts: MediaTime,
        bytes: usize,
        now: Instant,
    ) -> Option<Instant> {
        let left = self.is_left(pts);
        // From the newest, because renditions are usually only a few units behind.
        let fed = self.fed.iter_mut().rev().find(|fed| fed.pts == pts)?;
        let bit = 1_u32.checked_shl(u32::try_from(rendition).ok()?)?;
        let out = self.out.get_mut(rendition).filter(|_| fed.out & bit == 0)?;
        fed.out |= bit;
        out.left = out.left.checked_sub(bytes as u64)?;
        if !left {
            out.newest = out.newest.max(Some(pts));
        }
        out.since = Some(now);
        let arrived = fed.arrived;
        self.decodes(now);
        Some(arrived)
    }

    /// Whether a time is plausible for the source's other tracks: within [`NEAR`] of the sent
    /// units.
    pub(crate) fn is_near(&self, pts: MediaTime) -> bool {
        let oldest = self.fed.front().map(|fed| fed.pts);
        // Also between the oldest and the newest unit, however long that span is.
        let near = |fed: MediaTime| (pts - fed).abs() <= NEAR;
        oldest.is_some_and(|oldest| near(oldest) || pts >= oldest && self.newest >= Some(pts))
            || self.newest.is_some_and(near)
    }

    /// Records that the worker has decoded a picture.
    pub(crate) fn decodes(&mut self, now: Instant) {
        (self.waiting, self.waiting_since) = (0, Some(now));
    }

    /// The newest presentation time output by any rendition.
    pub(crate) fn newest_out(&self) -> Option<MediaTime> {
        self.out.iter().filter_map(|out| out.newest).max()
    }

    /// The delay of the renditions selected by `made`: the age of the oldest sent unit that the
    /// slowest has not output. `None` before the first output, which may take long;
    /// [`Progress::silence`] measures that.
    pub(crate) fn lag(&self, made: impl Fn(usize) -> bool, now: Instant) -> Option<Duration> {
        let slowest = (0..self.out.len())
            .filter(|index| made(*index))
            .filter_map(|index| self.out[index].newest)
            .min()?;
        // With half the rate the unit after the newest may be a dropped one, and reordered units
        // are output in another order.
        let mut waiting = self.fed.iter().filter(|fed| fed.pts > slowest);
        let oldest = waiting.nth(1).map(|fed| fed.arrived);
        Some(oldest.map_or(Duration::ZERO, |arrived| now.saturating_duration_since(arrived)))
    }

    /// A rendition selected by `made` that has output nothing for `span`, while another one has.
    pub(crate) fn left_behind(
        &self,
        made: impl Fn(usize) -> bool,
        span: Duration,
        now: Instant,
    ) -> Option<usize> {
        let quiet = |index: &usize| {
            let since = self.out[*index].since;
            since.is_some_and(|since| now.saturating_duration_since(since) >= span)
        };
        let mut renditions = (0..self.out.len()).filter(|index| made(*index));
        // If all are quiet, the decoder or the source is the reason, and `silence` decides.
        let any_well = renditions.clone().any(|index| !quiet(&index));
        renditions.find(quiet).filter(|_| any_well)
    }

    /// Time for which the worker owes an output: many units were sent, or the next one finds no
    /// room.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        let since = self.waiting_since.filter(|_| self.waiting >= MANY || self.blocked);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// Locks the progress of a worker. A panic under the lock leaves it consistent.
pub(crate) fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ticks: i64) -> MediaTime {
        MediaTime::from_ticks(ticks)
    }

    #[test]
    fn the_lag_is_that_of_the_slowest_active_rendition() {
        let start = Instant::now();
        let mut progress = Progress::new(&[1_000_000; 2]);
        assert_eq!(progress.lag(|_| true, start), None);
        for n in 0..10 {
            progress.feed(at(n * 3_000), start + 33 * MS * u32::try_from(n).unwrap(), start);
        }
        assert_eq!(progress.lag(|_| true, start + 400 * MS), None);
        assert_eq!(progress.record_output(0, at(27_000), 100, start), Some(start + 297 * MS));
        assert_eq!(progress.record_output(1, at(6_000), 100, start), Some(start + 66 * MS));
        assert_eq!(
            progress.record_output(1, at(6_001), 100, start),
            None,
            "nothing like it was fed"
        );
        assert_eq!(progress.lag(|_| true, start + 400 * MS), Some(268 * MS));
        assert_eq!(progress.lag(|index| index == 0, start + 400 * MS), Some(Duration::ZERO));
        assert_eq!(progress.newest_out(), Some(at(27_000)));
    }

    #[test]
    fn a_worker_without_pending_units_is_not_silent() {
        let start = Instant::now();
        let mut progress = Progress::new(&[1_000_000]);
        assert_eq!(progress.silence(start), Duration::ZERO);
        progress.feed(at(0), start, start);
        assert_eq!(progress.silence(start + 700 * MS), 700 * MS, "there is no room for it");
        progress.fed();
        let later = start + 9_000 * MS;
        assert_eq!(progress.silence(later), Duration::ZERO, "a decoder may hold one back");
        progress.record_output(0, at(0), 100, later);
        for n in 1..=30 {
            progress.feed(at(n), start, start + 10_000 * MS);
            progress.fed();
        }
        assert_eq!(progress.silence(start + 15_000 * MS), 5_000 * MS);
        progress.decodes(start + 15_000 * MS);
        assert_eq!(progress.silence(start + 90_000 * MS), Duration::ZERO);
    }

    #[test]
    fn a_restarted_rendition_is_not_late_for_the_time_it_was_off() {
        let start = Instant::now();
        let mut progress = Progress::new(&[1_000_000; 2]);
        for n in 0..100 {
            progress.feed(at(n), start, start);
        }
        progress.record_output(0, at(10), 100, start);
        progress.record_output(1, at(99), 100, start);
        let late = start + 2_000 * MS;
        assert_eq!(progress.lag(|_| true, late), Some(2_000 * MS));
        progress.begin(0, late);
        assert_eq!(progress.lag(|_| true, late), Some(Duration::ZERO));
        progress.record_output(0, at(90), 100, start);
        assert_eq!(progress.lag(|_| true, late), Some(2_000 * MS));
    }

    #[test]
    fn units_left_to_the_next_worker_do_not_count_as_output() {
        let start = Instant::now();
        let mut progress = Progress::new(&[1_000_000]);
        for n in 0..4 {
            progress.feed(at(n), start, start);
        }
        progress.leave_at(at(2));
        assert_eq!([1, 2, 3].map(|pts| progress.is_left(at(pts))), [false, true, true]);
        for n in 0..4 {
            assert_eq!(progress.record_output(0, at(n), 100, start), Some(start));
        }
        assert_eq!(progress.newest_out(), Some(at(1)));
    }

    #[test]
    fn a_rendition_has_one_output_per_source_unit_and_a_bounded_size() {
        let start = Instant::now();
        let mut progress = Progress::new(&[8_000; 2]);
        progress.feed(at(0), start, start);
        assert!(progress.record_output(0, at(0), 100, start).is_some());
        assert!(progress.record_output(0, at(0), 100, start).is_none(), "twice");
        assert!(progress.record_output(1, at(0), 100, start).is_some());
        assert!(
            progress.record_output(2, at(0), 100, start).is_none(),
            "of a rendition that there is not"
        );
        progress.feed(at(90_000), start, start);
        assert!(progress.record_output(0, at(90_000), (4 << 20) + 4_000, start).is_none());
        assert!(progress.record_output(1, at(90_000), (4 << 20) + 3_900, start).is_some());
        progress.feed(at(180_000), start, start);
        assert!(progress.record_output(1, at(180_000), 4_001, start).is_none());
    }

    #[test]
    fn only_times_near_the_units_of_the_source_are_accepted() {
        let start = Instant::now();
        let mut progress = Progress::new(&[]);
        assert!(!progress.is_near(at(0)));
        progress.feed(at(10_000_000), start, start);
        progress.feed(at(20_000_000), start, start);
        assert!([9_100_000, 15_000_000, 20_900_000].iter().all(|pts| progress.is_near(at(*pts))));
        assert!(
            [i64::MIN, 9_099_999, 20_900_001, i64::MAX]
                .iter()
                .all(|pts| !progress.is_near(at(*pts)))
        );
    }

    #[test]
    fn a_rendition_without_output_while_others_have_some_is_left_behind() {
        let start = Instant::now();
        let mut progress = Progress::new(&[1_000_000; 2]);
        progress.feed(at(0), start, start);
        let later = start + 21_000 * MS;
        let span = 20_000 * MS;
        assert_eq!(progress.left_behind(|_| true, span, later), None, "nobody gives anything");
        progress.record_output(0, at(0), 100, later);
        assert_eq!(progress.left_behind(|_| true, span, later), Some(1));
        assert_eq!(progress.left_behind(|index| index == 0, span, later), None);
        progress.begin(1, later);
        assert_eq!(progress.left_behind(|_| true, span, later), None);
    }

    #[test]
    fn the_record_of_fed_units_is_bounded() {
        let start = Instant::now();
        let mut progress = Progress::new(&[1_000_000]);
        for n in 0..100_000 {
            progress.feed(at(n), start, start);
        }
        assert_eq!(progress.fed.len(), MOST);
    }
}
