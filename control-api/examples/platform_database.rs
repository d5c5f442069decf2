//! Measures the platform's database: durable writes, point reads, the start, the rebuilding of all
//! tables, verification and backup, with events of the real features.
//!
//! ```text
//! cargo run -p control-api --example platform_database -- [EVENTS] [FOLDER]
//! ```
//!
//! It fills a new folder with EVENTS events (1 000 000) and deletes the folder at the end. The
//! memory that it prints is the resident memory of the process, which the daemon's other parts are
//! no part of.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use control_api::Store;
use control_domain::{
    Actor, Feature, Role,
    features::{
        self,
        accounts::commands::{Add, EditProfile, PasswordHash, SetPassword},
        channels::{self, commands::Create, commands::Edit, events::Edits, events::Visibility},
        stream_keys::{commands::AddKey, events::KeyDigest},
    },
    id::ChannelId,
};

/// Senders that fill the database.
const FILLERS: u64 = 512;
/// Length of a measurement.
const MEASURE: Duration = Duration::from_secs(4);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let events = arguments.next().map_or(1_000_000, |text| text.parse().expect("a number"));
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("streamforge-platform-database-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    if let Some(folder) = std::env::var_os(VICTIM) {
        return runtime.block_on(write_until_killed(Path::new(&folder)));
    }
    runtime.block_on(measure(events, &folder));
    fs::remove_dir_all(&folder).expect("the folder is ours");
}

async fn measure(events: u64, folder: &Path) {
    let store = open(folder, features::ALL).await;
    let begun = Instant::now();
    let channels = fill(&store, events).await;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "fill: {} events, {} channels in {took:.1} s, {:.0} events/s with {FILLERS} senders",
        store.sequence(),
        channels.len(),
        store.sequence() as f64 / took,
    );
    sizes(folder, store.sequence());
    for senders in [1, 16, 64, 256] {
        writes(&store, &channels, senders).await;
    }
    registrations(&store).await;
    reads(&store, &channels);
    drop(store);

    let begun = Instant::now();
    let store = Store::open(folder, features::ALL).expect("the folder can be written");
    println!("open: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    drop(store);

    let watch = Memory::watch();
    let begun = Instant::now();
    let store = open(folder, updated()).await;
    let took = begun.elapsed().as_secs_f64();
    let rate = store.sequence() as f64 / took;
    println!("rebuild of all features: {took:.1} s, {rate:.0} events/s; {}", watch.end());
    sizes(folder, store.sequence());

    let others = commands_while_rebuilding(&store, &channels).await;
    println!("rebuild of stream_keys under load: {others}");

    let (watch, begun) = (Memory::watch(), Instant::now());
    let verified = store.verify().expect("the database can be read");
    let took = begun.elapsed().as_secs_f64();
    println!("verify: {took:.1} s, {} rows; {}", verified.rows, watch.end());
    assert_eq!(verified.faults, [] as [&str; 0]);

    let copy = folder.join("backup");
    let (watch, begun) = (Memory::watch(), Instant::now());
    store.backup(&copy).expect("an empty folder");
    println!("backup: {:.1} s; {}", begun.elapsed().as_secs_f64(), watch.end());
    let begun = Instant::now();
    store.export(&mut io::sink()).expect("a sink");
    println!("export: {:.1} s", begun.elapsed().as_secs_f64());
    drop(store);

    // The disk is lost: the backup and the master key are left.
    let drill = folder.join("restored");
    fs::create_dir_all(&drill).expect("a folder");
    fs::copy(folder.join("master.key"), drill.join("master.key")).expect("a key");
    let begun = Instant::now();
    let restored = Store::restore(&copy, &drill, &[]).expect("a sound backup");
    let copied = begun.elapsed().as_secs_f64();
    let store = open(&drill, features::ALL).await;
    assert_eq!(store.sequence(), restored.sequence);
    let took = begun.elapsed().as_secs_f64();
    println!("restore: {copied:.1} s, in service after {took:.1} s");
    drop(store);
    crash(&drill);
}

/// The start after the process was killed, which must repair the file.
fn crash(folder: &Path) {
    let program = std::env::current_exe().expect("this program");
    let mut victim = std::process::Command::new(program)
        .env(VICTIM, folder)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("this program");
    let mut line = String::new();
    let stdout = victim.stdout.take().expect("it is piped");
    io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).expect("it writes");
    victim.kill().expect("it runs");
    victim.wait().expect("it was started");
    let begun = Instant::now();
    let store = Store::open(folder, features::ALL).expect("the folder can be written");
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    println!("open after kill -9: {ms:.0} ms, {} events", store.sequence());
}

/// The folder of the process that is killed.
const VICTIM: &str = "STREAMFORGE_PLATFORM_VICTIM";

/// Writes until it is killed.
async fn write_until_killed(folder: &Path) {
    let store = Store::open(folder, features::ALL).expect("the folder can be written");
    for n in 0_u64.. {
        let add = person(&format!("victim{}x{n}", std::process::id()));
        store.send(Actor::System, add).await.expect("the name is free");
        if n == 50 {
            println!("it writes");
        }
    }
}

/// Commands of another feature while tables are built again.
async fn commands_while_rebuilding(
    store: &Store,
    channels: &[(Actor, ChannelId, String)],
) -> String {
    let begun = Instant::now();
    store.rebuild(&["stream_keys"]).await.expect("it is open");
    let mut latencies = Vec::new();
    while !store.rebuilding().is_empty() {
        let (actor, channel, _) = channels[latencies.len() % channels.len()];
        let sent = Instant::now();
        let command = edit(channel, 1_000_000 + latencies.len() as u64);
        store.send(actor, command).await.expect("their own");
        latencies.push(sent.elapsed());
    }
    let took = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let count = latencies.len();
    format!("{took:.1} s; {count} edits meanwhile, p50 {:.1} ms, p99 {:.1} ms", at(50), at(99))
}

/// Opens the database, and waits until its tables are there.
async fn open(folder: &Path, features: &'static [&'static Feature]) -> Store {
    let store = Store::open(folder, features).expect("the folder can be written");
    store.ready().await.expect("the log is sound");
    store
}

/// The features with other versions, as after an update of the daemon.
fn updated() -> &'static [&'static Feature] {
    let features = features::ALL.iter().map(|feature| {
        &*Box::leak(Box::new(Feature { version: feature.version + 1, ..**feature }))
    });
    Box::leak(features.collect::<Vec<_>>().into_boxed_slice())
}

fn person(name: &str) -> Add {
    Add {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: PasswordHash(format!(
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM0NTY3OA${name:0>43}"
        )),
        role: Role::Creator,
    }
}

/// Ten events for each person: an account, its profile and password, a channel with edits, keys.
async fn fill(store: &Store, events: u64) -> Arc<Vec<(Actor, ChannelId, String)>> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..FILLERS {
        let (store, next) = (store.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut made = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n * 10 >= events {
                    return made;
                }
                made.push(ten_events(&store, n).await);
            }
        });
    }
    let mut channels = Vec::new();
    while let Some(made) = tasks.join_next().await {
        channels.extend(made.expect("no panic"));
    }
    Arc::new(channels)
}

async fn ten_events(store: &Store, n: u64) -> (Actor, ChannelId, String) {
    let name = format!("person{n}");
    let account = store.send(Actor::System, person(&name)).await.expect("the name is free").done;
    let actor = Actor::Person { id: account, role: Role::Creator };
    let about = format!("I am {name}, and I show how engines are built and repaired.");
    let profile =
        EditProfile { account, name: None, about: Some(about.parse().expect("a description")) };
    store.send(actor, profile).await.expect("their own");
    let password = person(&format!("{name}b")).password;
    store.send(actor, SetPassword { account, password }).await.expect("their own");
    let create = Create {
        owner: account,
        name: name.parse().expect("a channel name"),
        title: "Engines".parse().expect("a title"),
        visibility: Visibility::Public,
    };
    let channel = store.send(actor, create).await.expect("a creator").done;
    for version in 0..4 {
        store.send(actor, edit(channel, version)).await.expect("their own");
    }
    for key in 0..2_u64 {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest[8..16].copy_from_slice(&key.to_be_bytes());
        let name = format!("key {key}").parse().expect("a name");
        let add = AddKey { channel, name, digest: KeyDigest(digest) };
        store.send(actor, add).await.expect("their own");
    }
    (actor, channel, name)
}

fn edit(channel: ChannelId, version: u64) -> Edit {
    let title = Some(format!("Engines, part {version}").parse().expect("a title"));
    Edit { channel, edits: Edits { title, ..Edits::default() } }
}

/// Durable writes by senders that each wait for their acknowledgement.
async fn writes(store: &Store, channels: &Arc<Vec<(Actor, ChannelId, String)>>, senders: usize) {
    let end = Instant::now() + MEASURE;
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..senders {
        let (store, channels) = (store.clone(), Arc::clone(channels));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut n = sender;
            while Instant::now() < end {
                // Steps that reach all channels, so that pages far apart are written.
                n = (n + 7919) % channels.len();
                let (actor, channel, _) = channels[n];
                let begun = Instant::now();
                let version = latencies.len() as u64 + 1000 * sender as u64 + 4;
                store.send(actor, edit(channel, version)).await.expect("their own");
                latencies.push(begun.elapsed());
            }
            latencies
        });
    }
    summary(&format!("edits, {senders} senders"), tasks).await;
}

/// Accounts that are made, each with a key of its own.
async fn registrations(store: &Store) {
    let end = Instant::now() + MEASURE;
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                let add = person(&format!("late{sender}x{}", latencies.len()));
                store.send(Actor::System, add).await.expect("the name is free");
                latencies.push(begun.elapsed());
            }
            latencies
        });
    }
    summary("accounts, 64 senders", tasks).await;
}

async fn summary(name: &str, mut tasks: tokio::task::JoinSet<Vec<Duration>>) {
    let mut all = Vec::new();
    while let Some(latencies) = tasks.join_next().await {
        all.extend(latencies.expect("no panic"));
    }
    all.sort_unstable();
    let at = |share: usize| all[(all.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let rate = all.len() as f64 / MEASURE.as_secs_f64();
    println!("{name}: {rate:.0} durable/s, p50 {:.1} ms, p99 {:.1} ms", at(50), at(99));
}

/// Point reads of one thread: a channel by its name, which are two rows.
fn reads(store: &Store, channels: &[(Actor, ChannelId, String)]) {
    let (begun, mut count, mut n) = (Instant::now(), 0_u64, 0);
    while begun.elapsed() < MEASURE {
        for _ in 0..1000 {
            n = (n + 7919) % channels.len();
            let name = channels[n].2.parse().expect("a channel name");
            let found = store.read(|rows| channels::queries::by_name(rows, &name));
            assert!(found.expect("it is open").expect("a sound table").is_some());
        }
        count += 1000;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("point reads: {rate:.0}/s of one thread");
}

fn sizes(folder: &Path, events: u64) {
    for file in ["platform.redb", "keys.redb"] {
        let bytes = fs::metadata(folder.join(file)).expect("it exists").len();
        println!("  {file}: {:.1} MB, {} B an event", bytes as f64 / 1e6, bytes / events.max(1));
    }
}

/// Watches the resident memory of the process.
struct Memory {
    begin: u64,
    is_over: Arc<AtomicBool>,
    samples: std::thread::JoinHandle<Vec<u64>>,
}

impl Memory {
    fn watch() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let samples = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !over.load(Ordering::Relaxed) {
                samples.push(resident());
                std::thread::sleep(Duration::from_millis(20));
            }
            samples
        });
        Self { begin: resident(), is_over, samples }
    }

    /// The memory at the begin, at half of the time, at its peak and at the end.
    fn end(self) -> String {
        self.is_over.store(true, Ordering::Relaxed);
        let samples = self.samples.join().expect("no panic");
        let peak = samples.iter().max().copied().unwrap_or(self.begin);
        let half = samples.get(samples.len() / 2).copied().unwrap_or(self.begin);
        let mb = |bytes: u64| bytes / 1_000_000;
        let (begin, end) = (mb(self.begin), mb(resident()));
        format!("memory {begin} MB, at half {} MB, peak {} MB, end {end} MB", mb(half), mb(peak))
    }
}

/// The resident memory in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is listed");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kib * 1024
}
