//! The search of a real daemon: what is published is found despite typing errors, what is hidden is
//! not, and the index survives restarts and its own loss.

use crate::support::{
    daemon::{Daemon, Settings},
    http, wait_for,
};
use control_api::Store;
use control_domain::{
    Actor, features,
    features::videos::{
        processing::{FinishProcessing, FinishUpload, StartUpload},
        state::Media,
    },
    id::VideoId,
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

const TOKEN: &str = "a-token-of-the-tests-0123456789abcdef";
const LIMIT: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    let extra = format!("[platform]\nenabled = true\n[api]\nadmin_token = {TOKEN:?}\n");
    Settings { extra, ..Settings::default() }
}

/// A request with a body of JSON; `token`: of the operator, or none if it is empty.
#[track_caller]
fn send(daemon: &Daemon, token: &str, method: &str, path: &str, body: Option<Value>) -> Sent {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let (authorization, length) = (format!("Bearer {token}"), body.len().to_string());
    let mut headers = vec![("Content-Length", length.as_str())];
    if !token.is_empty() {
        headers.push(("Authorization", authorization.as_str()));
    }
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    let exchange = http::Exchange::send(daemon.http, method, path, &headers, body.as_bytes());
    let http::Response { status, body, .. } = exchange.finish();
    let value =
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    Sent { status, value }
}

struct Sent {
    status: u16,
    value: Value,
}

/// The titles of the videos that everybody finds; `None` while the search is not in service.
fn titles(daemon: &Daemon, query: &str) -> Option<Vec<String>> {
    let Sent { status, value } = send(daemon, "", "GET", &format!("/api/v1/search?{query}"), None);
    if status == 503 {
        return None;
    }
    assert_eq!(status, 200, "{value}");
    let hits = value["hits"].as_array().expect("a list").iter();
    let title = |hit: &Value| hit["video"]["title"].as_str().expect("a title").to_owned();
    Some(hits.map(title).collect())
}

#[track_caller]
fn wait_until_found(daemon: &Daemon, query: &str, expected: &[&str]) {
    wait_for(&format!("{query}: {expected:?}"), LIMIT, || {
        (titles(daemon, query)? == expected).then_some(())
    });
}

/// Lets a video have its media, which arrive by an upload: in the database of a daemon that has
/// ended.
fn process(data: &Path, video: &str) {
    let video: VideoId = video.parse().expect("an id");
    let media = Media { duration_ms: 60_000, width: Some(1920), height: Some(1080) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let store = Store::open(&data.join("platform"), features::ALL).expect("nobody has it open");
        store.send(Actor::System, StartUpload { video }).await.expect("a draft");
        store.send(Actor::System, FinishUpload { video, bytes: 9 }).await.expect("an upload");
        store.send(Actor::System, FinishProcessing { video, media }).await.expect("an upload");
    });
}

#[test]
fn a_published_video_is_found_despite_typing_errors_also_after_the_loss_of_the_index() {
    let daemon = Daemon::start(&settings());
    let made = |path: &str, new: Value| {
        let Sent { status, value } = send(&daemon, TOKEN, "POST", path, Some(new));
        assert_eq!(status, 201, "{path}: {value}");
        value
    };
    let accounts = send(&daemon, TOKEN, "GET", "/api/v1/accounts", None).value;
    let owner = accounts["accounts"][0]["id"].clone();
    made("/api/v1/channels", json!({ "name": "films", "owner": owner }));
    let videos = ["Big Buck Bunny", "Elephants Dream"].map(|title| {
        let new = json!({ "title": title, "visibility": "public", "tags": ["animation"] });
        made("/api/v1/channels/films/videos", new)["id"].as_str().expect("an id").to_owned()
    });
    let data = daemon.workdir.path().join("data");
    let mut daemon = daemon;
    daemon.process.terminate();
    daemon.process.wait(LIMIT);
    videos.iter().for_each(|video| process(&data, video));
    let mut daemon = daemon.start_again();
    let video = "kind=video&q=";
    wait_until_found(&daemon, &format!("{video}bunny"), &[]);
    let publication = |video: &str| format!("/api/v1/videos/{video}/publication");
    for video in &videos {
        let sent = send(&daemon, TOKEN, "PUT", &publication(video), Some(json!({})));
        assert_eq!(sent.status, 200, "{}", sent.value);
    }
    wait_until_found(&daemon, &format!("{video}big+bukc+bunny"), &["Big Buck Bunny"]);
    wait_until_found(&daemon, &format!("{video}ELEFANTS"), &["Elephants Dream"]);
    wait_until_found(
        &daemon,
        &format!("{video}anmiation&sort=new"),
        &["Elephants Dream", "Big Buck Bunny"],
    );
    let completion = "/api/v1/search/completion?q=big+bu";
    let Sent { status, value } = send(&daemon, "", "GET", completion, None);
    assert_eq!((status, &value["suggestions"][0]["text"]), (200, &json!("Big Buck Bunny")));

    let sent = send(&daemon, TOKEN, "DELETE", &publication(&videos[0]), None);
    assert!((200..300).contains(&sent.status), "{} {}", sent.status, sent.value);
    wait_until_found(&daemon, &format!("{video}bunny"), &[]);
    assert_eq!(daemon.metric("streamforge_search_documents"), 3);
    daemon.assert_healthy();

    // Another process of the daemon has the index.
    daemon.upgrade();
    wait_until_found(&daemon, &format!("{video}elephants"), &["Elephants Dream"]);
    let sent = send(&daemon, TOKEN, "PUT", &publication(&videos[0]), Some(json!({})));
    assert_eq!(sent.status, 200, "{}", sent.value);
    wait_until_found(&daemon, &format!("{video}bunny"), &["Big Buck Bunny"]);
}

#[test]
fn an_index_that_is_deleted_while_the_daemon_is_stopped_is_built_again() {
    let daemon = Daemon::start(&settings());
    let accounts = send(&daemon, TOKEN, "GET", "/api/v1/accounts", None).value;
    let owner = accounts["accounts"][0]["id"].clone();
    for name in ["mountains", "rivers"] {
        let new = json!({ "name": name, "owner": owner });
        assert_eq!(send(&daemon, TOKEN, "POST", "/api/v1/channels", Some(new)).status, 201);
    }
    let found = |daemon: &Daemon| {
        let path = "/api/v1/search?q=montains";
        let Sent { status, value } = send(daemon, "", "GET", path, None);
        (status == 200 && value["hits"][0]["channel"]["name"] == "mountains").then_some(())
    };
    wait_for("the channel", LIMIT, || found(&daemon));
    let index = daemon.workdir.path().join("data/platform/search");
    let mut daemon = daemon;
    for damage in [false, true] {
        daemon.process.terminate();
        daemon.process.wait(LIMIT);
        match damage {
            true => fs::write(index.join("meta.json"), "{").expect("the index is there"),
            false => fs::remove_dir_all(&index).expect("the index is there"),
        }
        daemon = daemon.start_again();
        wait_for("the channel again", LIMIT, || found(&daemon));
    }
    daemon.assert_healthy();
    let logged = daemon.process.lines();
    assert!(logged.iter().any(|line| line.contains("is damaged: it is moved away")), "{logged:?}");
}
