//! SIGHUP: reloads the configuration. Settings that can change at run time are applied; the log
//! names the others. An invalid configuration changes nothing.

use std::{env, path::PathBuf, sync::Arc};

use control_api::{Administrator, Manners, Platform, audit::Operation};
use control_domain::{Actor, Door};
use origin_http::{AccessLog, Playback};
use tracing::{info, warn};

use crate::{
    blocking,
    certificates::Certificates,
    config::{
        self, Publish,
        source::{self, Loaded},
    },
    publish::{self, Prepared, Publishers},
};

use super::operations::RunningDaemon;

/// The parts that can change at run time.
pub(super) struct Reloadable {
    /// The configuration in force.
    pub(super) running: Loaded,
    /// The configuration file; `None` for built-in values.
    pub(super) file: Option<PathBuf>,
    /// Gets new keys, and disconnects publishers without a right.
    pub(super) publishers: Arc<Publishers>,
    /// Gets a new token.
    pub(super) administrator: Administrator,
    /// Gets new limits and origins.
    pub(super) manners: Manners,
    /// Gets new keys of playback tokens, and the private channels.
    pub(super) playback: Arc<Playback>,
    /// Present if TLS was enabled at the start.
    pub(super) certificates: Option<Arc<Certificates>>,
    /// Reopened, for log rotation.
    pub(super) access_log: Option<AccessLog>,
    /// Shows the configuration in force.
    pub(super) operations: RunningDaemon,
    /// Has the audit log.
    pub(super) platform: Option<Platform>,
}

impl Reloadable {
    /// Reloads the configuration and applies it. The result is logged. If the future is dropped, a
    /// certificate may still be replaced.
    pub(super) async fn reload(&mut self) {
        let changed = self.apply().await;
        // Names of keys alone: values may be secrets.
        let operation = Operation::new("configuration.reload", "configuration");
        let operation = operation.ended(changed.is_some()).setting(&changed.unwrap_or_default());
        operation.record(self.platform.as_ref(), Actor::Operator(Door::Signal)).await;
    }

    /// Reloads and applies. Returns the keys that have changed; `None` if it was refused.
    async fn apply(&mut self) -> Option<String> {
        // First, because the file may have been moved even if the configuration is invalid
        // (logrotate(8)).
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
        let newer = match self.load().await {
            Ok(newer) => newer,
            Err(err) => {
                warn!(%err, "invalid configuration: nothing was changed");
                return None;
            }
        };
        let changed = self.running.changes(&newer);
        // Keys that need a restart stay as they are, and are reported at each reload until then.
        let (now, later): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| self.is_reloadable(key, &newer));
        let Some(running) = self.running.adopt(&newer, |key| now.iter().any(|taken| taken == key))
        else {
            warn!(
                "the configuration conflicts with settings that need a restart: nothing was changed"
            );
            return None;
        };
        // Files may have changed although their names are the same, so they are read again.
        let prepared = match self.prepare(running.config.publish.clone()).await {
            Ok(prepared) => prepared,
            Err(err) => {
                warn!(%err, "invalid configuration: nothing was changed");
                return None;
            }
        };
        // The same for the certificate. This is the last step that can fail: the previous
        // certificate then stays in use.
        let shown = newer.config.certificate().and(running.config.certificate());
        if let (Some(certificates), Some(certificate)) = (self.certificates.clone(), shown) {
            let reload = move || certificates.reload(certificate.files()?);
            if let Err(err) = blocking::run(reload).await {
                warn!(%err, "invalid certificate: nothing was changed");
                return None;
            }
        }
        let withdrawn = self.publishers.reload(prepared);
        self.administrator.set(running.config.api.administrator());
        self.manners.limiter.set(running.config.api.limits());
        self.manners.cors.set(running.config.api.origins());
        self.playback.reload(&running.config.playback);
        self.operations.adopt(&running);
        self.running = running;
        for key in &later {
            warn!(key, "this setting needs a restart, or an upgrade by SIGUSR2");
        }
        let changed = now.join(" ");
        info!(changed, withdrawn_keys = withdrawn, "configuration read again");
        Some(changed)
    }

    /// Applies the part that concerns a draining process: the rights to publish, to watch and to
    /// administer, and the access log. The rest of a newer configuration is for the new process,
    /// whose version may have more keys.
    pub(super) async fn reload_rights(&self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
        // Only rights are applied: a publisher that drains must not outlive the withdrawal of its
        // key.
        const UNCHANGED: &str =
            "invalid configuration: keys and tokens of this draining process are unchanged";
        let newer = match self.load().await {
            Ok(newer) => newer,
            Err(err) => return warn!(%err, "{UNCHANGED}"),
        };
        match self.prepare(newer.config.publish.clone()).await {
            Ok(prepared) => {
                let withdrawn = self.publishers.reload(prepared);
                self.administrator.set(newer.config.api.administrator());
                self.playback.reload(&newer.config.playback);
                info!(withdrawn_keys = withdrawn, "keys and tokens reloaded while draining");
            }
            Err(err) => warn!(%err, "{UNCHANGED}"),
        }
    }

    /// Reads the files of the policy for publishers, which may be on a disk that hangs.
    async fn prepare(&self, publish: Publish) -> Result<Prepared, publish::Error> {
        let publishers = Arc::clone(&self.publishers);
        blocking::run(move || publishers.prepare(&publish)).await
    }

    /// Reads the configuration, which may be on a disk that hangs.
    async fn load(&self) -> Result<Loaded, config::Error> {
        let file = self.file.clone();
        blocking::run(move || source::load(file.as_deref(), env::vars_os())).await
    }

    /// Whether a changed setting takes effect when it is adopted.
    fn is_reloadable(&self, key: &str, newer: &Loaded) -> bool {
        match key.split_once('.') {
            // Publishers and requests are checked against state that `reload` replaces.
            Some(("publish" | "api" | "playback", _)) => true,
            // Active TLS can change its certificate; missing listeners cannot be added.
            Some(("tls", _)) => self.certificates.is_some() && newer.config.certificate().is_some(),
            _ => false,
        }
    }
}
