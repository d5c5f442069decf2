//! The cost of a response, side by side: requests per CPU second of a server with one core,
//! for bodies of some 1.2 MB, 250 KB and 2 KB, over plain HTTP/1.1, HTTP/1.1 over TLS, HTTP/2 and
//! HTTP/3. The daemon, as shipped, serves live broadcasts that are published for the run; nginx,
//! Varnish, Caddy, a raw write loop and a bare quinn + h3 server serve the same bytes. Each server
//! runs on core 0, the loader (wrk, h2load, our own for QUIC) on core 1; CPU time is the
//! scheduler's, of all threads of the server.
//!
//! `--rounds 3 --seconds 5 --only plain|tls|h2|h3 --connections 16`. Servers alternate within a
//! round. Needs Debian's `nginx`, `varnish`, `caddy`, `wrk`, `nghttp2-client`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
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
    certificate::{self, Certificate},
    http::Reader,
    load::Load,
    loader,
    process::{Daemon, Server, option, pin},
    quic::{self, Breadth},
    raw,
    rival::{self, Rival},
    scratch::Scratch,
    stream::Stream,
    wire::Wire,
};

/// The core of the measured server.
const SERVER_CORE: usize = 0;
/// The core of the loaders, which inherit it from this process.
const LOAD_CORE: usize = 1;
/// Requests before the count, so that caches are filled and pages are mapped.
const WARM_UP_S: u64 = 1;
/// Chunk size of the publishers.
const CHUNK_BYTES: u32 = 4_096;
/// Number of connections of HTTP/2 and HTTP/3, which have as many requests in progress as HTTP/1.1.
const MULTIPLEXED_CONNECTIONS: usize = 4;
/// The channels whose media have the intended sizes.
const CHANNELS: [Channel; 2] = [
    // Segments of 2 s of about 1.2 MB, parts of audio of about 2 KB.
    Channel { name: "segments", video_bps: 4_800_000, audio_bps: 70_000 },
    // Parts of 200 ms of about 250 KB.
    Channel { name: "parts", video_bps: 10_800_000, audio_bps: 70_000 },
];

/// A channel of the run.
struct Channel {
    /// Its name and stream key.
    name: &'static str,
    /// Bits a second of its video.
    video_bps: u64,
    /// Bits a second of its audio.
    audio_bps: u64,
}

/// The protocol of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/3.
    H3,
}

/// The measured server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The release daemon with the shipped configuration.
    Streamforge,
    /// A loop that writes the response, see [`raw`]: the lower limit of the cost of HTTP/1.1.
    Raw,
    /// nginx from files in memory.
    Nginx,
    /// Varnish from memory.
    Varnish,
    /// Caddy's file server.
    Caddy,
    /// quinn and h3 with one body, see [`quic::serve`]: the lower limit of the cost of HTTP/3 with
    /// this library.
    Bare,
}

use Protocol::{H2, H3, Plain, Tls};
use Subject::{Bare, Caddy, Nginx, Raw, Streamforge, Varnish};

/// A protocol, its name on the command line and in the table, and its servers.
const PROTOCOLS: [(Protocol, &str, &str, &[Subject]); 4] = [
    (Plain, "plain", "HTTP/1.1", &[Streamforge, Raw, Nginx, Varnish]),
    (Tls, "tls", "HTTP/1.1 over TLS", &[Streamforge, Nginx, Caddy]),
    (H2, "h2", "HTTP/2 over TLS", &[Streamforge, Nginx, Caddy]),
    (H3, "h3", "HTTP/3", &[Streamforge, Bare, Caddy]),
];

/// The intended size in bytes, the channel, and the kind of resource.
const BODIES: [(u64, &str, Kind); 3] = [
    (1_200_000, "segments", Kind::Segment),
    (250_000, "parts", Kind::VideoPart),
    (2_000, "segments", Kind::AudioPart),
];

/// The kind of a requested resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A segment of the video.
    Segment,
    /// A part of the video.
    VideoPart,
    /// A part of the audio.
    AudioPart,
}

/// The server to compare each body with, and the share of it that is the goal. `None`: the best of
/// all.
fn goal(protocol: Protocol, body: usize) -> (Option<Subject>, f64) {
    match (protocol, body) {
        (Plain, 0) => (Some(Raw), 0.9),
        (Plain, 1) => (None, 0.9),
        (Plain, _) => (Some(Nginx), 0.8),
        (Tls | H2, 0 | 1) => (Some(Nginx), 1.0),
        (Tls | H2, _) => (Some(Nginx), 0.7),
        (H3, 0 | 1) => (Some(Bare), 0.9),
        (H3, _) => (Some(Bare), 0.6),
    }
}

/// Results for one server, protocol and body in all rounds.
#[derive(Debug, Clone, Default)]
struct Sum {
    /// Whole responses.
    requests: u64,
    /// CPU seconds of the server.
    cpu_s: f64,
    /// Seconds of the measurements.
    wall_s: f64,
    /// Requests per CPU second, by round.
    rounds: Vec<f64>,
    /// Sum of the body sizes, one for each round.
    bytes: u64,
}

impl Sum {
    /// Requests per CPU second.
    fn rate(&self) -> f64 {
        self.requests as f64 / self.cpu_s
    }
}

fn main() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "--raw-write") {
        let answer = raw::answer(&fs::read(option("--raw-write", PathBuf::new())?)?);
        return raw::write(&answer, print_address);
    }
    if std::env::args().any(|argument| argument == "--bare-quic") {
        return bare();
    }
    let rounds: u32 = option("--rounds", 3)?;
    let seconds: u64 = option("--seconds", 5)?;
    let only: String = option("--only", String::new())?;
    let connections: usize = option("--connections", 16)?;
    let protocols: Vec<_> =
        PROTOCOLS.into_iter().filter(|(_, flag, ..)| only.is_empty() || only == *flag).collect();
    if protocols.is_empty() {
        return Err(format!("--only {only}: plain, tls, h2 or h3").into());
    }
    pin(LOAD_CORE)?;
    let stage = Stage::set(protocols.iter().any(|(protocol, ..)| *protocol != Plain), connections)?;
    println!(
        "{rounds} rounds of {seconds} s; {connections} requests at once: as many connections in \
         HTTP/1.1, {MULTIPLEXED_CONNECTIONS} else; {}",
        processor()
    );
    stage.print_ciphers()?;
    let mut sums = vec![vec![Vec::<Sum>::new(); BODIES.len()]; protocols.len()];
    for round in 1..=rounds {
        for (index, &(protocol, _, name, subjects)) in protocols.iter().enumerate() {
            for (body, &(wanted, channel, kind)) in BODIES.iter().enumerate() {
                // New media for each round, so that no server profits from an earlier one.
                let object = stage.object(wanted, channel, kind)?;
                sums[index][body].resize(subjects.len(), Sum::default());
                for (place, &subject) in subjects.iter().enumerate() {
                    let measured = stage.measure(protocol, subject, &object, seconds);
                    let measured =
                        measured.map_err(|err| format!("{subject:?}, {name}, {wanted}: {err}"))?;
                    println!(
                        "round {round}, {name}, {} bytes, {subject:?}: {:.0} requests per CPU \
                         second ({:.0} in {:.2} CPU s, {:.0} % of the core)",
                        object.length,
                        measured.rate(),
                        measured.requests,
                        measured.cpu_s,
                        100.0 * measured.cpu_s / measured.wall_s,
                    );
                    let sum = &mut sums[index][body][place];
                    sum.requests += measured.requests;
                    sum.cpu_s += measured.cpu_s;
                    sum.wall_s += measured.wall_s;
                    sum.bytes += object.length;
                    sum.rounds.push(measured.rate());
                }
            }
        }
    }
    table(&protocols, &sums, rounds);
    Ok(())
}

/// Prints requests per CPU second of all rounds together, compared with the goals.
fn table(protocols: &[(Protocol, &str, &str, &[Subject])], sums: &[Vec<Vec<Sum>>], rounds: u32) {
    println!(
        "\n| protocol | bytes | server | requests per CPU second | least to most | streamforge's \
         share | goal |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (index, &(protocol, _, name, subjects)) in protocols.iter().enumerate() {
        for (body, sums) in sums[index].iter().enumerate() {
            let rate = |subject: Subject| {
                let place = subjects.iter().position(|other| *other == subject);
                place.map_or(f64::NAN, |place| sums[place].rate())
            };
            let ours = rate(Streamforge);
            let (rival, share) = goal(protocol, body);
            let others = || subjects.iter().copied().filter(|subject| *subject != Streamforge);
            // Without a fixed rival the fastest other server is the measure.
            let rival = rival.or_else(|| others().max_by(|a, b| rate(*a).total_cmp(&rate(*b))));
            for (&subject, sum) in subjects.iter().zip(sums) {
                let least = sum.rounds.iter().copied().fold(f64::INFINITY, f64::min);
                let most = sum.rounds.iter().copied().fold(0.0, f64::max);
                let ratio = ours / sum.rate();
                let verdict = match Some(subject) == rival {
                    true if ratio >= share => format!("{share}: met"),
                    true => format!("{share}: MISSED"),
                    false => String::new(),
                };
                println!(
                    "| {name} | {} | {subject:?} | {:.0} | {least:.0} to {most:.0} | {ratio:.2} | \
                     {verdict} |",
                    sum.bytes / u64::from(rounds),
                    sum.rate(),
                );
            }
        }
    }
}

/// A body, at the daemon's address and in a file for the other servers.
struct Object {
    /// Path at the daemon.
    path: String,
    /// The file in the servers' directory.
    file: PathBuf,
    /// Size of the body in bytes.
    length: u64,
}

/// All servers except those of a single file, and the publishers.
struct Stage {
    /// Publish the channels as long as the stage exists.
    _publishers: Publishers,
    /// The daemon.
    daemon: Daemon,
    /// nginx, also the origin of Varnish.
    nginx: Rival,
    /// Varnish, in front of nginx.
    varnish: Rival,
    /// `None` if nothing is measured over TLS.
    caddy: Option<Rival>,
    /// The pair of all servers.
    certificate: Certificate,
    /// Requests in progress.
    connections: usize,
    /// One thread, for the loader of HTTP/3.
    runtime: tokio::runtime::Runtime,
    /// The files that the other servers serve.
    directory: Scratch,
}

impl Stage {
    /// Starts all servers and the publishers, and waits for the first segments.
    ///
    /// # Errors
    /// A server is not installed or does not listen.
    fn set(tls: bool, connections: usize) -> Result<Self, Failure> {
        let directory = Scratch::new("delivery")?;
        let certificate = Certificate::make(directory.path())?;
        let daemon = match tls {
            true => Daemon::start_tls(Some(SERVER_CORE), &certificate, &[])?,
            false => Daemon::start(Some(SERVER_CORE), &[])?,
        };
        let nginx = rival::nginx(directory.path(), &certificate, SERVER_CORE)?;
        let origin = nginx.plain.ok_or("nginx has no plain listener")?;
        let varnish = rival::varnish(directory.path(), origin, SERVER_CORE)?;
        let caddy = match tls {
            true => Some(rival::caddy(directory.path(), &certificate, SERVER_CORE)?),
            false => None,
        };
        let publishers = Publishers::start(daemon.rtmp)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stage = Self {
            _publishers: publishers,
            daemon,
            nginx,
            varnish,
            caddy,
            certificate,
            connections,
            runtime,
            directory,
        };
        // Some segments must be complete before one can be selected.
        thread::sleep(Duration::from_secs(9));
        Ok(stage)
    }

    /// Prints the cipher of each server: results are comparable only if they are equal.
    fn print_ciphers(&self) -> Result<(), Failure> {
        let caddy = self.caddy.as_ref().and_then(|caddy| caddy.tls);
        for (name, address) in
            [("streamforge", self.daemon.https), ("nginx", self.nginx.tls), ("caddy", caddy)]
        {
            if let Some(address) = address.filter(|_| self.daemon.https.is_some()) {
                println!("{name}: {}", loader::cipher(address)?);
            }
        }
        if self.daemon.https.is_some() {
            let client = self.certificate.client(b"h3")?;
            let suites = client.crypto_provider().cipher_suites.iter().map(|suite| suite.suite());
            println!(
                "HTTP/3: the loader offers {:?}, and all of its servers let it choose",
                suites.take(3).collect::<Vec<_>>()
            );
        }
        Ok(())
    }

    /// The newest media of `channel` whose size is nearest to `wanted` bytes.
    ///
    /// # Errors
    /// The channel has no such media, or none within a third of the wanted size.
    fn object(&self, wanted: u64, channel: &str, kind: Kind) -> Result<Object, Failure> {
        let mut reader = Reader::connect(self.daemon.http)?;
        let track = if kind == Kind::AudioPart { "a0" } else { "v0" };
        let playlist = reader.get(&format!("/live/{channel}/{track}.m3u8"))?;
        let text = String::from_utf8_lossy(&playlist.body).into_owned();
        let uris = text.lines().filter_map(|line| match kind {
            Kind::Segment => (!line.starts_with('#') && !line.is_empty()).then_some(line),
            _ => line.strip_prefix("#EXT-X-PART:")?.split("URI=\"").nth(1)?.split('"').next(),
        });
        // From a whole group, not only from the end of the open segment, so that parts with and
        // without a key frame are included.
        let newest: Vec<_> = uris.collect::<Vec<_>>().into_iter().rev().take(12).collect();
        let mut best: Option<(String, Vec<u8>)> = None;
        for uri in newest {
            // Addresses are relative to the playlist: `../../media/...`.
            let path = uri.find("media/").map(|at| format!("/{}", &uri[at..]));
            let path = path.ok_or_else(|| format!("{uri} is not media"))?;
            let answer = reader.get(&path)?;
            if answer.status != 200 {
                return Err(format!("{path}: {}", answer.status).into());
            }
            let off = |body: &[u8]| (body.len() as u64).abs_diff(wanted);
            if best.as_ref().is_none_or(|(_, best)| off(&answer.body) < off(best)) {
                best = Some((path, answer.body));
            }
        }
        let (path, body) =
            best.ok_or_else(|| format!("{channel} has no {kind:?}: {} {text}", playlist.status))?;
        // A unique name, so that no server has it in a cache.
        let file = self.directory.path().join(path.trim_start_matches("/media/").replace('/', "-"));
        fs::write(&file, &body)?;
        let length = body.len() as u64;
        if length.abs_diff(wanted) > wanted / 3 {
            return Err(format!("{path} has {length} bytes, far from {wanted}").into());
        }
        Ok(Object { path, file, length })
    }

    /// Measures one server with one body. Servers that are not measured get no requests.
    ///
    /// # Errors
    /// A response was wrong, or the server does not support the protocol.
    fn measure(
        &self,
        protocol: Protocol,
        subject: Subject,
        object: &Object,
        seconds: u64,
    ) -> Result<Sum, Failure> {
        // The minimal servers serve one body, so each measurement starts another process.
        let own = match subject {
            Raw => Some(One::start("--raw-write", object, &self.certificate)?),
            Bare => Some(One::start("--bare-quic", object, &self.certificate)?),
            _ => None,
        };
        let one = own.as_ref().map(|one| (&one.server, Some(one.address)));
        let tls = protocol != Plain;
        // TLS for all protocols but plain HTTP/1.1; HTTP/2 and HTTP/3 are on the same port.
        let address_of = |rival: &Rival| if tls { rival.tls } else { rival.plain };
        let caddy = || self.caddy.as_ref().map(|caddy| (&caddy.server, address_of(caddy)));
        let (server, address) = one
            .or_else(|| match subject {
                Streamforge => Some((
                    &self.daemon.server,
                    if tls { self.daemon.https } else { Some(self.daemon.http) },
                )),
                Nginx => Some((&self.nginx.server, address_of(&self.nginx))),
                Varnish => Some((&self.varnish.server, address_of(&self.varnish))),
                _ => caddy(),
            })
            .ok_or("this server is not there")?;
        let address = address.ok_or("it does not speak this")?;
        let name = object.file.file_name().unwrap_or_default().to_string_lossy();
        let path = if subject == Streamforge { object.path.clone() } else { format!("/{name}") };
        // The same load before the count fills caches, connections and page tables.
        self.load(protocol, address, &path, object.length, WARM_UP_S)?;
        let (before, begin) = (server.usage()?, Instant::now());
        let requests = self.load(protocol, address, &path, object.length, seconds)?;
        let (after, wall_s) = (server.usage()?, begin.elapsed().as_secs_f64());
        // A rate of 0 would look like a slow server.
        if requests == 0 {
            return Err("nothing was answered".into());
        }
        let cpu_s = after.scheduled_s - before.scheduled_s;
        Ok(Sum { requests, cpu_s, wall_s, rounds: vec![], bytes: object.length })
    }

    /// Loads a server for `seconds`. Returns the number of whole responses.
    ///
    /// # Errors
    /// A loader is not installed, or a response is not 200 or not whole.
    fn load(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        path: &str,
        length: u64,
        seconds: u64,
    ) -> Result<u64, Failure> {
        let count = match protocol {
            Plain => loader::wrk(
                &format!("http://{address}{path}"),
                self.connections,
                seconds,
                self.directory.path(),
            )?,
            Tls => loader::wrk(
                &format!("https://{address}{path}"),
                self.connections,
                seconds,
                self.directory.path(),
            )?,
            H2 => {
                // As many requests in progress as over HTTP/1.1, on fewer connections.
                let streams = self.connections / MULTIPLEXED_CONNECTIONS;
                loader::h2load(
                    &format!("https://{address}{path}"),
                    MULTIPLEXED_CONNECTIONS,
                    streams.max(1),
                    seconds,
                )?
            }
            H3 => {
                let breadth = Breadth {
                    connections: MULTIPLEXED_CONNECTIONS,
                    streams: (self.connections / MULTIPLEXED_CONNECTIONS).max(1),
                };
                let tls = self.certificate.client(b"h3")?;
                // Our loader checks each length itself, so the check below is not needed.
                return self.runtime.block_on(async {
                    let endpoint = quic::client(tls)?;
                    let asked = quic::ask(
                        &endpoint,
                        address,
                        path,
                        length,
                        breadth,
                        Duration::from_secs(seconds),
                    )
                    .await?;
                    endpoint.close(0_u32.into(), b"");
                    endpoint.wait_idle().await;
                    Ok(asked.whole)
                });
            }
        };
        // wrk and h2load check statuses, not lengths; responses in progress at the end count only
        // in bytes.
        if count.bytes < count.requests * length / 100 * 99 {
            return Err(format!(
                "{} responses had {} bytes, not {length} each",
                count.requests, count.bytes
            )
            .into());
        }
        Ok(count.requests)
    }
}

/// This program as a server of one file.
struct One {
    /// Its process.
    server: Server,
    address: SocketAddr,
}

impl One {
    /// Starts this program again with `flag` and the file, and reads its address.
    fn start(flag: &str, object: &Object, certificate: &Certificate) -> Result<Self, Failure> {
        let mut server = Server::start(&std::env::current_exe()?, Some(SERVER_CORE), |command| {
            command.arg(flag).arg(&object.file);
            command.arg("--cert").arg(&certificate.cert).arg("--key").arg(&certificate.key);
            command.stdout(Stdio::piped());
        })?;
        let mut line = String::new();
        BufReader::new(server.output().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{flag} says {line:?}"))?;
        Ok(Self { server, address })
    }
}

/// Runs the server of [`Subject::Bare`], as a child process of this program.
fn bare() -> Result<(), Failure> {
    let body = fs::read(option("--bare-quic", PathBuf::new())?)?;
    let (cert, key): (PathBuf, PathBuf) =
        (option("--cert", PathBuf::new())?, option("--key", PathBuf::new())?);
    let tls = certificate::server(&cert, &key, b"h3")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(quic::serve(tls, body.into(), print_address))
}

/// Prints the listening address for the parent process.
fn print_address(address: SocketAddr) {
    println!("{address}");
    let _ = std::io::stdout().flush();
}

/// One publisher for each of [`CHANNELS`], on a thread, until dropped.
struct Publishers {
    /// Set to end the threads.
    stop: Arc<AtomicBool>,
    /// One for each channel.
    threads: Vec<thread::JoinHandle<()>>,
}

impl Publishers {
    /// Connects the publishers and starts their threads.
    fn start(rtmp: SocketAddr) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for channel in CHANNELS {
            let stream =
                Stream::with_audio(channel.video_bps + channel.audio_bps, channel.audio_bps);
            let wire = Arc::new(Wire::new(&stream, CHUNK_BYTES));
            let mut load = Load::publish(rtmp, [channel.name], wire)?;
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                // Short runs, so that the stop is noticed.
                while !stop.load(Relaxed) {
                    if let Err(err) = load.run(Instant::now() + Duration::from_millis(500), |_| {})
                    {
                        eprintln!("{}: {err}", channel.name);
                        return;
                    }
                }
            }));
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Publishers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The kernel's name of the processor.
fn processor() -> String {
    let text = fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(
        || "an unnamed processor".to_owned(),
        |line| line.trim_start_matches([' ', '\t', ':']).to_owned(),
    )
}
