//! The time from a frame that completes a part to the playlist that lists the part, over real
//! sockets on loopback: publishers send to the release daemon in real time, and one reader for each
//! requests the next part in advance, as players do.
//!
//! `--publishers 20 --seconds 30`; with `--ladders 2` once more beside as many sources of 1080p
//! with ladders, which use all cores (needs ffmpeg; the publishers' own pictures are too small for
//! a ladder); with `--edits 2000` once more beside as many durable edits a second of the platform's
//! channels, on a disk under the directory for temporary files; with `--bad 120` once more for 120
//! s beside publishers that violate the rules of time and configuration, all at once. The time is
//! measured from just before the write of the frame to the publisher's socket until the last byte
//! of the playlist (gzip, keep-alive, blocking reload) has been read.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use benches::{
    Failure,
    bad::Crowd,
    http::Reader,
    load::Load,
    playlist::{Media, PartId},
    process::{Daemon, option},
    site::Site,
    stream::{BITRATE_BPS, FPS, GROUP, Stream},
    wire::Wire,
};

/// Time from the first frame until parts count, because each track needs a complete segment before
/// anything is listed.
const WARM_UP: Duration = Duration::from_secs(6);
/// Time until ladders run at their full rate.
const LADDER_WARM_UP: Duration = Duration::from_secs(10);
/// Chunk size of the publishers.
const CHUNK_BYTES: u32 = 4_096;

/// Send time of each picture of one publisher.
type Sent = Arc<Mutex<Vec<Instant>>>;

fn main() -> Result<(), Failure> {
    let publishers: usize = option("--publishers", 20)?;
    let seconds: u64 = option("--seconds", 30)?;
    let ladders: usize = option("--ladders", 0)?;
    let bad: u64 = option("--bad", 0)?;
    // All rungs are made and none is stopped, so that encoders use the whole machine.
    let greedy =
        [("STREAMFORGE_LADDER_CPU_PERCENT", "1000"), ("STREAMFORGE_LADDER_SHEDDING", "false")];
    let edits: u32 = option("--edits", 0)?;
    if edits > 0 {
        return beside_edits(publishers, seconds, edits);
    }
    let mut daemon = Daemon::start(None, if ladders > 0 { &greedy } else { &[] })?;
    println!("{publishers} publishers, {seconds} s");
    measure(&daemon, "alone", publishers, seconds)?;
    if ladders > 0 {
        let source = FullHd::source()?;
        let _sources: Vec<_> = (0..ladders)
            .map(|n| source.publish(daemon.rtmp, &format!("full-hd-{n}")))
            .collect::<Result<_, _>>()?;
        thread::sleep(LADDER_WARM_UP);
        let before = daemon.server.usage()?;
        let started = Instant::now();
        measure(&daemon, "with ladders", publishers, seconds)?;
        let spent = daemon.server.usage()?.cpu_s() - before.cpu_s();
        let cores = spent / started.elapsed().as_secs_f64();
        println!(
            "{ladders} sources of 1080p beside, each with its ladder: the daemon and its workers \
             took {cores:.2} cores"
        );
    }
    if bad > 0 {
        beside_bad(&mut daemon, publishers, bad)?;
    }
    Ok(())
}

/// The measurement of a daemon with the platform, alone and beside `rate` edits a second.
fn beside_edits(publishers: usize, seconds: u64, rate: u32) -> Result<(), Failure> {
    let site = Site::start(None, 1_000)?;
    println!(
        "{publishers} publishers, {seconds} s, the platform with {} channels",
        site.channels.len()
    );
    measure(&site.daemon, "alone", publishers, seconds)?;
    let length = WARM_UP + Duration::from_secs(seconds + 1);
    thread::scope(|scope| {
        let edits = scope.spawn(|| site.edit(rate, Instant::now() + length));
        measure(&site.daemon, "beside edits", publishers, seconds)?;
        let edits = edits.join().map_err(|_| "the editors have failed")??;
        let rate = edits.done as f64 / edits.lasted.as_secs_f64();
        let p99 = edits.times.get(edits.times.len() * 99 / 100).ok_or("no edits")?;
        println!("{rate:.0} durable edits a second, p99 {:.1} ms", p99.as_secs_f64() * 1e3);
        Ok(())
    })
}

/// The same measurement beside bad publishers. Also prints the maximum delay of `/healthz`, the
/// growth of memory, and the duration of SIGTERM.
fn beside_bad(daemon: &mut Daemon, publishers: usize, seconds: u64) -> Result<(), Failure> {
    let before = daemon.server.usage()?.resident;
    let stop = Arc::new(AtomicBool::new(false));
    let health = {
        let (admin, stop) = (daemon.admin, Arc::clone(&stop));
        thread::spawn(move || slowest_health(admin, &stop))
    };
    // They begin before the measured publishers connect, so that these meet a server under load.
    let crowd = Crowd::publish(daemon.rtmp);
    measure(daemon, "beside bad publishers", publishers, seconds)?;
    stop.store(true, Ordering::Relaxed);
    let slowest = health.join().map_err(|_| "the reader of /healthz has failed")??;
    let after = daemon.server.usage()?.resident;
    // The bad publishers are still sending.
    let ended = daemon.server.terminate(Duration::from_secs(60))?;
    println!(
        "bad publishers sent {} MiB: resident memory {} to {} MiB, /healthz within {:.1} ms, \
         SIGTERM obeyed in {:.2} s",
        crowd.sent() >> 20,
        before >> 20,
        after >> 20,
        slowest.as_secs_f64() * 1e3,
        ended.as_secs_f64()
    );
    Ok(())
}

/// Requests `/healthz` twenty times a second. Returns the longest response time.
fn slowest_health(admin: SocketAddr, stop: &AtomicBool) -> Result<Duration, Failure> {
    let mut reader = Reader::connect(admin)?;
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = reader.get("/healthz")?;
        slowest = slowest.max(answer.arrived.saturating_duration_since(asked));
        thread::sleep(Duration::from_millis(50));
    }
    Ok(slowest)
}

/// Publishes, reads, and prints the latencies of parts.
///
/// # Errors
/// A publisher or a reader failed, or no part was listed.
fn measure(daemon: &Daemon, what: &str, publishers: usize, seconds: u64) -> Result<(), Failure> {
    let names: Vec<String> =
        (0..publishers).map(|n| format!("{}-{n}", what.replace(' ', "-"))).collect();
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
    // A little longer than the readers, so that their last part is completed.
    load.run(end + Duration::from_secs(1), |picture| {
        let mut sent = sent[picture.publisher].lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(picture.sent);
    })?;
    let mut all = Vec::new();
    for reader in readers {
        all.extend(reader.join().map_err(|_| "a reader has failed")??);
    }
    all.sort_unstable();
    // Nearest rank: the smallest value that is at least as large as `share` of all.
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
    println!(
        "{what}: {} parts  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.2} ms  (so far {:.2} \
         CPU s, {} MiB resident)",
        all.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        usage.cpu_s(),
        usage.resident >> 20
    );
    Ok(())
}

/// A real source of 1080p at 30 frames a second, made once: 10 s of moving pictures with a key
/// frame every 2 s.
struct FullHd(PathBuf);

/// A publisher that ends with its owner.
struct Publishing(Child);

impl FullHd {
    /// The file, made by ffmpeg if it does not exist.
    fn source() -> Result<Self, Failure> {
        let file = std::env::temp_dir().join("streamforge-bench-1080p30.flv");
        if !file.exists() {
            let part = file.with_extension("part");
            let mut command = Command::new("ffmpeg");
            command.args([
                "-v",
                "error",
                "-y",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=s=1920x1080:r=30:d=10",
            ]);
            // Noise makes the pictures as difficult to encode as those of a camera.
            command.args(["-vf", "noise=alls=12:allf=t,format=yuv420p"]);
            command.args([
                "-c:v",
                "libx264",
                "-preset",
                "superfast",
                "-b:v",
                "6M",
                "-maxrate",
                "6M",
                "-bufsize",
                "6M",
            ]);
            command.args(["-g", "60", "-sc_threshold", "0", "-f", "flv"]).arg(&part);
            if !command.status()?.success() {
                return Err("ffmpeg makes no source".into());
            }
            std::fs::rename(part, &file)?;
        }
        Ok(Self(file))
    }

    /// Publishes it repeatedly in real time.
    fn publish(&self, rtmp: SocketAddr, key: &str) -> Result<Publishing, Failure> {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(&self.0);
        command.args(["-c", "copy", "-f", "flv"]).arg(format!("rtmp://{rtmp}/live/{key}"));
        Ok(Publishing(command.stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads one channel's video playlist part by part. Returns the latency of each part that was
/// listed between `begin` and `end`.
///
/// # Errors
/// A response is not 200, or a part was listed before its last picture was sent.
fn read(
    http: SocketAddr,
    name: &str,
    sent: &Sent,
    begin: Instant,
    end: Instant,
) -> Result<Vec<Duration>, Failure> {
    // The publisher needs a moment before its channel exists.
    thread::sleep(Duration::from_secs(1));
    let mut reader = Reader::connect(http)?;
    let path = format!("/live/{name}/v0.m3u8");
    let mut latencies = Vec::new();
    let (mut first_msn, mut seen, mut query) = (None, None, String::new());
    loop {
        let answer = reader.get(&format!("{path}{query}"))?;
        // The channel does not exist yet, or nothing of it is listed.
        if first_msn.is_none() && matches!(answer.status, 404 | 503) {
            thread::sleep(Duration::from_millis(200));
            continue;
        }
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            return Err(format!("{path}{query}: {} {text}", answer.status).into());
        }
        let media = Media::parse(&text);
        // Nothing has been removed from the list yet: its first segment began with the first
        // picture.
        let first = *first_msn.get_or_insert(media.first_msn);
        // Locked for the whole playlist: the publisher's thread only appends to it, and reports
        // pictures before it sends them.
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, picture) in completions(&media, first) {
            // The first playlist lists parts that were complete before the request.
            if seen.is_some_and(|seen| id > seen) && answer.arrived >= begin {
                let sent = usize::try_from(picture).ok().and_then(|picture| sent.get(picture));
                let sent = sent.ok_or_else(|| {
                    format!("{name}: part {id:?} was listed before picture {picture} was sent")
                })?;
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

/// The parts of segments whose first part is listed, each with the picture that completes it: the
/// first one after the part.
fn completions(media: &Media, first_msn: u64) -> Vec<(PartId, u64)> {
    let (mut completions, mut segment, mut picture) = (Vec::new(), None, 0.0);
    for &(id, seconds) in &media.parts {
        // Each segment is a group, because the publisher's groups have the segment's duration.
        if id.part == 0 {
            segment = Some(id.msn);
            picture = ((id.msn - first_msn) * GROUP) as f64;
        }
        if segment == Some(id.msn) {
            picture += seconds * FPS as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small count"
            )]
            completions.push((id, picture.round() as u64));
        }
    }
    completions
}
