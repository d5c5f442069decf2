//! What the playlists, the manifests and the bytes behind them promise, read from the living daemon (draft-pantos-hls-rfc8216bis,
//! ISO/IEC 23009-1, RFC 9110).

mod support;

use std::{
    collections::BTreeSet,
    io::Read,
    sync::{Arc, Mutex, Weak},
    thread,
    time::Duration,
};
use support::{
    daemon::Settings,
    dash, follow, fragment,
    http::{self, Exchange, Response},
    live::{Live, Shared},
    media::{PLAIN, Recipe},
    playlist::{Media, Multivariant, resolve},
    wait_for,
};

const MASTER: &str = "/live/beside/master.m3u8";
const VIDEO: &str = "/live/beside/v0.m3u8";
const AUDIO: &str = "/live/beside/a0.m3u8";
const MANIFEST: &str = "/live/beside/manifest.mpd";
const PLAIN_MANIFEST: &str = "/live/beside/plain.mpd";

/// Segments of one second: TARGETDURATION is 2 s, and a delta update is due after 12 s.
fn live() -> Arc<Live> {
    static SHARED: Shared = Mutex::new(Weak::new());
    let settings = Settings {
        segment_ms: 1000,
        ..Settings::default()
    };
    Live::get(&SHARED, &settings, &Recipe { group: 25, ..PLAIN })
}

fn media(live: &Live, path: &str) -> Media {
    follow::read(live.http, path)
}

/// The address of the newest complete segment, of a part of it, and of the header.
fn newest(live: &Live) -> [String; 3] {
    let media = media(live, VIDEO);
    let segment = media.segments.last().expect("a segment");
    let map = segment.map.as_ref().expect("a map");
    [&segment.uri, &segment.parts[0].uri, map].map(|uri| resolve(VIDEO, uri))
}

/// `max-age` of a Cache-Control field.
#[track_caller]
fn max_age(response: &Response) -> u64 {
    let field = response.header("cache-control").expect("Cache-Control");
    let age = field
        .split(',')
        .map(str::trim)
        .find_map(|directive| directive.strip_prefix("max-age="));
    age.unwrap_or_else(|| panic!("no max-age in {field}"))
        .parse()
        .expect("seconds")
}

// The multivariant playlist.

#[test]
fn the_multivariant_playlist_says_what_each_rendition_is() {
    let live = live();
    let master = Multivariant::parse(&live.get(MASTER).text());
    let [(variant, uri)] = &master.variants[..] else {
        panic!("one variant: {master:?}")
    };
    assert_eq!(resolve(MASTER, uri), VIDEO);
    let codecs = variant.quoted("CODECS").expect("CODECS");
    assert!(codecs.contains("avc1.") && codecs.contains("mp4a.40.2"), "{codecs}");
    assert_eq!(variant.raw("RESOLUTION"), Some("640x360"));
    assert_eq!(variant.number::<f64>("FRAME-RATE"), Some(25.0));
    let (peak, average) = (
        variant.number::<u64>("BANDWIDTH"),
        variant.number::<u64>("AVERAGE-BANDWIDTH"),
    );
    assert!(
        peak >= average && average > Some(100_000),
        "peak {peak:?}, average {average:?}"
    );

    let group = variant.quoted("AUDIO").expect("an audio group");
    let [rendition] = &master.renditions[..] else {
        panic!("one rendition: {master:?}")
    };
    assert_eq!(rendition.raw("TYPE"), Some("AUDIO"));
    assert_eq!(rendition.quoted("GROUP-ID"), Some(group));
    assert!(rendition.quoted("NAME").is_some_and(|name| !name.is_empty()));
    assert_eq!(resolve(MASTER, &rendition.quoted("URI").expect("URI")), AUDIO);
}

// Media playlists.

#[test]
fn playlists_keep_the_rules_over_many_blocking_reloads() {
    let live = live();
    thread::scope(|scope| {
        for path in [VIDEO, AUDIO] {
            let live = &live;
            scope.spawn(move || {
                let mut reloads = 0;
                follow::follow(live.http, path, Duration::from_secs(60), |_| {
                    reloads += 1;
                    reloads > 20
                });
            });
        }
    });
}

#[test]
fn every_playlist_has_the_same_target_duration_and_server_control() {
    let live = live();
    let (video, audio) = (media(&live, VIDEO), media(&live, AUDIO));
    assert_eq!(video.target_duration, 2);
    assert_eq!(
        (video.target_duration, &video.control),
        (audio.target_duration, &audio.control)
    );
}

#[test]
fn segments_of_the_same_number_have_the_same_wall_clock_time() {
    let live = live();
    let (video, audio) = (media(&live, VIDEO), media(&live, AUDIO));
    let mut compared = 0;
    for video in &video.segments {
        let Some(audio) = audio.segments.iter().find(|audio| audio.msn == video.msn) else {
            continue;
        };
        if let (Some(video), Some(audio)) = (&video.date_time, &audio.date_time) {
            let apart = (unix_ms(video) - unix_ms(audio)).abs();
            assert!(apart <= 234, "{video} and {audio}: within one part target");
            compared += 1;
        }
    }
    assert!(compared > 0, "both playlists date their segments");
}

/// Milliseconds of an ISO 8601 time with a full date, as `date` reads it.
fn unix_ms(time: &str) -> i64 {
    let output = std::process::Command::new("date")
        .args(["-d", time, "+%s%3N"])
        .output()
        .expect("date");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("no time: {time}"))
}

#[test]
fn a_part_is_independent_exactly_if_it_holds_a_key_frame() {
    let live = live();
    let video = media(&live, VIDEO);
    for part in video.segments.iter().flat_map(|segment| &segment.parts) {
        let bytes = live.get(&resolve(VIDEO, &part.uri)).body;
        let keyed = fragment::chunks(&bytes)
            .iter()
            .flat_map(|chunk| &chunk.samples)
            .any(|sample| sample.sync);
        assert_eq!(part.independent, keyed, "{part:?}");
    }
}

#[test]
fn a_part_lasts_as_long_as_its_samples() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        let playlist = media(&live, path);
        let map = resolve(path, playlist.segments[0].map.as_ref().expect("a map"));
        let timescale = f64::from(fragment::header(&live.get(&map).body).timescale);
        for part in playlist.segments.iter().flat_map(|segment| &segment.parts) {
            let chunks = fragment::chunks(&live.get(&resolve(path, &part.uri)).body);
            let ticks: u32 = chunks
                .iter()
                .flat_map(|chunk| &chunk.samples)
                .map(|sample| sample.duration)
                .sum();
            assert!(
                (f64::from(ticks) / timescale - part.duration).abs() < 0.001,
                "{part:?}: {ticks} ticks"
            );
        }
    }
}

#[test]
fn parts_joined_are_their_segment_byte_for_byte() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        for segment in media(&live, path)
            .segments
            .iter()
            .filter(|segment| !segment.parts.is_empty())
        {
            let parts: Vec<u8> = segment
                .parts
                .iter()
                .flat_map(|part| live.get(&resolve(path, &part.uri)).body)
                .collect();
            assert!(
                live.get(&resolve(path, &segment.uri)).body == parts,
                "{path}, segment {}",
                segment.msn
            );
        }
    }
}

#[test]
fn each_playlist_reports_where_the_others_are() {
    let live = live();
    for (path, other) in [(VIDEO, AUDIO), (AUDIO, VIDEO)] {
        let playlist = media(&live, path);
        let [report] = &playlist.reports[..] else {
            panic!("one report: {playlist:?}")
        };
        assert_eq!(resolve(path, &report.uri), other);
        // Both close their parts in step, up to the quarter of a second after which sound goes on alone.
        let apart = report.last_msn.abs_diff(playlist.open.msn);
        assert!(
            apart <= 1 && report.last_part.is_some(),
            "{report:?} beside {:?}",
            playlist.last_part()
        );
    }
}

// Directives of delivery (6.2.5).

#[test]
fn a_request_for_a_part_to_come_is_held_until_it_is_there() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        let before = media(&live, path);
        let wanted = (before.open.msn, before.open.parts.len() as u64);
        let after = media(&live, &format!("{path}?{}", follow::next_of(&before)));
        assert!(
            after.last_part() >= Some(wanted),
            "asked for {wanted:?}, got {:?}",
            after.last_part()
        );
    }
}

#[test]
fn a_request_for_a_segment_to_come_is_held_until_it_is_complete() {
    let live = live();
    let wanted = media(&live, VIDEO).open.msn;
    let after = media(&live, &format!("{VIDEO}?_HLS_msn={wanted}"));
    assert!(
        after.next_msn() > wanted,
        "asked for {wanted}, complete before {}",
        after.next_msn()
    );
}

#[test]
fn a_part_past_the_end_of_its_segment_is_the_first_of_the_next() {
    let live = live();
    let before = media(&live, VIDEO);
    let open = before.open.msn;
    // A segment of one second has at most six parts.
    let after = media(&live, &format!("{VIDEO}?_HLS_msn={open}&_HLS_part=7"));
    assert!(after.last_part() >= Some((open + 1, 0)), "{:?}", after.last_part());
}

#[test]
fn a_request_for_what_is_there_already_is_answered_with_the_playlist_of_now() {
    let live = live();
    let before = media(&live, VIDEO);
    let old = media(&live, &format!("{VIDEO}?_HLS_msn={}", before.media_sequence));
    old.assert_follows(&before);
    let old = media(
        &live,
        &format!("{VIDEO}?_HLS_msn={}&_HLS_part=0", before.media_sequence),
    );
    old.assert_follows(&before);
}

#[test]
fn directives_that_cannot_be_met_are_answered_400() {
    let live = live();
    let far = media(&live, VIDEO).open.msn + 3;
    for query in [
        "_HLS_part=0".to_owned(),
        "_HLS_msn=x".to_owned(),
        "_HLS_msn=-1".to_owned(),
        "_HLS_msn=".to_owned(),
        "_HLS_msn=99999999999999999999999".to_owned(),
        format!("_HLS_msn={far}"),
        format!("_HLS_msn={far}&_HLS_part=0"),
        format!("_HLS_msn={far}&_HLS_part=x"),
    ] {
        let response = live.get(&format!("{VIDEO}?{query}"));
        assert_eq!(response.status, 400, "{query}: {}", response.text());
    }
}

#[test]
fn other_names_in_the_query_change_nothing() {
    let live = live();
    let plain = || live.get(VIDEO).text();
    let with = || live.get(&format!("{VIDEO}?session=7&_HLS_unknown=1")).text();
    wait_for("pair of answers to one state", Duration::from_secs(10), || {
        (plain() == with()).then_some(())
    });
}

#[test]
fn a_delta_update_fills_up_to_the_whole_playlist() {
    let live = live();
    let older = wait_for("playlist long enough for a delta", Duration::from_secs(60), || {
        let media = media(&live, VIDEO);
        let length: f64 = media.segments.iter().map(|segment| segment.duration).sum();
        (Some(length - 4.0) > media.control.can_skip_until).then_some(media)
    });
    for version in ["YES", "v2"] {
        wait_for("delta between two equal playlists", Duration::from_secs(10), || {
            let whole = live.get(VIDEO).text();
            let delta = live.get(&format!("{VIDEO}?_HLS_skip={version}")).text();
            if whole != live.get(VIDEO).text() {
                return None;
            }
            let (whole, delta) = (Media::parse(&whole), Media::parse(&delta));
            assert!(delta.skipped > 0 && delta.version >= 9, "{delta:?}");
            let kept: f64 = delta.segments.iter().map(|segment| segment.duration).sum();
            let boundary = delta.control.can_skip_until.expect("CAN-SKIP-UNTIL");
            assert!(
                kept >= boundary,
                "{kept} s kept, nothing within {boundary} s of the end is skipped"
            );
            let filled = delta.filled_from(&older);
            let uris = |media: &Media| {
                media
                    .segments
                    .iter()
                    .map(|s| (s.msn, s.uri.clone()))
                    .collect::<Vec<_>>()
            };
            // What has left the window since the older playlist was read is not looked at.
            assert_eq!(uris(&filled), uris(&whole));
            assert_eq!((filled.open, filled.hinted_part), (whole.open, whole.hinted_part));
            Some(())
        });
    }
}

#[test]
fn a_hinted_part_is_held_until_it_can_go_whole_and_is_what_the_playlist_then_lists() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        let before = media(&live, path);
        let hinted = before.hinted_part.clone().expect("a hint");
        let early = live.get(&resolve(path, &hinted));
        assert_eq!(early.status, 200, "{hinted}: {}", early.text());
        let after = media(&live, path);
        let listed: Vec<&String> = after
            .with_open()
            .flat_map(|segment| &segment.parts)
            .map(|part| &part.uri)
            .collect();
        assert!(listed.contains(&&hinted), "{hinted} appears: {listed:?}");
        assert!(
            live.get(&resolve(path, &hinted)).body == early.body,
            "{hinted} stays what it was"
        );
        fragment::chunks(&early.body);
    }
}

#[test]
fn a_part_or_segment_that_nobody_hinted_is_not_found() {
    let live = live();
    let playlist = media(&live, VIDEO);
    let (directory, _) = playlist.segments[0].uri.rsplit_once('/').expect("a directory");
    let msn = playlist.open.msn + 9;
    for name in [
        format!("{msn}.0.m4s"),
        format!("{msn}.m4s"),
        "0.m4s".to_owned(),
        "init.99.mp4".to_owned(),
    ] {
        let path = resolve(VIDEO, &format!("{directory}/{name}"));
        let response = live.get(&path);
        assert_eq!(response.status, 404, "{path}");
        assert!(
            response.header("access-control-allow-origin").is_some(),
            "errors have CORS too"
        );
        assert!(
            max_age(&response) <= 2,
            "at most a target duration: {:?}",
            response.header("cache-control")
        );
    }
}

// DASH.

#[test]
fn both_manifests_are_valid() {
    let live = live();
    for path in [MANIFEST, PLAIN_MANIFEST] {
        dash::assert_valid(&live.get(path).text());
    }
}

#[test]
fn the_low_latency_manifest_says_what_players_look_for() {
    let live = live();
    let text = live.get(MANIFEST).text();
    let document = dash::parse(&text);
    let mpd = document.root_element();
    assert_eq!(mpd.attribute("type"), Some("dynamic"));
    let profiles: BTreeSet<&str> = mpd.attribute("profiles").expect("@profiles").split(',').collect();
    assert!(
        profiles.contains("http://www.dashif.org/guidelines/low-latency-live-v5"),
        "{profiles:?}"
    );
    for attribute in [
        "availabilityStartTime",
        "publishTime",
        "minimumUpdatePeriod",
        "timeShiftBufferDepth",
    ] {
        assert!(mpd.has_attribute(attribute), "MPD@{attribute}");
    }
    let description = dash::child(mpd, "ServiceDescription").expect("a ServiceDescription");
    let latency = dash::child(description, "Latency").expect("a Latency");
    let target: u64 = latency
        .attribute("target")
        .expect("@target")
        .parse()
        .expect("milliseconds");
    assert!((200..5000).contains(&target), "{target} ms");

    let period = dash::child(mpd, "Period").expect("a Period");
    let sets: Vec<_> = period
        .children()
        .filter(|node| node.has_tag_name((dash::NAMESPACE, "AdaptationSet")))
        .collect();
    let types: Vec<_> = sets.iter().filter_map(|set| set.attribute("contentType")).collect();
    assert_eq!(BTreeSet::from_iter(types), BTreeSet::from(["audio", "video"]));
    for set in sets {
        let template = dash::child(set, "SegmentTemplate")
            .or_else(|| dash::child(dash::child(set, "Representation")?, "SegmentTemplate"))
            .expect("a SegmentTemplate");
        assert!(
            template
                .attribute("media")
                .is_some_and(|media| media.contains("$Number$"))
        );
        assert_eq!(template.attribute("availabilityTimeComplete"), Some("false"));
        let offset: f64 = template
            .attribute("availabilityTimeOffset")
            .expect("@availabilityTimeOffset")
            .parse()
            .unwrap();
        assert!(offset > 0.0 && offset < 1.0, "a segment less a chunk: {offset}");
        let reference = dash::child(set, "ProducerReferenceTime").expect("a ProducerReferenceTime");
        assert!(dash::child(reference, "UTCTiming").is_some());
    }
}

#[test]
fn the_clock_that_a_manifest_names_is_there_for_players_of_other_origins() {
    let live = live();
    for path in [MANIFEST, PLAIN_MANIFEST] {
        let text = live.get(path).text();
        let document = dash::parse(&text);
        let timing = dash::child(document.root_element(), "UTCTiming").expect("UTCTiming");
        let scheme = timing.attribute("schemeIdUri").expect("@schemeIdUri");
        let value = timing.attribute("value").expect("@value");
        let target = match value.strip_prefix(&format!("http://{}", live.http)) {
            Some(target) => target.to_owned(),
            None if value.starts_with('/') => value.to_owned(),
            None => resolve(path, value),
        };
        let response = http::request(live.http, "GET", &target, &[("Origin", "http://player.example")]);
        assert_eq!(response.status, 200, "{value}");
        assert!(
            response.header("access-control-allow-origin").is_some(),
            "the clock has CORS"
        );
        assert!(scheme.starts_with("urn:mpeg:dash:utc:http-"), "{scheme}");
        assert!(
            (unix_ms(response.text().trim()) - now_ms()).abs() < 60_000,
            "{}",
            response.text()
        );
        assert!(
            response
                .header("cache-control")
                .is_some_and(|field| field.contains("no-store") || field.contains("no-cache"))
        );
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292 million")
}

#[test]
fn the_timeline_says_of_each_segment_what_is_in_it() {
    let live = live();
    let text = live.get(PLAIN_MANIFEST).text();
    let representations = dash::timeline(PLAIN_MANIFEST, &text);
    assert_eq!(representations.len(), 2);
    for representation in representations {
        let header = fragment::header(&live.get(&representation.init).body);
        assert_eq!(u64::from(header.timescale), representation.timescale);
        assert!(!representation.segments.is_empty());
        for segment in &representation.segments {
            let response = live.get(&segment.path);
            assert_eq!(response.status, 200, "{}", segment.path);
            let chunks = fragment::chunks(&response.body);
            let ticks: u32 = chunks
                .iter()
                .flat_map(|chunk| &chunk.samples)
                .map(|sample| sample.duration)
                .sum();
            assert_eq!(
                i128::from(segment.start),
                i128::from(chunks[0].earliest()),
                "S@t of {}",
                segment.path
            );
            assert_eq!(segment.duration, u64::from(ticks), "S@d of {}", segment.path);
        }
    }
}

#[test]
fn both_manifests_and_the_playlists_name_the_same_segments() {
    let live = live();
    let paths = |representations: Vec<dash::Representation>| -> BTreeSet<String> {
        representations
            .into_iter()
            .flat_map(|r| r.segments)
            .map(|segment| segment.path)
            .collect()
    };
    let listed: BTreeSet<String> = [VIDEO, AUDIO]
        .into_iter()
        .flat_map(|path| {
            media(&live, path)
                .segments
                .into_iter()
                .map(move |segment| resolve(path, &segment.uri))
        })
        .collect();
    let timeline = paths(dash::timeline(PLAIN_MANIFEST, &live.get(PLAIN_MANIFEST).text()));
    // The manifest is read last and knows more: a segment that has only just been completed is left out of the comparison.
    assert!(
        timeline.intersection(&listed).count() >= 2,
        "{timeline:?} and {listed:?}"
    );
    assert!(
        listed.difference(&timeline).count() <= 2,
        "{timeline:?} lacks some of {listed:?}"
    );
    let exists = |path: &str| http::request(live.http, "HEAD", path, &[]).status == 200;
    let numbered = paths(dash::numbered(MANIFEST, &live.get(MANIFEST).text(), 200, exists));
    assert!(
        numbered.intersection(&timeline).count() >= 2,
        "{numbered:?} and {timeline:?}"
    );
}

#[test]
fn the_segment_that_grows_is_sent_chunk_by_chunk() {
    let live = live();
    let before = media(&live, VIDEO);
    let (directory, _) = before.segments[0].uri.rsplit_once('/').expect("a directory");
    let path = resolve(VIDEO, &format!("{directory}/{}.m4s", before.open.msn));
    let mut growing = Exchange::open(live.http, "GET", &path, &[]);
    assert_eq!(growing.status, 200, "{path}");
    let mut body = growing.piece().expect("a first piece");
    let meanwhile = media(&live, VIDEO);
    let pieces = std::iter::from_fn(|| growing.piece())
        .map(|piece| body.extend(piece))
        .count();
    // Unless the segment was complete before the first piece came, more than that piece was still to come.
    assert!(
        pieces > 0 || meanwhile.next_msn() > before.open.msn,
        "it was sent in one piece, before it was complete"
    );
    assert!(live.get(&path).body == body, "what was sent is the segment");
    let chunks = fragment::chunks(&body);
    assert!(chunks.len() > 1, "a chunk for each part");
    assert!(
        chunks.iter().any(|chunk| chunk.reference.is_some()),
        "prft in the chunks"
    );
}

// Delivery.

#[test]
fn every_kind_of_answer_has_its_exact_type() {
    let live = live();
    let [segment, part, init] = newest(&live);
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
fn pages_of_other_origins_may_read_everything() {
    let live = live();
    let [segment, part, init] = newest(&live);
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
        let response = http::request(live.http, "GET", path, &[("Origin", "http://player.example")]);
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
        assert!(
            allowed.contains("GET") && allowed.contains("HEAD"),
            "{path} allows {allowed:?}"
        );
        let allowed = response
            .header("access-control-allow-headers")
            .unwrap_or_default()
            .to_ascii_lowercase();
        assert!(allowed.contains("range") || allowed == "*", "{path} allows {allowed:?}");
    }
}

#[test]
fn what_never_changes_has_a_tag_and_is_not_sent_twice() {
    let live = live();
    for path in newest(&live) {
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
fn what_never_changes_may_be_kept_for_ever() {
    let live = live();
    for path in newest(&live) {
        let response = live.get(&path);
        let field = response.header("cache-control").unwrap_or_default();
        assert!(
            field.contains("immutable") && max_age(&response) >= 3600,
            "{path}: {field}"
        );
    }
}

#[test]
fn live_playlists_may_be_kept_for_less_than_a_target_duration_and_blocking_ones_for_six() {
    let live = live();
    for path in [VIDEO, AUDIO, MASTER, MANIFEST, PLAIN_MANIFEST] {
        let response = live.get(path);
        assert!(max_age(&response) < 2, "{path}: {:?}", response.header("cache-control"));
    }
    let next = follow::next_of(&media(&live, VIDEO));
    let response = live.get(&format!("{VIDEO}?{next}"));
    assert_eq!(response.status, 200);
    assert!(max_age(&response) <= 12, "{:?}", response.header("cache-control"));
    let refused = live.get(&format!("{VIDEO}?_HLS_part=1"));
    assert!(max_age(&refused) <= 8, "{:?}", refused.header("cache-control"));
}

#[test]
fn ranges_of_a_complete_segment_are_its_bytes() {
    let live = live();
    let [segment, part, init] = newest(&live);
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
        assert_eq!(
            beyond.header("content-range"),
            Some(format!("bytes */{length}").as_str())
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
fn a_live_playlist_is_answered_whole_whatever_range_is_asked() {
    let live = live();
    for path in [MASTER, VIDEO, MANIFEST] {
        let headers = [("Range", "bytes=0-"), ("Accept-Encoding", "gzip")];
        let response = http::request(live.http, "GET", path, &headers);
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.header("content-range"), None);
    }
}

#[test]
fn head_says_what_get_would_and_sends_nothing() {
    let live = live();
    let [segment, part, init] = newest(&live);
    for path in [&segment, &part, &init, MASTER, "/live/nobody/v0.m3u8"] {
        let request = format!(
            "HEAD {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            live.http
        );
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
fn playlists_and_manifests_are_compressed_for_those_who_ask() {
    let live = live();
    for path in [MASTER, VIDEO, MANIFEST, PLAIN_MANIFEST] {
        let ask = |accept: &str| http::request(live.http, "GET", path, &[("Accept-Encoding", accept)]);
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
fn only_reading_is_allowed() {
    let live = live();
    let [segment, _, _] = newest(&live);
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
fn names_that_are_no_names_are_refused() {
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
