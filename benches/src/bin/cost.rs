//! The cost of publishers, side by side: the release daemon, nginx with its RTMP module writing
//! HLS, and a program that only reads the bytes, one after the other in rounds. Each runs alone on
//! core 0, the load on core 1; CPU time is measured by the kernel.
//!
//! `--publishers 50 --seconds 30 --rounds 2 --chunk 4096 --warm-up 5`. There are no viewers. nginx
//! writes to /dev/shm. With `--warm-up 130` the daemon's window is full when the count begins, so
//! that as much memory is released as is allocated; `--only 0` skips the others.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use benches::{
    Failure,
    load::Load,
    process::{Daemon, Server, Usage, option, pin},
    scratch::Scratch,
    stream::{BITRATE_BPS, PERIOD, Stream},
    wire::Wire,
};
use bytes::BytesMut;
use tokio::io::AsyncReadExt;

/// The core of the measured server.
const SERVER_CORE: usize = 0;
/// The core of this process, which sends the load.
const LOAD_CORE: usize = 1;
/// Time until all publishers send and the first segments are complete.
const WARM_UP_S: u64 = 5;
/// Path of Debian's libnginx-mod-rtmp.
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// The subject of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The release daemon with the shipped configuration.
    Streamforge,
    /// nginx with its RTMP module.
    Nginx,
    /// This program as a server that discards all bytes: the least that any server needs.
    Sink,
}

/// The subjects and their names in the results; `--only` has an index of this list.
const SUBJECTS: [(Subject, &str); 3] = [
    (Subject::Streamforge, "streamforge: parts, LL-HLS, DASH"),
    (Subject::Nginx, "nginx-rtmp: HLS of 2 s"),
    (Subject::Sink, "reading the bytes alone"),
];

fn main() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "--sink") {
        return sink();
    }
    let publishers: usize = option("--publishers", 50)?;
    let seconds: u64 = option("--seconds", 30)?;
    let rounds: u32 = option("--rounds", 2)?;
    let only: usize = option("--only", usize::MAX)?;
    let warm_up = Duration::from_secs(option("--warm-up", WARM_UP_S)?);
    let wire = Arc::new(Wire::new(&Stream::new(BITRATE_BPS), option("--chunk", 4_096)?));
    pin(LOAD_CORE)?;
    println!("{publishers} publishers of {:.2} Mbit/s, {seconds} s a round", wire_bps(&wire) / 1e6);
    let minutes = publishers as f64 * seconds as f64 / 60.0;
    let mut sums = [Usage::default(); SUBJECTS.len()];
    // The subjects alternate, so that a change of the machine's speed affects all of them.
    for round in 1..=rounds {
        for (index, (subject, name)) in SUBJECTS.iter().enumerate() {
            if only < SUBJECTS.len() && only != index {
                continue;
            }
            let (used, grown) =
                run(*subject, publishers, warm_up, Duration::from_secs(seconds), &wire)?;
            println!(
                "round {round}, {name}: {:.4} CPU s a stream-minute (user {:.4}, system {:.4}; \
                 scheduler's clock {:.4}), {:.0} MiB resident, {:.2} of what was sent",
                used.cpu_s() / minutes,
                used.user_s / minutes,
                used.system_s / minutes,
                used.scheduled_s / minutes,
                used.resident as f64 / f64::from(1 << 20),
                grown,
            );
            sums[index].user_s += used.user_s;
            sums[index].system_s += used.system_s;
            sums[index].scheduled_s += used.scheduled_s;
        }
    }
    let all = minutes * f64::from(rounds);
    // Without nginx, by `--only`, there is nothing to compare with.
    let nginx = sums[1].cpu_s();
    for ((_, name), sum) in
        SUBJECTS.iter().zip(sums).filter(|(_, sum)| nginx > 0.0 && sum.cpu_s() > 0.0)
    {
        let (cost, ratio) = (sum.cpu_s() / all, sum.cpu_s() / nginx);
        println!("{name}: {cost:.4} CPU s a stream-minute, {ratio:.2} of nginx-rtmp's");
    }
    Ok(())
}

/// One round: the usage between warm-up and end, and the growth of memory for each byte sent from
/// the start.
///
/// # Errors
/// The subject is not installed, does not start, or closed the connection of a publisher.
fn run(
    subject: Subject,
    publishers: usize,
    warm_up: Duration,
    length: Duration,
    wire: &Arc<Wire>,
) -> Result<(Usage, f64), Failure> {
    let directory = Scratch::new("cost")?;
    let (server, address) = match subject {
        Subject::Streamforge => {
            let daemon = Daemon::start(Some(SERVER_CORE), &[])?;
            (daemon.server, daemon.rtmp)
        }
        Subject::Nginx => nginx(directory.path())?,
        Subject::Sink => {
            let program = std::env::current_exe()?;
            let mut server = Server::start(&program, Some(SERVER_CORE), |command| {
                command.arg("--sink").stdout(Stdio::piped());
            })?;
            let mut line = String::new();
            BufReader::new(server.output().ok_or("no output")?).read_line(&mut line)?;
            (server, line.trim().parse()?)
        }
    };
    // Before the first publisher: the growth of memory does not include the program itself.
    let idle = server.usage()?;
    let names: Vec<String> = (0..publishers).map(|n| format!("cost-{n}")).collect();
    // The sink does not speak RTMP, so its publishers begin with media.
    let mut load = match subject {
        Subject::Sink => {
            let sockets: Result<Vec<_>, _> =
                names.iter().map(|_| TcpStream::connect(address)).collect();
            Load::over(sockets?, Arc::clone(wire))?
        }
        _ => Load::publish(address, names.iter().map(String::as_str), Arc::clone(wire))?,
    };
    let begin = Instant::now() + warm_up;
    load.run(begin, |_| {})?;
    let before = server.usage()?;
    load.run(begin + length, |_| {})?;
    let after = server.usage()?;
    let sent = (warm_up + length).as_secs_f64() * publishers as f64 * wire_bps(wire) / 8.0;
    let used = Usage {
        user_s: after.user_s - before.user_s,
        system_s: after.system_s - before.system_s,
        scheduled_s: after.scheduled_s - before.scheduled_s,
        resident: after.resident,
    };
    Ok((used, after.resident.saturating_sub(idle.resident) as f64 / sent))
}

/// Bits a second of one publisher, chunk headers included.
fn wire_bps(wire: &Wire) -> f64 {
    wire.bytes.len() as f64 * 8.0 / PERIOD.as_secs_f64()
}

/// nginx with one worker, all of its files under `directory`.
///
/// # Errors
/// It or its module is not installed, or it does not listen within 5 s.
fn nginx(directory: &Path) -> Result<(Server, SocketAddr), Failure> {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let here = directory.display();
    let text = format!(
        "load_module {NGINX_MODULE};\ndaemon off;\nuser root;\nworker_processes 1;\npid \
         {here}/nginx.pid;\nerror_log {here}/error.log warn;\nevents {{ worker_connections 1024; \
         }}\nrtmp {{\n  access_log off;\n  server {{\n    listen {free};\n    chunk_size \
         4096;\n    application live {{\n      live on;\n      hls on;\n      hls_path \
         {here}/hls;\n      hls_fragment 2s;\n      hls_playlist_length 60s;\n    }}\n  }}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, text)?;
    let server = Server::start(Path::new("/usr/sbin/nginx"), Some(SERVER_CORE), |command| {
        command.arg("-c").arg(&file).arg("-e").arg(directory.join("error.log"));
    })?;
    // At most 5 s.
    for _ in 0..100 {
        if TcpStream::connect(free).is_ok() {
            return Ok((server, free));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let log = fs::read_to_string(directory.join("error.log")).unwrap_or_default();
    Err(format!("nginx does not listen; apt install libnginx-mod-rtmp? {log}").into())
}

/// Reads all bytes, on one thread, until it is ended.
fn sink() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        loop {
            let (mut socket, _) = listener.accept().await?;
            tokio::spawn(async move {
                // The buffer is reused, so that only the kernel's copies are measured.
                let mut input = BytesMut::with_capacity(64 << 10);
                while socket.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
                    input.clear();
                }
            });
        }
    })
}
