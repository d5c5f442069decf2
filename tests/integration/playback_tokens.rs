//! Private channels and playback tokens with a real daemon, an edge in front of it, and players.

use crate::support::{
    Workdir,
    cache::{Cache, Kind},
    daemon::{Daemon, Settings},
    dash, ffprobe, follow, http,
    media::PLAIN,
    players::Browser,
    playlist::{Media, Multivariant, resolve},
    process::Process,
    publisher, rtmp,
    token::{Issuer, now_s},
    wait_for,
};
use serde_json::json;
use std::{fs, process::Command, thread, time::Duration};

const MASTER: &str = "/live/show/master.m3u8";
const VIDEO: &str = "/live/show/v0.m3u8";
const MANIFEST: &str = "/live/show/manifest.mpd";
const PLAIN_MPD: &str = "/live/show/plain.mpd";

const OLD: Issuer = Issuer::Secret("old", "0123456789abcdef0123456789abcdef");
const NEW: Issuer = Issuer::Secret("new", "fedcba9876543210fedcba9876543210");

/// A section in which `show` is private.
fn section(keys: &[&Issuer], more: &str) -> String {
    let keys: String = keys.iter().map(|key| key.to_toml()).collect();
    format!("[playback]\nprivate = [\"show\"]\nleeway_s = 0\n{more}\n{keys}")
}

/// The same at an edge, which learns from its origin which channels are private.
fn edge_of(origin: &Daemon, keys: &[&Issuer]) -> Daemon {
    let keys: String = keys.iter().map(|key| key.to_toml()).collect();
    let extra =
        format!("[edge]\norigin = \"http://{}\"\n[playback]\nleeway_s = 0\n{keys}", origin.http);
    Daemon::start(&Settings { extra, ..Settings::default() })
}

/// A daemon with the private channel `show`, which has a complete segment.
fn private(keys: &[&Issuer], more: &str, env: Vec<(String, String)>) -> (Daemon, Process) {
    let settings = Settings { extra: section(keys, more), env, ..Settings::default() };
    let daemon = Daemon::start(&settings);
    let publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    wait_until_live(&daemon, &keys[0].channel("show", 600));
    (daemon, publisher)
}

fn wait_until_live(daemon: &Daemon, token: &str) {
    let path = under(token, VIDEO);
    wait_for("segment of show", Duration::from_secs(30), || {
        let answer = daemon.get(&path);
        (answer.status == 200 && !Media::parse(&answer.text()).segments.is_empty()).then_some(())
    });
}

fn under(token: &str, path: &str) -> String {
    format!("/t/{token}{path}")
}

fn status(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> u16 {
    http::request(daemon.http, "GET", path, headers).status
}

/// All addresses of the channel that its playlists and its manifest list, without the prefix.
fn addresses(daemon: &Daemon, token: &str) -> Vec<String> {
    let prefix = format!("/t/{token}");
    let mut paths = vec![MASTER.to_owned(), MANIFEST.into(), PLAIN_MPD.into()];
    let master = Multivariant::parse(&daemon.get(&under(token, MASTER)).text());
    for uri in master.media() {
        let list = resolve(&under(token, MASTER), &uri);
        let media = Media::parse(&daemon.get(&list).text());
        let newest = media.segments.last().expect("a segment");
        paths.extend([list.clone(), resolve(&list, &newest.uri)]);
        paths.extend(newest.map.iter().map(|map| resolve(&list, map)));
        paths.extend(newest.parts.first().map(|part| resolve(&list, &part.uri)));
    }
    let manifest = under(token, PLAIN_MPD);
    for representation in dash::timeline(&manifest, &daemon.get(&manifest).text()) {
        let newest = representation.segments.last().expect("a segment");
        paths.extend([representation.init.clone(), newest.path.clone()]);
    }
    for path in paths.iter_mut().skip(3) {
        // Relative addresses have kept the prefix.
        *path = path.strip_prefix(&prefix).expect("the prefix").to_owned();
    }
    assert!(paths.len() > 10, "{paths:?}");
    paths
}

#[test]
fn a_private_channel_needs_a_token_of_its_own_in_each_form_and_for_each_resource() {
    let log = Workdir::new("access");
    let access = log.path().join("access.log");
    let env = vec![
        ("STREAMFORGE_HTTP_ACCESS_LOG".to_owned(), access.display().to_string()),
        ("RUST_LOG".to_owned(), "debug".to_owned()),
    ];
    let (daemon, _publisher) = private(&[&OLD, &NEW], "", env);
    let good = OLD.channel("show", 600);
    let id = daemon.get(&under(&good, VIDEO)).text();
    let id = id.split("../../media/").nth(1).and_then(|rest| rest.get(..36)).expect("an id");
    let bound = |ip: &str| OLD.issue(&json!({ "channel": "show", "ip": ip, "exp": now_s() + 600 }));
    let opening = [
        good.clone(),
        OLD.issue(&json!({ "broadcast": id, "exp": now_s() + 600 })),
        bound("127.0.0.1"),
        NEW.channel("show", 600),
    ];
    let early = json!({ "channel": "show", "nbf": now_s() + 500, "exp": now_s() + 600 });
    let refused = [
        (OLD.channel("other", 600), "another presentation"),
        (bound("192.0.2.1"), "another address"),
        (OLD.issue(&json!({ "channel": "show", "exp": now_s() - 1 })), "has expired"),
        (OLD.issue(&early), "not valid yet"),
        (Issuer::Secret("old", "not the secret of this key").channel("show", 600), "signature"),
        (OLD.issue(&json!({ "channel": "show" })), "malformed"),
    ];
    let (bearer, cookie) = (format!("Bearer {good}"), format!("streamforge_playback={good}"));
    let paths = addresses(&daemon, &good);
    let verified = || daemon.metric("streamforge_playback_verifications_total");
    let before = verified();
    for path in &paths {
        for token in &opening {
            let answer = daemon.get(&under(token, path));
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let control = answer.header("cache-control").expect("Cache-Control");
            assert!(control.starts_with("private, max-age="), "{path}: {control}");
        }
        for headers in [("Authorization", &*bearer), ("Cookie", &*cookie)] {
            assert_eq!(status(&daemon, path, &[headers]), 200, "{path}");
        }
        let answer = daemon.get(path);
        assert_eq!((answer.status, answer.header("cache-control")), (403, Some("no-store")));
        assert_eq!(answer.text(), "this needs a playback token\n");
        for (token, words) in &refused {
            let answer = daemon.get(&under(token, path));
            assert_eq!(answer.status, 403, "{path}: {words}");
            assert!(answer.text().contains(words), "{path}: {}", answer.text());
        }
        // A first request with the query form is led to the prefix.
        let query = daemon.get(&format!("{path}?token={good}"));
        let location = query.header("location").expect("Location");
        assert_eq!((query.status, query.header("cache-control")), (307, Some("no-store")));
        assert_eq!(daemon.get(&resolve(path, location)).status, 200, "{location}");
    }
    // Each signature is verified once, except for the two tokens that no key has signed or that
    // say too little: those are not kept.
    let paths = u64::try_from(paths.len()).expect("a few");
    assert_eq!(verified() - before, 7 + 2 * paths);
    // The other protocol and the list of streams do not pass the check by.
    rtmp_plays(&daemon, "show", false);
    rtmp_plays(&daemon, &format!("show?token={good}"), true);
    assert_eq!(daemon.streams()["streams"], json!([]));
    assert!(daemon.metric("streamforge_playback_refusals_total{reason=\"address\"}") > 0);
    // No log shows a token, whichever form it had.
    let secret = good.rsplit('.').next().expect("a signature");
    wait_for("the access log", Duration::from_secs(10), || {
        let text = fs::read_to_string(&access).ok()?;
        assert!(!text.contains(secret), "a token in the access log");
        (text.contains("/t/***/live/show/v0.m3u8") && text.contains("?token=***")).then_some(())
    });
    let said = daemon.process.stderr();
    assert!(said.contains("request served") && !said.contains(secret), "a token in the log");
}

/// Whether ffprobe can play a channel over RTMP.
#[track_caller]
fn rtmp_plays(daemon: &Daemon, name: &str, expected: bool) {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "30", "ffprobe", "-v", "error", "-show_streams"]);
    let output = command.arg(daemon.rtmp_url(name)).output().expect("ffprobe");
    let found = String::from_utf8_lossy(&output.stdout).contains("codec_name=h264");
    assert_eq!(found, expected, "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn hls_and_dash_play_under_the_prefix_and_end_with_the_token() {
    let (daemon, _publisher) = private(&[&OLD], "", vec![]);
    let good = OLD.channel("show", 600);
    let before = follow::read(daemon.http, &under(&good, VIDEO)).next_msn();
    // Each playlist, header, part and segment is read by relative addresses from the first.
    let seen = follow::follow(daemon.http, &under(&good, VIDEO), Duration::from_secs(30), |now| {
        now.next_msn() >= before + 2
    });
    assert!(seen.segments.len() >= 2);
    let streams = ffprobe::streams(daemon.url(&under(&good, MASTER)));
    assert_eq!(streams.len(), 2, "{streams:?}");
    let short = OLD.channel("show", 6);
    let path = under(&short, VIDEO);
    let media = follow::read(daemon.http, &path);
    // This waits for a part of the segment after the next one, beyond the token's life if the
    // machine is slow: a request that has begun ends by itself.
    let (answer, asked) =
        (http::get(daemon.http, &format!("{path}?_HLS_msn={}", media.next_msn() + 1)), now_s());
    assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
    let refused = wait_for("the end of the token", Duration::from_secs(15), || {
        let answer = daemon.get(&path);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.text()), (403, "the playback token has expired\n".into()));
}

#[test]
fn keys_rotate_and_channels_become_private_by_a_reload() {
    let mut daemon = Daemon::start(&Settings {
        extra: "[playback]\nleeway_s = 0\n".into(),
        ..Settings::default()
    });
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    let (old, new) = (OLD.channel("show", 600), NEW.channel("show", 600));
    let statuses = |daemon: &Daemon| {
        [VIDEO.to_owned(), under(&old, VIDEO), under(&new, VIDEO)]
            .map(|path| daemon.get(&path).status)
    };
    let public = "[playback]\nleeway_s = 0\n";
    let mut reload = |keys: &[&Issuer]| {
        daemon.configure(|text| text.replace(public, &section(keys, "")));
        let said = daemon.reload().join("\n");
        assert!(said.contains("configuration read again"), "{said}");
        assert!(!said.contains("needs a restart"), "{said}");
        statuses(&daemon)
    };
    assert_eq!(reload(&[&OLD]), [403, 200, 403]);
    assert_eq!(reload(&[&OLD, &NEW]), [403, 200, 200]);
    assert_eq!(reload(&[&NEW]), [403, 403, 200]);
    daemon.configure(|text| text);
    daemon.reload();
    assert_eq!(statuses(&daemon), [200, 200, 200]);
    // An invalid key changes nothing, and is not shown.
    daemon.configure(|text| {
        let short = Issuer::Secret("old", "a short secret");
        text.replace(public, &section(&[&short], ""))
    });
    let said = daemon.reload().join("\n");
    assert!(said.contains("nothing was changed") && said.contains("14 bytes"), "{said}");
    assert!(!said.contains("a short secret"), "{said}");
    assert_eq!(statuses(&daemon), [200, 200, 200]);
    assert!(publisher.is_running());
}

#[test]
fn an_edge_with_public_keys_checks_tokens_and_shares_objects_among_viewers() {
    let workdir = Workdir::new("issuer");
    let issuer = Issuer::ed25519(workdir.path(), "issuer");
    let (origin, _publisher) = private(&[&issuer], "", vec![]);
    let edge = edge_of(&origin, &[&issuer]);
    let good = issuer.channel("show", 600);
    wait_until_live(&edge, &good);
    let seen = follow::follow(edge.http, &under(&good, VIDEO), Duration::from_secs(30), |media| {
        media.segments.len() >= 3
    });
    assert!(seen.segments.len() >= 3);
    // Fifty viewers, each with a token of its own, who wait for the same part: one request.
    let requests =
        |kind: &str| origin.metric(&format!("streamforge_http_requests_total{{kind=\"{kind}\""));
    let viewers: Vec<_> = (0..50)
        .map(|n| {
            issuer.issue(&json!({
                "channel": "show", "sub": format!("viewer-{n}"), "exp": now_s() + 600
            }))
        })
        .collect();
    let media = follow::read(edge.http, &under(&good, VIDEO));
    let reload = format!("{VIDEO}?{}", follow::next_of(&media));
    let before = requests("playlist");
    let answers = thread::scope(|scope| {
        let asking: Vec<_> = viewers
            .iter()
            .map(|token| {
                let (edge, path) = (edge.http, under(token, &reload));
                scope.spawn(move || http::get(edge, &path))
            })
            .collect();
        asking.into_iter().map(|asking| asking.join().expect("an answer")).collect::<Vec<_>>()
    });
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body == answers[0].body, "all get the same");
        assert!(answer.header("cache-control").expect("it").starts_with("private, max-age="));
        assert_eq!(answer.header("streamforge-private"), None);
    }
    assert_eq!(requests("playlist") - before, 1);
    // What is in memory here is still not for everyone.
    for path in addresses(&edge, &good) {
        assert_eq!(edge.get(&under(&good, &path)).status, 200, "{path}");
        assert_eq!(edge.get(&path).status, 403, "{path}");
        for token in [
            issuer.channel("other", 600),
            issuer.issue(&json!({ "channel": "show", "exp": now_s() - 1 })),
            issuer.issue(&json!({ "channel": "show", "ip": "192.0.2.1", "exp": now_s() + 9 })),
            Issuer::Secret("issuer", "the public key is not a secret..").channel("show", 600),
        ] {
            assert_eq!(edge.get(&under(&token, &path)).status, 403, "{path}");
        }
        let query = edge.get(&format!("{path}?token={good}"));
        assert_eq!(query.status, 307, "{path}");
    }
    // A token ends at the edge too.
    let short = under(&issuer.channel("show", 4), VIDEO);
    assert_eq!(edge.get(&short).status, 200);
    let refused = wait_for("the end of the token", Duration::from_secs(15), || {
        let answer = edge.get(&short);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.text()), (403, "the playback token has expired\n".into()));
}

#[test]
fn a_token_that_is_bound_to_an_address_passes_an_edge_that_the_origin_lists() {
    let bound = OLD.issue(&json!({
        "channel": "show", "ip": "127.0.0.2", "exp": now_s() + 600
    }));
    // All connections come from 127.0.0.1, which is the edge's address, and no viewer's.
    let (strict, _one) = private(&[&OLD], "", vec![]);
    assert_eq!(strict.get(&under(&bound, VIDEO)).status, 403);
    let (listing, _other) = private(&[&OLD], "edges = [\"127.0.0.1\"]", vec![]);
    assert_eq!(listing.get(&under(&bound, VIDEO)).status, 200);
    let edge = edge_of(&listing, &[&OLD]);
    assert_eq!(edge.get(&under(&bound, VIDEO)).status, 403, "the edge compares it");
}

#[test]
fn a_private_channel_stays_private_after_a_hand_over() {
    let (mut daemon, mut publisher) = private(&[&OLD], "", vec![]);
    let good = OLD.channel("show", 600);
    let paths = addresses(&daemon, &good);
    daemon.upgrade();
    // Its media are those of the old process, for which the new one is an edge.
    for path in &paths {
        assert_eq!(daemon.get(path).status, 403, "{path}");
        assert_eq!(daemon.get(&under(&OLD.channel("other", 60), path)).status, 403, "{path}");
        assert_eq!(daemon.get(&under(&good, path)).status, 200, "{path}");
        assert_eq!(daemon.get(path).status, 403, "{path}");
    }
    rtmp::Client::publish(daemon.rtmp, "live", "another").expect("it serves");
    assert!(publisher.is_running());
}

/// What is between a player and the origin.
#[derive(Debug, Clone, Copy)]
enum Via {
    Nothing,
    Edge,
    Nginx,
}

/// Plays the private channel for 15 s without any error.
#[track_caller]
fn plays(player: &str, path: &str, segments: usize, via: Via, address: fn(&str, &str) -> String) {
    let browser = Browser::take();
    let (origin, mut publisher) = private(&[&OLD], "", vec![]);
    let edge = matches!(via, Via::Edge).then(|| edge_of(&origin, &[&OLD]));
    let nginx = matches!(via, Via::Nginx).then(|| Cache::start(Kind::Nginx, origin.http));
    let good = OLD.channel("show", 600);
    follow::follow(origin.http, &under(&good, VIDEO), Duration::from_secs(30), |media| {
        media.segments.len() >= segments
    });
    let path = address(&good, path);
    let url = match &nginx {
        Some(nginx) => format!("http://{}{path}", nginx.address),
        None => edge.as_ref().unwrap_or(&origin).url(&path),
    };
    let report = browser.play(player, &url, 15);
    assert_eq!(report.faults(), Vec::<String>::new(), "{:#}", report.0);
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
}

/// nginx with the shipped example gives a private channel to tokens alone. It stores nothing of it,
/// unless the configuration trusts it: then it has objects of its own for each token.
#[test]
fn nginx_as_a_cache_delivers_a_private_channel_to_tokens_alone() {
    for (more, second) in [("", "MISS"), ("trusted_cdn = true", "HIT")] {
        let (origin, _publisher) = private(&[&OLD], more, vec![]);
        let nginx = Cache::start(Kind::Nginx, origin.http);
        let get = |path: &str| http::get(nginx.address, path);
        let refused = |path: &str| {
            let response = get(path);
            assert_eq!(response.status, 403, "{more}: {path}");
            assert_eq!(response.header("x-cache").unwrap_or("MISS"), "MISS", "{path}");
        };
        let (good, other) = (OLD.channel("show", 600), OLD.channel("show", 500));
        let media = Media::parse(&get(&under(&good, VIDEO)).text());
        let segment = &media.segments.last().expect("a segment").uri;
        let segment = resolve(VIDEO, segment);
        for cached in ["MISS", second] {
            let response = get(&under(&good, &segment));
            assert_eq!((response.status, response.header("x-cache")), (200, Some(cached)));
            assert!(response.body == origin.get(&under(&good, &segment)).body);
        }
        let response = get(&under(&other, &segment));
        assert_eq!((response.status, response.header("x-cache")), (200, Some("MISS")));
        let ended = OLD.issue(&json!({ "channel": "show", "exp": now_s() - 1 }));
        for path in [VIDEO, MASTER, MANIFEST, &segment] {
            refused(path);
            refused(&under(&OLD.channel("another", 600), path));
            refused(&under(&ended, path));
            refused(&under(&NEW.channel("show", 600), path));
        }
        // While it is valid, and after its end.
        let brief = OLD.channel("show", 3);
        let path = under(&brief, VIDEO);
        assert_eq!(get(&path).status, 200);
        wait_for("the end of the token", Duration::from_secs(30), || {
            (get(&path).status == 403).then_some(())
        });
    }
}

fn by_query(token: &str, path: &str) -> String {
    format!("{path}?token={token}")
}

#[test]
fn hls_js_plays_a_private_channel_through_an_edge_from_a_query() {
    plays("hls", MASTER, 1, Via::Edge, by_query);
}

#[test]
fn dash_js_plays_a_private_channel_through_nginx_from_the_prefix() {
    plays("dash", MANIFEST, 1, Via::Nginx, under);
}

#[test]
fn shaka_plays_a_private_channel_through_an_edge_from_the_prefix() {
    plays("shaka", MANIFEST, 1, Via::Edge, under);
}

#[test]
fn chromium_plays_a_private_channel_natively_through_nginx_from_a_query() {
    plays("native", MASTER, 6, Via::Nginx, by_query);
}

#[test]
fn the_watch_page_plays_a_private_channel_from_a_query() {
    plays("page", "/watch/show", 1, Via::Nothing, by_query);
}
