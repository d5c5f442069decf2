//! The state that the ladders of all broadcasts share.

use std::{path::PathBuf, time::Duration};

use media_core::TrackName;

use super::{capacity::Capacity, config::Config, statuses::Statuses};
use crate::{
    metrics::{Metrics, OfRendition},
    pictures::Pictures,
    protocol::Encoder,
};

/// State that all broadcasts' ladders share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) program: PathBuf,
    pub(super) encoder: Encoder,
    pub(super) capacity: Capacity,
    pub(super) pictures: Pictures,
    pub(super) status: Statuses,
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
