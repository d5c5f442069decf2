//! The renditions of one broadcast: which are made, given up, refused for lack of capacity or failed, and the tracks that they become.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{
    AccessUnit, Broadcast, TrackName,
    broadcast::Rendition,
    codec::{Config, aac, avc},
};
use tracing::{info, warn};

use super::capacity::{Capacity, Permit};
use crate::{
    plan::{self, Planned},
    protocol::VideoRendition,
};

/// How often those that were refused are asked for again, and how often in the first seconds.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(250);
const FIRST: Duration = Duration::from_secs(5);

/// What a rendition is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is made, or a worker is being started to make it.
    Made,
    /// Given up because encoders fell behind; it is tried again.
    Shed,
    /// The machine was promised to others when it was asked for; it is tried again.
    Refused,
    /// Its encoder made something that players could not follow; not for the rest of the broadcast.
    Failed,
}

/// A rendition, as others may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its track's name.
    pub name: TrackName,
    /// What it is doing.
    pub state: State,
}

/// The renditions of one broadcast, dearest first; a rendition of the audio comes last.
#[derive(Debug)]
pub(super) struct Rungs {
    broadcast: Arc<Broadcast>,
    capacity: Capacity,
    /// What decoding takes.
    base: Option<Permit>,
    overhead: f64,
    /// The source that renditions are promised for.
    source: avc::Config,
    video: Vec<Rung>,
    audio: Option<Rung>,
    /// One of the source's own size has been asked for.
    stand_in_asked: bool,
    born: Instant,
    /// Those that have failed and of which the worker has not been told.
    failed: Vec<usize>,
}

#[derive(Debug)]
struct Rung {
    name: TrackName,
    video: Option<VideoRendition>,
    cost: f64,
    state: State,
    permit: Option<Permit>,
    /// The track. None until it is promised that it will be made.
    output: Option<Rendition>,
    /// The configuration of its newest units.
    config: Option<Config>,
}

impl Rung {
    fn new(planned: Planned) -> Self {
        Self {
            name: planned.name,
            video: Some(planned.video),
            cost: planned.cost,
            state: State::Refused,
            permit: None,
            output: None,
            config: None,
        }
    }

    fn of_audio(name: TrackName) -> Self {
        Self {
            name,
            video: None,
            cost: 0.0,
            state: State::Refused,
            permit: None,
            output: None,
            config: None,
        }
    }

    /// It is going to be made: its track is announced.
    fn admit(&mut self, permit: Option<Permit>, broadcast: &Arc<Broadcast>) {
        (self.permit, self.state) = (permit, State::Made);
        if self.output.is_none() {
            match broadcast.rendition(self.name.clone()) {
                Ok(output) => self.output = Some(output),
                Err(err) => {
                    warn!(rendition = %self.name, %err, "rendition refused");
                    self.state = State::Failed;
                }
            }
        }
    }
}

impl Rungs {
    /// What `planned` and `audio` can be promised of `capacity`; they are announced to the broadcast.
    pub(super) fn new(
        broadcast: &Arc<Broadcast>,
        source: &avc::Config,
        planned: Vec<Planned>,
        audio: Option<TrackName>,
        capacity: &Capacity,
    ) -> Self {
        let mut rungs = Self {
            broadcast: Arc::clone(broadcast),
            capacity: capacity.clone(),
            base: None,
            overhead: plan::decoding(source),
            source: source.clone(),
            video: planned.into_iter().map(Rung::new).collect(),
            audio: audio.map(Rung::of_audio),
            stand_in_asked: false,
            born: Instant::now(),
            failed: Vec::new(),
        };
        rungs.admit();
        rungs
    }

    /// Asks again for those that were refused; the indices of those that are made now.
    pub(super) fn admit(&mut self) -> Vec<usize> {
        let refused: Vec<_> = (0..self.video.len())
            .filter(|index| self.video[*index].state == State::Refused)
            .collect();
        let costs: Vec<_> = refused.iter().map(|index| self.video[*index].cost).collect();
        let overhead = if self.base.is_some() { 0.0 } else { self.overhead };
        let (base, permits) = self.capacity.admit_all(overhead, &costs);
        let mut admitted = Vec::new();
        for (index, permit) in refused.into_iter().zip(permits) {
            if permit.is_some() {
                self.video[index].admit(permit, &self.broadcast);
                admitted.push(index);
            }
        }
        if self.base.is_none() {
            self.base = base;
        }
        if let Some(audio) = self.audio.as_mut().filter(|audio| audio.state == State::Refused)
            && self.base.is_some()
        {
            audio.admit(None, &self.broadcast);
        }
        admitted
    }

    /// How often to ask again: often at first, since a broadcast that this one replaces lets go of what it had within seconds.
    pub(super) fn ask_every(&self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.born) < FIRST {
            SOON
        } else {
            ASK_AGAIN
        }
    }

    /// Those that have failed since this was last asked.
    pub(super) fn newly_failed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.failed)
    }

    /// Bits a second of each of the video's.
    pub(super) fn bitrates(&self) -> Vec<u32> {
        let bitrate = |rung: &Rung| rung.video.as_ref().map_or(0, |video| video.bitrate_bps);
        self.video.iter().map(bitrate).collect()
    }

    /// Whether there is anything for a worker to do.
    pub(super) fn any_made(&self) -> bool {
        self.base.is_some()
    }

    /// Whether a source that is `gridded` lacks a rendition of its own size that was not asked for.
    pub(super) fn wants_stand_in(&self, gridded: bool) -> bool {
        gridded && !self.stand_in_asked
    }

    /// Adds a rendition of the source's own size, if it can be promised.
    pub(super) fn stand_in(&mut self, planned: Planned) {
        self.note_stand_in();
        if self.insert(planned) {
            self.admit();
        }
    }

    /// A rendition of the source's own size is among those that were planned.
    pub(super) fn note_stand_in(&mut self) {
        self.stand_in_asked = true;
    }

    /// A rendition that is not there yet has its place among the others, the largest first. Whether it had none.
    fn insert(&mut self, planned: Planned) -> bool {
        if self.video.iter().any(|rung| rung.name == planned.name) {
            return false;
        }
        let lines = |video: &VideoRendition| video.width.min(video.height);
        let larger = |rung: &&Rung| {
            let video = rung.video.as_ref();
            video.is_some_and(|video| lines(video) > lines(&planned.video))
        };
        let index = self.video.iter().take_while(larger).count();
        self.video.insert(index, Rung::new(planned));
        true
    }

    /// The source has changed, and would be given `planned`: what it has not had yet is added, and what its renditions cost
    /// now is promised anew, the cheapest first. Those that there is no room for any more are absent.
    pub(super) fn follow(&mut self, source: &avc::Config, planned: Vec<Planned>) {
        self.source = source.clone();
        for planned in planned {
            self.insert(planned);
        }
        self.overhead = plan::decoding(source);
        self.base = None;
        let mut shed = Vec::new();
        for (index, rung) in self.video.iter_mut().enumerate() {
            if let Some(video) = &rung.video {
                (_, rung.cost) = plan::renew(video, source, index == 0);
            }
            rung.permit = None;
            if rung.state == State::Shed {
                shed.push(index);
            }
            if rung.state != State::Failed {
                rung.state = State::Refused;
            }
        }
        for index in self.admit() {
            if shed.contains(&index) {
                self.video[index].state = State::Shed;
            }
        }
        let refused = self.video.iter_mut().filter(|rung| rung.state == State::Refused);
        refused
            .filter_map(|rung| rung.output.as_mut())
            .for_each(Rendition::absent);
    }

    /// Whether its renditions were planned for another source.
    pub(super) fn is_of_another(&self, source: &avc::Config) -> bool {
        self.source != *source
    }

    /// The source has audio: a rendition of it is made, if there is none yet.
    pub(super) fn hear(&mut self, name: TrackName) {
        if self.audio.is_none() {
            self.audio = Some(Rung::of_audio(name));
            self.admit();
        }
    }

    /// What a worker is to make: the renditions' settings for `source`, in the order of their indices.
    pub(super) fn video(&self, source: &avc::Config) -> Vec<VideoRendition> {
        let renewed = |(index, rung): (usize, &Rung)| {
            let (video, cost) = plan::renew(rung.video.as_ref()?, source, index == 0);
            let threads = self.capacity.threads(cost);
            Some(VideoRendition { threads, ..video })
        };
        self.video.iter().enumerate().filter_map(renewed).collect()
    }

    /// How many of the video there are: the audio's index.
    pub(super) fn len(&self) -> usize {
        self.video.len()
    }

    /// Whether the video rendition with this index is made.
    pub(super) fn is_made(&self, index: usize) -> bool {
        self.video.get(index).is_some_and(|rung| rung.state == State::Made)
    }

    /// Whether any has been given up.
    pub(super) fn any_shed(&self) -> bool {
        self.video.iter().any(|rung| rung.state == State::Shed)
    }

    /// Gives up the dearest that is made; its index.
    pub(super) fn shed(&mut self) -> Option<usize> {
        let index = self.video.iter().position(|rung| rung.state == State::Made)?;
        let rung = &mut self.video[index];
        rung.state = State::Shed;
        if let Some(output) = &mut rung.output {
            output.absent();
        }
        warn!(rendition = %rung.name, "encoders are behind, a rendition is given up for now");
        Some(index)
    }

    /// Makes the cheapest again that was given up; its index.
    pub(super) fn restore(&mut self) -> Option<usize> {
        let index = self.video.iter().rposition(|rung| rung.state == State::Shed)?;
        let rung = &mut self.video[index];
        rung.state = State::Made;
        info!(rendition = %rung.name, "a rendition is tried again");
        Some(index)
    }

    /// The worker is gone: nothing comes of any.
    pub(super) fn absent(&mut self) {
        for output in self.all().filter_map(|rung| rung.output.as_mut()) {
            output.absent();
        }
    }

    /// The configuration of a rendition's next units, as its worker says.
    ///
    /// # Errors
    /// The record is none: the worker is at fault.
    pub(super) fn configure(&mut self, index: usize, record: &[u8]) -> Result<(), media_core::Error> {
        let config = if index == self.video.len() {
            Config::Aac(aac::Config::parse(record)?)
        } else {
            Config::Avc(avc::Config::parse(record)?)
        };
        if let Some(rung) = self.rung(index) {
            rung.config = Some(config);
            if let Some(output) = rung.output.as_mut().filter(|_| rung.state == State::Made) {
                show(output, rung.config.as_ref(), &mut rung.state);
            }
        }
        self.note_failure(index);
        Ok(())
    }

    /// A rendition's next unit. What comes of one that is not made any more is dropped.
    pub(super) fn push(&mut self, index: usize, unit: AccessUnit) -> Option<&TrackName> {
        let rung = self.rung(index).filter(|rung| rung.state == State::Made)?;
        let output = rung.output.as_mut()?;
        if !output.is_shown() {
            show(output, rung.config.as_ref(), &mut rung.state);
            self.note_failure(index);
        }
        let rung = self.rung(index).filter(|rung| rung.state == State::Made)?;
        let output = rung.output.as_mut()?;
        // One that is not later than the newest is of a group that another worker has sent before.
        let _ = output.push(unit);
        Some(&rung.name)
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let status = |rung: &Rung| Status {
            name: rung.name.clone(),
            state: rung.state,
        };
        self.video.iter().chain(&self.audio).map(status).collect()
    }

    fn rung(&mut self, index: usize) -> Option<&mut Rung> {
        if index == self.video.len() {
            self.audio.as_mut()
        } else {
            self.video.get_mut(index)
        }
    }

    /// One that has failed keeps nothing that others could use.
    fn note_failure(&mut self, index: usize) {
        let failed = self.rung(index).filter(|rung| rung.state == State::Failed);
        if let Some(rung) = failed {
            rung.permit = None;
            if index < self.video.len() && !self.failed.contains(&index) {
                self.failed.push(index);
            }
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Rung> {
        self.video.iter_mut().chain(&mut self.audio)
    }
}

/// Tells that units with this configuration come; a codec that players do not expect is the end of the rendition.
fn show(output: &mut Rendition, config: Option<&Config>, state: &mut State) {
    if let Some(config) = config
        && let Err(err) = output.configure(config)
    {
        warn!(rendition = %output.name(), %err, "rendition given up");
        output.absent();
        *state = State::Failed;
    }
}

#[cfg(test)]
mod tests;
