//! Packages every broadcast of a hub, in one task for each broadcast, from the hub's events to the
//! snapshots that the origin serves.
//!
//! - `task`: takes the events of one broadcast. `keeper`: lists the broadcast, and ends it if its
//!   task fails.

use std::{sync::Arc, time::Duration};

use media_core::{Broadcast, Hub, broadcast::Consumer};
use net_core::config::{Error, within};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    Live, Presentations,
    metrics::Metrics,
    program::{Program, Settings},
};

mod keeper;
mod task;

use keeper::{Keeper, Listed};
use task::package;

/// Settings of a packager.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Part duration aimed at: 50 ms to 2 s.
    pub part: Duration,
    /// How far playlists reach back: 6 s to 24 h; at least 6 segments are recommended. About twice
    /// as much is held in memory.
    pub window: Duration,
    /// Memory that a broadcast may take with all its tracks, in MiB: 16 to 1 048 576. If the window
    /// needs more, playlists reach back less far. A broadcast is ended if not even its shortest
    /// playlist fits.
    pub window_mb: usize,
}

impl Config {
    /// Checks that each setting is in its range.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn check(&self) -> Result<(), Error> {
        let part_ms = u64::try_from(self.part.as_millis()).unwrap_or(u64::MAX);
        let window_mb = u64::try_from(self.window_mb).unwrap_or(u64::MAX);
        within("live", "part_ms", part_ms, 50, 2_000)?;
        within("live", "window_s", self.window.as_secs(), 6, 86_400)?;
        within("live", "window_mb", window_mb, 16, 1 << 20)
    }
}

/// Packages every broadcast of a hub.
#[derive(Debug)]
pub struct Packager {
    hub: Hub,
    settings: Settings,
    presentations: Presentations,
    metrics: Metrics,
    /// Each broadcast starts with a discontinuity, at least at this discontinuity sequence.
    after: Option<u64>,
}

impl Packager {
    /// A packager of the broadcasts that begin in `hub`. Nothing happens before
    /// [`Packager::serve`].
    ///
    /// # Errors
    /// See [`Config::check`].
    pub fn new(hub: Hub, config: Config) -> Result<Self, Error> {
        config.check()?;
        let settings = Settings {
            part: config.part,
            window: config.window,
            window_bytes: config.window_mb << 20,
        };
        Ok(Self {
            hub,
            settings,
            presentations: Presentations::default(),
            metrics: Metrics::default(),
            after: None,
        })
    }

    /// Makes each broadcast start with a discontinuity, at this discontinuity sequence or a later
    /// one. Players may have read playlists of another process that has reached this sequence and
    /// has not listed an end.
    #[must_use]
    pub fn after(self, discontinuities: u64) -> Self {
        Self { after: Some(discontinuities), ..self }
    }

    /// The presentations of all broadcasts.
    pub fn presentations(&self) -> Presentations {
        self.presentations.clone()
    }

    /// A program that packages `broadcast`, and a consumer that reads it. `before` was listed under
    /// its name.
    fn program(&self, broadcast: &Arc<Broadcast>, before: Option<&Live>) -> (Program, Consumer) {
        let consumer = broadcast.subscribe_from_oldest();
        // The new broadcast takes over the address, so its discontinuity sequence continues that of
        // the old one.
        let before = before
            .and_then(Live::current)
            .and_then(|before| before.tracks.first().map(|track| track.discontinuities()))
            .max(self.after);
        let (settings, metrics) = (self.settings, self.metrics.clone());
        let program = Program::new(&consumer, settings, metrics, before);
        (program, consumer)
    }

    /// The counters of all broadcasts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Packages broadcasts until `shutdown`, then until the remaining broadcasts have ended. The
    /// hub must be closed by then or soon after, because a broadcast ends with its publisher or its
    /// hub.
    pub async fn serve(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut events = self.hub.events();
        loop {
            let broadcast = tokio::select! {
                broadcast = events.began() => broadcast,
                () = shutdown.cancelled() => break,
            };
            let span = tracing::info_span!("broadcast", channel = %broadcast.name());
            let (keeper, before) = self.list(broadcast, &shutdown);
            let (program, consumer) = self.program(&keeper.broadcast, before.as_deref());
            let package = package(program, consumer, keeper.listed.clone(), self.metrics.clone());
            tasks.spawn(keeper.run(package).instrument(span));
        }
        // A broadcast that is being packaged is completed, so that players get its end.
        tasks.close();
        tasks.wait().await;
    }

    /// Lists `broadcast`. Returns its keeper, and the presentation that was listed under its name.
    fn list(
        &self,
        broadcast: Arc<Broadcast>,
        shutdown: &CancellationToken,
    ) -> (Keeper, Option<Arc<Live>>) {
        let live = Arc::new(Live::new(&broadcast));
        let before = self.presentations.insert(&live);
        let keeper = Keeper {
            hub: self.hub.clone(),
            metrics: self.metrics.clone(),
            settings: self.settings,
            shutdown: shutdown.clone(),
            broadcast,
            listed: Listed { presentations: self.presentations.clone(), live },
        };
        (keeper, before)
    }
}

#[cfg(test)]
mod tests;
