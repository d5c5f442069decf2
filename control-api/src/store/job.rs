//! Jobs that wait for the writer: commands, whose senders wait for their commit, and cursors.

use std::sync::Arc;

use control_domain::{Actor, Command, Context, Fault, NewEvent, Refusal, Time, command};
use tokio::sync::oneshot;

use super::metrics::CommandResult;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The rules refuse it, or the tables that it needs are being built again
    /// ([`Fault::Rebuilding`]).
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

/// A command or cursor that waits for its commit.
pub(super) trait Job: Send {
    /// On whose behalf.
    fn actor(&self) -> &Actor;

    /// The time at which it happened, if that is not the time of the decision.
    fn time(&self) -> Option<Time> {
        None
    }

    /// Decides the command. It may be called again, if the transaction was aborted. The result for
    /// the sender is kept until [`Job::committed`].
    fn decide(&mut self, context: &Context<'_>) -> Decided;

    /// The result of a command, to be counted; `None` for a cursor.
    fn result(&self) -> Option<CommandResult>;

    /// The events, if any, are durable.
    fn committed(self: Box<Self>, sequence: u64);

    /// Nothing happened.
    fn failed(self: Box<Self>, error: SendError);
}

/// The consequences of a job.
pub(super) enum Decided {
    /// None or more events follow.
    Events(Vec<NewEvent>),
    /// The cursor of a follower moves.
    Cursor {
        /// The follower's name.
        name: Arc<str>,
        /// The last event that it has handled.
        sequence: u64,
    },
    /// The rules refuse it, and the job knows why.
    Refused,
    /// A table cannot be read.
    Failed(Fault),
}

/// The result for the sender of a command.
type Settled<C> = Result<Receipt<<C as Command>::Done>, SendError>;

/// A command, and the channel to its sender.
pub(super) struct Pending<C: Command> {
    actor: Actor,
    command: C,
    time: Option<Time>,
    decided: Option<Result<C::Done, Refusal>>,
    receipt: oneshot::Sender<Settled<C>>,
}

impl<C: Command> Pending<C> {
    pub(super) fn new(actor: Actor, command: C) -> (Self, oneshot::Receiver<Settled<C>>) {
        let (receipt, receiver) = oneshot::channel();
        (Self { actor, command, time: None, decided: None, receipt }, receiver)
    }

    /// It happened at another time than that of the decision.
    pub(super) fn at(self, time: Option<Time>) -> Self {
        Self { time, ..self }
    }
}

impl<C: Command> Job for Pending<C> {
    fn actor(&self) -> &Actor {
        &self.actor
    }

    fn time(&self) -> Option<Time> {
        self.time
    }

    fn decide(&mut self, context: &Context<'_>) -> Decided {
        match command::decide(&self.command, context) {
            Ok(decision) => {
                self.decided = Some(Ok(decision.done));
                Decided::Events(decision.events)
            }
            // It does not concern the other commands of the group.
            Err(refusal @ Refusal::Fault(Fault::Rebuilding { .. })) => {
                self.decided = Some(Err(refusal));
                Decided::Refused
            }
            Err(Refusal::Fault(fault)) => Decided::Failed(fault),
            Err(refusal) => {
                self.decided = Some(Err(refusal));
                Decided::Refused
            }
        }
    }

    fn result(&self) -> Option<CommandResult> {
        Some(match &self.decided {
            Some(Ok(_)) => CommandResult::Done,
            Some(Err(refusal)) => refusal.into(),
            None => CommandResult::NotCommitted,
        })
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

/// A cursor that moves, and its follower, which waits.
pub(super) struct CursorMove {
    name: Arc<str>,
    sequence: u64,
    moved: oneshot::Sender<Result<(), SendError>>,
}

impl CursorMove {
    pub(super) fn new(
        name: Arc<str>,
        sequence: u64,
    ) -> (Self, oneshot::Receiver<Result<(), SendError>>) {
        let (moved, receiver) = oneshot::channel();
        (Self { name, sequence, moved }, receiver)
    }
}

impl Job for CursorMove {
    fn actor(&self) -> &Actor {
        &Actor::System
    }

    fn decide(&mut self, _: &Context<'_>) -> Decided {
        Decided::Cursor { name: Arc::clone(&self.name), sequence: self.sequence }
    }

    fn result(&self) -> Option<CommandResult> {
        None
    }

    fn committed(self: Box<Self>, _: u64) {
        // A follower that no longer waits has ended.
        let _ = self.moved.send(Ok(()));
    }

    fn failed(self: Box<Self>, error: SendError) {
        let _ = self.moved.send(Err(error));
    }
}
