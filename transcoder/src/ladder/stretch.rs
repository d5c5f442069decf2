//! One worker's life: it is sent the source from a key frame on, its reports are published, and it
//! is watched and ended. It lasts as long as the source continues unchanged: a gap or another
//! configuration ends it after it has encoded all units sent to it.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use media_core::{
    AccessUnit, Broadcast, Frame, Timescale,
    broadcast::{Consumer, Event},
    codec::{Config, aac, avc},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Shared,
    progress::Progress,
    rungs::Rungs,
    shedding::{Change, Shedding},
};
use crate::{
    pictures, plan,
    process::{self, Orders, Reports, SUBCOMMAND},
    protocol::{AudioRendition, Figures, Job, Level, Media, Order, Report},
    supervisor::Talk,
};

/// Interval at which a worker is checked.
const TICK: Duration = Duration::from_millis(250);
/// Time limit for a worker to finish its units.
const DRAIN: Duration = Duration::from_secs(3);
/// Time after which a worker without any output is considered stuck.
const STUCK: Duration = Duration::from_secs(5);
/// Silence of a worker below which its lag is evaluated.
const SILENT: Duration = Duration::from_secs(2);
/// Frames that have waited longer are skipped if there is a newer group.
const TOO_LATE: Duration = Duration::from_secs(4);
/// Silence after which a single rendition has failed while others continue: the longest group and a
/// margin.
const LEFT_BEHIND: Duration = Duration::from_secs(20);
/// Maximum number of configurations that a worker may report, and of reports other than units in a
/// second.
const MOST_CONFIGS: u32 = 64;
const MOST_OTHERS: usize = 100;
/// The shortest duration of an audio unit (90 kHz), and its largest size.
const LEAST_SOUND: i64 = 450;
const MOST_SOUND_BYTES: usize = 8 << 10;
/// The largest distance of a rendition's decode time from its presentation time: 10 s.
const MAX_COMPOSITION: i64 = 900_000;
/// The worker's name in the log. `supervisor` limits its log lines.
const NAME: &str = "ladder";

/// The input: the source from a key frame on.
pub(super) struct Feed<'a> {
    pub(super) broadcast: &'a Arc<Broadcast>,
    pub(super) consumer: &'a mut Consumer,
    /// The source's tracks.
    pub(super) video: (usize, avc::Config),
    pub(super) audio: Option<(usize, aac::Config)>,
    /// The key frame.
    pub(super) first: Frame,
    /// Time that renditions have reached (90 kHz): the worker makes them from the first mark after
    /// it.
    pub(super) resume_after: Option<i64>,
}

/// Why a worker's life ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// All units were encoded. The source has a gap, or another configuration.
    Drained(Option<Config>),
    /// All units were encoded, and the source has ended.
    Over,
    /// Another list of renditions is wanted; all units were encoded up to a mark, from which the
    /// next worker continues.
    Replan,
    /// The daemon stops.
    Stopped,
    /// The worker failed, with a reason for the metrics.
    Failed(&'static str),
}

/// Runs one worker. Returns why it ended, and the time that renditions have reached. Its process
/// has ended when this returns.
pub(super) async fn run(
    shared: &Shared,
    rungs: &mut Rungs,
    shedding: &mut Shedding,
    feed: Feed<'_>,
    stop: &CancellationToken,
) -> (End, Option<i64>) {
    let started = process::start(&shared.program, &[SUBCOMMAND.into()]);
    let (process, orders, reports, stderr) = match started {
        Ok(started) => started,
        Err(err) => {
            warn!(%err, "worker cannot be started");
            return (End::Failed("start"), feed.resume_after);
        }
    };
    shared.metrics.workers.inc();
    debug!(pid = process.id(), "worker started");
    shedding.start(Instant::now());
    let (broadcast, resume_after) = (feed.broadcast, feed.resume_after);
    let progress = Mutex::new(Progress::new(&rungs.bitrates()));
    let mut life = Life {
        shared,
        broadcast,
        rungs,
        shedding,
        progress: &progress,
        figures: Figures::default(),
        talk: Talk::new(NAME),
        asked: Instant::now(),
        sound: None,
        configs: 0,
        others: Vec::new(),
    };
    let talking = async {
        if let Some(stderr) = stderr {
            crate::supervisor::forward(stderr, NAME).await;
        }
    };
    let end = {
        let mut talking = pin!(talking);
        let lived = life.live(feed, orders, reports, stop);
        let mut lived = pin!(lived);
        tokio::select! {
            end = &mut lived => end,
            () = &mut talking => lived.await,
        }
    };
    let status = match end {
        End::Drained(_) | End::Over | End::Replan => process.end().await,
        _ => process.kill().await,
    };
    shared.metrics.workers.dec();
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
    figures: Figures,
    talk: Talk,
    /// Last attempt to start refused renditions.
    asked: Instant,
    /// The newest time of the audio rendition.
    sound: Option<i64>,
    configs: u32,
    /// Times of the reports other than units in the last second.
    others: Vec<Instant>,
}

impl Life<'_> {
    async fn live(&mut self, feed: Feed<'_>, orders: Orders, reports: Reports, stop: &CancellationToken) -> End {
        // Orders are few and small; a worker that does not read them is stuck, and will be ended.
        // Three activities run together: feeding, which may block on a full socket; reading
        // reports; and a tick for time limits. Only this task may end the worker.
        let (changes, wanted) = mpsc::channel(16);
        let job = self.job(&feed);
        let made: Vec<_> = (0..self.rungs.len()).map(|index| self.rungs.is_made(index)).collect();
        let mut feeding = pin!(feed_worker(feed, orders, job, made, self.progress, wanted, self.shared));
        let mut fed = None;
        let mut drained_by = None;
        let mut reading = Box::pin(read(reports));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                (reports, report) = &mut reading => {
                    match report {
                        Ok(Some(report)) => {
                            if let Err(reason) = self.take(report) {
                                return End::Failed(reason);
                            }
                        }
                        // A worker that dies with unread orders resets the socket.
                        Ok(None) | Err(process::Error::Socket(_)) => return match fed {
                            Some(Ok(end)) => end,
                            _ => End::Failed("died"),
                        },
                        Err(err) => {
                            self.talk.warn(&err.to_string());
                            return End::Failed("socket");
                        }
                    }
                    reading.set(read(reports));
                }
                done = &mut feeding, if fed.is_none() => {
                    // A worker that has closed its socket is dead, and its reports end too.
                    drained_by = Some(Instant::now() + DRAIN);
                    fed = Some(done);
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if drained_by.is_some_and(|limit| now >= limit) {
                        return match fed {
                            Some(Ok(end)) => {
                                self.talk.warn("the worker does not finish");
                                end
                            }
                            _ => End::Failed("died"),
                        };
                    }
                    if drained_by.is_none()
                        && let Some(end) = self.watch(&changes, now)
                    {
                        return end;
                    }
                }
                () = stop.cancelled() => return End::Stopped,
            }
        }
    }

    fn job(&self, feed: &Feed<'_>) -> Job {
        let settings = &self.shared.config;
        let (_, video) = &feed.video;
        let audio = feed.audio.as_ref().filter(|_| settings.audio_kbps > 0);
        Job {
            video: video.record.to_vec(),
            audio: audio.map(|(_, audio)| audio.record.to_vec()),
            frame_rate: plan::rate(video),
            renditions: self.rungs.video(video),
            audio_rendition: audio.map(|_| AudioRendition {
                bitrate_bps: settings.audio_kbps * 1_000,
            }),
            encoder: self.shared.encoder,
            preset: settings.preset.clone(),
            tuning: settings.tuning,
            picture_ms: u32::try_from(self.shared.pictures.every().as_millis()).unwrap_or(u32::MAX),
            picture_size: plan::picture_size(video, pictures::HEIGHT),
            memory_bytes: settings.memory_bytes,
        }
    }

    /// Handles one report.
    fn take(&mut self, report: Report) -> Result<(), &'static str> {
        let now = Instant::now();
        // A worker is not trusted: reports other than units are limited to a number a second.
        if !matches!(report, Report::Unit { .. }) {
            self.others
                .retain(|at| now.saturating_duration_since(*at) < Duration::from_secs(1));
            self.others.push(now);
            if self.others.len() > MOST_OTHERS {
                return Err("flood");
            }
        }
        match report {
            Report::Config { rendition, record } => {
                let index = usize::from(rendition);
                self.configs += 1;
                if self.configs > MOST_CONFIGS {
                    return Err("config");
                }
                self.rungs.configure(index, &record).map_err(|err| {
                    self.talk.warn(&err.to_string());
                    "config"
                })?;
            }
            Report::Unit {
                rendition,
                key,
                dts,
                pts,
                payload,
            } => {
                let index = usize::from(rendition);
                // An encoder cannot produce such a unit, so the worker is at fault and is stopped.
                if dts > pts || pts.saturating_sub(dts) > MAX_COMPOSITION || payload.is_empty() {
                    return Err("unit");
                }
                let mut arrived = now;
                if index < self.rungs.len() {
                    let mut progress = lock(self.progress);
                    arrived = progress.come_out(index, pts, payload.len(), now).ok_or("unit")?;
                    // From this time on, the media belong to the next worker.
                    if progress.is_left(pts) {
                        return Ok(());
                    }
                } else if self
                    .sound
                    .is_some_and(|newest| pts.saturating_sub(newest) < LEAST_SOUND)
                    || payload.len() > MOST_SOUND_BYTES
                    || !lock(self.progress).is_near(pts)
                {
                    return Err("unit");
                } else {
                    self.sound = Some(pts);
                }
                let unit = AccessUnit {
                    dts,
                    pts,
                    key,
                    independent: key,
                    arrived: now,
                    payload,
                };
                self.shared.metrics.units.inc();
                if let Some(name) = self.rungs.push(index, unit)
                    && arrived != now
                {
                    let latency = now.saturating_duration_since(arrived);
                    self.shared.observe(name, latency);
                }
            }
            Report::Picture { jpeg, .. } => self.shared.pictures.keep(self.broadcast, jpeg, now),
            Report::Log { level, text } => match level {
                Level::Warn => self.talk.warn(&text),
                Level::Debug => self.talk.debug(&text),
            },
            Report::Figures(figures) => {
                // The figures are totals of the worker; the metrics add the differences.
                let spent = figures.cpu_us.saturating_sub(self.figures.cpu_us);
                self.shared.metrics.cpu.inc_by(spent as f64 / 1e6);
                let broken = figures.broken.saturating_sub(self.figures.broken);
                self.shared.metrics.broken.inc_by(broken);
                if figures.decoded > self.figures.decoded {
                    lock(self.progress).decodes(now);
                }
                self.figures = figures;
            }
        }
        Ok(())
    }

    /// Handles the passage of time.
    fn watch(&mut self, changes: &mpsc::Sender<Order>, now: Instant) -> Option<End> {
        let progress = lock(self.progress);
        let silence = progress.silence(now);
        // Without any running rendition there is no lag, and one can be started.
        let none_made = (0..self.rungs.len()).all(|index| !self.rungs.is_made(index));
        let lag = progress.lag(|index| self.rungs.is_made(index), now);
        let lag = lag.or(none_made.then_some(Duration::ZERO));
        let left_behind = progress.left_behind(|index| self.rungs.is_made(index), LEFT_BEHIND, now);
        drop(progress);
        if left_behind.is_some() {
            self.talk.warn("an encoder outputs nothing");
            return Some(End::Failed("stuck"));
        }
        for index in self.rungs.newly_failed() {
            self.set_made(changes, index, false);
        }
        if silence >= STUCK {
            self.talk.warn("the worker gets units and outputs nothing");
            return Some(End::Failed("stuck"));
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
                self.set_made(changes, index, on);
            }
        }
        if now.saturating_duration_since(self.asked) >= self.rungs.ask_every(now) {
            self.asked = now;
            for index in self.rungs.admit() {
                self.set_made(changes, index, true);
            }
            if self.rungs.wants_stand_in(self.broadcast.is_gridded()) {
                let _ = changes.try_send(Order::End);
            }
        }
        None
    }

    fn set_made(&self, changes: &mpsc::Sender<Order>, index: usize, on: bool) {
        if on {
            lock(self.progress).begin(index, Instant::now());
        }
        let rendition = u8::try_from(index).unwrap_or(u8::MAX);
        // A worker that does not read orders is stuck, and will be ended.
        let _ = changes.try_send(Order::Make { rendition, on });
        self.shared.status.set(self.broadcast.id(), self.rungs.status());
    }
}

async fn read(mut reports: Reports) -> (Reports, Result<Option<Report>, process::Error>) {
    let report = reports.next().await;
    (reports, report)
}

/// Sends the source to a worker until it has a gap, changes or ends. Waits only for the worker.
async fn feed_worker(
    feed: Feed<'_>,
    mut orders: Orders,
    job: Job,
    made: Vec<bool>,
    progress: &Mutex<Progress>,
    mut wanted: mpsc::Receiver<Order>,
    shared: &Shared,
) -> io::Result<End> {
    let Feed {
        consumer,
        video,
        audio,
        first,
        resume_after,
        ..
    } = feed;
    // A late audio track is used from the next mark on.
    let waits_for_audio = audio.is_none() && shared.config.audio_kbps > 0;
    let audio = audio.filter(|_| job.audio.is_some());
    orders.send(&Order::Job(Box::new(job))).await?;
    // Media before the next mark are only decoded, because their renditions would be discarded.
    let mut waits = resume_after.is_some();
    let make = |index: usize, on| Order::Make {
        rendition: u8::try_from(index).unwrap_or(u8::MAX),
        on,
    };
    for (index, made) in made.iter().enumerate() {
        if waits || !made {
            orders.send(&make(index, false)).await?;
        }
    }
    let mut made = made;
    // Whether it is to end at a mark, and the time of that mark.
    let (mut leaves, mut left_at) = (false, None);
    let mut next = Some(Event::Frame {
        track: video.0,
        frame: first,
    });
    loop {
        let event = match next.take() {
            Some(event) => Some(event),
            None => tokio::select! {
                biased;
                Some(order) = wanted.recv() => {
                    match order {
                        Order::End => leaves = true,
                        Order::Make { rendition, on } => {
                            if let Some(made) = made.get_mut(usize::from(rendition)) {
                                *made = on;
                            }
                            if !waits {
                                orders.send(&order).await?;
                            }
                        }
                        _ => {}
                    }
                    continue;
                }
                event = consumer.next() => event,
            },
        };
        let end = match event {
            Some(Event::Frame { track, frame }) if track == video.0 => {
                let now = Instant::now();
                // A worker that is too slow gets newer groups, so that renditions stay near the
                // source.
                if now.saturating_duration_since(frame.arrived) > TOO_LATE && !frame.key {
                    consumer.skip_to_newest();
                }
                let mut mark = frame.mark.map(|mark| mark.pts);
                if waits {
                    // The first mark after the published media: from here on renditions are made.
                    if mark > resume_after {
                        waits = false;
                        for (index, _) in made.iter().enumerate().filter(|(_, made)| **made) {
                            orders.send(&make(index, true)).await?;
                        }
                    } else {
                        mark = None;
                    }
                }
                // The next worker starts at this mark, so this one is still sent the pictures that
                // are decoded later but shown before it.
                if let Some(pts) = mark.filter(|_| leaves && left_at.is_none()) {
                    lock(progress).leave_at(pts);
                    left_at = Some(pts);
                }
                // Pictures that are shown before the mark's may follow it.
                let done = left_at.is_some_and(|left| frame.pts > left);
                lock(progress).feed(frame.pts, frame.arrived, now);
                orders.send(&unit(Media::Video, frame, mark, Timescale::VIDEO)).await?;
                lock(progress).fed();
                done.then_some(End::Replan)
            }
            Some(Event::Frame { track, frame }) => {
                if let Some((_, config)) = audio.as_ref().filter(|(index, _)| *index == track) {
                    orders.send(&unit(Media::Audio, frame, None, config.timescale)).await?;
                }
                None
            }
            Some(Event::Config { track, config }) if track == video.0 => {
                // Encoders have a fixed size and the decoder a fixed configuration, so a change
                // needs another worker.
                let same = matches!(&*config, Config::Avc(avc) if *avc == video.1);
                (!same).then(|| End::Drained(Some((*config).clone())))
            }
            Some(Event::Config { config, .. }) if waits_for_audio && !config.is_video() => {
                leaves = true;
                None
            }
            Some(Event::Config { track, config }) => {
                let known = audio.as_ref().filter(|(index, _)| *index == track);
                let same = known.is_none_or(|(_, aac)| matches!(&*config, Config::Aac(other) if other == aac));
                (!same).then(|| End::Drained(Some((*config).clone())))
            }
            Some(Event::Gap(_)) => Some(End::Drained(None)),
            Some(Event::Lagged { frames, .. }) => {
                shared.metrics.skipped.inc_by(frames);
                None
            }
            Some(Event::Absent { .. }) => None,
            None => Some(End::Over),
        };
        if let Some(end) = end {
            orders.send(&Order::End).await?;
            return Ok(end);
        }
    }
}

fn unit(media: Media, frame: Frame, mark: Option<i64>, timescale: Timescale) -> Order {
    Order::Unit {
        media,
        key: frame.key,
        dts: timescale.rescale(frame.dts, Timescale::VIDEO),
        pts: timescale.rescale(frame.pts, Timescale::VIDEO),
        mark,
        payload: frame.payload,
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}
