//! The ladder: renditions of every broadcast, made by workers in separate processes. For the
//! daemon: it never uses GStreamer.
//!
//! - `broadcast`: one broadcast's ladder from its start to its end; `stretch`: one worker's life;
//!   `source`: the tracks that workers read; `feeder`: the sending side of a worker; `end`: why a
//!   worker's life ended.
//! - `rungs`: the renditions that are made, stopped or refused; `capacity`: the reserved capacity
//!   of the machine; `shedding`: when a rendition is stopped; `progress`: the delay of renditions.
//!
//! A worker reads the source from the hub like any other subscriber; its renditions are tracks of
//! the same broadcast. Other crates do not distinguish them from the source's, and the source never
//! waits for a rendition.

mod broadcast;
mod capacity;
mod config;
pub(crate) mod end;
mod feeder;
mod progress;
mod rungs;
mod shared;
mod shedding;
mod source;
mod statuses;
mod stretch;
#[cfg(test)]
mod testing;
mod workers;

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use media_core::Hub;
use tokio::{
    process::Command,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info, warn};

use crate::{
    metrics::Metrics, packages::PACKAGES, pictures::Pictures, process, protocol::Encoder,
    trial::Trial,
};
use capacity::Capacity;
pub use config::Config;
pub use rungs::{State, Status};
use shared::Shared;
pub use statuses::Statuses;
pub use workers::{Worker, Workers};

/// The hidden subcommand that tests encoders.
pub const TRIAL_SUBCOMMAND: &str = "encoder-trial";
/// Time limit of a trial.
const TRIAL_LIMIT: Duration = Duration::from_secs(20);
/// Maximum time for all trials. Listeners open after them, and a service manager and the process
/// before this one wait 60 s for that.
const SEARCH_LIMIT: Duration = Duration::from_secs(40);

/// Why there is no ladder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trial of encoders failed to run.
    #[error("encoders cannot be tried: {0}")]
    Trial(#[source] io::Error),
    /// The trial of encoders did not end in time.
    #[error("encoder trial did not end within {} s", TRIAL_LIMIT.as_secs())]
    TrialTooSlow,
    /// No encoder works, or the configured one does not.
    #[error("no video encoder works here; install {packages}", packages = PACKAGES)]
    NoEncoder,
    /// The one that is configured does not work.
    #[error("{} does not work here; \"auto\" selects one that works", .0.name())]
    NotThisEncoder(Encoder),
}

/// Makes renditions of every broadcast of a hub.
#[derive(Debug)]
pub struct Ladder {
    hub: Hub,
    shared: Arc<Shared>,
}

impl Ladder {
    /// Tests in a separate process which encoders work, and how fast they are. `program` is the
    /// daemon's own.
    ///
    /// # Errors
    /// Why there can be no ladder.
    pub async fn prepare(
        hub: Hub,
        config: Config,
        program: PathBuf,
        pictures: Pictures,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let (encoder, trial) = try_encoders(&program, &config).await?;
        // A device counts as one core: its trial measures wall-clock time of the whole device.
        let share = config.share(encoder);
        info!(
            encoder = encoder.name(),
            cores = share,
            macroblocks_per_s = trial.macroblocks_per_s.round(),
            "encoder selected"
        );
        let shared = Shared {
            config,
            program,
            encoder,
            capacity: Capacity::new(trial.macroblocks_per_s, share),
            pictures,
            status: Statuses::default(),
            workers: Workers::default(),
            metrics,
        };
        Ok(Self { hub, shared: Arc::new(shared) })
    }

    /// The states of each broadcast's renditions.
    pub fn statuses(&self) -> Statuses {
        self.shared.status.clone()
    }

    /// The workers that run.
    pub fn workers(&self) -> Workers {
        self.shared.workers.clone()
    }

    /// Serves until `shutdown`. All workers have ended when this returns.
    pub async fn serve(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut events = self.hub.events();
        loop {
            let broadcast = tokio::select! {
                broadcast = events.began() => broadcast,
                () = shutdown.cancelled() => break,
            };
            let span = tracing::info_span!("broadcast", channel = %broadcast.name());
            let ladder =
                broadcast::run(Arc::clone(&self.shared), broadcast, shutdown.child_token());
            tasks.spawn(ladder.instrument(span));
        }
        // `shutdown` cancels the child tokens too, so each ladder ends its worker and returns.
        tasks.close();
        tasks.wait().await;
    }
}

/// The first encoder that works, and how fast it is.
async fn try_encoders(program: &Path, config: &Config) -> Result<(Encoder, Trial), Error> {
    // One process for each encoder, so that a driver that crashes does not affect the next trial.
    // The first success ends the search, because candidates are in order of preference.
    let deadline = Instant::now() + SEARCH_LIMIT;
    let (mut tried, mut hung) = (0, 0);
    for encoder in config.candidates() {
        let output = Command::new(program)
            .arg0(process::NAME)
            .args([TRIAL_SUBCOMMAND, encoder.name(), &config.preset])
            .env_clear()
            .envs(process::environment())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        // A driver that hangs must not keep the machine from the encoders after it.
        let limit = TRIAL_LIMIT.min(deadline.saturating_duration_since(Instant::now()));
        tried += 1;
        let Ok(output) = timeout(limit, output).await else {
            warn!(
                encoder = encoder.name(),
                limit_s = limit.as_secs(),
                "encoder trial took too long: check its driver, or set ladder.encoder"
            );
            hung += 1;
            continue;
        };
        let output = output.map_err(Error::Trial)?;
        // An encoder whose driver crashes the process does not work either.
        match serde_json::from_slice::<Trial>(&output.stdout) {
            Ok(trial) if trial.works => return Ok((encoder, trial)),
            Ok(_) => {}
            Err(_) => {
                warn!(
                    encoder = encoder.name(), status = %output.status,
                    "encoder trial failed: check its driver, or set ladder.encoder"
                );
            }
        }
    }
    // If others ended, the operator's remedy is theirs: the log names those that hung.
    match hung == tried {
        true => Err(Error::TrialTooSlow),
        false => Err(config.encoder.map_or(Error::NoEncoder, Error::NotThisEncoder)),
    }
}
