//! The states of a session, each with its own data.

use std::time::Instant;

use rml_rtmp::handshake::Handshake;

use crate::{
    Error,
    auth::{ClientInfo, Refusal, StreamKey},
    transmit::Transmit,
};

/// Maximum number of message streams of a peer. Encoders create one.
pub(super) const MAX_STREAMS: u32 = 16;

/// The state of a session.
pub(super) enum State {
    /// C0 to C2 are exchanged (RTMP 5.2).
    Handshake {
        handshake: Box<Handshake>,
        /// Number of the peer's handshake bytes that were passed on.
        fed: usize,
        /// Start of the connection.
        since: Instant,
    },
    /// Waiting for `connect`.
    Connect {
        /// Start of the connection.
        since: Instant,
    },
    /// `connect` was accepted.
    Open(Open),
    /// The queue is still to be written, then the connection is closed.
    Closing,
}

/// A session after `connect`.
pub(super) struct Open {
    /// The rest of the application in `connect`: an instance, or the stream key.
    pub(super) after_app: String,
    /// The text after `?` in the application.
    pub(super) query: Option<String>,
    /// The texts of `connect`.
    pub(super) client: Box<ClientInfo>,
    /// A bit for each message stream that was created and not deleted; the lowest is for number 1.
    pub(super) streams: u32,
    /// Whether the peer supports a ReconnectRequest.
    pub(super) can_reconnect: bool,
    /// The key of the newest request to publish.
    pub(super) published: StreamKey,
    /// The use of its stream.
    pub(super) stage: Stage,
}

/// The use of an open session, which has at most one active stream.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stage {
    /// No stream is active.
    Idle {
        /// The start of the connection, or the end of the last stream: the time to the next request
        /// counts from here.
        since: Instant,
    },
    /// The event for `publish` (otherwise `play`) was raised, and waits for its response.
    Asked { stream_id: u32, publish: bool },
    /// The peer's media on this message stream are passed on.
    Publishing { stream_id: u32 },
    /// A broadcast is sent to the peer on this message stream.
    Playing { stream_id: u32 },
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl State {
    /// Its name in the errors of commands.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Handshake { .. } => "waiting for the handshake",
            Self::Connect { .. } => "waiting for connect",
            Self::Open(Open { stage: Stage::Idle { .. } | Stage::Asked { .. }, .. }) => "connected",
            Self::Open(Open { stage: Stage::Publishing { .. }, .. }) => "publishing",
            Self::Open(Open { stage: Stage::Playing { .. }, .. }) => "playing",
            Self::Closing => "closing",
        }
    }

    /// Refuses or disconnects the peer: the reason is queued in `transmit`, and the session is
    /// closing.
    ///
    /// # Errors
    /// Only if the response could not be framed, which no input causes.
    pub(super) fn refuse(
        &mut self,
        refusal: &Refusal,
        transmit: &mut Transmit,
    ) -> Result<(), Error> {
        let code = refusal.reason.code();
        // A code of NetStream belongs on the stream of the request, one of NetConnection on stream
        // 0 (RTMP 7.2.1, 7.2.2).
        if let Self::Open(open) = self {
            let stream_id = open.stage.stream_id().filter(|_| code.starts_with("NetStream"));
            let stream_id = stream_id.unwrap_or(0);
            transmit.status(stream_id, "error", code, &refusal.description)?;
        }
        *self = Self::Closing;
        Ok(())
    }
}

impl Open {
    /// Assigns the lowest free number of a message stream. `None` if all are in use.
    pub(super) fn create_stream(&mut self) -> Option<u32> {
        let id = 1 + self.streams.trailing_ones();
        (id <= MAX_STREAMS).then(|| {
            self.streams |= 1 << (id - 1);
            id
        })
    }

    /// Releases the number of a message stream. An unused number changes nothing.
    pub(super) fn delete_stream(&mut self, named: Option<f64>) {
        let named = (1..=MAX_STREAMS).find(|id| named == Some(f64::from(*id)));
        if let Some(id) = named {
            self.streams &= !(1 << (id - 1));
        }
    }
}

impl Stage {
    /// Its message stream.
    pub(super) fn stream_id(self) -> Option<u32> {
        match self {
            Self::Idle { .. } => None,
            Self::Asked { stream_id, .. }
            | Self::Publishing { stream_id }
            | Self::Playing { stream_id } => Some(stream_id),
        }
    }
}
