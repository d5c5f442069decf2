//! A broadcast's log, behind its lock: what is appended, where groups start in it, what has grown too old. Where cuts are decided is
//! `cut`'s, what time it is `timeline`'s.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Event, Limits, Presence, Refused};
use crate::{
    AccessUnit, Frame, Mark, Timescale, TrackName,
    codec::{Config, avc},
    cut::Cutter,
    timeline::Timeline,
    track::Track,
};

/// The largest distance between decoding and presentation taken: 10 s of 90 kHz ticks, some 16 reordered frames at 2 fps.
const MAX_COMPOSITION: i64 = 900_000;

/// What an entry of the log takes beside its payload, the allocator's part included.
const ENTRY_BYTES: usize = size_of::<Entry>() + 64;

#[derive(Debug)]
pub(super) struct State {
    /// Those that the publisher began with, then others of the source and renditions as they appear.
    pub(super) tracks: Vec<Track>,
    /// Renditions whose makers have not let go of them, and how many of these have shown no track yet.
    pub(super) attached: usize,
    pub(super) awaited: usize,
    /// The track whose frames decide the cuts: the source's video, else its audio.
    pub(super) master: usize,
    /// Video of the source that appeared beside a master that is audio: it becomes the master with its first key frame that can
    /// start a segment.
    pub(super) heir: Option<usize>,
    pub(super) log: VecDeque<Entry>,
    /// Position of the log's front since the start.
    pub(super) front: u64,
    pub(super) bytes: usize,
    pub(super) timeline: Timeline,
    pub(super) cutter: Cutter,
    /// A segment has started at a key frame that is not independent, and no discontinuity since.
    pub(super) recovers: bool,
    /// `pts - dts` of the newest key frame: the reordering delay that puts decode times on the presentation clock.
    pub(super) reorder: i64,
    pub(super) presence: Presence,
    /// The claim's number of the publisher whose frames are taken; 0 while there is none.
    pub(super) publisher: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) arrived: Instant,
    pub(super) bytes: usize,
}

impl State {
    pub(super) fn configure(&mut self, track: usize, config: &Config) {
        if *self.tracks[track].config == *config {
            return;
        }
        let config = Arc::new(config.clone());
        self.tracks[track].config = Arc::clone(&config);
        self.cutter.expect_discontinuity();
        let arrived = self.log.back().map(|entry| entry.arrived);
        match arrived {
            Some(arrived) => self.append(Event::Config { track, config }, arrived, 0),
            None => self.tracks[track].oldest_config = config,
        }
    }

    /// Adds a track of the source; its index.
    pub(super) fn add(&mut self, name: TrackName, config: Config, start: Instant) -> usize {
        let (track, config) = (self.tracks.len(), Arc::new(config));
        if config.is_video() && !self.tracks[self.master].config.is_video() {
            self.heir = Some(track);
        }
        self.tracks.push(Track::new(name, Arc::clone(&config), true));
        self.timeline.add_track(track);
        self.tell(Event::Config { track, config }, start);
        track
    }

    pub(super) fn push(&mut self, track: usize, unit: AccessUnit, limits: &Limits) -> Result<(), Refused> {
        let AccessUnit {
            dts: stamp,
            pts,
            key,
            independent,
            arrived,
            payload,
        } = unit;
        let composition = pts.saturating_sub(stamp).clamp(-MAX_COMPOSITION, MAX_COMPOSITION);
        let mut dts = self.timeline.map(track, stamp, arrived);
        if track == self.master && key && !self.cutter.has_started() {
            self.hear_of_groups(track, &payload);
        }
        let mark = if track == self.master {
            self.cut(track, &mut dts, composition, key, arrived)?
        } else if self.heir == Some(track) {
            Some(self.succeed(track, &mut dts, composition, key, arrived)?)
        } else {
            None
        };
        if let Some(mark) = mark {
            self.recovers &= !mark.discontinuity;
            self.recovers |= key && !independent;
        }
        let position = self.end();
        if let Some(mark) = mark {
            let sources = self.tracks.iter_mut().enumerate().filter(|(_, track)| track.source);
            for (index, track) in sources {
                track.next_group = (index != self.master).then_some(mark.pts);
            }
        }
        let timescale = self.tracks[track].config.timescale();
        let state = &mut self.tracks[track];
        let starts_group = match state.config.is_video() {
            true => key,
            false => mark.is_some() || state.next_group.is_some_and(|time| dts >= time),
        };
        if starts_group {
            state.group = Some(position);
            state.next_group = None;
        }
        let bytes = payload.len();
        state.frames += 1;
        state.bytes += bytes as u64;
        state.rate.add(bytes as u64, arrived);
        let frame = Frame {
            dts: Timescale::VIDEO.rescale(dts, timescale),
            pts: Timescale::VIDEO.rescale(dts.saturating_add(composition), timescale),
            key,
            independent,
            mark,
            arrived,
            payload,
        };
        self.append(Event::Frame { track, frame }, arrived, bytes);
        self.evict(limits, arrived);
        Ok(())
    }

    /// What the encoder says of its groups, in the first picture.
    fn hear_of_groups(&mut self, track: usize, payload: &[u8]) {
        let Config::Avc(config) = &*self.tracks[track].config else {
            return;
        };
        if let Some(frames) = avc::stated_group(payload) {
            let fps = config.frame_rate.unwrap_or(30.0);
            self.cutter
                .expect_groups(Duration::from_secs_f64(f64::from(frames) / fps));
        }
    }

    /// The mark before a frame of the master track, if it starts a segment.
    fn cut(
        &mut self,
        track: usize,
        dts: &mut i64,
        composition: i64,
        key: bool,
        arrived: Instant,
    ) -> Result<Option<Mark>, Refused> {
        // On the clock of key frames' presentation: decode order with the reordering delay of the newest key frame.
        let video = self.tracks[track].config.is_video();
        if video && key {
            self.reorder = composition;
        }
        let reorder = if video { self.reorder } else { 0 };
        if self.cutter.is_hole(dts.saturating_add(reorder))
            && let Some(mark) = self.cutter.begin_gap()
        {
            self.cutter.resume_anywhere();
            self.append(Event::Gap(mark), arrived, 0);
        }
        if key {
            self.delay_to_resume(track, dts, reorder, arrived);
        }
        let was_gap = self.cutter.in_gap();
        let started = self.cutter.has_started();
        match self.cutter.frame(dts.saturating_add(reorder), key) {
            Some(mark) => Ok(Some(mark)),
            None if !started => Err(Refused::BeforeKeyFrame),
            None if was_gap && !key => Err(Refused::BeforeKeyFrame),
            None if was_gap => Err(Refused::InGap),
            None => Ok(None),
        }
    }

    /// A key frame that came too late for its time, after a stall or a return, is kept if it can go a little later.
    fn delay_to_resume(&mut self, track: usize, dts: &mut i64, reorder: i64, arrived: Instant) {
        let Some(from) = self.cutter.resume_from() else { return };
        let later = from.saturating_sub(dts.saturating_add(reorder));
        if later > 0 && self.timeline.delay(track, later, arrived) {
            *dts += later;
        }
    }

    /// The heir becomes the master where a segment can start with its frame: the mark before it.
    fn succeed(
        &mut self,
        track: usize,
        dts: &mut i64,
        composition: i64,
        key: bool,
        arrived: Instant,
    ) -> Result<Mark, Refused> {
        if !key {
            return Err(Refused::BeforeKeyFrame);
        }
        self.delay_to_resume(track, dts, composition, arrived);
        let mark = self.cutter.change_master(dts.saturating_add(composition));
        let mark = mark.ok_or(Refused::BeforeKeyFrame)?;
        (self.master, self.heir) = (track, None);
        self.reorder = composition;
        Ok(mark)
    }

    /// `bytes`: of payload; what the entry itself takes is counted too, so that many small ones are as bounded as few large ones.
    pub(super) fn append(&mut self, event: Event, arrived: Instant, bytes: usize) {
        let bytes = bytes + ENTRY_BYTES;
        self.bytes += bytes;
        self.log.push_back(Entry { event, arrived, bytes });
    }

    /// Appends what is no frame, as of the time of what came last: `start` if nothing is held.
    pub(super) fn tell(&mut self, event: Event, start: Instant) {
        let arrived = self.log.back().map_or(start, |entry| entry.arrived);
        self.append(event, arrived, 0);
    }

    pub(super) fn end(&self) -> u64 {
        self.front + self.log.len() as u64
    }

    /// Where reading must start to get the newest group of each track, `renditions` included or not.
    pub(super) fn newest_groups(&self, renditions: bool) -> u64 {
        self.tracks
            .iter()
            .filter(|track| renditions || track.source)
            .filter_map(|track| track.group)
            .min()
            .unwrap_or(self.end())
            .max(self.front)
    }

    /// For each track, where its newest group starts among what is at `next` or later.
    pub(super) fn starts(&self, next: u64) -> Vec<u64> {
        self.tracks
            .iter()
            .map(|track| track.group.unwrap_or(next).max(next))
            .collect()
    }

    /// The configuration of each track that the frames at `next` need.
    pub(super) fn configs(&self, next: u64) -> Vec<Arc<Config>> {
        let mut configs: Vec<_> = self
            .tracks
            .iter()
            .map(|track| Arc::clone(&track.oldest_config))
            .collect();
        let before = usize::try_from(next - self.front).unwrap_or(usize::MAX);
        for entry in self.log.iter().take(before) {
            if let Event::Config { track, config } = &entry.event {
                configs[*track] = Arc::clone(config);
            }
        }
        configs
    }

    pub(super) fn evict(&mut self, limits: &Limits, now: Instant) {
        let keep = self.newest_groups(true);
        while let Some(entry) = self.log.front() {
            let old = self.front < keep && now.saturating_duration_since(entry.arrived) > limits.age;
            if !old && self.bytes <= limits.bytes {
                break;
            }
            self.bytes -= entry.bytes;
            self.front += 1;
            if let Some(Entry {
                event: Event::Config { track, config },
                ..
            }) = self.log.pop_front()
            {
                self.tracks[track].oldest_config = config;
            }
        }
    }
}
