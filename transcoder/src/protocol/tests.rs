use hex_literal::hex;
use proptest::prelude::*;

use super::*;

fn job() -> Job {
    Job {
        video: vec![1, 100, 0, 31],
        audio: None,
        frame_rate: 30.0,
        renditions: vec![VideoRendition {
            width: 1280,
            height: 720,
            bitrate_bps: 2_800_000,
            halve_rate: false,
            level: 31,
            threads: 1,
        }],
        audio_rendition: Some(AudioRendition { bitrate_bps: 64_000 }),
        encoder: Encoder::X264,
        preset: "veryfast".into(),
        tuning: Tuning::Latency,
        picture_ms: 5_000,
        picture_size: (640, 360),
        memory_bytes: 1 << 30,
        nice: 10,
    }
}

/// The serialised message; checks its length prefix.
fn joined(written: &Written) -> Bytes {
    let mut bytes = BytesMut::from(&written.head[..]);
    bytes.extend_from_slice(&written.payload);
    let prefix = bytes[..LENGTH_BYTES].try_into().unwrap();
    assert_eq!(parse_length(prefix).unwrap(), bytes.len() - LENGTH_BYTES);
    bytes.split_off(LENGTH_BYTES).freeze()
}

#[test]
fn a_unit_of_the_source_byte_for_byte() {
    let unit = Order::Unit {
        media: Media::Video,
        key: true,
        dts: MediaTime::from_ticks(900_000),
        pts: MediaTime::from_ticks(-1),
        mark: Some(MediaTime::from_ticks(903_000)),
        payload: Bytes::from_static(&[0xaa, 0xbb]),
    };
    let written = unit.write();
    assert_eq!(
        written.head[..],
        hex!(
            "0000001e 02 00 01" // 30 bytes, unit, video, key
            "00000000000dbba0 ffffffffffffffff" // dts, pts
            "01 00000000000dc758" // mark
        )
    );
    assert_eq!(written.payload[..], [0xaa, 0xbb]);
}

#[test]
fn a_payload_is_not_copied() {
    let payload = Bytes::from(vec![7; 100]);
    let [dts, pts] = [1, 2].map(MediaTime::from_ticks);
    let unit = Report::Unit { rendition: 0, key: false, dts, pts, payload: payload.clone() };
    assert_eq!(unit.write().payload.as_ptr(), payload.as_ptr());
    let message = joined(&unit.write());
    let Report::Unit { payload: read, .. } = Report::parse(message.clone()).unwrap() else {
        panic!("a unit");
    };
    assert!(message.as_ptr_range().contains(&read.as_ptr()));
}

#[test]
fn orders_survive_a_round_trip() {
    let orders = [
        Order::Job(Box::new(job())),
        Order::Unit {
            media: Media::Audio,
            key: true,
            dts: MediaTime::MIN,
            pts: MediaTime::MAX,
            mark: None,
            payload: Bytes::new(),
        },
        Order::Make { rendition: 3, on: false },
        Order::End,
    ];
    for order in orders {
        assert_eq!(Order::parse(joined(&order.write())).unwrap(), order);
    }
}

#[test]
fn reports_survive_a_round_trip() {
    let reports = [
        Report::Config { rendition: 0, record: Bytes::from_static(&[1, 2, 3]) },
        Report::Picture { pts: MediaTime::from_ticks(5), jpeg: Bytes::from_static(&[0xff, 0xd8]) },
        Report::Log { level: Level::Debug, text: "words".into() },
        Report::Stats(Stats { decoded: 1, broken: 2, cpu_us: 3, resident_bytes: 4 }),
    ];
    for report in reports {
        assert_eq!(Report::parse(joined(&report.write())).unwrap(), report);
    }
}

#[test]
fn malformed_messages_are_refused_with_their_kind_and_field() {
    assert_eq!(parse_length([0; 4]), Err(Malformed::Length { len: 0 }));
    assert_eq!(parse_length([0xff; 4]), Err(Malformed::Length { len: 0xffff_ffff }));
    let parse = |bytes: &'static [u8]| Report::parse(Bytes::from_static(bytes)).unwrap_err();
    assert_eq!(parse(&[9]), Malformed::Kind { kind: 9 });
    assert_eq!(parse(&[1, b'{', b'}']), Malformed::Kind { kind: 1 });
    assert_eq!(parse(&[2, 0, 1, 0]), Malformed::Short { kind: 2 });
    assert_eq!(parse(&[2, 0, 7]), Malformed::Field { kind: 2, field: "key" });
    assert_eq!(parse(&[8, b'x']), Malformed::Field { kind: 8, field: "stats" });
}

#[test]
fn long_texts_are_truncated_between_characters() {
    let text = "é".repeat(MAX_TEXT_BYTES);
    let report = Report::Log { level: Level::Warn, text };
    let Report::Log { text, .. } = Report::parse(joined(&report.write())).unwrap() else {
        panic!("a text");
    };
    assert_eq!(text, "é".repeat(MAX_TEXT_BYTES / 2));
}

proptest! {
    #[test]
    fn the_parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Order::parse(bytes.clone().into());
        let _ = Report::parse(bytes.into());
    }
}
