//! Edge mode with real daemons: an origin with a publisher, and an edge in front of it that
//! requests each object once.

use crate::support::{
    Workdir,
    daemon::{Daemon, Entry, Settings},
    follow, http,
    media::PLAIN,
    players::Browser,
    playlist::{Media, Multivariant, resolve},
    process::Process,
    publisher,
    tls::Certificate,
    wait_for,
};
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

const MASTER: &str = "/live/show/master.m3u8";
const VIDEO: &str = "/live/show/v0.m3u8";
const AUDIO: &str = "/live/show/a0.m3u8";
const MANIFEST: &str = "/live/show/manifest.mpd";

/// Far less than an origin's time limit, which an edge would take if it waited for a dead one.
const AT_ONCE: Duration = Duration::from_secs(10);

fn edge_of(origins: &[SocketAddr], more: &str) -> Daemon {
    let urls: Vec<_> = origins.iter().map(|origin| format!("\"http://{origin}\"")).collect();
    Daemon::start(&Settings {
        extra: format!("[edge]\norigin = [{}]\n{more}", urls.join(", ")),
        ..Settings::default()
    })
}

/// An origin with the channel `show`, live.
fn origin() -> (Daemon, Process) {
    let origin = Daemon::start(&Settings::default());
    let publisher = publisher::ffmpeg(&PLAIN, &origin.rtmp_url("show"));
    origin.wait_until_live("show");
    (origin, publisher)
}

fn requests(daemon: &Daemon, kind: &str) -> u64 {
    daemon.metric(&format!("streamforge_http_requests_total{{kind=\"{kind}\""))
}

#[test]
fn an_edge_serves_every_resource_of_its_origin_byte_for_byte() {
    let origin = Daemon::start(&Settings { reconnect_s: 0, ..Settings::default() });
    let edge = edge_of(&[origin.http], "");
    let mut publisher = publisher::ffmpeg_for(&PLAIN, 9, &origin.rtmp_url("show"));
    edge.wait_until_live("show");
    publisher.wait(Duration::from_secs(30));
    wait_for("the end", Duration::from_secs(20), || {
        edge.get(VIDEO).text().contains("#EXT-X-ENDLIST").then_some(())
    });
    let mut paths = vec![MASTER.to_owned(), MANIFEST.into(), "/live/show/plain.mpd".into()];
    for list in [VIDEO, AUDIO] {
        let media = Media::parse(&origin.get(list).text());
        paths.push(list.to_owned());
        for segment in &media.segments {
            paths.extend(segment.map.iter().map(|map| resolve(list, map)));
            paths.push(resolve(list, &segment.uri));
            paths.extend(segment.parts.iter().map(|part| resolve(list, &part.uri)));
        }
    }
    assert!(paths.len() > 20, "{paths:?}");
    for path in &paths {
        for coding in ["identity", "gzip"] {
            // The origin lists the clock with a relative address for edges, with its own address
            // for others.
            let headers = [("Accept-Encoding", coding), ("CDN-Loop", "streamforge-test")];
            // A list from before the end may be cached for another half a target duration.
            wait_for(
                &format!("answer to {path} that is the origin's"),
                Duration::from_secs(5),
                || {
                    let theirs = http::request(origin.http, "GET", path, &headers);
                    let ours = http::request(edge.http, "GET", path, &headers);
                    assert_eq!(ours.status, 200, "{path}");
                    let names = [
                        "content-type",
                        "content-encoding",
                        "etag",
                        "vary",
                        "accept-ranges",
                        "access-control-allow-origin",
                    ];
                    let same = names.iter().all(|name| ours.header(name) == theirs.header(name));
                    (same && ours.body == theirs.body).then_some(())
                },
            );
        }
        let again = edge.get(path);
        assert!(
            again.header("server-timing").is_some_and(|told| told.contains("edge;desc=")),
            "{path}: {:?}",
            again.headers
        );
        let age: u64 = again.header("age").expect("Age").parse().expect("seconds");
        assert!(age <= again.max_age(), "{path}: {age}");
    }
    // The edge itself responds to requests that are not for media.
    assert_eq!(edge.streams()["streams"], serde_json::json!([]));
    assert_eq!(edge.get("/live/nobody/master.m3u8").status, 404);
}

#[test]
fn fifty_viewers_that_wait_for_the_same_part_make_one_request_to_the_origin() {
    let (origin, _publisher) = origin();
    let edge = edge_of(&[origin.http], "");
    for _ in 0..3 {
        let media = follow::read(origin.http, VIDEO);
        let reload = format!("{VIDEO}?{}", follow::next_of(&media));
        let hint = media.hinted_part.clone().expect("a part is hinted at");
        let before = (requests(&origin, "playlist"), requests(&origin, "part"));
        let answers = thread::scope(|scope| {
            let asking: Vec<_> = (0..50)
                .flat_map(|_| [reload.clone(), resolve(VIDEO, &hint)])
                .map(|path| {
                    let edge = edge.http;
                    scope.spawn(move || http::get(edge, &path))
                })
                .collect();
            asking.into_iter().map(|asking| asking.join().expect("an answer")).collect::<Vec<_>>()
        });
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.body == answers[n % 2].body, "all get the same");
        }
        let after = (requests(&origin, "playlist"), requests(&origin, "part"));
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
    }
    let missed = edge.metric("streamforge_edge_requests_total{outcome=\"miss\"");
    assert!(missed <= 9, "{missed}");
}

#[test]
fn an_edge_forwards_parts_while_their_segment_is_open() {
    let (origin, _publisher) = origin();
    let edge = edge_of(&[origin.http], "");
    // At the start of a segment, which then continues for 2 s.
    let media = follow::read(origin.http, VIDEO);
    let open = media.open.msn + 1;
    let media = follow::read(edge.http, &format!("{VIDEO}?_HLS_msn={open}&_HLS_part=0"));
    assert_eq!((media.open.msn, media.open.parts.len()), (open, 1));
    let last = &media.segments.last().expect("a segment").uri;
    let segment =
        resolve(VIDEO, &last.replace(&format!("{}.m4s", open - 1), &format!("{open}.m4s")));
    let mut growing = http::Exchange::open(edge.http, "GET", &segment, &[]);
    assert_eq!(growing.status, 200);
    let mut bytes = growing.piece().expect("its first part");
    assert_eq!(follow::read(origin.http, VIDEO).open.msn, open, "it is open still");
    while let Some(piece) = growing.piece() {
        bytes.extend(piece);
    }
    let whole = wait_for("the whole segment", Duration::from_secs(10), || {
        let listed =
            follow::read(origin.http, VIDEO).segments.iter().any(|segment| segment.msn == open);
        listed.then(|| origin.get(&segment))
    });
    assert!(bytes == whole.body);
    // A low-latency player loses no part: each listed part exists, continues the previous one, and
    // the parts add up to their segment.
    let seen = follow::follow(edge.http, VIDEO, Duration::from_secs(30), |media| {
        media.next_msn() >= open + 3
    });
    for (segment, bytes) in seen.segments.iter().filter(|(segment, _)| !segment.parts.is_empty()) {
        let parts: Vec<u8> = seen
            .parts
            .iter()
            .filter(|part| part.msn == segment.msn)
            .flat_map(|part| part.bytes.clone())
            .collect();
        assert!(parts == *bytes, "{}", segment.msn);
    }
}

#[test]
fn a_dead_origin_is_an_immediate_502_and_its_return_resumes_playback() {
    let (mut origin, publisher) = origin();
    let edge = edge_of(&[origin.http], "");
    let before = follow::read(edge.http, VIDEO);
    origin.process.kill();
    drop(publisher);
    let next = format!("{VIDEO}?{}", follow::next_of(&before));
    for _ in 0..20 {
        let asked = Instant::now();
        let answer = edge.get(&next);
        assert!(
            answer.status == 502 && asked.elapsed() < AT_ONCE,
            "{} after {:?}",
            answer.status,
            asked.elapsed()
        );
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // A list without a blocking request is stale, and has its age.
    let stale = wait_for("a stale answer", AT_ONCE, || {
        let answer = edge.get(VIDEO);
        assert_eq!(answer.status, 200);
        (answer.header("server-timing") == Some("edge;desc=stale")).then_some(answer)
    });
    assert!(stale.header("age").expect("Age").parse::<u64>().expect("seconds") >= stale.max_age());
    assert_eq!(edge.metric("streamforge_edge_origin_up"), 0);

    let again = Daemon::start(&Settings {
        env: vec![("STREAMFORGE_HTTP_LISTEN".into(), origin.http.to_string())],
        ..Settings::default()
    });
    let _publisher = publisher::ffmpeg(&PLAIN, &again.rtmp_url("show"));
    let map = |media: &Media| media.segments.first().and_then(|segment| segment.map.clone());
    let media = wait_for("the new broadcast at the edge", Duration::from_secs(30), || {
        let answer = edge.get(VIDEO);
        let media = (answer.status == 200).then(|| Media::parse(&answer.text()))?;
        (map(&media).is_some() && map(&media) != map(&before)).then_some(media)
    });
    let seen = follow::follow(edge.http, VIDEO, Duration::from_secs(30), |now| {
        now.next_msn() >= media.next_msn() + 2
    });
    assert!(seen.segments.iter().all(|(segment, _)| !segment.gap));
    assert_eq!(edge.metric("streamforge_edge_origin_up"), 1);
}

#[test]
fn an_edge_uses_the_second_origin_for_a_dead_first_one_and_for_its_own_channels() {
    let (mut first, first_publisher) = origin();
    let (second, _second_publisher) = origin();
    let _alone = publisher::ffmpeg(&PLAIN, &second.rtmp_url("alone"));
    let edge = edge_of(&[first.http, second.http], "");
    edge.wait_until_live("show");
    let alone = edge.wait_until_live("alone");
    let theirs = Multivariant::parse(&second.get("/live/alone/master.m3u8").text());
    assert_eq!(alone.media(), theirs.media());
    let of = |daemon: &Daemon| {
        let media = follow::read(daemon.http, VIDEO);
        resolve(VIDEO, media.segments.last().expect("a segment").map.as_ref().expect("a map"))
    };
    assert_eq!(of(&edge), of(&first));
    first.process.kill();
    drop(first_publisher);
    // A list from before may be cached for half a target duration.
    wait_for("the second origin's list", AT_ONCE, || (of(&edge) == of(&second)).then_some(()));
    let up = |daemon: &Daemon| {
        edge.metric(&format!("streamforge_edge_origin_up{{origin=\"{}\"}}", daemon.http))
    };
    assert_eq!((up(&first), up(&second)), (0, 1));
    let now = follow::read(edge.http, VIDEO).next_msn();
    follow::follow(edge.http, VIDEO, Duration::from_secs(30), |media| media.next_msn() >= now + 2);
}

#[test]
fn the_cache_of_an_edge_stays_within_its_memory_limit() {
    let (origin, _publisher) = origin();
    let edge = edge_of(&[origin.http], "memory_mb = 16\nobject_mb = 8\n");
    let bound = 16 << 20;
    let cached = || edge.metric("streamforge_edge_cache_bytes ");
    // Each of these is another object, valid for six target durations.
    let mut old = 0;
    while edge.metric("streamforge_edge_fetched_bytes_total") < bound + bound / 4 {
        thread::scope(|scope| {
            for _ in 0..8 {
                let from = old;
                old += 100;
                let edge = edge.http;
                scope.spawn(move || {
                    for msn in from..from + 100 {
                        assert_eq!(http::get(edge, &format!("{VIDEO}?_HLS_msn={msn}")).status, 200);
                    }
                });
            }
        });
        assert!(cached() <= bound, "{}", cached());
    }
    assert!(cached() > bound / 2, "{}: something is kept", cached());
}

#[test]
fn an_https_origin_is_read_over_one_connection_and_only_with_a_trusted_certificate() {
    let workdir = Workdir::new("edge");
    let certificate = Certificate::make(workdir.path(), "origin");
    let mut origin = Daemon::start(&Settings {
        env: certificate.settings(&["127.0.0.1:0"]),
        ..Settings::default()
    });
    let https = origin.process.wait_for_lines("https listener", Duration::from_secs(10), |lines| {
        let mut entries = lines.iter().filter_map(|line| Entry::parse(line));
        entries.find_map(|entry| {
            let ours = entry.message() == "listening" && entry.field("listener") == Some("https");
            ours.then(|| {
                entry
                    .field("addr")
                    .and_then(|addr| addr.parse::<SocketAddr>().ok())
                    .expect("an address")
            })
        })
    });
    let _publisher = publisher::ffmpeg(&PLAIN, &origin.rtmp_url("show"));
    origin.wait_until_live("show");
    let edge_with = |ca: &str| {
        Daemon::start(&Settings {
            extra: format!(
                "[edge]\norigin = \"https://localhost:{}\"\nca = {ca:?}\n",
                https.port()
            ),
            ..Settings::default()
        })
    };
    let edge = edge_with(certificate.cert.to_str().expect("UTF-8"));
    edge.wait_until_live("show");
    let before = origin.metric("streamforge_http_connections");
    thread::scope(|scope| {
        for path in [VIDEO, AUDIO] {
            let (edge, now) = (edge.http, follow::read(edge.http, path).next_msn());
            scope.spawn(move || {
                follow::follow(edge, path, Duration::from_secs(30), |media| {
                    media.next_msn() >= now + 2
                })
            });
        }
    });
    // HTTP/2: both players' concurrent requests share the connection that the first request opened.
    assert!(before <= 1 && origin.metric("streamforge_http_connections") <= 1, "{before}");
    let other = Certificate::make(workdir.path(), "other");
    let edge = edge_with(other.cert.to_str().expect("UTF-8"));
    assert_eq!(edge.get(MASTER).status, 502);
}

#[test]
fn hls_js_plays_in_low_latency_mode_through_an_edge() {
    let browser = Browser::take();
    let origin = Daemon::start(&Settings::default());
    let edge = edge_of(&[origin.http], "");
    let mut publisher = publisher::ffmpeg(&PLAIN, &origin.rtmp_url("show"));
    edge.wait_until_live("show");
    let report = browser.play("hls", &edge.url(MASTER), 20);
    assert_eq!(report.faults(), Vec::<String>::new(), "{:#}", report.0);
    assert!(
        report.requests("part") > report.requests("segment"),
        "it takes parts: {:#}",
        report.0["requests"]
    );
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
}
