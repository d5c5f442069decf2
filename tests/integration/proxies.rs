//! Third-party caches in front of the daemon, configured as in conf/examples: Varnish and nginx as
//! packaged by Debian. Blocking requests are collapsed, lifetimes are obeyed, open segments are
//! correct, and a low-latency player keeps up.

use crate::support::{
    cache::{Cache, Kind},
    daemon::{Daemon, Settings},
    follow, http,
    media::PLAIN,
    players::Browser,
    playlist::resolve,
    process::Process,
    publisher, wait_for,
};
use std::{net::SocketAddr, thread, time::Duration};

const MASTER: &str = "/live/show/master.m3u8";
const VIDEO: &str = "/live/show/v0.m3u8";

/// A cache in front of a daemon with the channel `show`.
struct Cached {
    origin: Daemon,
    proxy: SocketAddr,
    publisher: Process,
    _cache: Cache,
}

impl Cached {
    fn start(kind: Kind) -> Self {
        let origin = Daemon::start(&Settings::default());
        let publisher = publisher::ffmpeg(&PLAIN, &origin.rtmp_url("show"));
        let cache = Cache::start(kind, origin.http);
        origin.wait_until_live("show");
        Self { origin, proxy: cache.address, publisher, _cache: cache }
    }

    fn get(&self, path: &str) -> http::Response {
        http::get(self.proxy, path)
    }

    /// Number of requests of this kind at the origin.
    fn asked(&self, kind: &str) -> u64 {
        let prefix = format!("streamforge_http_requests_total{{kind=\"{kind}\"");
        self.origin.metric(&prefix)
    }
}

/// Fifty clients request a future part, each with a different query, and cause one request at the
/// origin.
#[track_caller]
fn collapses(cached: &Cached) {
    let media = follow::read(cached.origin.http, VIDEO);
    let reload = format!("{VIDEO}?{}", follow::next_of(&media));
    let hint = resolve(VIDEO, media.hinted_part.as_ref().expect("a part is hinted at"));
    let before = (cached.asked("playlist"), cached.asked("part"));
    let answers = thread::scope(|scope| {
        let asking: Vec<_> = (0..50)
            .flat_map(|viewer| {
                [format!("{reload}&viewer={viewer}"), format!("{hint}?viewer={viewer}")]
            })
            .map(|path| scope.spawn(move || cached.get(&path)))
            .collect();
        asking.into_iter().map(|asking| asking.join().expect("an answer")).collect::<Vec<_>>()
    });
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body == answers[n % 2].body, "all get the same");
    }
    let after = (cached.asked("playlist"), cached.asked("part"));
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
}

/// Immutable resources are requested once and have an age; a live list is revalidated after half a
/// target duration, not earlier.
#[track_caller]
fn obeys_lifetimes(cached: &Cached, kind: Kind) {
    let media = follow::read(cached.origin.http, VIDEO);
    let segment = resolve(VIDEO, &media.segments.last().expect("a segment").uri);
    let before = cached.asked("segment");
    let first = cached.get(&segment);
    assert!(first.body == cached.origin.get(&segment).body);
    for _ in 0..5 {
        let again = cached.get(&segment);
        assert_eq!(again.header("x-cache"), Some("HIT"));
        assert!(again.body == first.body);
    }
    assert_eq!(cached.asked("segment") - before, 2); // one of them ours, past the cache
    let part = http::request(cached.proxy, "GET", &segment, &[("Range", "bytes=10-19")]);
    assert_eq!((part.status, &part.body[..]), (206, &first.body[10..20]));
    let tag = first.header("etag").expect("an ETag");
    let same = http::request(cached.proxy, "GET", &segment, &[("If-None-Match", tag)]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    if kind == Kind::Varnish {
        let aged = wait_for("an age", Duration::from_secs(5), || {
            cached.get(&segment).header("age").filter(|age| *age != "0").map(str::to_owned)
        });
        assert!(aged.parse::<u64>().is_ok_and(|age| age < 60), "{aged}");
    }
    // Among lists that are read continuously, the newest is never more than a target duration
    // behind the origin's.
    for _ in 0..20 {
        let ours = follow::read(cached.origin.http, VIDEO);
        let theirs = follow::read(cached.proxy, VIDEO);
        assert!(
            theirs.next_msn() + 2 >= ours.next_msn(),
            "{} of {}",
            theirs.next_msn(),
            ours.next_msn()
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// Two clients that request the open segment both get its final content.
#[track_caller]
fn open_segments_are_right(cached: &Cached, kind: Kind) {
    let media = follow::read(cached.origin.http, VIDEO);
    let open = media.open.msn + 1;
    follow::read(cached.proxy, &format!("{VIDEO}?_HLS_msn={open}&_HLS_part=0"));
    let last = &media.segments.last().expect("a segment").uri;
    let number = media.segments.last().expect("a segment").msn;
    let segment = resolve(VIDEO, &last.replace(&format!("{number}.m4s"), &format!("{open}.m4s")));
    thread::scope(|scope| {
        let second = scope.spawn(|| cached.get(&segment));
        let mut growing = http::Exchange::open(cached.proxy, "GET", &segment, &[]);
        let mut bytes = growing.piece().expect("its first part");
        if kind == Kind::Varnish {
            assert_eq!(follow::read(cached.origin.http, VIDEO).open.msn, open, "it is open still");
        }
        while let Some(piece) = growing.piece() {
            bytes.extend(piece);
        }
        let second = second.join().expect("an answer");
        wait_for("the whole segment", Duration::from_secs(10), || {
            let media = follow::read(cached.origin.http, VIDEO);
            media.segments.iter().any(|segment| segment.msn == open).then_some(())
        });
        let whole = cached.origin.get(&segment);
        assert!(bytes == whole.body && second.body == whole.body);
    });
}

/// A manifest lists the clock with the address of the cache, then with a relative one, and both
/// work.
#[track_caller]
fn names_the_clock(cached: &Cached) {
    let manifest = "/live/show/manifest.mpd";
    let text = cached.get(manifest).text();
    let clocks: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("<UTCTiming"))
        .filter_map(|line| line.split("value=\"").nth(1)?.split('"').next())
        .collect();
    let absolute = format!("http://{}/time", cached.proxy);
    assert_eq!(clocks, [absolute.as_str(), "../../time", absolute.as_str()], "{text}");
    for path in ["/time", resolve(manifest, clocks[1]).as_str()] {
        let clock = cached.get(path);
        assert_eq!((clock.status, clock.header("cache-control")), (200, Some("no-store")));
    }
}

/// A client that reads lists and parts continuously loses none and is as recent as the origin.
#[track_caller]
fn keeps_up(cached: &Cached) {
    let now = follow::read(cached.proxy, VIDEO).next_msn();
    let seen = follow::follow(cached.proxy, VIDEO, Duration::from_secs(30), |media| {
        media.next_msn() >= now + 4
    });
    let newest = follow::read(cached.origin.http, VIDEO);
    assert!(
        seen.last.next_msn() + 1 >= newest.next_msn(),
        "{} of {}",
        seen.last.next_msn(),
        newest.next_msn()
    );
    assert!(seen.segments.iter().all(|(segment, _)| !segment.gap));
}

fn plays_through(kind: Kind) {
    let browser = Browser::take();
    let mut cached = Cached::start(kind);
    let url = format!("http://{}{MASTER}", cached.proxy);
    let report = browser.play("hls", &url, 20);
    assert_eq!(report.faults(), Vec::<String>::new(), "{:#}", report.0);
    assert!(report.requests("part") > report.requests("segment"), "{:#}", report.0["requests"]);
    assert!(cached.publisher.is_running(), "the publisher ended:\n{}", cached.publisher.stderr());
}

#[test]
fn varnish_collapses_requests_and_streams_open_segments() {
    let cached = Cached::start(Kind::Varnish);
    collapses(&cached);
    obeys_lifetimes(&cached, Kind::Varnish);
    open_segments_are_right(&cached, Kind::Varnish);
    names_the_clock(&cached);
    keeps_up(&cached);
}

#[test]
fn nginx_collapses_requests_and_caches_complete_media() {
    let cached = Cached::start(Kind::Nginx);
    collapses(&cached);
    obeys_lifetimes(&cached, Kind::Nginx);
    open_segments_are_right(&cached, Kind::Nginx);
    names_the_clock(&cached);
    keeps_up(&cached);
}

#[test]
fn hls_js_plays_in_low_latency_mode_through_varnish() {
    plays_through(Kind::Varnish);
}

#[test]
fn hls_js_plays_in_low_latency_mode_through_nginx() {
    plays_through(Kind::Nginx);
}
