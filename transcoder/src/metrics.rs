//! Metrics of the ladder.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::ladder::end::Failure;

/// The ladder's metrics; clones share the counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Running workers.
    pub(crate) workers: Gauge,
    /// Workers that ended unexpectedly, by reason.
    pub(crate) failures: Family<Reason, Counter>,
    /// Renditions stopped because encoders fell behind.
    pub(crate) shed: Counter,
    /// Renditions for which the machine had no capacity when a broadcast began.
    pub(crate) refused: Counter,
    /// Access units of renditions.
    pub(crate) units: Counter,
    /// Frames of sources that were skipped because workers were behind.
    pub(crate) skipped: Counter,
    /// From the arrival of a source's access unit until the arrival of the rendition's unit that
    /// was made of it.
    pub(crate) latency: Family<OfRendition, Histogram, fn() -> Histogram>,
    /// Access units of sources that workers could not decode.
    pub(crate) broken: Counter,
    /// Processor time of workers, in seconds.
    pub(crate) cpu: Counter<f64, std::sync::atomic::AtomicU64>,
}

/// Adds a worker to the gauge of running workers while it lives.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    /// Increments `workers` until this is dropped.
    pub(crate) fn new(workers: &'a Gauge) -> Self {
        workers.inc();
        Self(workers)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Label of a failure: one of the closed set of `ladder::end::Failure`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

/// The name of a configured rendition; `source` for one of a source's own size.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfRendition {
    pub(crate) rendition: String,
}

impl Default for Metrics {
    fn default() -> Self {
        // Buckets in seconds, up to the time after which a worker without output is considered
        // stuck.
        let latency = || {
            Histogram::new([
                0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0,
            ])
        };
        let failures = Family::<Reason, Counter>::default();
        // All series exist from the start, because a rate needs the value before the first event.
        for failure in Failure::ALL {
            drop(failures.get_or_create(&Reason { reason: failure.label() }));
        }
        Self {
            workers: Gauge::default(),
            failures,
            shed: Counter::default(),
            refused: Counter::default(),
            units: Counter::default(),
            skipped: Counter::default(),
            latency: Family::new_with_constructor(latency),
            broken: Counter::default(),
            cpu: Counter::default(),
        }
    }
}

impl Metrics {
    /// Registers all metrics; the registry's prefix is `streamforge_`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("transcoders", "Workers that make renditions", self.workers.clone());
        let help = "Workers that ended unexpectedly, by reason";
        registry.register("transcoder_failures", help, self.failures.clone());
        let help = "Renditions stopped because encoders fell behind";
        registry.register("renditions_shed", help, self.shed.clone());
        let help = "Renditions for which the machine had no capacity when a broadcast began";
        registry.register("renditions_refused", help, self.refused.clone());
        registry.register(
            "rendition_access_units",
            "Access units of renditions",
            self.units.clone(),
        );
        let help = "Frames of sources passed over because workers were behind";
        registry.register("transcoder_skipped_frames", help, self.skipped.clone());
        let help =
            "From the arrival of a source's access unit until the arrival of the rendition's unit";
        registry.register_with_unit("rendition_latency", help, Unit::Seconds, self.latency.clone());
        let help = "Access units of sources that workers could not decode";
        registry.register("transcoder_broken_access_units", help, self.broken.clone());
        let help = "Processor time of workers";
        registry.register_with_unit("transcoder_cpu", help, Unit::Seconds, self.cpu.clone());
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&Reason { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_counted_until_it_is_dropped() {
        let workers = Gauge::default();
        let counted = [Counted::new(&workers), Counted::new(&workers)];
        assert_eq!(workers.get(), 2);
        drop(counted);
        assert_eq!(workers.get(), 0);
    }
}
