//! Where a session stands: each state holds what it alone has.

use std::time::Instant;

use rml_rtmp::handshake::Handshake;

use super::Event;
use crate::{
    Error,
    amf0::Value,
    auth::StreamKey,
    command::{Command, split_query},
};

pub(super) enum State {
    Handshake {
        handshake: Box<Handshake>,
        fed: usize,
        since: Instant,
    },
    /// Waiting for `connect`.
    Connect {
        since: Instant,
    },
    Open(Open),
    /// What is queued is to be written, then the connection closed.
    Closing,
}

pub(super) struct Open {
    pub(super) app: String,
    /// What came after `?` in the application.
    pub(super) query: Option<String>,
    /// Message streams created.
    pub(super) streams: u32,
    /// Whether the peer acts on a ReconnectRequest.
    pub(super) can_reconnect: bool,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Idle {
        since: Instant,
    },
    /// An event was raised for `publish` (else `play`), and is not answered.
    Asked {
        stream_id: u32,
        publish: bool,
    },
    Publishing {
        stream_id: u32,
    },
    Playing {
        stream_id: u32,
    },
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl State {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Handshake { .. } => "waiting for the handshake",
            Self::Connect { .. } => "waiting for connect",
            Self::Open(Open {
                stage: Stage::Idle { .. } | Stage::Asked { .. },
                ..
            }) => "connected",
            Self::Open(Open {
                stage: Stage::Publishing { .. },
                ..
            }) => "publishing",
            Self::Open(Open {
                stage: Stage::Playing { .. },
                ..
            }) => "playing",
            Self::Closing => "closing",
        }
    }
}

impl Open {
    /// Turns `publish` or `play` into the event that asks for an answer.
    pub(super) fn ask(&mut self, stream_id: u32, command: &Command, publish: bool) -> Result<Event, Error> {
        let name = command.argument(0).and_then(Value::as_str).unwrap_or_default();
        if !matches!(self.stage, Stage::Idle { .. }) {
            let command = if publish { "publish" } else { "play" }.into();
            return Err(Error::OutOfOrder {
                command,
                stage: "another stream is active",
            });
        }
        self.stage = Stage::Asked { stream_id, publish };
        let (name, query) = split_query(name);
        let name = name.trim_start_matches('/');
        if !publish {
            return Ok(Event::Play { name: name.into() });
        }
        let query = query.or(self.query.as_deref()).map(StreamKey::new);
        Ok(Event::Publish {
            app: self.app.clone(),
            key: StreamKey::new(name),
            query,
        })
    }
}
