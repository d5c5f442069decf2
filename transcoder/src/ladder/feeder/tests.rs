use std::pin::pin;

use bytes::{Buf, Bytes};
use tokio::{io::AsyncReadExt, net::UnixStream, task::yield_now};

use super::*;
use crate::{
    ladder::{
        source::Reading,
        testing::{self, RECORD, video_only},
    },
    protocol::{Encoder, LENGTH_BYTES, Tuning, parse_length},
};

/// More than a socket holds.
const LARGE_BYTES: usize = 4 << 20;

fn job() -> Job {
    Job {
        video: RECORD.to_vec(),
        audio: None,
        frame_rate: 30.0,
        renditions: Vec::new(),
        audio_rendition: None,
        encoder: Encoder::X264,
        preset: "veryfast".into(),
        tuning: Tuning::Latency,
        picture_ms: 0,
        picture_size: (640, 360),
        memory_bytes: 1 << 30,
        nice: 10,
    }
}

/// The orders to start and stop renditions that a worker reads until the end of its input.
async fn made(mut worker: UnixStream) -> Vec<(u8, bool)> {
    let mut bytes = Vec::new();
    worker.read_to_end(&mut bytes).await.unwrap();
    let (mut rest, mut made) = (Bytes::from(bytes), Vec::new());
    while !rest.is_empty() {
        let len = parse_length(rest[..LENGTH_BYTES].try_into().unwrap()).unwrap();
        rest.advance(LENGTH_BYTES);
        if let Order::Make { rendition, on } = Order::parse(rest.split_to(len)).unwrap() {
            made.push((rendition, on));
        }
    }
    made
}

#[tokio::test]
async fn a_worker_that_reads_late_gets_the_newest_list_of_renditions() {
    let producer = video_only();
    producer.push(TrackIndex::FIRST, testing::unit(0, true)).unwrap();
    let mut reading = Reading::begin(producer.broadcast()).unwrap();
    let first = reading.next_key().await.unwrap();
    let first = Frame { payload: vec![0; LARGE_BYTES].into(), ..first };
    let (worker, socket) = UnixStream::pair().unwrap();
    let progress = Mutex::new(Progress::new(&[1_000_000; 2]));
    let metrics = Metrics::default();
    let feeder = Feeder {
        orders: Orders::to(socket),
        progress: &progress,
        metrics: &metrics,
        video: reading.source.video.clone(),
        audio: None,
        waits_for_audio: false,
        made: vec![true; 2],
        making: Making::Wanted,
        leaving: Leaving::No,
    };
    let (wanted, changes) = watch::channel(Wanted { made: feeder.made.clone(), replan: false });
    let mut feeding = pin!(feeder.run(job(), first, &mut reading.consumer, changes));
    tokio::select! {
        biased;
        _ = &mut feeding => unreachable!("the socket has no room for the first picture"),
        () = yield_now() => {}
    }
    // Many changes, of which the last one decides.
    for on in [false, true].into_iter().cycle().take(99) {
        wanted.send_modify(|wanted| wanted.made = vec![on, !on]);
    }
    drop(producer.end());
    let (end, made) = tokio::join!(feeding, made(worker));
    assert_eq!(end.unwrap(), End::Over);
    assert_eq!(made, [(0, false)]);
}
