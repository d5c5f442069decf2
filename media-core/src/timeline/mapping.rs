//! Maps a publisher's timestamps to its broadcast's timeline, and keeps the result near the wall
//! clock.
//!
//! A timestamp is a [`MediaSpan`], the distance from the zero of the publisher's clock; its offset
//! is the [`MediaTime`] of that zero. All tracks of one publisher share a clock, so they share the
//! offset that maps it. If one track jumps first, the others adopt its offset when they reach the
//! jump, which keeps audio and video in step.
//!
//! Whatever the timestamps are, a decode time stays near the wall clock and the other track
//! (`verdict`). A track that does not gets another offset, which is reported as a [`Notice`]. A
//! track that does so repeatedly, or whose timestamps stand still, is timed by arrival (`retimed`).
//! Timestamps in presentation order are put in decoding order (`reorder`). A publisher's clock that
//! is a little faster or slower than ours is followed (`drift`). An outage does not remain as
//! latency (`lead`).

use std::time::{Duration, Instant};

use super::{
    drift::Drift,
    limits::{ACTIVE, FAR, LEAST_STEP},
    outage::Outage,
    reorder::Reorder,
    retimed::Retimed,
    verdict::{Position, Verdict},
};
use crate::{Anchor, MediaSpan, MediaTime, TrackIndex};

/// A step back of at most 100 ms is jitter: the frame is placed directly after the one before it.
const STEP_BACK: MediaSpan = MediaSpan::from_millis(100);
/// Limit of a forward step of video beyond the elapsed time: 2.5 s, because a publisher may drop
/// frames that it could not send.
const VIDEO_STEP: MediaSpan = MediaSpan::from_millis(2_500);
/// The same for audio, whose frames are close together: 0.5 s, unless the other track has the same
/// step.
const AUDIO_STEP: MediaSpan = MediaSpan::from_millis(500);
/// The timestamps of two tracks are on the same clock if they differ by at most 5 s.
const NEAR: MediaSpan = MediaSpan::from_millis(5_000);
/// The first timestamp of audio may be up to 30 s behind video on the same clock: a relay may send
/// all pictures of its cache before the audio that belongs to them.
const BACKLOG: MediaSpan = MediaSpan::from_millis(30_000);
/// Number of consecutive steps of a millisecond or less after which timestamps are no clock.
const STANDS_STILL: u8 = 8;
/// Number of jumps of one track within [`JUMPS_SPAN`] after which its timestamps are no clock.
const JUMPS: u8 = 3;
/// Time in which [`JUMPS`] is counted.
const JUMPS_SPAN: Duration = Duration::from_secs(10);

/// Maps timestamps; one for each broadcast.
#[derive(Debug)]
pub struct Timeline {
    pub(super) tracks: Vec<Clock>,
    /// The track whose distance from the wall clock shows the publisher's drift.
    master: TrackIndex,
    /// The newest mapping of the publisher's clock. `None` before a publisher's first frame.
    current: Option<Epoch>,
    /// The frame with the newest decode time over all tracks.
    pub(super) newest: Option<Arrival>,
    /// Media time of the first frame.
    origin: Anchor,
    pub(super) drift: Drift,
    pub(super) outage: Outage,
}

/// A frame's place on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its decode time.
    pub dts: MediaTime,
    /// When it arrived.
    pub arrived: Instant,
}

/// The mapped time of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Decode time: later than that of the track's previous frame.
    pub dts: MediaTime,
    /// The mapped timestamp. It differs from `dts` if timestamps are not in decoding order.
    pub stamp: MediaTime,
    /// The correction of the track, if it got another offset.
    pub notice: Option<Notice>,
}

/// Why a track got another offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Its timestamps jumped, or moved away from the wall clock or the other track.
    Jumped,
    /// All of the publisher's frames arrived increasingly late: they continue at the wall clock,
    /// after a gap.
    Late,
    /// Its timestamps are no clock: its frames are timed by arrival.
    Retimed,
}

/// The frame is refused, because it would lead the wall clock by more than 5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFarAhead;

/// A mapping of the publisher's clock that its tracks share.
#[derive(Debug, Clone, Copy)]
struct Epoch {
    /// Media time of the timestamp zero, without the correction of drift.
    offset: MediaTime,
    /// The newest timestamp of this epoch.
    stamp: MediaSpan,
}

/// One track of the timeline.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    video: bool,
    /// `None` before the first frame of the present publisher.
    pub(super) own: Option<Own>,
    /// The newest frame, of any publisher.
    pub(super) newest: Option<Arrival>,
}

/// Recent jumps of a track.
#[derive(Debug, Clone, Copy)]
struct Jumps {
    since: Instant,
    count: u8,
}

/// A track's own view of the publisher's clock.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// That of the current epoch, unless the tracks have parted.
    pub(super) offset: MediaTime,
    /// The newest timestamp, and its arrival.
    stamp: MediaSpan,
    pub(super) arrived: Instant,
    /// The highest timestamp, and the second highest: frames that are decoded late are shown
    /// between these two.
    top: MediaSpan,
    floor: MediaSpan,
    /// Number of consecutive steps of a millisecond or less.
    still: u8,
    /// Time since which it has been too far behind.
    behind: Option<Instant>,
    /// Jumps since this instant.
    jumps: Jumps,
    reorder: Reorder,
    retimed: Option<Retimed>,
}

/// A timestamp, the offset that maps it, and the arrival of its frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapped {
    pub(super) offset: MediaTime,
    pub(super) stamp: MediaSpan,
    pub(super) arrived: Instant,
}

/// When a frame is decoded.
#[derive(Debug, Clone, Copy)]
struct Decode {
    time: MediaTime,
    /// Whether timestamps are not in decoding order.
    reordered: bool,
}

impl Timeline {
    /// A timeline of tracks that are `video` or audio; the first video is the master, otherwise the
    /// first audio. `origin` defines the time of the first frame.
    pub fn new(origin: Anchor, video: &[bool]) -> Self {
        let clock = |&video: &bool| Clock { video, ..Clock::default() };
        Self {
            tracks: video.iter().map(clock).collect(),
            master: video
                .iter()
                .position(|video| *video)
                .map_or(TrackIndex::FIRST, TrackIndex::new),
            current: None,
            newest: None,
            origin,
            drift: Drift::default(),
            outage: Outage::default(),
        }
    }

    /// Adds a track with this index, on the clock of the publisher's other tracks.
    pub fn add_track(&mut self, track: TrackIndex, video: bool) {
        let tracks = self.tracks.len().max(track.get() + 1);
        self.tracks.resize_with(tracks, Clock::default);
        self.tracks[track.get()].video = video;
    }

    /// Starts another publisher: its clock is new, and is mapped by the wall clock at its first
    /// frame.
    pub fn republish(&mut self) {
        self.current = None;
        self.drift.restart();
        self.outage.restart();
        for clock in &mut self.tracks {
            clock.own = None;
        }
    }

    /// The media time at `now`: that of the newest frame, plus the time since its arrival. If
    /// frames lead the wall clock, media time stands still until the wall clock has caught up.
    pub fn at(&self, now: Instant) -> MediaTime {
        let wall = self.wall(now);
        match self.newest {
            // Media time continues from the newest frame, so that a publisher that lags evenly
            // keeps its own pace. A frame that leads the wall clock must not carry it further
            // ahead.
            Some(Arrival { dts, arrived }) => {
                (dts + MediaSpan::elapsed(arrived, now)).min(wall.max(dts))
            }
            None => wall,
        }
    }

    /// Time for which a frame has had no successor, although the wall clock has passed it. A frame
    /// that leads the wall clock needs none yet: media time stands still until then, so that a gap
    /// after it would have no duration.
    pub fn silence(&self, frame: Arrival, now: Instant) -> Duration {
        let due = self.wall(now) - frame.dts;
        now.saturating_duration_since(frame.arrived).min(due.duration())
    }

    /// Shifts the publisher's clock by `later`, so that the newest frame of `track`, whose
    /// time was declared a gap, follows the gap. Returns false, without a change, if that puts it
    /// too far ahead of the wall clock.
    pub fn delay(&mut self, track: TrackIndex, later: MediaSpan, arrived: Instant) -> bool {
        let wall = self.wall(arrived);
        let Some(Arrival { dts, .. }) = self.tracks[track.get()].newest else {
            return false;
        };
        let offset = self.tracks[track.get()].own.as_ref().map(|own| own.offset);
        // The limit of `map` holds for a delayed frame, too.
        let Some(offset) = offset.filter(|_| dts + later <= wall + FAR) else {
            return false;
        };
        self.shift(track, offset, later, wall);
        self.advance_to(track, dts + later, arrived);
        true
    }

    /// Maps the timestamp of a frame of `track`.
    ///
    /// # Errors
    /// [`TooFarAhead`]: it is not placed, and decode times are as before.
    pub fn map(
        &mut self,
        track: TrackIndex,
        stamp: MediaSpan,
        arrived: Instant,
    ) -> Result<Placed, TooFarAhead> {
        let wall = self.wall(arrived);
        // The frame follows the track's previous one. If even the earliest such time is too far
        // ahead, no offset can help.
        let last = self.tracks[track.get()].newest.map(|last| last.dts);
        let least = last.map_or(MediaTime::MIN, |last| last + LEAST_STEP);
        if least > wall + FAR {
            return Err(TooFarAhead);
        }
        let before = self.drift.correction();
        self.drift.run(arrived);
        // The part of a lead that the drift correction removes no longer belongs to the outage.
        self.outage.shift((self.drift.correction() - before).min(MediaSpan::ZERO));
        // Timestamps that are no clock are neither followed nor judged: the arrival gives the time.
        if self.is_retimed(track, stamp, arrived) {
            let dts = self.time_by_arrival(track, stamp, arrived).max(least);
            self.advance_to(track, dts, arrived);
            let stamp = dts;
            return Ok(Placed { dts, stamp, notice: None });
        }
        let follows = self.follows(track, stamp, arrived);
        let (offset, mut notice) = self.offset_of(track, stamp, arrived, follows);
        let mapped = self.place(stamp, offset);
        // The offset is accepted only if the mapped time stays near the wall clock and the other
        // tracks.
        let verdict = self.position(track, mapped, arrived).verdict();
        let offset = match verdict {
            Verdict::Fine | Verdict::Behind => offset,
            Verdict::TooFarAhead => return Err(TooFarAhead),
            Verdict::Jump(place) => {
                notice = Some(Notice::Jumped);
                self.offset(stamp, place)
            }
            Verdict::Late(by) => {
                // The tracks on this clock are late by the same time, so they are shifted together
                // and stay in step.
                notice = Some(Notice::Late);
                self.shift(track, offset, by, wall);
                offset + by
            }
        };
        // The frame is placed: no refusal follows.
        let follows = follows && notice != Some(Notice::Jumped);
        let behind = matches!(verdict, Verdict::Behind);
        self.follow(track, Mapped { offset, stamp, arrived }, follows, behind);
        let mapped = self.place(stamp, offset);
        let decode = self.decode_time(track, stamp, mapped);
        let dts = decode.time.max(least);
        self.advance_to(track, dts, arrived);
        // A clock that jumps often or does not advance is given up: arrivals time the frames after
        // this one.
        if notice == Some(Notice::Jumped) && self.count_jump(track, arrived)
            || self.stands_still(track)
        {
            self.retime(track, stamp, arrived);
            notice = Some(Notice::Retimed);
        }
        let stamp = if decode.reordered { mapped } else { dts };
        // One track is enough to measure the publisher's clock, because all tracks share it.
        if track == self.master {
            self.drift.observe(stamp - wall, arrived);
        }
        Ok(Placed { dts, stamp, notice })
    }

    /// The offset for a timestamp of `track`, and the notice if the track has jumped. `follows` is
    /// true if the timestamp is a plausible successor.
    fn offset_of(
        &self,
        track: TrackIndex,
        stamp: MediaSpan,
        arrived: Instant,
        follows: bool,
    ) -> (MediaTime, Option<Notice>) {
        // A plausible timestamp keeps the track's offset. After a jump, the track first tries the
        // offset that another track has adopted, because all tracks of a publisher share a clock;
        // otherwise the jump is its own and it continues at the present media time.
        let own = self.tracks[track.get()].own.as_ref().map(|own| own.offset);
        if let Some(offset) = own.filter(|_| follows) {
            return (offset, None);
        }
        match self.adopted(track, own, stamp) {
            Some(offset) => (offset, None),
            None => (self.offset(stamp, self.at(arrived)), own.is_some().then_some(Notice::Jumped)),
        }
    }

    /// The wall clock at `now`, as a media time.
    pub(super) fn wall(&self, now: Instant) -> MediaTime {
        self.origin.media_time(now)
    }

    /// The media time to which `offset` maps `stamp`.
    pub(super) fn place(&self, stamp: MediaSpan, offset: MediaTime) -> MediaTime {
        offset + stamp + self.drift.correction()
    }

    /// The offset that maps `stamp` to `place`.
    fn offset(&self, stamp: MediaSpan, place: MediaTime) -> MediaTime {
        place - stamp - self.drift.correction()
    }

    /// The latest position of the other active tracks.
    fn beside(&self, track: TrackIndex, now: Instant) -> Option<MediaTime> {
        let wall = self.wall(now);
        let position = |(index, clock): (usize, &Clock)| {
            let newest = clock.newest.filter(|_| index != track.get() && clock.own.is_some());
            let Arrival { dts, arrived } = newest?;
            // A track that has stopped shows where the publisher was, not where it is.
            let active = now.saturating_duration_since(arrived) < ACTIVE;
            active.then(|| (dts + MediaSpan::elapsed(arrived, now)).min(wall.max(dts)))
        };
        self.tracks.iter().enumerate().filter_map(position).max()
    }

    /// The mapped time `at` of a frame of `track`, and the times that it is compared with.
    fn position(&self, track: TrackIndex, at: MediaTime, arrived: Instant) -> Position {
        let since = self.tracks[track.get()].own.as_ref().and_then(|own| own.behind);
        Position {
            at,
            wall: self.wall(arrived),
            beside: self.beside(track, arrived),
            behind: since.map(|since| arrived.saturating_duration_since(since)),
        }
    }

    /// Whether `stamp` is a plausible successor of the track's earlier timestamps.
    pub(super) fn follows(&self, track: TrackIndex, stamp: MediaSpan, arrived: Instant) -> bool {
        let Clock { video, own: Some(own), .. } = &self.tracks[track.get()] else {
            return false;
        };
        let step = stamp - own.top;
        // Video may go back as far as the second highest timestamp, because pictures are reordered.
        // Other steps back can only be jitter.
        if step < MediaSpan::ZERO {
            return step >= -STEP_BACK || *video && stamp > own.floor;
        }
        let most = if *video { VIDEO_STEP } else { AUDIO_STEP };
        // A large step is plausible too if another track on the same clock has made it.
        let confirmed = |(index, clock): (usize, &Clock)| {
            let other =
                clock.own.as_ref().filter(|other| index != track.get() && other.retimed.is_none());
            other.is_some_and(|other| other.offset == own.offset && other.top >= stamp - AUDIO_STEP)
        };
        step <= most + MediaSpan::elapsed(own.arrived, arrived)
            || self.tracks.iter().enumerate().any(confirmed)
    }

    /// The newest offset, if another track has adopted it and `stamp` is on its clock.
    fn adopted(
        &self,
        track: TrackIndex,
        own: Option<MediaTime>,
        stamp: MediaSpan,
    ) -> Option<MediaTime> {
        let epoch = self.current.filter(|epoch| own != Some(epoch.offset))?;
        let behind = epoch.stamp - stamp;
        // Only the first audio frame may be so far behind, after the cached pictures of a relay. A
        // later frame that is so far behind has jumped.
        let begins = own.is_none() && !self.tracks[track.get()].video;
        let most = if begins { BACKLOG } else { NEAR };
        (-NEAR..=most).contains(&behind).then_some(epoch.offset)
    }

    /// Continues the track's clock with this timestamp.
    pub(super) fn follow(
        &mut self,
        track: TrackIndex,
        mapped: Mapped,
        follows: bool,
        behind: bool,
    ) {
        let Mapped { offset, stamp, arrived } = mapped;
        // A frame that does not follow begins another epoch, which the other tracks adopt when they
        // reach it. The shift of an outage belongs to the former epoch.
        match self.current.as_mut().filter(|epoch| epoch.offset == offset) {
            Some(epoch) => epoch.stamp = epoch.stamp.max(stamp),
            None if !follows => {
                self.current = Some(Epoch { offset, stamp });
                self.outage.restart();
            }
            None => {}
        }
        let own = &mut self.tracks[track.get()].own;
        let jumps = own.as_ref().map_or(Jumps { since: arrived, count: 0 }, |own| own.jumps);
        // Otherwise the track's clock begins anew. Only its count of jumps stays, which decides
        // whether the timestamps are a clock at all.
        match own {
            Some(own) if follows => {
                let step = (stamp - own.stamp).abs();
                own.still = if step <= LEAST_STEP { own.still.saturating_add(1) } else { 0 };
                (own.offset, own.stamp, own.arrived) = (offset, stamp, arrived);
                // Timestamps between `floor` and `top` are those of reordered pictures, not jumps.
                if stamp > own.top {
                    (own.floor, own.top) = (own.top, stamp);
                }
                own.behind = behind.then(|| own.behind.unwrap_or(arrived));
            }
            own => {
                *own = Some(Own {
                    offset,
                    stamp,
                    arrived,
                    top: stamp,
                    floor: stamp,
                    still: 0,
                    behind: behind.then_some(arrived),
                    jumps,
                    reorder: Reorder::default(),
                    retimed: None,
                });
            }
        }
    }

    /// The decode time of a frame whose timestamp maps to `mapped`.
    fn decode_time(&mut self, track: TrackIndex, stamp: MediaSpan, mapped: MediaTime) -> Decode {
        let unchanged = Decode { time: mapped, reordered: false };
        let Clock { video: true, own: Some(own), .. } = &mut self.tracks[track.get()] else {
            return unchanged;
        };
        // A timestamp that is further back is jitter.
        if stamp <= own.floor && stamp < own.top {
            return unchanged;
        }
        let decode = own.reorder.decode(stamp);
        Decode { time: mapped - (stamp - decode), reordered: own.reorder.is_needed() }
    }

    fn advance_to(&mut self, track: TrackIndex, dts: MediaTime, arrived: Instant) {
        self.tracks[track.get()].newest = Some(Arrival { dts, arrived });
        if self.newest.is_none_or(|newest| dts > newest.dts) {
            self.newest = Some(Arrival { dts, arrived });
        }
    }

    /// Shifts the tracks whose clock `offset` maps by `later`; a negative value shifts them
    /// earlier. `track` is always shifted, others only if they would not be too far ahead.
    pub(super) fn shift(
        &mut self,
        track: TrackIndex,
        offset: MediaTime,
        later: MediaSpan,
        wall: MediaTime,
    ) {
        // A track that would lead the wall clock too far keeps its offset. The publisher as a whole
        // is not shifted then, so neither the outage nor the epoch records a shift.
        let mut all = true;
        for (index, clock) in self.tracks.iter_mut().enumerate() {
            let room = clock.newest.is_none_or(|newest| newest.dts + later <= wall + FAR);
            let Some(own) = clock.own.as_mut().filter(|own| own.offset == offset) else {
                continue;
            };
            if index == track.get() || room {
                own.offset = own.offset + later;
                own.behind = None;
            } else {
                all = false;
            }
        }
        if !all {
            return;
        }
        self.outage.shift(later);
        self.drift.restart();
        if let Some(epoch) = self.current.as_mut().filter(|epoch| epoch.offset == offset) {
            epoch.offset = epoch.offset + later;
        }
    }

    /// Counts a jump of the track. Returns whether there were too many recently.
    fn count_jump(&mut self, track: TrackIndex, arrived: Instant) -> bool {
        // Rare jumps are corrected one by one. The count begins again after each span, so that they
        // never add up over the life of a broadcast.
        let Some(Own { jumps: Jumps { since, count }, .. }) = &mut self.tracks[track.get()].own
        else {
            return false;
        };
        if arrived.saturating_duration_since(*since) > JUMPS_SPAN {
            (*since, *count) = (arrived, 0);
        }
        *count = count.saturating_add(1);
        *count >= JUMPS
    }

    fn stands_still(&self, track: TrackIndex) -> bool {
        self.tracks[track.get()].own.as_ref().is_some_and(|own| own.still >= STANDS_STILL)
    }

    fn retime(&mut self, track: TrackIndex, stamp: MediaSpan, arrived: Instant) {
        if let Some(own) = &mut self.tracks[track.get()].own {
            own.retimed = Some(Retimed::new(stamp, arrived));
        }
    }

    /// Whether the track is timed by arrival. Ends that once its timestamps have kept to the wall
    /// clock for a while.
    fn is_retimed(&mut self, track: TrackIndex, stamp: MediaSpan, arrived: Instant) -> bool {
        let Clock { own: Some(own), newest, .. } = &mut self.tracks[track.get()] else {
            return false;
        };
        let Some(retimed) = &mut own.retimed else {
            return false;
        };
        if !retimed.is_steady(stamp, arrived) {
            return true;
        }
        // The timestamps are a clock again: they continue directly after the newest frame.
        let place = newest.map_or(MediaTime::ZERO, |last| last.dts) + retimed.interval();
        let offset = self.offset(stamp, place);
        let jumps = Jumps { since: arrived, count: 0 };
        self.tracks[track.get()].own = None;
        self.follow(track, Mapped { offset, stamp, arrived }, false, false);
        if let Some(own) = &mut self.tracks[track.get()].own {
            own.jumps = jumps;
        }
        false
    }

    fn time_by_arrival(
        &mut self,
        track: TrackIndex,
        stamp: MediaSpan,
        arrived: Instant,
    ) -> MediaTime {
        let wall = self.wall(arrived);
        let Clock { own: Some(own), newest, .. } = &mut self.tracks[track.get()] else {
            return wall;
        };
        // `lead` counts a track as active by its newest arrival.
        (own.stamp, own.arrived) = (stamp, arrived);
        let last = newest.map(|last| last.dts);
        own.retimed.as_mut().map_or(wall, |retimed| retimed.next(last, wall))
    }
}
