use std::time::SystemTime;

use bytes::Bytes;
use media_core::{Hub, Ticks, TrackName, broadcast::Limits, codec, hub};

use super::{cursor::Finished, *};
use crate::{
    Part,
    renderer::example::{Cut, Example, FIRST},
};

const LIMIT: Duration = Duration::from_secs(6);

fn live() -> Arc<Live> {
    let hub = Hub::new(hub::Settings {
        broadcast: Limits {
            bytes: 1 << 26,
            age: Duration::from_secs(600),
            segment: Duration::from_secs(2),
            stall: Duration::from_secs(2),
        },
        reconnect: Duration::from_secs(10),
        max_channels: 1,
    });
    let config = codec::Config::Aac(codec::aac::Config::parse(&[0x11, 0x90]).unwrap());
    let tracks = vec![(TrackName::source_audio(), config)];
    let claim = hub.claim("demo".parse().unwrap()).unwrap();
    let producer = claim.start(tracks, Instant::now(), SystemTime::now()).unwrap();
    Arc::new(Live::new(producer.broadcast()))
}

fn ladder(names: &[&str], segments: usize, parts: usize) -> Example {
    let mut example = Example::of(names);
    for _ in 0..segments {
        example.push(Cut::Media, 180_000);
    }
    example.open_with(Cut::Media, 180_000, parts);
    example
}

#[tokio::test]
async fn a_request_waits_for_a_part_of_a_track_that_was_added_later() {
    let live = live();
    assert!(live.publish(
        ladder(&["v0", "a0"], 1, 1).snapshot(),
        &[TrackIndex::new(0), TrackIndex::new(1)]
    ));
    assert!(
        live.changed(TrackIndex::new(2), FIRST, None, LIMIT).await.is_none(),
        "there is no such track yet"
    );
    assert!(live.changed(TrackIndex::new(99), FIRST, None, LIMIT).await.is_none());
    live.publish(
        ladder(&["v0", "a0", "v360"], 1, 1).snapshot(),
        &[TrackIndex::new(0), TrackIndex::new(1), TrackIndex::new(2)],
    );
    let waiting = tokio::spawn({
        let live = Arc::clone(&live);
        async move { live.changed(TrackIndex::new(2), FIRST + 1, Some(2), LIMIT).await }
    });
    tokio::task::yield_now().await;
    live.publish(ladder(&["v0", "a0", "v360"], 1, 3).snapshot(), &[TrackIndex::new(2)]);
    let found = waiting.await.unwrap().unwrap();
    assert!(found.tracks[2].has(FIRST + 1, Some(2)));
}

/// A snapshot whose only rendition has these parts in its open segment: bytes, or none for a gap.
fn with_parts(parts: &[&'static [u8]]) -> Presentation {
    let mut example = ladder(&["v0", "a0", "v360"], 1, 0);
    let open = example.track(2).open.as_mut().unwrap();
    let open = Arc::make_mut(open);
    open.parts = parts
        .iter()
        .map(|bytes| {
            Arc::new(Part {
                start: Ticks::ZERO,
                duration: Ticks::new(18_000),
                independent: false,
                gap: bytes.is_empty(),
                bytes: Rope::from(Bytes::from_static(bytes)),
            })
        })
        .collect();
    example.snapshot()
}

#[tokio::test]
async fn a_follower_of_an_interrupted_segment_ends_after_its_last_part() {
    let live = live();
    live.publish(with_parts(&[b"one "]), &[TrackIndex::new(2)]);
    let mut follow = live.follow(TrackIndex::new(2), FIRST + 1);
    let mut next = async || std::future::poll_fn(|cx| follow.poll_next(cx)).await;
    assert_eq!(next().await.unwrap().unwrap().to_bytes()[..], *b"one ");
    live.publish(with_parts(&[b"one ", b"two ", b""]), &[TrackIndex::new(2)]);
    assert_eq!(next().await.unwrap().unwrap().to_bytes()[..], *b"two ");
    let waiting = tokio::time::timeout(Duration::from_millis(20), next());
    assert!(waiting.await.is_err(), "no bytes are no answer");
    let mut complete = with_parts(&[b"one ", b"two ", b"", b""]);
    let track = Arc::make_mut(&mut complete.tracks[2]);
    track.open.take().into_iter().for_each(|segment| track.segments.push(segment));
    live.publish(complete, &[TrackIndex::new(2)]);
    assert!(next().await.is_none());
}

/// A snapshot that holds these segments of the source's video, and one more that is open.
fn holding(segments: std::ops::Range<usize>) -> Presentation {
    let mut example = ladder(&["v0", "a0"], segments.end, 1);
    let track = example.track(0);
    for _ in 0..segments.start {
        track.segments.pop_front();
    }
    example.snapshot()
}

/// The number of a segment, or those that were missed, counted from the first.
fn number(finished: Option<Finished>) -> Option<std::ops::RangeInclusive<u64>> {
    finished.map(|finished| match finished {
        Finished::Segment(segment) => segment.msn - FIRST..=segment.msn - FIRST,
        Finished::Missed(missed) => missed.start() - FIRST..=missed.end() - FIRST,
    })
}

#[tokio::test]
async fn a_cursor_yields_each_complete_segment_once_and_waits_for_the_next() {
    let live = live();
    let mut cursor = live.segments(TrackIndex::new(0), None);
    live.publish(holding(0..2), &[TrackIndex::new(0)]);
    assert_eq!(number(cursor.next().await), Some(0..=0));
    assert_eq!(number(cursor.next().await), Some(1..=1));
    let waiting = tokio::spawn(async move { (number(cursor.next().await), cursor) });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "an open segment is not complete");
    live.publish(holding(0..3), &[TrackIndex::new(0)]);
    let (third, mut cursor) = waiting.await.unwrap();
    assert_eq!((third, cursor.position()), (Some(2..=2), Some(FIRST + 3)));
    let mut example = ladder(&["v0", "a0"], 3, 1);
    example.push(Cut::Media, 180_000);
    live.publish(example.end(), &[TrackIndex::new(0)]);
    assert_eq!(number(cursor.next().await), Some(3..=3), "the last of the broadcast");
    assert!(cursor.next().await.is_none());
    assert!(
        live.segments(TrackIndex::new(7), None).next().await.is_none(),
        "there is no such track"
    );
}

#[tokio::test]
async fn a_cursor_reports_the_range_of_missed_segments_and_continues() {
    let live = live();
    live.publish(holding(0..2), &[TrackIndex::new(0)]);
    let mut cursor = live.segments(TrackIndex::new(0), Some(FIRST + 1));
    assert_eq!(number(cursor.next().await), Some(1..=1));
    live.publish(holding(4..6), &[TrackIndex::new(0)]);
    let rest = [cursor.next().await, cursor.next().await, cursor.next().await];
    assert_eq!(rest.map(number), [Some(2..=3), Some(4..=4), Some(5..=5)]);
    // One that begins with a number that has left names it too.
    let mut late = live.segments(TrackIndex::new(0), Some(FIRST));
    assert_eq!(number(late.next().await), Some(0..=3));
}

#[tokio::test]
async fn a_cursor_of_a_broadcast_that_ends_without_a_segment_ends() {
    let live = live();
    let mut cursor = live.segments(TrackIndex::new(0), None);
    let waiting = tokio::spawn(async move { cursor.next().await.is_none() });
    tokio::task::yield_now().await;
    live.close();
    assert!(waiting.await.unwrap());
}
