//! Commands of a peer: their effects on the session, and the responses. RTMP 1.0 section 7.2.
//!
//! Encoders send more commands than the standard has. A command gets a response if the peer waits
//! for one; a request that cannot be granted is refused with a text, and ends the connection only
//! if it cannot continue sensibly.

use std::{sync::Arc, time::Instant};

use rml_rtmp::messages::{PeerBandwidthLimitType, RtmpMessage};

use super::{
    event::Event,
    state::{MAX_STREAMS, Open, Stage, State},
};
use crate::{
    Error, address,
    amf0::Value,
    auth::{ClientInfo, Reason, Refusal, StreamKey},
    chunk::Message,
    command::{
        CAN_RECONNECT, Command, enhanced_capabilities, has_capability, split_query, status_object,
    },
    transmit::Transmit,
};

/// Our acknowledgement window in bytes, and the one that we request, until the peer sets another.
pub(super) const WINDOW: u32 = 2_500_000;

/// The parts of a session that a command reads or changes.
pub(super) struct Execution<'a> {
    /// The application that `connect` must name.
    pub(super) app: &'a Arc<str>,
    /// Closing after a command that ends the connection.
    pub(super) state: &'a mut State,
    /// Receives the responses.
    pub(super) transmit: &'a mut Transmit,
}

impl Execution<'_> {
    /// Executes a command. `values` are its AMF0 values, without the zero byte of a command that is
    /// marked as AMF3.
    ///
    /// # Errors
    /// The values cannot be read, or the command is out of order: fail the connection.
    pub(super) fn handle_command(
        &mut self,
        message: &Message,
        values: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let command = Command::parse(values)?;
        // `connect` is the first command, and is sent once (RTMP 7.2.1.1). Otherwise the peer and
        // we would disagree about the application and its capabilities, so the connection ends.
        match &mut *self.state {
            State::Connect { since } if command.name == "connect" => {
                let since = *since;
                self.connect(&command, since)
            }
            State::Open(_) if command.name != "connect" => {
                self.handle_open(message.stream_id, &command, now)
            }
            state => {
                // The name is the peer's text: shortened and without control characters, it can
                // neither fill nor forge a line of the log.
                let command =
                    command.name.chars().filter(char::is_ascii_graphic).take(32).collect();
                Err(Error::OutOfOrder { command, stage: state.name() })
            }
        }
    }

    /// Handles `connect` (RTMP 7.2.1.1): declares our capabilities, and opens the session. For an
    /// application that is not served, the peer gets the reason, and the session is closing.
    fn connect(&mut self, command: &Command, since: Instant) -> Result<Option<Event>, Error> {
        let asked = command.object.property("app").and_then(Value::as_str).unwrap_or_default();
        let (asked, query) = split_query(asked);
        // The control messages precede the result, in the order of RTMP 7.2.1.1. The chunk size
        // precedes it too, because the result is longer than a chunk of 128 bytes.
        self.transmit.control(RtmpMessage::WindowAcknowledgement { size: WINDOW })?;
        let limit_type = PeerBandwidthLimitType::Dynamic;
        self.transmit.control(RtmpMessage::SetPeerBandwidth { size: WINDOW, limit_type })?;
        self.transmit.announce_chunk_size()?;
        let Some(after_app) = address::after_app(self.app, asked) else {
            let description = format!(
                "the server has no such application: enter rtmp://<host>/{} as the server, and the \
                 stream key in its separate field",
                self.app
            );
            self.transmit.error(command.transaction, Reason::App.code(), &description)?;
            *self.state = State::Closing;
            return Ok(Some(Event::Refused(Refusal::new(Reason::App, description))));
        };
        // The version and capabilities of an Adobe server of that generation, which some clients
        // expect.
        let mut properties = vec![
            ("fmsVer".to_owned(), Value::from("FMS/3,5,7,7009")),
            ("capabilities".to_owned(), Value::from(31.0)),
        ];
        properties.extend(enhanced_capabilities(&command.object));
        let mut info = status_object("status", "NetConnection.Connect.Success", "connected");
        // Our commands are AMF0, also to a client that offers AMF3 (objectEncoding 3).
        if let Value::Object(info) = &mut info {
            info.push(("objectEncoding".to_owned(), Value::from(0.0)));
        }
        self.transmit.command(
            0,
            &["_result".into(), command.transaction.into(), Value::Object(properties), info],
        )?;
        *self.state = State::Open(Open {
            after_app: after_app.to_owned(),
            query: query.map(str::to_owned),
            client: Box::new(client_info(asked, &command.object)),
            streams: 0,
            can_reconnect: has_capability(&command.object, CAN_RECONNECT),
            published: StreamKey::new(""),
            stage: Stage::Idle { since },
        });
        Ok(None)
    }

    /// Handles a command after `connect`, sent on message stream `stream_id` (RTMP 7.2.1, 7.2.2).
    fn handle_open(
        &mut self,
        stream_id: u32,
        command: &Command,
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let State::Open(open) = self.state else {
            return Ok(None);
        };
        let result =
            |value: Value| ["_result".into(), command.transaction.into(), Value::Null, value];
        // A request that encoders wait for gets a response, whether or not it has an effect here. A
        // command that ends a stream ends the active one, if it names that one or none.
        match command.name.as_str() {
            // A peer could create streams without limit, but needs one.
            "createStream" => match open.create_stream() {
                Some(id) => self.transmit.command(0, &result(f64::from(id).into())).map(|()| None),
                None => {
                    let description =
                        format!("a connection may have at most {MAX_STREAMS} message streams");
                    self.transmit
                        .error(command.transaction, "NetConnection.Call.Failed", &description)
                        .map(|()| None)
                }
            },
            "publish" => self.ask_to_publish(stream_id, command),
            "play" => self.ask_to_play(stream_id, command),
            // Adobe's encoder publishes only after onFCPublish.
            "FCPublish" => {
                self.transmit.command(0, &result(Value::Undefined))?;
                let info = status_object("status", "NetStream.Publish.Start", "");
                self.transmit
                    .command(0, &["onFCPublish".into(), 0.0.into(), Value::Null, info])
                    .map(|()| None)
            }
            "releaseStream" | "_checkbw" | "FCSubscribe" => {
                self.transmit.command(0, &result(Value::Undefined)).map(|()| None)
            }
            // A live stream has no length, which is 0.
            "getStreamLength" => self.transmit.command(0, &result(0.0.into())).map(|()| None),
            "deleteStream" => {
                let named = command.argument(0).and_then(Value::as_number);
                // Without a number the active stream is meant.
                open.delete_stream(named);
                Ok(self.close_stream(
                    |active| named.is_none_or(|named| named == f64::from(active)),
                    now,
                ))
            }
            "closeStream" => {
                // Some peers send it on the connection's own stream, 0.
                Ok(self.close_stream(|active| stream_id == 0 || stream_id == active, now))
            }
            "FCUnpublish" => {
                let named = command.argument(0).and_then(Value::as_str).unwrap_or_default();
                let (named, _) = split_query(named);
                let named = address::stream(self.app, &open.after_app, named);
                // It names a stream key instead of a message stream, and concerns publishers only.
                let published = matches!(open.stage, Stage::Publishing { .. })
                    && (named.is_empty() || named == open.published.expose());
                Ok(self.close_stream(|_| published, now))
            }
            // pause, seek, receiveAudio and similar commands have no effect on live streams; a peer
            // does not wait for a response to an unknown command.
            _ => Ok(None),
        }
    }

    /// Raises the event that requests the right to publish. An active stream continues: a second
    /// request for it is granted again, because encoders repeat it; one for another stream is
    /// refused.
    fn ask_to_publish(
        &mut self,
        stream_id: u32,
        command: &Command,
    ) -> Result<Option<Event>, Error> {
        let State::Open(open) = self.state else {
            return Ok(None);
        };
        let asked = command.argument(0).and_then(Value::as_str).unwrap_or_default();
        let (asked, query) = split_query(asked);
        let key = address::stream(self.app, &open.after_app, asked);
        // A connection has one role and one stream: encoders that repeat their request get the same
        // response again, and any other request is refused without harm to the active stream.
        match open.stage {
            Stage::Publishing { stream_id: active }
                if active == stream_id && open.published.expose() == key =>
            {
                return self
                    .transmit
                    .status(stream_id, "status", "NetStream.Publish.Start", "publishing")
                    .map(|()| None);
            }
            Stage::Idle { .. } => {}
            _ => {
                let description = "this connection carries another stream already, which goes on: \
                                   use one connection for each";
                let refusal = Refusal::new(Reason::Second, description);
                self.transmit.status(stream_id, "error", refusal.reason.code(), description)?;
                return Ok(Some(Event::Refused(refusal)));
            }
        }
        // Encoders send this if the field for the stream key was left empty.
        if key.is_empty() {
            let description = format!(
                "the stream key is missing: enter rtmp://<host>/{} as the server, and the stream \
                 key in its separate field",
                self.app
            );
            open.stage = Stage::Asked { stream_id, publish: true };
            let refusal = Refusal::new(Reason::Name, description);
            self.state.refuse(&refusal, self.transmit)?;
            return Ok(Some(Event::Refused(refusal)));
        }
        open.stage = Stage::Asked { stream_id, publish: true };
        // A key may itself begin or end with characters that were stripped, so the exact text is
        // passed on too. A query after the key takes precedence over one after the application.
        open.published = StreamKey::new(key);
        let verbatim = asked.trim_start_matches('/');
        let mut client = open.client.clone();
        let publishing_type = command.argument(1).and_then(Value::as_str).unwrap_or_default();
        client.publishing_type = ClientInfo::bounded(publishing_type);
        Ok(Some(Event::Publish {
            app: self.app.to_string(),
            key: open.published.clone(),
            verbatim: (verbatim != key && !verbatim.is_empty()).then(|| StreamKey::new(verbatim)),
            query: query.or(open.query.as_deref()).map(StreamKey::new),
            client,
        }))
    }

    /// Raises the event that requests to play. A second stream on the connection is refused, and
    /// the active one continues.
    fn ask_to_play(&mut self, stream_id: u32, command: &Command) -> Result<Option<Event>, Error> {
        let State::Open(open) = self.state else {
            return Ok(None);
        };
        if !matches!(open.stage, Stage::Idle { .. }) {
            let description = "this connection carries another stream already, which goes on: use \
                               one connection for each";
            self.transmit.status(stream_id, "error", "NetStream.Play.Failed", description)?;
            return Ok(Some(Event::Refused(Refusal::new(Reason::Second, description))));
        }
        open.stage = Stage::Asked { stream_id, publish: false };
        let asked = command.argument(0).and_then(Value::as_str).unwrap_or_default();
        let (name, query) = split_query(asked);
        let name = address::stream(self.app, &open.after_app, name).to_owned();
        let query = query.or(open.query.as_deref()).map(StreamKey::new);
        Ok(Some(Event::Play { name, query }))
    }

    /// Closes the active stream if `names` returns true for it. The largest message size stays,
    /// because media may still be in transit.
    fn close_stream(&mut self, names: impl Fn(u32) -> bool, now: Instant) -> Option<Event> {
        let State::Open(open) = self.state else {
            return None;
        };
        // A command about another stream than the active one has no effect.
        match open.stage {
            Stage::Publishing { stream_id } | Stage::Playing { stream_id } if names(stream_id) => {
                open.stage = Stage::Idle { since: now };
                Some(Event::Closed)
            }
            _ => None,
        }
    }
}

/// The texts of the command object of `connect`; `app` is without its query.
fn client_info(app: &str, object: &Value) -> ClientInfo {
    let text = |name| {
        let value = object.property(name).and_then(Value::as_str);
        ClientInfo::bounded(value.unwrap_or_default())
    };
    ClientInfo {
        app: ClientInfo::bounded(app),
        flash_ver: text("flashVer"),
        swf_url: text("swfUrl"),
        tc_url: text("tcUrl"),
        page_url: text("pageUrl"),
        publishing_type: String::new(),
    }
}
