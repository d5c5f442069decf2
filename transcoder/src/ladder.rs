//! The ladder: renditions of every broadcast, made by workers in separate processes. For the
//! daemon: it never uses GStreamer.
//!
//! - `broadcast`: one broadcast's ladder from its start to its end; `stretch`: one worker's life;
//!   `source`: the tracks that workers read; `feeder`: the sending side of a worker.
//! - `rungs`: the renditions that are made, stopped or refused; `capacity`: the reserved capacity
//!   of the machine; `shedding`: when a rendition is stopped; `progress`: the delay of renditions.
//!
//! A worker reads the source from the hub like any other subscriber; its renditions are tracks of
//! the same broadcast. Other crates do not know who made a track, and the source never waits for a
//! rendition.

mod broadcast;
mod capacity;
mod feeder;
mod progress;
mod rungs;
mod shedding;
mod source;
mod stretch;

use std::{
    io,
    num::NonZero,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    thread,
    time::Duration,
};

use dashmap::DashMap;
use media_core::{BroadcastId, Hub, TrackName};
use tokio::{process::Command, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info, warn};

use crate::{
    metrics::{Metrics, OfRendition},
    pictures::Pictures,
    plan::{self, Rung},
    process,
    protocol::{Encoder, Tuning},
    trial::Trial,
};
use capacity::Capacity;
pub use rungs::{State, Status};

/// The hidden subcommand that tests encoders.
pub const TRIAL_SUBCOMMAND: &str = "encoder-trial";
/// Time limit of a trial.
const TRIAL_LIMIT: Duration = Duration::from_secs(20);

/// Settings of the ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Renditions of the video; those at or above a source's height are left out.
    pub rungs: Vec<Rung>,
    /// Bit rate of an audio rendition in kbit/s; 0 for none.
    pub audio_kbps: u32,
    /// The encoder to use; `None` for the first that works.
    pub encoder: Option<Encoder>,
    /// x264's preset.
    pub preset: String,
    /// The encoders' objective.
    pub tuning: Tuning,
    /// Maximum share of all processor cores that encoders may reserve, in percent.
    pub cpu_percent: u32,
    /// Whether renditions are stopped when encoders fall behind.
    pub shedding: bool,
    /// Private memory of each worker, in bytes.
    pub memory_bytes: u64,
}

impl Config {
    /// Number of channels of 1080p at 30 frames a second for which encoders have capacity, if one
    /// core does `macroblocks_per_s`.
    pub fn channels(&self, encoder: Encoder, macroblocks_per_s: f64) -> f64 {
        const SAMPLE: (f64, f64, f64) = (120.0 * 68.0 * 30.0, 16.0 / 9.0, 1_080.0);
        let (decoded, aspect, lines) = SAMPLE;
        let below =
            self.rungs.iter().map(|rung| f64::from(rung.height)).filter(|height| *height < lines);
        let encoded: f64 = below.map(|height| height * height * aspect / 256.0 * 30.0).sum();
        self.share(encoder) * macroblocks_per_s / (decoded * plan::DECODING + encoded)
    }

    /// The encoders to test, the preferred one first.
    pub fn candidates(&self) -> Vec<Encoder> {
        self.encoder.map_or(Encoder::ALL.into(), |wanted| vec![wanted])
    }

    /// Processor cores that encoders may reserve, or the share of the device.
    fn share(&self, encoder: Encoder) -> f64 {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let cores = if encoder.is_hardware() { 1 } else { cores };
        cores as f64 * f64::from(self.cpu_percent) / 100.0
    }
}

/// Why there is no ladder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trial of encoders failed to run.
    #[error("encoders cannot be tried: {0}")]
    Trial(#[source] io::Error),
    /// The trial of encoders did not end in time.
    #[error("encoders cannot be tried: not done after {} s", TRIAL_LIMIT.as_secs())]
    TrialTooSlow,
    /// No encoder works, or the configured one does not.
    #[error("no video encoder works here; install {packages}", packages = crate::elements::PACKAGES)]
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

/// State that all broadcasts' ladders share.
#[derive(Debug)]
struct Shared {
    config: Config,
    program: PathBuf,
    encoder: Encoder,
    capacity: Capacity,
    pictures: Pictures,
    status: Statuses,
    metrics: Metrics,
}

impl Shared {
    fn observe(&self, rendition: &TrackName, latency: Duration) {
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
    fn audio_name(&self) -> Option<TrackName> {
        let kbps = self.config.audio_kbps;
        format!("a{kbps}").parse().ok().filter(|_| kbps > 0)
    }
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
        let share = config.share(encoder);
        info!(
            encoder = encoder.name(),
            cores = share,
            macroblocks_per_s = trial.macroblocks_per_s.round(),
            "encoders tried"
        );
        let shared = Shared {
            config,
            program,
            encoder,
            capacity: Capacity::new(trial.macroblocks_per_s, share),
            pictures,
            status: Statuses::default(),
            metrics,
        };
        Ok(Self { hub, shared: Arc::new(shared) })
    }

    /// The states of each broadcast's renditions.
    pub fn statuses(&self) -> Statuses {
        self.shared.status.clone()
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
        tasks.close();
        tasks.wait().await;
    }
}

/// The states of broadcasts' renditions. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Statuses(Arc<DashMap<BroadcastId, Vec<Status>>>);

impl Statuses {
    /// Those of one broadcast, the most expensive first.
    pub fn of(&self, broadcast: BroadcastId) -> Vec<Status> {
        self.0.get(&broadcast).map(|status| status.clone()).unwrap_or_default()
    }

    fn set(&self, broadcast: BroadcastId, status: Vec<Status>) {
        self.0.insert(broadcast, status);
    }

    fn forget(&self, broadcast: BroadcastId) {
        self.0.remove(&broadcast);
    }
}

/// The first encoder that works, and how fast it is.
async fn try_encoders(program: &Path, config: &Config) -> Result<(Encoder, Trial), Error> {
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
        let output = timeout(TRIAL_LIMIT, output)
            .await
            .map_err(|_| Error::TrialTooSlow)?
            .map_err(Error::Trial)?;
        // An encoder whose driver crashes the process does not work either.
        match serde_json::from_slice::<Trial>(&output.stdout) {
            Ok(trial) if trial.works => return Ok((encoder, trial)),
            Ok(_) => {}
            Err(_) => {
                warn!(encoder = encoder.name(), status = %output.status, "encoder trial failed")
            }
        }
    }
    Err(config.encoder.map_or(Error::NoEncoder, Error::NotThisEncoder))
}
