//! The thread that writes. It owns the write transaction; all rules run within it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use control_domain::{
    Context, Fault, Feature,
    command::Ids,
    feature::{Folding, fold},
    id::{AccountId, EventId},
};
use redb::Durability;
use tokio::sync::{
    mpsc::{Receiver, error::TryRecvError},
    oneshot, watch,
};
use tracing::error;
use uuid::Uuid;

use super::{
    database::{Handle, fault, is_of_all, is_of_disk},
    erased::ErasedList,
    job::{Decided, Job, SendError},
    log::{self, Appender},
    metrics::{CommandResult, Metrics},
    rebuild::Rebuild,
    renewal::Waker,
    rows::WriteRows,
    vault::KeyVault,
};
use crate::request_id::RequestId;

/// Commands that one commit may hold. With more, the first would wait long for the last.
const GROUP: usize = 256;

/// A request that waits for the thread.
pub(super) enum Message {
    /// A command, a cursor, or events of another node.
    Job(Box<dyn Job>),
    /// Build the tables of features again.
    Rebuild {
        /// The features.
        features: Vec<&'static Feature>,
        /// Completed when reads of them are refused.
        begun: oneshot::Sender<()>,
    },
    /// Try whether the disk can be written again.
    Probe,
}

/// Identifiers of the daemon: UUIDs of version 7, each greater than all before in this process.
pub(super) struct NewIds;

impl Ids for NewIds {
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) database: Arc<Handle>,
    pub(super) vault: Arc<KeyVault>,
    /// The sequence of the last durable event.
    pub(super) sequence: watch::Sender<u64>,
    pub(super) rebuild: Rebuild,
    pub(super) erased: ErasedList,
    /// Persons whose keys were deleted, which the next commit records.
    pub(super) gone: Vec<AccountId>,
    /// Wakes the thread that writes the keys anew.
    pub(super) renewal: Waker,
    pub(super) metrics: Metrics,
}

/// The state of each job after a group was tried.
enum Outcome {
    /// Decided; the sequence of its last event.
    Decided(u64),
    /// Its decision panicked.
    Panicked,
}

impl Writer {
    /// Builds tables again for this time at most, before the first command.
    pub(super) fn rebuild_for(&mut self, time: Duration) {
        let begun = Instant::now();
        while self.rebuild.is_running() && begun.elapsed() < time {
            self.rebuild.slice(&self.database, &self.vault, || begun.elapsed() >= time);
        }
    }

    /// Carries out commands until no sender is left.
    pub(super) fn run(mut self, mut waiting: Receiver<Message>) {
        loop {
            let first = match self.rebuild.is_running() {
                false => waiting.blocking_recv(),
                true => match waiting.try_recv() {
                    Ok(message) => Some(message),
                    Err(TryRecvError::Disconnected) => None,
                    Err(TryRecvError::Empty) => {
                        self.slice(&waiting);
                        continue;
                    }
                },
            };
            let Some(first) = first else { return };
            let mut group = Vec::new();
            self.take(first, &mut group);
            while group.len() < GROUP {
                match waiting.try_recv() {
                    Ok(message) => self.take(message, &mut group),
                    Err(_) => break,
                }
            }
            if !group.is_empty() {
                self.carry_out(group);
            }
            // Commands without end must not stop the tables.
            self.slice(&waiting);
        }
    }

    fn slice(&mut self, waiting: &Receiver<Message>) {
        if self.rebuild.is_running() {
            let is_urgent = || !waiting.is_empty() || waiting.is_closed();
            self.rebuild.slice(&self.database, &self.vault, is_urgent);
        }
    }

    fn take(&mut self, message: Message, group: &mut Vec<Box<dyn Job>>) {
        match message {
            Message::Job(job) => group.push(job),
            Message::Rebuild { features, begun } => {
                self.rebuild.add(&features);
                // A sender that no longer waits does not need it.
                let _ = begun.send(());
            }
            Message::Probe => self.probe(),
        }
    }

    /// Carries out a group in one commit. If an event cannot be folded, each command is tried
    /// alone, so that one costs only its sender. If the disk fails, all fail.
    fn carry_out(&mut self, mut group: Vec<Box<dyn Job>>) {
        match self.commit(&mut group) {
            Ok(outcomes) => self.finish(group, outcomes),
            Err(fault) if group.len() > 1 && !is_of_all(&fault) => {
                group.into_iter().for_each(|job| self.carry_out(vec![job]));
            }
            Err(fault) => {
                // A disk that cannot be written has been logged once, by the handle.
                if is_of_disk(&fault) || !is_of_all(&fault) {
                    error!(%fault, commands = group.len(), "commands were not committed");
                }
                if is_of_disk(&fault) {
                    // The handle logs whether it succeeds.
                    let _ = self.database.reopen();
                }
                self.metrics.not_committed(&fault);
                let fault = Arc::new(fault);
                for job in group {
                    if job.result().is_some() {
                        self.metrics.count(CommandResult::NotCommitted);
                    }
                    job.failed(SendError::NotCommitted(Arc::clone(&fault)));
                }
            }
        }
    }

    /// Decides and folds all commands of a group, and commits.
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<Vec<Outcome>, Fault> {
        let mut transaction = self.database.writable()?.begin_write().map_err(fault)?;
        transaction.set_durability(Durability::Immediate).map_err(fault)?;
        let vault = self.vault.group();
        let mut rows = WriteRows::new(&transaction, self.rebuild.rebuilding());
        let mut log = Appender::new(&transaction)?;
        let begin = log.last();
        let mut has_moved = false;
        let mut outcomes = Vec::with_capacity(group.len());
        for job in group {
            let now = job.time().unwrap_or_else(|| SystemTime::now().into());
            let actor = *job.actor();
            let context = Context { rows: &rows, now, actor: &actor, ids: &NewIds, vault: &vault };
            // A decision only reads, so that a panic leaves nothing half done.
            let decided = catch_unwind(AssertUnwindSafe(|| job.decide(&context)));
            let events = match decided {
                Ok(Decided::Events(events)) => events,
                Ok(Decided::Copied { after, events }) => {
                    log.expect(after)?;
                    for event in events.iter() {
                        log.append_as(&event.envelope, &event.json)?;
                        let mut folding = Folding { rows: &mut rows, vault: &vault };
                        fold(self.rebuild.live(), &mut folding, &event.envelope)?;
                    }
                    Vec::new()
                }
                Ok(Decided::Refused) => Vec::new(),
                Ok(Decided::Failed(fault)) => return Err(fault),
                Ok(Decided::Cursor { name, sequence }) => {
                    log::move_cursor(&transaction, &name, sequence)?;
                    has_moved = true;
                    Vec::new()
                }
                Err(_) => {
                    error!("the decision of a command panicked");
                    outcomes.push(Outcome::Panicked);
                    continue;
                }
            };
            for event in events {
                let id = EventId::new(NewIds.next());
                let envelope = event.sealed_in(id, now, actor.id());
                let envelope = envelope.requested_by(job.request().map(RequestId::as_str));
                log.append(&envelope)?;
                let mut folding = Folding { rows: &mut rows, vault: &vault };
                fold(self.rebuild.live(), &mut folding, &envelope)?;
            }
            outcomes.push(Outcome::Decided(log.last()));
        }
        let last = log.last();
        let erased = log.into_erased();
        drop(rows);
        if last == begin && !has_moved {
            // Nothing was written, so that nothing needs to reach the disk.
            transaction.abort().map_err(fault)?;
            return Ok(outcomes);
        }
        log::keys_are_gone(&transaction, &self.gone)?;
        let begun = Instant::now();
        // Before the events that were sealed with them.
        vault.commit()?;
        transaction.commit().map_err(fault)?;
        self.metrics.commit_duration.observe(begun.elapsed().as_secs_f64());
        self.metrics.group.observe(f64::from(u32::try_from(outcomes.len()).unwrap_or(u32::MAX)));
        self.metrics.events.inc_by(last - begin);
        self.metrics.committed();
        self.gone.clear();
        self.sequence.send_replace(last);
        self.erase_keys(erased);
        Ok(outcomes)
    }

    /// Counts each result, and sends it to its sender.
    fn finish(&self, group: Vec<Box<dyn Job>>, outcomes: Vec<Outcome>) {
        for (job, outcome) in group.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Decided(sequence) => {
                    job.result().into_iter().for_each(|result| self.metrics.count(result));
                    job.committed(sequence);
                }
                Outcome::Panicked => {
                    self.metrics.count(CommandResult::Panicked);
                    job.failed(SendError::Panicked);
                }
            }
        }
    }

    /// Deletes the keys of accounts that are erased. A failure is repeated at the next start.
    pub(super) fn erase_keys(&mut self, erased: Vec<AccountId>) {
        if erased.is_empty() {
            return;
        }
        let listed = self.erased.add(&erased).map_err(|error| Fault::Vault(Box::new(error)));
        match listed.and_then(|()| self.vault.erase_all(&erased)) {
            Ok(()) => {
                self.gone.extend(erased);
                self.renewal.wake();
            }
            Err(fault) => {
                error!(%fault, "keys of erased accounts remain until the next start");
            }
        }
    }
}
