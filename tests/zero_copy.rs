//! No payload is copied between the RTMP message and the HTTP body: the bytes that a protocol is
//! given to write are in the memory into which the chunk reader gathered the message. The daemon's
//! path runs in this process, between a publisher's socket and the router's responses, under an
//! allocator that counts.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use benches::{
    Failure,
    counting::{self, Count, Counting},
    load::Load,
    path::{Path, WINDOW},
    stream::{BITRATE_BPS, Kind, Stream},
    wire::Wire,
};
use bytes::Bytes;
use media_core::{TrackIndex, broadcast::Event};
use tokio::sync::{Mutex, MutexGuard};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Length of FLV's header before an access unit of H.264.
const TAG_HEADER: usize = 5;

/// One test at a time, because the counts are those of the process.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

fn publish(path: &Path, stream: &Stream, length: Duration) -> JoinHandle<Result<(), Failure>> {
    let (rtmp, wire) = (path.rtmp, Arc::new(Wire::new(stream, 4_096)));
    thread::spawn(move || {
        let mut load = Load::publish(rtmp, ["copied"], wire)?;
        load.run(Instant::now() + length, |_| {})
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_sent_to_a_viewer_are_the_memory_of_the_received_message() {
    let _alone = alone().await;
    let stream = Stream::new(BITRATE_BPS);
    // All key frames have one length, and no other data have the length of their messages.
    let key = stream.tags.iter().find(|tag| tag.key && tag.kind == Kind::Video).unwrap();
    let message_len = key.body.len();
    let path = Path::start(WINDOW).unwrap();
    let mut events = path.hub.events();
    let publisher = publish(&path, &stream, Duration::from_secs(12));
    counting::watch(message_len);
    let live = path.live(&mut events).await;
    let mut hub = path.hub.broadcasts()[0].subscribe_from_oldest();

    let mut written: Vec<Bytes> = Vec::new();
    let parts = async |body: Vec<http_server::Data>| {
        // A part is one frame: `moof` and the header of `mdat` in a piece of their own, then the
        // access units.
        assert_eq!(body.len(), 1);
        written.extend(body[0].pieces().into_iter().skip(1));
        written.len() < 180
    };
    path.follow(&live, TrackIndex::new(0), parts).await;
    let seen = counting::seen();

    let mut published = Vec::new();
    while published.len() < written.len() {
        if let Some(Event::Frame { track: TrackIndex::FIRST, frame }) = hub.next().await {
            published.push(frame);
        }
    }
    let mut keys = 0;
    for (frame, piece) in published.iter().zip(&written) {
        assert_eq!((piece.as_ptr(), piece.len()), (frame.payload.as_ptr(), frame.payload.len()));
        if frame.key {
            assert_eq!(piece.len() + TAG_HEADER, message_len);
            let message = piece.as_ptr().addr() - TAG_HEADER;
            assert_eq!(seen.iter().filter(|&&at| at == message).count(), 1, "{seen:x?}");
            keys += 1;
        }
    }
    assert!(keys >= 3, "{keys} key frames");
    publisher.join().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_path_allocates_at_most_1_1_bytes_per_payload_byte() {
    let _alone = alone().await;
    let path = Path::start(WINDOW).unwrap();
    let mut events = path.hub.events();
    // The bit rate is so high that the runtime's own allocations are small in comparison; a copy of
    // any payload would show.
    let publisher = publish(&path, &Stream::new(8 * BITRATE_BPS), Duration::from_secs(10));
    let live = path.live(&mut events).await;
    let received =
        || -> u64 { path.hub.broadcasts()[0].tracks().iter().map(|track| track.bytes).sum() };
    let counted = async {
        // Buffers and lists have reached their sizes.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (before, payload_before) = (Count::now(), received());
        tokio::time::sleep(Duration::from_secs(5)).await;
        (Count::now().bytes - before.bytes, received() - payload_before)
    };
    let (allocated, payload) = tokio::select! {
        counted = counted => counted,
        _ = async {
            let video = path.follow_segments(&live, TrackIndex::new(0), async |_| true);
            let audio = path.follow_segments(&live, TrackIndex::new(1), async |_| true);
            tokio::join!(video, audio)
        } => {
            panic!("the broadcast ended")
        }
    };
    let ratio = allocated as f64 / payload as f64;
    assert!(payload > 8_000_000, "{payload} bytes came");
    assert!(ratio <= 1.1, "{allocated} bytes allocated for a payload of {payload}: {ratio:.3}");
    publisher.join().unwrap().unwrap();
}
