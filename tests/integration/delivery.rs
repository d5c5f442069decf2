//! Delivery of playlists, manifests and media, independent of their content (RFC 9110, RFC 9111,
//! the Fetch standard's CORS).

use crate::support::{
    follow, http,
    live::{AUDIO, Live, MANIFEST, MASTER, PLAIN_MANIFEST, Shared, VIDEO},
    playlist::resolve,
    unix_ms, wait_for,
};
use std::{
    io::Read,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

fn live() -> Arc<Live> {
    static SHARED: Shared = Mutex::new(Weak::new());
    Live::with_short_segments(&SHARED)
}

#[test]
fn every_kind_of_response_has_its_exact_content_type() {
    let live = live();
    let [segment, part, init] = live.newest();
    let video = ["video/mp4", "video/iso.segment"];
    for (path, types) in [
        (MASTER, &["application/vnd.apple.mpegurl"][..]),
        (VIDEO, &["application/vnd.apple.mpegurl"]),
        (MANIFEST, &["application/dash+xml"]),
        (PLAIN_MANIFEST, &["application/dash+xml"]),
        (&init, &["video/mp4"]),
        (&segment, &video),
        (&part, &video),
    ] {
        let response = live.get(path);
        let found = response.header("content-type").unwrap_or_default();
        assert!(
            response.status == 200 && types.contains(&found),
            "{path}: {} {found}",
            response.status
        );
    }
}

#[test]
fn cors_permits_pages_of_other_origins_to_read_all_media() {
    let live = live();
    let [segment, part, init] = live.newest();
    for path in [
        MASTER,
        VIDEO,
        MANIFEST,
        PLAIN_MANIFEST,
        &segment,
        &part,
        &init,
        "/live/nobody/master.m3u8",
    ] {
        let response =
            http::request(live.http, "GET", path, &[("Origin", "http://player.example")]);
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(response.header("timing-allow-origin"), Some("*"), "{path}");
        let exposed = response
            .header("access-control-expose-headers")
            .unwrap_or_default()
            .to_ascii_lowercase();
        assert!(
            exposed.contains("date") && exposed.contains("content-range"),
            "{path} exposes {exposed:?}"
        );
        let preflight = [
            ("Origin", "http://player.example"),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "range"),
        ];
        let response = http::request(live.http, "OPTIONS", path, &preflight);
        assert!(matches!(response.status, 200 | 204), "{path}: {}", response.status);
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{path}");
        let allowed = response.header("access-control-allow-methods").unwrap_or_default();
        assert!(allowed.contains("GET") && allowed.contains("HEAD"), "{path} allows {allowed:?}");
        let allowed = response
            .header("access-control-allow-headers")
            .unwrap_or_default()
            .to_ascii_lowercase();
        assert!(allowed.contains("range") || allowed == "*", "{path} allows {allowed:?}");
    }
}

#[test]
fn immutable_media_has_an_etag_and_is_not_sent_again() {
    let live = live();
    for path in live.newest() {
        let first = live.get(&path);
        let tag = first.header("etag").unwrap_or_else(|| panic!("{path} has an ETag"));
        for matching in [tag, "*", &format!("\"other\", {tag}")] {
            let again = http::request(live.http, "GET", &path, &[("If-None-Match", matching)]);
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}: {matching}");
            assert_eq!(again.header("etag"), Some(tag));
        }
        let other = http::request(live.http, "GET", &path, &[("If-None-Match", "\"other\"")]);
        assert_eq!(other.status, 200);
    }
}

#[test]
fn immutable_media_is_cacheable_for_at_least_an_hour() {
    let live = live();
    for path in live.newest() {
        let response = live.get(&path);
        let field = response.header("cache-control").unwrap_or_default();
        assert!(field.contains("immutable") && response.max_age() >= 3600, "{path}: {field}");
    }
}

#[test]
fn live_playlists_are_cacheable_for_1_s_and_blocking_ones_for_six_target_durations() {
    let live = live();
    // TARGETDURATION is 2 s here (RFC 8216bis, appendix B.1).
    for path in [VIDEO, AUDIO, MASTER, MANIFEST, PLAIN_MANIFEST] {
        let response = live.get(path);
        assert_eq!(response.max_age(), 1, "{path}: {:?}", response.header("cache-control"));
    }
    let next = follow::next_of(&live.media(VIDEO));
    let response = live.get(&format!("{VIDEO}?{next}"));
    assert_eq!((response.status, response.max_age()), (200, 12));
    let refused = live.get(&format!("{VIDEO}?_HLS_part=1"));
    assert_eq!((refused.status, refused.max_age()), (400, 8));
    let refused = live.get(&format!("{VIDEO}?_HLS_skip=maybe"));
    assert_eq!((refused.status, refused.max_age()), (400, 2));
}

#[test]
fn media_that_was_held_is_cacheable_for_six_target_durations() {
    let live = live();
    let (hinted, part) = wait_for("part that was waited for", Duration::from_secs(10), || {
        let hinted = resolve(VIDEO, &live.media(VIDEO).hinted_part.expect("a hint"));
        let part = live.get(&hinted);
        part.header("server-timing").is_some().then_some((hinted, part))
    });
    assert_eq!((part.status, part.max_age()), (200, 12), "{:?}", part.header("cache-control"));
    let (directory, _) = hinted.rsplit_once('/').expect("a path");
    let next = live.media(VIDEO).next_msn() + 1;
    let segment = live.get(&format!("{directory}/{next}.m4s"));
    assert_eq!(
        (segment.status, segment.max_age()),
        (200, 12),
        "{:?}",
        segment.header("cache-control")
    );
    let gone = live.get(&format!("{directory}/7.m4s"));
    assert_eq!((gone.status, gone.max_age()), (404, 2), "{:?}", gone.header("cache-control"));
}

#[test]
fn a_held_response_has_its_hold_time_in_server_timing() {
    let live = live();
    let next = follow::next_of(&live.media(VIDEO));
    let held = live.get(&format!("{VIDEO}?{next}"));
    let timing = held.header("server-timing").expect("Server-Timing");
    let dur = timing.strip_prefix("hold;dur=").and_then(|ms| ms.parse::<f64>().ok());
    assert!(dur.is_some_and(|ms| ms > 0.0 && ms < 6000.0), "{timing}");
    assert_eq!(held.header("timing-allow-origin"), Some("*"));
    assert_eq!(live.get(VIDEO).header("server-timing"), None);
}

#[test]
fn every_response_has_a_date_and_none_a_cookie_or_a_redirect() {
    let live = live();
    let [segment, part, init] = live.newest();
    let mut paths = vec![MASTER, VIDEO, MANIFEST, PLAIN_MANIFEST, &segment, &part, &init];
    paths.extend([
        "/live/nobody/master.m3u8",
        "/watch/beside",
        "/watch/nothing.js",
        "/time",
        "/api/v1/streams",
        "/nowhere",
        "/",
    ]);
    for path in paths {
        for method in ["GET", "HEAD", "OPTIONS", "POST"] {
            for header in [("Accept", "*/*"), ("If-None-Match", "*"), ("Range", "bytes=0-1")] {
                let answer = http::request(live.http, method, path, &[header]);
                let date =
                    answer.header("date").unwrap_or_else(|| panic!("{method} {path}: no Date"));
                let off = unix_ms(date) - unix_ms("now");
                assert!(off.abs() < 5_000, "{method} {path}: {date}");
                for name in ["set-cookie", "location", "age", "expires"] {
                    assert_eq!(answer.header(name), None, "{method} {path}: {name}");
                }
                let redirected = (300..400).contains(&answer.status) && answer.status != 304;
                assert!(!redirected, "{method} {path}: {}", answer.status);
            }
        }
    }
}

/// A manifest may be cached for its lifetime: it must not contain its own time, with which a player
/// would set its clock.
#[test]
fn clocks_are_separate_resources_that_are_never_cached() {
    let live = live();
    for path in [MANIFEST, PLAIN_MANIFEST] {
        let text = live.get(path).text();
        assert!(!text.contains("urn:mpeg:dash:utc:direct"), "{path}");
        let clocks: Vec<_> = text.split("<UTCTiming").skip(1).collect();
        assert!(!clocks.is_empty(), "{path}");
        for clock in clocks {
            let value = clock
                .split("value=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .expect("a value");
            let site = format!("http://{}", live.http);
            let clock = match value.strip_prefix(&site) {
                Some(path) => path.to_owned(),
                None => resolve(path, value),
            };
            let answer = live.get(&clock);
            assert_eq!(
                (answer.status, answer.header("cache-control")),
                (200, Some("no-store")),
                "{value}"
            );
            assert!(
                answer.header("date").is_some()
                    && answer.header("access-control-allow-origin") == Some("*")
            );
            assert!((unix_ms(&answer.text()) - unix_ms("now")).abs() < 5_000, "{}", answer.text());
        }
    }
}

#[test]
fn range_requests_return_the_bytes_of_complete_media() {
    let live = live();
    let [segment, part, init] = live.newest();
    for path in [segment, part, init] {
        let whole = live.get(&path);
        assert_eq!(whole.header("accept-ranges"), Some("bytes"), "{path}");
        let (whole, length) = (&whole.body, whole.body.len());
        let ranged = |range: &str| http::request(live.http, "GET", &path, &[("Range", range)]);
        for (range, bytes) in [
            ("bytes=0-".to_owned(), 0..length),
            ("bytes=10-99".to_owned(), 10..100),
            (format!("bytes=100-{}", length + 50), 100..length),
            ("bytes=-20".to_owned(), length - 20..length),
            (format!("bytes=-{}", length + 5), 0..length),
        ] {
            let response = ranged(&range);
            assert_eq!(response.status, 206, "{path}, {range}");
            let content_range = format!("bytes {}-{}/{length}", bytes.start, bytes.end - 1);
            assert_eq!(
                response.header("content-range"),
                Some(content_range.as_str()),
                "{path}, {range}"
            );
            assert!(response.body == whole[bytes], "{path}, {range}");
        }
        let beyond = ranged(&format!("bytes={length}-"));
        assert_eq!(beyond.status, 416, "{path}");
        assert_eq!(beyond.header("content-range"), Some(format!("bytes */{length}").as_str()));
        assert_eq!(
            beyond.header("cache-control"),
            Some("no-store"),
            "it is about the range, not the address"
        );
        for odd in ["bytes=9-3", "pages=1-2", "bytes=x-y"] {
            let response = ranged(odd);
            assert!(
                response.status == 200 && response.body == *whole,
                "{path}, {odd}: {}",
                response.status
            );
        }
    }
}

#[test]
fn a_range_request_for_a_live_playlist_returns_all_of_it() {
    let live = live();
    for path in [MASTER, VIDEO, MANIFEST] {
        let headers = [("Range", "bytes=0-"), ("Accept-Encoding", "gzip")];
        let response = http::request(live.http, "GET", path, &headers);
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.header("content-range"), None);
    }
}

#[test]
fn head_responses_have_the_headers_of_get_and_no_body() {
    let live = live();
    let [segment, part, init] = live.newest();
    for path in [&segment, &part, &init, MASTER, "/live/nobody/v0.m3u8"] {
        let request =
            format!("HEAD {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", live.http);
        let answer = http::raw(live.http, request.as_bytes(), Duration::from_secs(5));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.ends_with("\r\n\r\n") && answer.matches("\r\n\r\n").count() == 1,
            "{path}: {answer}"
        );
        let (head, get) = (http::request(live.http, "HEAD", path, &[]), live.get(path));
        assert_eq!(head.status, get.status, "{path}");
        for name in ["content-type", "etag", "cache-control", "accept-ranges"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
        if path.ends_with("m4s") || path.ends_with("mp4") {
            assert_eq!(
                head.header("content-length"),
                Some(get.body.len().to_string().as_str()),
                "{path}"
            );
        }
    }
}

#[test]
fn playlists_and_manifests_are_compressed_if_the_client_accepts_gzip() {
    let live = live();
    for path in [MASTER, VIDEO, MANIFEST, PLAIN_MANIFEST] {
        let ask =
            |accept: &str| http::request(live.http, "GET", path, &[("Accept-Encoding", accept)]);
        let same = wait_for("pair of answers to one state", Duration::from_secs(10), || {
            let (packed, plain) = (ask("gzip, deflate, br"), ask("identity"));
            assert_eq!(packed.header("content-encoding"), Some("gzip"), "{path}");
            assert_eq!(plain.header("content-encoding"), None, "{path}");
            for answer in [&packed, &plain] {
                let vary = answer.header("vary").unwrap_or_default().to_ascii_lowercase();
                assert!(vary.contains("accept-encoding"), "{path}: Vary {vary:?}");
            }
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(&packed.body[..])
                .read_to_end(&mut text)
                .expect("gzip");
            (text == plain.body).then_some(packed.body.len() < plain.body.len())
        });
        assert!(same, "{path}: smaller when packed");
        assert_eq!(ask("gzip;q=0").header("content-encoding"), None, "{path}: q=0 is a no");
    }
}

#[test]
fn methods_other_than_get_and_head_are_refused_for_media() {
    let live = live();
    let [segment, _, _] = live.newest();
    for method in ["POST", "PUT", "DELETE"] {
        for path in [VIDEO, &segment] {
            let response = http::request(live.http, method, path, &[]);
            assert_eq!(response.status, 405, "{method} {path}");
            assert!(
                response.header("allow").is_some_and(|allow| allow.contains("GET")),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn invalid_channel_names_and_paths_are_refused() {
    let live = live();
    let long = "a".repeat(65);
    for path in [
        "/live/../../etc/passwd",
        "/live/..%2f..%2fetc%2fpasswd/master.m3u8",
        "/live/%2e%2e/%2e%2e/etc/passwd",
        "/live/beside/../../../etc/passwd",
        "/media/../../../../etc/passwd",
        "/live/be side/master.m3u8",
        "/live/beside%00/master.m3u8",
        &format!("/live/{long}/master.m3u8"),
        "/live/beside/V0.m3u8",
        "/live/beside/",
        "/live//master.m3u8",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = http::raw(live.http, request.as_bytes(), Duration::from_secs(5));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}");
    }
}
