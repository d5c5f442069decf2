//! Properties of the DASH manifests, read from a running daemon (ISO/IEC 23009-1, DASH-IF's
//! low-latency guidelines).

use crate::support::{
    dash, fragment,
    http::{self, Exchange},
    live::{AUDIO, Live, MANIFEST, PLAIN_MANIFEST, Shared, VIDEO},
    playlist::resolve,
    unix_ms,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
};

fn live() -> Arc<Live> {
    static SHARED: Shared = Mutex::new(Weak::new());
    Live::with_short_segments(&SHARED)
}

#[test]
fn both_manifests_are_valid() {
    let live = live();
    for path in [MANIFEST, PLAIN_MANIFEST] {
        dash::assert_valid(&live.get(path).text());
    }
}

#[test]
fn the_low_latency_manifest_has_the_attributes_that_players_need() {
    let live = live();
    let text = live.get(MANIFEST).text();
    let document = dash::parse(&text);
    let mpd = document.root_element();
    assert_eq!(mpd.attribute("type"), Some("dynamic"));
    let profiles: BTreeSet<&str> =
        mpd.attribute("profiles").expect("@profiles").split(',').collect();
    assert!(
        profiles.contains("http://www.dashif.org/guidelines/low-latency-live-v5"),
        "{profiles:?}"
    );
    for attribute in
        ["availabilityStartTime", "publishTime", "minimumUpdatePeriod", "timeShiftBufferDepth"]
    {
        assert!(mpd.has_attribute(attribute), "MPD@{attribute}");
    }
    let description = dash::child(mpd, "ServiceDescription").expect("a ServiceDescription");
    let latency = dash::child(description, "Latency").expect("a Latency");
    let target: u64 = latency.attribute("target").expect("@target").parse().expect("milliseconds");
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
        assert!(template.attribute("media").is_some_and(|media| media.contains("$Number$")));
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
fn the_clock_of_a_manifest_is_readable_for_pages_of_other_origins() {
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
        let response =
            http::request(live.http, "GET", &target, &[("Origin", "http://player.example")]);
        assert_eq!(response.status, 200, "{value}");
        assert!(response.header("access-control-allow-origin").is_some(), "the clock has CORS");
        assert!(scheme.starts_with("urn:mpeg:dash:utc:http-"), "{scheme}");
        assert!(
            (unix_ms(response.text().trim()) - unix_ms("now")).abs() < 60_000,
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

#[test]
fn the_timeline_gives_the_start_and_duration_of_each_segment() {
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
            let ticks: u32 =
                chunks.iter().flat_map(|chunk| &chunk.samples).map(|sample| sample.duration).sum();
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
fn both_manifests_and_the_playlists_list_the_same_segments() {
    let live = live();
    let paths = |representations: Vec<dash::Representation>| -> BTreeSet<String> {
        representations.into_iter().flat_map(|r| r.segments).map(|segment| segment.path).collect()
    };
    let listed: BTreeSet<String> = [VIDEO, AUDIO]
        .into_iter()
        .flat_map(|path| {
            live.media(path).segments.into_iter().map(move |segment| resolve(path, &segment.uri))
        })
        .collect();
    let timeline = paths(dash::timeline(PLAIN_MANIFEST, &live.get(PLAIN_MANIFEST).text()));
    // The manifest is read last and is newer: a segment that has just been completed is left out of
    // the comparison.
    assert!(timeline.intersection(&listed).count() >= 2, "{timeline:?} and {listed:?}");
    assert!(listed.difference(&timeline).count() <= 2, "{timeline:?} lacks some of {listed:?}");
    let exists = |path: &str| http::request(live.http, "HEAD", path, &[]).status == 200;
    let numbered = paths(dash::numbered(MANIFEST, &live.get(MANIFEST).text(), 200, exists));
    assert!(numbered.intersection(&timeline).count() >= 2, "{numbered:?} and {timeline:?}");
}

#[test]
fn an_open_segment_is_sent_chunk_by_chunk() {
    let live = live();
    let before = live.media(VIDEO);
    let (directory, _) = before.segments[0].uri.rsplit_once('/').expect("a directory");
    let path = resolve(VIDEO, &format!("{directory}/{}.m4s", before.open.msn));
    let mut growing = Exchange::open(live.http, "GET", &path, &[]);
    assert_eq!(growing.status, 200, "{path}");
    let mut body = growing.piece().expect("a first piece");
    let meanwhile = live.media(VIDEO);
    let pieces = std::iter::from_fn(|| growing.piece()).map(|piece| body.extend(piece)).count();
    // Unless the segment was complete before the first piece arrived, more than that piece
    // followed.
    assert!(
        pieces > 0 || meanwhile.next_msn() > before.open.msn,
        "it was sent in one piece, before it was complete"
    );
    assert!(live.get(&path).body == body, "what was sent is the segment");
    let chunks = fragment::chunks(&body);
    assert!(chunks.len() > 1, "a chunk for each part");
    assert!(chunks.iter().any(|chunk| chunk.reference.is_some()), "prft in the chunks");
}
