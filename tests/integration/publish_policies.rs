//! The policies for publishers with real encoders: listed keys, tokens, and back ends that admit,
//! refuse, are gone, slow, or lie. Refusals are fast, say why in the encoder, and leave no key in
//! the log.

use crate::support::{
    Workdir,
    daemon::{self, Daemon, Entry, Settings},
    media::PLAIN,
    process::Process,
    publisher,
    rtmp::{Client, Refusal},
    wait_for,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(20);
/// Part of all secrets here; it must not be in a log.
const SECRET: &str = "s3cret";

/// Responds to the body of a request with all bytes of a response, or closes the connection.
type Respond = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// An HTTP server that publishers are asked about. Its threads end with the process.
struct BackEnd {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl BackEnd {
    fn start(respond: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let bodies = Arc::<Mutex<Vec<String>>>::default();
        let (seen, respond): (_, Arc<Respond>) = (Arc::clone(&bodies), Arc::new(respond));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (seen, respond) = (Arc::clone(&seen), Arc::clone(&respond));
                thread::spawn(move || while Self::exchange(&socket, &seen, &*respond).is_some() {});
            }
        });
        Self { address, bodies }
    }

    /// Reads one request and responds. `None` at the end of the connection.
    fn exchange(
        mut socket: &TcpStream,
        seen: &Mutex<Vec<String>>,
        respond: &Respond,
    ) -> Option<()> {
        let mut input = String::new();
        let body = loop {
            if let Some((head, body)) = input.split_once("\r\n\r\n") {
                let length = head.to_ascii_lowercase();
                let length = length.split_once("content-length: ")?.1.lines().next()?.to_owned();
                if body.len() >= length.parse::<usize>().ok()? {
                    break body.to_owned();
                }
            }
            let mut bytes = [0; 4096];
            let count = socket.read(&mut bytes).ok().filter(|&count| count > 0)?;
            input.push_str(std::str::from_utf8(&bytes[..count]).ok()?);
        };
        seen.lock().expect("nobody panics while holding it").push(body.clone());
        let response = respond(&body);
        socket.write_all(&response).ok()?;
        (!response.is_empty()).then_some(())
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().expect("nobody panics while holding it").clone()
    }

    /// The settings of a daemon that asks it; `more` are further keys of `[publish.webhook]`.
    fn settings(&self, format: &str, more: &str) -> Settings {
        webhook(self.address, format, more)
    }
}

/// A response without a body.
fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn policy(name: &str, extra: String) -> Settings {
    Settings {
        publish: format!(
            "policy = {name:?}\nkeys = [{{ channel = \"listed\", key = \"s3cret-of-listed\" }}]"
        ),
        // Also what libraries log.
        env: vec![("RUST_LOG".into(), "trace,h2=info".into())],
        extra,
        ..Settings::default()
    }
}

fn webhook(address: SocketAddr, format: &str, more: &str) -> Settings {
    policy(
        "webhook",
        format!("[publish.webhook]\nurl = \"http://{address}/auth\"\nformat = {format:?}\n{more}"),
    )
}

/// The refusal of a publisher. It waits for no limit of time: all are longer than this.
fn refused(daemon: &Daemon, key: &str) -> Refusal {
    let begun = Instant::now();
    let refusal = Client::publish(daemon.rtmp, "live", key).expect_err("it has no right");
    assert!(begun.elapsed() < Duration::from_secs(2), "{key} took {:?}", begun.elapsed());
    refusal
}

/// Asserts that a publisher is refused, and that ffmpeg shows the reason, which has `words`.
fn assert_refused(daemon: &Daemon, key: &str, words: &str) {
    let refusal = refused(daemon, key);
    assert!(refusal.code.starts_with("NetStream.Publish."), "{refusal:?}");
    assert!(refusal.description.contains(words), "{words}: {refusal:?}");
    let mut ffmpeg = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(key));
    assert!(!ffmpeg.wait(LIMIT).success(), "ffmpeg is refused");
    let shown = ffmpeg.stderr();
    assert!(shown.contains(words), "ffmpeg does not show {words:?}:\n{shown}");
}

/// The log has the refusal for the operator with `detail`, and no secret.
fn assert_log(daemon: &mut Daemon, detail: &str) {
    daemon.process.wait_for_lines(detail, LIMIT, |lines| {
        let refused = lines.iter().filter_map(|line| Entry::parse(line));
        let mut refused = refused.filter(|entry| entry.message() == "refused");
        refused.find(|entry| entry.field("detail").is_some_and(|text| text.contains(detail)))
    });
    assert_no_secret(daemon);
}

fn assert_no_secret(daemon: &Daemon) {
    let lines = daemon.process.lines();
    let shown = lines.iter().find(|line| line.contains(SECRET));
    assert_eq!(shown, None);
}

fn live(daemon: &Daemon, key: &str, channel: &str) -> Process {
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(key));
    daemon.wait_until_live(channel);
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
    publisher
}

#[test]
fn unlisted_and_withdrawn_keys_are_refused_fast_with_the_reason_in_ffmpeg() {
    let mut daemon = Daemon::start(&Settings::default());
    let keys = |keys: &[(&str, &str)]| {
        let keys =
            keys.iter().map(|(channel, key)| format!("{{ channel = {channel:?}, key = {key:?} }}"));
        format!("policy = \"keys\"\nkeys = [{}]", keys.collect::<Vec<_>>().join(", "))
    };
    let both = keys(&[("one", "s3cret-of-one"), ("two", "s3cret-of-two")]);
    let two = keys(&[("two", "s3cret-of-two")]);
    daemon.configure(|text| text.replace("policy = \"open\"", &both));
    daemon.reload();
    assert_refused(&daemon, "s3cret-of-nobody", "this stream key is not known here");
    // OBS publishes with a librtmp of its own; the original one shows no reasons.
    let mut librtmp = publisher::librtmp(&PLAIN, &daemon.rtmp_url("s3cret-of-nobody"));
    assert!(!librtmp.wait(LIMIT).success(), "librtmp is refused");
    // The key of a channel is not one of another, and a channel's name is no key.
    assert_refused(&daemon, "one", "this stream key is not known here");
    let mut one = live(&daemon, "s3cret-of-one", "one");
    let mut two_goes_on = live(&daemon, "s3cret-of-two", "two");
    let mut silent = Client::publish(daemon.rtmp, "live", "s3cret-of-one");
    assert!(silent.is_err(), "the channel is live");
    one.terminate();
    one.wait(LIMIT);
    wait_for("the free name", LIMIT, || {
        silent = Client::publish(daemon.rtmp, "live", "s3cret-of-one");
        silent.is_ok().then_some(())
    });

    // Revoked: the session ends with the reload.
    daemon.configure(|text| text.replace("policy = \"open\"", &two));
    daemon.reload();
    assert!(silent.expect("it publishes").is_closed_within(LIMIT));
    assert_refused(&daemon, "s3cret-of-one", "this stream key is not known here");
    assert!(two_goes_on.is_running());

    // ffmpeg shows why it was disconnected.
    daemon.configure(|text| text.replace("policy = \"open\"", "policy = \"keys\""));
    daemon.reload();
    two_goes_on.wait(LIMIT);
    let shown = two_goes_on.stderr();
    assert!(shown.contains("this stream key has been withdrawn"), "{shown}");
    assert_no_secret(&daemon);
}

#[test]
fn a_back_end_of_mediamtx_admits_and_refuses_ffmpeg() {
    let back_end = BackEnd::start(|body| {
        let asked: Value = serde_json::from_str(body).expect("JSON");
        match asked["password"] == "s3cret" && asked["path"] == "live/show" {
            true => status("200 OK"),
            false => status("401 Unauthorized"),
        }
    });
    let mut daemon = Daemon::start(&back_end.settings("mediamtx", ""));
    let mut admitted = live(&daemon, "show?user=me&pass=s3cret", "show");
    let asked: Value = serde_json::from_str(&back_end.bodies()[0]).expect("JSON");
    for (field, value) in [
        ("ip", "127.0.0.1"),
        ("user", "me"),
        ("password", "s3cret"),
        ("token", "s3cret"),
        ("action", "publish"),
        ("path", "live/show"),
        ("protocol", "rtmp"),
        ("query", "user=me&pass=s3cret"),
    ] {
        assert_eq!(asked[field], value, "{field}");
    }
    assert!(asked["userAgent"].as_str().is_some_and(|agent| !agent.is_empty()), "{asked}");
    assert_refused(&daemon, "other?user=me&pass=s3cret-wrong", "check the stream key");
    assert_log(&mut daemon, "the back end refused with status 401");
    // A listed key needs no back end.
    let count = back_end.bodies().len();
    let mut listed = live(&daemon, "s3cret-of-listed", "listed");
    assert_eq!(back_end.bodies().len(), count);

    // Another back end does not end what this one has admitted, and another policy does.
    daemon.configure(|text| text.replace("/auth", "/other"));
    daemon.reload();
    assert!(admitted.is_running() && listed.is_running());
    daemon.configure(|text| text.replace("policy = \"webhook\"", "policy = \"keys\""));
    daemon.reload();
    admitted.wait(LIMIT);
    let shown = admitted.stderr();
    assert!(shown.contains("has been withdrawn"), "{shown}");
    assert!(listed.is_running(), "its key is still listed");
    assert_no_secret(&daemon);
    daemon.assert_healthy();
}

#[test]
fn a_back_end_of_nginx_rtmp_renames_refuses_and_reads_the_end_of_a_stream() {
    let back_end = BackEnd::start(|body| {
        let field = |name: &str| {
            let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
            // The last of two counts, as in PHP.
            pairs.rev().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        match (field("call").as_deref(), field("name").as_deref(), field("key").as_deref()) {
            (Some("publish_done"), ..) => status("200 OK"),
            (Some("publish"), Some("s3cret-key"), _) => {
                b"HTTP/1.1 302 Found\r\nLocation: public\r\nContent-Length: 0\r\n\r\n".to_vec()
            }
            (Some("publish"), Some("show"), Some("s3cret")) => status("200 OK"),
            _ => status("403 Forbidden"),
        }
    });
    let done = format!("done_url = \"http://{}/done\"\n", back_end.address);
    let mut daemon = Daemon::start(&back_end.settings("nginx-rtmp", &done));
    let mut renamed = live(&daemon, "s3cret-key", "public");
    let asked = back_end.bodies().remove(0);
    for part in
        ["app=live&flashver=", "&tcurl=rtmp%3A%2F%2F127.0.0.1", "&addr=127.0.0.1&clientid=1"]
    {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    assert!(asked.ends_with("&call=publish&name=s3cret-key&type=live"), "{asked}");
    let show = live(&daemon, "show?key=s3cret", "show");
    assert_refused(&daemon, "show?key=wrong", "check the stream key");
    // A publisher cannot make the back end read another name.
    assert_refused(&daemon, "other?name=show&key=s3cret", "check the stream key");
    assert_log(&mut daemon, "the back end refused with status 403");

    // The end of each stream is announced with the name that the publisher has sent, also at the
    // end of the daemon.
    let ended = |name: &str| {
        let end = format!("&call=publish_done&name={name}");
        wait_for(&end, LIMIT, || back_end.bodies().into_iter().find(|body| body.contains(&end)))
    };
    renamed.terminate();
    renamed.wait(LIMIT);
    assert!(ended("s3cret-key").contains("&clientid=1&"));
    daemon.process.terminate();
    assert!(ended("show").ends_with("&key=s3cret"));
    drop(show);
    let refused = back_end.bodies().into_iter().filter(|body| body.contains("publish_done"));
    assert_eq!(refused.count(), 2, "refused publishers did not begin");
    daemon.process.wait(LIMIT);
}

#[test]
fn a_back_end_that_is_gone_or_lies_refuses_fast_and_the_log_says_why() {
    const SORRY: &str = "the server could not check this stream key";
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let mut daemon = Daemon::start(&webhook(address, "mediamtx", ""));
    assert_refused(&daemon, "show?token=s3cret", SORRY);
    assert_log(&mut daemon, "Connection refused");
    drop(daemon);

    let huge =
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec(), vec![b'x'; 1_000_000]];
    let huge = huge.concat();
    let location = |to: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    for (format, response, detail) in [
        ("mediamtx", huge, "longer than 64 KiB"),
        ("mediamtx", location("/auth"), "redirected to another address"),
        ("mediamtx", b"garbage\r\n\r\n".to_vec(), "does not respond"),
        ("mediamtx", Vec::new(), "does not respond"),
        ("mediamtx", status("500 Internal Server Error"), "failed with status 500"),
        ("nginx-rtmp", location("../../etc/passwd"), "invalid channel in Location"),
        ("nginx-rtmp", location("rtmp://127.0.0.1/live/a"), "does not relay"),
    ] {
        let back_end = BackEnd::start(move |_| response.clone());
        let mut daemon = Daemon::start(&back_end.settings(format, ""));
        let refusal = refused(&daemon, "show?token=s3cret");
        assert_eq!(refusal.code, "NetStream.Publish.Rejected", "{detail}");
        assert!(refusal.description.contains(SORRY), "{refusal:?}");
        assert_log(&mut daemon, detail);
        daemon.assert_healthy();
    }
}

#[test]
fn a_slow_back_end_delays_nobody_but_its_own_publishers() {
    let back_end = BackEnd::start(|body| {
        if body.contains("\"path\":\"live/slow\"") {
            thread::sleep(Duration::from_secs(60));
        }
        status("200 OK")
    });
    let mut daemon = Daemon::start(&back_end.settings("mediamtx", "timeout_ms = 8000\n"));
    let rtmp = daemon.rtmp;
    let slow = move || {
        let refusal = Client::publish(rtmp, "live", "slow?token=s3cret");
        refusal.expect_err("there is no decision")
    };
    let waiting = (0..8).map(|_| thread::spawn(slow)).collect::<Vec<_>>();
    wait_for("eight questions", LIMIT, || (back_end.bodies().len() == 8).then_some(()));
    let _fast = Client::publish(rtmp, "live", "fast?token=s3cret").expect("it is admitted");
    let _listed = Client::publish(rtmp, "live", "s3cret-of-listed").expect("its key is listed");
    assert!(!waiting.iter().any(thread::JoinHandle::is_finished), "the others are admitted before");
    for publisher in waiting {
        let refusal = publisher.join().expect("it does not panic");
        assert!(refusal.description.contains("could not check this stream key"), "{refusal:?}");
    }
    assert_log(&mut daemon, "within 8000 ms");
}

/// A token that is signed with the secret of the tests.
fn signed(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).expect("a key");
    encode(&Header::new(Algorithm::HS256), claims, &key).expect("a token")
}

fn in_an_hour() -> u64 {
    get_current_timestamp() + 3_600
}

#[test]
fn tokens_admit_ffmpeg_to_their_channel_until_they_expire() {
    const KEY: &str = "s3cret-s3cret-s3cret-s3cret-s3cret";
    let extra = format!("[publish.jwt]\nsecret = {KEY:?}\nend_at_expiry = true\n");
    let mut daemon = Daemon::start(&policy("jwt", extra));
    let alone = signed(&json!({"exp": in_an_hour(), "channel": "show"}), KEY);
    let _show = live(&daemon, &alone, "show");
    let permissions = json!([{"action": "publish", "path": "~^live/team-"}]);
    let team = signed(&json!({"exp": in_an_hour(), "mediamtx_permissions": permissions}), KEY);
    let _team = live(&daemon, &format!("team-a?jwt={team}"), "team-a");
    assert_refused(&daemon, &format!("other?token={team}"), "for another channel");
    assert_refused(&daemon, "show", "this server needs a token");
    let _listed = live(&daemon, "s3cret-of-listed", "listed");

    // The time limit of a token ends the session, and ffmpeg shows why.
    let brief = signed(&json!({"exp": get_current_timestamp() + 4, "channel": "brief"}), KEY);
    let mut brief = live(&daemon, &brief, "brief");
    brief.wait(LIMIT);
    let shown = brief.stderr();
    assert!(shown.contains("the token of this stream has expired"), "{shown}");
    for token in [&alone, &team] {
        let lines = daemon.process.lines();
        assert!(!lines.iter().any(|line| line.contains(token.as_str())), "tokens are never logged");
    }
    assert_no_secret(&daemon);
    daemon.assert_healthy();
}

#[test]
fn forged_foreign_and_expired_tokens_are_refused() {
    let workdir = Workdir::new("tokens");
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let public = workdir.path().join("public.pem");
    fs::write(&public, pair.public_key_pem()).expect("a file");
    let extra = format!("[publish.jwt]\npublic_key = {:?}\n", public.to_str().expect("UTF-8"));
    let mut daemon = Daemon::start(&policy("jwt", extra));
    let sign = |claims: &Value, pair: &KeyPair| {
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
        encode(&Header::new(Algorithm::ES256), claims, &key).expect("a token")
    };
    let claims = json!({"exp": in_an_hour(), "channel": "show"});
    let valid = sign(&claims, &pair);
    let _show = live(&daemon, &valid, "show");
    let stranger = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let expired = json!({"exp": get_current_timestamp() - 60, "channel": "show"});
    let body = valid.split('.').nth(1).expect("claims");
    // {"alg":"none","typ":"JWT"}
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    for (key, words) in [
        (sign(&claims, &stranger), "signature of this token is not valid"),
        (sign(&expired, &pair), "this token has expired"),
        (none, "no token that the server can read"),
        (signed(&claims, &pair.public_key_pem()), "no key for this token"),
        (format!("other?token={valid}"), "for another channel"),
    ] {
        assert_refused(&daemon, &key, words);
    }
    // A reload with another key ends the sessions of the old one.
    fs::write(&public, stranger.public_key_pem()).expect("a file");
    let said = daemon.reload();
    let said = said.iter().find_map(|line| Entry::parse(line)?.number("withdrawn_keys"));
    assert_eq!(said, Some(1));
    assert!(Client::publish(daemon.rtmp, "live", &valid).is_err());
    // A file that is no key changes nothing.
    fs::write(&public, "nothing").expect("a file");
    let said = daemon.reload().join("\n");
    assert!(said.contains("public.pem") && said.contains("nothing was changed"), "{said}");
    let accepted = sign(&json!({"exp": in_an_hour(), "channel": "again"}), &stranger);
    Client::publish(daemon.rtmp, "live", &accepted).expect("the last valid key is in force");
    daemon.assert_healthy();
}

#[test]
fn check_reports_the_policy_and_the_faults_of_its_files_without_secrets() {
    let workdir = Workdir::new("check");
    let config = workdir.path().join("streamforge.toml");
    let check = |text: &str| {
        fs::write(&config, text).expect("a file");
        let mut command: Command = daemon::command();
        let output = command.arg("check").arg("--config").arg(&config).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).expect("text");
        assert!(!said.contains(SECRET), "{said}");
        said
    };
    let jwt = "[publish]\npolicy = \"jwt\"\n[publish.jwt]\n";
    let said = check(&format!("{jwt}secret = \"s3cret-s3cret-s3cret-s3cret-s3cret\"\n"));
    assert!(said.contains("tokens (keys: 1)"), "{said}");
    let said = check(&format!("{jwt}public_key = \"/nowhere/public.pem\"\n"));
    assert!(said.contains("publish.jwt: /nowhere/public.pem"), "{said}");
    assert!(check(jwt).contains("publish.jwt.secret"), "a key is needed");
    let said = check(
        "[publish]\npolicy = \"webhook\"\n[publish.webhook]\n\
         url = \"http://127.0.0.1:8000/s3cret?key=s3cret\"\n",
    );
    assert!(said.contains("http://127.0.0.1:8000 decides"), "{said}");
}
