//! Metrics of the database: the results of commands, commits, and the last error of one.

use std::sync::{Arc, Mutex, PoisonError};

use control_domain::{Fault, Refusal};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
};

/// The metrics of one database; clones share the counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Commands by result.
    pub(crate) commands: Family<OfResult, Counter>,
    /// Time until a group was durable, without its decisions.
    pub(crate) commit_duration: Histogram,
    /// Commands and cursors in one commit.
    pub(crate) group: Histogram,
    /// Groups that were not committed.
    pub(crate) commit_failures: Counter,
    /// Events that were committed.
    pub(crate) events: Counter,
    /// The error of the last commit; `None` if it succeeded.
    last_error: Arc<Mutex<Option<String>>>,
}

/// Label of commands: one of [`CommandResult`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfResult {
    result: &'static str,
}

/// The result of a command for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandResult {
    /// It was carried out.
    Done,
    /// It needs an account.
    SignIn,
    /// The actor may not do it.
    Forbidden,
    /// It is beyond the scopes of the API key.
    Scope,
    /// The thing does not exist for the actor.
    NotFound,
    /// A rule over what exists forbids it.
    Conflict,
    /// The thing has changed since it was read.
    Changed,
    /// A limit on a number of things.
    Limit,
    /// Its tables are being built again.
    Rebuilding,
    /// A table or key cannot be read.
    Fault,
    /// The database did not commit.
    NotCommitted,
    /// Its decision panicked.
    Panicked,
}

impl CommandResult {
    /// All results.
    pub(crate) const ALL: [Self; 12] = [
        Self::Done,
        Self::SignIn,
        Self::Forbidden,
        Self::Scope,
        Self::NotFound,
        Self::Conflict,
        Self::Changed,
        Self::Limit,
        Self::Rebuilding,
        Self::Fault,
        Self::NotCommitted,
        Self::Panicked,
    ];

    /// The value of the label.
    fn label(self) -> OfResult {
        let result = match self {
            Self::Done => "done",
            Self::SignIn => "sign_in",
            Self::Forbidden => "forbidden",
            Self::Scope => "scope",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Changed => "changed",
            Self::Limit => "limit",
            Self::Rebuilding => "rebuilding",
            Self::Fault => "fault",
            Self::NotCommitted => "not_committed",
            Self::Panicked => "panicked",
        };
        OfResult { result }
    }
}

impl From<&Refusal> for CommandResult {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::SignIn => Self::SignIn,
            Refusal::Forbidden { .. } => Self::Forbidden,
            Refusal::Scope { .. } => Self::Scope,
            Refusal::NotFound { .. } => Self::NotFound,
            Refusal::Conflict { .. } => Self::Conflict,
            Refusal::Changed { .. } => Self::Changed,
            Refusal::Limit { .. } => Self::Limit,
            Refusal::Fault(Fault::Rebuilding { .. }) => Self::Rebuilding,
            Refusal::Fault(_) => Self::Fault,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let commands = Family::<OfResult, Counter>::default();
        // All series exist from the start, because a rate needs the value before the first event.
        for result in CommandResult::ALL {
            drop(commands.get_or_create(&result.label()));
        }
        Self {
            commands,
            // 0.25 ms, a fast disk, to 4 s.
            commit_duration: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
            // 1 to 256, the largest group.
            group: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            commit_failures: Counter::default(),
            events: Counter::default(),
            last_error: Arc::default(),
        }
    }
}

impl Metrics {
    /// Counts the result of a command.
    pub(super) fn count(&self, result: CommandResult) {
        self.commands.get_or_create(&result.label()).inc();
    }

    /// The commands with this result.
    #[cfg(test)]
    pub(crate) fn with(&self, result: CommandResult) -> u64 {
        self.commands.get_or_create(&result.label()).get()
    }

    /// A commit has succeeded.
    pub(super) fn committed(&self) {
        self.last_error().take();
    }

    /// A group was not committed.
    pub(super) fn not_committed(&self, fault: &Fault) {
        self.commit_failures.inc();
        *self.last_error() = Some(fault.to_string());
    }

    /// The error of the last commit; `None` if it succeeded.
    pub(super) fn last_commit_error(&self) -> Option<String> {
        self.last_error().clone()
    }

    fn last_error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
