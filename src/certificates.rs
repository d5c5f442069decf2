//! The certificate of all TLS listeners: from files, which are reloaded when they change, or
//! self-signed for development. Open connections keep their certificate.
//!
//! An invalid pair never replaces a valid one. Files are compared by content, because they may be
//! links that are moved (certbot), and are loaded once two consecutive checks agree, so that a
//! writer that replaces one file after the other causes no error.

mod error;
mod facts;
mod files;
mod self_signed;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::blocking;
pub(crate) use error::Error;
pub(crate) use facts::{Facts, SOON};
pub(crate) use files::{Files, Loaded};
use files::{parse, read};
pub(crate) use self_signed::keep as keep_self_signed;

/// Interval at which the files are checked.
const LOOK: Duration = Duration::from_secs(2);
/// The certificate in use; see the module's documentation.
pub(crate) struct Certificates {
    /// Read by each TLS handshake without a lock.
    current: ArcSwap<CertifiedKey>,
    /// The files, and the content that was judged last. Locked only for comparisons, not while
    /// files are read.
    files: Mutex<Watched>,
    metrics: Metrics,
}

/// The watched files and the state of the last checks. Contents are identified by their hash.
#[derive(Debug)]
struct Watched {
    /// The files of the configuration in force.
    files: Files,
    /// Content that was loaded last, or reported as invalid.
    settled: u64,
    /// Content that was found invalid in one check.
    suspect: Option<u64>,
}

/// Metrics of the certificate, for alerts before it expires.
#[derive(Debug, Default)]
struct Metrics {
    /// End of the validity in Unix time, in seconds.
    not_after: Gauge,
    /// Changed contents: `taken` into use or `failed`.
    reloads: Family<ResultLabel, Counter>,
}

/// `taken` or `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl Certificates {
    /// Loads the first certificate.
    ///
    /// # Errors
    /// The fault, and its file.
    pub(crate) fn load(files: Files) -> Result<Self, Error> {
        let (content, loaded) = look(&files);
        let loaded = loaded?;
        let metrics = Metrics::default();
        metrics.show(&loaded.facts);
        info!(facts = %loaded.facts, cert = %files.cert.display(), "certificate loaded");
        loaded.facts.warn_if_soon_over();
        Ok(Self {
            current: ArcSwap::new(loaded.key),
            files: Mutex::new(Watched { files, settled: content, suspect: None }),
            metrics,
        })
    }

    /// Adds the metrics to a registry whose prefix is the product's name.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("tls");
        registry.register_with_unit(
            "certificate_not_after",
            "When the certificate that is shown runs out, in Unix time",
            Unit::Seconds,
            self.metrics.not_after.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Times that a changed certificate was read, by result",
            self.metrics.reloads.clone(),
        );
    }

    /// The end of the validity of the certificate in use.
    pub(crate) fn not_after(&self) -> SystemTime {
        let seconds = u64::try_from(self.metrics.not_after.get()).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Loads another pair, or the present content of the same files.
    ///
    /// # Errors
    /// The fault, and its file; the previous certificate stays in use.
    pub(crate) fn reload(&self, files: Files) -> Result<(), Error> {
        let (content, loaded) = look(&files);
        match loaded {
            Ok(loaded) => {
                // SIGHUP also arrives when the files are the same: then nothing is replaced or
                // logged.
                let changed = self.lock().settled != content;
                *self.lock() = Watched { files, settled: content, suspect: None };
                if changed {
                    self.take(loaded);
                }
                Ok(())
            }
            Err(err) => {
                let mut watched = self.lock();
                // The caller reports this fault, so `watch` does not report the same content again.
                if watched.files == files {
                    watched.settled = content;
                }
                self.metrics.count("failed");
                Err(err)
            }
        }
    }

    /// Checks the files at intervals until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => return,
            }
            let own = Arc::clone(&self);
            // The files may be on a disk that hangs, for which a stop does not wait.
            tokio::select! {
                () = blocking::run(move || own.look_again()) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One check of the files: a new valid content is taken, a new invalid one is reported if the
    /// next check finds it too.
    fn look_again(&self) {
        // The lock is not held while the files are read, because a disk may hang and `reload` needs
        // the lock.
        let files = self.lock().files.clone();
        let (content, loaded) = look(&files);
        let mut watched = self.lock();
        // A reload may have taken other files while these were read.
        if watched.files != files || watched.settled == content {
            watched.suspect = None;
            return;
        }
        match loaded {
            Ok(loaded) => {
                (watched.settled, watched.suspect) = (content, None);
                drop(watched);
                self.take(loaded);
            }
            Err(err) if watched.suspect == Some(content) => {
                (watched.settled, watched.suspect) = (content, None);
                self.metrics.count("failed");
                warn!(%err, "the changed certificate is invalid: the previous one stays in use");
            }
            // A writer may be between the certificate and its key: the next check decides.
            Err(_) => watched.suspect = Some(content),
        }
    }

    /// Puts a certificate into use, for the next handshakes.
    fn take(&self, loaded: Loaded) {
        info!(facts = %loaded.facts, "certificate replaced");
        loaded.facts.warn_if_soon_over();
        self.metrics.show(&loaded.facts);
        self.metrics.count("taken");
        self.current.store(loaded.key);
    }

    /// Locks the state. A panic under the lock leaves it consistent.
    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    // The certificate is the same for all host names, so the SNI of the client is ignored.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Metrics {
    /// Sets the end of the validity. A time before 1970 is shown as 0.
    fn show(&self, facts: &Facts) {
        let since = facts.not_after.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        self.not_after.set(seconds);
    }

    /// Counts a result.
    fn count(&self, result: &'static str) {
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }
}

/// The content of the files: a number that identifies it, and the certificate.
fn look(files: &Files) -> (u64, Result<Loaded, Error>) {
    let mut content = DefaultHasher::new();
    let mut bytes = |file: &Path| {
        let bytes = read(file);
        match &bytes {
            Ok(bytes) => bytes.hash(&mut content),
            // A fault is content too, so that one that persists is reported once.
            Err(err) => err.to_string().hash(&mut content),
        }
        bytes
    };
    // Both files are read in any case, so that the number identifies the pair. The key's bytes
    // reach only the hash and the parser.
    let (cert, key) = (bytes(&files.cert), bytes(&files.key));
    let loaded = cert.and_then(|cert| parse(files, &cert, &key?));
    (content.finish(), loaded)
}

#[cfg(test)]
mod tests;
