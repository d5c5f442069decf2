//! One worker's life: it is sent the source from a key frame on, its reports are published, and it
//! is watched and ended. It lasts as long as the source continues unchanged: a gap or another
//! configuration ends it after it has encoded all units sent to it.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use media_core::{
    AccessUnit, Broadcast, Frame, MediaSpan, MediaTime,
    broadcast::Consumer,
    codec::{aac, avc},
};
use net_core::TRACES;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, field::Empty, info_span, warn};

use super::{
    end::{End, Failure},
    feeder::{Feeder, Leaving, Making, Wanted},
    progress::{Progress, lock},
    rungs::Rungs,
    shared::Shared,
    shedding::{Change, Shedding},
    source::SourceTrack,
};
use crate::{
    metrics::Counted,
    pictures, plan,
    process::{self, Orders, Reports, SUBCOMMAND},
    protocol::{AudioRendition, Job, Level, Report, Stats},
    supervisor::WorkerLog,
};

/// Interval at which a worker is checked.
const TICK: Duration = Duration::from_millis(250);
/// Time limit for a worker to finish its units.
const DRAIN: Duration = Duration::from_secs(3);
/// Time after which a worker without any output is considered stuck.
const STUCK: Duration = Duration::from_secs(5);
/// Silence of a worker below which its lag is evaluated.
const SILENT: Duration = Duration::from_secs(2);
/// Silence after which a single rendition has failed while others continue: the longest group and a
/// margin.
const LEFT_BEHIND: Duration = Duration::from_secs(20);
/// Maximum number of configurations that a worker may report in its life.
const MOST_CONFIGS: u32 = 64;
/// Maximum number of reports other than units in a second: an honest worker sends a few.
const MOST_OTHERS: usize = 100;
/// The shortest duration of an audio unit: 5 ms.
const LEAST_SOUND: MediaSpan = MediaSpan::from_millis(5);
/// The largest size of an audio unit in bytes. An AAC frame of two channels has at most 1536 bytes
/// (6144 bits for each channel).
const MOST_SOUND_BYTES: usize = 8 << 10;
/// The largest distance of a rendition's decode time from its presentation time: 10 s.
const MAX_COMPOSITION: MediaSpan = MediaSpan::from_millis(10_000);
/// The worker's name in the log. `supervisor` limits its log lines.
const NAME: &str = "ladder";

/// The input: the source from a key frame on.
pub(super) struct Feed<'a> {
    /// The broadcast to which the renditions' tracks belong.
    pub(super) broadcast: &'a Arc<Broadcast>,
    /// The subscriber, which has just returned `first`.
    pub(super) consumer: &'a mut Consumer,
    /// The source's tracks.
    pub(super) video: SourceTrack<avc::Config>,
    /// `None` if the publisher has not announced audio.
    pub(super) audio: Option<SourceTrack<aac::Config>>,
    /// The key frame.
    pub(super) first: Frame,
    /// Time that renditions have reached: the worker makes them from the first mark after it.
    pub(super) resume_after: Option<MediaTime>,
}

/// Runs one worker. Returns why it ended, and the time that renditions have reached. Its process
/// has ended when this returns.
pub(super) async fn run(
    shared: &Shared,
    rungs: &mut Rungs,
    shedding: &mut Shedding,
    feed: Feed<'_>,
    stop: &CancellationToken,
) -> (End, Option<MediaTime>) {
    let started = process::start(&shared.program, &[SUBCOMMAND.into()]);
    let (process, orders, reports, stderr) = match started {
        Ok(started) => started,
        Err(err) => {
            warn!(
                %err,
                "worker cannot be started: check the program file and the process limit"
            );
            return (End::Failed(Failure::Start), feed.resume_after);
        }
    };
    let counted = Counted::new(&shared.metrics.workers);
    debug!(pid = process.id(), "worker started");
    let listed = shared.workers.add(process.id(), feed.broadcast, shared.encoder.name());
    // It is never entered, because the frames of hours pass meanwhile.
    let span = info_span!(
        target: TRACES,
        parent: None,
        "ladder worker",
        channel = feed.broadcast.name().as_str(),
        broadcast = %feed.broadcast.id(),
        encoder = shared.encoder.name(),
        end = Empty,
    );
    shedding.start(Instant::now());
    let (broadcast, resume_after) = (feed.broadcast, feed.resume_after);
    let progress = Mutex::new(Progress::new(&rungs.bitrates()));
    let mut life = Life {
        shared,
        broadcast,
        rungs,
        shedding,
        progress: &progress,
        stats: Stats::default(),
        log: WorkerLog::new(NAME),
        releases: 0,
        sound: None,
        configs: 0,
        others: Vec::new(),
    };
    let talking = async {
        if let Some(stderr) = stderr {
            crate::supervisor::forward(stderr, NAME).await;
        }
    };
    // The worker's stderr is forwarded meanwhile. Its end decides nothing, because a worker may
    // close it and continue.
    let end = {
        let mut talking = pin!(talking);
        let lived = life.live(feed, orders, reports, stop);
        let mut lived = pin!(lived);
        tokio::select! {
            end = &mut lived => end,
            () = &mut talking => lived.await,
        }
    };
    // A worker that was sent the last order ends by itself. Any other may be stuck, so it is
    // killed.
    let status = match end {
        End::Drained(_) | End::Over | End::Replan => process.end().await,
        _ => process.kill().await,
    };
    span.record("end", end.label());
    drop((counted, listed, span));
    if let Ok(status) = status {
        debug!(%status, ?end, "worker ended");
    }
    let newest = lock(&progress).newest_out();
    (end, newest.max(resume_after))
}

/// The state of a running worker.
struct Life<'a> {
    shared: &'a Shared,
    broadcast: &'a Arc<Broadcast>,
    rungs: &'a mut Rungs,
    shedding: &'a mut Shedding,
    progress: &'a Mutex<Progress>,
    /// The worker's newest totals, from which the next increments are computed.
    stats: Stats,
    /// Forwards the worker's log messages within limits.
    log: WorkerLog,
    /// Releases of capacity before the last attempt to start refused renditions.
    releases: u64,
    /// The newest time of the audio rendition.
    sound: Option<MediaTime>,
    /// Number of configurations reported so far; at most [`MOST_CONFIGS`].
    configs: u32,
    /// Times of the reports other than units in the last second.
    others: Vec<Instant>,
}

/// The end of a worker's feeder.
struct Fed {
    /// Why the feeder ended; an error if the worker has closed the socket.
    end: io::Result<End>,
    /// Time limit for the worker's last reports.
    limit: Instant,
}

impl Fed {
    /// Why the worker's life ended. A worker that has closed its socket is dead.
    fn end(self) -> End {
        self.end.unwrap_or(End::Failed(Failure::Died))
    }
}

impl<'a> Life<'a> {
    /// Runs three activities: feeding, which may block on a full socket; reading reports; and a
    /// tick for time limits. Only this task may end the worker.
    async fn live(
        &mut self,
        feed: Feed<'_>,
        orders: Orders,
        reports: Reports,
        stop: &CancellationToken,
    ) -> End {
        let job = self.job(&feed);
        let feeder = self.feeder(&feed, orders, &job);
        let (wanted, changes) = watch::channel(Wanted { made: feeder.made.clone(), replan: false });
        let mut feeding = pin!(feeder.run(job, feed.first, feed.consumer, changes));
        let mut fed: Option<Fed> = None;
        // Reading a report is not cancel-safe, so the future is kept across iterations and replaced
        // only when it is complete.
        let mut reading = Box::pin(read(reports));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Each report is handled before the next one is read: a worker that is faster than
                // the daemon blocks on its socket.
                (reports, report) = &mut reading => {
                    match report {
                        Ok(Some(report)) => {
                            if let Err(failure) = self.take(report) {
                                return End::Failed(failure);
                            }
                        }
                        // A worker that dies with unread orders resets the socket.
                        Ok(None) | Err(process::Error::Socket(_)) => {
                            return fed.map_or(End::Failed(Failure::Died), Fed::end);
                        }
                        Err(err) => {
                            self.log.warn(&err.to_string());
                            return End::Failed(Failure::Socket);
                        }
                    }
                    reading.set(read(reports));
                }
                end = &mut feeding, if fed.is_none() => {
                    // If the worker is dead, its reports end too.
                    fed = Some(Fed { end, limit: Instant::now() + DRAIN });
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    // A worker that was sent the last order is only given time to finish. Lag and
                    // shedding are not evaluated any more, because it gets no further orders.
                    match fed.take_if(|fed| now >= fed.limit) {
                        Some(fed) => return self.cut_off(fed),
                        None if fed.is_some() => {}
                        None => if let Some(end) = self.watch(&wanted, now) {
                            return end;
                        }
                    }
                }
                () = stop.cancelled() => return End::Stopped,
            }
        }
    }

    /// The end of a worker that got all units and does not finish.
    fn cut_off(&mut self, fed: Fed) -> End {
        if fed.end.is_ok() {
            self.log.warn("worker does not finish its last units, and is ended");
        }
        fed.end()
    }

    /// The feeder of this worker. It makes the renditions at once if none was published before.
    fn feeder(&self, feed: &Feed<'_>, orders: Orders, job: &Job) -> Feeder<'a> {
        let settings = &self.shared.config;
        Feeder {
            orders,
            progress: self.progress,
            metrics: &self.shared.metrics,
            video: feed.video.clone(),
            audio: feed.audio.clone().filter(|_| job.audio.is_some()),
            waits_for_audio: feed.audio.is_none() && settings.audio_kbps > 0,
            made: self.made(),
            making: feed.resume_after.map_or(Making::Wanted, Making::After),
            leaving: Leaving::No,
        }
    }

    /// For each video rendition, whether it is made.
    fn made(&self) -> Vec<bool> {
        (0..self.rungs.len()).map(|index| self.rungs.is_made(index)).collect()
    }

    /// The worker's job. Without a configured audio bit rate, players use the source's audio.
    fn job(&self, feed: &Feed<'_>) -> Job {
        let settings = &self.shared.config;
        let video = &feed.video.config;
        let audio = feed.audio.as_ref().filter(|_| settings.audio_kbps > 0);
        Job {
            video: video.record.to_vec(),
            audio: audio.map(|audio| audio.config.record.to_vec()),
            frame_rate: plan::rate(video),
            renditions: self.rungs.video(video),
            audio_rendition: audio
                .map(|_| AudioRendition { bitrate_bps: settings.audio_kbps * 1_000 }),
            encoder: self.shared.encoder,
            preset: settings.preset.clone(),
            tuning: settings.tuning,
            picture_ms: u32::try_from(self.shared.pictures.every().as_millis()).unwrap_or(u32::MAX),
            picture_size: plan::picture_size(video, pictures::HEIGHT),
            memory_bytes: settings.memory_bytes,
            nice: settings.nice,
        }
    }

    /// Handles one report.
    ///
    /// # Errors
    /// The report shows that the worker has failed.
    fn take(&mut self, report: Report) -> Result<(), Failure> {
        let now = Instant::now();
        if !matches!(report, Report::Unit { .. }) {
            self.count_other(now)?;
        }
        match report {
            Report::Config { rendition, record } => {
                return self.take_config(usize::from(rendition), &record);
            }
            Report::Unit { rendition, key, dts, pts, payload } => {
                let (dts, pts) = (dts - MediaTime::ZERO, pts - MediaTime::ZERO);
                let unit = AccessUnit { dts, pts, key, independent: key, arrived: now, payload };
                return self.take_unit(usize::from(rendition), unit);
            }
            // The times of pictures are not checked: a poster has none.
            Report::Picture { jpeg, .. } => self.shared.pictures.keep(self.broadcast, jpeg, now),
            Report::Log { level, text } => match level {
                Level::Warn => self.log.warn(&text),
                Level::Debug => self.log.debug(&text),
            },
            Report::Stats(stats) => self.take_stats(stats, now),
        }
        Ok(())
    }

    /// Counts a report other than a unit: a worker is not trusted, so their rate is limited.
    fn count_other(&mut self, now: Instant) -> Result<(), Failure> {
        self.others.retain(|at| now.saturating_duration_since(*at) < Duration::from_secs(1));
        self.others.push(now);
        match self.others.len() > MOST_OTHERS {
            true => Err(Failure::Flood),
            false => Ok(()),
        }
    }

    /// Takes a rendition's configuration. The number of them is limited, because each one may start
    /// a new init segment.
    fn take_config(&mut self, index: usize, record: &[u8]) -> Result<(), Failure> {
        self.configs += 1;
        if self.configs > MOST_CONFIGS {
            return Err(Failure::Config);
        }
        self.rungs.configure(index, record).map_err(|err| {
            self.log.warn(&err.to_string());
            Failure::Config
        })
    }

    /// Publishes a unit. One that no encoder makes of the source is the worker's fault.
    fn take_unit(&mut self, index: usize, unit: AccessUnit) -> Result<(), Failure> {
        let (dts, pts) = (MediaTime::ZERO + unit.dts, MediaTime::ZERO + unit.pts);
        let (bytes, now) = (unit.payload.len(), unit.arrived);
        // Limits that hold for any encoder; `Progress` compares the unit with the source.
        if dts > pts || pts - dts > MAX_COMPOSITION || bytes == 0 {
            return Err(Failure::Unit);
        }
        let mut arrived = now;
        // Pictures are compared with those that were fed. Audio is encoded in units of other
        // lengths, so only its order and its distance from the video are checked.
        if index < self.rungs.len() {
            let mut progress = lock(self.progress);
            arrived = progress.record_output(index, pts, bytes, now).ok_or(Failure::Unit)?;
            // From this time on, the media belong to the next worker.
            if progress.is_left(pts) {
                return Ok(());
            }
        } else {
            // A unit every 5 ms at the most, whatever the times: this bounds the number of units.
            let follows = self.sound.is_none_or(|newest| pts - newest >= LEAST_SOUND);
            if !follows || bytes > MOST_SOUND_BYTES || !lock(self.progress).is_near(pts) {
                return Err(Failure::Unit);
            }
            self.sound = Some(pts);
        }
        self.shared.metrics.units.inc();
        if let Some(name) = self.rungs.push(index, unit)
            && arrived != now
        {
            let latency = now.saturating_duration_since(arrived);
            self.shared.observe(name, latency);
        }
        Ok(())
    }

    /// Adds a worker's stats, which are its totals, to the metrics.
    fn take_stats(&mut self, stats: Stats, now: Instant) {
        // Totals that decrease are the worker's error; they add nothing.
        let spent = stats.cpu_us.saturating_sub(self.stats.cpu_us);
        self.shared.metrics.cpu.inc_by(spent as f64 / 1e6);
        let broken = stats.broken.saturating_sub(self.stats.broken);
        self.shared.metrics.broken.inc_by(broken);
        // The decoder works, although encoders may not have output anything yet.
        if stats.decoded > self.stats.decoded {
            lock(self.progress).decodes(now);
        }
        self.stats = stats;
    }

    /// Handles the passage of time.
    fn watch(&mut self, wanted: &watch::Sender<Wanted>, now: Instant) -> Option<End> {
        let progress = lock(self.progress);
        let silence = progress.silence(now);
        // Without any running rendition there is no lag, and one can be started.
        let none_made = (0..self.rungs.len()).all(|index| !self.rungs.is_made(index));
        let lag = progress.lag(|index| self.rungs.is_made(index), now);
        let lag = lag.or(none_made.then_some(Duration::ZERO));
        let left_behind = progress.left_behind(|index| self.rungs.is_made(index), LEFT_BEHIND, now);
        drop(progress);
        if left_behind.is_some() {
            self.log.warn("an encoder outputs nothing, so the worker is restarted");
            return Some(End::Failed(Failure::Stuck));
        }
        // The worker would otherwise encode units that are dropped; the capacity is already
        // released.
        for index in self.rungs.newly_failed() {
            self.set_made(wanted, index, false);
        }
        if silence >= STUCK {
            self.log.warn("the worker outputs nothing, and is restarted");
            return Some(End::Failed(Failure::Stuck));
        }
        // A worker without any output is not slow but stuck.
        if let Some(lag) = lag.filter(|_| self.shared.config.shedding && silence < SILENT) {
            let change = self.shedding.judge(lag, self.rungs.any_shed(), now);
            let change = change.and_then(|change| match change {
                Change::Shed => self.rungs.shed().map(|index| {
                    self.shared.metrics.shed.inc();
                    (index, false)
                }),
                Change::Restore => self.rungs.restore().map(|index| (index, true)),
            });
            if let Some((index, on)) = change {
                self.set_made(wanted, index, on);
            }
        }
        // Admission is attempted only after a release, because nothing else makes refused
        // renditions fit. This avoids work in each tick.
        let releases = self.shared.capacity.releases();
        if std::mem::replace(&mut self.releases, releases) != releases {
            for index in self.rungs.admit() {
                self.set_made(wanted, index, true);
            }
        }
        // A worker's list of renditions is fixed, so an additional one needs another worker.
        if !wanted.borrow().replan && self.rungs.wants_stand_in(self.broadcast.is_gridded()) {
            wanted.send_modify(|wanted| wanted.replan = true);
        }
        None
    }

    /// Lets the feeder start or stop the rendition whose state has changed, and publishes the
    /// states.
    fn set_made(&self, wanted: &watch::Sender<Wanted>, index: usize, on: bool) {
        if on {
            lock(self.progress).begin(index, Instant::now());
        }
        wanted.send_modify(|wanted| wanted.made = self.made());
        self.shared.status.set(self.broadcast.id(), self.rungs.status());
    }
}

/// Reads a report, and returns the socket with it, so that the future owns its state.
async fn read(mut reports: Reports) -> (Reports, Result<Option<Report>, process::Error>) {
    let report = reports.next().await;
    (reports, report)
}
