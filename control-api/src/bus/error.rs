//! Why the bus is interrupted.

use async_nats::{
    ConnectError,
    jetstream::context::{PublishError, PublishErrorKind},
};
use control_domain::{Fault, id::AccountId};

use crate::store::SendError;

/// Why a connection to the bus ends or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of credentials cannot be used.
    #[error("bus.credentials: {file}: {error}")]
    Credentials {
        /// The file.
        file: std::path::PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The TLS settings are not supported.
    #[error("TLS to the bus: {0}")]
    Tls(#[from] rustls::Error),
    /// There is no connection.
    #[error("no connection: {0}")]
    Connect(#[from] ConnectError),
    /// The connection was lost.
    #[error("the connection is lost")]
    Lost,
    /// A request of JetStream failed.
    #[error("{request}: {error}")]
    Request {
        /// The request.
        request: &'static str,
        /// The cause.
        error: async_nats::Error,
    },
    /// The server did not take an event.
    #[error("event {sequence} is not taken: {error}")]
    Refused {
        /// Its sequence.
        sequence: u64,
        /// The cause.
        error: PublishError,
    },
    /// The server took an event under another sequence.
    #[error("event {expected} is message {found} of the stream")]
    OtherSequence {
        /// The sequence of the event.
        expected: u64,
        /// That of the message.
        found: u64,
    },
    /// The stream has events of another log.
    #[error(
        "event {sequence} of the stream {stream} is not the one of this database: another database \
         writes there, or this one was restored from a backup. Give each its own bus.stream and \
         bus.subject_prefix; or, if this database is the right one, delete the stream and the \
         bucket {stream}_keys"
    )]
    OtherLog {
        /// The stream.
        stream: String,
        /// The last event that both should have.
        sequence: u64,
    },
    /// The stream has more events than the log of the writer.
    #[error(
        "the stream {stream} has {last} events and this database {own}: this database was restored \
         from a backup, or another one writes there. If this one is the right one, delete the \
         stream and the bucket {stream}_keys"
    )]
    Ahead {
        /// The stream.
        stream: String,
        /// The sequence of its last message.
        last: u64,
        /// The sequence of the last event here.
        own: u64,
    },
    /// The stream has none of its messages any more.
    #[error(
        "the stream {stream} has lost all messages up to {last}, so that nothing shows whether it \
         is of this database: it needs a limit of messages or bytes in place of one of age"
    )]
    Emptied {
        /// The stream.
        stream: String,
        /// The sequence of its last message.
        last: u64,
    },
    /// Events that a replica needs are not in the stream any more.
    #[error(
        "the stream {stream} begins with event {first}, and this replica needs event {wanted}: \
         stop it, delete its database, restore a backup of the writer in its place, and start \
         it again"
    )]
    Trimmed {
        /// The stream.
        stream: String,
        /// The sequence of its first message.
        first: u64,
        /// The sequence of the event that is needed.
        wanted: u64,
    },
    /// A message has another sequence than the one that must follow.
    #[error("the stream has a hole: message {found} follows event {after}")]
    Hole {
        /// The event before.
        after: u64,
        /// The sequence of the message.
        found: u64,
    },
    /// The stream has fewer events than a replica.
    #[error(
        "the stream has {last} events and this replica {own}: it waits for the writer to fill it"
    )]
    Short {
        /// The sequence of its last message.
        last: u64,
        /// The sequence of the last event here.
        own: u64,
    },
    /// There is no stream yet.
    #[error("there is no stream {0} yet: the writer makes it")]
    NoStream(String),
    /// The stream takes other subjects.
    #[error("the stream {stream} does not take the subjects {wanted}: it takes {found}")]
    Subjects {
        /// The stream.
        stream: String,
        /// The subjects of our events.
        wanted: String,
        /// Those that it takes.
        found: String,
    },
    /// The bucket was filled with keys under another master key.
    #[error(
        "the keys in the bucket {bucket} are protected by another master key than the one of this \
         database: a replica needs the writer's file master.key"
    )]
    MasterKey {
        /// The bucket.
        bucket: String,
    },
    /// The bucket of keys is not complete.
    #[error("the bucket {bucket} is not filled with keys yet: the writer does it")]
    NotFilled {
        /// The bucket.
        bucket: String,
    },
    /// A key is missing.
    #[error("the key of person {0} is not in the bucket: their events cannot be read")]
    NoKey(AccountId),
    /// A message is no event.
    #[error("message {sequence} of the stream is no event: {error}")]
    NotAnEvent {
        /// Its sequence.
        sequence: u64,
        /// The cause.
        error: serde_json::Error,
    },
    /// A message has the identifier of another event.
    #[error("message {0} of the stream has the identifier of another event")]
    Identifier(u64),
    /// The database cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The database cannot be written.
    #[error("the events cannot be stored: {0}")]
    Store(#[from] SendError),
}

impl Error {
    /// The error of a request of JetStream.
    pub(super) fn request(
        request: &'static str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |error| Self::Request { request, error }
    }

    /// Whether an operator must act, so that it is not tried again soon.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Credentials { .. }
            | Self::Tls(_)
            | Self::OtherSequence { .. }
            | Self::OtherLog { .. }
            | Self::Ahead { .. }
            | Self::Emptied { .. }
            | Self::Trimmed { .. }
            | Self::Hole { .. }
            | Self::Subjects { .. }
            | Self::MasterKey { .. }
            | Self::NotAnEvent { .. }
            | Self::Identifier(_) => true,
            // An event of a newer version of the daemon, or one that is damaged.
            Self::Store(SendError::NotCommitted(fault)) => matches!(**fault, Fault::Event { .. }),
            Self::Refused { error, .. } => error.kind() == PublishErrorKind::MaxPayloadExceeded,
            Self::Connect(_)
            | Self::Lost
            | Self::Request { .. }
            | Self::Short { .. }
            | Self::NoStream(_)
            | Self::NotFilled { .. }
            | Self::NoKey(_)
            | Self::Fault(_)
            | Self::Store(_) => false,
        }
    }
}
