use hex_literal::hex;
use proptest::prelude::*;
use rml_rtmp::{chunk_io::ChunkSerializer, messages::MessagePayload, time::RtmpTimestamp};

use super::*;

const PUBLISHING: Limits = Limits { message_bytes: 8 << 20, ..Limits::SETUP };

fn read_all(reader: &mut Reader, mut input: &[u8]) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut input)? {
        messages.push(message);
    }
    Ok(messages)
}

fn read(bytes: &[u8]) -> Result<Vec<Message>, Error> {
    read_all(&mut Reader::new(PUBLISHING), bytes)
}

/// Reads the same bytes in pieces of `piece`, with unconsumed bytes before the next piece, as a
/// receive buffer has them.
fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Error> {
    let mut reader = Reader::new(PUBLISHING);
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        let mut rest = &buffer[..];
        while let Some(message) = reader.read(&mut rest)? {
            messages.push(message);
        }
        assert!(rest.len() <= 18, "{} bytes left", rest.len());
        buffer = rest.to_vec();
    }
    Ok(messages)
}

/// A type 0 chunk header on a chunk stream below 64.
fn header(csid: u8, timestamp: u32, len: usize, kind: u8) -> Vec<u8> {
    let mut header = vec![csid];
    header.extend(&timestamp.min(EXTENDED).to_be_bytes()[1..]);
    header.extend(&u32::try_from(len).unwrap().to_be_bytes()[1..]);
    header.push(kind);
    header.extend(1u32.to_le_bytes());
    if timestamp >= EXTENDED {
        header.extend(timestamp.to_be_bytes());
    }
    header
}

fn set_chunk_size(size: u32) -> Vec<u8> {
    [&header(2, 0, 4, SET_CHUNK_SIZE)[..], &size.to_be_bytes()].concat()
}

fn payload(len: usize, seed: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().skip(seed).take(len).collect()
}

/// A message as written by a peer that follows the standard.
fn write(csid: u8, timestamp: u32, kind: u8, payload: &[u8], chunk: usize) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for (n, body) in payload.chunks(chunk).enumerate() {
        let mut bytes =
            if n == 0 { header(csid, timestamp, payload.len(), kind) } else { vec![0xc0 | csid] };
        if n > 0 && timestamp >= EXTENDED {
            bytes.extend(timestamp.to_be_bytes());
        }
        bytes.extend(body);
        chunks.push(bytes);
    }
    chunks
}

#[test]
fn the_headers_of_all_four_formats() {
    let bytes = hex!(
        "03 0003e8 000002 08 01000000 aabb" // format 0: 1000 ms, 2 bytes, audio, stream 1
        "43 000014 000001 09 cc"            // format 1: 20 ms later, 1 byte, video
        "83 000015 dd"                      // format 2: 21 ms later
        "c3 ee"                             // format 3: 21 ms later
        "00 06 000005 000001 08 02000000 11" // chunk stream 70 in two bytes
        "01 0601 000006 000001 08 03000000 22" // chunk stream 326 in three
    );
    let messages = read(&bytes).unwrap();
    let seen: Vec<_> =
        messages.iter().map(|m| (m.timestamp, m.kind, m.stream_id, &m.payload[..])).collect();
    assert_eq!(
        seen,
        [
            (1000, 8, 1, &[0xaa, 0xbb][..]),
            (1020, 9, 1, &[0xcc]),
            (1041, 9, 1, &[0xdd]),
            (1062, 9, 1, &[0xee]),
            (5, 8, 2, &[0x11]),
            (6, 8, 3, &[0x22]),
        ]
    );
}

#[test]
fn a_chunk_stream_may_begin_with_a_header_of_format_1() {
    let bytes = hex!(
        // librtmp's response to a ping, the first on its chunk stream
        "42 000000 000006 04 0007 00001234"
        "42 000014 000004 03 00010000"      // and its acknowledgement
        "45 ffffff 000001 08 01000000 aa"   // an extended delta
        "c2 00020000"
    );
    let messages = read(&bytes).unwrap();
    let seen: Vec<_> =
        messages.iter().map(|m| (m.timestamp, m.kind, m.stream_id, &m.payload[..])).collect();
    assert_eq!(
        seen,
        [
            (0, 4, 0, &hex!("0007 00001234")[..]),
            (20, 3, 0, &hex!("00010000")),
            (0x0100_0000, 8, 0, &[0xaa]),
            (40, 3, 0, &hex!("00020000")),
        ]
    );
    assert_eq!(read_in_pieces(&bytes, 1).unwrap(), messages);
}

#[test]
fn chunks_of_two_messages_may_be_interleaved() {
    let (video, audio) = (payload(300, 1), payload(200, 2));
    let video_chunks = write(5, 40, 9, &video, 128);
    let audio_chunks = write(4, 41, 8, &audio, 128);
    let bytes =
        [&video_chunks[0], &audio_chunks[0], &video_chunks[1], &audio_chunks[1], &video_chunks[2]]
            .map(|c| &c[..])
            .concat();
    let messages = read(&bytes).unwrap();
    assert_eq!((messages[0].kind, &messages[0].payload[..]), (8, &audio[..]));
    assert_eq!((messages[1].kind, &messages[1].payload[..]), (9, &video[..]));
}

#[test]
fn extended_timestamps_are_optional_on_continuation_chunks() {
    let body = payload(300, 3);
    let bytes = write(5, 0x0123_4567, 9, &body, 128).concat();
    let without: Vec<_> = write(5, 0x0123_4567, 9, &body, 128)
        .into_iter()
        .enumerate()
        .flat_map(|(n, chunk)| if n == 0 { chunk } else { [&chunk[..1], &chunk[5..]].concat() })
        .collect();
    for bytes in [bytes, without] {
        let messages = read(&[&bytes[..], &hex!("85 000014 07")].concat());
        let messages = messages.unwrap();
        assert_eq!(messages[0].timestamp, 0x0123_4567);
        assert_eq!(messages[0].payload, body);
    }
    // A delta may be extended too, even if that is not necessary.
    let bytes =
        [&header(3, 1000, 1, 8)[..], &hex!("aa 83 ffffff 00000014 bb c3 00000014 cc")].concat();
    let stamps: Vec<_> = read(&bytes).unwrap().iter().map(|m| m.timestamp).collect();
    assert_eq!(stamps, [1000, 1020, 1040]);
}

#[test]
fn a_header_repeated_within_its_message_continues_it_and_another_is_refused() {
    let body = payload(200, 4);
    let first = [&header(3, 7, 200, 20)[..], &body[..128]].concat();
    let repeated = [&first[..], &header(3, 7, 200, 20), &body[128..]].concat();
    assert_eq!(read(&repeated).unwrap()[0].payload, body);
    let shorter = [&first[..], &hex!("43 000000 000010 14 00")].concat();
    assert!(matches!(
        read(&shorter),
        Err(Error::MessageInterrupted { csid: 3, len: 200, got: 128, other: 16 })
    ));
}

#[test]
fn an_abort_drops_the_unfinished_message_and_an_aggregate_is_split() {
    let unfinished = [&header(5, 0, 4000, 9)[..], &[1; 128]].concat();
    let abort = [&header(2, 0, 4, ABORT)[..], &5u32.to_be_bytes()].concat();
    let next = write(5, 9, 9, &[7; 10], 128).concat();
    let mut reader = Reader::new(PUBLISHING);
    let messages = read_all(&mut reader, &[unfinished, abort, next].concat()).unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!((&messages[0].payload[..], reader.held), (&[7; 10][..], 0));

    let aggregate = hex!(
        "08 000001 0003e8 00 000000 aa 0000000c" // audio, 1 byte, 1000 ms, back pointer
        "09 000002 0003fc 00 000000 bbcc"        // video, 2 bytes, 1020 ms, no back pointer
    );
    let messages = read(&write(4, 50, AGGREGATE, &aggregate, 128).concat()).unwrap();
    let seen: Vec<_> =
        messages.iter().map(|m| (m.timestamp, m.kind, m.stream_id, &m.payload[..])).collect();
    assert_eq!(seen, [(50, 8, 1, &[0xaa][..]), (70, 9, 1, &[0xbb, 0xcc])]);
    let cut = write(4, 50, AGGREGATE, &aggregate[..20], 128).concat();
    assert!(matches!(read(&cut), Err(Error::Truncated { kind: AGGREGATE, .. })));
}

#[test]
fn a_small_frame_of_an_aggregate_does_not_hold_the_aggregate() {
    let junk = [&hex!("00 010000 000000 00 000000")[..], &[0; 65_536], &[0; 4]].concat();
    let aggregate = [&hex!("08 000001 000000 00 000000 aa 0000000c")[..], &junk].concat();
    let bytes = write(4, 50, AGGREGATE, &aggregate, 128).concat();
    let mut reader = Reader::new(PUBLISHING);
    let mut rest = &bytes[..];
    let message = reader.read(&mut rest).unwrap().unwrap();
    assert!(rest.is_empty() && reader.has_message());
    assert!(message.payload.is_unique(), "it shares no allocation");
    assert!(reader.read(&mut rest).unwrap().is_some());
    assert!(reader.read(&mut rest).unwrap().is_none());
    assert!(!reader.has_message());
}

#[test]
fn chunk_sizes_up_to_31_bits_are_accepted_without_allocation() {
    for size in [1, (1 << 20) + 1, 10_000_000, 0x0800_0000, 0x7fff_ffff] {
        let message = [7; 50_000];
        let mut bytes = set_chunk_size(size);
        bytes.extend(write(5, 9, 9, &message, size as usize).concat());
        let messages = read(&bytes).unwrap();
        assert_eq!(messages[0].payload[..], message, "{size}");
        // A message that declares 8 MiB and sends little holds little.
        let mut reader = Reader::new(PUBLISHING);
        let open = [&header(5, 0, 8 << 20, 9)[..], &[7; 1_000]].concat();
        let bytes = [&set_chunk_size(size.max(10_000))[..], &open].concat();
        assert!(read_all(&mut reader, &bytes).unwrap().is_empty());
        assert!(reader.held <= 16 << 10, "{} for {size}", reader.held);
    }
}

#[test]
fn messages_and_chunks_over_a_limit_are_refused_with_the_numbers() {
    // 16 MiB is the largest length in 24 bits: "2 GiB" can occur only as a chunk size and in AMF0
    // lengths.
    let huge = header(3, 0, 0x00ff_ffff, 9);
    assert!(matches!(
        read(&huge),
        Err(Error::MessageTooLarge { csid: 3, len: 0x00ff_ffff, max: 8_388_608 })
    ));
    let mut setup = Reader::new(Limits::SETUP);
    assert!(matches!(
        read_all(&mut setup, &header(3, 0, 65_537, 20)),
        Err(Error::MessageTooLarge { .. })
    ));
    for size in [0, 0x8000_0000, 0xffff_ffff] {
        assert!(matches!(read(&set_chunk_size(size)), Err(Error::BadChunkSize { .. })), "{size}");
    }
    let streams: Vec<u8> = (0..65u8)
        .flat_map(|id| [&[0, id][..], &hex!("000000 000000 08 01000000")].concat())
        .collect();
    assert!(matches!(read(&streams), Err(Error::TooManyChunkStreams { max: 64 })));
    for format in [0x80, 0xc0] {
        assert!(matches!(
            read(&[format | 3, 0, 0, 0, 0, 0, 0, 0]),
            Err(Error::NoHeaderBefore { csid: 3, .. })
        ));
    }
    assert!(matches!(
        read(&[&header(2, 0, 2, ABORT)[..], &[0, 0]].concat()),
        Err(Error::Truncated { kind: ABORT, len: 2 })
    ));
}

#[test]
fn a_declared_length_allocates_nothing_and_unfinished_messages_are_bounded() {
    let mut reader = Reader::new(PUBLISHING);
    let mut input = &[&header(5, 0, 8 << 20, 9)[..], &[0; 1]].concat()[..];
    assert!(reader.read(&mut input).unwrap().is_none());
    assert_eq!(reader.held, FIRST_ALLOCATION);

    // A peer that has sent one message of 8 MiB may not open three more.
    let mut reader = Reader::new(PUBLISHING);
    read_all(&mut reader, &set_chunk_size(1 << 20)).unwrap();
    let whole = write(5, 0, 9, &vec![0; 8 << 20], 1 << 20).concat();
    assert_eq!(read_all(&mut reader, &whole).unwrap().len(), 1);
    let open = |csid| [&header(csid, 0, 8 << 20, 9)[..], &vec![0; 1 << 20]].concat();
    assert!(read_all(&mut reader, &open(6)).is_ok());
    assert!(read_all(&mut reader, &open(7)).is_ok());
    assert!(matches!(
        read_all(&mut reader, &open(8)),
        Err(Error::TooMuchUnfinished { max: 0x0100_0000, .. })
    ));
}

#[test]
fn a_payload_fills_its_allocation_for_any_chunk_size() {
    for chunk in [128, 4096, 65_536] {
        let mut reader = Reader::new(PUBLISHING);
        let mut bytes = set_chunk_size(chunk);
        for len in [10_000, 400_000, 60_000, 300] {
            bytes.extend(write(5, 0, 9, &payload(len, 9), chunk as usize).concat());
        }
        for message in read_all(&mut reader, &bytes).unwrap() {
            let len = message.payload.len();
            // The only owner gets its vector back, with its capacity.
            assert_eq!(Vec::from(message.payload).capacity(), len, "chunks of {chunk}");
        }
        assert_eq!(reader.held, 0);
    }
}

#[test]
fn messages_without_a_body_are_delivered() {
    let messages = read(&[header(4, 3, 0, 8), header(4, 4, 0, 8)].concat()).unwrap();
    assert_eq!(
        messages.iter().map(|m| (m.timestamp, m.payload.len())).collect::<Vec<_>>(),
        [(3, 0), (4, 0)]
    );
}

/// Sequences of messages on a few chunk streams, with their chunks interleaved in any order.
fn interleaved() -> impl Strategy<Value = (Vec<u8>, usize)> {
    let message =
        (3u8..7, prop_oneof![0u32..100_000, Just(0x00ff_ffff), Just(u32::MAX)], 0usize..2_000);
    (
        prop::collection::vec(message, 1..12),
        1u32..700,
        prop::collection::vec(any::<prop::sample::Index>(), 200),
    )
        .prop_map(|(messages, chunk, order)| {
            let mut lanes: Vec<std::collections::VecDeque<Vec<u8>>> = vec![Default::default(); 4];
            let count = messages.len();
            for (n, (csid, timestamp, len)) in messages.into_iter().enumerate() {
                let chunks = match len {
                    0 => vec![header(csid, timestamp, 0, 9)],
                    len => write(csid, timestamp, 9, &payload(len, n), chunk as usize),
                };
                lanes[usize::from(csid - 3)].extend(chunks);
            }
            let mut bytes = set_chunk_size(chunk);
            for pick in order.iter().cycle() {
                let open: Vec<_> = (0..4).filter(|&lane| !lanes[lane].is_empty()).collect();
                if open.is_empty() {
                    break;
                }
                bytes.extend(lanes[open[pick.index(open.len())]].pop_front().unwrap());
            }
            (bytes, count)
        })
}

proptest! {
    #[test]
    fn a_byte_at_a_time_equals_all_at_once((bytes, count) in interleaved(), piece in 1usize..900) {
        let whole = read(&bytes).unwrap();
        prop_assert_eq!(whole.len(), count);
        prop_assert_eq!(&read_in_pieces(&bytes, 1).unwrap(), &whole);
        prop_assert_eq!(&read_in_pieces(&bytes, piece).unwrap(), &whole);
    }

    #[test]
    fn messages_serialized_by_rml_rtmp_are_read_unchanged(
        sizes in prop::collection::vec(
            (1usize..3_000, 0u32..0x7fff_ffff, prop::sample::select(vec![8u8, 9, 18, 20])),
            1..12,
        ),
        chunk in 1u32..5_000,
        full in any::<bool>(),
    ) {
        let mut serializer = ChunkSerializer::new();
        let mut bytes = serializer.set_max_chunk_size(chunk, RtmpTimestamp::new(0)).unwrap().bytes;
        let mut sent = Vec::new();
        let mut stamp = 0u32;
        for (n, (len, step, kind)) in sizes.into_iter().enumerate() {
            // Its delta headers do not support an extended delta, so these use small steps.
            stamp = if full { step } else { stamp + step % 10_000 };
            let data = Bytes::from(payload(len, n));
            let timestamp = RtmpTimestamp::new(stamp);
            let message =
                MessagePayload { timestamp, type_id: kind, message_stream_id: 1, data };
            bytes.extend(serializer.serialize(&message, full, false).unwrap().bytes);
            sent.push((stamp, kind, message.data));
        }
        let got = read(&bytes).unwrap().into_iter();
        let got: Vec<_> = got.map(|m| (m.timestamp, m.kind, m.payload)).collect();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_hold_more_than_its_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut reader = Reader::new(Limits::SETUP);
        let _ = read_all(&mut reader, &bytes);
        prop_assert!(reader.held <= 2 * Limits::SETUP.message_bytes as usize);
    }
}
