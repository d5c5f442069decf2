use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use media_core::{
    AccessUnit, BroadcastId, Hub, MediaSpan, TrackIndex, TrackName,
    broadcast::{Limits, Presence},
    codec,
    hub::{self, Cause, Producer},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    keeper::{FAILED, FULL_STAY},
    task::BATCH,
    *,
};
use crate::{
    Presentation,
    renderer::example::{Cut, Example, FIRST},
};

const CONFIG: Config =
    Config { part: Duration::from_millis(200), window: Duration::from_secs(60), window_mb: 16 };

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

/// A snapshot of one complete segment and an open one of a part, of video and audio.
fn snapshot() -> Presentation {
    let mut example = Example::of(&["v0", "a0"]);
    example.push(Cut::Media, 180_000);
    example.open_with(Cut::Media, 180_000, 1);
    example.snapshot()
}

#[test]
fn a_setting_out_of_its_range_is_refused_with_its_key_and_its_range() {
    assert_eq!(CONFIG.check(), Ok(()));
    let (part, window) = (Duration::from_millis(2_001), Duration::from_secs(5));
    let refusals = [
        Config { part, ..CONFIG },
        Config { window, ..CONFIG },
        Config { window_mb: 15, ..CONFIG },
    ]
    .map(|config| config.check().unwrap_err().to_string());
    assert_eq!(refusals[0], "live.part_ms is 2001, it must be 50 to 2000");
    assert_eq!(refusals[1], "live.window_s is 5, it must be 6 to 86400");
    assert_eq!(refusals[2], "live.window_mb is 15, it must be 16 to 1048576");
}

#[tokio::test]
async fn a_panic_ends_the_broadcast_and_removes_its_playlist() {
    let (hub, producer) = hub_and_producer();
    let revoked = producer.revoked().unwrap();
    let packager = Packager::new(hub.clone(), CONFIG).unwrap();
    let (presentations, metrics) = (packager.presentations(), packager.metrics().clone());
    let broadcast = Arc::clone(producer.broadcast());
    let (keeper, _) = packager.list(Arc::clone(&broadcast), &CancellationToken::new());
    let live = Arc::clone(&keeper.listed.live);
    keeper.listed.publish(snapshot(), &[TrackIndex::new(0), TrackIndex::new(1)]);
    assert!(presentations.channel(broadcast.name()).is_some());
    let waiting = tokio::spawn({
        let live = Arc::clone(&live);
        async move {
            live.changed(TrackIndex::new(0), FIRST + 1, Some(9), Duration::from_secs(6))
                .await
                .map(|last| last.ended)
        }
    });
    tokio::task::yield_now().await;
    keeper.run(async { panic!("on purpose") }).await;
    assert!(presentations.is_empty() && presentations.channel(broadcast.name()).is_none());
    assert_eq!(metrics.failures.get(), 1);
    assert_eq!(revoked.revoked().await, Cause::Failed(FAILED.into()));
    assert_eq!(broadcast.presence(), Presence::Ended);
    // The waiting request is woken.
    assert_eq!(waiting.await.unwrap(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_over_the_memory_limit_is_revoked_with_the_limit_in_the_reason() {
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
            dts: MediaSpan::from_ticks(n * 1_920),
            pts: MediaSpan::from_ticks(n * 1_920),
            key: true,
            independent: true,
            arrived: start + MediaSpan::from_ticks(n * 1_920).duration(),
            payload: vec![0; 64 << 10].into(),
        };
        let _ = producer.push(TrackIndex::new(0), unit);
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
async fn the_packager_yields_after_each_batch_of_events() {
    let (hub, producer) = hub_and_producer();
    let packager = Packager::new(hub.clone(), Config { window_mb: 512, ..CONFIG }).unwrap();
    let broadcast = Arc::clone(producer.broadcast());
    let (keeper, before) = packager.list(Arc::clone(&broadcast), &CancellationToken::new());
    let (program, consumer) = packager.program(&broadcast, before.as_deref());
    let start = Instant::now();
    for n in 0..10_000 {
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(n * 1_920),
            pts: MediaSpan::from_ticks(n * 1_920),
            key: true,
            independent: true,
            arrived: start + MediaSpan::from_ticks(n * 1_920).duration(),
            payload: Bytes::from_static(&[0; 100]),
        };
        producer.push(TrackIndex::new(0), unit).unwrap();
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
        (_, packaged) = package(program, consumer, keeper.listed.clone(), metrics) => {
            packaged.unwrap();
        }
        () = other => {}
    }
    assert!(turns.get() >= 10_000 / BATCH - 1, "{} turns", turns.get());
}

/// The producer's broadcast gets `mib` MiB of media from `start` on, in 2 s segments, and ends.
/// Returns its identity, and the next broadcast under the name, 10 s later.
async fn ended(producer: Producer, mib: usize, start: Instant) -> (BroadcastId, Producer) {
    let broadcast = Arc::clone(producer.broadcast());
    for n in 0..400 {
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(n * 1_920),
            pts: MediaSpan::from_ticks(n * 1_920),
            key: true,
            independent: true,
            arrived: start + MediaSpan::from_ticks(n * 1_920).duration(),
            payload: vec![0; (mib << 20) / 400].into(),
        };
        producer.push(TrackIndex::new(0), unit).unwrap();
        tokio::task::yield_now().await;
    }
    let claim = producer.end().unwrap();
    let config = codec::Config::Aac(codec::aac::Config::parse(&[0x11, 0x90]).unwrap());
    let tracks = vec![(TrackName::source_audio(), config)];
    let next = start + Duration::from_secs(10);
    let utc = SystemTime::now() + (next - Instant::now());
    (broadcast.id(), claim.start(tracks, next, utc).unwrap())
}

#[tokio::test(start_paused = true)]
async fn ended_broadcasts_of_a_channel_share_one_memory_limit() {
    let (hub, mut producer) = hub_and_producer();
    let stop = CancellationToken::new();
    let config = Config { window: Duration::from_secs(6), ..CONFIG };
    let packager = Packager::new(hub.clone(), config).unwrap();
    let (presentations, metrics) = (packager.presentations(), packager.metrics().clone());
    let serving = tokio::spawn(packager.serve(stop.clone()));
    let mut ids = Vec::new();
    let begun = Instant::now();
    for n in 0..8 {
        let (id, next) = ended(producer, 6, begun + n * Duration::from_secs(10)).await;
        ids.push(id);
        producer = next;
        time::sleep(Duration::from_secs(1)).await;
        assert!(metrics.window_bytes("source").get() <= 16 << 20);
    }
    let held: Vec<_> = ids.iter().map(|id| presentations.broadcast(*id).is_some()).collect();
    assert_eq!(held, [false, false, false, false, false, false, true, true]);
    // The newest is shown until the next has media.
    let name = "demo".parse().unwrap();
    assert_eq!(presentations.channel(&name).unwrap().broadcast(), ids[7]);
    time::sleep(config.window).await;
    assert!(ids.iter().all(|id| presentations.broadcast(*id).is_none()));
    assert!(presentations.has_no_stays());
    hub.close();
    stop.cancel();
    serving.await.unwrap();
}
