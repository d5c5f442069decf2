//! A publisher's own clock mapped onto its broadcast's timeline: reconnects, clocks that jump or fall back.
//!
//! Everything here is in 90 kHz ticks. All tracks of one publisher share a clock, so they share the offset that maps it; a
//! jump that one track shows first is adopted by the others when they reach it, which keeps audio and video in step.

use std::time::{Duration, Instant};

use crate::{Anchor, Timescale};

/// A step back of at most this much is jitter: the frame is placed just after the one before it.
const STEP_BACK: i64 = 9_000;
/// A step forward may exceed what the wall clock shows by this much: a publisher may skip what it could not send.
const STEP_FORWARD: i64 = 270_000;
/// Two tracks' stamps this close are on the same clock.
const NEAR: i64 = 450_000;
/// How far the timeline may come to lie ahead of the wall clock because a backlog was kept: 5 s. What is later is left out.
const MAX_LEAD: i64 = 450_000;
/// The least step between two frames of a track: 1 ms, RTMP's own grain.
const LEAST_STEP: i64 = 90;

/// Maps stamps; one for each broadcast.
#[derive(Debug)]
pub struct Timeline {
    tracks: Vec<Clock>,
    /// What maps the publisher's clock at present. `None` before a publisher's first frame.
    current: Option<Epoch>,
    /// The newest decode time over all tracks, and when it came.
    newest: Option<(i64, Instant)>,
    /// Media time of the first frame.
    origin: Anchor,
}

#[derive(Debug, Clone, Copy)]
struct Epoch {
    offset: i64,
    /// The newest stamp on the publisher's clock seen in this epoch.
    stamp: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    /// Offset, newest stamp and its arrival, since this publisher came.
    own: Option<(i64, i64, Instant)>,
    /// The newest decode time given out, whoever published it, and when that frame came.
    dts: Option<(i64, Instant)>,
}

impl Timeline {
    /// A timeline of `tracks` tracks; the first frame is placed where `origin` says.
    pub fn new(origin: Anchor, tracks: usize) -> Self {
        Self {
            tracks: vec![Clock::default(); tracks],
            current: None,
            newest: None,
            origin,
        }
    }

    /// Another track, with this index, joins the publisher's others on their clock.
    pub fn add_track(&mut self, track: usize) {
        let tracks = self.tracks.len().max(track + 1);
        self.tracks.resize_with(tracks, Clock::default);
    }

    /// Another publisher goes on: its clock is a new one, placed by the wall clock at its first frame.
    pub fn republish(&mut self) {
        self.current = None;
        for clock in &mut self.tracks {
            clock.own = None;
        }
    }

    /// The media time that `now` is: the newest frame's, and what has passed since it came.
    pub fn at(&self, now: Instant) -> i64 {
        match self.newest {
            Some((dts, arrived)) => dts.saturating_add(Timescale::VIDEO.ticks(now.saturating_duration_since(arrived))),
            None => self.origin.media_time(now, Timescale::VIDEO),
        }
    }

    /// How long no frame of `track` has come.
    pub fn silence(&self, track: usize, now: Instant) -> Duration {
        let arrived = self.tracks[track].dts.map(|(_, arrived)| arrived);
        arrived.map_or(Duration::ZERO, |arrived| now.saturating_duration_since(arrived))
    }

    /// The publisher's clock is placed `later` ticks later from here on: a frame of `track` that was placed in what is told of as a
    /// gap goes after it. False, and nothing changes, if that puts it too far ahead of the wall clock.
    pub fn delay(&mut self, track: usize, later: i64, arrived: Instant) -> bool {
        let Some((dts, _)) = self.tracks[track].dts else {
            return false;
        };
        if dts.saturating_add(later)
            > self
                .origin
                .media_time(arrived, Timescale::VIDEO)
                .saturating_add(MAX_LEAD)
        {
            return false;
        }
        let Some((offset, ..)) = self.tracks[track].own else {
            return false;
        };
        for clock in &mut self.tracks {
            if let Some((own, ..)) = &mut clock.own
                && *own == offset
            {
                *own += later;
            }
        }
        if let Some(epoch) = self.current.as_mut().filter(|epoch| epoch.offset == offset) {
            epoch.offset += later;
        }
        self.tracks[track].dts = Some((dts + later, arrived));
        self.newest = Some((
            self.newest.map_or(dts + later, |(newest, _)| newest.max(dts + later)),
            arrived,
        ));
        true
    }

    /// Maps the decode stamp of a frame of `track` to the broadcast's timeline; the result is later than the track's last.
    pub fn map(&mut self, track: usize, stamp: i64, arrived: Instant) -> i64 {
        let Clock { own, dts: last } = self.tracks[track];
        let offset = match own {
            Some((offset, before, at)) if is_step(before, stamp, arrived.saturating_duration_since(at)) => offset,
            _ => self.adopt(own.map(|(offset, ..)| offset), stamp, arrived),
        };
        let mut dts = stamp.saturating_add(offset);
        if let Some((last, _)) = last {
            dts = dts.max(last + LEAST_STEP);
        }
        if let Some(epoch) = &mut self.current
            && epoch.offset == offset
        {
            epoch.stamp = epoch.stamp.max(stamp);
        }
        if self.newest.is_none_or(|(newest, _)| dts > newest) {
            self.newest = Some((dts, arrived));
        }
        self.tracks[track] = Clock {
            own: Some((offset, stamp, arrived)),
            dts: Some((dts, arrived)),
        };
        dts
    }

    /// The offset for a stamp that does not follow its track's last: another track's newer one if it fits, else a new one.
    fn adopt(&mut self, own: Option<i64>, stamp: i64, arrived: Instant) -> i64 {
        if let Some(epoch) = self.current
            && own != Some(epoch.offset)
            && (stamp.saturating_sub(epoch.stamp)).saturating_abs() <= NEAR
        {
            return epoch.offset;
        }
        let offset = self.at(arrived).saturating_sub(stamp);
        self.current = Some(Epoch { offset, stamp });
        offset
    }
}

fn is_step(before: i64, stamp: i64, wall: Duration) -> bool {
    let step = stamp.saturating_sub(before);
    (-STEP_BACK..=STEP_FORWARD.saturating_add(Timescale::VIDEO.ticks(wall))).contains(&step)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const MS: i64 = 90;

    fn timeline(now: Instant) -> Timeline {
        Timeline::new(Anchor::new(now, SystemTime::UNIX_EPOCH), 2)
    }

    #[test]
    fn steady_stamps_keep_their_spacing_and_audio_keeps_its_place_beside_video() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut timeline = timeline(start);
        let video = timeline.map(0, 500 * MS, start);
        assert_eq!(video, Timescale::VIDEO.ticks(Anchor::LEAD));
        assert_eq!(timeline.map(1, 480 * MS, start) - video, -20 * MS);
        assert_eq!(timeline.map(0, 533 * MS, start) - video, 33 * MS);
    }

    #[test]
    fn a_jump_in_both_tracks_keeps_them_in_step() {
        for jump in [3_600_000 * MS, -400 * MS, -86_400_000 * MS] {
            let start = Instant::now() + Duration::from_secs(100);
            let mut timeline = timeline(start);
            let origin = timeline.map(0, 0, start);
            timeline.map(1, 10 * MS, start);
            let later = start + Duration::from_millis(40);
            let video = timeline.map(0, 40 * MS + jump, later);
            assert!(
                (video - origin - 40 * MS).abs() <= 10 * MS,
                "{jump}: {}",
                video - origin
            );
            // Audio sent before the jump, then after it.
            assert_eq!(timeline.map(1, 31 * MS, later) - origin, 31 * MS);
            assert_eq!(timeline.map(1, 52 * MS + jump, later) - video, 12 * MS);
        }
    }

    #[test]
    fn equal_and_slightly_older_stamps_are_placed_just_after() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut timeline = timeline(start);
        let first = timeline.map(0, 1_000 * MS, start);
        assert_eq!(timeline.map(0, 1_000 * MS, start), first + LEAST_STEP);
        assert_eq!(timeline.map(0, 990 * MS, start), first + 2 * LEAST_STEP);
        assert_eq!(timeline.map(0, 1_033 * MS, start), first + 33 * MS);
    }

    #[test]
    fn a_hole_that_the_wall_clock_confirms_stays_a_hole() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut timeline = timeline(start);
        let first = timeline.map(0, 0, start);
        assert_eq!(
            timeline.map(0, 60_000 * MS, start + Duration::from_secs(60)) - first,
            60_000 * MS
        );
    }

    #[test]
    fn a_publisher_that_returns_resumes_at_the_wall_clock() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut timeline = timeline(start);
        let first = timeline.map(0, 7_000 * MS, start);
        timeline.republish();
        assert_eq!(timeline.map(1, 0, start + Duration::from_secs(5)) - first, 5_000 * MS);
        assert_eq!(
            timeline.map(0, 20 * MS, start + Duration::from_secs(5)) - first,
            5_020 * MS
        );
    }

    proptest::proptest! {
        #[test]
        fn decode_times_always_grow(stamps in proptest::collection::vec((0usize..2, proptest::num::i64::ANY, 0u64..2_000), 1..200)) {
            let mut now = Instant::now() + Duration::from_secs(100);
            let mut timeline = timeline(now);
            let mut last = [i64::MIN; 2];
            for (track, stamp, wait) in stamps {
                now += Duration::from_millis(wait);
                let dts = timeline.map(track, stamp >> 8, now);
                proptest::prop_assert!(dts > last[track]);
                proptest::prop_assert!(dts < 90_000 * 10_000);
                last[track] = dts;
            }
        }
    }
}
