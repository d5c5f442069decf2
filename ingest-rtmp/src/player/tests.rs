use std::{
    io::IoSlice,
    time::{Duration, Instant, SystemTime},
};

use media_core::{AccessUnit, Hub, MediaSpan, TrackName, codec, hub::Producer};

use super::*;
use crate::{
    amf0,
    chunk::{Limits, Message, Reader},
    testing::{AAC, AVC, AVC_SAME_STRING, IDR, SLICE, hub},
};

fn avc(record: &[u8]) -> Config {
    Config::Avc(codec::avc::Config::parse(record).unwrap())
}

fn source(hub: &Hub, now: Instant) -> Producer {
    let audio = Config::Aac(codec::aac::Config::parse(AAC).unwrap());
    let tracks = vec![(TrackName::source_video(), avc(AVC)), (TrackName::source_audio(), audio)];
    hub.claim("demo".parse().unwrap()).unwrap().start(tracks, now, SystemTime::now()).unwrap()
}

fn push(producer: &Producer, start: Instant, track: TrackIndex, ms: i64, payload: &'static [u8]) {
    let arrived = start + Duration::from_millis(ms.unsigned_abs());
    let key = payload != SLICE;
    let unit = AccessUnit {
        dts: MediaSpan::from_millis(ms),
        pts: MediaSpan::from_millis(ms + 67),
        key,
        independent: key,
        arrived,
        payload: payload.into(),
    };
    producer.push(track, unit).unwrap();
}

fn read(transmit: &mut Transmit) -> Vec<Message> {
    let mut bytes = Vec::new();
    while !transmit.is_empty() {
        let mut slices = [IoSlice::new(&[])];
        transmit.slices(&mut slices);
        bytes.extend_from_slice(&slices[0]);
        let len = slices[0].len();
        transmit.advance(len);
    }
    let mut reader = Reader::new(Limits { message_bytes: 1 << 20, ..Limits::SETUP });
    let mut rest = &bytes[..];
    std::iter::from_fn(|| reader.read(&mut rest).unwrap()).collect()
}

fn transmit() -> Transmit {
    let mut transmit = Transmit::new();
    transmit.announce_chunk_size().unwrap();
    transmit
}

fn drain(player: &mut Player, transmit: &mut Transmit) {
    while let Some(event) = player.consumer.try_next() {
        player.send(event, transmit);
    }
}

#[test]
fn a_player_receives_metadata_sequence_headers_and_the_newest_group_from_time_zero() {
    let (hub, start) = (hub(), Instant::now());
    let producer = source(&hub, start);
    for ms in (0..4_000).step_by(40) {
        push(&producer, start, TrackIndex::new(0), ms, if ms % 2_000 == 0 { IDR } else { SLICE });
        push(&producer, start, TrackIndex::new(1), ms, b"audio");
    }
    let metrics = Metrics::default();
    let mut player = Player::new(producer.broadcast().subscribe(), 1, metrics.clone());
    let mut transmit = transmit();
    player.begin(&mut transmit).unwrap();
    drain(&mut player, &mut transmit);
    let messages = read(&mut transmit);

    let metadata = amf0::parse(&messages[0].payload).unwrap();
    assert_eq!((messages[0].kind, &metadata[0]), (kind::DATA, &"onMetaData".into()));
    assert_eq!(metadata[1].property("width"), Some(&640.0.into()));
    assert_eq!(metadata[1].property("audiosamplerate"), Some(&48_000.0.into()));
    assert_eq!(messages[1].payload, [&[0x17, 0, 0, 0, 0], AVC].concat());
    assert_eq!(messages[2].payload, [&[0xaf, 0], AAC].concat());
    assert_eq!(
        (messages[3].timestamp, &messages[3].payload[..]),
        (0, &[&[0x17, 1, 0, 0, 67], IDR].concat()[..])
    );
    let video: Vec<_> =
        messages[3..].iter().filter(|m| m.kind == kind::VIDEO).map(|m| m.timestamp).collect();
    assert_eq!(video, (0..2_000).step_by(40).collect::<Vec<_>>());
    assert!(
        messages[3..].iter().any(|m| m.kind == kind::AUDIO && m.payload[..] == *b"\xaf\x01audio")
    );
    assert!(messages.iter().all(|message| message.stream_id == 1));
    assert_eq!(metrics.players.get(), 1);
    drop(player);
    assert_eq!(metrics.players.get(), 0);
}

#[test]
fn a_changed_configuration_is_sent_before_its_frames() {
    let (hub, start) = (hub(), Instant::now());
    let producer = source(&hub, start);
    let mut player = Player::new(producer.broadcast().subscribe(), 1, Metrics::default());
    let mut transmit = transmit();
    push(&producer, start, TrackIndex::new(0), 0, IDR);
    producer.configure(TrackIndex::new(0), &avc(AVC_SAME_STRING)).unwrap();
    push(&producer, start, TrackIndex::new(0), 80, IDR);
    drain(&mut player, &mut transmit);
    let messages = read(&mut transmit);
    let seen: Vec<_> = messages.iter().map(|m| (m.timestamp, m.payload[1])).collect();
    assert_eq!(seen, [(0, 1), (0, 0), (80, 1)], "frame, sequence header, key frame");
}

#[test]
fn a_player_that_lagged_resumes_at_a_key_frame_and_is_counted() {
    let (hub, start) = (hub(), Instant::now());
    let producer = source(&hub, start);
    let metrics = Metrics::default();
    let mut player = Player::new(producer.broadcast().subscribe(), 1, metrics.clone());
    let mut transmit = transmit();
    push(&producer, start, TrackIndex::new(0), 0, IDR);
    drain(&mut player, &mut transmit);
    // The hub of these tests keeps 10 s before the newest groups.
    for ms in (40..30_000).step_by(40) {
        push(&producer, start, TrackIndex::new(0), ms, if ms % 2_000 == 0 { IDR } else { SLICE });
        push(&producer, start, TrackIndex::new(1), ms, b"audio");
    }
    drain(&mut player, &mut transmit);
    let messages = read(&mut transmit);
    let after = messages.iter().filter(|m| m.kind == kind::VIDEO).nth(1).unwrap();
    assert!(after.timestamp > 10_000, "{}", after.timestamp);
    assert_eq!(after.payload[0], 0x17);
    assert!(metrics.lagged.get() > 100);
}

#[test]
fn a_player_takes_no_frame_from_the_hub_while_its_queue_is_full() {
    let (hub, start) = (hub(), Instant::now());
    let producer = source(&hub, start);
    static LARGE: [u8; 100_000] = [0; 100_000];
    push(&producer, start, TrackIndex::new(0), 0, IDR);
    for ms in 1..100 {
        push(&producer, start, TrackIndex::new(1), ms, &LARGE);
    }
    let mut player =
        Player::new(producer.broadcast().subscribe_from_oldest(), 1, Metrics::default());
    let mut transmit = transmit();
    let event = player.consumer.try_next().unwrap();
    player.send(event, &mut transmit);
    assert!((QUEUED_BYTES..QUEUED_BYTES + 110_000).contains(&transmit.len()), "{}", transmit.len());
}
