//! The platform as a part of the daemon: opens the database, follows its events, and does its
//! duties.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control_api::{
    Pictures, Platform, Webhooks, duties,
    identity::{self, Identity},
    rate::Limiter,
    store::{NodeRole, OpenError},
    webhooks::{Settings, SystemClock},
};
use rustls::RootCertStore;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{adapters::Makers, error::Error};
use crate::{
    authorities, blocking, config::Config, directory::Directory, handover::Predecessor,
    playback_key::PlaybackKey,
};

/// Subjects that may wait for the old process.
const WITHDRAWN: usize = 64;
/// Interval of attempts while the old process holds the database.
const HELD: Duration = Duration::from_millis(20);
/// Interval of attempts after another fault.
const FAULT: Duration = Duration::from_secs(1);
/// Attempts after which a database that is held is a fault to report.
const PATIENCE: u32 = 250;

/// The database, and what ingest and playback know of it.
pub(super) struct PlatformParts {
    pub(super) platform: Platform,
    pub(super) identity: Identity,
    pub(super) directory: Directory,
    /// Signs playback tokens.
    pub(super) playback_key: Arc<PlaybackKey>,
    /// Delivers the events.
    pub(super) webhooks: Webhooks,
    /// Finds videos and channels.
    #[cfg(feature = "search")]
    pub(super) search: control_api::Search,
    /// Makes and keeps avatars and banners.
    pub(super) pictures: Pictures,
    folder: PathBuf,
}

impl PlatformParts {
    /// Opens the database, unless an old process holds it until it has handed over. `None` if the
    /// platform is off.
    ///
    /// # Errors
    /// [`Error::Platform`], or the fault of a file of keys or authorities.
    pub(super) async fn new(
        config: &Config,
        takes_over: bool,
        limiter: Arc<Limiter>,
        role: NodeRole,
    ) -> Result<Option<Self>, Error> {
        if !config.platform.enabled {
            return Ok(None);
        }
        let folder = config.platform_folder();
        let platform = match role {
            NodeRole::Writer => Platform::default(),
            NodeRole::Replica => Platform::replica(config.bus.writer.clone()),
        };
        if !takes_over {
            platform.open(&folder).await?;
        }
        // Others find the keys of a token at its issuer (RFC 8414 3).
        let issuer = config.http.public_url.as_str().unwrap_or(identity::ISSUER);
        let identity = Identity::open(platform.clone(), &folder, issuer, limiter)?;
        if !takes_over {
            greet(&identity).await;
        }
        let directory = Directory::new(platform.clone());
        let keys = folder.clone();
        let playback_key = Arc::new(blocking::run(move || PlaybackKey::open(&keys)).await?);
        let webhooks = make_webhooks(config, &platform).await?;
        let makers = Arc::new(Makers::new(config.ladder.nice()));
        let pictures = Pictures::new(platform.clone(), makers, folder.clone());
        Ok(Some(Self {
            #[cfg(feature = "search")]
            search: control_api::Search::new(platform.clone()),
            platform,
            identity,
            directory,
            playback_key,
            webhooks,
            pictures,
            folder,
        }))
    }

    /// The folder of the database.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The check of the search.
    #[cfg(feature = "search")]
    pub(super) fn search_health(&self) -> Box<dyn control_api::health::Check> {
        Box::new(control_api::search::SearchHealth(self.search.clone()))
    }

    /// Opens the database if it is not open yet, then follows its events and does its duties until
    /// `stop`. `older` is the process that drains, which has rights of stored keys, too.
    pub(super) async fn follow(self, older: Option<Arc<Predecessor>>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.open() => {}
        }
        let (withdrawn, subjects) = mpsc::channel(WITHDRAWN);
        let duties = async {
            // A replica does what the writer has decided.
            if self.platform.role() == NodeRole::Writer {
                duties::run(self.platform.clone(), stop.clone()).await;
            }
        };
        let follow = self.directory.clone().follow(stop.clone(), withdrawn);
        tokio::join!(follow, pass_on(subjects, older), duties);
    }

    /// Opens the database. Media are served meanwhile, so a fault does not end the daemon.
    async fn open(&self) {
        let mut attempts = 0;
        while self.platform.ready().is_none() {
            let Err(err) = self.platform.open(&self.folder).await else {
                info!("the database of the platform is open");
                greet(&self.identity).await;
                return;
            };
            attempts += 1;
            let is_held = matches!(err, OpenError::InUse { .. });
            if !is_held || attempts % PATIENCE == 0 {
                error!(%err, "the database of the platform cannot be opened: trying again");
            }
            sleep(if is_held { HELD } else { FAULT }).await;
        }
    }
}

/// The deliveries of events. Blocks for the certificate authorities.
async fn make_webhooks(config: &Config, platform: &Platform) -> Result<Webhooks, Error> {
    let ca = config.webhooks.ca.clone();
    let roots = match blocking::run(move || authorities::load(&ca)).await {
        // The daemon may have no webhooks.
        Err(err @ authorities::Error::NoAuthority) => {
            warn!(%err, "webhooks: no https receiver can be trusted: set webhooks.ca");
            RootCertStore::empty()
        }
        roots => roots.map_err(Error::WebhookAuthorities)?,
    };
    let settings = Settings { allow_internal: config.webhooks.allow_internal, roots };
    Webhooks::new(platform.clone(), settings, Arc::new(SystemClock)).map_err(Error::Webhooks)
}

/// Delivers events until `stop`.
pub(super) async fn deliver(webhooks: Webhooks, folder: PathBuf, stop: CancellationToken) {
    webhooks.serve(folder, stop.clone()).await;
    // It ends earlier in a process that has handed over the database.
    stop.cancelled().await;
}

/// Keeps the index of the search until `stop`.
#[cfg(feature = "search")]
pub(super) async fn keep_index(
    search: control_api::Search,
    folder: PathBuf,
    stop: CancellationToken,
) {
    search.serve(folder, stop.clone()).await;
    // It ends earlier in a process that has handed over the database.
    stop.cancelled().await;
}

/// Makes the first administrator of a new platform, and prints the password once. It is not logged.
async fn greet(identity: &Identity) {
    if identity.platform().role() == NodeRole::Replica {
        return;
    }
    match identity.first_administrator().await {
        Ok(Some(first)) => {
            let written = writeln!(
                std::io::stdout(),
                "The platform has a first administrator: {}\n\
                 with the one-time password: {}\n\
                 It must be replaced at the first sign-in, and is not shown again.",
                first.name,
                first.password.expose()
            );
            if let Err(err) = written {
                warn!(%err, "the password of the first administrator cannot be printed: \
                             `streamforge user password` sets another");
            }
        }
        Ok(None) => {}
        // The operator's token can make one.
        Err(problem) => error!(detail = problem.detail(), "no first administrator"),
    }
}

/// Passes on each subject to the old process, until the sender is gone.
async fn pass_on(mut subjects: mpsc::Receiver<Uuid>, older: Option<Arc<Predecessor>>) {
    while let Some(subject) = subjects.recv().await {
        if let Some(older) = &older {
            older.withdraw(subject).await;
        }
    }
}
