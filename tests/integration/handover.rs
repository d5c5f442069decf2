//! An upgrade of a running daemon (SIGUSR2): a new process takes the sockets, the old one keeps its
//! publishers until they disconnect, and no client notices.

use crate::support::{
    Workdir,
    daemon::{Daemon, Settings},
    follow, http,
    media::PLAIN,
    players::{Browser, Event, Report},
    playlist::{Media, Multivariant, resolve},
    proc,
    process::Process,
    publisher,
    push::Push,
    rtmp::{self, Amf, Client, Tag},
    tls::Certificate,
    wait_for,
};
use std::{
    fs,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Broadcasts are held only briefly, so that an old process ends soon.
fn settings() -> Settings {
    Settings { segment_ms: 1000, window_s: 8, reconnect_s: 5, ..Settings::default() }
}

fn start() -> Daemon {
    Daemon::start(&settings())
}

/// Whether a process runs; a zombie does not.
fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[track_caller]
fn wait_until_ended(daemon: &mut Daemon, pid: u32, limit: Duration) {
    wait_for(&format!("end of process {pid}"), limit, || {
        daemon.process.is_running();
        (!runs(pid)).then_some(())
    });
}

/// The channels of the serving process itself, or those of draining processes.
fn published(daemon: &Daemon, draining: bool) -> Vec<(String, String)> {
    let streams = daemon.streams();
    let list = streams["streams"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    list.iter()
        .filter(|stream| stream["draining"] == draining)
        .map(|stream| (text(&stream["channel"]), text(&stream["broadcast"])))
        .collect()
}

fn published_here(daemon: &Daemon) -> Vec<(String, String)> {
    published(daemon, false)
}

/// Requests everything of a channel repeatedly, on separate connections, and records faults.
#[derive(Debug, Default)]
struct Watch {
    stop: AtomicBool,
    faults: Mutex<Vec<String>>,
    /// The newest segments, each once.
    seen: Mutex<Vec<u64>>,
}

impl Watch {
    fn fault(&self, what: String) {
        self.faults.lock().expect("nobody panics while holding it").push(what);
    }

    /// Reads playlists and each newest part, until it is stopped.
    fn read(&self, http: SocketAddr, channel: &str) {
        let path = format!("/live/{channel}/v0.m3u8");
        while !self.stop.load(Ordering::Relaxed) {
            let response = http::get(http, &path);
            if response.status != 200 {
                self.fault(format!("{path}: {} {}", response.status, response.text()));
                continue;
            }
            let media = Media::parse(&response.text());
            if media.ended {
                self.fault(format!("{path} has ended"));
            }
            if let Some(part) = media.with_open().flat_map(|segment| &segment.parts).last()
                && !part.gap
            {
                let uri = resolve(&path, &part.uri);
                let response = http::get(http, &uri);
                if response.status != 200 || response.body.is_empty() {
                    self.fault(format!("{uri}: {} {}", response.status, response.text()));
                }
            }
            if let Some(segment) = media.segments.last() {
                let mut seen = self.seen.lock().expect("nobody panics while holding it");
                if seen.last() != Some(&segment.msn) {
                    seen.push(segment.msn);
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Connects over RTMP like a publisher, until it is stopped.
    fn connect(&self, rtmp: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(refusal) = Client::connect(rtmp).open("live") {
                self.fault(format!("rtmp: {refusal:?}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it when dropped, also by a panic.
    fn stops(&self) -> impl Drop {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        Stop(&self.stop)
    }

    #[track_caller]
    fn assert_faultless(&self) {
        let faults = self.faults.lock().expect("nobody panics while holding it");
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// Publishes, plays `url` with hls.js for 20 s while the daemon is upgraded twice, and asserts that
/// neither notices. Returns the processes, the oldest first, and the publisher.
#[track_caller]
fn plays_through_two_upgrades(
    daemon: &mut Daemon,
    url: &str,
    options: &[&str],
) -> (Vec<u32>, Process, Report) {
    let browser = Browser::with_daemons();
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    let (http, rtmp) = (daemon.http, daemon.rtmp);
    let (watch, started) = (Watch::default(), AtomicBool::new(false));
    let mut pids = vec![daemon.main()];
    let report = thread::scope(|scope| {
        let _stops = watch.stops();
        scope.spawn(|| watch.read(http, "show"));
        scope.spawn(|| watch.connect(rtmp));
        let upgrades = scope.spawn(|| {
            while !started.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
            }
            for _ in 0..2 {
                thread::sleep(Duration::from_secs(4));
                pids.push(daemon.upgrade());
            }
        });
        let report = browser.play_with("hls", url, 20, options, |event| {
            if event == Event::Started {
                started.store(true, Ordering::Relaxed);
            }
        });
        // If the browser does not start, the test must not wait for it.
        started.store(true, Ordering::Relaxed);
        upgrades.join().expect("both upgrades");
        report
    });
    assert_eq!(report.faults(), Vec::<String>::new(), "{:#}", report.0);
    watch.assert_faultless();
    let seen = watch.seen.lock().expect("nobody panicked while holding it").clone();
    assert!(seen.len() > 10 && seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    assert!(publisher.is_running(), "{}", publisher.stderr());
    assert!(pids.iter().copied().all(runs), "all three: the first has the publisher");
    assert_eq!(published_here(daemon), [], "the new process fetches it");
    let draining = published(daemon, true);
    assert_eq!(draining.len(), 1, "it is listed, though two processes away: {draining:?}");
    (pids, publisher, report)
}

/// The same over TLS, with this protocol.
#[track_caller]
fn plays_by(protocol: &str, options: &[&str]) {
    let workdir = Workdir::new("certificates");
    let certificate = Certificate::make(workdir.path(), "shown");
    let mut daemon =
        Daemon::start(&Settings { env: certificate.settings(&["127.0.0.1:0"]), ..settings() });
    let https = daemon.listener("https");
    let mut all = vec!["--certificate", certificate.cert.to_str().expect("a UTF-8 path")];
    all.extend(options);
    let url = format!("https://{https}/live/show/master.m3u8");
    let (_, _publisher, report) = plays_through_two_upgrades(&mut daemon, &url, &all);
    let protocols = report.protocols();
    assert_eq!(protocols.keys().map(String::as_str).collect::<Vec<_>>(), [protocol]);
}

#[test]
fn two_upgrades_do_not_interrupt_a_player_over_http2() {
    plays_by("h2", &[]);
}

#[test]
fn two_upgrades_do_not_interrupt_a_player_over_http3() {
    plays_by("h3", &["--http3"]);
}

#[test]
fn two_upgrades_do_not_interrupt_players_and_old_processes_end_with_their_publishers() {
    let mut daemon = start();
    let url = daemon.url("/live/show/master.m3u8");
    let (pids, mut publisher, _) = plays_through_two_upgrades(&mut daemon, &url, &[]);

    // Without the publisher the first process has no work left, and the second only forwarded its
    // media.
    publisher.kill();
    wait_until_ended(&mut daemon, pids[0], Duration::from_secs(40));
    wait_until_ended(&mut daemon, pids[1], Duration::from_secs(10));
    assert!(runs(pids[2]));
    let _again = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    assert_eq!(published_here(&daemon).len(), 1);
}

/// A publisher that supports ReconnectRequest: it is asked, and reconnects.
fn publish_and_follow(rtmp: SocketAddr, channel: &str, tags: &[Tag], asked: &AtomicBool) -> Push {
    let caps = [("capsEx", Amf::Number(1.0))];
    let mut client = Client::publish_with(rtmp, "live", channel, &caps).expect("the name is free");
    let mut reader = client.reader();
    thread::scope(|scope| {
        scope.spawn(|| {
            let code = "NetConnection.Connect.ReconnectRequest";
            let level = reader.status(code, Duration::from_secs(60));
            assert_eq!(level.as_deref(), Some("status"));
            asked.store(true, Ordering::Relaxed);
        });
        let start = Instant::now();
        for tag in tags {
            let due = Duration::from_millis(u64::from(tag.timestamp));
            thread::sleep(due.saturating_sub(start.elapsed()));
            // At a key frame, so that only the bytes in transit are missing.
            if asked.load(Ordering::Relaxed) && tag.is_key() {
                break;
            }
            client.tag(tag, tag.timestamp).expect("the server reads");
        }
    });
    client.shutdown(std::net::Shutdown::Both);
    Push::start(rtmp, channel, tags.to_vec())
}

#[test]
fn a_capable_publisher_moves_to_the_new_process_and_the_old_one_ends() {
    let mut daemon = start();
    let (old, rtmp, http) = (daemon.main(), daemon.rtmp, daemon.http);
    let tags = rtmp::tags(&PLAIN.flv());
    let (watch, asked) = (Watch::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let _stops = watch.stops();
        let publisher = scope.spawn(|| publish_and_follow(rtmp, "moves", &tags, &asked));
        daemon.wait_until_live("moves");
        let before = published_here(&daemon);
        scope.spawn(|| watch.read(http, "moves"));
        daemon.upgrade();
        let moved = publisher.join().expect("it was asked, and the new process takes it");
        assert!(asked.load(Ordering::Relaxed));
        let after = wait_for("broadcast in the new process", Duration::from_secs(10), || {
            Some(published_here(&daemon)).filter(|here| !here.is_empty())
        });
        assert_eq!(after[0].0, "moves");
        assert_ne!(before, after, "another broadcast");
        // The playlist continues, with the new process' media.
        wait_for("the new broadcast's media", Duration::from_secs(15), || {
            let media = follow::read(http, "/live/moves/v0.m3u8");
            media.segments.last().is_some_and(|last| last.uri.contains(&after[0].1)).then_some(())
        });
        wait_until_ended(&mut daemon, old, Duration::from_secs(40));
        moved.stop();
    });
    watch.assert_faultless();
    let seen = watch.seen.lock().expect("nobody panicked while holding it").clone();
    assert!(seen.windows(2).all(|pair| pair[1] > pair[0]), "segment numbers only grow: {seen:?}");
}

#[test]
fn a_new_process_that_does_not_start_leaves_the_old_one_serving() {
    let mut daemon = start();
    let old = daemon.main();
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    daemon.configure(|text| text + "[nonsense]\n");
    proc::signal(old, "USR2");
    let limit = Duration::from_secs(20);
    let said = daemon.process.wait_for_lines("refusal", limit, |lines| {
        lines.iter().find(|line| line.contains("upgrade failed")).cloned()
    });
    assert!(said.contains("this process continues"), "{said}");
    assert!(daemon.process.stderr().contains("nonsense"), "the new process says why");
    daemon.assert_healthy();
    assert!(publisher.is_running());
    assert_eq!(published_here(&daemon).len(), 1);
    let folder = daemon.workdir.path().join("data/handover");
    let left = fs::read_dir(folder).map(Iterator::count).unwrap_or(0);
    assert_eq!(left, 0, "no socket is left behind");

    // With a valid configuration the upgrade succeeds.
    daemon.configure(|text| text);
    let new = daemon.upgrade();
    assert!(runs(old) && runs(new));
    let master = daemon.get("/live/show/master.m3u8");
    assert_eq!(Multivariant::parse(&master.text()).variants.len(), 1);
}

#[test]
fn a_stop_of_the_service_also_ends_the_old_process() {
    let mut daemon = start();
    let old = daemon.main();
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    let new = daemon.upgrade();
    proc::signal(new, "TERM");
    // A grace period of ten seconds for each, concurrently, and a margin for a busy machine.
    wait_until_ended(&mut daemon, old, Duration::from_secs(14));
    wait_until_ended(&mut daemon, new, Duration::from_secs(14));
    publisher.wait(Duration::from_secs(5));
}

#[test]
fn administrator_requests_and_reloads_reach_broadcasts_of_the_old_process() {
    let mut daemon = Daemon::start(&Settings {
        extra: "[api]\nadmin_token = \"a-token-0123456789\"\n".into(),
        ..settings()
    });
    let mut ended = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("ended"));
    let mut withdrawn = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("withdrawn"));
    daemon.wait_until_live("ended");
    daemon.wait_until_live("withdrawn");
    let old = daemon.main();
    for _ in 0..2 {
        daemon.upgrade();
    }
    let draining: Vec<_> =
        published(&daemon, true).into_iter().map(|(channel, _)| channel).collect();
    assert_eq!(draining, ["ended", "withdrawn"]);
    assert_eq!(daemon.get("/api/v1/streams/ended").status, 200);

    let delete = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        http::request(daemon.http, "DELETE", "/api/v1/streams/ended", &headers)
    };
    assert_eq!(delete("another-token-0123").status, 401);
    let answer = delete("a-token-0123456789");
    assert_eq!(answer.status, 204, "{}", answer.text());
    ended.wait(Duration::from_secs(10));
    assert!(withdrawn.is_running());

    // A reload withdraws the other publisher's right, in both processes.
    daemon.configure(|text| text.replace("policy = \"open\"", "policy = \"keys\""));
    daemon.reload();
    withdrawn.wait(Duration::from_secs(10));
    wait_until_ended(&mut daemon, old, Duration::from_secs(40));
    assert_eq!(published(&daemon, true), []);
}

#[test]
fn a_publisher_of_the_old_process_returns_to_the_new_one_and_hls_js_keeps_playing() {
    let mut daemon = start();
    let browser = Browser::with_daemons();
    let mut before = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    let (url, started) = (daemon.url("/live/show/master.m3u8"), AtomicBool::new(false));
    let http = daemon.http;
    let watch = Watch::default();
    let (report, _after) = thread::scope(|scope| {
        let _stops = watch.stops();
        scope.spawn(|| watch.read(http, "show"));
        let publisher = scope.spawn(|| {
            while !started.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
            }
            thread::sleep(Duration::from_secs(2));
            daemon.upgrade();
            thread::sleep(Duration::from_secs(3));
            before.kill();
            // Encoders wait a little before they reconnect.
            thread::sleep(Duration::from_secs(2));
            publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"))
        });
        let report = browser.play_with("hls", &url, 30, &[], |event| {
            if event == Event::Started {
                started.store(true, Ordering::Relaxed);
            }
        });
        started.store(true, Ordering::Relaxed);
        (report, publisher.join().expect("both publishers"))
    });
    watch.assert_faultless();
    assert_eq!(published_here(&daemon).len(), 1);
    let seen = watch.seen.lock().expect("nobody panicked while holding it").clone();
    assert!(seen.windows(2).all(|pair| pair[1] > pair[0]), "{seen:?}");
    // Only the seconds without a publisher are missing: the player switches to the other broadcast
    // by itself.
    assert_eq!(report.fatal(), Vec::<String>::new(), "{:#}", report.0);
    assert!(report.number("/played_s") > 20.0, "{:#}", report.0);
    assert!(report.number("/still_for_ms") < 2000.0, "{:#}", report.0);
}
