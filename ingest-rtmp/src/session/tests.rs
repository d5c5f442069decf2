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
    fn answers(&mut self) -> Result<Vec<Vec<Value>>, Error> {
        while self.session.poll_event(&mut self.input, self.now)?.is_some() {}
        let bytes = written(&mut self.session);
        let mut reader = Reader::new(chunk::Limits::SETUP);
        let set_chunk_size = hex!("02 000000 000004 01 00000000 00010000");
        assert!(reader.read(&mut &set_chunk_size[..])?.is_none());
        let (mut rest, mut answers) = (&bytes[..], Vec::new());
        while let Some(message) = reader.read(&mut rest)? {
            if message.kind == kind::COMMAND {
                answers.push(amf0::parse(&message.payload)?);
            }
        }
        Ok(answers)
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

fn code(answer: &[Value]) -> &str {
    answer.iter().find_map(|value| value.property("code")).and_then(Value::as_str).unwrap()
}

#[test]
fn a_client_of_another_make_connects_and_publishes() {
    let mut pair = Pair::connected();
    pair.client.publish("demo?token=abc");
    let asked = pair.run().unwrap();
    let (key, query) = (StreamKey::new("demo"), Some(StreamKey::new("token=abc")));
    assert_eq!(asked, Some(Event::Publish { app: "live".into(), key, verbatim: None, query }));
    pair.session.accept().unwrap();
    assert_eq!(pair.run().unwrap(), None);
    assert!(pair.client.events.contains(&ClientSessionEvent::PublishRequestAccepted));

    pair.client.metadata();
    let Some(Event::Metadata(metadata)) = pair.run().unwrap() else { panic!("no metadata") };
    assert_eq!(metadata.property("videocodecid"), Some(&Value::Number(7.0)));
    pair.client.audio(7, audio_frame());
    assert_eq!(pair.run().unwrap(), Some(Event::Audio { timestamp: 7, body: audio_frame() }));
    pair.client.video(40, video_frame(IDR));
    assert_eq!(pair.run().unwrap(), Some(Event::Video { timestamp: 40, body: video_frame(IDR) }));
    pair.client.stop_publishing();
    assert_eq!(pair.run().unwrap(), Some(Event::Closed));
    assert_eq!(pair.run().unwrap(), None);
    assert!(!pair.session.is_closing());
}

#[test]
fn the_handshake_of_the_first_specification_is_answered_too() {
    let mut pair = Pair::new();
    // C1 with a version of zero and no digest, as librtmp and GStreamer send it; then C2, with any
    // content.
    pair.input.extend_from_slice(&[3]);
    pair.input.extend_from_slice(&[0; 8]);
    pair.input.extend_from_slice(&[0x55; 1528]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    let answer = written(&mut pair.session);
    assert_eq!((answer.len(), answer[0]), (1 + 1536 + 1536, 3));
    assert_eq!(answer[1 + 1536 + 8..], [0x55; 1528]);
    pair.input.extend_from_slice(&answer[1..1537]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    assert!(matches!(pair.session.state, State::Connect { .. }));
}

#[test]
fn garbage_for_a_handshake_is_an_error_and_half_of_one_times_out() {
    let mut pair = Pair::new();
    pair.input.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(pair.session.poll_event(&mut pair.input, pair.now), Err(Error::Handshake(_))));

    let mut pair = Pair::new();
    pair.input.extend_from_slice(&[3; 1000]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    let deadline = pair.session.poll_timeout().unwrap();
    assert_eq!(deadline, pair.now + Duration::from_secs(5));
    assert!(pair.session.handle_timeout(deadline - Duration::from_millis(1)).is_ok());
    assert!(matches!(
        pair.session.handle_timeout(deadline),
        Err(Error::TimedOut { what: "handshake", limit_ms: 5000 })
    ));
}

#[test]
fn a_connected_peer_must_ask_for_something_and_a_publisher_must_not_be_silent() {
    let mut pair = Pair::connected();
    let deadline = pair.now + Duration::from_secs(10);
    assert!(matches!(
        pair.session.handle_timeout(deadline),
        Err(Error::TimedOut { what: "setup", .. })
    ));

    let mut pair = Pair::publishing();
    pair.now += Duration::from_secs(9);
    pair.client.audio(7, audio_frame());
    assert!(pair.run().unwrap().is_some());
    assert_eq!(pair.session.poll_timeout(), Some(pair.now + Duration::from_secs(10)));
    // An incomplete header is not input again at each wake-up.
    let late = pair.now + Duration::from_secs(10);
    pair.input.extend_from_slice(&[10, 0, 0]);
    for _ in 0..10 {
        pair.now += Duration::from_secs(1);
        assert_eq!(pair.run().unwrap(), None);
    }
    assert_eq!(pair.session.poll_timeout(), Some(late));
    assert!(matches!(pair.session.handle_timeout(late), Err(Error::TimedOut { what: "idle", .. })));
}

#[test]
fn what_encoders_ask_beside_the_standard_is_answered() {
    let mut pair = Pair::connected();
    for (command, transaction) in
        [("releaseStream", 2.0), ("FCPublish", 3.0), ("_checkbw", 4.0), ("getStreamLength", 5.0)]
    {
        pair.send(
            kind::COMMAND,
            0,
            &[command.into(), transaction.into(), Value::Null, "demo".into()],
        );
        let answers = pair.answers().unwrap();
        assert_eq!(answers[0][..2], ["_result".into(), transaction.into()], "{command}");
    }
    pair.send_raw(
        kind::COMMAND_AMF3,
        0,
        &[&[0][..], &hex!("02 000c 63726561746553747265616d 00 4018000000000000 05")].concat(),
    );
    assert_eq!(pair.answers().unwrap()[0][3], Value::Number(1.0));
    for ignored in ["pause", "seek", "receiveVideo", "no such command"] {
        pair.send(
            kind::COMMAND,
            1,
            &[ignored.into(), 7.0.into(), Value::Null, Value::Boolean(true)],
        );
        assert!(pair.answers().unwrap().is_empty(), "{ignored}");
    }
}

#[test]
fn enhanced_capabilities_are_told_to_those_who_ask_and_are_honest() {
    let mut pair = Pair::new();
    pair.run().unwrap();
    let asked = object([
        ("app", "live/?x=1".into()),
        ("fourCcList", Value::Array(vec!["hvc1".into(), "avc1".into()])),
        ("videoFourCcInfoMap", object([("*", 7.0.into())])),
        ("capsEx", 15.0.into()),
    ]);
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), asked]);
    let answer = pair.answers().unwrap().remove(0);
    assert_eq!(code(&answer), "NetConnection.Connect.Success");
    let properties = &answer[2];
    assert_eq!(
        properties.property("fourCcList"),
        Some(&Value::Array(vec!["avc1".into(), "mp4a".into()]))
    );
    assert_eq!(properties.property("videoFourCcInfoMap"), Some(&object([("avc1", 4.0.into())])));
    assert_eq!(properties.property("audioFourCcInfoMap"), None);
    assert_eq!(properties.property("capsEx"), Some(&Value::Number(1.0)), "reconnecting");
}

/// A publishing session whose peer declared these capabilities.
fn publishing_with(caps: Option<Value>) -> Pair {
    let mut pair = Pair::new();
    pair.run().unwrap();
    let mut asked = vec![("app".to_owned(), Value::from("live"))];
    asked.extend(caps.map(|caps| ("capsEx".to_owned(), caps)));
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), Value::Object(asked)]);
    pair.answers().unwrap();
    pair.send(kind::COMMAND, 1, &["publish".into(), 2.0.into(), Value::Null, "demo".into()]);
    pair
}

#[test]
fn a_publisher_that_understands_it_is_asked_to_connect_again_and_goes_on_until_it_does() {
    let mut pair = publishing_with(Some(3.0.into()));
    assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
    pair.session.accept().unwrap();
    pair.answers().unwrap();
    assert!(pair.session.request_reconnect().unwrap());
    let answers = pair.answers().unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!((&answers[0][0], &answers[0][1]), (&"onStatus".into(), &0.0.into()));
    assert_eq!(code(&answers[0]), "NetConnection.Connect.ReconnectRequest");
    assert_eq!(answers[0][3].property("level"), Some(&"status".into()));
    assert!(!pair.session.is_closing());
    pair.send_raw(kind::VIDEO, 1, &video_frame(IDR));
    assert!(matches!(pair.run().unwrap(), Some(Event::Video { .. })));
}

#[test]
fn one_that_publishes_only_then_is_asked_as_it_is_accepted() {
    let mut pair = publishing_with(Some(1.0.into()));
    assert!(!pair.session.request_reconnect().unwrap());
    assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
    pair.session.accept().unwrap();
    let codes: Vec<_> =
        pair.answers().unwrap().iter().map(|answer| code(answer).to_owned()).collect();
    assert_eq!(codes, ["NetStream.Publish.Start", "NetConnection.Connect.ReconnectRequest"]);
}

#[test]
fn who_does_not_understand_it_is_not_asked_to_connect_again() {
    let others = [Value::from(2.0), 1.5.into(), (-1.0).into(), f64::NAN.into(), "1".into()];
    for caps in others.map(Some).into_iter().chain([None]) {
        let mut pair = publishing_with(caps.clone());
        assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
        pair.session.accept().unwrap();
        pair.answers().unwrap();
        assert!(!pair.session.request_reconnect().unwrap(), "{caps:?}");
        assert!(pair.answers().unwrap().is_empty());
    }
}

#[test]
fn another_application_is_rejected_with_the_right_one() {
    let mut pair = Pair::new();
    pair.run().unwrap();
    pair.client.connect("other");
    let event = pair.run().unwrap();
    assert!(matches!(event, Some(Event::Refused(refusal)) if refusal.reason == Reason::App));
    assert!(pair.session.is_closing());
    let Some(ClientSessionEvent::ConnectionRequestRejected { description }) =
        pair.client.events.pop()
    else {
        panic!("not rejected");
    };
    assert_eq!(
        description,
        "the server has no such application: enter rtmp://<host>/live as the server, and the \
         stream key in its separate field"
    );
}

#[test]
fn a_refused_publisher_reads_why_and_the_session_closes() {
    let mut pair = Pair::connected();
    pair.client.publish("demo");
    assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
    pair.session.refuse(&Refusal::new(Reason::Name, "demo is live already")).unwrap();
    assert!(pair.session.is_closing());
    let answer = pair.answers().unwrap().remove(0);
    assert_eq!(code(&answer), "NetStream.Publish.BadName");
    assert_eq!(answer[3].property("description"), Some(&"demo is live already".into()));
    assert_eq!(answer[3].property("level"), Some(&"error".into()));
}

/// The message to the peer of a session that failed with `err`; the session closes.
fn told(pair: &mut Pair, err: &Error) -> (Value, String, String) {
    pair.session.fail(err).unwrap();
    assert!(pair.session.is_closing());
    let answer = pair.answers().unwrap().remove(0);
    let description = answer[3].property("description").and_then(Value::as_str);
    let description = description.unwrap_or_default().to_owned();
    (answer[0].clone(), code(&answer).to_owned(), description)
}

#[test]
fn commands_out_of_order_end_the_connection_in_words() {
    let mut pair = Pair::new();
    pair.run().unwrap();
    pair.send(kind::COMMAND, 0, &["createStream".into(), 1.0.into(), Value::Null]);
    let err = pair.answers().unwrap_err();
    assert!(matches!(err, Error::OutOfOrder { .. }), "createStream before connect");
    let words = "command createStream is not allowed while waiting for connect".to_owned();
    assert_eq!(
        told(&mut pair, &err),
        ("_error".into(), "NetConnection.Connect.Failed".into(), words)
    );
    let mut pair = Pair::connected();
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), Value::Null]);
    let err = pair.answers().unwrap_err();
    assert!(matches!(err, Error::OutOfOrder { .. }), "connect twice");
    assert_eq!(told(&mut pair, &err).1, "NetConnection.Call.Failed");
}

#[test]
fn a_failure_is_told_on_the_stream_that_it_ends_and_not_before_the_handshake() {
    let mut pair = Pair::publishing();
    pair.send_raw(kind::COMMAND, 0, &hex!("02 ffff"));
    let err = pair.answers().unwrap_err();
    let words = "command: AMF value at byte 3 is truncated".to_owned();
    assert_eq!(told(&mut pair, &err), ("onStatus".into(), "NetStream.Failed".into(), words));
    let mut pair = Pair::publishing();
    let err = pair.session.handle_timeout(pair.now + Duration::from_secs(10)).unwrap_err();
    let (_, code, words) = told(&mut pair, &err);
    assert_eq!(
        (&code[..], &words[..]),
        ("NetConnection.Connect.IdleTimeOut", "idle took longer than 10000 ms")
    );
    let mut pair = Pair::new();
    pair.session.fail(&err).unwrap();
    assert!(pair.session.is_closing() && pair.session.transmit().is_empty());
}

#[test]
fn a_second_publish_is_granted_again_if_it_is_the_same_and_refused_if_not_and_the_first_goes_on() {
    let publish =
        |name: &str| ["publish".into(), 5.0.into(), Value::Null, name.into(), "live".into()];
    let mut pair = Pair::publishing();
    for (stream, name, code_of_answer) in [
        (1, "demo", "NetStream.Publish.Start"),
        (1, "live/demo?token=1", "NetStream.Publish.Start"),
        (1, "other", "NetStream.Publish.BadName"),
        (2, "demo", "NetStream.Publish.BadName"),
        (1, "", "NetStream.Publish.BadName"),
    ] {
        pair.send(kind::COMMAND, stream, &publish(name));
        let event = pair.session.poll_event(&mut pair.input, pair.now).unwrap();
        let refused =
            matches!(&event, Some(Event::Refused(refusal)) if refusal.reason == Reason::Second);
        assert_eq!(refused, code_of_answer.ends_with("BadName"), "{name}: {event:?}");
        let answers = pair.answers().unwrap();
        assert_eq!((answers.len(), code(&answers[0])), (1, code_of_answer), "{name}");
    }
    pair.send(kind::COMMAND, 1, &["play".into(), 5.0.into(), Value::Null, "demo".into()]);
    assert_eq!(code(&pair.answers().unwrap()[0]), "NetStream.Play.Failed");
    assert!(!pair.session.is_closing());
    pair.send_raw(kind::VIDEO, 1, &video_frame(IDR));
    assert!(matches!(pair.run().unwrap(), Some(Event::Video { .. })));
}

#[test]
fn only_the_stream_that_is_named_is_unpublished() {
    let mut pair = Pair::publishing();
    for (command, argument) in [
        ("FCUnpublish", Value::from("other")),
        ("FCUnpublish", "demo2".into()),
        ("deleteStream", 2.0.into()),
        ("releaseStream", "other".into()),
    ] {
        pair.send(kind::COMMAND, 0, &[command.into(), 5.0.into(), Value::Null, argument]);
        assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None, "{command}");
    }
    pair.send(kind::COMMAND, 2, &["closeStream".into(), 0.0.into(), Value::Null]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    for named in [Value::from("live/demo?token=1"), Value::Null] {
        let mut pair = Pair::publishing();
        pair.send(kind::COMMAND, 0, &["FCUnpublish".into(), 5.0.into(), Value::Null, named]);
        let event = pair.session.poll_event(&mut pair.input, pair.now).unwrap();
        assert_eq!(event, Some(Event::Closed));
    }
}

#[test]
fn message_streams_are_given_again_once_deleted_and_one_too_many_is_refused_in_words() {
    let mut pair = Pair::connected();
    let create = ["createStream".into(), 1.0.into(), Value::Null];
    for _ in 0..MAX_STREAMS {
        pair.send(kind::COMMAND, 0, &create);
    }
    let numbers: Vec<_> = pair.answers().unwrap().iter().map(|answer| answer[3].clone()).collect();
    assert_eq!(numbers, (1..=MAX_STREAMS).map(|id| f64::from(id).into()).collect::<Vec<_>>());
    pair.send(kind::COMMAND, 0, &create);
    let answer = pair.answers().unwrap().remove(0);
    assert_eq!((&answer[0], code(&answer)), (&"_error".into(), "NetConnection.Call.Failed"));
    for unknown in [0.0, 17.0, -1.0, 1.5, f64::NAN] {
        let delete = ["deleteStream".into(), 0.0.into(), Value::Null, unknown.into()];
        pair.send(kind::COMMAND, 0, &delete);
    }
    pair.send(kind::COMMAND, 0, &["deleteStream".into(), 0.0.into(), Value::Null, 3.0.into()]);
    pair.send(kind::COMMAND, 0, &create);
    assert_eq!(pair.answers().unwrap()[0][3], Value::Number(3.0));
    assert!(!pair.session.is_closing());
}

/// A session after `connect` with this application, and its event for `publish` with this name.
fn asked(app: &str, name: Value) -> (Pair, Option<Event>) {
    let mut pair = Pair::new();
    pair.run().unwrap();
    let object = object([("app", app.into())]);
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), object]);
    assert_eq!(code(&pair.answers().unwrap()[0]), "NetConnection.Connect.Success", "{app}");
    pair.send(kind::COMMAND, 1, &["publish".into(), 2.0.into(), Value::Null, name]);
    let event = pair.session.poll_event(&mut pair.input, pair.now).unwrap();
    (pair, event)
}

#[test]
fn addresses_are_taken_where_their_meaning_is_plain() {
    for (app, name, verbatim, token) in [
        ("live", "demo", None, None),
        ("LIVE/", "demo", None, None),
        ("live/demo", "", None, None),
        ("live/demo?t=1", "", None, Some("t=1")),
        ("live/instance", "demo", None, None),
        ("live/_definst_", "demo?t=2", None, Some("t=2")),
        ("", "live/demo", Some("live/demo"), None),
        ("live", "demo/", Some("demo/"), None),
        ("live", " demo\r\n", Some(" demo\r\n"), None),
        ("live", "rtmp://localhost/live/demo", Some("rtmp://localhost/live/demo"), None),
    ] {
        let (_, event) = asked(app, name.into());
        let expected = Event::Publish {
            app: "live".into(),
            key: StreamKey::new("demo"),
            verbatim: verbatim.map(StreamKey::new),
            query: token.map(StreamKey::new),
        };
        assert_eq!(event, Some(expected), "{app:?} {name:?}");
    }
}

#[test]
fn without_a_stream_key_the_words_say_where_it_belongs() {
    for (app, name) in [
        ("live", Value::from("")),
        ("live", Value::Null),
        ("live/_definst_", "/".into()),
        ("live", "?token=1".into()),
    ] {
        let (mut pair, event) = asked(app, name);
        assert!(
            matches!(&event, Some(Event::Refused(refusal)) if refusal.reason == Reason::Name),
            "{event:?}"
        );
        assert!(pair.session.is_closing());
        let answer = pair.answers().unwrap().remove(0);
        assert_eq!(code(&answer), "NetStream.Publish.BadName");
        assert_eq!(
            answer[3].property("description"),
            Some(
                &"the stream key is missing: enter rtmp://<host>/live as the server, and the \
                   stream key in its separate field"
                    .into()
            )
        );
    }
}

#[test]
fn a_connect_whose_object_is_amf3_is_answered() {
    let mut pair = Pair::new();
    pair.run().unwrap();
    // "connect", 1, then an AMF3 object { app: "live", objectEncoding: 3, capsEx: 1 }, as Flash
    // clients send it in type 17.
    let body = hex!(
        "00 02 0007 636f6e6e656374 00 3ff0000000000000"
        "11 0a 0b 01 07 617070 06 09 6c697665"
        "1d 6f626a656374456e636f64696e67 04 03"
        "0d 636170734578 05 3ff0000000000000 01"
    );
    pair.send_raw(kind::COMMAND_AMF3, 0, &body);
    let answer = pair.answers().unwrap().remove(0);
    assert_eq!((code(&answer), &answer[1]), ("NetConnection.Connect.Success", &1.0.into()));
    assert_eq!(answer[3].property("objectEncoding"), Some(&0.0.into()));
    assert_eq!(answer[2].property("capsEx"), Some(&1.0.into()));
    // A command whose values are all AMF3: "createStream", 2, null.
    pair.send_raw(
        kind::COMMAND_AMF3,
        0,
        &hex!("00 11 06 19 63726561746553747265616d 11 04 02 11 01"),
    );
    assert_eq!(pair.answers().unwrap()[0][1..], [2.0.into(), Value::Null, 1.0.into()]);
}

#[test]
fn all_frames_of_an_aggregate_are_events_though_no_more_input_comes() {
    let mut pair = Pair::publishing();
    let mut aggregate = Vec::new();
    for ms in [1_000u32, 1_040, 1_080] {
        let body = video_frame(IDR);
        aggregate.push(kind::VIDEO);
        aggregate.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        aggregate.extend_from_slice(&ms.to_be_bytes()[1..]);
        aggregate.extend_from_slice(&[0, 0, 0, 0]);
        aggregate.extend_from_slice(&body);
        aggregate.extend_from_slice(&u32::try_from(11 + body.len()).unwrap().to_be_bytes());
    }
    pair.send_raw(22, 1, &aggregate);
    pair.run().unwrap(); // the first
    let mut stamps = Vec::new();
    while let Some(event) = pair.session.poll_event(&mut pair.input, pair.now).unwrap() {
        let Event::Video { timestamp, body } = event else { panic!("{event:?}") };
        assert_eq!(body, video_frame(IDR));
        stamps.push(timestamp);
    }
    assert_eq!(stamps, [40, 80], "the aggregate's stamp is 0");
}

#[test]
fn large_media_on_their_way_after_the_stream_was_closed_do_no_harm() {
    let mut pair = Pair::publishing();
    pair.send(kind::COMMAND, 0, &["deleteStream".into(), 6.0.into(), Value::Null, 1.0.into()]);
    pair.send_raw(kind::VIDEO, 1, &vec![0; 200_000]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), Some(Event::Closed));
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    assert!(pair.input.is_empty());
}

#[test]
fn a_command_of_nested_arrays_ends_the_connection_and_metadata_of_them_is_skipped() {
    let nested = hex!("0a 00000001").repeat(800);
    let mut pair = Pair::connected();
    pair.send_raw(kind::COMMAND, 0, &nested);
    assert!(matches!(pair.answers(), Err(Error::Amf0(amf0::Error::TooDeep { .. }))));

    let mut pair = Pair::publishing();
    pair.send_raw(kind::DATA, 1, &nested);
    assert_eq!(pair.run().unwrap(), None);
    pair.client.audio(7, audio_frame());
    assert!(matches!(pair.run().unwrap(), Some(Event::Audio { .. })));
}

#[test]
fn commands_without_values_or_of_the_wrong_kind_do_no_harm() {
    for body in
        [&hex!("")[..], &hex!("02 0007 7075626c697368"), &hex!("05 05 05"), &hex!("02 0000")]
    {
        let mut pair = Pair::connected();
        pair.send_raw(kind::COMMAND, 1, body);
        assert!(pair.answers().is_ok(), "{body:02x?}");
    }
}

#[test]
fn received_bytes_are_acknowledged_by_the_window_with_the_running_total() {
    let mut pair = Pair::publishing();
    pair.send_raw(kind::WINDOW, 0, &1000u32.to_be_bytes());
    pair.run().unwrap();
    pair.client.events.clear();
    for ms in 0..200 {
        pair.client.audio(ms, audio_frame());
        while pair.run().unwrap().is_some() {}
    }
    let acknowledged: Vec<u32> = pair
        .client
        .events
        .iter()
        .filter_map(|event| match event {
            ClientSessionEvent::AcknowledgementReceived { bytes_received } => Some(*bytes_received),
            _ => None,
        })
        .collect();
    assert!(acknowledged.len() >= 2, "{acknowledged:?}");
    assert!(acknowledged[0] > 3073, "the handshake counts");
    assert!(
        acknowledged.windows(2).all(|two| (1000..1200).contains(&(two[1] - two[0]))),
        "{acknowledged:?}"
    );
}

#[test]
fn a_ping_is_answered_with_its_time() {
    let mut pair = Pair::connected();
    pair.send_raw(kind::USER_CONTROL, 0, &hex!("0006 01020304"));
    pair.session.poll_event(&mut pair.input, pair.now).unwrap();
    assert!(written(&mut pair.session).ends_with(&hex!("0007 01020304")));
    pair.send_raw(kind::USER_CONTROL, 0, &hex!("0006 01"));
    assert!(matches!(
        pair.session.poll_event(&mut pair.input, pair.now),
        Err(Error::Truncated { kind: 4, len: 3 })
    ));
}

#[test]
fn a_stream_is_closed_once_however_often_it_is_said() {
    let mut pair = Pair::publishing();
    // GStreamer's FCUnpublish carries the name; deleteStream follows.
    pair.send(kind::COMMAND, 0, &["FCUnpublish".into(), 5.0.into(), Value::Null, "demo".into()]);
    pair.send(kind::COMMAND, 0, &["deleteStream".into(), 6.0.into(), Value::Null, 1.0.into()]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), Some(Event::Closed));
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    // Media in transit belong to no stream.
    pair.client.audio(7, audio_frame());
    assert_eq!(pair.run().unwrap(), None);
}

#[test]
fn a_byte_at_a_time_raises_the_same_events_as_all_at_once() {
    let mut pair = Pair::connected();
    pair.client.publish("demo");
    pair.run().unwrap();
    pair.session.accept().unwrap();
    pair.run().unwrap();
    for ms in (0..400).step_by(20) {
        pair.client.audio(ms, audio_frame());
        pair.client.video(ms, video_frame(&IDR.repeat(ms as usize)));
    }
    let bytes = std::mem::take(&mut pair.client.output);
    let mut events = Vec::new();
    for byte in bytes {
        pair.input.extend_from_slice(&[byte]);
        events.extend(pair.session.poll_event(&mut pair.input, pair.now).unwrap());
    }
    let video =
        |ms: u32| Event::Video { timestamp: ms, body: video_frame(&IDR.repeat(ms as usize)) };
    let expected: Vec<_> = (0..400)
        .step_by(20)
        .flat_map(|ms| [Event::Audio { timestamp: ms, body: audio_frame() }, video(ms)])
        .collect();
    assert_eq!(events, expected);
}
