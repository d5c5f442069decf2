//! Replicas, which are compared with their writer.

use super::*;

/// Lists that a writer and its replica must answer alike.
const LISTS: [&str; 4] =
    ["/api/v1/accounts", "/api/v1/channels", "/api/v1/channels/show", "/api/v1/categories"];

#[track_caller]
fn assert_alike(writer: &Daemon, replica: &Daemon) {
    for path in LISTS {
        assert_eq!(read(writer, path), read(replica, path), "{path}");
    }
    assert_eq!(exported(writer), exported(replica));
}

#[track_caller]
fn verify(daemon: &Daemon) {
    let found = operate(daemon, &["db", "verify", "--json"]);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["faults"], json!([]), "{found}");
}

#[test]
fn a_replica_answers_as_its_writer_does_and_sends_changes_there() {
    let mut nats = Nats::start();
    let writer = Daemon::start(&settings(&nats));
    make_channel(&writer);
    let mut replica = replica(&nats, &writer);
    wait_until_level(&writer, &replica);
    assert_alike(&writer, &replica);
    let accounts = read(&replica, "/api/v1/accounts");
    assert!(accounts.to_string().contains("ada@example.org"), "{accounts}");

    // An access token of the writer, and a read that waits for an event.
    let other = "another long password";
    let login = json!({ "login": "ada", "password": PASSWORD, "new_password": other });
    let session = post(&writer, "/api/v1/sessions", &login);
    let token = session["access_token"].as_str().expect("a token").to_owned();
    wait_until_level(&writer, &replica);
    let own = wait_for("the keys of access tokens", LIMIT, || {
        let own = call(&replica, &token, "GET", "/api/v1/accounts/me", &Value::Null);
        (own.status == 200).then_some(own)
    });
    assert_eq!(json(&own)["name"], "ada");
    let event = cause(writer.http, 1).expect("an event").to_string();
    let headers = [("Sf-Sequence", event.as_str())];
    let waited = http::request(replica.http, "GET", "/api/v1/channels/show", &headers);
    assert_eq!(json(&waited)["title"], "Number 1", "{}", waited.text());

    let refused = call(&replica, TOKEN, "POST", "/api/v1/channels", &json!({ "name": "other" }));
    assert_eq!((refused.status, &json(&refused)["type"]), (503, &json!("/problems/replica")));
    // The server and the replica are killed, one after the other.
    nats.kill();
    assert_eq!(read(&replica, "/api/v1/channels/show")["title"], "Number 1");
    cause(writer.http, 2).expect("it needs no bus");
    nats.begin();
    wait_until_level(&writer, &replica);
    replica.process.kill();
    cause(writer.http, 3).expect("an event");
    let mut replica = replica.start_again();
    wait_until_level(&writer, &replica);
    assert_alike(&writer, &replica);
    let own = call(&replica, &token, "GET", "/api/v1/accounts/me", &Value::Null);
    assert_eq!(own.status, 200, "it has kept the keys: {}", own.text());
    verify(&replica);
    replica.assert_healthy();
}

#[test]
fn a_replica_that_knows_the_writers_address_redirects_changes() {
    let nats = Nats::start();
    let writer = Daemon::start(&settings(&nats));
    make_channel(&writer);
    let Settings { extra, .. } = settings(&nats);
    let extra = format!("{extra}writer = {:?}\n", writer.url(""));
    let settings = Settings { is_replica: true, extra, ..Settings::default() };
    let replica = Daemon::start_in(replicas_folder(&writer), &settings);
    let change = json!({ "name": "other" });
    let redirected = call(&replica, TOKEN, "POST", "/api/v1/channels?a=b", &change);
    assert_eq!(redirected.status, 307, "{}", redirected.text());
    let location = redirected.header("location");
    assert_eq!(location, Some(writer.url("/api/v1/channels?a=b").as_str()));
}

#[test]
fn an_erasure_reaches_the_bucket_of_keys_and_the_replicas() {
    let nats = Nats::start();
    let writer = Daemon::start(&settings(&nats));
    make_channel(&writer);
    let eve = register(&writer, "eve");
    let mut present = replica(&nats, &writer);
    wait_until_level(&writer, &present);
    assert!(read(&present, "/api/v1/accounts").to_string().contains("eve@example.org"));
    let subject = format!("$KV.streamforge_keys.{eve}");
    let of_eve = || nats.read(BUCKET).into_iter().find(|message| message.subject == subject);
    let key = of_eve().expect("her key").payload;
    assert!(nats.holds(&key));

    let path = format!("/api/v1/accounts/{eve}");
    let erased = call(&writer, TOKEN, "DELETE", &path, &Value::Null);
    assert_eq!(erased.status, 204, "{}", erased.text());
    wait_until_level(&writer, &present);
    let accounts = read(&present, "/api/v1/accounts").to_string();
    assert!(accounts.contains("ada") && !accounts.contains("eve"), "{accounts}");
    let marker = of_eve().expect("a marker");
    assert_eq!((marker.header("KV-Operation"), marker.payload.len()), (Some("PURGE"), 0));
    assert!(!nats.holds(&key), "the key is in a file of the server");

    // A replica that begins later finds her erased from the start.
    let late = replica(&nats, &writer);
    wait_until_level(&writer, &late);
    assert_alike(&writer, &present);
    assert_alike(&writer, &late);
    verify(&present);
    verify(&late);
    present.assert_healthy();
}
