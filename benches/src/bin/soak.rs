//! Stability of the daemon over hours: publishers connect, break off, reconnect and leave; players
//! of low-latency HLS and of DASH join and leave over HTTP/1.1, TLS, HTTP/2 and HTTP/3, some with a
//! change of port. Resident memory and descriptors are sampled every 10 s.
//!
//! `--minutes 60 --settle-minutes 10 --publishers 20 --players 200 --kbps 400 --csv soak.csv`. The
//! verdict: the growth of memory from the first minutes to the end, between samples with as many
//! live publishers; remaining descriptors after all have left; faults of players. The exit status
//! is 1 if any of these fails.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use benches::{
    Failure,
    certificate::Certificate,
    client,
    player::{
        Fault, Tally,
        client::{Client, Origin, Protocol},
        dash, hls,
    },
    process::{Daemon, option},
    scratch::Scratch,
    stream::{Noise, PERIOD, Stream},
    wire::Wire,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::{JoinSet, spawn_blocking},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Interval of samples.
const SAMPLE: Duration = Duration::from_secs(10);
/// Bits a second of the publishers' audio.
const AUDIO_BPS: u64 = 64_000;
/// Time after the start of a channel, or a return, in which players may find nothing.
const COMING: Duration = Duration::from_secs(12);
/// Wait of a player after a fault.
const AFTER_FAULT: Duration = Duration::from_secs(1);
/// Time after all have left: `http.idle_ms`, `live.reconnect_s`, and the end of tasks.
const GONE: Duration = Duration::from_secs(120);
/// The goal: maximum growth of memory.
const GROWTH_PERCENT: f64 = 5.0;

/// A channel, and the time since when its publisher sends.
#[derive(Debug, Default)]
struct Slot(Mutex<Option<Instant>>);

impl Slot {
    /// Sets the time since when the publisher sends, or `None` when it has stopped.
    fn set(&self, live: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// The time since when it sends.
    fn live(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has been live without interruption from `moment` on, and for [`COMING`] before.
    fn steady_since(&self, moment: Instant) -> bool {
        self.live().is_some_and(|since| since + COMING <= moment)
    }
}

/// State shared by all tasks.
#[derive(Debug)]
struct Stage {
    /// The daemon's addresses and the counts of responses.
    origin: Arc<Origin>,
    /// The address for publishers.
    rtmp: SocketAddr,
    /// One for each publisher.
    slots: Vec<Slot>,
    /// The messages that all publishers send.
    wire: Wire,
    /// Players in a session.
    playing: AtomicUsize,
    /// Faults, and events that are expected when a publisher has left or just started.
    faults: Tally,
    /// See `faults`.
    expected: Tally,
    /// Sessions that ended without a fault, by kind.
    sessions: Tally,
}

/// One line of the CSV file.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Time since the start.
    at: Duration,
    /// Publishers that send.
    live: usize,
    /// Resident memory in bytes.
    resident: u64,
    /// Open descriptors.
    descriptors: usize,
}

fn main() -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

/// Starts the daemon and its clients, samples, stops the clients and judges.
async fn run() -> Result<ExitCode, Failure> {
    let minutes: f64 = option("--minutes", 60.0)?;
    let settle: f64 = option("--settle-minutes", 10.0)?;
    let publishers: usize = option("--publishers", 20)?;
    let players: usize = option("--players", 200)?;
    let kbps: u64 = option("--kbps", 400)?;
    let csv: PathBuf = option("--csv", "soak.csv".into())?;
    let length = Duration::from_secs_f64(minutes * 60.0);
    let directory = Scratch::new("soak")?;
    let certificate = Certificate::make(directory.path())?;
    let data = directory.path().display().to_string();
    let daemon = Daemon::start_tls(None, &certificate, &[("STREAMFORGE_DATA_DIR", &data)])?;
    let stage = Arc::new(Stage {
        origin: Arc::new(Origin {
            plain: daemon.http,
            tls: daemon.https.ok_or("no listener with TLS")?,
            certificate,
            answered: 0.into(),
            bytes: 0.into(),
            slow: Tally::default(),
        }),
        rtmp: daemon.rtmp,
        slots: (0..publishers).map(|_| Slot::default()).collect(),
        wire: Wire::new(&Stream::with_audio(kbps * 1000, AUDIO_BPS), 4_096),
        playing: 0.into(),
        faults: Tally::default(),
        expected: Tally::default(),
        sessions: Tally::default(),
    });
    // Descriptors are counted before any client, when the start is complete.
    sleep(Duration::from_secs(2)).await;
    let id = daemon.server.id();
    let before = descriptors(id)?;
    println!(
        "{minutes} min, {publishers} publishers of {kbps} kbit/s, {players} players; {} \
         descriptors before, {} MiB resident",
        before.len(),
        resident(id)? >> 20
    );
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for slot in 0..publishers {
        tasks.spawn(stop.clone().run_until_cancelled_owned(publish(Arc::clone(&stage), slot)));
    }
    for player in 0..players {
        tasks.spawn(stop.clone().run_until_cancelled_owned(play(Arc::clone(&stage), player)));
    }
    let samples = sample(&stage, id, length, &csv).await?;
    stop.cancel();
    // When the tasks have ended, all connections are closed, and only the daemon's own descriptors
    // should remain.
    while tasks.join_next().await.is_some() {}
    let left = wait_until_gone(id, before.len()).await?;
    let usage = daemon.server.usage()?;
    println!(
        "the daemon took {:.2} cores; {} responses, {} MB",
        usage.cpu_s() / length.as_secs_f64(),
        stage.origin.answered.load(Relaxed),
        stage.origin.bytes.load(Relaxed) / 1_000_000
    );
    Ok(verdict(&stage, &samples, Duration::from_secs_f64(settle * 60.0), &before, &left))
}

/// Publishes for some minutes, breaks off in one of several ways, and returns soon (the same
/// broadcast continues) or late (a new one).
async fn publish(stage: Arc<Stage>, slot: usize) {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15 ^ ((slot as u64 + 1) << 20));
    // Publishers start over 10 s, players over 20 s: not all at once.
    sleep(Duration::from_millis(noise.below(10_000))).await;
    loop {
        let (rtmp, name) = (stage.rtmp, channel(slot));
        let connected = spawn_blocking(move || client::publish(rtmp, &name)).await;
        let socket = match connected {
            Ok(Ok(socket)) => socket,
            Ok(Err(err)) => {
                // Its old connection may hold the name until the daemon detects the loss.
                stage.expected.add(&format!("publisher: {err}").replace(&channel(slot), "CHANNEL"));
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(_) => return,
        };
        stage.slots[slot].set(Some(Instant::now()));
        let length = Duration::from_secs(60 + noise.below(120));
        let sent = send(&stage.wire, socket, length, noise.below(2) == 0).await;
        stage.slots[slot].set(None);
        match sent {
            Ok(()) => stage.sessions.add("publisher"),
            Err(err) => stage.faults.add(&format!("publisher: {err}")),
        }
        // Shorter or longer than `live.reconnect_s`, which is 10 s.
        let away = if noise.below(2) == 0 { 3 } else { 15 };
        sleep(Duration::from_secs(away + noise.below(3))).await;
    }
}

/// Sends each message when it is due. `reset`: the connection is reset instead of closed.
///
/// # Errors
/// The daemon has closed the connection.
async fn send(
    wire: &Wire,
    socket: std::net::TcpStream,
    length: Duration,
    reset: bool,
) -> Result<(), Failure> {
    socket.set_nonblocking(true)?;
    // A linger time of 0 makes `close` send a reset (socket(7), SO_LINGER).
    if reset {
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    }
    let mut socket = TcpStream::from_std(socket)?;
    socket.write_all(&wire.preamble).await?;
    let (start, mut period) = (tokio::time::Instant::now(), Duration::ZERO);
    loop {
        for message in &wire.messages {
            let due = period + message.at;
            if due >= length {
                return Ok(());
            }
            sleep_until(start + due).await;
            socket.write_all(&wire.bytes[message.range.clone()]).await?;
        }
        period += PERIOD;
    }
}

/// Watches one channel after the other, each for a while.
async fn play(stage: Arc<Stage>, player: usize) {
    let mut noise = Noise(0x2545_f491_4f6c_dd1d ^ ((player as u64 + 1) << 24));
    let protocol = Protocol::ALL[player % Protocol::ALL.len()];
    // Each combination of protocol and format has about as many players.
    let (kind, low_latency) = match player / Protocol::ALL.len() % 2 {
        0 => ("LL-HLS", true),
        _ => ("DASH", false),
    };
    sleep(Duration::from_millis(noise.below(20_000))).await;
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "an index of a few slots")]
        let slot = noise.below(stage.slots.len() as u64) as usize;
        let begun = Instant::now();
        if !stage.slots[slot].steady_since(begun) {
            sleep(Duration::from_millis(200)).await;
            continue;
        }
        let length = Duration::from_secs(20 + noise.below(100));
        let migrates = noise.below(4) == 0;
        stage.playing.fetch_add(1, Relaxed);
        let name = channel(slot);
        let session = session(&stage.origin, protocol, low_latency, &name, length, migrates);
        // Most players leave in the middle of a request.
        let ended = timeout(length, session).await;
        stage.playing.fetch_sub(1, Relaxed);
        match ended {
            Ok(Ok(())) | Err(_) => stage.sessions.add(&format!("{}, {kind}", protocol.name())),
            Ok(Err(Fault(what))) => {
                // The publisher was live for the whole session, so it did not cause the fault.
                let tally = match stage.slots[slot].steady_since(begun) {
                    true => &stage.faults,
                    false => &stage.expected,
                };
                tally.add(&format!("{}, {kind}: {what}", protocol.name()));
                sleep(AFTER_FAULT).await;
            }
        }
        sleep(Duration::from_millis(200 + noise.below(3_000))).await;
    }
}

/// One player until the end of its broadcast. `migrates`: over HTTP/3 it changes its port in the
/// middle of `length`.
async fn session(
    origin: &Arc<Origin>,
    protocol: Protocol,
    low_latency: bool,
    channel: &str,
    length: Duration,
    migrates: bool,
) -> Result<(), Fault> {
    let client = Client::connect(origin, protocol).await?;
    // A clone of the client has the same endpoint, which changes its port for all of them.
    let other = match migrates && protocol == Protocol::H3 {
        true => Some(client.another().await?),
        false => None,
    };
    let moves = async {
        if let Some(other) = other {
            sleep(length / 2).await;
            other.migrate();
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = async {
            match low_latency {
                true => hls::watch(client, channel).await,
                false => dash::watch(client, channel).await,
            }
        } => ended,
        never = moves => never,
    }
}

/// The channel of a slot.
fn channel(slot: usize) -> String {
    format!("soak-{slot}")
}

/// Writes a line to the file at each [`SAMPLE`] until the end, and progress to stdout at times.
///
/// # Errors
/// The file cannot be written, or the daemon has ended.
async fn sample(
    stage: &Stage,
    id: u32,
    length: Duration,
    csv: &PathBuf,
) -> Result<Vec<Sample>, Failure> {
    let mut file = File::create(csv)?;
    writeln!(
        file,
        "seconds,live_publishers,playing,resident_bytes,descriptors,threads,responses,faults"
    )?;
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while begin.elapsed() < length {
        sleep(SAMPLE).await;
        let sample = Sample {
            at: begin.elapsed(),
            live: stage.slots.iter().filter(|slot| slot.live().is_some()).count(),
            resident: resident(id)?,
            descriptors: descriptors(id)?.len(),
        };
        let threads = fs::read_dir(format!("/proc/{id}/task"))?.count();
        writeln!(
            file,
            "{:.0},{},{},{},{},{threads},{},{}",
            sample.at.as_secs_f64(),
            sample.live,
            stage.playing.load(Relaxed),
            sample.resident,
            sample.descriptors,
            stage.origin.answered.load(Relaxed),
            stage.faults.sum(),
        )?;
        samples.push(sample);
        // Each minute.
        if samples.len() % 6 == 0 {
            println!(
                "{:.0} min: {} live, {} playing, {} MiB, {} descriptors, {} responses, {} faults",
                sample.at.as_secs_f64() / 60.0,
                sample.live,
                stage.playing.load(Relaxed),
                sample.resident >> 20,
                sample.descriptors,
                stage.origin.answered.load(Relaxed),
                stage.faults.sum(),
            );
        }
    }
    Ok(samples)
}

/// Waits until there are no more descriptors than before, at most [`GONE`]. Returns the remaining
/// ones.
async fn wait_until_gone(id: u32, before: usize) -> Result<Vec<String>, Failure> {
    let begin = Instant::now();
    loop {
        let left = descriptors(id)?;
        if left.len() <= before || begin.elapsed() > GONE {
            println!(
                "{} descriptors {:.0} s after all had gone",
                left.len(),
                begin.elapsed().as_secs_f64()
            );
            return Ok(left);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Prints the results and returns the exit status.
fn verdict(
    stage: &Stage,
    samples: &[Sample],
    settle: Duration,
    before: &[String],
    left: &[String],
) -> ExitCode {
    // The same span at the start and the end: ten minutes of an hour, otherwise a third of the
    // samples.
    let span = settle.min(samples.last().map_or(settle, |last| last.at.saturating_sub(settle)) / 3);
    let end = samples.last().map_or(settle, |last| last.at.saturating_sub(span));
    let early = samples.iter().filter(|sample| sample.at > settle && sample.at <= settle + span);
    let late = samples.iter().filter(|sample| sample.at > end);
    let (first, last) = (by_live(early), by_live(late));
    let (mut weighed, mut weight) = (0.0, 0.0);
    // Memory depends on the number of live broadcasts, so only samples with equally many are
    // compared. Numbers that occur more often weigh more.
    for (live, first) in &first {
        let Some(last) = last.get(live) else { continue };
        let (from, to) = (median(first), median(last));
        let growth = (to / from - 1.0) * 100.0;
        println!("{live} live: {:.1} MiB, later {:.1} MiB, {growth:+.1} %", mib(from), mib(to));
        let pairs = first.len().min(last.len()) as f64;
        (weighed, weight) = (weighed + growth * pairs, weight + pairs);
    }
    let growth = weighed / weight;
    let most = samples.iter().map(|sample| sample.descriptors).max().unwrap_or(0);
    println!("resident memory has grown by {growth:+.2} % (goal: below {GROWTH_PERCENT} %)");
    println!("descriptors: {} before, {most} at most, {} left", before.len(), left.len());
    // Compared by target: a socket that replaced another one is listed too, although the number is
    // unchanged.
    let more: Vec<_> = left.iter().filter(|what| !before.contains(what)).collect();
    for what in &more {
        println!("  left: {what}");
    }
    for (title, tally) in [
        ("sessions", &stage.sessions),
        ("with their publisher away or just come", &stage.expected),
        ("slower than 3 s", &stage.origin.slow),
        ("FAULTS", &stage.faults),
    ] {
        println!("{title}: {}", tally.sum());
        for (what, times) in tally.all() {
            println!("  {times} {what}");
        }
    }
    // A growth that is not a number, because no samples are comparable, fails too.
    let fine = growth < GROWTH_PERCENT
        && left.len() <= before.len()
        && samples.len() > 2
        && stage.faults.sum() == 0;
    println!("{}", if fine { "as it should be" } else { "NOT as it should be" });
    ExitCode::from(u8::from(!fine))
}

/// Resident memory by the number of live publishers.
fn by_live<'a>(samples: impl Iterator<Item = &'a Sample>) -> BTreeMap<usize, Vec<u64>> {
    let mut groups: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for sample in samples {
        groups.entry(sample.live).or_default().push(sample.resident);
    }
    groups
}

/// The median of the values; not a number without any.
fn median(values: &[u64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).map_or(f64::NAN, |value| *value as f64)
}

/// Bytes in MiB.
fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The target of each descriptor of the process, for example `socket:[1234]`.
///
/// # Errors
/// The process has ended.
fn descriptors(id: u32) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{id}/fd"))? {
        // One may be closed meanwhile.
        if let Ok(target) = fs::read_link(descriptor?.path()) {
            all.push(target.display().to_string());
        }
    }
    Ok(all)
}

/// The daemon's own memory, without its workers (proc(5): VmRSS).
fn resident(id: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.ok_or("no VmRSS")? << 10)
}
