//! Views and watch time, counted by the media that the origin has delivered: never by the word of a
//! client.
//!
//! - [`delivered`]: the port to the origin. `session`: one viewer of one presentation, and the rule
//!   for a view. `coverage`: media time that counts once.
//! - `counter`: all sessions, and the numbers of the present minute. [`counts`]: these numbers.
//! - `record`: minutes on their way to the disk (`store/analytics`) and into the log. [`metrics`].
//!
//! One task collects deliveries four times a second. A crash loses the present minute; what is in
//! the log was counted once.

mod counter;
pub mod counts;
mod coverage;
pub mod delivered;
pub mod metrics;
mod record;
mod session;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use delivered::{Delivered, Presentation, Report, Source, Values};
pub use metrics::Metrics;

use self::{
    counter::{Counter, Moment},
    record::{RecordError, Recorder},
    session::ENDS_AFTER_MS,
};
use crate::{
    Platform,
    store::{Kept, Step},
};

/// Interval at which deliveries are collected, in milliseconds.
const COLLECT_MS: u64 = 250;
/// Interval at which sessions that have ended are forgotten, in milliseconds.
const SWEEP_MS: u64 = 5_000;
/// Time until recording is tried again after a fault, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// Time for the last minute at the stop.
const LAST: Duration = Duration::from_secs(2);

/// The settings of views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Greatest number of sessions at a time.
    pub max_sessions: usize,
    /// How long minutes and days are kept.
    pub kept: Kept,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_sessions: 100_000, kept: Kept::default() }
    }
}

/// Counts what `source` delivers, and records it on the platform, until `stop`; then it records the
/// present minute. Minutes wait while the database is not open.
pub async fn run(
    platform: Platform,
    source: Arc<dyn Source>,
    settings: Settings,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut task = Task::new(platform, source, settings, metrics);
    let mut ticks = interval(Duration::from_millis(COLLECT_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => task.tick().await,
            () = stop.cancelled() => break,
        }
    }
    task.finish().await;
}

/// The state of the task.
struct Task {
    source: Arc<dyn Source>,
    counter: Counter,
    recorder: Recorder,
    started: Instant,
    /// When sessions are swept, and when a fault is tried again, on the monotonic clock.
    sweep_ms: u64,
    retry_ms: u64,
    is_failing: bool,
    key: KeyOfDay,
}

/// The change of the key under which viewers are hashed.
struct KeyOfDay {
    day: u64,
    /// When the key before is forgotten: no session of it is open any more.
    forget_ms: Option<u64>,
}

impl KeyOfDay {
    /// Changes the key at the beginning of a day, and forgets the one before when the sessions that
    /// were open have continued or ended.
    fn keep(&mut self, source: &dyn Source, now: Moment) {
        let day = Step::Day.number(now.wall);
        if day != self.day {
            self.day = day;
            source.change_key();
            self.forget_ms = Some(now.ms + ENDS_AFTER_MS);
        } else if self.forget_ms.is_some_and(|at| at <= now.ms) {
            self.forget_ms = None;
            source.forget_key();
        }
    }
}

impl Task {
    fn new(
        platform: Platform,
        source: Arc<dyn Source>,
        settings: Settings,
        metrics: Metrics,
    ) -> Self {
        let now = Moment { wall: SystemTime::now().into(), ms: 0 };
        let key = KeyOfDay { day: Step::Day.number(now.wall), forget_ms: None };
        Self {
            source,
            counter: Counter::new(settings.max_sessions, metrics.clone(), now),
            recorder: Recorder::new(platform, settings.kept, metrics),
            started: Instant::now(),
            sweep_ms: 0,
            retry_ms: 0,
            is_failing: false,
            key,
        }
    }

    fn now(&self) -> Moment {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { wall: SystemTime::now().into(), ms }
    }

    async fn tick(&mut self) {
        let now = self.now();
        if self.counter.is_over(now) {
            let minute = self.counter.close(now);
            self.recorder.add(minute);
        }
        self.collect(now);
        self.key.keep(&*self.source, now);
        if self.sweep_ms <= now.ms {
            self.sweep_ms = now.ms + SWEEP_MS;
            self.counter.sweep(now);
        }
        if self.recorder.is_waiting() && self.retry_ms <= now.ms {
            self.record(now).await;
        }
    }

    fn collect(&mut self, now: Moment) {
        let counter = &mut self.counter;
        self.source.collect(&mut |delivered| counter.deliver(&delivered, now));
    }

    async fn record(&mut self, now: Moment) {
        match self.recorder.record().await {
            Ok(()) if std::mem::take(&mut self.is_failing) => info!("views are recorded again"),
            Ok(()) => {}
            Err(RecordError::NotOpen) => self.retry_ms = now.ms + COLLECT_MS,
            Err(error) => {
                self.retry_ms = now.ms + RETRY_MS;
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(%error, "views are not recorded: trying again");
                }
            }
        }
    }

    /// Records the present minute, and ends.
    async fn finish(mut self) {
        self.source.close();
        let now = self.now();
        self.collect(now);
        let minute = self.counter.close(now);
        self.recorder.add(minute);
        match timeout(LAST, self.recorder.record()).await {
            Ok(Ok(())) | Ok(Err(RecordError::NotOpen)) => {}
            Ok(Err(error)) => warn!(%error, "the views of the last minute are not recorded"),
            Err(_) => warn!("the views of the last minute were not recorded in time"),
        }
    }
}

#[cfg(test)]
mod tests;
