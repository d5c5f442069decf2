//! Handshakes, `connect`, and addresses.

use super::*;

#[test]
fn the_rml_rtmp_client_connects_and_publishes() {
    let mut pair = Pair::connected();
    pair.client.publish("demo?token=abc");
    let Some(Event::Publish { app, key, verbatim, query, client }) = pair.run().unwrap() else {
        panic!("no request")
    };
    assert_eq!((app.as_str(), key.expose(), verbatim), ("live", "demo", None));
    assert_eq!(query, Some(StreamKey::new("token=abc")));
    assert_eq!((client.app.as_str(), client.publishing_type.as_str()), ("live", "live"));
    assert_eq!(client.flash_ver, "WIN 23,0,0,207");
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
fn the_simple_handshake_gets_a_response() {
    let mut pair = Pair::new();
    // C1 with a version of zero and no digest, as librtmp and GStreamer send it; then C2, with any
    // content.
    pair.input.extend_from_slice(&[3]);
    pair.input.extend_from_slice(&[0; 8]);
    pair.input.extend_from_slice(&[0x55; 1528]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    let response = written(&mut pair.session);
    assert_eq!((response.len(), response[0]), (1 + 1536 + 1536, 3));
    assert_eq!(response[1 + 1536 + 8..], [0x55; 1528]);
    pair.input.extend_from_slice(&response[1..1537]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    assert!(matches!(pair.session.state, State::Connect { .. }));
}

#[test]
fn an_invalid_handshake_is_an_error_and_an_incomplete_one_times_out() {
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
fn a_connected_peer_without_a_command_and_a_silent_publisher_time_out() {
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
fn commands_of_encoders_outside_the_standard_get_a_response() {
    let mut pair = Pair::connected();
    for (command, transaction) in
        [("releaseStream", 2.0), ("FCPublish", 3.0), ("_checkbw", 4.0), ("getStreamLength", 5.0)]
    {
        pair.send(
            kind::COMMAND,
            0,
            &[command.into(), transaction.into(), Value::Null, "demo".into()],
        );
        let responses = pair.responses().unwrap();
        assert_eq!(responses[0][..2], ["_result".into(), transaction.into()], "{command}");
    }
    pair.send_raw(
        kind::COMMAND_AMF3,
        0,
        &[&[0][..], &hex!("02 000c 63726561746553747265616d 00 4018000000000000 05")].concat(),
    );
    assert_eq!(pair.responses().unwrap()[0][3], Value::Number(1.0));
    for ignored in ["pause", "seek", "receiveVideo", "no such command"] {
        pair.send(
            kind::COMMAND,
            1,
            &[ignored.into(), 7.0.into(), Value::Null, Value::Boolean(true)],
        );
        assert!(pair.responses().unwrap().is_empty(), "{ignored}");
    }
}

#[test]
fn the_connect_response_lists_the_supported_enhanced_rtmp_capabilities() {
    let mut pair = Pair::new();
    pair.run().unwrap();
    let asked = object([
        ("app", "live/?x=1".into()),
        ("fourCcList", Value::Array(vec!["hvc1".into(), "avc1".into()])),
        ("videoFourCcInfoMap", object([("*", 7.0.into())])),
        ("capsEx", 15.0.into()),
    ]);
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), asked]);
    let response = pair.responses().unwrap().remove(0);
    assert_eq!(code(&response), "NetConnection.Connect.Success");
    let properties = &response[2];
    assert_eq!(
        properties.property("fourCcList"),
        Some(&Value::Array(vec!["avc1".into(), "mp4a".into()]))
    );
    assert_eq!(properties.property("videoFourCcInfoMap"), Some(&object([("avc1", 4.0.into())])));
    assert_eq!(properties.property("audioFourCcInfoMap"), None);
    assert_eq!(properties.property("capsEx"), Some(&Value::Number(1.0)), "reconnecting");
}

#[test]
fn an_unknown_application_is_rejected_with_the_valid_address() {
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

/// A session after `connect` with this application, and its event for `publish` with this name.
fn asked(app: &str, name: Value) -> (Pair, Option<Event>) {
    let mut pair = Pair::new();
    pair.run().unwrap();
    let object = object([("app", app.into())]);
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), object]);
    assert_eq!(code(&pair.responses().unwrap()[0]), "NetConnection.Connect.Success", "{app}");
    pair.send(kind::COMMAND, 1, &["publish".into(), 2.0.into(), Value::Null, name]);
    let event = pair.session.poll_event(&mut pair.input, pair.now).unwrap();
    (pair, event)
}

#[test]
fn common_forms_of_the_publish_address_are_accepted() {
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
        let Some(Event::Publish { app: served, key, verbatim: exact, query, client }) = event
        else {
            panic!("{event:?}")
        };
        assert_eq!((served.as_str(), key.expose()), ("live", "demo"), "{app:?} {name:?}");
        assert_eq!(exact, verbatim.map(StreamKey::new), "{app:?} {name:?}");
        assert_eq!(query, token.map(StreamKey::new), "{app:?} {name:?}");
        assert_eq!(client.app, app.split('?').next().unwrap(), "{app:?} {name:?}");
    }
}

#[test]
fn a_missing_stream_key_is_refused_with_a_description_of_its_field() {
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
        let response = pair.responses().unwrap().remove(0);
        assert_eq!(code(&response), "NetStream.Publish.BadName");
        assert_eq!(
            response[3].property("description"),
            Some(
                &"the stream key is missing: enter rtmp://<host>/live as the server, and the \
                   stream key in its separate field"
                    .into()
            )
        );
    }
}

#[test]
fn a_connect_command_with_an_amf3_object_gets_a_response() {
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
    let response = pair.responses().unwrap().remove(0);
    assert_eq!((code(&response), &response[1]), ("NetConnection.Connect.Success", &1.0.into()));
    assert_eq!(response[3].property("objectEncoding"), Some(&0.0.into()));
    assert_eq!(response[2].property("capsEx"), Some(&1.0.into()));
    // A command whose values are all AMF3: "createStream", 2, null.
    pair.send_raw(
        kind::COMMAND_AMF3,
        0,
        &hex!("00 11 06 19 63726561746553747265616d 11 04 02 11 01"),
    );
    assert_eq!(pair.responses().unwrap()[0][1..], [2.0.into(), Value::Null, 1.0.into()]);
}
