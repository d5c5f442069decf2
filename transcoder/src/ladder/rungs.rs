//! The renditions of one broadcast: which are made, shed, refused for lack of capacity, or failed,
//! and the tracks of those that are made.

use std::sync::Arc;

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

/// The state of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A worker makes it, or is being started to make it.
    Made,
    /// Shed because encoders fell behind; it is tried again.
    Shed,
    /// Refused for lack of capacity when it was requested; it is tried again.
    Refused,
    /// Its encoder produced a stream that players cannot decode; it stays failed for the rest of
    /// the broadcast.
    Failed,
}

/// The public state of a rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The name of its track.
    pub name: TrackName,
    /// Its state.
    pub state: State,
}

/// The renditions of one broadcast, most expensive first; an audio rendition is last.
#[derive(Debug)]
pub(super) struct Rungs {
    broadcast: Arc<Broadcast>,
    capacity: Capacity,
    /// The capacity reserved for decoding.
    base: Option<Permit>,
    /// Cost of decoding the source in macroblocks encoded a second, whether reserved or not.
    overhead: f64,
    /// The source for which capacity is reserved.
    source: avc::Config,
    /// The renditions of the video; the position is the worker's `rendition` index.
    video: Vec<Rung>,
    /// The rendition of the audio; it reserves no capacity, because encoding it is cheap.
    audio: Option<Rung>,
    /// A rendition of the source's own size has been requested.
    stand_in_asked: bool,
    /// Failed renditions that the worker has not been informed of.
    failed: Vec<usize>,
}

/// A rendition, from its planning to the end of the broadcast.
#[derive(Debug)]
struct Rung {
    name: TrackName,
    /// The planned settings; `None` for audio.
    video: Option<VideoRendition>,
    /// Cost in macroblocks encoded a second.
    cost: f64,
    state: State,
    /// The capacity reserved for it. A shed rendition keeps it, so that it can be restored.
    permit: Option<Permit>,
    /// The track; `None` until capacity is reserved.
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

    /// Sets the state to made, with the reserved capacity, and announces the track.
    fn admit(&mut self, permit: Option<Permit>, broadcast: &Arc<Broadcast>) {
        (self.permit, self.state) = (permit, State::Made);
        if self.output.is_none() {
            match broadcast.rendition(self.name.clone()) {
                Ok(output) => self.output = Some(output),
                Err(err) => {
                    warn!(rendition = %self.name, %err, "rendition not added to the broadcast");
                    self.state = State::Failed;
                }
            }
        }
    }
}

impl Rungs {
    /// Reserves `capacity` for as many of `planned` and `audio` as fit, and announces them to the
    /// broadcast.
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
            failed: Vec::new(),
        };
        rungs.admit();
        rungs
    }

    /// Requests capacity for refused renditions again. Returns the indices of those that are made
    /// now.
    pub(super) fn admit(&mut self) -> Vec<usize> {
        let refused: Vec<_> = (0..self.video.len())
            .filter(|index| self.video[*index].state == State::Refused)
            .collect();
        let costs: Vec<_> = refused.iter().map(|index| self.video[*index].cost).collect();
        // Decoding is reserved once for all renditions.
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
        // An audio rendition alone is no reason to run a worker: it is made only beside the video.
        if let Some(audio) = self.audio.as_mut().filter(|audio| audio.state == State::Refused)
            && self.base.is_some()
        {
            audio.admit(None, &self.broadcast);
        }
        admitted
    }

    /// Takes the renditions that have failed since the last call.
    pub(super) fn newly_failed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.failed)
    }

    /// Bit rate of each video rendition, in bits a second.
    pub(super) fn bitrates(&self) -> Vec<u32> {
        let bitrate = |rung: &Rung| rung.video.as_ref().map_or(0, |video| video.bitrate_bps);
        self.video.iter().map(bitrate).collect()
    }

    /// Whether a worker has anything to make.
    pub(super) fn any_made(&self) -> bool {
        self.base.is_some()
    }

    /// Whether a source that is `gridded` lacks a rendition of its own size that has not been
    /// requested.
    pub(super) fn wants_stand_in(&self, gridded: bool) -> bool {
        gridded && !self.stand_in_asked
    }

    /// Adds a rendition of the source's own size, if there is capacity.
    pub(super) fn stand_in(&mut self, planned: Planned) {
        self.note_stand_in();
        if self.insert(planned) {
            self.admit();
        }
    }

    /// Records that the plan includes a rendition of the source's own size.
    pub(super) fn note_stand_in(&mut self) {
        self.stand_in_asked = true;
    }

    /// Inserts a new rendition among the others, largest first. Returns false if it was there
    /// already.
    fn insert(&mut self, planned: Planned) -> bool {
        if self.video.iter().any(|rung| rung.name == planned.name) {
            return false;
        }
        let lines = |video: &VideoRendition| video.width.min(video.height);
        let larger = |rung: &&Rung| {
            let video = rung.video.as_ref();
            video.is_some_and(|video| lines(video) > lines(&planned.video))
        };
        // The order decides what is shed first and what is admitted last.
        let index = self.video.iter().take_while(larger).count();
        self.video.insert(index, Rung::new(planned));
        true
    }

    /// Follows a change of the source, whose plan is now `planned`: adds new renditions, and
    /// reserves the present cost of all again, cheapest first. Those that do not fit any more
    /// become absent.
    pub(super) fn follow(&mut self, source: &avc::Config, planned: Vec<Planned>) {
        self.source = source.clone();
        for planned in planned {
            self.insert(planned);
        }
        self.overhead = plan::decoding(source);
        // All reservations are given up first, otherwise the old and the new costs would have to
        // fit together.
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
        // A rendition that was shed stays shed: another source does not make encoders faster.
        for index in self.admit() {
            if shed.contains(&index) {
                self.video[index].state = State::Shed;
            }
        }
        let refused = self.video.iter_mut().filter(|rung| rung.state == State::Refused);
        refused.filter_map(|rung| rung.output.as_mut()).for_each(Rendition::absent);
    }

    /// Whether the renditions were planned for another source.
    pub(super) fn is_of_another(&self, source: &avc::Config) -> bool {
        self.source != *source
    }

    /// Adds a rendition of the source's audio, unless there is one.
    pub(super) fn hear(&mut self, name: TrackName) {
        if self.audio.is_none() {
            self.audio = Some(Rung::of_audio(name));
            self.admit();
        }
    }

    /// The worker's task: the settings of the renditions for `source`, in the order of their
    /// indices.
    pub(super) fn video(&self, source: &avc::Config) -> Vec<VideoRendition> {
        let renewed = |(index, rung): (usize, &Rung)| {
            let (video, cost) = plan::renew(rung.video.as_ref()?, source, index == 0);
            let threads = self.capacity.threads(cost);
            Some(VideoRendition { threads, ..video })
        };
        self.video.iter().enumerate().filter_map(renewed).collect()
    }

    /// Number of video renditions, which is the index of the audio.
    pub(super) fn len(&self) -> usize {
        self.video.len()
    }

    /// Whether the video rendition with this index is made.
    pub(super) fn is_made(&self, index: usize) -> bool {
        self.video.get(index).is_some_and(|rung| rung.state == State::Made)
    }

    /// Whether any rendition has been shed.
    pub(super) fn any_shed(&self) -> bool {
        self.video.iter().any(|rung| rung.state == State::Shed)
    }

    /// Sheds the most expensive rendition that is made. Returns its index.
    pub(super) fn shed(&mut self) -> Option<usize> {
        // The most expensive one: stopping it relieves the encoders most.
        let index = self.video.iter().position(|rung| rung.state == State::Made)?;
        let rung = &mut self.video[index];
        rung.state = State::Shed;
        if let Some(output) = &mut rung.output {
            output.absent();
        }
        warn!(rendition = %rung.name, "rendition shed: encoders are behind");
        Some(index)
    }

    /// Makes the cheapest rendition that was shed again. Returns its index.
    pub(super) fn restore(&mut self) -> Option<usize> {
        // The cheapest one: it is the most likely to keep up.
        let index = self.video.iter().rposition(|rung| rung.state == State::Shed)?;
        let rung = &mut self.video[index];
        rung.state = State::Made;
        info!(rendition = %rung.name, "rendition restored");
        Some(index)
    }

    /// Marks all as absent: there is no worker.
    pub(super) fn absent(&mut self) {
        for output in self.all().filter_map(|rung| rung.output.as_mut()) {
            output.absent();
        }
    }

    /// Sets the configuration of a rendition's next units, as the worker reports it.
    ///
    /// # Errors
    /// The record is malformed, which is the worker's fault.
    pub(super) fn configure(
        &mut self,
        index: usize,
        record: &[u8],
    ) -> Result<(), media_core::Error> {
        let config = if index == self.video.len() {
            Config::Aac(aac::Config::parse(record)?)
        } else {
            Config::Avc(avc::Config::parse(record)?)
        };
        if let Some(rung) = self.rung(index) {
            // Also kept while the rendition is not made: `push` announces it with the first unit.
            rung.config = Some(config);
            if let Some(output) = rung.output.as_mut().filter(|_| rung.state == State::Made) {
                show(output, rung.config.as_ref(), &mut rung.state);
            }
        }
        self.note_failure(index);
        Ok(())
    }

    /// Publishes a rendition's next unit. Units of a rendition that is not made any more are
    /// dropped.
    pub(super) fn push(&mut self, index: usize, unit: AccessUnit) -> Option<&TrackName> {
        let rung = self.rung(index).filter(|rung| rung.state == State::Made)?;
        let output = rung.output.as_mut()?;
        // The track is absent after a failure or shedding; its configuration announces it again.
        if !output.is_shown() {
            show(output, rung.config.as_ref(), &mut rung.state);
            self.note_failure(index);
        }
        let rung = self.rung(index).filter(|rung| rung.state == State::Made)?;
        let output = rung.output.as_mut()?;
        // A unit that is not later than the newest belongs to a group that another worker has sent
        // before.
        let _ = output.push(unit);
        Some(&rung.name)
    }

    /// The states of all renditions, in the order of their indices.
    pub(super) fn status(&self) -> Vec<Status> {
        let status = |rung: &Rung| Status { name: rung.name.clone(), state: rung.state };
        self.video.iter().chain(&self.audio).map(status).collect()
    }

    /// The rendition with this index of the worker's. `None` for an index that the worker made up.
    fn rung(&mut self, index: usize) -> Option<&mut Rung> {
        if index == self.video.len() { self.audio.as_mut() } else { self.video.get_mut(index) }
    }

    /// Releases the capacity of a failed rendition.
    fn note_failure(&mut self, index: usize) {
        let failed = self.rung(index).filter(|rung| rung.state == State::Failed);
        if let Some(rung) = failed {
            rung.permit = None;
            if index < self.video.len() && !self.failed.contains(&index) {
                self.failed.push(index);
            }
        }
    }

    /// All renditions, with the audio.
    fn all(&mut self) -> impl Iterator<Item = &mut Rung> {
        self.video.iter_mut().chain(&mut self.audio)
    }
}

/// Announces the configuration of the following units. If players do not support the codec, the
/// rendition fails.
fn show(output: &mut Rendition, config: Option<&Config>, state: &mut State) {
    if let Some(config) = config
        && let Err(err) = output.configure(config)
    {
        warn!(rendition = %output.name(), %err, "rendition failed: its configuration was refused");
        output.absent();
        *state = State::Failed;
    }
}

#[cfg(test)]
mod tests;
