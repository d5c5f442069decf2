//! One peer's RTMP session: handshake, commands, control. A state machine without I/O: bytes and
//! `now` in, events, bytes and a deadline out. `flv` and `publisher` handle frames, `chunk` and
//! `transmit` framing, `connection` sockets.
//!
//! RTMP 1.0 section 5.2 (handshake, by rml_rtmp), 5.4 (control), 7.2 (commands); Enhanced RTMP v2,
//! "Enhancing NetConnection connect Command" and "Reconnect Request". Commands that encoders send
//! although they are not in the standard (releaseStream, FCPublish, `_checkbw`, getStreamLength)
//! get the responses of Adobe's server.
//!
//! There is no queue of events: [`Session::poll_event`] reads on from the input until it finds one,
//! so that a peer cannot make us hold more than its bytes.

mod commands;
mod event;
mod state;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    messages::{RtmpMessage, UserControlEventType},
    time::RtmpTimestamp,
};

use crate::{
    Error,
    amf0::Value,
    auth::Refusal,
    chunk::{self, Message, Reader, first_u32},
    command::metadata,
    transmit::{Transmit, kind},
};
use commands::{Execution, WINDOW};
pub use event::Event;
use state::{Open, Stage, State};

/// Settings of a session.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The application that `connect` must name.
    pub app: Arc<str>,
    /// Largest message of a publisher in bytes.
    pub message_bytes: u32,
    /// Time from the connection's start to the handshake's end.
    pub handshake: Duration,
    /// Time from the connection's start, or the end of a stream, to `publish` or `play`.
    pub setup: Duration,
    /// Longest silence of a publisher.
    pub idle: Duration,
}

/// A session; see the module's documentation.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    state: State,
    /// Its largest message is that of [`chunk::Limits::SETUP`] until a publisher is accepted.
    reader: Reader,
    /// The output, which the caller writes.
    transmit: Transmit,
    /// Bytes received, modulo 2^32, and the number in the last acknowledgement.
    received: u32,
    acknowledged: u32,
    /// Bytes after which the peer expects an acknowledgement (RTMP 5.4.4).
    window: u32,
    /// Time at which input was used up last, for [`Settings::idle`].
    last_input: Instant,
    /// Whether a publisher is asked to reconnect.
    sends_away: bool,
}

/// A time limit of the peer.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    /// The limited activity, for [`Error::TimedOut`].
    what: &'static str,
    /// Time from `since` to the deadline.
    limit: Duration,
    /// Start of the limited activity.
    since: Instant,
}

impl Deadline {
    fn at(self) -> Instant {
        self.since + self.limit
    }
}

/// C0, C1 and C2 (RTMP 5.2).
const HANDSHAKE_BYTES: usize = 1 + 1536 + 1536;

impl Session {
    /// A session at the moment its connection was accepted.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            state: State::Handshake {
                handshake: Box::new(Handshake::new(PeerType::Server)),
                fed: 0,
                since: now,
            },
            reader: Reader::new(chunk::Limits::SETUP),
            transmit: Transmit::new(),
            received: 0,
            acknowledged: 0,
            window: WINDOW,
            last_input: now,
            sends_away: false,
        }
    }

    /// Reads on to the next event. Returns `None` when `input` is used up, except for an incomplete
    /// header, or while an event waits for its response.
    ///
    /// # Errors
    /// The peer violated the protocol or a limit: call [`Session::fail`].
    pub fn poll_event(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        if input.is_empty() && !self.reader.has_message() {
            return Ok(None);
        }
        // The handshake is not framed in chunks, so its bytes are taken before the reader sees the
        // rest.
        if let State::Handshake { .. } = self.state {
            self.shake_hands(input)?;
        }
        let mut rest = &input[..];
        let mut event = Ok(None);
        while self.reads_messages() {
            // Continues over messages that raise no event, such as acknowledgements.
            event = match self.reader.read(&mut rest) {
                Ok(Some(message)) => self.handle_message(message, now),
                Ok(None) => break,
                Err(err) => Err(err),
            };
            if !matches!(event, Ok(None)) {
                break;
            }
        }
        // Counted after an error too: an acknowledgement states the bytes that were received, not
        // the messages that were understood (RTMP 5.4.3).
        let taken = input.len() - rest.len();
        input.advance(taken);
        self.count(taken)?;
        // An incomplete header stays in the input and must not count again at each call, because a
        // peer that sends no more bytes is silent.
        if taken > 0 {
            self.last_input = now;
        }
        // Nothing that the peer sends has an effect any more, so it is not held.
        if let State::Closing = self.state {
            input.clear();
        }
        event
    }

    /// The output queue.
    pub fn transmit(&mut self) -> &mut Transmit {
        &mut self.transmit
    }

    /// The time of the next [`Session::handle_timeout`], if any.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline().map(Deadline::at)
    }

    /// Handles the passage of time.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: the peer exceeded a time limit.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.deadline() {
            Some(deadline) if now >= deadline.at() => {
                let Deadline { what, limit, .. } = deadline;
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                Err(Error::TimedOut { what, limit_ms })
            }
            _ => Ok(()),
        }
    }

    /// Records that the peer is not read at present, so its silence is not its fault.
    pub fn excuse_silence(&mut self, now: Instant) {
        self.last_input = now;
    }

    /// Whether the session ends once its output is written.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// The message stream that is played, if the peer is a player.
    pub fn playing(&self) -> Option<u32> {
        match &self.state {
            State::Open(Open { stage: Stage::Playing { stream_id }, .. }) => Some(*stream_id),
            _ => None,
        }
    }

    /// Grants the request of the last event.
    ///
    /// # Errors
    /// Only if a response could not be framed, which no input causes.
    pub fn accept(&mut self) -> Result<(), Error> {
        let State::Open(open) = &mut self.state else {
            return Ok(());
        };
        let Stage::Asked { stream_id, publish } = open.stage else {
            return Ok(());
        };
        // The message stream can be used from here on (RTMP 7.1.7, Stream Begin).
        self.transmit.control(stream_event(UserControlEventType::StreamBegin, stream_id))?;
        if publish {
            open.stage = Stage::Publishing { stream_id };
            // Not earlier: a peer without the right to publish must not make us hold that many
            // bytes.
            self.reader.set_message_bytes(self.settings.message_bytes);
            self.transmit.status(stream_id, "status", "NetStream.Publish.Start", "publishing")?;
            // The process may have been asked to hand over while the request was decided: the
            // publisher then reconnects to its successor.
            return match self.sends_away {
                true => self.request_reconnect().map(drop),
                false => Ok(()),
            };
        }
        open.stage = Stage::Playing { stream_id };
        // The order of RTMP 7.2.2.1: Reset discards an earlier stream of the player, Start precedes
        // the media.
        self.transmit.status(
            stream_id,
            "status",
            "NetStream.Play.Reset",
            "playing from the newest group",
        )?;
        self.transmit.status(stream_id, "status", "NetStream.Play.Start", "playing")?;
        // As Adobe's server does before media: the player may read decoded audio and video samples.
        let access = [Value::from("|RtmpSampleAccess"), Value::Boolean(true), Value::Boolean(true)];
        self.transmit.data(stream_id, &access)
    }

    /// Refuses or disconnects the peer: it gets the reason, and the session is closing.
    ///
    /// # Errors
    /// Only if the response could not be framed, which no input causes.
    pub fn refuse(&mut self, refusal: &Refusal) -> Result<(), Error> {
        self.state.refuse(refusal, &mut self.transmit)
    }

    /// Fails the connection with `err`: the peer gets the reason, if RTMP has a message for it, and
    /// the session is closing. There is no such message before the end of the handshake.
    ///
    /// # Errors
    /// Only if the response could not be framed, which no input causes.
    pub fn fail(&mut self, err: &Error) -> Result<(), Error> {
        // Encoders show one response, the one that they await: the result of `connect`, later a
        // status of their stream.
        let description = err.to_string();
        match &self.state {
            // The transaction of connect is 1 (RTMP 7.2.1.1).
            State::Connect { .. } => {
                self.transmit.announce_chunk_size()?;
                self.transmit.error(1.0, "NetConnection.Connect.Failed", &description)?;
            }
            State::Open(open) => {
                let stream_id = open.stage.stream_id().unwrap_or(0);
                // A time limit has a code of its own, because its usual cause is the network and
                // not the peer's messages.
                let code = match (err, stream_id) {
                    (Error::TimedOut { .. } | Error::TooSlow { .. }, _) => {
                        "NetConnection.Connect.IdleTimeOut"
                    }
                    (_, 0) => "NetConnection.Call.Failed",
                    _ => "NetStream.Failed",
                };
                self.transmit.status(stream_id, "error", code, &description)?;
            }
            State::Handshake { .. } | State::Closing => {}
        }
        self.state = State::Closing;
        Ok(())
    }

    /// Sends advice to a publisher, which continues: a warning, which encoders log or ignore. Other
    /// peers get nothing.
    ///
    /// # Errors
    /// Only if the message could not be framed, which no input causes.
    pub fn advise(&mut self, description: &str) -> Result<(), Error> {
        match &self.state {
            State::Open(Open { stage: Stage::Publishing { stream_id }, .. }) => {
                let stream_id = *stream_id;
                self.transmit.status(stream_id, "warning", "NetStream.Publish.Warning", description)
            }
            _ => Ok(()),
        }
    }

    /// Asks a publisher to reconnect to the same address, where another process accepts it by then;
    /// now, or as soon as it publishes. Returns whether it was asked: the request is not sent
    /// unless its `connect` declared support. The publisher continues until it closes the
    /// connection.
    ///
    /// # Errors
    /// Only if the message could not be framed, which no input causes.
    ///
    /// Source: Enhanced RTMP v2, "Reconnect Request".
    pub fn request_reconnect(&mut self) -> Result<bool, Error> {
        self.sends_away = true;
        let State::Open(Open { stage: Stage::Publishing { .. }, can_reconnect: true, .. }) =
            self.state
        else {
            return Ok(false);
        };
        let code = "NetConnection.Connect.ReconnectRequest";
        self.transmit.status(
            0,
            "status",
            code,
            "the server is being upgraded, please reconnect",
        )?;
        Ok(true)
    }

    /// Ends the played broadcast: the player is notified, and the session is closing.
    ///
    /// # Errors
    /// Only if the message could not be framed, which no input causes.
    pub fn end_play(&mut self) -> Result<(), Error> {
        // Players differ in the message at which they stop: StreamEof, UnpublishNotify or Stop.
        if let Some(stream_id) = self.playing() {
            self.transmit.control(stream_event(UserControlEventType::StreamEof, stream_id))?;
            self.transmit.status(
                stream_id,
                "status",
                "NetStream.Play.UnpublishNotify",
                "the broadcast has ended",
            )?;
            self.transmit.status(
                stream_id,
                "status",
                "NetStream.Play.Stop",
                "the broadcast has ended",
            )?;
        }
        self.state = State::Closing;
        Ok(())
    }

    /// Whether messages are read in this state. None is read while an event waits for its response,
    /// so that responses keep the order of the requests.
    fn reads_messages(&self) -> bool {
        match &self.state {
            State::Connect { .. } => true,
            State::Open(open) => !matches!(open.stage, Stage::Asked { .. }),
            State::Handshake { .. } | State::Closing => false,
        }
    }

    /// The time limit of the present state. `None` if the caller has one of its own: for
    /// a decision, for writes, and for the end.
    fn deadline(&self) -> Option<Deadline> {
        let settings = &self.settings;
        let of = |what, limit, since| Some(Deadline { what, limit, since });
        match &self.state {
            State::Handshake { since, .. } => of("handshake", settings.handshake, *since),
            State::Connect { since } => of("setup", settings.setup, *since),
            State::Open(open) => match open.stage {
                Stage::Idle { since } => of("setup", settings.setup, since),
                Stage::Publishing { .. } => of("idle", settings.idle, self.last_input),
                // A player may be silent without limit, because the writes to it have a limit.
                Stage::Asked { .. } | Stage::Playing { .. } => None,
            },
            State::Closing => None,
        }
    }

    /// Passes the handshake's bytes to it, and no more.
    ///
    /// # Errors
    /// [`Error::Handshake`]; the connection cannot continue.
    fn shake_hands(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        let State::Handshake { handshake, fed, since } = &mut self.state else {
            return Ok(());
        };
        // rml_rtmp would take the bytes after C2 as well, and those are the first chunks.
        let part = input.split_to(input.len().min(HANDSHAKE_BYTES - *fed));
        *fed += part.len();
        let since = *since;
        match handshake.process_bytes(&part)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                self.transmit.raw(response_bytes)
            }
            HandshakeProcessResult::Completed { response_bytes, .. } => {
                self.transmit.raw(response_bytes);
                self.state = State::Connect { since };
            }
        }
        self.count(part.len())
    }

    /// Counts received bytes and acknowledges them by the window (RTMP 5.4.3: the running total).
    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.received = self.received.wrapping_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        // A client expects the responses to `connect` first, so acknowledgements start after them.
        // Each states the running total, so that nothing is lost by it.
        let greeted = matches!(self.state, State::Open(_));
        if greeted && self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.transmit
                .control(RtmpMessage::Acknowledgement { sequence_number: self.received })?;
        }
        Ok(())
    }

    /// Interprets a message by its type (RTMP 5.4, 7.1). Returns the event that it raises, if any.
    ///
    /// # Errors
    /// A command or control message that cannot be read, or is out of order.
    fn handle_message(&mut self, message: Message, now: Instant) -> Result<Option<Event>, Error> {
        let publishing =
            matches!(&self.state, State::Open(Open { stage: Stage::Publishing { .. }, .. }));
        let timestamp = message.timestamp;
        // Media outside a published stream are ignored and are no violation: some are still in
        // transit when a stream is closed.
        match message.kind {
            kind::AUDIO if publishing => {
                Ok(Some(Event::Audio { timestamp, body: message.payload }))
            }
            kind::VIDEO if publishing => {
                Ok(Some(Event::Video { timestamp, body: message.payload }))
            }
            kind::DATA | kind::DATA_AMF3 if publishing => {
                Ok(metadata(&message).map(Event::Metadata))
            }
            kind::COMMAND => self.execute(&message, &message.payload, now),
            // Commands marked as AMF3 are AMF0 after a byte of zero; their values may switch to
            // AMF3.
            kind::COMMAND_AMF3 => {
                let values = message.payload.strip_prefix(&[0]).unwrap_or(&message.payload);
                self.execute(&message, values, now)
            }
            kind::USER_CONTROL => self.handle_user_control(&message).map(|()| None),
            kind::WINDOW => {
                self.window = first_u32(&message)?.max(1);
                Ok(None)
            }
            // Acknowledgements, the peer's bandwidth, shared objects, media without a stream.
            _ => Ok(None),
        }
    }

    /// Executes a command, whose AMF0 values are `values`.
    fn execute(
        &mut self,
        message: &Message,
        values: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let (app, state, transmit) = (&self.settings.app, &mut self.state, &mut self.transmit);
        Execution { app, state, transmit }.handle_command(message, values, now)
    }

    /// RTMP 7.1.7: only a ping needs a response.
    fn handle_user_control(&mut self, message: &Message) -> Result<(), Error> {
        const PING_REQUEST: [u8; 2] = [0, 6];
        let Some(time) = message.payload.strip_prefix(&PING_REQUEST) else {
            return Ok(());
        };
        let Some(time) = time.first_chunk() else {
            return Err(Error::Truncated { kind: message.kind, len: message.payload.len() });
        };
        self.transmit.control(RtmpMessage::UserControl {
            event_type: UserControlEventType::PingResponse,
            stream_id: None,
            buffer_length: None,
            timestamp: Some(RtmpTimestamp::new(u32::from_be_bytes(*time))),
        })
    }
}

/// A user control message about a message stream (RTMP 7.1.7).
fn stream_event(event_type: UserControlEventType, stream_id: u32) -> RtmpMessage {
    RtmpMessage::UserControl {
        event_type,
        stream_id: Some(stream_id),
        buffer_length: None,
        timestamp: None,
    }
}

#[cfg(test)]
mod tests;
