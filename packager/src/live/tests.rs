use std::time::SystemTime;

use bytes::Bytes;
use media_core::{
    AccessUnit, Timescale, TrackName,
    broadcast::{Limits, Presence},
    codec,
    hub::{self, Cause, Producer},
};

use super::*;
use crate::{
    Part,
    rendered::example::{Cut, Example, FIRST},
};

const LIMIT: Duration = Duration::from_secs(6);

const CONFIG: Config = Config {
    part: Duration::from_millis(200),
    window: Duration::from_secs(60),
    window_mb: 16,
};

/// A hub, and the publisher of AAC at 48 kHz on the channel `demo`.
fn hub_and_producer() -> (Hub, Producer) {
    let limits = Limits {
        bytes: 1 << 26,
        age: Duration::from_secs(600),
        segment: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };
    let hub = Hub::new(hub::Settings {
        broadcast: limits,
        reconnect: Duration::from_secs(10),
        max_channels: 1,
    });
    let config = codec::Config::Aac(codec::aac::Config::parse(&[0x11, 0x90]).unwrap());
    let claim = hub.claim("demo".parse().unwrap()).unwrap();
    let tracks = vec![(TrackName::source_audio(), config)];
    let producer = claim.start(tracks, Instant::now(), SystemTime::now()).unwrap();
    (hub, producer)
}

fn live() -> Arc<Live> {
    Arc::new(Live::new(hub_and_producer().1.broadcast()))
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
async fn a_track_that_appears_later_is_waited_for_like_any_other() {
    let live = live();
    assert!(live.publish(ladder(&["v0", "a0"], 1, 1).snapshot(), &[0, 1]));
    assert!(
        live.changed(2, FIRST, None, LIMIT).await.is_none(),
        "there is no such track yet"
    );
    assert!(live.changed(99, FIRST, None, LIMIT).await.is_none());
    live.publish(ladder(&["v0", "a0", "v360"], 1, 1).snapshot(), &[0, 1, 2]);
    let waiting = tokio::spawn({
        let live = Arc::clone(&live);
        async move { live.changed(2, FIRST + 1, Some(2), LIMIT).await }
    });
    tokio::task::yield_now().await;
    live.publish(ladder(&["v0", "a0", "v360"], 1, 3).snapshot(), &[2]);
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
                start: 0,
                duration: 18_000,
                independent: false,
                gap: bytes.is_empty(),
                bytes: Rope::from(Bytes::from_static(bytes)),
            })
        })
        .collect();
    example.snapshot()
}

#[tokio::test]
async fn a_segment_that_is_interrupted_is_followed_to_the_end_of_what_there_is() {
    let live = live();
    live.publish(with_parts(&[b"one "]), &[2]);
    let mut follow = live.follow(2, FIRST + 1);
    let mut next = async || std::future::poll_fn(|cx| follow.poll_next(cx)).await;
    assert_eq!(next().await.unwrap().unwrap().to_bytes()[..], *b"one ");
    live.publish(with_parts(&[b"one ", b"two ", b""]), &[2]);
    assert_eq!(next().await.unwrap().unwrap().to_bytes()[..], *b"two ");
    let waiting = tokio::time::timeout(Duration::from_millis(20), next());
    assert!(waiting.await.is_err(), "no bytes are no answer");
    let mut complete = with_parts(&[b"one ", b"two ", b"", b""]);
    let track = Arc::make_mut(&mut complete.tracks[2]);
    track
        .open
        .take()
        .into_iter()
        .for_each(|segment| track.segments.push(segment));
    live.publish(complete, &[2]);
    assert!(next().await.is_none());
}

#[tokio::test]
async fn a_panic_ends_the_broadcast_and_takes_its_playlist_away() {
    let (hub, producer) = hub_and_producer();
    let revoked = producer.revoked().unwrap();
    let packager = Packager::new(hub.clone(), CONFIG).unwrap();
    let (presentations, metrics) = (packager.presentations(), packager.metrics().clone());
    let broadcast = Arc::clone(producer.broadcast());
    let (keeper, _) = packager.list(Arc::clone(&broadcast), &CancellationToken::new());
    let live = Arc::clone(&keeper.listed.live);
    keeper.listed.publish(ladder(&["v0", "a0"], 1, 1).snapshot(), &[0, 1]);
    assert!(presentations.channel(broadcast.name()).is_some());
    let waiting = tokio::spawn({
        let live = Arc::clone(&live);
        async move { live.changed(0, FIRST + 1, Some(9), LIMIT).await.map(|last| last.ended) }
    });
    tokio::task::yield_now().await;
    keeper.run::<()>(async { panic!("on purpose") }).await;
    assert!(presentations.is_empty() && presentations.channel(broadcast.name()).is_none());
    assert_eq!(metrics.failures.get(), 1);
    assert_eq!(revoked.revoked().await, Cause::Failed(FAILED.into()));
    assert_eq!(broadcast.presence(), Presence::Ended);
    // Who waited is not left to wait.
    assert_eq!(waiting.await.unwrap(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_sends_more_than_may_be_held_reads_so() {
    let (hub, producer) = hub_and_producer();
    let revoked = producer.revoked().unwrap();
    let stop = CancellationToken::new();
    let packager = Packager::new(hub.clone(), CONFIG).unwrap();
    let presentations = packager.presentations();
    let serving = tokio::spawn(packager.serve(stop.clone()));
    let start = Instant::now();
    let mut n = 0;
    while !revoked.is_revoked() && n < 10_000 {
        let unit = AccessUnit {
            dts: n * 1_920,
            pts: n * 1_920,
            key: true,
            independent: true,
            arrived: start + Timescale::VIDEO.duration(n * 1_920),
            payload: vec![0; 64 << 10].into(),
        };
        let _ = producer.push(0, unit);
        n += 1;
        tokio::task::yield_now().await;
    }
    let Cause::Failed(words) = revoked.revoked().await else {
        panic!("an operator has not ended it");
    };
    assert!(words.contains("16 MiB") && words.contains("live.window_mb"), "{words}");
    let live = presentations.channel(&"demo".parse().unwrap()).unwrap();
    let last = live.current().unwrap();
    assert!(last.ended && !last.tracks[0].listed().is_empty());
    // It stays for players to read its end, and no longer.
    tokio::time::sleep(FULL_STAY + Duration::from_secs(1)).await;
    assert!(presentations.is_empty());
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn thousands_of_events_at_once_do_not_keep_others_from_running() {
    let (hub, producer) = hub_and_producer();
    let packager = Packager::new(
        hub.clone(),
        Config {
            window_mb: 512,
            ..CONFIG
        },
    )
    .unwrap();
    let broadcast = Arc::clone(producer.broadcast());
    let (keeper, before) = packager.list(Arc::clone(&broadcast), &CancellationToken::new());
    let (program, consumer) = packager.program(&broadcast, before.as_deref());
    let start = Instant::now();
    for n in 0..10_000 {
        let unit = AccessUnit {
            dts: n * 1_920,
            pts: n * 1_920,
            key: true,
            independent: true,
            arrived: start + Timescale::VIDEO.duration(n * 1_920),
            payload: Bytes::from_static(&[0; 100]),
        };
        producer.push(0, unit).unwrap();
    }
    producer.end();
    let turns = std::cell::Cell::new(0);
    let other = async {
        loop {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    let metrics = packager.metrics().clone();
    tokio::select! {
        biased;
        (_, packaged) = package(program, consumer, keeper.listed.clone(), metrics) => packaged.unwrap(),
        () = other => {}
    }
    assert!(turns.get() >= 10_000 / BATCH - 1, "{} turns", turns.get());
}
