//! Measures the search: building the index, its size and memory, queries through the API, and the
//! time until a change is found.
//!
//! ```text
//! cargo run -p control-api --example search_index -- [VIDEOS] [FOLDER]
//! ```
//!
//! It fills FOLDER (a new one of the system's) with VIDEOS published videos (100 000), unless it
//! has a database already, which takes most of the time. The folder is kept. Titles and
//! descriptions are made of invented words whose frequencies follow Zipf's law, as those of real
//! texts do. Half of the queries have a wrong letter.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, Router, body::Body};
use control_api::{
    Administrator, Api, Caller, Manners, Platform, Search, Viewers,
    rate::{Limiter, Limits},
    renditions::NoRenditions,
    viewers::Count,
};
use control_domain::{
    Actor, Role, Rows,
    features::{
        accounts::commands::{Add, PasswordHash},
        channels::{commands::Create, events::Visibility as OfChannel},
        videos::{
            commands::{Announce, Edit, Publish},
            details::{Chapters, Details, Edits, Tags, Visibility},
            processing::{FinishProcessing, FinishUpload, StartUpload},
            queries,
            state::Media,
        },
    },
    id::{ChannelId, VideoId},
};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use media_core::{BroadcastId, ChannelName, Hub, broadcast, hub};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Senders that fill the database.
const FILLERS: usize = 256;
/// Channels of all videos.
const CHANNELS: u64 = 100;
/// Queries of one kind.
const QUERIES: usize = 300;
/// Different words.
const WORDS: u64 = 40_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let videos = arguments.next().map_or(100_000, |text| text.parse().expect("a number"));
    let folder = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("streamforge-search-index-{}", std::process::id())),
        PathBuf::from,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(videos, &folder));
    println!("the database is kept in {}", folder.display());
}

async fn measure(videos: u64, folder: &Path) {
    let platform = Platform::default();
    platform.open(folder).await.expect("the folder can be written");
    if newest(&platform).await.is_empty() {
        let begun = Instant::now();
        fill(&platform, videos).await;
        println!("fill: {videos} videos in {:.1} s", begun.elapsed().as_secs_f64());
    }
    let _ = fs::remove_dir_all(folder.join("search"));

    let before = memory();
    let search = Search::new(platform.clone());
    let router = router_of(&platform, &search);
    let (stop, begun) = (CancellationToken::new(), Instant::now());
    let running = tokio::spawn(search.clone().serve(folder.to_owned(), stop.clone()));
    ready(&router).await;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "index: {took:.1} s, {:.0} videos/s, {:.1} MiB on the disk; resident memory {before} to {} \
         MiB, at most {} MiB",
        videos as f64 / took,
        size(&folder.join("search")) as f64 / f64::from(1 << 20),
        memory(),
        peak(),
    );
    queries(&router).await;
    changes(&platform, &router).await;

    stop.cancel();
    running.await.expect("no panic");
    let begun = Instant::now();
    let search = Search::new(platform.clone());
    let router = router_of(&platform, &search);
    let stop = CancellationToken::new();
    let running = tokio::spawn(search.clone().serve(folder.to_owned(), stop.clone()));
    ready(&router).await;
    println!("open: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    stop.cancel();
    running.await.expect("no panic");
    platform.close().await;
}

/// Waits until searches are answered.
async fn ready(router: &Router) {
    while ask(router, "q=a").await.0 == StatusCode::SERVICE_UNAVAILABLE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Some of the videos.
async fn newest(platform: &Platform) -> Vec<VideoId> {
    let query = |rows: &dyn Rows| queries::newest(rows, &Actor::System, None, 20);
    let newest = platform.read(query).await.expect("the tables can be read");
    newest.items.into_iter().map(|entry| entry.id).collect()
}

/// Fills the database with published videos.
async fn fill(platform: &Platform, videos: u64) {
    let mut channels = Vec::new();
    let mut owner = None;
    for n in 0..CHANNELS {
        if n % 20 == 0 {
            let name = format!("owner{n}");
            let add = Add {
                name: name.parse().expect("a name"),
                email: format!("{name}@example.org").parse().expect("an address"),
                password: PasswordHash("$argon2id$secret".to_owned()),
                role: Role::Creator,
            };
            owner = Some(platform.send(Actor::System, add).await.expect("it is free").done);
        }
        let create = Create {
            owner: owner.expect("the first has one"),
            name: format!("channel{n}").parse().expect("a name"),
            title: text(&mut Numbers(n + 1), 3, 100).parse().expect("a title"),
            visibility: OfChannel::Public,
        };
        channels.push(platform.send(Actor::System, create).await.expect("it is free").done);
    }
    let channels = Arc::new(channels);
    let mut tasks = tokio::task::JoinSet::new();
    for filler in (0..videos).take(FILLERS) {
        let (platform, channels) = (platform.clone(), Arc::clone(&channels));
        tasks.spawn(async move {
            for n in (filler..videos).step_by(FILLERS) {
                let channel = channels[(n % CHANNELS) as usize];
                publish(&platform, channel, n).await;
            }
        });
    }
    while let Some(made) = tasks.join_next().await {
        made.expect("no panic");
    }
}

async fn publish(platform: &Platform, channel: ChannelId, n: u64) {
    let mut numbers = Numbers(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let tags = (0..3).map(|_| word(&mut numbers)).filter(|tag| tag.len() > 1);
    let tags = tags.map(|tag| tag.parse().expect("a tag")).collect::<Vec<_>>();
    let details = Details {
        title: text(&mut numbers, 6, 100).parse().expect("a title"),
        description: text(&mut numbers, 60, 5_000).parse().expect("a text"),
        tags: Tags::try_from(tags).expect("a few"),
        category: None,
        language: None,
        visibility: Visibility::Public,
        chapters: Chapters::default(),
    };
    let send = "the state permits it";
    let announce = Announce { channel, details, password: None };
    let video = platform.send(Actor::System, announce).await.expect(send).done;
    let media = Media { duration_ms: 60_000, width: None, height: None };
    platform.send(Actor::System, StartUpload { video }).await.expect(send);
    platform.send(Actor::System, FinishUpload { video, bytes: 1 }).await.expect(send);
    platform.send(Actor::System, FinishProcessing { video, media }).await.expect(send);
    platform.send(Actor::System, Publish { video, at: None }).await.expect(send);
}

/// Numbers of a simple generator: the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A word; the first ones are frequent.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a power of WORDS with an exponent of 0 to 1 is between 1 and WORDS"
)]
fn word(numbers: &mut Numbers) -> String {
    // Between 1 and `WORDS`, with a probability of about its inverse.
    let exponent = numbers.next(1_000_000) as f64 / 1e6;
    named((WORDS as f64).powf(exponent) as u64)
}

/// The word of a number: syllables, so that words are alike as those of a language are.
fn named(number: u64) -> String {
    const SYLLABLES: [&str; 24] = [
        "ba", "ker", "lo", "min", "ta", "ris", "on", "ve", "shu", "pal", "di", "gor", "ne", "fi",
        "stra", "mu", "len", "ok", "per", "ci", "wa", "zu", "hal", "ent",
    ];
    let mut rest = number * 7 + 11;
    let mut word = String::new();
    while rest > 0 {
        word += SYLLABLES[(rest % 24) as usize];
        rest /= 24;
    }
    word
}

/// A text of so many words, and of so many characters at most.
fn text(numbers: &mut Numbers, words: usize, max: usize) -> String {
    let words = (0..words).map(|_| word(numbers)).collect::<Vec<_>>().join(" ");
    words.chars().take(max).collect()
}

struct Nobody;

impl Viewers for Nobody {
    fn count(&self, _: &ChannelName, _: BroadcastId) -> Count {
        Count { http: 0, rtmp: 0 }
    }
}

fn router_of(platform: &Platform, search: &Search) -> Router {
    let broadcast = broadcast::Limits {
        bytes: 1 << 20,
        age: Duration::from_secs(10),
        segment: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };
    let reconnect = Duration::from_secs(10);
    let hub = Hub::new(hub::Settings { broadcast, reconnect, max_channels: 1 });
    let unlimited =
        Limits { api: None, login: None, sign_up: None, mail: None, mailed_token: None };
    let manners = Manners { limiter: Arc::new(Limiter::new(unlimited)), ..Manners::default() };
    Api::new(hub, Arc::new(Nobody), Arc::new(NoRenditions), Administrator::default())
        .with_platform(platform.clone())
        .with_search(search.clone())
        .with_manners(manners)
        .router()
        .layer(Extension(Caller { address: [192, 0, 2, 1].into(), ours: false }))
}

/// The status and the body of a response.
async fn ask(router: &Router, query: &str) -> (StatusCode, String) {
    let request = Request::get(format!("/api/v1/search?{query}")).body(Body::empty());
    let response = router.clone().oneshot(request.expect("a request")).await.expect("no error");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("it is there").to_bytes();
    (head.status, String::from_utf8_lossy(&body).into_owned())
}

/// The hits of a query.
async fn get(router: &Router, query: &str) -> String {
    let (status, text) = ask(router, query).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    text
}

/// A wrong letter in the middle of a word.
fn mistyped(word: &str) -> String {
    let mut letters = word.chars().collect::<Vec<_>>();
    let middle = letters.len() / 2;
    letters[middle] = 'x';
    letters.into_iter().collect()
}

async fn queries(router: &Router) {
    let mut numbers = Numbers(99);
    let long = |numbers: &mut Numbers| loop {
        let word = word(numbers);
        if word.len() >= 5 {
            return word;
        }
    };
    let mut kinds: Vec<(&str, Vec<String>)> = Vec::new();
    let mut add = |name, make: &mut dyn FnMut(&mut Numbers) -> String| {
        kinds.push((name, (0..QUERIES).map(|_| make(&mut numbers)).collect()));
    };
    add("one word", &mut |n| format!("{}+", long(n)));
    add("one word with a wrong letter", &mut |n| format!("{}+", mistyped(&long(n))));
    add("three words", &mut |n| [long(n), long(n), long(n)].join("+") + "+");
    add("three words, wrong letters", &mut |n| {
        [long(n), long(n), long(n)].map(|word| mistyped(&word)).join("+") + "+"
    });
    add("beginning of two letters", &mut |n| long(n)[..2].to_owned());
    add("beginning of four letters", &mut |n| long(n)[..4].to_owned());
    add("the most frequent word", &mut |_| format!("{}+", named(1)));
    add("sixteen words, wrong letters", &mut |n| {
        (0..16).map(|_| mistyped(&long(n))).collect::<Vec<_>>().join("+")
    });
    add("newest first, three words", &mut |n| [long(n), long(n), long(n)].join("+") + "&sort=new");
    add("three words with highlights", &mut |n| {
        [long(n), long(n), long(n)].join("+") + "&highlight=true"
    });
    for (name, queries) in kinds {
        let (mut times, mut hits) = (Vec::new(), 0);
        for query in &queries {
            let query = format!("q={}", query.chars().take(190).collect::<String>());
            let begun = Instant::now();
            let body = get(router, &query).await;
            times.push(begun.elapsed());
            hits += usize::from(!body.contains("\"hits\":[]"));
        }
        times.sort_unstable();
        let ms = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "query, {name}: p50 {:.1} ms, p99 {:.1} ms, {hits} of {} with hits",
            ms(50),
            ms(99),
            queries.len(),
        );
    }
}

/// The time from a change until it is found.
async fn changes(platform: &Platform, router: &Router) {
    let mut times = Vec::new();
    for (n, video) in newest(platform).await.into_iter().enumerate() {
        // Longer than the pause between two commits: the platform is idle.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let title = Some(format!("Unheardof{n} qwertz").parse().expect("a title"));
        let edits = Edits { title, ..Edits::default() };
        let edit = Edit { video, edits, password: None, expected: None };
        platform.send(Actor::System, edit).await.expect("it exists");
        let begun = Instant::now();
        let query = format!("q=unheardof{n}+");
        while !get(router, &query).await.contains(&format!("Unheardof{n}")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let ms = |index: usize| times[index].as_secs_f64() * 1e3;
    let last = times.len() - 1;
    println!("change until it is found: p50 {:.0} ms, at most {:.0} ms", ms(last / 2), ms(last));
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("the folder is there");
    files.map(|file| file.expect("a file").metadata().expect("a file").len()).sum()
}

/// A line of the process's status, in MiB.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") / 1024
}

fn memory() -> u64 {
    status("VmRSS")
}

fn peak() -> u64 {
    status("VmHWM")
}
