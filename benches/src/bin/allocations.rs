//! Bytes allocated for each payload byte from an RTMP socket to the bodies of HTTP responses, and
//! memory held for each byte of media in a full window. The whole path runs in this process with a
//! counting allocator; the publisher's bytes are made in advance.
//!
//! Streams run at real time, because the hub does not read a publisher that runs ahead of the
//! clock. The count covers the path and the share that one reader of both tracks adds: no reader;
//! one that requests each segment as it opens (DASH); one that requests each part (HLS), without
//! and with its playlists.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use benches::{
    Failure,
    counting::{Count, Counting},
    load::Load,
    path::{Path, WINDOW, frames, get_as},
    stream::{BITRATE_BPS, Stream},
    wire::Wire,
};
use media_core::{Ticks, TrackIndex};
use packager::{Live, Presentation};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Time until buffers have their final sizes and the first segments are listed.
const WARM_UP: Duration = Duration::from_secs(8);
/// Duration of the count.
const COUNTED: Duration = Duration::from_secs(16);
/// The publisher sends this much longer than the count.
const MARGIN: Duration = Duration::from_secs(2);

fn main() -> Result<(), Failure> {
    let stream = Stream::new(BITRATE_BPS);
    println!("bytes allocated for each payload byte");
    for chunk_bytes in [128, 4_096, 65_536] {
        let wire = Arc::new(Wire::new(&stream, chunk_bytes));
        for (reader, name) in READERS {
            let flow = flow(&wire, reader)?;
            println!(
                "chunks of {chunk_bytes:>5}, {name}: {:.3} ({:.1} allocations a frame)",
                flow.ratio, flow.calls
            );
        }
    }
    held(&Arc::new(Wire::new(&stream, 4_096)))
}

/// The reader of the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// No requests: the cost of the parts themselves.
    Nobody,
    /// Each segment, requested when it opens.
    Segments,
    /// Each part, requested when it is complete.
    Parts,
    /// Each part, and the playlist that lists it.
    PartsAndPlaylists,
}

/// The readers and their names in the results.
const READERS: [(Reader, &str); 4] = [
    (Reader::Nobody, "to parts that nobody reads"),
    (Reader::Segments, "to a body for each segment, as it grows"),
    (Reader::Parts, "to a body for each part"),
    (Reader::PartsAndPlaylists, "with a playlist (gzip) for each part"),
];

/// The result of one run.
struct Flow {
    /// Bytes allocated for each payload byte.
    ratio: f64,
    /// Allocations for each frame.
    calls: f64,
}

/// One publisher, one reader.
///
/// # Errors
/// The broadcast ended early, or the publisher failed.
fn flow(wire: &Arc<Wire>, reader: Reader) -> Result<Flow, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let path = Path::start(WINDOW)?;
        let mut events = path.hub.events();
        let publisher = publish(&path, wire, WARM_UP + COUNTED + MARGIN);
        let live = path.live(&mut events).await;
        // Both counts are taken at the same moments, so the ratio concerns the same media.
        let counted = async {
            tokio::time::sleep(WARM_UP).await;
            let before = (Count::now(), sum(&path));
            tokio::time::sleep(COUNTED).await;
            (before, (Count::now(), sum(&path)))
        };
        let ((before, media_before), (after, media_after)) = tokio::select! {
            counted = counted => counted,
            () = read(&path, &live, reader) => return Err("the broadcast ended early".into()),
        };
        publisher.join().map_err(|_| "the publisher has failed")??;
        Ok(Flow {
            ratio: (after.bytes - before.bytes) as f64
                / (media_after.bytes - media_before.bytes) as f64,
            calls: (after.calls - before.calls) as f64
                / (media_after.frames - media_before.frames) as f64,
        })
    })
}

/// Memory when the window is full and segments are removed from it.
///
/// # Errors
/// Nothing was listed, or the publisher failed.
fn held(wire: &Arc<Wire>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let path = Path::start(WINDOW)?;
        let mut events = path.hub.events();
        // The tasks of the path make their first allocations before the count.
        tokio::task::yield_now().await;
        let before = Count::now();
        // Twice the window is held. Half a window more passes, so that segments are removed
        // already.
        let fill = WINDOW * 5 / 2;
        let publisher = publish(&path, wire, fill + MARGIN);
        let live = path.live(&mut events).await;
        tokio::time::sleep(fill).await;
        let (after, presentation) = (Count::now(), live.current().ok_or("nothing is listed")?);
        let held = after.held.saturating_sub(before.held);
        let media = media(&presentation);
        println!(
            "a full window of {} s: {:.1} MiB held, {:.1} MiB of media in segments of {:.0} s: \
             {:.3} times the media",
            WINDOW.as_secs(),
            mib(held),
            mib(media),
            seconds(&presentation),
            held as f64 / media as f64
        );
        publisher.join().map_err(|_| "the publisher has failed")?
    })
}

/// Publishes on a separate thread for this time. Its own allocations are few, because the messages
/// are made in advance.
fn publish(
    path: &Path,
    wire: &Arc<Wire>,
    lasts: Duration,
) -> thread::JoinHandle<Result<(), Failure>> {
    let (rtmp, wire) = (path.rtmp, Arc::clone(wire));
    thread::spawn(move || {
        let mut load = Load::publish(rtmp, ["counted"], wire)?;
        load.run(Instant::now() + lasts, |_| {})
    })
}

/// Reads both tracks until the broadcast ends.
async fn read(path: &Path, live: &Arc<Live>, reader: Reader) {
    // Both tracks are read at the same time, as by a player.
    let track = async |track: TrackIndex, name: &str| match reader {
        Reader::Nobody => std::future::pending().await,
        Reader::Segments => path.follow_segments(live, track, async |_| true).await,
        Reader::Parts => path.follow(live, track, async |_| true).await,
        Reader::PartsAndPlaylists => {
            let playlist = format!("/live/{}/{name}.m3u8", live.channel());
            let each = async |_| {
                frames(get_as(path.router(), &playlist, "gzip").await.into_body()).await;
                true
            };
            path.follow(live, track, each).await;
        }
    };
    tokio::join!(track(TrackIndex::new(0), "v0"), track(TrackIndex::new(1), "a0"));
}

/// Frames and payload bytes that the hub has accepted, of all tracks.
struct Sum {
    /// Number of frames.
    frames: u64,
    /// Bytes of their payloads.
    bytes: u64,
}

/// The media so far.
fn sum(path: &Path) -> Sum {
    let broadcasts = path.hub.broadcasts();
    let tracks = broadcasts.iter().flat_map(|broadcast| broadcast.tracks());
    let mut sum = Sum { frames: 0, bytes: 0 };
    for track in tracks {
        sum.frames += track.frames;
        sum.bytes += track.bytes;
    }
    sum
}

/// Bytes of all segments and parts held.
fn media(presentation: &Presentation) -> u64 {
    let segments =
        presentation.tracks.iter().flat_map(|track| track.segments.iter().chain(&track.open));
    segments.flat_map(|segment| &segment.parts).map(|part| part.bytes.len() as u64).sum()
}

/// Their duration in seconds of the first track.
fn seconds(presentation: &Presentation) -> f64 {
    let track = &presentation.tracks[0];
    let ticks: Ticks = track.segments.iter().map(|segment| segment.duration).sum();
    ticks.seconds(track.timescale())
}

/// Bytes in MiB.
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
