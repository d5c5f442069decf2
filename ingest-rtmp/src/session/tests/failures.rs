//! Violations of the protocol, and input that must do no harm.

use super::*;

/// The message to the peer of a session that failed with `err`; the session closes.
fn failure_status(pair: &mut Pair, err: &Error) -> (Value, String, String) {
    pair.session.fail(err).unwrap();
    assert!(pair.session.is_closing());
    let response = pair.responses().unwrap().remove(0);
    let description = response[3].property("description").and_then(Value::as_str);
    let description = description.unwrap_or_default().to_owned();
    (response[0].clone(), code(&response).to_owned(), description)
}

#[test]
fn commands_out_of_order_fail_with_a_description() {
    let mut pair = Pair::new();
    pair.run().unwrap();
    pair.send(kind::COMMAND, 0, &["createStream".into(), 1.0.into(), Value::Null]);
    let err = pair.responses().unwrap_err();
    assert!(matches!(err, Error::OutOfOrder { .. }), "createStream before connect");
    let words = "command createStream is not allowed while waiting for connect".to_owned();
    assert_eq!(
        failure_status(&mut pair, &err),
        ("_error".into(), "NetConnection.Connect.Failed".into(), words)
    );
    let mut pair = Pair::connected();
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), Value::Null]);
    let err = pair.responses().unwrap_err();
    assert!(matches!(err, Error::OutOfOrder { .. }), "connect twice");
    assert_eq!(failure_status(&mut pair, &err).1, "NetConnection.Call.Failed");
}

#[test]
fn a_failure_is_sent_on_the_stream_that_it_ends_and_not_before_the_handshake() {
    let mut pair = Pair::publishing();
    pair.send_raw(kind::COMMAND, 0, &hex!("02 ffff"));
    let err = pair.responses().unwrap_err();
    let words = "command: AMF value at byte 3 is truncated".to_owned();
    assert_eq!(
        failure_status(&mut pair, &err),
        ("onStatus".into(), "NetStream.Failed".into(), words)
    );
    let mut pair = Pair::publishing();
    let err = pair.session.handle_timeout(pair.now + Duration::from_secs(10)).unwrap_err();
    let (_, code, words) = failure_status(&mut pair, &err);
    assert_eq!(
        (&code[..], &words[..]),
        ("NetConnection.Connect.IdleTimeOut", "idle took longer than 10000 ms")
    );
    let mut pair = Pair::new();
    pair.session.fail(&err).unwrap();
    assert!(pair.session.is_closing() && pair.session.transmit().is_empty());
}

#[test]
fn media_in_transit_after_the_close_of_a_stream_are_ignored() {
    let mut pair = Pair::publishing();
    pair.send(kind::COMMAND, 0, &["deleteStream".into(), 6.0.into(), Value::Null, 1.0.into()]);
    pair.send_raw(kind::VIDEO, 1, &vec![0; 200_000]);
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), Some(Event::Closed));
    assert_eq!(pair.session.poll_event(&mut pair.input, pair.now).unwrap(), None);
    assert!(pair.input.is_empty());
}

#[test]
fn deeply_nested_commands_are_refused_and_deeply_nested_metadata_is_skipped() {
    let nested = hex!("0a 00000001").repeat(800);
    let mut pair = Pair::connected();
    pair.send_raw(kind::COMMAND, 0, &nested);
    assert!(matches!(pair.responses(), Err(Error::Amf0(amf0::Error::TooDeep { .. }))));

    let mut pair = Pair::publishing();
    pair.send_raw(kind::DATA, 1, &nested);
    assert_eq!(pair.run().unwrap(), None);
    pair.client.audio(7, audio_frame());
    assert!(matches!(pair.run().unwrap(), Some(Event::Audio { .. })));
}

#[test]
fn commands_with_missing_or_wrong_values_do_not_fail_the_session() {
    for body in
        [&hex!("")[..], &hex!("02 0007 7075626c697368"), &hex!("05 05 05"), &hex!("02 0000")]
    {
        let mut pair = Pair::connected();
        pair.send_raw(kind::COMMAND, 1, body);
        assert!(pair.responses().is_ok(), "{body:02x?}");
    }
}
