//! How long it takes from a frame that completes a part to the playlist that lists the part, over real sockets on loopback: publishers push
//! into the release daemon at real time, and one reader for each asks for the next part before it is there, as players do.
//!
//! `--publishers 20 --seconds 30`. The time is taken just before the frame is written to the publisher's socket, and when the last
//! byte of the playlist (gzip, keep-alive, blocking reload) has been read.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use benches::{
    Failure,
    http::Reader,
    load::Load,
    playlist::{Media, PartId},
    process::{Daemon, option},
    stream::{BITRATE_BPS, FPS, GROUP, Stream},
    wire::Wire,
};

/// From the first frame until parts count: each track needs a complete segment before anything is listed.
const WARM_UP: Duration = Duration::from_secs(6);
const CHUNK_BYTES: u32 = 4_096;

/// When each picture of one publisher was sent.
type Sent = Arc<Mutex<Vec<Instant>>>;

fn main() -> Result<(), Failure> {
    let publishers: usize = option("--publishers", 20)?;
    let seconds: u64 = option("--seconds", 30)?;
    let daemon = Daemon::start(None, &[])?;
    let names: Vec<String> = (0..publishers).map(|n| format!("latency-{n}")).collect();
    let wire = Arc::new(Wire::new(&Stream::new(BITRATE_BPS), CHUNK_BYTES));
    let mut load = Load::publish(daemon.rtmp, names.iter().map(String::as_str), wire)?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(seconds);
    let sent: Vec<Sent> = names.iter().map(|_| Sent::default()).collect();
    let readers: Vec<_> = names
        .into_iter()
        .zip(&sent)
        .map(|(name, sent)| {
            let (http, sent) = (daemon.http, Arc::clone(sent));
            thread::spawn(move || read(http, &name, &sent, begin, end))
        })
        .collect();
    // A little longer than the readers: their last part must come.
    load.run(end + Duration::from_secs(1), |picture| {
        let mut sent = sent[picture.publisher].lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(picture.sent);
    })?;
    let mut all = Vec::new();
    for reader in readers {
        all.extend(reader.join().map_err(|_| "a reader has failed")??);
    }
    all.sort_unstable();
    let at = |share: f64| -> f64 {
        let rank = (all.len() as f64 * share).ceil().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank within the row"
        )]
        let index = (rank as usize).min(all.len()) - 1;
        all.get(index).map_or(f64::NAN, Duration::as_secs_f64) * 1e3
    };
    if all.is_empty() {
        return Err("no part was listed".into());
    }
    let usage = daemon.server.usage()?;
    println!("{publishers} publishers, {seconds} s, {} parts listed", all.len());
    println!(
        "p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    println!(
        "daemon: {:.2} CPU s, {} MiB resident",
        usage.cpu_s(),
        usage.resident >> 20
    );
    Ok(())
}

/// Reads one channel's video playlist part by part; the latency of each part that was listed between `begin` and `end`.
fn read(http: SocketAddr, name: &str, sent: &Sent, begin: Instant, end: Instant) -> Result<Vec<Duration>, Failure> {
    thread::sleep(Duration::from_secs(1));
    let mut reader = Reader::connect(http)?;
    let path = format!("/live/{name}/v0.m3u8");
    let mut latencies = Vec::new();
    let (mut first_msn, mut seen, mut query) = (None, None, String::new());
    loop {
        let answer = reader.get(&format!("{path}{query}"))?;
        if first_msn.is_none() && matches!(answer.status, 404 | 503) {
            thread::sleep(Duration::from_millis(200));
            continue;
        }
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            return Err(format!("{path}{query}: {} {text}", answer.status).into());
        }
        let media = Media::parse(&text);
        // Nothing has left the list yet: its first segment began with the first picture.
        let first = *first_msn.get_or_insert(media.first_msn);
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, picture) in completions(&media, first) {
            if seen.is_some_and(|seen| id > seen) && answer.arrived >= begin {
                let sent = usize::try_from(picture).ok().and_then(|picture| sent.get(picture));
                let sent =
                    sent.ok_or_else(|| format!("{name}: part {id:?} was listed before picture {picture} was sent"))?;
                latencies.push(answer.arrived.saturating_duration_since(*sent));
            }
        }
        drop(sent);
        seen = media.parts.last().map(|(id, _)| *id).max(seen);
        if answer.arrived >= end {
            return Ok(latencies);
        }
        let hint = media.hint.ok_or("a live playlist without a hint")?;
        query = format!("?_HLS_msn={}&_HLS_part={}", hint.msn, hint.part);
    }
}

/// The parts of segments whose first part is listed, each with the picture that completes it: the first one after it.
fn completions(media: &Media, first_msn: u64) -> Vec<(PartId, u64)> {
    let (mut completions, mut segment, mut picture) = (Vec::new(), None, 0.0);
    for &(id, seconds) in &media.parts {
        if id.part == 0 {
            segment = Some(id.msn);
            picture = ((id.msn - first_msn) * GROUP) as f64;
        }
        if segment == Some(id.msn) {
            picture += seconds * FPS as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
            completions.push((id, picture.round() as u64));
        }
    }
    completions
}
