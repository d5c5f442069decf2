use std::{
    pin::Pin,
    sync::Weak,
    task::{Context, Waker},
};

use bytes::Bytes;
use media_core::{AccessUnit, TrackIndex, codec};

use super::*;
use crate::{
    Metrics, Pictures,
    ladder::{
        capacity::Capacity,
        config::Config,
        statuses::Statuses,
        testing::{LOG_BYTES, audio_only, unit, video},
        workers::Workers,
    },
    protocol::{Encoder, Tuning},
};

/// Ladders with a rung of `height` lines, on a machine that encodes `macroblocks_per_s`.
fn shared(height: u32, macroblocks_per_s: f64) -> Shared {
    let config = Config {
        rungs: vec![Rung { height, video_kbps: 300 }],
        audio_kbps: 0,
        encoder: None,
        preset: "veryfast".into(),
        tuning: Tuning::Latency,
        cpu_percent: 80,
        shedding: true,
        memory_bytes: 1 << 30,
        nice: 10,
    };
    Shared {
        config,
        program: "/bin/false".into(),
        encoder: Encoder::X264,
        capacity: Capacity::new(macroblocks_per_s, 1.0),
        pictures: Pictures::new("/bin/false".into(), Duration::from_secs(5), 10),
        status: Statuses::default(),
        workers: Workers::default(),
        metrics: Metrics::default(),
    }
}

/// A payload whose memory is observed.
struct Observed(Arc<[u8; 4]>);

impl AsRef<[u8]> for Observed {
    fn as_ref(&self) -> &[u8] {
        &*self.0
    }
}

fn observed() -> (Bytes, Weak<[u8; 4]>) {
    let memory = Arc::new(*b"unit");
    let observer = Arc::downgrade(&memory);
    (Bytes::from_owner(Observed(memory)), observer)
}

/// Lets the ladder run until it waits.
#[track_caller]
fn run_until_it_waits(ladder: Pin<&mut impl Future<Output = Result<Infallible, Over>>>) {
    assert!(ladder.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// A ladder with a rung of `height` lines that reads its source while the camera is switched on,
/// and then waits, holds no frame that has left the hub's log.
async fn waits_without_frames(height: u32, macroblocks_per_s: f64) {
    let producer = audio_only();
    let (shared, stop) = (shared(height, macroblocks_per_s), CancellationToken::new());
    let environment = Environment { shared: &shared, broadcast: producer.broadcast(), stop: &stop };
    let mut ladder = pin!(environment.climb());
    producer.push(TrackIndex::FIRST, unit(0, true)).unwrap();
    run_until_it_waits(ladder.as_mut());
    let config = codec::Config::Avc(video());
    let track = producer.add(TrackName::source_video(), config).unwrap();
    let (payload, observer) = observed();
    producer.push(track, AccessUnit { payload, ..unit(1_920, true) }).unwrap();
    run_until_it_waits(ladder.as_mut());
    assert!(observer.upgrade().is_some(), "the log has the frame");
    let large = vec![0; LOG_BYTES].into();
    producer.push(track, AccessUnit { payload: large, ..unit(4_920, false) }).unwrap();
    assert!(observer.upgrade().is_none(), "the ladder still has a frame that the log dropped");
}

#[tokio::test]
async fn a_ladder_without_a_rung_holds_no_frames_while_it_waits_for_another_source() {
    waits_without_frames(360, 1e6).await;
}

#[tokio::test]
async fn a_ladder_that_was_refused_holds_no_frames_while_it_waits_for_capacity() {
    waits_without_frames(144, 1.0).await;
}
