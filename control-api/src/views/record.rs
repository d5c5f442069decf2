//! Minutes that are over, on their way to the disk: first into the file of traffic, then, as
//! numbered batches, into the log. What is in the file is recorded once, whatever fails between.

use std::collections::VecDeque;

use control_domain::{
    Actor, Fault,
    features::{
        channels,
        views::{
            commands::Record,
            queries::{self, Subject},
        },
    },
    text::ChannelName,
};
use tokio::task::{JoinError, spawn_blocking};

use super::{
    counter::{Minute, Watched},
    counts::Row,
    metrics::Metrics,
};
use crate::{
    Platform, Store,
    store::{Kept, SendError},
};

/// Minutes that wait for the disk at most. Then the oldest are lost.
const MAX_WAITING: usize = 60;
/// Batches that are read at once.
const BATCHES: usize = 16;

/// Why minutes are not recorded yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// Another process has the database.
    #[error("the database is not open in this process")]
    NotOpen,
    /// It cannot be read or written.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The command was not carried out.
    #[error(transparent)]
    Command(#[from] SendError),
    /// The thread that writes has failed.
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

/// The minutes that wait.
pub(super) struct Recorder {
    platform: Platform,
    kept: Kept,
    waiting: VecDeque<Minute>,
    /// Whether batches of an earlier run may wait in the file.
    is_new: bool,
    metrics: Metrics,
}

impl Recorder {
    pub(super) fn new(platform: Platform, kept: Kept, metrics: Metrics) -> Self {
        Self { platform, kept, waiting: VecDeque::new(), is_new: true, metrics }
    }

    /// Adds a minute to those that wait.
    pub(super) fn add(&mut self, minute: Minute) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            self.metrics.lost();
        }
        self.waiting.push_back(minute);
        self.metrics.waiting(self.waiting.len());
    }

    /// Whether there is something to record.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_new || !self.waiting.is_empty()
    }

    /// Records all minutes that wait. It can be repeated after an error.
    ///
    /// # Errors
    /// [`RecordError`]: the rest waits.
    pub(super) async fn record(&mut self) -> Result<(), RecordError> {
        let open = self.platform.ready().ok_or(RecordError::NotOpen)?;
        let store = Store::clone(&open);
        if self.is_new {
            let store = store.clone();
            spawn_blocking(move || number(&store)).await??;
        }
        while let Some(minute) = self.waiting.front() {
            let rows = resolve(&store, minute)?;
            let (store, begin, kept) = (store.clone(), minute.begin, self.kept);
            spawn_blocking(move || store.traffic().add_minute(begin, &rows, kept)).await??;
            self.waiting.pop_front();
            self.metrics.waiting(self.waiting.len());
            // Its batches wait in the file.
            self.is_new = true;
        }
        send(&store).await?;
        self.is_new = false;
        Ok(())
    }
}

/// Numbers batches after those that the log has.
fn number(store: &Store) -> Result<(), Fault> {
    let traffic = store.traffic();
    let node = traffic.node()?;
    let last = store.read(|rows| queries::last_batch(rows, node))??;
    // Sent, but not forgotten.
    traffic.forget_batches(last)?;
    traffic.number_after(last)
}

/// Sends the batches in the file, in order.
async fn send(store: &Store) -> Result<(), RecordError> {
    loop {
        let file = store.clone();
        let read = move || {
            let traffic = file.traffic();
            Ok::<_, Fault>((traffic.node()?, traffic.batches(BATCHES)?))
        };
        let (node, batches) = spawn_blocking(read).await??;
        let Some(&(last, _)) = batches.last() else { return Ok(()) };
        for (batch, counts) in batches {
            store.send(Actor::System, Record { node, batch, counts }).await?;
        }
        let file = store.clone();
        spawn_blocking(move || file.traffic().forget_batches(last)).await??;
    }
}

/// The platform's channels and videos of a minute. Others are not counted: a channel that has been
/// deleted, or one that exists only in the configuration.
fn resolve(store: &Store, minute: &Minute) -> Result<Vec<(Subject, Row)>, Fault> {
    store.read(|rows| {
        let mut resolved = Vec::with_capacity(minute.rows.len());
        for (watched, row) in &minute.rows {
            let subject = match watched {
                Watched::Video(id) => Some(Subject::Video(*id)),
                Watched::Channel(name) => match name.as_str().parse::<ChannelName>() {
                    Ok(name) => channels::queries::by_name(rows, &name)?.map(Subject::Channel),
                    Err(_) => None,
                },
            };
            resolved.extend(subject.map(|subject| (subject, row.clone())));
        }
        Ok(resolved)
    })?
}

#[cfg(test)]
mod tests;
