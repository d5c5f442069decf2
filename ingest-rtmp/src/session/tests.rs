mod connect;
mod failures;
mod messages;
mod publish;

use hex_literal::hex;
use rml_rtmp::sessions::ClientSessionEvent;

use super::{state::MAX_STREAMS, *};
use crate::{
    amf0::{self, object},
    auth::{Reason, StreamKey},
    testing::{Client, IDR, audio_frame, video_frame},
};

fn settings() -> Settings {
    Settings {
        app: "live".into(),
        message_bytes: 8 << 20,
        handshake: Duration::from_secs(5),
        setup: Duration::from_secs(10),
        idle: Duration::from_secs(10),
    }
}

/// A session, its peer and the wire between them.
struct Pair {
    session: Session,
    client: Client,
    input: BytesMut,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(settings(), now),
            client: Client::new(),
            input: BytesMut::new(),
            now,
        }
    }

    /// Transfers bytes in both directions until the session raises an event or nothing is left.
    fn run(&mut self) -> Result<Option<Event>, Error> {
        loop {
            self.input.extend_from_slice(&std::mem::take(&mut self.client.output));
            let event = self.session.poll_event(&mut self.input, self.now)?;
            let written = written(&mut self.session);
            if !written.is_empty() {
                self.client.input(&written);
            }
            if event.is_some() || self.client.output.is_empty() {
                return Ok(event);
            }
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        assert_eq!(pair.run().unwrap(), None);
        assert!(pair.client.is_shaken());
        pair.client.connect("live");
        assert_eq!(pair.run().unwrap(), None);
        assert_eq!(pair.client.events.remove(0), ClientSessionEvent::ConnectionRequestAccepted);
        pair
    }

    fn publishing() -> Self {
        let mut pair = Self::connected();
        pair.client.publish("demo");
        assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
        pair.session.accept().unwrap();
        assert_eq!(pair.run().unwrap(), None);
        assert!(pair.client.events.contains(&ClientSessionEvent::PublishRequestAccepted));
        pair
    }

    /// Sends a command as other clients would.
    fn send(&mut self, kind: u8, stream_id: u32, values: &[Value]) {
        let mut body = Vec::new();
        amf0::write(values, &mut body);
        self.send_raw(kind, stream_id, &body);
    }

    fn send_raw(&mut self, kind: u8, stream_id: u32, body: &[u8]) {
        for (n, body) in body.chunks(4096).enumerate() {
            match n {
                0 => {
                    self.input.extend_from_slice(&[10, 0, 0, 0]);
                    self.input
                        .extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
                    self.input.extend_from_slice(&[kind]);
                    self.input.extend_from_slice(&stream_id.to_le_bytes());
                }
                _ => self.input.extend_from_slice(&[0xca]),
            }
            self.input.extend_from_slice(body);
        }
    }

    /// The session's responses, parsed by our own reader: commands as values.
    fn responses(&mut self) -> Result<Vec<Vec<Value>>, Error> {
        while self.session.poll_event(&mut self.input, self.now)?.is_some() {}
        let bytes = written(&mut self.session);
        let mut reader = Reader::new(chunk::Limits::SETUP);
        let set_chunk_size = hex!("02 000000 000004 01 00000000 00010000");
        assert!(reader.read(&mut &set_chunk_size[..])?.is_none());
        let (mut rest, mut responses) = (&bytes[..], Vec::new());
        while let Some(message) = reader.read(&mut rest)? {
            if message.kind == kind::COMMAND {
                responses.push(amf0::parse(&message.payload)?);
            }
        }
        Ok(responses)
    }
}

fn written(session: &mut Session) -> Vec<u8> {
    let transmit = session.transmit();
    let mut bytes = Vec::new();
    while !transmit.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[])];
        transmit.slices(&mut slices);
        bytes.extend_from_slice(&slices[0]);
        let len = slices[0].len();
        transmit.advance(len);
    }
    bytes
}

fn code(response: &[Value]) -> &str {
    response.iter().find_map(|value| value.property("code")).and_then(Value::as_str).unwrap()
}
