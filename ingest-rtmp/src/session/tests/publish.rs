//! Requests to publish, their streams, and requests to reconnect.

use super::*;

/// A publishing session whose peer declared these capabilities.
fn publishing_with(caps: Option<Value>) -> Pair {
    let mut pair = Pair::new();
    pair.run().unwrap();
    let mut asked = vec![("app".to_owned(), Value::from("live"))];
    asked.extend(caps.map(|caps| ("capsEx".to_owned(), caps)));
    pair.send(kind::COMMAND, 0, &["connect".into(), 1.0.into(), Value::Object(asked)]);
    pair.responses().unwrap();
    pair.send(kind::COMMAND, 1, &["publish".into(), 2.0.into(), Value::Null, "demo".into()]);
    pair
}

#[test]
fn a_capable_publisher_receives_a_reconnect_request_and_may_continue_to_publish() {
    let mut pair = publishing_with(Some(3.0.into()));
    assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
    pair.session.accept().unwrap();
    pair.responses().unwrap();
    assert!(pair.session.request_reconnect().unwrap());
    let responses = pair.responses().unwrap();
    assert_eq!(responses.len(), 1);
    assert_eq!((&responses[0][0], &responses[0][1]), (&"onStatus".into(), &0.0.into()));
    assert_eq!(code(&responses[0]), "NetConnection.Connect.ReconnectRequest");
    assert_eq!(responses[0][3].property("level"), Some(&"status".into()));
    assert!(!pair.session.is_closing());
    pair.send_raw(kind::VIDEO, 1, &video_frame(IDR));
    assert!(matches!(pair.run().unwrap(), Some(Event::Video { .. })));
}

#[test]
fn a_reconnect_request_before_publish_is_sent_with_the_acceptance() {
    let mut pair = publishing_with(Some(1.0.into()));
    assert!(!pair.session.request_reconnect().unwrap());
    assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
    pair.session.accept().unwrap();
    let codes: Vec<_> =
        pair.responses().unwrap().iter().map(|response| code(response).to_owned()).collect();
    assert_eq!(codes, ["NetStream.Publish.Start", "NetConnection.Connect.ReconnectRequest"]);
}

#[test]
fn a_publisher_without_the_reconnect_capability_receives_no_reconnect_request() {
    let others = [Value::from(2.0), 1.5.into(), (-1.0).into(), f64::NAN.into(), "1".into()];
    for caps in others.map(Some).into_iter().chain([None]) {
        let mut pair = publishing_with(caps.clone());
        assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
        pair.session.accept().unwrap();
        pair.responses().unwrap();
        assert!(!pair.session.request_reconnect().unwrap(), "{caps:?}");
        assert!(pair.responses().unwrap().is_empty());
    }
}

#[test]
fn a_refused_publisher_receives_the_reason_and_the_session_closes() {
    let mut pair = Pair::connected();
    pair.client.publish("demo");
    assert!(matches!(pair.run().unwrap(), Some(Event::Publish { .. })));
    pair.session.refuse(&Refusal::new(Reason::Name, "demo is live already")).unwrap();
    assert!(pair.session.is_closing());
    let response = pair.responses().unwrap().remove(0);
    assert_eq!(code(&response), "NetStream.Publish.BadName");
    assert_eq!(response[3].property("description"), Some(&"demo is live already".into()));
    assert_eq!(response[3].property("level"), Some(&"error".into()));
}

#[test]
fn a_repeated_publish_is_accepted_and_a_different_one_is_refused_without_an_end() {
    let publish =
        |name: &str| ["publish".into(), 5.0.into(), Value::Null, name.into(), "live".into()];
    let mut pair = Pair::publishing();
    for (stream, name, code_of_response) in [
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
        assert_eq!(refused, code_of_response.ends_with("BadName"), "{name}: {event:?}");
        let responses = pair.responses().unwrap();
        assert_eq!((responses.len(), code(&responses[0])), (1, code_of_response), "{name}");
    }
    pair.send(kind::COMMAND, 1, &["play".into(), 5.0.into(), Value::Null, "demo".into()]);
    assert_eq!(code(&pair.responses().unwrap()[0]), "NetStream.Play.Failed");
    assert!(!pair.session.is_closing());
    pair.send_raw(kind::VIDEO, 1, &video_frame(IDR));
    assert!(matches!(pair.run().unwrap(), Some(Event::Video { .. })));
}

#[test]
fn an_unpublish_command_for_a_different_stream_is_ignored() {
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
fn deleted_message_streams_are_reused_and_streams_over_the_limit_are_refused() {
    let mut pair = Pair::connected();
    let create = ["createStream".into(), 1.0.into(), Value::Null];
    for _ in 0..MAX_STREAMS {
        pair.send(kind::COMMAND, 0, &create);
    }
    let numbers: Vec<_> =
        pair.responses().unwrap().iter().map(|response| response[3].clone()).collect();
    assert_eq!(numbers, (1..=MAX_STREAMS).map(|id| f64::from(id).into()).collect::<Vec<_>>());
    pair.send(kind::COMMAND, 0, &create);
    let response = pair.responses().unwrap().remove(0);
    assert_eq!((&response[0], code(&response)), (&"_error".into(), "NetConnection.Call.Failed"));
    for unknown in [0.0, 17.0, -1.0, 1.5, f64::NAN] {
        let delete = ["deleteStream".into(), 0.0.into(), Value::Null, unknown.into()];
        pair.send(kind::COMMAND, 0, &delete);
    }
    pair.send(kind::COMMAND, 0, &["deleteStream".into(), 0.0.into(), Value::Null, 3.0.into()]);
    pair.send(kind::COMMAND, 0, &create);
    assert_eq!(pair.responses().unwrap()[0][3], Value::Number(3.0));
    assert!(!pair.session.is_closing());
}

#[test]
fn a_stream_is_closed_once_by_repeated_commands() {
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
