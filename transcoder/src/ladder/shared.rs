//! The state that the ladders of all broadcasts share.

use std::{path::PathBuf, time::Duration};

use media_core::TrackName;

use super::{capacity::Capacity, config::Config, statuses::Statuses, workers::Workers};
use crate::{
    metrics::{Metrics, OfRendition},
    pictures::Pictures,
    protocol::Encoder,
};

/// State that all broadcasts' ladders share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The configured rungs and limits.
    pub(super) config: Config,
    /// The daemon's own program, which runs as a worker with a hidden subcommand.
    pub(super) program: PathBuf,
    /// The encoder that passed its trial, for all workers.
    pub(super) encoder: Encoder,
    /// Reservations of all ladders.
    pub(super) capacity: Capacity,
    /// Receives the workers' posters.
    pub(super) pictures: Pictures,
    /// Publishes the states of renditions.
    pub(super) status: Statuses,
    /// Lists the workers that run.
    pub(super) workers: Workers,
    pub(super) metrics: Metrics,
}

impl Shared {
    /// Counts the latency of a rendition's frame.
    pub(super) fn observe(&self, rendition: &TrackName, latency: Duration) {
        // A stand-in has the source's height in its name, and publishers choose that height.
        let height = rendition.as_str().strip_prefix('v').and_then(|height| height.parse().ok());
        let configured = self.config.rungs.iter().any(|rung| Some(rung.height) == height);
        let rendition = if configured { rendition.to_string() } else { "source".into() };
        self.metrics
            .latency
            .get_or_create(&OfRendition { rendition })
            .observe(latency.as_secs_f64());
    }

    /// The audio rendition's track, if one is configured.
    pub(super) fn audio_name(&self) -> Option<TrackName> {
        let kbps = self.config.audio_kbps;
        format!("a{kbps}").parse().ok().filter(|_| kbps > 0)
    }
}
