//! An edge over origins in the same process: scripted ones, and a real router.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Channel, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{sync::Notify, time::sleep};

use super::*;
use crate::stage::{self, PART, SEGMENT, Stage};

const MASTER: &str = "/live/demo/master.m3u8";
const PLAYLIST: &str = "/live/demo/v0.m3u8";
const SEGMENT_1: &str = "/media/01890a5d-ac96-774b-bcce-b302099a8057/v0/1.m4s";
const PART_1: &str = "/media/01890a5d-ac96-774b-bcce-b302099a8057/v0/1.0.m4s";

type OriginBody = BoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<OriginBody>> + Send>>;
type Script = dyn Fn(Request<Incoming>) -> Answering + Send + Sync;

/// An origin that answers by a script, while it is up.
struct Scripted {
    script: Box<Script>,
    asked: Mutex<Vec<(String, HeaderMap)>>,
    down: Mutex<bool>,
}

impl Scripted {
    fn new<F>(script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Response<OriginBody>> + Send + 'static,
    {
        Arc::new(Self {
            script: Box::new(move |request| Box::pin(script(request))),
            asked: Mutex::default(),
            down: Mutex::default(),
        })
    }

    /// Answers everything at once with these headers and this text.
    fn saying(status: u16, headers: &'static [(&'static str, &'static str)], text: &'static str) -> Arc<Self> {
        Self::new(move |_| async move { answer(status, headers, text) })
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn header(&self, index: usize, name: &str) -> String {
        let asked = self.asked.lock().unwrap();
        let value = asked[index].1.get(name);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    fn connect(self: &Arc<Self>) -> io::Result<tokio::io::DuplexStream> {
        if *self.down.lock().unwrap() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let origin = Arc::clone(self);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let asked = (request.uri().to_string(), request.headers().clone());
                origin.asked.lock().unwrap().push(asked);
                let answering = (origin.script)(request);
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), service)
                .await;
        });
        Ok(ours)
    }
}

fn answer(status: u16, headers: &[(&str, &str)], text: &'static str) -> Response<OriginBody> {
    with_body(status, headers, Full::new(Bytes::from_static(text.as_bytes())).boxed())
}

fn with_body(status: u16, headers: &[(&str, &str)], body: OriginBody) -> Response<OriginBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

fn edge_of(origins: &[&Arc<Scripted>]) -> Arc<Edge> {
    edge_with(Config::default(), origins)
}

fn edge_with(mut config: Config, origins: &[&Arc<Scripted>]) -> Arc<Edge> {
    let origins: Vec<_> = origins.iter().map(|&origin| Arc::clone(origin)).collect();
    config.origin = (0..origins.len())
        .map(|n| format!("http://{n}").parse().unwrap())
        .collect();
    let limit = config.connect();
    Edge::with(&config, Metrics::default(), |origin, tls| {
        let origin = Arc::clone(&origins[origin.to_string().parse::<usize>().unwrap()]);
        Dial::in_memory(Arc::new(move || origin.connect()), limit, tls)
    })
    .unwrap()
}

/// The answer before its body is read.
async fn begin(edge: &Arc<Edge>, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let resource = Resource::parse(head.uri.path()).unwrap();
    edge.answer(&head, &resource).await.unwrap()
}

async fn ask(edge: &Arc<Edge>, target: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Bytes) {
    let (head, body) = begin(edge, Method::GET, target, headers).await.into_parts();
    (
        head.status.as_u16(),
        head.headers,
        body.collect().await.unwrap().to_bytes(),
    )
}

/// Status, text, and what became of the request.
async fn get(edge: &Arc<Edge>, target: &str) -> (u16, String, String) {
    let (status, headers, body) = ask(edge, target, &[]).await;
    (status, String::from_utf8(body.to_vec()).unwrap(), outcome(&headers))
}

fn outcome(headers: &HeaderMap) -> String {
    let told = headers["server-timing"].to_str().unwrap();
    told.strip_prefix("edge;desc=").unwrap().to_owned()
}

fn said(status: u16, text: &str, outcome: &str) -> (u16, String, String) {
    (status, text.to_owned(), outcome.to_owned())
}

/// Lets all tasks go as far as they can: paused time goes on when they have.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn fifty_requests_for_what_is_yet_to_come_are_one_at_the_origin() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let origin = Scripted::new(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            answer(
                200,
                &[("cache-control", "public, max-age=24"), ("etag", "\"1\"")],
                "#EXTM3U",
            )
        }
    });
    let edge = edge_of(&[&origin]);
    let asking: Vec<_> = (0..50)
        .map(|n| {
            let edge = Arc::clone(&edge);
            // Each writes it in another way.
            let target = format!("{PLAYLIST}?viewer={n}&_HLS_part={}2&_HLS_msn=7", "0".repeat(n % 5));
            tokio::spawn(async move { get(&edge, &target).await })
        })
        .collect();
    settle().await;
    assert_eq!(edge.metrics.waiting.get(), 50);
    go.notify_one();
    let mut outcomes = Vec::new();
    for asking in asking {
        let (status, text, outcome) = asking.await.unwrap();
        assert_eq!((status, &*text), (200, "#EXTM3U"));
        outcomes.push(outcome);
    }
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "miss").count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "shared").count(), 49);
    assert_eq!(get(&edge, &format!("{PLAYLIST}?_HLS_msn=7&_HLS_part=2")).await.2, "hit");
    let asked = origin
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|(target, _)| target.clone())
        .collect::<Vec<_>>();
    assert_eq!(asked, [format!("{PLAYLIST}?_HLS_msn=7&_HLS_part=2")]);
    assert_eq!(edge.metrics.waiting.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_viewer_reaches_the_origin_and_nothing_of_the_origin_a_viewer() {
    let origin = Scripted::saying(
        200,
        &[
            ("cache-control", "max-age=1"),
            ("set-cookie", "a=b"),
            ("server", "x"),
            ("content-type", "text/x"),
        ],
        "text",
    );
    let edge = edge_of(&[&origin]);
    let headers = [
        ("cookie", "secret"),
        ("authorization", "secret"),
        ("range", "bytes=0-"),
        ("if-none-match", "\"x\""),
        ("x-other", "y"),
        ("accept-encoding", "br, gzip"),
    ];
    let (status, headers, _) = ask(&edge, &format!("{MASTER}?token=secret"), &headers).await;
    assert_eq!(status, 200);
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["age", "cache-control", "content-type", "date", "server-timing"]);
    {
        let asked = origin.asked.lock().unwrap();
        assert_eq!(asked[0].0, MASTER);
        let mut names: Vec<_> = asked[0].1.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "cdn-loop", "host", "user-agent"]);
    }
    assert_eq!(origin.header(0, "accept-encoding"), "gzip");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_its_lifetime_and_then_asked_about() {
    let origin = Scripted::new(|request| async move {
        let headers = [("cache-control", "public, max-age=2"), ("etag", "\"1\"")];
        match request.headers().get("if-none-match") {
            Some(tag) if tag == "\"1\"" => answer(304, &headers, ""),
            _ => answer(200, &headers, "text"),
        }
    });
    let edge = edge_of(&[&origin]);
    let age = |headers: &HeaderMap| headers["age"].to_str().unwrap().to_owned();
    for (asked, became, old) in [
        (1, "miss", "0"),
        (1, "hit", "1"),
        (2, "miss", "0"),
        (2, "hit", "1"),
        (3, "miss", "0"),
    ] {
        let (status, headers, body) = ask(&edge, MASTER, &[]).await;
        assert_eq!(
            (status, &body[..], &*outcome(&headers), &*age(&headers)),
            (200, &b"text"[..], became, old)
        );
        assert_eq!(origin.asked(), asked);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(origin.header(2, "if-none-match"), "\"1\"");
}

#[tokio::test(start_paused = true)]
async fn a_no_is_kept_for_its_lifetime() {
    let origin = Scripted::saying(404, &[("cache-control", "public, max-age=4")], "no");
    let edge = edge_of(&[&origin]);
    assert_eq!(get(&edge, SEGMENT_1).await, said(404, "no", "miss"));
    sleep(Duration::from_millis(3_900)).await;
    assert_eq!(get(&edge, SEGMENT_1).await, said(404, "no", "hit"));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(get(&edge, SEGMENT_1).await, said(404, "no", "miss"));
    assert_eq!(origin.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_segment_streams_through_while_it_grows_and_who_comes_late_gets_all_of_it() {
    let (sender, body) = Channel::<Bytes, Infallible>::new(4);
    let body = Mutex::new(Some(body));
    let origin = Scripted::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move {
            let headers = [
                ("cache-control", "max-age=24, immutable"),
                ("content-type", "video/iso.segment"),
            ];
            with_body(200, &headers, body.boxed())
        }
    });
    let mut sender = sender;
    let edge = edge_of(&[&origin]);
    let mut first = begin(&edge, Method::GET, SEGMENT_1, &[]).await.into_body();
    sender.send_data(Bytes::from_static(b"one ")).await.unwrap();
    let piece = first.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(piece.pieces(), ["one "]);
    let late = begin(&edge, Method::GET, SEGMENT_1, &[("range", "bytes=0-")]).await;
    assert_eq!((late.status(), &*outcome(late.headers())), (StatusCode::OK, "shared"));
    drop(first);
    let mut late = late.into_body();
    let again = late.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(again.pieces()[0].as_ptr(), piece.pieces()[0].as_ptr());
    drop(late);
    // Nobody reads it, and it goes on.
    sender.send_data(Bytes::from_static(b"two")).await.unwrap();
    drop(sender);
    settle().await;
    assert_eq!(get(&edge, SEGMENT_1).await, said(200, "one two", "hit"));
    assert_eq!(origin.asked(), 1);
    // Now that its end is known it has ranges.
    let (status, headers, body) = ask(&edge, SEGMENT_1, &[("range", "bytes=4-")]).await;
    assert_eq!(
        (status, &body[..], &headers["content-range"]),
        (206, &b"two"[..], &HeaderValue::from_static("bytes 4-6/7"))
    );
}

#[tokio::test(start_paused = true)]
async fn who_leaves_ends_nothing_for_others_and_what_nobody_waits_for_is_given_up() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (go, gone) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (gate, given_up) = (Arc::clone(&go), Arc::clone(&gone));
    let origin = Scripted::new(move |_| {
        let (gate, given_up) = (Arc::clone(&gate), Gone(Arc::clone(&given_up)));
        async move {
            gate.notified().await;
            std::mem::forget(given_up);
            answer(200, &[("cache-control", "max-age=9")], "text")
        }
    });
    let edge = edge_of(&[&origin]);
    let asking = || {
        let edge = Arc::clone(&edge);
        tokio::spawn(async move { get(&edge, PART_1).await })
    };
    let (first, second) = (asking(), asking());
    settle().await;
    first.abort();
    settle().await;
    assert_eq!(gone.load(Ordering::Relaxed), 0);
    go.notify_one();
    assert_eq!(second.await.unwrap(), said(200, "text", "shared"));
    // One alone:
    sleep(Duration::from_secs(10)).await;
    let alone = asking();
    settle().await;
    alone.abort();
    settle().await;
    assert_eq!(gone.load(Ordering::Relaxed), 1);
    assert_eq!(edge.cache.len(), 1); // what was there before
    go.notify_one();
    assert_eq!(asking().await.unwrap(), said(200, "text", "miss"));
}

#[tokio::test(start_paused = true)]
async fn ranges_conditions_and_head_are_answered_from_what_is_here() {
    let origin = Scripted::saying(
        200,
        &[
            ("cache-control", "max-age=9, immutable"),
            ("etag", "\"1\""),
            ("accept-ranges", "bytes"),
            ("content-type", "video/mp4"),
        ],
        "0123456789",
    );
    let edge = edge_of(&[&origin]);
    // The first asks for a range itself, and the origin is asked for all.
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=8-99", 206, "89", "bytes 8-9/10"),
        ("bytes=10-", 416, "that range lies behind the end\n", "bytes */10"),
        ("pages=1-2", 200, "0123456789", ""),
    ] {
        let (found, headers, bytes) = ask(&edge, SEGMENT_1, &[("range", range)]).await;
        assert_eq!((found, &bytes[..]), (status, body.as_bytes()), "{range}");
        assert_eq!(
            headers.get("content-range").map_or("", |value| value.to_str().unwrap()),
            content_range
        );
    }
    let same = [("range", "bytes=0-0"), ("if-range", "\"1\"")];
    assert_eq!(ask(&edge, SEGMENT_1, &same).await.0, 206);
    let other = [("range", "bytes=0-0"), ("if-range", "\"2\"")];
    assert_eq!(ask(&edge, SEGMENT_1, &other).await.0, 200);
    let (status, headers, body) = ask(&edge, SEGMENT_1, &[("if-none-match", "\"0\", W/\"1\"")]).await;
    assert_eq!(
        (status, body.len(), headers.contains_key("content-type")),
        (304, 0, false)
    );
    assert_eq!(headers["etag"], "\"1\"");
    let head = begin(&edge, Method::HEAD, SEGMENT_1, &[("range", "bytes=0-0")]).await;
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, Some(10)));
    assert_eq!(origin.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_origin_is_asked_where_one_fails_or_says_that_it_fails() {
    let headers = &[("cache-control", "max-age=1")];
    let (first, second) = (
        Scripted::saying(200, headers, "first"),
        Scripted::saying(200, headers, "second"),
    );
    let edge = edge_of(&[&first, &second]);
    let path = |n: u32| format!("/live/c{n}/master.m3u8");
    assert_eq!(get(&edge, &path(0)).await, said(200, "first", "miss"));
    first.set_down(true);
    // Its connection is open still, so it is the next channel's that breaks: none is lost.
    edge.stop().await;
    let edge = edge_of(&[&first, &second]);
    assert_eq!(get(&edge, &path(1)).await, said(200, "second", "miss"));
    let up = |edge: &Arc<Edge>, name: &str| edge.metrics.origin_is_up(name);
    assert_eq!((up(&edge, "0"), up(&edge, "1")), (0, 1));
    first.set_down(false);
    assert_eq!(get(&edge, &path(2)).await, said(200, "second", "miss"));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(get(&edge, &path(3)).await, said(200, "first", "miss"));
    assert_eq!(up(&edge, "0"), 1);
    // Another's playlist would be of another broadcast: a channel stays where it was found.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(get(&edge, &path(1)).await, said(200, "second", "miss"));

    let broken = Scripted::saying(503, headers, "not now");
    let edge = edge_of(&[&broken, &second]);
    assert_eq!(get(&edge, &path(0)).await, said(200, "second", "miss"));
    let edge = edge_of(&[&broken]);
    assert_eq!(get(&edge, &path(0)).await, said(503, "not now", "miss"));
    assert_eq!(get(&edge, &path(0)).await, said(503, "not now", "miss")); // kept by nobody
    assert_eq!(up(&edge, "0"), 1); // it answers
}

#[tokio::test(start_paused = true)]
async fn a_channel_may_be_on_one_origin_only_and_is_not_gone_when_that_one_fails() {
    let without = Scripted::saying(404, &[("cache-control", "max-age=1")], "no such channel");
    let with = Scripted::saying(200, &[("cache-control", "max-age=1")], "here");
    let edge = edge_of(&[&without, &with]);
    assert_eq!(get(&edge, MASTER).await, said(200, "here", "miss"));
    assert_eq!(get(&edge, PLAYLIST).await, said(200, "here", "miss"));
    assert_eq!((without.asked(), with.asked()), (1, 2));
    with.set_down(true);
    edge.stop().await;
    let edge = edge_of(&[&without, &with]);
    assert_eq!(get(&edge, MASTER).await, said(404, "no such channel", "miss"));
    // Known to have been there:
    edge.origins.found(
        &key::Scope::Channel("demo".parse().unwrap()),
        &edge.origins.order(&key::Scope::Channel("x".parse().unwrap()))[1],
    );
    assert_eq!(get(&edge, PLAYLIST).await, said(502, "no origin answers\n", "error"));
}

#[tokio::test(start_paused = true)]
async fn when_no_origin_answers_texts_are_stale_for_a_while_errors_come_at_once_and_its_return_is_noticed() {
    let origin = Scripted::saying(200, &[("cache-control", "public, max-age=2")], "text");
    let edge = edge_of(&[&origin]);
    assert_eq!(get(&edge, MASTER).await, said(200, "text", "miss"));
    origin.set_down(true);
    // What idles is closed after a while, as when the origin's process has gone.
    edge.stop().await;
    let before = Arc::clone(&edge);
    let edge = {
        let edge = edge_of(&[&origin]);
        let wanted = |edge: &Arc<Edge>| edge.cache.find(&master_key(), Instant::now());
        let (Found::Here(object, _), Found::Nothing(start, ..)) = (wanted(&before), wanted(&edge)) else {
            panic!()
        };
        start.landing.land(Ok(object));
        edge
    };
    sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    let (status, headers, body) = ask(&edge, MASTER, &[]).await;
    assert_eq!((status, &body[..], &*outcome(&headers)), (200, &b"text"[..], "stale"));
    assert_eq!(
        (&headers["age"], &headers["cache-control"]),
        (&HeaderValue::from(3), &HeaderValue::from_static("public, max-age=2"))
    );
    assert_eq!(
        get(&edge, &format!("{PLAYLIST}?_HLS_msn=9")).await,
        said(502, "no origin answers\n", "error")
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(get(&edge, MASTER).await, said(502, "no origin answers\n", "error"));
    origin.set_down(false);
    sleep(Duration::from_millis(250)).await;
    assert_eq!(get(&edge, MASTER).await, said(200, "text", "miss"));
}

fn master_key() -> key::Key {
    key::Key {
        target: MASTER.into(),
        gzip: false,
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_hangs_is_waited_for_as_long_as_one_that_holds_a_request() {
    let origin = Scripted::new(|_| async {
        sleep(Duration::from_secs(19)).await;
        answer(200, &[("cache-control", "max-age=9")], "late")
    });
    let edge = edge_of(&[&origin]);
    assert_eq!(get(&edge, PART_1).await, said(200, "late", "miss"));
    let config = Config {
        first_byte_ms: 18_000,
        ..Config::default()
    };
    let edge = edge_with(config, &[&origin]);
    let began = Instant::now();
    assert_eq!(
        get(&edge, PART_1).await,
        said(504, "the origin did not answer in time\n", "error")
    );
    assert_eq!(began.elapsed().as_secs(), 18);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_ends_short_for_its_readers_and_is_fetched_anew_by_the_next() {
    let origin = Scripted::new(|_| async {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
        sender.send_data(Bytes::from_static(b"some")).await.unwrap();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1_000)).await;
            drop(sender);
        });
        with_body(200, &[("cache-control", "max-age=99, immutable")], body.boxed())
    });
    let edge = edge_of(&[&origin]);
    let reading = begin(&edge, Method::GET, SEGMENT_1, &[]).await.into_body().collect();
    assert!(reading.await.unwrap_err().to_string().contains("before its end"));
    assert_eq!(edge.cache.len(), 0);
    let _ = begin(&edge, Method::GET, SEGMENT_1, &[]).await;
    assert_eq!(origin.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_within_its_bound_whatever_is_fetched_and_whoever_reads_slowly() {
    const MIB: i64 = 1 << 20;
    let origin = Scripted::new(|request| async move {
        let headers = [("cache-control", "max-age=31536000, immutable")];
        let size = if request.uri().path().ends_with("/99.m4s") {
            9 << 20
        } else {
            1 << 20
        };
        with_body(200, &headers, Full::new(Bytes::from(vec![7; size])).boxed())
    });
    let config = Config {
        memory_mb: 16,
        object_mb: 8,
        ..Config::default()
    };
    let edge = edge_with(config, &[&origin]);
    let path = |n: usize| SEGMENT_1.replace("/1.m4s", &format!("/{n}.m4s"));
    for n in 0..40 {
        assert_eq!(ask(&edge, &path(n), &[]).await.2.len(), 1 << 20);
        // One that is asked for again and again stays.
        assert_eq!(get(&edge, &path(0)).await.2, "hit", "after {n}");
        assert!(edge.metrics.cached.get() <= 16 * MIB, "{}", edge.metrics.cached.get());
    }
    assert!(edge.metrics.cached.get() > 14 * MIB);
    assert_eq!(get(&edge, &path(99)).await, said(502, "no origin answers\n", "error")); // too large
    // Readers that take nothing hold what they read; there is no room then, and there is when they leave.
    let mut slow = Vec::new();
    for n in 40..60 {
        slow.push(begin(&edge, Method::GET, &path(n), &[]).await);
        settle().await;
        assert!(edge.metrics.cached.get() <= 16 * MIB, "{}", edge.metrics.cached.get());
    }
    let statuses: Vec<_> = slow.iter().map(|response| response.status().as_u16()).collect();
    assert!(
        statuses.ends_with(&[503, 503]),
        "{statuses:?}, {}",
        edge.metrics.cached.get()
    );
    drop(slow);
    settle().await;
    assert_eq!(ask(&edge, &path(70), &[]).await.2.len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_more_header_than_is_allowed_is_none() {
    let value: &'static str = "x".repeat(80_000).leak();
    let headers: &'static [(&str, &str)] = vec![("x-large", value)].leak();
    let origin = Scripted::saying(200, headers, "text");
    assert_eq!(
        get(&edge_of(&[&origin]), MASTER).await,
        said(502, "no origin answers\n", "error")
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_not_asked_for_is_not_passed_on() {
    for (status, headers) in [
        (200, &[("content-encoding", "gzip")][..]),
        (301, &[("location", "http://elsewhere.example/")]),
        (206, &[("content-range", "bytes 0-3/9")]),
        (304, &[]),
    ] {
        let origin = Scripted::saying(status, headers, "text");
        assert_eq!(get(&edge_of(&[&origin]), MASTER).await.0, 502, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_fetches_at_once_are_refused_not_queued() {
    let origin = Scripted::new(|_| async {
        sleep(Duration::from_secs(5)).await;
        answer(200, &[("cache-control", "max-age=9")], "text")
    });
    let config = Config {
        max_fetches: 16,
        ..Config::default()
    };
    let edge = edge_with(config, &[&origin]);
    let asking: Vec<_> = (0..20)
        .map(|n| {
            let edge = Arc::clone(&edge);
            tokio::spawn(async move { get(&edge, &format!("/live/c{n}/master.m3u8")).await.0 })
        })
        .collect();
    let mut statuses = Vec::new();
    for asking in asking {
        statuses.push(asking.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 16);
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 4);
    assert_eq!(get(&edge, MASTER).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_back_is_noticed() {
    let origin = Scripted::saying(200, &[("cache-control", "max-age=9")], "text");
    let edge = edge_of(&[&origin]);
    assert_eq!(ask(&edge, MASTER, &[("cdn-loop", "other; x=y, another")]).await.0, 200);
    let ours = edge.identity.to_str().unwrap().to_owned();
    {
        let asked = origin.asked.lock().unwrap();
        let passed: Vec<_> = asked[0]
            .1
            .get_all("cdn-loop")
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert_eq!(passed, ["other; x=y, another", &ours]);
    }
    for list in [format!("other, {ours}"), format!("{ours};v=1"), ours] {
        let (head, ()) = Request::get(PLAYLIST)
            .header("cdn-loop", list)
            .body(())
            .unwrap()
            .into_parts();
        let resource = Resource::parse(PLAYLIST).unwrap();
        assert_eq!(edge.answer(&head, &resource).await.unwrap().status(), 508);
    }
    assert_eq!(origin.asked(), 1);
}

#[tokio::test]
async fn when_a_local_origin_is_gone_so_is_what_it_had() {
    let socket = std::env::temp_dir().join(format!("streamforge-nobody-{}", std::process::id()));
    let edge = Edge::new(&Config::local(socket), Metrics::default()).unwrap();
    assert_eq!(get(&edge, MASTER).await, said(404, "there is nothing here\n", "error"));
    assert_eq!(get(&edge, SEGMENT_1).await.0, 404);
}

#[tokio::test]
async fn an_edge_needs_an_origin_and_those_who_vouch_for_it() {
    let of = |config: Config| Edge::new(&config, Metrics::default()).unwrap_err().to_string();
    assert_eq!(of(Config::default()), "edge.origin is empty");
    let config = Config {
        origin: vec!["https://a.example".parse().unwrap()],
        ca: "/nowhere.pem".into(),
        ..Config::default()
    };
    assert!(of(config).starts_with("edge.ca: /nowhere.pem: "));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_before_the_answer_is_no_news_of_its_origin() {
    let origin = Scripted::saying(200, &[("cache-control", "max-age=1")], "text");
    let broken = Arc::new(AtomicUsize::new(0));
    let (answering, breaking) = (Arc::clone(&origin), Arc::clone(&broken));
    let connect: dial::Connect = Arc::new(move || {
        if breaking.fetch_add(1, Ordering::Relaxed) > 0 {
            return answering.connect();
        }
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        tokio::spawn(async move { tokio::io::AsyncReadExt::read(&mut theirs, &mut [0; 16]).await });
        Ok(ours)
    });
    let config = Config {
        origin: vec!["http://0".parse().unwrap()],
        ..Config::default()
    };
    let edge = Edge::with(&config, Metrics::default(), |_, tls| {
        Dial::in_memory(Arc::clone(&connect), config.connect(), tls)
    })
    .unwrap();
    assert_eq!(get(&edge, MASTER).await, said(200, "text", "miss"));
    assert_eq!((broken.load(Ordering::Relaxed), edge.metrics.origin_is_up("0")), (2, 1));
}

#[tokio::test]
async fn segments_and_headers_outlive_a_restart_on_disk_and_nothing_else_does() {
    let dir = std::env::temp_dir().join(format!("streamforge-edge-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let config = Config {
        disk_dir: dir.clone(),
        disk_mb: 8,
        ..Config::default()
    };
    let origin = Scripted::new(|request| async move {
        let growing = request.uri().path().ends_with("/2.m4s");
        let control = if growing {
            "max-age=24, immutable"
        } else {
            "public, max-age=31536000, immutable"
        };
        let headers = [
            ("cache-control", control),
            ("etag", "\"1\""),
            ("accept-ranges", "bytes"),
            ("content-type", "video/mp4"),
        ];
        answer(200, &headers, "0123456789")
    });
    let init = SEGMENT_1.replace("1.m4s", "init.0.mp4");
    let growing = SEGMENT_1.replace("1.m4s", "2.m4s");
    let edge = edge_with(config.clone(), &[&origin]);
    let first = ask(&edge, SEGMENT_1, &[]).await;
    for target in [&init, &growing, PART_1, MASTER] {
        assert_eq!(get(&edge, target).await.0, 200);
    }
    for _ in 0..1_000 {
        if edge.metrics.on_disk.get() > 2 * 4_096 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    edge.stop().await;
    drop(edge);
    origin.set_down(true);
    let edge = edge_with(config, &[&origin]);
    for _ in 0..1_000 {
        if edge.metrics.on_disk.get() > 0 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    let (status, headers, body) = ask(&edge, SEGMENT_1, &[("range", "bytes=2-3")]).await;
    assert_eq!((status, &body[..]), (206, &b"23"[..]));
    for name in ["etag", "content-type", "cache-control", "accept-ranges"] {
        assert_eq!(headers[name], first.1[name], "{name}");
    }
    assert_eq!(get(&edge, SEGMENT_1).await, said(200, "0123456789", "hit"));
    assert_eq!(get(&edge, &init).await.0, 200);
    for target in [&growing, PART_1, MASTER] {
        assert_eq!(get(&edge, target).await.0, 502, "{target}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A real origin, its router behind HTTP/1.1 in memory.
fn edge_of_stage(stage: &Stage) -> Arc<Edge> {
    let config = Config {
        origin: vec!["http://stage".parse().unwrap()],
        ..Config::default()
    };
    let router = Arc::clone(&stage.router);
    let connect = move || {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let router = Arc::clone(&router);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let router = Arc::clone(&router);
                async move { Ok::<_, Infallible>(router.handle(request, ([192, 0, 2, 1], 1).into()).await) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), service)
                .await;
        });
        Ok(ours)
    };
    let connect: dial::Connect = Arc::new(connect);
    Edge::with(&config, Metrics::default(), |_, tls| {
        Dial::in_memory(Arc::clone(&connect), config.connect(), tls)
    })
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_edge_of_our_own_origin_answers_as_it_does() {
    let stage = Stage::live().await;
    let edge = edge_of_stage(&stage);
    let segment = stage.media(&format!("{}.m4s", stage.first));
    let part = stage.media(&format!("{}.1.m4s", stage.first + 3));
    let init = stage.media("init.0.mp4");
    let none = stage.media("7.m4s");
    for target in [
        MASTER,
        PLAYLIST,
        "/live/demo/manifest.mpd",
        "/live/demo/plain.mpd",
        "/live/demo/poster.jpg",
        "/live/other/master.m3u8",
        &segment,
        &part,
        &init,
        &none,
    ] {
        for coding in ["gzip", "identity"] {
            let request = [("accept-encoding", coding)];
            let theirs = stage.ask("GET", target, &request).await;
            let (status, headers, body) = ask(&edge, target, &request).await;
            assert_eq!(
                (status, body),
                (theirs.status.as_u16(), theirs.body.clone()),
                "{target}"
            );
            for name in [
                "content-type",
                "content-encoding",
                "cache-control",
                "etag",
                "vary",
                "accept-ranges",
                "priority",
            ] {
                assert_eq!(headers.get(name), theirs.headers.get(name), "{name} of {target}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hinted_parts_reloads_and_open_segments_come_through_as_they_are_made() {
    let mut stage = Stage::live().await;
    let edge = edge_of_stage(&stage);
    let open = stage.first + 3;
    let part = stage.media(&format!("{open}.2.m4s"));
    let reload = format!("{PLAYLIST}?_HLS_msn={open}&_HLS_part=2");
    let waiting: Vec<_> = [part, reload]
        .map(|target| {
            let edge = Arc::clone(&edge);
            tokio::spawn(async move { ask(&edge, &target, &[]).await })
        })
        .into();
    let mut growing = begin(&edge, Method::GET, &stage.media(&format!("{open}.m4s")), &[])
        .await
        .into_body();
    let first = growing.frame().await.unwrap().unwrap().into_data().unwrap();
    let held = first.pieces().iter().map(Bytes::len).sum::<usize>();
    assert!(held > 0);
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    stage.push(PART).await;
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().0, 200);
    }
    let mut all = first.pieces().concat();
    stage.push(SEGMENT).await;
    all.extend_from_slice(&growing.collect().await.unwrap().to_bytes());
    let whole = stage.get(&stage.media(&format!("{open}.m4s"))).await;
    assert_eq!(all, whole.body);
}

#[tokio::test(start_paused = true)]
async fn a_router_asks_elsewhere_for_what_it_does_not_have_and_keeps_what_is_its_own() {
    let origin = Scripted::new(|request| async move {
        let status = if request.uri().path().contains("/beside/") {
            200
        } else {
            404
        };
        answer(status, &[("cache-control", "max-age=1")], "of another")
    });
    let mut stage = Stage::new().await;
    let router = Arc::get_mut(&mut stage.router).unwrap();
    router.fetch_from(Some(edge_of(&[&origin])));
    let elsewhere = stage.get("/live/beside/master.m3u8").await;
    assert_eq!(
        (elsewhere.status.as_u16(), &elsewhere.body[..]),
        (200, &b"of another"[..])
    );
    assert_eq!(
        (
            elsewhere.header("timing-allow-origin"),
            elsewhere.header("server-timing")
        ),
        ("*", "edge;desc=miss")
    );
    // Nothing to show here yet: they are asked first, then it is waited for.
    let router = Arc::clone(&stage.router);
    let waiting = tokio::spawn(async move { stage::ask(&router, "GET", MASTER, &[]).await });
    settle().await;
    assert!(!waiting.is_finished());
    stage.push(SEGMENT + 1).await;
    assert!(waiting.await.unwrap().body.starts_with(b"#EXTM3U"));
    let asked = origin.asked();
    assert!(stage.get(PLAYLIST).await.body.starts_with(b"#EXTM3U"));
    for path in ["/api/v1/streams", "/watch/demo", "/time", "/nothing"] {
        stage.get(path).await;
    }
    assert_eq!(origin.asked(), asked);
}
