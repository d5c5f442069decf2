//! The running daemon for its operator: the configuration in force, the log level and the workers.

use std::{fs, sync::Arc};

use arc_swap::ArcSwap;
use control_api::{
    Operations,
    operations::{InvalidFilter, Worker},
};
use serde_json::Value;
use transcoder::ladder::Workers;

use crate::{config::source::Loaded, logs};

/// The running daemon. Clones share it.
#[derive(Clone)]
pub(super) struct RunningDaemon {
    configuration: Arc<ArcSwap<Value>>,
    /// `None` if there is no ladder.
    workers: Option<Workers>,
}

impl RunningDaemon {
    /// The daemon with this configuration.
    pub(super) fn new(running: &Loaded, workers: Option<Workers>) -> Self {
        Self { configuration: Arc::new(ArcSwap::from_pointee(running.shown())), workers }
    }

    /// Shows another configuration, which is in force now.
    pub(super) fn adopt(&self, running: &Loaded) {
        self.configuration.store(Arc::new(running.shown()));
    }
}

impl Operations for RunningDaemon {
    fn configuration(&self) -> Value {
        Value::clone(&self.configuration.load())
    }

    fn log_level(&self) -> String {
        logs::level()
    }

    fn set_log_level(&self, filter: &str) -> Result<(), InvalidFilter> {
        logs::set_level(filter).map_err(|err| InvalidFilter(err.to_string()))
    }

    fn workers(&self) -> Vec<Worker> {
        let running = self.workers.iter().flat_map(Workers::list);
        let worker = running.map(|worker| Worker {
            pid: worker.pid,
            channel: worker.channel.to_string(),
            broadcast: worker.broadcast.to_string(),
            encoder: worker.encoder.to_owned(),
            since: humantime::format_rfc3339_seconds(worker.since).to_string(),
            resident_bytes: worker.pid.and_then(resident_bytes),
        });
        worker.collect()
    }
}

/// Resident memory of a process in bytes: `VmRSS` in kibibytes, from proc_pid_status(5).
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
