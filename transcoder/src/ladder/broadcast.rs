//! The ladder of one broadcast from its announcement to its end: it waits for a source that needs
//! renditions, then runs one worker at a time and restarts it with growing delays.
//!
//! [`Climb`] goes through the [`Step`]s: request capacity, read the source up to a key frame, run a
//! worker from there, recover from its failure.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{Broadcast, Frame, MediaTime, TrackName, settings::Renditions};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    end::{End, Failure},
    rungs::{Rungs, State},
    shared::Shared,
    shedding::Shedding,
    source::{Reading, Source},
    stretch::{self, Feed},
};
use crate::plan::{self, Planned, Rung};

/// A worker that ran this long counts as healthy: the next one starts at once.
const WELL_AFTER: Duration = Duration::from_secs(5);
/// Pause after the first failure of a worker; it doubles each time.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest pause after a failure of a worker.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Minimum time between the starts of two workers if neither has failed.
const LEAST_LIFE: Duration = Duration::from_secs(1);
/// Interval at which a broadcast is planned again while no rung fits.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Runs until the broadcast is over or `stop`.
pub(super) async fn run(shared: Arc<Shared>, broadcast: Arc<Broadcast>, stop: CancellationToken) {
    if broadcast.settings().renditions == Renditions::None {
        return;
    }
    let environment = Environment { shared: &shared, broadcast: &broadcast, stop: &stop };
    let Err(Over) = environment.climb().await;
    shared.status.forget(broadcast.id());
}

/// The broadcast is over, or the daemon stops.
struct Over;

/// The environment of a ladder, which stays the same for its whole life.
#[derive(Clone, Copy)]
struct Environment<'a> {
    shared: &'a Shared,
    broadcast: &'a Arc<Broadcast>,
    stop: &'a CancellationToken,
}

/// The planned renditions.
struct Plan {
    renditions: Vec<Planned>,
    /// Whether the first is of the source's own size, because players cannot start in the source's
    /// segments.
    stands_in: bool,
}

impl<'a> Environment<'a> {
    /// Runs the ladder. Never returns `Ok`: a ladder ends only with its broadcast or the daemon.
    async fn climb(self) -> Result<Infallible, Over> {
        let reading = self.wait_for_video().await?;
        let (reading, plan) = self.wait_for_plan(reading).await?;
        let mut climb = Climb::new(self, &reading.source, plan);
        let mut step = climb.begin(reading);
        loop {
            step = climb.take(step).await?;
        }
    }

    /// Reads the source once it has video.
    async fn wait_for_video(self) -> Result<Reading, Over> {
        tokio::select! {
            reading = Reading::with_video(self.broadcast) => reading.ok_or(Over),
            () = self.stop.cancelled() => Err(Over),
        }
    }

    /// Waits until at least one rendition is planned: the source may become larger, or may later
    /// need a rendition of its own size.
    async fn wait_for_plan(self, reading: Reading) -> Result<(Reading, Plan), Over> {
        let plan = self.plan(&reading.source);
        if !plan.renditions.is_empty() {
            return Ok((reading, plan));
        }
        // Only the source is kept during the wait, which may last as long as the broadcast: the
        // subscriber may hold frames that have left the hub's log.
        let mut source = reading.into_source();
        if !self.rungs().is_empty() {
            let video = &source.video.config;
            info!(
                width = video.width,
                height = video.height,
                "no rung is lower than the source, which is published alone: add a lower rung"
            );
        }
        // Not by events: the source's events include each frame, and a broadcast that never needs a
        // rendition would cost a wake-up for each. An event for changes alone would not suffice:
        // after a change, the newest group still has the previous configuration until the next key
        // frame.
        loop {
            self.pause(ASK_AGAIN).await?;
            if self.broadcast.is_gridded() || !source.is_current(self.broadcast) {
                let reading = self.read_again()?;
                let plan = self.plan(&reading.source);
                if !plan.renditions.is_empty() {
                    return Ok((reading, plan));
                }
                source = reading.into_source();
            }
        }
    }

    /// Reads the source from its newest group.
    fn read_again(self) -> Result<Reading, Over> {
        Reading::begin(self.broadcast).ok_or(Over)
    }

    /// Sleeps for `wait`, but not beyond the end of the broadcast or of the daemon.
    async fn pause(self, wait: Duration) -> Result<(), Over> {
        tokio::select! {
            biased;
            () = self.broadcast.ended() => Err(Over),
            () = self.stop.cancelled() => Err(Over),
            () = sleep(wait) => Ok(()),
        }
    }

    /// The configured rungs that the channel's settings include.
    fn rungs(self) -> Vec<Rung> {
        let included = |rung: &&Rung| {
            u16::try_from(rung.height)
                .is_ok_and(|height| self.broadcast.settings().renditions.include(height))
        };
        self.shared.config.rungs.iter().filter(included).copied().collect()
    }

    /// Plans the renditions of `source`, with a stand-in in front if the source is gridded: it is
    /// the largest one.
    fn plan(self, source: &Source) -> Plan {
        let rungs = self.rungs();
        let mut renditions = plan::renditions(&source.video.config, &rungs, None);
        let gridded = self.broadcast.is_gridded();
        let stand_in = gridded.then(|| stand_in(self.broadcast, source, &rungs)).flatten();
        let stands_in = stand_in.is_some();
        renditions.splice(0..0, stand_in);
        Plan { renditions, stands_in }
    }
}

/// The next step of a ladder.
enum Step {
    /// Request capacity, because no rendition has any, or wait until some is released.
    Ask,
    /// Read the source up to the key frame with which the next worker begins.
    Read(Reading),
    /// Run a worker from this key frame on.
    Work(Reading, Frame),
    /// Wait before the next worker. `was_well`: the one that failed had published media for a
    /// while.
    Recover { failure: Failure, was_well: bool },
}

/// The ladder of a broadcast whose renditions are planned.
struct Climb<'a> {
    environment: Environment<'a>,
    rungs: Rungs,
    shedding: Shedding,
    /// Pause after the next failure of a worker that was not well.
    delay: Duration,
    /// Time that renditions have reached: the next worker makes them from the first mark after it.
    resume_after: Option<MediaTime>,
    /// Start of the last worker; `None` if it failed.
    started: Option<Instant>,
}

impl<'a> Climb<'a> {
    /// Reserves capacity for the renditions of `plan`.
    fn new(environment: Environment<'a>, source: &Source, plan: Plan) -> Self {
        let Environment { shared, broadcast, .. } = environment;
        let audio = shared.audio_name().filter(|_| source.audio.is_some());
        let mut rungs =
            Rungs::new(broadcast, &source.video.config, plan.renditions, audio, &shared.capacity);
        if plan.stands_in {
            rungs.note_stand_in();
        }
        let status = rungs.status();
        // Counted here only, so that the metric counts renditions, not attempts.
        let refused = status.iter().filter(|rung| rung.state == State::Refused).count();
        shared.metrics.refused.inc_by(refused as u64);
        let climb = Self {
            environment,
            rungs,
            shedding: Shedding::new(Instant::now()),
            delay: FIRST_DELAY,
            resume_after: None,
            started: None,
        };
        climb.announce();
        climb
    }

    /// The first step. A ladder that was refused entirely waits for capacity before it reads the
    /// source; its subscriber ends, because it may hold frames that have left the hub's log.
    fn begin(&self, reading: Reading) -> Step {
        match self.rungs.any_made() {
            true => Step::Read(reading),
            false => Step::Ask,
        }
    }

    /// Executes one step. Returns the next one.
    async fn take(&mut self, step: Step) -> Result<Step, Over> {
        match step {
            Step::Ask => self.ask().await,
            Step::Read(reading) => self.read(reading).await,
            Step::Work(reading, first) => self.work(reading, first).await,
            Step::Recover { failure, was_well } => self.recover(failure, was_well).await,
        }
    }

    /// Requests capacity, and waits for a release if none is available.
    async fn ask(&mut self) -> Result<Step, Over> {
        let Environment { shared, broadcast, stop } = self.environment;
        let mut released = pin!(shared.capacity.released());
        // Enabled before the request: a release between the request and the wait is not missed.
        released.as_mut().enable();
        if self.rungs.admit().is_empty() {
            tokio::select! {
                biased;
                () = broadcast.ended() => return Err(Over),
                () = stop.cancelled() => return Err(Over),
                () = released => return Ok(Step::Ask),
            }
        }
        self.announce();
        // The rendition appears late, at a future mark.
        self.resume_after = Some(self.environment.broadcast.media_time(Instant::now()));
        Ok(Step::Read(self.environment.read_again()?))
    }

    /// Reads up to the next key frame, and adapts the plan to the source at that frame.
    async fn read(&mut self, mut reading: Reading) -> Result<Step, Over> {
        let first = tokio::select! {
            first = reading.next_key() => first.ok_or(Over)?,
            () = self.environment.stop.cancelled() => return Err(Over),
        };
        let video = &reading.source.video.config;
        // The source may have changed its size or rate on the way, so that other renditions are
        // below it.
        if self.rungs.is_of_another(video) {
            let planned = plan::renditions(video, &self.environment.rungs(), None);
            self.rungs.follow(video, planned);
            self.announce();
            if !self.rungs.any_made() {
                return Ok(Step::Ask);
            }
        }
        Ok(Step::Work(reading, first))
    }

    /// Runs one worker, for as long as the source continues unchanged.
    async fn work(&mut self, mut reading: Reading, first: Frame) -> Result<Step, Over> {
        let Environment { shared, broadcast, stop } = self.environment;
        // A source that often has gaps or changes must not cost a process each time. Meanwhile the
        // hub holds its frames, also those of a broadcast that has ended.
        let rest = self
            .started
            .map_or(Duration::ZERO, |started| LEAST_LIFE.saturating_sub(started.elapsed()));
        if self.environment.pause(rest).await.is_err() && stop.is_cancelled() {
            return Err(Over);
        }
        let started = Instant::now();
        self.started = Some(started);
        // The audio track may have been announced after the ladder was planned.
        if let Some(name) = shared.audio_name().filter(|_| reading.source.audio.is_some()) {
            self.rungs.hear(name);
        }
        let feed = Feed {
            broadcast,
            consumer: &mut reading.consumer,
            video: reading.source.video.clone(),
            audio: reading.source.audio.clone(),
            first,
            resume_after: self.resume_after,
        };
        let (end, reached) =
            stretch::run(shared, &mut self.rungs, &mut self.shedding, feed, stop).await;
        // A worker that crashes at the same input each time publishes nothing new, however long it
        // runs; only progress resets the delay.
        let was_well = reached > self.resume_after && started.elapsed() >= WELL_AFTER;
        self.resume_after = reached;
        match end {
            End::Stopped | End::Over => Err(Over),
            // The subscriber continues where the feeder stopped, so no frame between two workers is
            // missed.
            End::Drained(config) => {
                config.into_iter().for_each(|config| reading.source.reconfigure(config));
                Ok(Step::Read(reading))
            }
            // The source is read again from its newest group: the next worker decodes from there,
            // and makes renditions from the mark on that the previous one reached.
            End::Replan => {
                self.replan(&reading.source);
                Ok(Step::Read(self.environment.read_again()?))
            }
            End::Failed(failure) => Ok(Step::Recover { failure, was_well }),
        }
    }

    /// Adds a rendition of the source's own size, if players need one by now.
    fn replan(&mut self, source: &Source) {
        let Environment { broadcast, .. } = self.environment;
        if self.rungs.wants_stand_in(broadcast.is_gridded())
            && let Some(planned) = stand_in(broadcast, source, &self.environment.rungs())
        {
            self.rungs.stand_in(planned);
        }
        self.announce();
    }

    /// Counts and logs a failure, and waits before the next worker.
    async fn recover(&mut self, failure: Failure, was_well: bool) -> Result<Step, Over> {
        self.environment.shared.metrics.failed(failure.label());
        self.rungs.absent();
        // A worker that got stuck would get stuck again.
        let well = was_well && failure != Failure::Stuck;
        if well {
            self.delay = FIRST_DELAY;
        }
        let wait = if well { Duration::ZERO } else { self.delay };
        warn!(
            reason = failure.label(),
            retry_ms = wait.as_millis(),
            "worker failed, and is started again: see its messages"
        );
        self.environment.pause(wait).await?;
        // The pause above replaces the minimum life of a worker.
        self.started = None;
        if !well {
            self.delay = (self.delay * 2).min(LONGEST_DELAY);
        }
        Ok(Step::Read(self.environment.read_again()?))
    }

    /// Logs the states of the renditions, and publishes them.
    fn announce(&self) {
        let Environment { shared, broadcast, .. } = self.environment;
        let status = self.rungs.status();
        let names = |state| {
            let in_state = status.iter().filter(|rendition| rendition.state == state);
            let names: Vec<_> =
                in_state.map(|rendition| TrackName::as_str(&rendition.name)).collect();
            names.join(" ")
        };
        let (made, refused) = (names(State::Made), names(State::Refused));
        // The reserved share of the encoders' capacity.
        let load = (shared.capacity.load() * 100.0).round() / 100.0;
        if refused.is_empty() {
            info!(made, load, "ladder planned");
        } else {
            warn!(
                made,
                refused,
                load,
                "ladder planned without some renditions, because no capacity is left: remove \
                 rungs, or raise ladder.cpu_percent"
            );
        }
        shared.status.set(broadcast.id(), status);
    }
}

/// A rendition of the source's own size, at the source's bit rate.
fn stand_in(broadcast: &Broadcast, source: &Source, rungs: &[Rung]) -> Option<Planned> {
    let video = &source.video;
    let bitrate_bps = broadcast.tracks().get(video.index.get())?.bitrate_bps;
    let bitrate_bps = u32::try_from(bitrate_bps).unwrap_or(u32::MAX);
    // Otherwise the largest picture could get fewer bits than a smaller one.
    let rung_bps = rungs.iter().map(|rung| rung.video_kbps.saturating_mul(1_000));
    let least = rung_bps.max().unwrap_or(0);
    // Until the bit rate is measured, the usual one is the minimum, also without configured rungs.
    let least = match bitrate_bps {
        0 => least.max(plan::usual_bitrate(&video.config)),
        _ => least,
    };
    plan::renditions(&video.config, rungs, Some(bitrate_bps.max(least))).into_iter().next()
}

#[cfg(test)]
mod tests;
