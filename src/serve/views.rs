//! Views and watch time as a part of the daemon: joins the samples of the origin to the counts of
//! the platform.

use std::sync::Arc;

use control_api::views::{
    self, Delivered, Metrics, Presentation, Report, Settings, Source, Values,
};
use origin_http::{Sampler, cmcd};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::platform::PlatformParts;
use crate::config::Config;

/// The counts of what one sampler delivers.
pub(super) struct ViewCounts {
    sampler: Sampler,
    settings: Settings,
    metrics: Metrics,
}

impl ViewCounts {
    /// Prepares the counts, and adds their metrics. `None` without the platform, or if views are
    /// not to be counted: then requests are not sampled either.
    pub(super) fn new(
        config: &Config,
        platform: Option<&PlatformParts>,
        registry: &mut Registry,
    ) -> Option<Self> {
        platform.filter(|_| config.analytics.enabled)?;
        let (sampler, metrics) = (Sampler::new(random_key()), Metrics::default());
        metrics.register(registry);
        sampler.register(registry);
        Some(Self { sampler, settings: config.analytics.settings(), metrics })
    }

    /// The sampler for the origin.
    pub(super) fn sampler(&self) -> Sampler {
        self.sampler.clone()
    }

    /// Counts until `stop`.
    pub(super) async fn run(self, platform: control_api::Platform, stop: CancellationToken) {
        let source = Arc::new(Samples(self.sampler));
        views::run(platform, source, self.settings, self.metrics, stop).await;
    }
}

/// A random key of a day. It is in memory alone.
fn random_key() -> [u8; 16] {
    Uuid::new_v4().into_bytes()
}

/// The samples as the source of counts.
struct Samples(Sampler);

impl Source for Samples {
    fn collect(&self, each: &mut dyn FnMut(Delivered<'_>)) {
        self.0.collect(|sample| {
            let presentation =
                Presentation::Broadcast { id: sample.broadcast, channel: sample.channel };
            each(Delivered {
                viewer: sample.viewer,
                viewer_before: sample.viewer_before,
                host: sample.host,
                presentation,
                track: sample.track.as_str(),
                is_video: sample.is_video,
                start_ms: sample.start_ms,
                duration_ms: sample.duration_ms,
                bytes: sample.bytes,
                report: report(sample.report.as_ref()),
            });
        });
    }

    fn change_key(&self) {
        self.0.change_key(random_key());
    }

    fn forget_key(&self) {
        self.0.forget_key();
    }

    fn close(&self) {
        self.0.close();
    }
}

/// The values of a player's report that are counted.
fn report<'a>(report: Option<&Result<cmcd::Cmcd<'a>, cmcd::Malformed>>) -> Report<'a> {
    match report {
        None => Report::None,
        Some(Err(_)) => Report::Malformed,
        Some(Ok(report)) => Report::Valid(Values {
            session: report.session,
            has_rebuffered: report.starved,
            is_starting: report.startup,
            start_delay_ms: report.start_delay_ms,
            bitrate_kbps: report.bitrate_kbps,
            throughput_kbps: report.throughput_kbps,
            buffer_ms: report.buffer_ms,
            latency_ms: report.latency_ms,
        }),
    }
}
