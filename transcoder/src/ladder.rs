//! The ladder: renditions of every broadcast, made by workers in processes of their own. For the daemon: it never touches GStreamer.
//!
//! - `broadcast`: one broadcast's ladder from its start to its end; `stretch`: one worker's life.
//! - `rungs`: what is made, given up, refused; `capacity`: what the machine was promised for; `shedding`: when something is given up;
//!   `progress`: how late renditions are.
//!
//! A worker reads the source from the hub like any other subscriber; its renditions are tracks of the same broadcast. Nothing downstream
//! knows who made a track, and the source never waits for any of this.

mod broadcast;
mod capacity;
mod progress;
mod rungs;
mod shedding;
mod stretch;

use std::{num::NonZero, path::PathBuf, process::Stdio, sync::Arc, thread, time::Duration};

use dashmap::DashMap;
use media_core::{BroadcastId, Hub, TrackName};
use tokio::{process::Command, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info};

use crate::{
    metrics::{Metrics, OfRendition},
    pictures::Pictures,
    plan::{self, Rung},
    protocol::{Encoder, Tuning},
    trial::Trial,
};
use capacity::Capacity;
pub use rungs::{State, Status};

/// The hidden subcommand that tries encoders.
pub const TRIAL_SUBCOMMAND: &str = "encoder-trial";
/// How long it may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(20);

/// What a ladder is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Renditions of the video; those at or above a source's height are left out.
    pub rungs: Vec<Rung>,
    /// Thousand bits a second of a rendition of the audio; 0 for none.
    pub audio_kbps: u32,
    /// The encoder to use; `None` for the first that works.
    pub encoder: Option<Encoder>,
    /// x264's preset.
    pub preset: String,
    /// What encoders are set for.
    pub tuning: Tuning,
    /// Share of all processor cores that encoders are promised at the most, in percent.
    pub cpu_percent: u32,
    /// Whether renditions are given up when encoders fall behind.
    pub shedding: bool,
    /// Private memory of each worker, in bytes.
    pub memory_bytes: u64,
}

impl Config {
    /// How many channels of 1080p at 30 frames a second encoders are promised for, where one core does so many macroblocks a second.
    pub fn channels(&self, macroblocks_per_s: f64) -> f64 {
        const SAMPLE: (f64, f64, f64) = (120.0 * 68.0 * 30.0, 16.0 / 9.0, 1_080.0);
        let (decoded, aspect, lines) = SAMPLE;
        let below = self
            .rungs
            .iter()
            .map(|rung| f64::from(rung.height))
            .filter(|height| *height < lines);
        let encoded: f64 = below.map(|height| height * height * aspect / 256.0 * 30.0).sum();
        self.share() * macroblocks_per_s / (decoded * plan::DECODING + encoded)
    }

    /// Processor cores that encoders may be promised.
    fn share(&self) -> f64 {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        cores as f64 * f64::from(self.cpu_percent) / 100.0
    }
}

/// Why there is no ladder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trial of encoders could not be made.
    #[error("encoders cannot be tried: {0}")]
    Trial(String),
    /// None works, or not the one that is wanted.
    #[error("no video encoder works here; install {packages}", packages = crate::elements::PACKAGES)]
    NoEncoder,
    /// The one that is configured does not work.
    #[error("the encoder {wanted:?} does not work here; these do: {found:?}")]
    NotThisEncoder {
        /// As configured.
        wanted: Encoder,
        /// Those that work.
        found: Vec<Encoder>,
    },
}

/// Makes renditions of every broadcast of a hub.
#[derive(Debug)]
pub struct Ladder {
    hub: Hub,
    shared: Arc<Shared>,
}

/// What all broadcasts' ladders share.
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
        let rendition = rendition.to_string();
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
    /// Tries which encoders work, in a process of its own, and how fast they are. `program` is the daemon's own.
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
        let trial = try_encoders(&program, &config.preset).await?;
        let encoder = match config.encoder {
            None => *trial.encoders.first().ok_or(Error::NoEncoder)?,
            Some(wanted) if trial.encoders.contains(&wanted) => wanted,
            Some(wanted) => {
                return Err(Error::NotThisEncoder {
                    wanted,
                    found: trial.encoders,
                });
            }
        };
        let share = config.share();
        info!(
            ?encoder,
            works = ?trial.encoders,
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
        Ok(Self {
            hub,
            shared: Arc::new(shared),
        })
    }

    /// What each broadcast's renditions are doing.
    pub fn statuses(&self) -> Statuses {
        self.shared.status.clone()
    }

    /// Serves until `shutdown`; all workers are gone then.
    pub async fn serve(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut announcements = self.hub.announcements();
        loop {
            let broadcast = tokio::select! {
                broadcast = announcements.next() => broadcast,
                () = shutdown.cancelled() => break,
            };
            let span = tracing::info_span!("broadcast", name = %broadcast.name());
            let ladder = broadcast::run(Arc::clone(&self.shared), broadcast, shutdown.child_token());
            tasks.spawn(ladder.instrument(span));
        }
        tasks.close();
        tasks.wait().await;
    }
}

/// What the renditions of broadcasts are doing. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Statuses(Arc<DashMap<BroadcastId, Vec<Status>>>);

impl Statuses {
    /// Those of one broadcast, dearest first.
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

async fn try_encoders(program: &std::path::Path, preset: &str) -> Result<Trial, Error> {
    let output = Command::new(program)
        .args([TRIAL_SUBCOMMAND, preset])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(TRIAL_LIMIT, output)
        .await
        .map_err(|_| Error::Trial(format!("not done after {} s", TRIAL_LIMIT.as_secs())))?
        .map_err(|err| Error::Trial(err.to_string()))?;
    if !output.status.success() {
        return Err(Error::Trial(output.status.to_string()));
    }
    serde_json::from_slice(&output.stdout).map_err(|err| Error::Trial(err.to_string()))
}
