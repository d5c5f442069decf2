use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use packager::Part;

use super::*;
use crate::{
    sample,
    stage::{PART, SEGMENT, Stage, respond},
};

/// A sample without its borrowed texts.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    viewer: u64,
    before: Option<u64>,
    track: String,
    start_ms: u64,
    duration_ms: u64,
    bytes: u64,
    session: Option<String>,
    is_malformed: bool,
}

fn collect(sampler: &Sampler) -> Vec<Seen> {
    let mut seen = Vec::new();
    sampler.collect(|delivered| {
        assert_eq!(delivered.channel.as_str(), "demo");
        let report = delivered.report.as_ref();
        seen.push(Seen {
            viewer: delivered.viewer,
            before: delivered.viewer_before,
            track: delivered.track.as_str().to_owned(),
            start_ms: delivered.start_ms,
            duration_ms: delivered.duration_ms,
            bytes: delivered.bytes,
            session: report.and_then(|report| report.as_ref().ok()?.session).map(str::to_owned),
            is_malformed: report.is_some_and(Result::is_err),
        });
    });
    seen
}

fn spans(seen: &[Seen]) -> Vec<(u64, u64)> {
    seen.iter().map(|seen| (seen.start_ms, seen.duration_ms)).collect()
}

fn head(agent: &'static str) -> Parts {
    let request = Request::get("/media/x").header(USER_AGENT, agent).body(()).unwrap();
    request.into_parts().0
}

fn client(address: [u8; 4]) -> Client {
    let peer = SocketAddr::from((address, 1234));
    Client { peer, ours: false, secure: false, early: false }
}

#[tokio::test(start_paused = true)]
async fn each_segment_and_part_that_is_sent_to_its_end_is_sampled_with_its_media_time() {
    let stage = Stage::live().await;
    let first = stage.first;
    let segment = stage.get(&stage.media(&format!("{}.m4s", first + 1))).await;
    let part = stage.get(&stage.media(&format!("{}.3.m4s", first + 1))).await;
    let seen = collect(&stage.sampler);
    let start = seen[0].start_ms;
    assert_eq!(spans(&seen), [(start, 1_000), (start + 600, 200)]);
    let sizes = [segment, part].map(|response| response.body.len() as u64);
    assert_eq!([seen[0].bytes, seen[1].bytes], sizes);
    assert!(seen[0].viewer == seen[1].viewer && seen[0].track == "v0");
    assert_eq!(collect(&stage.sampler), [], "a sample is collected once");
}

#[tokio::test(start_paused = true)]
async fn requests_without_delivered_media_are_not_sampled() {
    let stage = Stage::live().await;
    let segment = stage.media(&format!("{}.m4s", stage.first));
    for path in [
        "/live/demo/master.m3u8?CMCD=br%3D1",
        "/live/demo/v0.m3u8?CMCD=br%3D1",
        "/live/demo/manifest.mpd",
        &stage.media("init.0.mp4"),
        &stage.media("1.m4s"),
        &stage.media("1.0.m4s"),
        "/watch/demo",
    ] {
        stage.get(path).await;
    }
    stage.request("HEAD", &segment, &[]).await;
    let etag = format!("\"{}\"", stage.first);
    stage.request("GET", &segment, &[("if-none-match", &etag)]).await;
    stage.request("GET", &segment, &[("if-match", "\"other\"")]).await;
    stage.request("GET", &segment, &[("range", "bytes=99999999-")]).await;
    // A client that leaves before the last byte.
    let request = Request::get(&segment).header("host", "a").body(Empty::<Bytes>::new()).unwrap();
    let mut response = respond(&stage.router, request).await;
    drop(response.body_mut().frame().await.unwrap().unwrap());
    drop(response);
    assert_eq!(collect(&stage.sampler), []);
}

#[tokio::test(start_paused = true)]
async fn of_a_range_the_bytes_are_sampled_without_media_time() {
    let stage = Stage::live().await;
    let segment = stage.media(&format!("{}.m4s", stage.first));
    let response = stage.request("GET", &segment, &[("range", "bytes=0-99")]).await;
    assert_eq!(response.body.len(), 100);
    let seen = collect(&stage.sampler);
    assert_eq!((seen.len(), seen[0].duration_ms, seen[0].bytes), (1, 0, 100));
}

#[tokio::test(start_paused = true)]
async fn media_that_were_awaited_are_sampled_when_they_have_been_sent() {
    let mut stage = Stage::live().await;
    let open = stage.first + 3;
    let router = Arc::clone(&stage.router);
    let get = |path: String| {
        let router = Arc::clone(&router);
        tokio::spawn(async move {
            let request = Request::get(path).header("host", "a").body(Empty::<Bytes>::new());
            let response = respond(&router, request.unwrap()).await;
            response.into_body().collect().await.unwrap().to_bytes().len() as u64
        })
    };
    let hinted = get(stage.media(&format!("{open}.2.m4s")));
    let growing = get(stage.media(&format!("{open}.m4s")));
    let next = get(stage.media(&format!("{}.m4s", open + 1)));
    stage.settle().await;
    assert_eq!(collect(&stage.sampler), [], "nothing has been sent to its end");
    stage.push(2 * SEGMENT - 2 * PART).await;
    let sizes = [hinted.await.unwrap(), growing.await.unwrap(), next.await.unwrap()];
    let mut seen = collect(&stage.sampler);
    seen.sort_by_key(|seen| seen.duration_ms);
    let starts = seen[1..].iter().map(|seen| seen.start_ms).collect::<Vec<_>>();
    let (first, second) = (starts[0].min(starts[1]), starts[0].max(starts[1]));
    assert_eq!(second - first, 1_000);
    assert_eq!(spans(&seen[..1]), [(first + 400, 200)]);
    assert!(seen[1..].iter().all(|seen| seen.duration_ms == 1_000));
    let mut sent = seen.iter().map(|seen| seen.bytes).collect::<Vec<_>>();
    let mut expected = sizes.to_vec();
    sent.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sent, expected);
}

#[tokio::test(start_paused = true)]
async fn a_report_comes_with_its_media_and_a_malformed_one_costs_only_itself() {
    let stage = Stage::live().await;
    let segment = stage.media(&format!("{}.m4s", stage.first));
    stage.get(&format!("{segment}?CMCD=sid%3D%22one%22%2Cbr%3D100")).await;
    stage.request("GET", &segment, &[("cmcd-session", "sid=\"two\"")]).await;
    stage.get(&format!("{segment}?CMCD=sid%3D%22")).await;
    stage.get(&segment).await;
    let seen = collect(&stage.sampler);
    let sessions = seen.iter().map(|seen| seen.session.as_deref()).collect::<Vec<_>>();
    assert_eq!(sessions, [Some("one"), Some("two"), None, None]);
    let malformed = seen.iter().map(|seen| seen.is_malformed).collect::<Vec<_>>();
    assert_eq!(malformed, [false, false, true, false]);
    assert!(seen.iter().all(|seen| seen.duration_ms == 1_000));
}

#[test]
fn a_viewer_is_an_address_with_an_agent_and_is_recognised_over_a_change_of_the_key() {
    let sampler = Sampler::new([1; 16]);
    let viewer = |agent, address| {
        let sampled = sampler.begin(&head(agent), client(address));
        let sample = sampled.0.as_ref().unwrap();
        (sample.viewer, sample.viewer_before)
    };
    let one = viewer("a", [192, 0, 2, 1]);
    assert_eq!(one, viewer("a", [192, 0, 2, 1]));
    assert_ne!(one, viewer("b", [192, 0, 2, 1]));
    assert_ne!(one, viewer("a", [192, 0, 2, 2]));
    sampler.change_key([2; 16]);
    let (present, before) = viewer("a", [192, 0, 2, 1]);
    assert_eq!(before, Some(one.0));
    assert_ne!(present, one.0);
    sampler.forget_key();
    assert_eq!(viewer("a", [192, 0, 2, 1]), (present, None));
}

#[test]
fn samples_are_used_again_and_bounded() {
    let sampler = Sampler::new([1; 16]);
    let head = head("a");
    let begin = || sampler.begin(&head, client([192, 0, 2, 1]));
    for _ in 0..100 {
        assert!(begin().is_some());
    }
    assert_eq!(sampler.0.made.load(Ordering::Relaxed), 1);
    let all = (0..MAX_SAMPLES).map(|_| begin()).collect::<Vec<_>>();
    assert!(all.iter().all(Sampled::is_some));
    assert!(!begin().is_some() && sampler.0.lost.get() == 1);
    drop(all);
    assert!(begin().is_some());
}

#[test]
fn requests_of_other_processes_and_those_after_the_end_are_not_sampled() {
    let sampler = Sampler::new([1; 16]);
    let ours = Client { ours: true, ..client([192, 0, 2, 1]) };
    assert!(!sampler.begin(&head("a"), ours).is_some());
    let mut post = head("a");
    post.method = Method::HEAD;
    assert!(!sampler.begin(&post, client([192, 0, 2, 1])).is_some());
    assert!(sampler.begin(&head("a"), client([192, 0, 2, 1])).is_some());
    sampler.close();
    assert!(!sampler.begin(&head("a"), client([192, 0, 2, 1])).is_some());
}

#[test]
fn spans_of_consecutive_parts_have_no_hole_and_gaps_have_none() {
    // 10 000 ticks of 48 kHz are no whole number of milliseconds.
    let mut track = sample::track("v0", 100, 3, 5, Some(2));
    let mut segments: Vec<_> = track.segments.iter().cloned().collect();
    let placed = Arc::make_mut(&mut segments[1]);
    placed.start = Ticks::new(50_000);
    for (index, part) in placed.parts.iter_mut().enumerate() {
        let start = Ticks::new(50_000 + 10_000 * i64::try_from(index).unwrap());
        let (duration, bytes) = (part.duration, part.bytes.clone());
        *part = Arc::new(Part { start, duration, independent: true, gap: false, bytes });
    }
    track.segments = segments.into_iter().collect();
    let spans = |track: &Track| {
        let parts = (0..5).map(|part| Span::of(track, Object::Part(101, part)));
        parts.collect::<Option<Vec<_>>>()
    };
    let parts = spans(&track).unwrap();
    for pair in parts.windows(2) {
        assert_eq!(pair[0].start_ms + pair[0].duration_ms, pair[1].start_ms);
    }
    let whole = Span::of(&track, Object::Segment(101)).unwrap();
    let sum = parts.iter().map(|part| part.duration_ms).sum::<u64>();
    assert_eq!((whole.start_ms, whole.duration_ms), (parts[0].start_ms, sum));
    assert_eq!(Span::of(&track, Object::Init(0)), None);
    assert_eq!(Span::of(&track, Object::Segment(99)), None);

    // An interrupted segment has the media before its gap.
    let mut segments: Vec<_> = track.segments.iter().cloned().collect();
    let cut = Arc::make_mut(&mut segments[1]);
    cut.gap = true;
    cut.parts[4] = Arc::new(sample::gap_of(&cut.parts[4]));
    track.segments = segments.into_iter().collect();
    let rest = Span::of(&track, Object::Segment(101)).unwrap();
    assert_eq!(rest.duration_ms, whole.duration_ms - parts[4].duration_ms);
    assert_eq!(Span::of(&track, Object::Part(101, 4)), None);
}

#[test]
fn a_report_in_fields_is_found_without_a_query() {
    let mut headers = HeaderMap::new();
    headers.insert("cmcd-object", "br=5".parse().unwrap());
    let mut raw = Raw::default();
    raw.copy(None, &headers);
    assert_eq!(raw.parse().unwrap().unwrap().bitrate_kbps, Some(5));
}
