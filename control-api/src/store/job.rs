//! Jobs that wait for the writer: commands, whose senders wait for their commit, cursors, and
//! events of another node's log.

use std::sync::Arc;

use bytes::Bytes;
use control_domain::{Actor, Command, Context, Envelope, Fault, NewEvent, Refusal, Time, command};
use tokio::sync::oneshot;
use tracing::Span;

use super::metrics::CommandResult;
use crate::{request_id::RequestId, traces::CommandSpan};

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
    /// The database is a replica, which takes events from the writer's log alone.
    #[error("this database is a replica: changes are made at the writer")]
    Replica,
}

/// An event of another node's log.
#[derive(Debug)]
pub struct CopiedEvent {
    /// The event as that log holds it.
    pub json: Bytes,
    /// The same, read.
    pub envelope: Envelope,
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

    /// The request by which it was sent, if it was one.
    fn request(&self) -> Option<&RequestId>;
    /// The time at which it happened, if that is not the time of the decision.
    fn time(&self) -> Option<Time> {
        None
    }

    /// Decides the command. It may be called again, if the transaction was aborted. The result for
    /// the sender is kept until [`Job::committed`].
    fn decide(&mut self, context: &Context<'_>) -> Decided;

    /// The result of a command, to be counted; `None` for a cursor and for copied events.
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
    /// Events of another node's log follow.
    Copied {
        /// The sequence of the event before the first.
        after: u64,
        /// The events.
        events: Arc<[CopiedEvent]>,
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
    request: Option<RequestId>,
    traced: CommandSpan,
    command: C,
    time: Option<Time>,
    decided: Option<Result<C::Done, Refusal>>,
    receipt: oneshot::Sender<Settled<C>>,
}

impl<C: Command> Pending<C> {
    pub(super) fn new(actor: Actor, command: C) -> (Self, oneshot::Receiver<Settled<C>>) {
        let (receipt, receiver) = oneshot::channel();
        let request = RequestId::current();
        let traced = CommandSpan::new(C::NAME);
        (Self { actor, request, traced, command, time: None, decided: None, receipt }, receiver)
    }

    /// The span of the command.
    pub(super) fn span(&self) -> Span {
        self.traced.span()
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

    fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }

    fn time(&self) -> Option<Time> {
        self.time
    }

    fn decide(&mut self, context: &Context<'_>) -> Decided {
        match command::decide(&self.command, context) {
            Ok(decision) => {
                self.traced.decided(decision.events.len());
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
        let (outcome, receipt) = match self.decided {
            Some(Ok(done)) => ("done", Ok(Receipt { done, sequence })),
            Some(Err(refusal)) => ("refused", Err(SendError::Refused(refusal))),
            None => ("not_committed", Err(SendError::Closed)),
        };
        self.traced.ended(outcome, receipt.is_err() && outcome != "refused");
        // A sender that no longer waits does not need it.
        let _ = self.receipt.send(receipt);
    }

    fn failed(self: Box<Self>, error: SendError) {
        let outcome = match error {
            SendError::Refused(_) => "refused",
            SendError::NotCommitted(_) => "not_committed",
            SendError::Panicked => "panicked",
            SendError::Closed => "closed",
            SendError::Replica => "replica",
        };
        self.traced.ended(outcome, true);
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

    fn request(&self) -> Option<&RequestId> {
        None
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

/// Events of another node's log, and their sender, which waits.
pub(super) struct Copy {
    after: u64,
    events: Arc<[CopiedEvent]>,
    copied: oneshot::Sender<Result<(), SendError>>,
}

impl Copy {
    pub(super) fn new(
        after: u64,
        events: Vec<CopiedEvent>,
    ) -> (Self, oneshot::Receiver<Result<(), SendError>>) {
        let (copied, receiver) = oneshot::channel();
        (Self { after, events: events.into(), copied }, receiver)
    }
}

impl Job for Copy {
    fn actor(&self) -> &Actor {
        &Actor::System
    }

    fn request(&self) -> Option<&RequestId> {
        None
    }

    fn decide(&mut self, _: &Context<'_>) -> Decided {
        Decided::Copied { after: self.after, events: Arc::clone(&self.events) }
    }

    fn result(&self) -> Option<CommandResult> {
        None
    }

    fn committed(self: Box<Self>, _: u64) {
        // A sender that no longer waits reads the sequence later.
        let _ = self.copied.send(Ok(()));
    }

    fn failed(self: Box<Self>, error: SendError) {
        let _ = self.copied.send(Err(error));
    }
}
