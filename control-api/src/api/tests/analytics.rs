//! The audience of a channel through the routes.

use control_domain::{
    Actor, Role, Time,
    features::views::{
        commands::{Count, Record},
        queries::Subject,
    },
    id::{ChannelId, VideoId},
};
use serde_json::json;

use super::{
    description::assert_fits,
    site::{Site, id},
    *,
};
use crate::{
    store::{Kept, Step},
    views::counts::{Counts, Row},
};

/// 2026-11-30T12:00:00Z.
const NOON: Time = Time::from_millis(1_796_040_000_000);
const PATH: &str = "/api/v1/channels/show/analytics";

fn row(views: u64) -> Row {
    let mut all = Counts {
        views,
        watched_ms: 12_345 * views,
        peak: views,
        objects: 10,
        bytes: 1_000,
        ..Counts::default()
    };
    all.quality.reports = 3;
    all.quality.rebuffers = 1;
    all.quality.bitrate.add(Some(1_500));
    let rendition = Counts { peak: 0, ..all };
    Row { all, renditions: vec![("v0".to_owned(), rendition), ("v480".to_owned(), rendition)] }
}

async fn channel(site: &Site, owner: Actor) -> Subject {
    site.channel(owner, "show").await;
    let (_, shown) = site.get(owner, "/api/v1/channels/show").await;
    let id: ChannelId = shown["id"].as_str().expect("an id").parse().expect("an id");
    Subject::Channel(id)
}

/// Adds minutes with these numbers of views to the file of traffic, and to the log.
async fn count(site: &Site, subject: Subject, minutes: &[(u64, u64)]) {
    let store = site.platform.store().await.expect("it is open");
    for (minutes, views) in minutes {
        let minute = Time::from_millis(NOON.as_millis() + 60_000 * minutes);
        let rows = [(subject, row(*views))];
        store.traffic().add_minute(minute, &rows, Kept::default()).expect("a disk");
    }
    let node = store.traffic().node().expect("a disk");
    for (batch, counts) in store.traffic().batches(100).expect("a disk") {
        store.send(Actor::System, Record { node, batch, counts }).await.expect("a disk");
    }
}

#[tokio::test]
async fn the_owner_reads_minutes_days_and_renditions() {
    let site = Site::new("analytics").await;
    let ada = site.account("ada", Role::Creator).await;
    let subject = channel(&site, ada).await;
    count(&site, subject, &[(0, 2), (1, 3), (24 * 60, 4)]).await;
    let range = "from=2026-11-30T12:00:00Z&to=2026-12-01T13:00:00Z";

    let minutes = "step=minute&from=2026-11-30T12:00:30Z&to=2026-11-30T12:02:00Z";
    let (status, report) = site.get(ada, &format!("{PATH}?{minutes}")).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert_eq!(report["from"], "2026-11-30T12:00:00.000Z");
    assert_eq!(report["to"], "2026-11-30T12:02:00.000Z");
    let points = report["points"].as_array().expect("points");
    assert_eq!(points.len(), 2);
    let expected = json!({
        "time": "2026-11-30T12:00:00.000Z", "rendition": null, "views": 2,
        "watch_seconds": 24.69, "peak_viewers": 2, "objects": 10, "bytes": 1000,
        "quality": {
            "reports": 3, "rebuffers": 1, "rebuffer_ratio": 0.333, "startups": 0,
            "startup_ms": null, "bitrate_kbps": 1500, "throughput_kbps": null,
            "buffer_ms": null, "latency_ms": null
        }
    });
    assert_eq!(points[0], expected);
    let document = site.document().await;
    let path = "/api/v1/channels/{channel}/analytics";
    let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
    assert_fits(&document, &content["application/json"]["schema"], &report);
    assert!(content["text/csv"].is_object());

    let (_, report) = site.get(ada, &format!("{PATH}?{range}")).await;
    let points = report["points"].as_array().expect("points");
    let days = points.iter().map(|point| (&point["time"], &point["views"]));
    assert_eq!(
        days.collect::<Vec<_>>(),
        [
            (&json!("2026-11-30T00:00:00.000Z"), &json!(5)),
            (&json!("2026-12-01T00:00:00.000Z"), &json!(4)),
        ]
    );
    let (_, report) = site.get(ada, &format!("{PATH}?{range}&by=rendition")).await;
    let points = report["points"].as_array().expect("points");
    let names = points.iter().map(|point| &point["rendition"]).collect::<Vec<_>>();
    assert_eq!(names, ["v0", "v480", "v0", "v480"]);
    assert!(points.iter().all(|point| point["peak_viewers"].is_null()));
    // Without an audience there is no point.
    let empty = "step=minute&from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z";
    let (status, report) = site.get(ada, &format!("{PATH}?{empty}")).await;
    assert_eq!((status, &report["points"]), (StatusCode::OK, &json!([])));
}

#[tokio::test]
async fn views_are_shown_to_everybody_and_more_to_the_owner_and_administrators() {
    let site = Site::new("audience").await;
    let ada = site.account("ada", Role::Creator).await;
    let (eve, moderator, admin) = (
        site.account("eve", Role::Creator).await,
        site.account("mod", Role::Moderator).await,
        site.account("root", Role::Administrator).await,
    );
    let subject = channel(&site, ada).await;
    count(&site, subject, &[(0, 7)]).await;
    let (_, shown) = site.get(Actor::Anonymous, "/api/v1/channels/show").await;
    assert_eq!(shown["views"], 7);
    let status = async |actor| site.get(actor, PATH).await.0.as_u16();
    let expected =
        [(Actor::Anonymous, 401), (eve, 403), (moderator, 403), (ada, 200), (admin, 200)];
    for (actor, expected) in expected {
        assert_eq!(status(actor).await, expected, "{actor:?}");
    }
    let edit = json!({ "visibility": "private" });
    site.send(ada, Method::PATCH, "/api/v1/channels/show", edit, &[]).await;
    assert_eq!(status(eve).await, 404, "she may not know of it");
    assert_eq!(site.get(ada, "/api/v1/channels/none/analytics").await.0, StatusCode::NOT_FOUND);
    assert_ne!(id(ada), id(eve));
}

#[tokio::test]
async fn a_video_shows_its_views() {
    let site = Site::new("videoviews").await;
    let ada = site.account("ada", Role::Creator).await;
    channel(&site, ada).await;
    let path = site.publish(ada, "show", json!({ "title": "Notes" })).await;
    let video: VideoId = path.rsplit('/').next().expect("an id").parse().expect("an id");
    assert_eq!(site.get(ada, &path).await.1["views"], 0);
    let count = Count { subject: Subject::Video(video), minute: NOON, views: 3, watched_ms: 9_000 };
    let store = site.platform.store().await.expect("it is open");
    let node = store.traffic().node().expect("a disk");
    let record = Record { node, batch: 1, counts: vec![count] };
    store.send(Actor::System, record).await.expect("a disk");
    assert_eq!(site.get(ada, &path).await.1["views"], 3);
}

#[tokio::test]
async fn days_have_the_views_of_the_log_if_the_file_of_traffic_is_lost() {
    let site = Site::new("lostfile").await;
    let ada = site.account("ada", Role::Creator).await;
    let subject = channel(&site, ada).await;
    count(&site, subject, &[(0, 7)]).await;
    let store = site.platform.store().await.expect("it is open");
    // Much later the rows are gone, and the facts are kept.
    let later = Step::Day.begin(Step::Day.number(NOON) + 1_000);
    store.traffic().add_minute(later, &[], Kept { minutes: 1, days: 1 }).expect("a disk");
    let days = format!("{PATH}?from=2026-11-30T00:00:00Z&to=2026-12-01T00:00:00Z");
    let (_, report) = site.get(ada, &days).await;
    let point = &report["points"][0];
    assert_eq!((&point["views"], &point["bytes"]), (&json!(7), &json!(0)), "{report}");
    assert_eq!(point["watch_seconds"], 86.415);
    let minutes = days.replace('?', "?step=minute&");
    assert_eq!(site.get(ada, &minutes).await.1["points"], json!([]));
}

#[tokio::test]
async fn lines_of_csv_are_sent_by_accept_or_format() {
    let site = Site::new("csv").await;
    let ada = site.account("ada", Role::Creator).await;
    let subject = channel(&site, ada).await;
    count(&site, subject, &[(0, 2)]).await;
    let days = format!("{PATH}?from=2026-11-30T00:00:00Z&to=2026-12-01T00:00:00Z");
    let get = async |path: &str, accept: &str| {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty());
        let (status, headers, body) = ask(site.router(ada), request.expect("a request")).await;
        assert_eq!(status, StatusCode::OK);
        let kind = headers[header::CONTENT_TYPE].to_str().expect("text").to_owned();
        (kind, String::from_utf8(body.to_vec()).expect("text"))
    };
    let csv = "time,rendition,views,watch_seconds,peak_viewers,objects,bytes,reports,rebuffers,\
               startups,startup_ms,bitrate_kbps,throughput_kbps,buffer_ms,latency_ms\r\n\
               2026-11-30T00:00:00.000Z,,2,24.69,2,10,1000,3,1,0,,1500,,,\r\n";
    let (kind, body) = get(&days, "text/csv").await;
    assert_eq!((kind.as_str(), body.as_str()), ("text/csv; charset=utf-8; header=present", csv));
    assert_eq!(get(&format!("{days}&format=csv"), "application/json").await.1, csv);
    assert_eq!(get(&days, "*/*").await.0, "application/json");
    let renditions = get(&format!("{days}&format=csv&by=rendition"), "*/*").await.1;
    let second = renditions.lines().nth(2).expect("a line");
    assert_eq!(second, "2026-11-30T00:00:00.000Z,v480,2,24.69,,10,1000,3,1,0,,1500,,,");
}

#[tokio::test]
async fn a_range_that_is_too_long_or_unknown_parameters_are_refused() {
    let site = Site::new("range").await;
    let ada = site.account("ada", Role::Creator).await;
    channel(&site, ada).await;
    for query in [
        "step=minute&from=2026-11-30T00:00:00Z&to=2026-12-02T00:00:00Z",
        "from=2026-11-30T00:00:00Z&to=2026-11-29T00:00:00Z",
        "from=yesterday",
        "step=hour",
        "by=country",
        "format=xml",
        "colour=red",
    ] {
        let (status, problem) = site.get(ada, &format!("{PATH}?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        assert_eq!(problem["type"], "/problems/invalid-request", "{query}");
    }
}
