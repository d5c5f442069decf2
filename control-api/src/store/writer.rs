//! The thread that writes. It owns the write transaction; all rules run within it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::SystemTime,
};

use control_domain::{
    Actor, Command, Context, Envelope, Fault, Feature, NewEvent, Refusal, Time,
    command::{self, Ids},
    feature::{Folding, fold},
    id::EventId,
};
use redb::Durability;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;
use uuid::Uuid;

use super::{
    database::{Handle, fault, is_of_disk},
    log::{self, Appender},
    rows::WriteRows,
    vault::KeyVault,
};

/// Commands that one commit may hold. With more, the first would wait long for the last.
const GROUP: usize = 256;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database did not commit. The command may be sent again.
    #[error("the database did not commit: {0}")]
    NotCommitted(Arc<Fault>),
    /// The command's decision failed by a fault of the daemon.
    #[error("the command failed by a fault of the daemon")]
    Panicked,
    /// The store is closed.
    #[error("the database is closed")]
    Closed,
}

/// A command that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt<Done> {
    /// The result.
    pub done: Done,
    /// The sequence of the command's last event, or of the last event before it if it had none. A
    /// reader that has seen it sees the command's effects.
    pub sequence: u64,
}

/// A command that waits for its commit.
pub(super) trait Job: Send {
    /// On whose behalf.
    fn actor(&self) -> &Actor;

    /// Decides the command. It may be called again, if the transaction was aborted. The result for
    /// the sender is kept until [`Job::committed`].
    fn decide(&mut self, context: &Context<'_>) -> Decided;

    /// The events, if any, are durable.
    fn committed(self: Box<Self>, sequence: u64);

    /// Nothing happened.
    fn failed(self: Box<Self>, error: SendError);
}

/// The events of a command.
pub(super) enum Decided {
    /// None or more events follow.
    Events(Vec<NewEvent>),
    /// The rules refuse it, and the job knows why.
    Refused,
    /// A table cannot be read.
    Failed(Fault),
}

/// The result for the sender of a command.
type Settled<C> = Result<Receipt<<C as Command>::Done>, SendError>;

/// A command and its sender, who waits.
pub(super) struct Pending<C: Command> {
    actor: Actor,
    command: C,
    decided: Option<Result<C::Done, Refusal>>,
    receipt: oneshot::Sender<Settled<C>>,
}

impl<C: Command> Pending<C> {
    pub(super) fn new(actor: Actor, command: C) -> (Self, oneshot::Receiver<Settled<C>>) {
        let (receipt, receiver) = oneshot::channel();
        (Self { actor, command, decided: None, receipt }, receiver)
    }
}

impl<C: Command> Job for Pending<C> {
    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn decide(&mut self, context: &Context<'_>) -> Decided {
        match command::decide(&self.command, context) {
            Ok(decision) => {
                self.decided = Some(Ok(decision.done));
                Decided::Events(decision.events)
            }
            Err(Refusal::Fault(fault)) => Decided::Failed(fault),
            Err(refusal) => {
                self.decided = Some(Err(refusal));
                Decided::Refused
            }
        }
    }

    fn committed(self: Box<Self>, sequence: u64) {
        let receipt = match self.decided {
            Some(Ok(done)) => Ok(Receipt { done, sequence }),
            Some(Err(refusal)) => Err(SendError::Refused(refusal)),
            None => Err(SendError::Closed),
        };
        // A sender that no longer waits does not need it.
        let _ = self.receipt.send(receipt);
    }

    fn failed(self: Box<Self>, error: SendError) {
        let _ = self.receipt.send(Err(error));
    }
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
    pub(super) features: &'static [&'static Feature],
    /// The sequence of the last durable event.
    pub(super) sequence: watch::Sender<u64>,
}

/// The state of each job after a group was tried.
enum Outcome {
    /// Decided; the sequence of its last event.
    Decided(u64),
    /// Its decision panicked.
    Panicked,
}

impl Writer {
    /// Carries out commands until no sender is left.
    pub(super) fn run(self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP {
                match waiting.try_recv() {
                    Ok(job) => group.push(job),
                    Err(_) => break,
                }
            }
            self.carry_out(group);
        }
    }

    /// Carries out a group in one commit. If an event cannot be folded, each command is tried
    /// alone, so that one costs only its sender. If the disk fails, all fail.
    fn carry_out(&self, mut group: Vec<Box<dyn Job>>) {
        match self.commit(&mut group) {
            Ok(outcomes) => finish(group, outcomes),
            Err(fault) if group.len() > 1 && !is_of_disk(&fault) => {
                group.into_iter().for_each(|job| self.carry_out(vec![job]));
            }
            Err(fault) => {
                error!(%fault, commands = group.len(), "commands were not committed");
                if is_of_disk(&fault)
                    && let Err(fault) = self.database.reopen()
                {
                    error!(%fault, "the database cannot be opened again yet");
                }
                let fault = Arc::new(fault);
                for job in group {
                    job.failed(SendError::NotCommitted(Arc::clone(&fault)));
                }
            }
        }
    }

    /// Decides and folds all commands of a group, and commits.
    fn commit(&self, group: &mut [Box<dyn Job>]) -> Result<Vec<Outcome>, Fault> {
        self.database.ensure_open()?;
        let mut transaction = self.database.get()?.begin_write().map_err(fault)?;
        transaction.set_durability(Durability::Immediate).map_err(fault)?;
        let mut rows = WriteRows::new(&transaction);
        let mut log = Appender::new(&transaction)?;
        let begin = log.last();
        let mut written = Vec::new();
        let mut outcomes = Vec::with_capacity(group.len());
        for job in group {
            let now = Time::from(SystemTime::now());
            let vault = &*self.vault;
            let context =
                Context { rows: &rows, now, actor: &job.actor().clone(), ids: &NewIds, vault };
            // A decision only reads, so that a panic leaves nothing half done.
            let decided = catch_unwind(AssertUnwindSafe(|| job.decide(&context)));
            let events = match decided {
                Ok(Decided::Events(events)) => events,
                Ok(Decided::Refused) => Vec::new(),
                Ok(Decided::Failed(fault)) => return Err(fault),
                Err(_) => {
                    error!("the decision of a command panicked");
                    outcomes.push(Outcome::Panicked);
                    continue;
                }
            };
            for event in events {
                let id = EventId::new(NewIds.next());
                let envelope = event.sealed_in(id, now, job.actor().id());
                log.append(&envelope)?;
                let mut folding = Folding { rows: &mut rows, vault };
                fold(self.features, &mut folding, &envelope)?;
                written.push(envelope);
            }
            outcomes.push(Outcome::Decided(log.last()));
        }
        let last = log.last();
        drop(log);
        drop(rows);
        if last == begin {
            // Nothing was written, so that nothing needs to reach the disk.
            transaction.abort().map_err(fault)?;
            return Ok(outcomes);
        }
        transaction.commit().map_err(fault)?;
        self.sequence.send_replace(last);
        self.erase_keys(&written);
        Ok(outcomes)
    }

    /// Deletes the keys of accounts that were just erased. What fails here is repeated at the next
    /// start.
    fn erase_keys(&self, written: &[Envelope]) {
        for envelope in written {
            if let Err(fault) = log::erase(&self.vault, envelope) {
                error!(%fault, "the key of an erased account remains until the next start");
            }
        }
    }
}

/// Sends each result to its sender.
fn finish(group: Vec<Box<dyn Job>>, outcomes: Vec<Outcome>) {
    for (job, outcome) in group.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Decided(sequence) => job.committed(sequence),
            Outcome::Panicked => job.failed(SendError::Panicked),
        }
    }
}
