//! The cost of blocking playlist reloads when their part is complete: thousands of requests wait
//! for one part on one server core, and get their responses at once. Results are the CPU time for
//! each response, alone and together with reading and holding its request, and the time from the
//! first response to the last, over HTTP/1.1 (one request on a connection) and HTTP/2 (100 requests
//! on a connection); and beside them a bare epoll loop that holds as many connections and writes
//! the same bytes to all at a trigger.
//!
//! `--requests 10000 --rounds 10 --blocks 3 --only http1|http2|bare`. The daemon is as shipped, and
//! its publisher's parts are 200 ms apart. The requests are for a part that is some parts ahead, so
//! that all wait before it is complete; `ulimit -n` must allow a descriptor for each.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use benches::{
    Failure,
    fleet::{Fleet, Protocol},
    load::Load,
    playlist::{Media, PartId},
    process::{Daemon, Server, option, pin},
    raw,
    scratch::Scratch,
    stream::{BITRATE_BPS, Stream},
    wire::Wire,
};
use flate2::read::GzDecoder;

/// The core of the measured server.
const SERVER_CORE: usize = 0;
/// The core of this process, which holds the requests.
const LOAD_CORE: usize = 1;
/// The publisher's channel.
const CHANNEL: &str = "parked";
/// `live.part_ms`, and parts in the publisher's segments.
const PART: Duration = Duration::from_millis(200);
/// Parts in a segment of the publisher: 2 s.
const PARTS: u64 = 10;
/// Number of parts after the next one that the requests are for: `--ahead`. The daemon refuses
/// requests for more than 3 s ahead.
const AHEAD: u64 = 4;
/// HTTP/2 requests on each connection: `http.max_streams`.
const STREAMS: usize = 100;
/// Minimum time between the measurement of the waiting requests and the first response.
const SETTLED: Duration = Duration::from_millis(10);
/// Time limit of a response.
const WAIT: Duration = Duration::from_secs(10);
/// The bare loop's share of the goal: CPU time, and first to last.
const GOALS: (f64, f64) = (2.0, 1.5);

/// The measured server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The daemon over HTTP/1.1.
    Http1,
    /// The daemon over HTTP/2.
    Http2,
    /// The bare loop over HTTP/1.1.
    Bare,
}

/// The subjects, their names for `--only`, and those in the results. The bare loop is first,
/// because the others are compared with it.
const SUBJECTS: [(Subject, &str, &str); 3] = [
    (Subject::Bare, "bare", "bare epoll loop"),
    (Subject::Http1, "http1", "streamforge, HTTP/1.1"),
    (Subject::Http2, "http2", "streamforge, HTTP/2"),
];

/// One round.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// CPU seconds of the server for each request: until all wait, and for the responses.
    park_s: f64,
    /// See `park_s`.
    answer_s: f64,
    /// From the first response to the last.
    spread: Duration,
}

fn main() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "--bare") {
        let answer = fs::read(option("--bare", PathBuf::new())?)?;
        return raw::park(&answer, |address| {
            println!("{address}");
            let _ = std::io::stdout().flush();
        });
    }
    let requests: usize = option("--requests", 10_000)?;
    let rounds: usize = option("--rounds", 10)?;
    let blocks: usize = option("--blocks", 3)?;
    let only: String = option("--only", String::new())?;
    pin(LOAD_CORE)?;
    let directory = Scratch::new("parked")?;
    // A sixteenth of the connections is reserved for addresses that have none.
    let daemon =
        Daemon::start(Some(SERVER_CORE), &[("STREAMFORGE_HTTP_MAX_CONNECTIONS", "12000")])?;
    let publisher = Publisher::start(daemon.rtmp)?;
    // Some segments must be complete before the playlist is listed.
    thread::sleep(Duration::from_secs(6));
    let answer = one_answer(daemon.http)?;
    let file = directory.path().join("answer");
    fs::write(&file, &answer)?;
    println!(
        "{requests} requests wait for a part; {blocks} times {rounds} rounds; an answer has {} \
         bytes",
        answer.len()
    );
    let mut all: Vec<Vec<Round>> = vec![Vec::new(); SUBJECTS.len()];
    for block in 1..=blocks {
        // Blocks of rounds alternate, so that a change of the machine's speed affects all subjects.
        for (index, &(subject, flag, name)) in SUBJECTS.iter().enumerate() {
            if !only.is_empty() && only != flag {
                continue;
            }
            let done = match subject {
                Subject::Bare => bare(&file, requests, rounds)?,
                Subject::Http1 => ours(&daemon, Protocol::Http1, requests, rounds)?,
                Subject::Http2 => {
                    ours(&daemon, Protocol::Http2 { streams: STREAMS }, requests, rounds)?
                }
            };
            let [cpu, spread, whole] = figures(&done);
            println!(
                "block {block}, {name}: {:.1} us of CPU an answer, {:.0} ms from first to last, \
                 {:.1} us with its request",
                cpu.0, spread.0, whole.0
            );
            all[index].extend(done);
        }
    }
    println!(
        "\n| server | CPU us an answer: p50, p99 | of the bare loop's | with its request: p50 | of \
         the bare loop's | first to last ms: p50, p99 | of the bare loop's |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let bare = figures(&all[0]);
    for (done, (subject, _, name)) in all.iter().zip(SUBJECTS).filter(|(done, _)| !done.is_empty())
    {
        let figures = figures(done);
        let beside = |index: usize, goal: f64| {
            let ratio = figures[index].0 / bare[index].0;
            match subject == Subject::Bare || ratio.is_nan() {
                true => String::new(),
                false if ratio <= goal => format!("{ratio:.2} (goal {goal}: met)"),
                false => format!("{ratio:.2} (goal {goal}: MISSED)"),
            }
        };
        let [cpu, spread, whole] = figures;
        println!(
            "| {name} | {:.1}, {:.1} | {} | {:.1} | {} | {:.0}, {:.0} | {} |",
            cpu.0,
            cpu.1,
            beside(0, GOALS.0),
            whole.0,
            beside(2, GOALS.0),
            spread.0,
            spread.1,
            beside(1, GOALS.1),
        );
    }
    drop(publisher);
    Ok(())
}

/// p50 and p99 of CPU microseconds for a response, milliseconds from first to last, and CPU
/// microseconds for a response and its request.
fn figures(rounds: &[Round]) -> [(f64, f64); 3] {
    let of = |figure: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        // Nearest rank: the smallest value that is at least as large as `percent` of all.
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(f64::NAN)
        };
        (at(50), at(99))
    };
    [
        of(|round| round.answer_s * 1e6),
        of(|round| round.spread.as_secs_f64() * 1e3),
        of(|round| (round.park_s + round.answer_s) * 1e6),
    ]
}

/// Measures the daemon. A round in which the machine was late is repeated.
///
/// # Errors
/// A response is wrong or missing, or too many rounds are late.
fn ours(
    daemon: &Daemon,
    protocol: Protocol,
    requests: usize,
    rounds: usize,
) -> Result<Vec<Round>, Failure> {
    let parts_ahead: u64 = option("--ahead", AHEAD)?;
    let mut fleet = Fleet::open(daemon.http, protocol, requests)?;
    let path = format!("/live/{CHANNEL}/v0.m3u8");
    // The part exists, so the response is immediate.
    let mut hint = hint(&fleet.ask_one(&path, WAIT)?)?;
    let (mut done, mut turn, mut missed) = (Vec::new(), 0, 0);
    // One round more than requested, because the first one is not counted.
    while turn <= rounds {
        // A playlist request that waits for a part shows when it is complete.
        let listed = fleet
            .ask_one(&format!("{path}?_HLS_msn={}&_HLS_part={}", hint.msn, hint.part), WAIT)?;
        let came = Instant::now();
        let next = self::hint(&listed)?;
        // All segments of this publisher have equally many parts, so parts can be counted across
        // segments.
        let ahead = next.msn * PARTS + next.part + parts_ahead;
        let target = PartId { msn: ahead / PARTS, part: ahead % PARTS };
        // The next part is complete one part duration after this one; the target after as many
        // more.
        let due = came + PART + PART * u32::try_from(parts_ahead)?;
        let before = daemon.server.usage()?.scheduled_s;
        fleet.ask_all(&format!("{path}?_HLS_msn={}&_HLS_part={}", target.msn, target.part))?;
        // Between the previous part and the target.
        thread::sleep((due - PART / 2).saturating_duration_since(Instant::now()));
        // The requests have been read and wait; the responses are not due yet.
        let parked = daemon.server.usage()?.scheduled_s;
        let waiting = Instant::now();
        let arrived = fleet.wait(WAIT)?;
        let after = daemon.server.usage()?.scheduled_s;
        let answer = media(&fleet.first_body())?;
        if answer.parts.last().is_none_or(|(last, _)| *last < target) {
            return Err(format!(
                "an answer does not list part {target:?}: {:?}",
                answer.parts.last()
            )
            .into());
        }
        // The arrival of responses that were already received is unknown: the machine was late.
        let late = arrived.first().is_none_or(|first| *first < waiting + SETTLED);
        match late {
            true if missed > rounds + 5 => {
                return Err("the machine does not keep time: too many rounds are late".into());
            }
            true => missed += 1,
            false => {
                turn += 1;
                done.push(Round {
                    park_s: (parked - before) / requests as f64,
                    answer_s: (after - parked) / requests as f64,
                    spread: spread(&arrived),
                });
            }
        }
        hint = self::hint(&fleet.ask_one(&path, WAIT)?)?;
    }
    if missed > 0 {
        println!("{missed} rounds were late and are not counted");
    }
    // The first round is a warm-up.
    Ok(done.split_off(1))
}

/// Measures the bare loop, with the daemon's response as its body.
fn bare(answer: &PathBuf, requests: usize, rounds: usize) -> Result<Vec<Round>, Failure> {
    let mut server = Server::start(&std::env::current_exe()?, Some(SERVER_CORE), |command| {
        command.arg("--bare").arg(answer).stdout(Stdio::piped());
    })?;
    let mut line = String::new();
    BufReader::new(server.output().ok_or("no output")?).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;
    let mut fleet = Fleet::open(address, Protocol::Http1, requests)?;
    let mut trigger = TcpStream::connect(address)?;
    let mut done = Vec::new();
    // Round 0 is a warm-up.
    for round in 0..=rounds {
        let before = server.usage()?.scheduled_s;
        // About as long as a request to the daemon.
        fleet.ask_all("/live/parked/v0.m3u8?_HLS_msn=1790000000&_HLS_part=9")?;
        thread::sleep(Duration::from_millis(300));
        let parked = server.usage()?.scheduled_s;
        trigger.write_all(b"GET /go HTTP/1.1\r\n\r\n")?;
        let arrived = fleet.wait(WAIT)?;
        let after = server.usage()?.scheduled_s;
        if round > 0 {
            done.push(Round {
                park_s: (parked - before) / requests as f64,
                answer_s: (after - parked) / requests as f64,
                spread: spread(&arrived),
            });
        }
    }
    Ok(done)
}

/// The time from the first response to the last.
fn spread(arrived: &[Instant]) -> Duration {
    match arrived {
        [first, .., last] => *last - *first,
        _ => Duration::ZERO,
    }
}

/// The part of a playlist's preload hint.
fn hint(body: &[u8]) -> Result<PartId, Failure> {
    media(body)?.hint.ok_or_else(|| "a playlist without a hint".into())
}

/// Parses a received playlist.
fn media(body: &[u8]) -> Result<Media, Failure> {
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text)?;
    Ok(Media::parse(&text))
}

/// The bytes of the daemon's response to a blocking request, head and body.
///
/// # Errors
/// The daemon has closed, or a response is not 200.
fn one_answer(server: SocketAddr) -> Result<Vec<u8>, Failure> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(WAIT))?;
    let mut ask = |query: &str| -> Result<Vec<u8>, Failure> {
        let head = format!(
            "GET /live/{CHANNEL}/v0.m3u8{query} HTTP/1.1\r\nHost: {server}\r\nAccept-Encoding: \
             gzip\r\n\r\n"
        );
        socket.write_all(head.as_bytes())?;
        let (mut answer, mut input) = (Vec::new(), [0; 16 << 10]);
        loop {
            let read = socket.read(&mut input)?;
            answer.extend(&input[..read]);
            let text = String::from_utf8_lossy(&answer);
            let head = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
            let length = text.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            // The response is kept as it is, head included, for the bare loop.
            match head.zip(length) {
                Some((head, length)) if answer.len() >= head + length => return Ok(answer),
                _ if read == 0 => return Err(format!("the daemon has closed: {text}").into()),
                _ => {}
            }
        }
    };
    // The first response has the hint of the next part; the second one is a blocking response.
    let now = ask("")?;
    let body = now.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no head")? + 4;
    let next = hint(&now[body..])?;
    let answer = ask(&format!("?_HLS_msn={}&_HLS_part={}", next.msn, next.part))?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(answer),
        false => Err(String::from_utf8_lossy(&answer).into()),
    }
}

/// One publisher on a thread, until dropped.
struct Publisher {
    /// Set to end the thread.
    stop: Arc<AtomicBool>,
    /// Joined when this is dropped.
    thread: Option<thread::JoinHandle<()>>,
}

impl Publisher {
    /// Connects and starts the thread.
    fn start(rtmp: SocketAddr) -> Result<Self, Failure> {
        let mut load =
            Load::publish(rtmp, [CHANNEL], Arc::new(Wire::new(&Stream::new(BITRATE_BPS), 4_096)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                if let Err(err) = load.run(Instant::now() + PART, |_| {}) {
                    eprintln!("the publisher: {err}");
                    return;
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
