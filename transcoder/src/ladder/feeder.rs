//! Sends the source to a worker from a key frame on, until it has a gap, changes or ends, or until
//! the next worker takes over at a mark.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use media_core::{
    Frame, MediaTime, Timescale, TrackIndex,
    broadcast::{Consumer, Event, TrackStart},
    codec::{Config, aac, avc},
};
use tokio::sync::watch;

use super::{
    end::End,
    progress::{Progress, lock},
    source::SourceTrack,
};
use crate::{
    metrics::Metrics,
    process::Orders,
    protocol::{Job, Media, Order},
};

/// Frames that have waited longer are skipped if there is a newer group.
const TOO_LATE: Duration = Duration::from_secs(4);

/// The list of renditions that a running worker should make.
///
/// The feeder gets it as a state, not as a queue of orders: while a full socket blocks the feeder,
/// a later list replaces an earlier one, and none is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// For each rendition, whether it is made.
    pub(super) made: Vec<bool>,
    /// Whether the next worker takes over at the next mark, for another list of renditions.
    pub(super) replan: bool,
}

/// The sending side of one worker.
pub(super) struct Feeder<'a> {
    pub(super) orders: Orders,
    /// Shared with the task that reads reports. Locked only for a few instructions.
    pub(super) progress: &'a Mutex<Progress>,
    pub(super) metrics: &'a Metrics,
    /// The video track, with the configuration of the worker's decoder.
    pub(super) video: SourceTrack<avc::Config>,
    /// The audio track that the worker gets.
    pub(super) audio: Option<SourceTrack<aac::Config>>,
    /// Whether a late audio track ends this worker at the next mark, so that the next one gets it.
    pub(super) waits_for_audio: bool,
    /// For each rendition, whether it is wanted; as in the newest [`Wanted`] that was read.
    pub(super) made: Vec<bool>,
    /// Whether renditions are being made yet.
    pub(super) making: Making,
    /// Whether the end of this worker has been requested.
    pub(super) leaving: Leaving,
}

/// Whether the worker makes renditions of the media that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Making {
    /// It only decodes, up to the first mark after this time, because renditions of earlier media
    /// would be discarded.
    After(MediaTime),
    /// It makes the wanted ones.
    Wanted,
}

/// Whether the next worker takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// This worker stays.
    No,
    /// The next worker starts at the next mark.
    AtNextMark,
    /// The next worker starts at the mark at this time. This one still gets the pictures that are
    /// decoded later but shown before it.
    At(MediaTime),
}

impl Feeder<'_> {
    /// Sends `job`, then the source from the key frame `first` on, and the changes of `wanted`.
    /// Returns why it ended. Waits only for the worker.
    ///
    /// # Errors
    /// The worker has closed the socket.
    pub(super) async fn run(
        mut self,
        job: Job,
        first: Frame,
        consumer: &mut Consumer,
        mut wanted: watch::Receiver<Wanted>,
    ) -> io::Result<End> {
        self.orders.send(&Order::Job(Box::new(job))).await?;
        // A worker starts with all renditions on. The ones that are shed or refused are switched
        // off first, and all of them while the media is only decoded.
        for index in 0..self.made.len() {
            if self.making != Making::Wanted || !self.made[index] {
                self.orders.send(&make(index, false)).await?;
            }
        }
        let mut end = self.send_video(first, consumer).await?;
        while end.is_none() {
            // A change goes first, so that it is in force at the next mark.
            end = tokio::select! {
                biased;
                Ok(()) = wanted.changed() => {
                    let newest = wanted.borrow_and_update().clone();
                    self.change(&newest).await.map(|()| None)?
                }
                event = consumer.next() => match event {
                    Some(event) => self.apply(event, consumer).await?,
                    None => Some(End::Over),
                },
            };
        }
        self.orders.send(&Order::End).await?;
        Ok(end.unwrap_or(End::Over))
    }

    /// Applies another list of wanted renditions.
    async fn change(&mut self, wanted: &Wanted) -> io::Result<()> {
        if wanted.replan {
            self.leave();
        }
        for (index, &on) in wanted.made.iter().enumerate() {
            // While the worker makes nothing, changes are only recorded: `begin_making` sends the
            // list.
            if std::mem::replace(&mut self.made[index], on) != on && self.making == Making::Wanted {
                self.orders.send(&make(index, on)).await?;
            }
        }
        Ok(())
    }

    /// Lets the next worker start at the next mark.
    fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::AtNextMark;
        }
    }

    /// Handles an event of the source. Returns why this worker ends, if it does.
    async fn apply(&mut self, event: Event, consumer: &mut Consumer) -> io::Result<Option<End>> {
        match event {
            Event::Frame { track, frame } if track == self.video.index => {
                self.send_video(frame, consumer).await
            }
            Event::Frame { track, frame } => self.send_audio(track, frame).await.map(|()| None),
            Event::Track(TrackStart { index, config, .. })
            | Event::Config { track: index, config } => Ok(self.configure(index, &config)),
            // The decoder's references do not span a gap, so a new worker starts at the next key
            // frame.
            Event::Gap(_) => Ok(Some(End::Drained(None))),
            Event::Lagged { frames, .. } => {
                self.metrics.skipped.inc_by(frames);
                Ok(None)
            }
            // These concern the packager. The frames have the marks already.
            Event::Absent { .. }
            | Event::GapUntil(_)
            | Event::Presence(_)
            | Event::Rule(_)
            | Event::Awaited(_) => Ok(None),
        }
    }

    /// Sends a frame of the video, and the orders that must precede it. Returns [`End::Replan`]
    /// with the first frame that is shown after the mark at which the next worker starts.
    async fn send_video(
        &mut self,
        frame: Frame,
        consumer: &mut Consumer,
    ) -> io::Result<Option<End>> {
        let now = Instant::now();
        // A worker that is too slow gets newer groups, so that renditions stay near the source.
        if now.saturating_duration_since(frame.arrived) > TOO_LATE && !frame.key {
            // Not at a key frame: its group may be the newest one, to which an earlier skip has
            // led.
            consumer.skip_to_newest();
        }
        let mark = frame.mark.map(|mark| mark.pts);
        let mark = self.begin_making(mark).await?;
        // Outputs from the mark on are discarded from now on, because the next worker makes them
        // again.
        if let (Some(pts), Leaving::AtNextMark) = (mark, self.leaving) {
            lock(self.progress).leave_at(pts);
            self.leaving = Leaving::At(pts);
        }
        // Pictures that are shown before the mark's may follow it.
        let done = matches!(
            self.leaving,
            Leaving::At(left) if frame.pts.media_time(Timescale::VIDEO) > left
        );
        // Recorded before it is sent: the send may wait for room, which counts as silence, and the
        // worker's output may arrive before the send returns.
        lock(self.progress).feed(frame.pts.media_time(Timescale::VIDEO), frame.arrived, now);
        let order = unit(Media::Video, frame, mark, Timescale::VIDEO);
        self.orders.send(&order).await?;
        lock(self.progress).fed();
        Ok(done.then_some(End::Replan))
    }

    /// Starts the wanted renditions if `mark` is the first after the published media. Returns the
    /// mark for the worker, which gets none before.
    async fn begin_making(&mut self, mark: Option<MediaTime>) -> io::Result<Option<MediaTime>> {
        let Making::After(published) = self.making else {
            return Ok(mark);
        };
        if mark.is_none_or(|mark| mark <= published) {
            return Ok(None);
        }
        // The renditions are switched on before the marked unit is sent, so that they start at this
        // mark.
        self.making = Making::Wanted;
        for index in 0..self.made.len() {
            if self.made[index] {
                self.orders.send(&make(index, true)).await?;
            }
        }
        Ok(mark)
    }

    /// Sends a frame of the audio track that the worker has; frames of other tracks are ignored.
    async fn send_audio(&mut self, track: TrackIndex, frame: Frame) -> io::Result<()> {
        match &self.audio {
            Some(audio) if audio.index == track => {
                let order = unit(Media::Audio, frame, None, audio.config.timescale);
                self.orders.send(&order).await
            }
            _ => Ok(()),
        }
    }

    /// Handles a configuration. Encoders have a fixed size and decoders a fixed configuration, so a
    /// change needs another worker.
    fn configure(&mut self, track: TrackIndex, config: &Arc<Config>) -> Option<End> {
        // The same configuration again, as some encoders send it, needs no other worker. A first
        // audio track does not interrupt the renditions: the next worker takes over at a mark.
        let same = match (&**config, &self.audio) {
            (config, _) if track == self.video.index => {
                matches!(config, Config::Avc(avc) if *avc == self.video.config)
            }
            (config, _) if self.waits_for_audio && !config.is_video() => {
                self.leave();
                true
            }
            (config, Some(audio)) if audio.index == track => {
                matches!(config, Config::Aac(aac) if *aac == audio.config)
            }
            _ => true,
        };
        (!same).then(|| End::Drained(Some((**config).clone())))
    }
}

/// The order to start or stop the rendition with this index.
fn make(index: usize, on: bool) -> Order {
    let rendition = u8::try_from(index).unwrap_or(u8::MAX);
    Order::Make { rendition, on }
}

/// A source's frame as an order, with its times on the broadcast's timeline.
fn unit(media: Media, frame: Frame, mark: Option<MediaTime>, timescale: Timescale) -> Order {
    Order::Unit {
        media,
        key: frame.key,
        dts: frame.dts.media_time(timescale),
        pts: frame.pts.media_time(timescale),
        mark,
        payload: frame.payload,
    }
}

#[cfg(test)]
mod tests;
