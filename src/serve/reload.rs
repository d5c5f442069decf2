//! SIGHUP: the configuration is read again. What can change while the daemon runs, changes; what cannot is named. A configuration that is
//! wrong changes nothing.

use std::{env, path::PathBuf, sync::Arc};

use control_api::Administrator;
use origin_http::AccessLog;
use tracing::{info, warn};

use crate::{
    certificates::Certificates,
    config::{self, Loaded},
    publish::Publishers,
};

/// What can change while the daemon runs.
pub(super) struct Reloadable {
    /// The configuration that is in force.
    pub(super) running: Loaded,
    pub(super) file: Option<PathBuf>,
    pub(super) publishers: Arc<Publishers>,
    pub(super) administrator: Administrator,
    /// If there were any at the start.
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) access_log: Option<AccessLog>,
}

impl Reloadable {
    /// Reads the configuration again and acts on it. What comes of it is said in the log.
    pub(super) fn reload(&mut self) {
        // First: the file may have been moved away whatever is wrong with the configuration (logrotate(8)).
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
        let newer = match config::load(self.file.as_deref(), env::vars_os()) {
            Ok(newer) => newer,
            Err(err) => {
                warn!(%err, "the configuration is wrong: nothing was changed");
                return;
            }
        };
        let changed = self.running.changes(&newer);
        let (now, later): (Vec<_>, Vec<_>) = changed.into_iter().partition(|key| self.is_reloadable(key, &newer));
        let Some(running) = self.running.adopt(&newer, |key| now.iter().any(|taken| taken == key)) else {
            warn!("the configuration does not go with what needs a restart: nothing was changed");
            return;
        };
        // Files may be others though their names are the same. Last of what can fail: what was shown before is shown on then.
        let shown = newer.config.certificate().and(running.config.certificate());
        if let (Some(certificates), Some(certificate)) = (&self.certificates, shown) {
            let taken = certificate.files().and_then(|files| certificates.reload(files));
            if let Err(err) = taken {
                warn!(%err, "the certificate cannot be used: nothing was changed");
                return;
            }
        }
        let withdrawn = self.publishers.reload(&running.config.publish);
        self.administrator.set(running.config.api.administrator());
        self.running = running;
        for key in &later {
            warn!(key, "this setting needs a restart, or an upgrade by SIGUSR2");
        }
        info!(
            changed = now.join(" "),
            withdrawn_keys = withdrawn,
            "configuration read again"
        );
    }

    /// What of it concerns a process that drains: who may still publish and change something, and the access log. The rest of a newer
    /// configuration is the new process' matter, which may be of a version that knows more.
    pub(super) fn reload_rights(&mut self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
        match config::load(self.file.as_deref(), env::vars_os()) {
            Ok(newer) => {
                let withdrawn = self.publishers.reload(&newer.config.publish);
                self.administrator.set(newer.config.api.administrator());
                info!(withdrawn_keys = withdrawn, "keys and tokens read again while draining");
            }
            Err(err) => warn!(%err, "not for this process that drains: its keys and tokens stay as they are"),
        }
    }

    /// Whether a changed setting is in force once it is adopted.
    fn is_reloadable(&self, key: &str, newer: &Loaded) -> bool {
        match key.split_once('.') {
            Some(("publish" | "api", _)) => true,
            // TLS that is on can show another certificate; listeners that are not there cannot come.
            Some(("tls", _)) => self.certificates.is_some() && newer.config.certificate().is_some(),
            _ => false,
        }
    }
}
