//! Messages besides commands: aggregates, acknowledgements and pings.

use super::*;

#[test]
fn all_frames_of_an_aggregate_are_events_without_further_input() {
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
fn acknowledgements_are_sent_each_window_with_the_total_of_received_bytes() {
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
fn a_ping_response_has_the_time_of_the_request() {
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
