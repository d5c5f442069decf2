//! Metrics of views and watch time.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::session::Credit;

/// The metrics; clones are one.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    views: Counter,
    watched: Counter<f64, AtomicU64>,
    sessions: Gauge,
    samples: Family<Label, Counter>,
    reports: Family<Label, Counter>,
    waiting: Gauge,
    lost: Counter,
}

/// The effect of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    /// It has added watch time.
    Counted,
    /// It has added none, because its media were delivered before, or too early.
    Idle,
    /// There are too many sessions.
    Refused,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// Its values were read.
    Valid,
    /// It could not be read.
    Malformed,
}

/// A label and its value.
type Label = [(&'static str, &'static str); 1];

impl Sample {
    const fn label(self) -> Label {
        match self {
            Self::Counted => [("result", "counted")],
            Self::Idle => [("result", "idle")],
            Self::Refused => [("result", "refused")],
        }
    }
}

impl Reported {
    const fn label(self) -> Label {
        match self {
            Self::Valid => [("result", "valid")],
            Self::Malformed => [("result", "malformed")],
        }
    }
}

impl Metrics {
    /// Adds them to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        // Present from the start, so that rates are known.
        for result in [Sample::Counted, Sample::Idle, Sample::Refused] {
            drop(self.samples.get_or_create(&result.label()));
        }
        for result in [Reported::Valid, Reported::Malformed] {
            drop(self.reports.get_or_create(&result.label()));
        }
        registry.register("views", "Views that were counted", self.views.clone());
        registry.register_with_unit(
            "view_watched",
            "Media that were watched, over all viewers",
            Unit::Seconds,
            self.watched.clone(),
        );
        let help = "Sessions of viewers that have not ended";
        registry.register("view_sessions", help, self.sessions.clone());
        let help = "Segments and parts that were delivered, by their effect on watch time";
        registry.register("view_samples", help, self.samples.clone());
        let help = "Reports of players (CMCD) with delivered media, by result";
        registry.register("view_reports", help, self.reports.clone());
        let help = "Minutes of views that are not on the disk yet";
        registry.register("view_minutes_waiting", help, self.waiting.clone());
        let help = "Minutes of views that were lost, because the database could not be written";
        registry.register("view_minutes_lost", help, self.lost.clone());
    }

    pub(super) fn credit(&self, credit: &Credit) {
        self.views.inc_by(u64::from(credit.is_view));
        let sample = if credit.watched_ms > 0 { Sample::Counted } else { Sample::Idle };
        if credit.watched_ms > 0 {
            let watched = Duration::from_millis(credit.watched_ms);
            self.watched.inc_by(watched.as_secs_f64());
        }
        self.sample(sample);
    }

    pub(super) fn sample(&self, result: Sample) {
        self.samples.get_or_create(&result.label()).inc();
    }

    pub(super) fn report(&self, result: Reported) {
        self.reports.get_or_create(&result.label()).inc();
    }

    pub(super) fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn lost(&self) {
        self.lost.inc();
    }
}
