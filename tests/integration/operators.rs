//! Tools of the operator: fixtures, the commands about videos and webhooks, pictures that people
//! upload, publishers' keys at an address, and clients behind a trusted proxy.

use crate::support::{
    Workdir,
    daemon::{Daemon, Settings},
    http,
    operator::{done, operate},
    rtmp::Client,
    tls::Certificate,
    wait_for,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "s3cret-operator";

fn settings(extra: &str) -> Settings {
    Settings {
        publish: "policy = \"keys\"".into(),
        extra: format!("[platform]\nenabled = true\n[api]\nadmin_token = \"{TOKEN}\"\n{extra}"),
        ..Settings::default()
    }
}

fn send(daemon: &Daemon, method: &str, path: &str, token: &str, body: &[u8]) -> http::Response {
    let (authorization, length) = (format!("Bearer {token}"), body.len().to_string());
    let kind = if body.starts_with(b"{") { "application/json" } else { "image/jpeg" };
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", kind),
        ("content-length", &length),
    ];
    let headers = if token.is_empty() { &headers[1..] } else { &headers };
    http::Exchange::send(daemon.http, method, path, headers, body).finish()
}

fn json(response: &http::Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/fixtures/demo.json")
}

/// Signs in. Returns the access token.
fn sign_in(daemon: &Daemon, login: &str, password: &str) -> String {
    let body = json!({ "login": login, "password": password }).to_string();
    let response = send(daemon, "POST", "/api/v1/sessions", "", body.as_bytes());
    assert_eq!(response.status, 201, "{}", response.text());
    json(&response)["access_token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_fresh_daemon_becomes_the_demonstration_and_a_second_seed_has_no_event() {
    let mut daemon = Daemon::start(&settings(""));
    let file = demo();
    let made = done(&daemon, &["db", "seed", text(&file)]);
    assert_eq!(made["made"]["people"], 8, "{made}");
    let random = made["stream_keys"].as_array().expect("a list");
    assert!(random[0]["key"].as_str().is_some_and(|key| key.starts_with("live_")), "{made}");

    let listed = json(&daemon.get("/api/v1/videos?limit=100"));
    let titles = listed["videos"].as_array().expect("a list").iter();
    let titles: Vec<_> = titles.map(|video| video["title"].as_str().expect("text")).collect();
    assert_eq!((titles.len(), titles[0]), (14, "Market walk at five in the morning"));
    assert!(!titles.contains(&"Mark two: solar power"), "it is published in two days");
    let channels = json(&daemon.get("/api/v1/channels"));
    assert_eq!(channels["channels"].as_array().map(Vec::len), Some(4), "one is private");
    let gardening = json(&daemon.get("/api/v1/videos?tag=robotics"));
    assert_eq!(gardening["videos"].as_array().map(Vec::len), Some(2), "the tags are merged");
    let mara = sign_in(&daemon, "mara@example.org", "demo-mara-2026");
    let me = json(&send(&daemon, "GET", "/api/v1/accounts/me", &mara, b""));
    assert_eq!((&me["role"], &me["name"]), (&json!("creator"), &json!("Mara Lindqvist")));
    Client::publish(daemon.rtmp, "live", "demo-green-robots-key").expect("the key of the file");

    let before = done(&daemon, &["db", "verify"]);
    let again = done(&daemon, &["db", "seed", text(&file)]);
    assert_eq!(again["result"], "nothing has changed: all 72 things exist");
    let after = done(&daemon, &["db", "verify"]);
    assert_eq!((&after["events"], &after["faults"]), (&before["events"], &json!([])));

    // A bad entry names its place, and nothing of the file is made.
    let bad = daemon.workdir.path().join("bad.json");
    let person = json!({ "name": "Zoe", "email": "zoe@example.org", "password": "quite-new-77" });
    let broken = json!({ "people": [person, { "name": "Y", "email": "nowhere" }] });
    let foreign = json!({ "people": [person],
        "videos": [{ "channel": "nobodys", "title": "A title" }] });
    for (fixtures, place) in
        [(broken, "/people/1/email"), (foreign, "/videos/0/channel: there is no channel nobodys")]
    {
        fs::write(&bad, fixtures.to_string()).expect("a file");
        let complaint = operate(&daemon, &["db", "seed", text(&bad)]).expect_err("a fault");
        assert!(complaint.contains(place), "{complaint}");
        assert!(!complaint.contains("quite-new"), "{complaint}");
    }
    assert_eq!(done(&daemon, &["db", "verify"])["events"], after["events"]);
    let lines = daemon.process.lines();
    let secrets = ["demo-mara-2026", "demo-green-robots-key", "quite-new-77"];
    let told = lines.iter().find(|line| secrets.iter().any(|secret| line.contains(secret)));
    assert_eq!(told, None);
    daemon.assert_healthy();
}

#[test]
fn videos_are_announced_edited_listed_and_deleted_by_command() {
    let mut daemon = Daemon::start(&settings(""));
    done(&daemon, &["db", "seed", text(&demo())]);
    let made = done(
        &daemon,
        &[
            "video",
            "announce",
            "green-robots",
            "A new robot",
            "--tag",
            "robotics",
            "--tag",
            "winter",
            "--category",
            "gardening",
            "--language",
            "en",
            "--visibility",
            "unlisted",
        ],
    );
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made["tags"], json!(["robots", "winter"]));
    assert_eq!((&made["state"], &made["visibility"]), (&json!("draft"), &json!("unlisted")));
    assert!(made["category"].is_string());

    let listed = done(&daemon, &["video", "list", "--channel", "green-robots"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(7), "in all states");
    // The operator finds the video for members of the platform, too.
    assert_eq!(done(&daemon, &["video", "list"]).as_array().map(Vec::len), Some(15));
    let category = done(&daemon, &["video", "list", "--category", "Gardening"]);
    assert_eq!(category.as_array().map(Vec::len), Some(1));
    let tagged = done(&daemon, &["video", "list", "--tag", "robotics"]);
    assert_eq!(tagged.as_array().map(Vec::len), Some(2));

    let secret = daemon.workdir.path().join("password");
    fs::write(&secret, "quite-new-77\nanother line\n").expect("a file");
    let edited = done(
        &daemon,
        &[
            "video",
            "edit",
            id,
            "--title",
            "A better robot",
            "--category",
            "",
            "--tag",
            "",
            "--visibility",
            "password",
            "--password-file",
            text(&secret),
        ],
    );
    assert_eq!(edited["title"], "A better robot");
    assert_eq!((&edited["tags"], &edited["category"]), (&json!([]), &Value::Null));
    assert_eq!((&edited["visibility"], &edited["language"]), (&json!("password"), &json!("en")));
    let scheduled = done(&daemon, &["video", "publish", id, "--at", "2099-01-01T00:00:00Z"]);
    assert_eq!(scheduled["publish_at"], "2099-01-01T00:00:00.000Z");
    let withdrawn = done(&daemon, &["video", "unpublish", id]);
    assert_eq!(withdrawn["publish_at"], Value::Null);
    assert_eq!(done(&daemon, &["video", "show", id])["id"], id);
    assert_eq!(done(&daemon, &["video", "delete", id]), Value::Null);
    let gone = operate(&daemon, &["video", "show", id]).expect_err("it is deleted");
    assert!(gone.contains("there is no such video"), "{gone}");
    let unknown = ["video", "announce", "green-robots", "Title", "--category", "Nothing"];
    let complaint = operate(&daemon, &unknown).expect_err("no such category");
    assert!(complaint.contains("the platform has no category Nothing"), "{complaint}");
    daemon.assert_healthy();
}

#[test]
fn webhooks_are_made_tested_replayed_and_deleted_by_command() {
    // A receiver that counts its requests.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let received = Arc::new(Mutex::new(0));
    let count = Arc::clone(&received);
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            let _ = socket.read(&mut head);
            *count.lock().expect("a count") += 1;
            let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    let mut daemon = Daemon::start(&settings("[webhooks]\nallow_internal = true\n"));
    let made = done(&daemon, &["webhook", "create", &url, "--type", "streamforge.channel.*"]);
    let id = made["id"].as_str().expect("an id");
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_"));
    let listed = done(&daemon, &["webhook", "list"]);
    assert_eq!(listed[0]["id"], id);
    assert!(!listed.to_string().contains(&secret));
    let tested = done(&daemon, &["webhook", "test", id]);
    assert_eq!((&tested["state"], &tested["status"]), (&json!("delivered"), &json!(204)));

    done(&daemon, &["user", "add", "ada", "ada@example.org", "--role", "creator"]);
    done(&daemon, &["channel", "add", "show", "--owner", "ada"]);
    let delivery = wait_for("the delivery", LIMIT, || {
        let deliveries = done(&daemon, &["webhook", "deliveries", id]);
        let mut all = deliveries.as_array()?.iter();
        let found = all.find(|one| one["type"] == "streamforge.channel.created.v1")?;
        (found["state"] == "delivered").then(|| found["id"].as_str().map(str::to_owned))?
    });
    let before = *received.lock().expect("a count");
    let again = done(&daemon, &["webhook", "replay", id, &delivery]);
    assert_eq!(again["state"], "delivered");
    assert_eq!(*received.lock().expect("a count"), before + 1);

    let rotated = done(&daemon, &["webhook", "rotate-secret", id]);
    assert_ne!(rotated["secret"], secret.as_str());
    let edited = done(&daemon, &["webhook", "edit", id, "--type", "streamforge.video.*"]);
    assert_eq!(edited["types"], json!(["streamforge.video.*"]));
    assert_eq!(done(&daemon, &["webhook", "disable", id])["disabled"], "owner");
    assert_eq!(done(&daemon, &["webhook", "enable", id])["disabled"], Value::Null);
    assert_eq!(done(&daemon, &["webhook", "show", id])["url"], url.as_str());
    let own = done(&daemon, &["webhook", "create", &url, "--owner", "ada"]);
    assert_eq!(done(&daemon, &["webhook", "list", "--owner", "ada"])[0]["id"], own["id"]);
    assert_eq!(done(&daemon, &["webhook", "delete", id]), Value::Null);
    assert!(operate(&daemon, &["webhook", "show", id]).is_err());
    daemon.assert_healthy();
}

/// A picture of ffmpeg, of a filter and with these options.
fn picture(folder: &Path, name: &str, filter: &str, options: &[&str]) -> Vec<u8> {
    let file = folder.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i"]);
    command.arg(filter).args(["-frames:v", "1"]).args(options).arg(&file);
    let output = command.output().expect("ffmpeg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(&file).expect("a picture")
}

/// The width, the height and the colour of the middle of a picture, by ffmpeg.
fn look(folder: &Path, bytes: &[u8]) -> (u32, u32, [u8; 3]) {
    let file = folder.join("look.jpg");
    fs::write(&file, bytes).expect("a file");
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-of", "json", "-show_streams"]).arg(&file);
    let shown: Value =
        serde_json::from_slice(&probe.output().expect("ffprobe").stdout).expect("JSON");
    let side = |name: &str| {
        let side = shown["streams"][0][name].as_u64().expect("a size");
        u32::try_from(side).expect("a size")
    };
    let mut decode = Command::new("ffmpeg");
    decode.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-i"]).arg(&file);
    decode.args(["-vf", "crop=2:2", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    let pixels = decode.output().expect("ffmpeg").stdout;
    (side("width"), side("height"), [pixels[0], pixels[1], pixels[2]])
}

fn is_near(colour: [u8; 3], expected: [u8; 3]) -> bool {
    colour.iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 24)
}

/// Exif data with an orientation and a maker's note, behind the first marker of a JPEG.
fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x02\0".to_vec();
    tiff.extend(b"\x0f\x01\x02\0\x0c\0\0\0\x26\0\0\0");
    tiff.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]);
    tiff.extend(b"N52 E13 home");
    let length = u16::try_from(tiff.len() + 8).expect("short").to_be_bytes();
    let exif = [&b"\xff\xe1"[..], &length, b"Exif\0\0", &tiff].concat();
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

#[test]
fn a_picture_of_any_kind_becomes_small_jpegs_without_metadata() {
    let mut daemon = Daemon::start(&settings(""));
    done(&daemon, &["db", "seed", text(&demo())]);
    let mara = sign_in(&daemon, "mara@example.org", "demo-mara-2026");
    let path = "/api/v1/accounts/me/avatar";
    let folder = Workdir::new("pictures");
    let folder = folder.path();
    // The left half is red, the right one blue; the middle square shows both.
    let halves = "color=red:size=400x600[a];color=blue:size=400x600[b];[a][b]hstack";
    let jpeg = picture(folder, "a.jpg", halves, &["-q:v", "2"]);
    let mut names = Vec::new();
    for (name, bytes) in [
        ("jpeg", jpeg.clone()),
        ("png", picture(folder, "a.png", halves, &[])),
        ("webp", picture(folder, "a.webp", halves, &["-quality", "95"])),
        ("gray", picture(folder, "g.png", halves, &["-pix_fmt", "gray16be"])),
        ("progressive", picture(folder, "c.jpg", "color=lime:size=2x3000", &[])),
    ] {
        let response = send(&daemon, "PUT", path, &mara, &bytes);
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        let hash = json(&response)["picture"].as_str().expect("a name").to_owned();
        for size in [512, 128, 48] {
            let file = daemon.get(&format!("/api/v1/avatars/{hash}/{size}"));
            assert_eq!(file.status, 200, "{name}");
            let (width, height, _) = look(folder, &file.body);
            assert_eq!((width, height), (size, size), "{name}");
            assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
            assert!(file.header("cache-control").is_some_and(|it| it.contains("immutable")));
        }
        names.push(hash);
    }
    let me = json(&send(&daemon, "GET", "/api/v1/accounts/me", &mara, b""));
    assert_eq!(me["avatar"], names[4].as_str());
    wait_for("the end of the first files", LIMIT, || {
        (daemon.get(&format!("/api/v1/avatars/{}/48", names[0])).status == 404).then_some(())
    });

    // Turned as its Exif data say, which are gone: the red half is above, then.
    let turned = send(&daemon, "PUT", path, &mara, &with_exif(&jpeg, 6));
    assert_eq!(turned.status, 200, "{}", turned.text());
    let hash = json(&turned)["picture"].as_str().expect("a name").to_owned();
    let file = daemon.get(&format!("/api/v1/avatars/{hash}/512")).body;
    for secret in [&b"Exif"[..], b"home", b"II*\0"] {
        assert!(!file.windows(secret.len()).any(|window| window == secret));
    }
    let upper = folder.join("upper.jpg");
    fs::write(folder.join("turned.jpg"), &file).expect("a file");
    let mut cut = Command::new("ffmpeg");
    cut.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i"]);
    cut.arg(folder.join("turned.jpg")).args(["-vf", "crop=512:100:0:0"]).arg(&upper);
    assert!(cut.status().expect("ffmpeg").success());
    let (_, _, colour) = look(folder, &fs::read(&upper).expect("a picture"));
    assert!(is_near(colour, [254, 0, 0]), "{colour:?}");

    // A transparent picture is on white.
    let clear = "color=black@0.0:size=64x64,format=rgba";
    let clear = picture(folder, "clear.png", clear, &["-pix_fmt", "rgba"]);
    let response = send(&daemon, "PUT", path, &mara, &clear);
    let hash = json(&response)["picture"].as_str().expect("a name").to_owned();
    let file = daemon.get(&format!("/api/v1/avatars/{hash}/512")).body;
    assert!(is_near(look(folder, &file).2, [255; 3]), "{:?}", look(folder, &file));
    let banner = send(&daemon, "PUT", "/api/v1/channels/green-robots/banner", &mara, &jpeg);
    let hash = json(&banner)["picture"].as_str().expect("a name").to_owned();
    let file = daemon.get(&format!("/api/v1/avatars/{hash}/1920")).body;
    assert_eq!(look(folder, &file).0, 1920);
    daemon.assert_healthy();
}

#[test]
fn hostile_pictures_are_refused_and_cost_nobody_else() {
    let mut daemon = Daemon::start(&settings(""));
    done(&daemon, &["db", "seed", text(&demo())]);
    let mara = sign_in(&daemon, "mara@example.org", "demo-mara-2026");
    let ines = sign_in(&daemon, "ines@example.org", "demo-ines-2026");
    let path = "/api/v1/accounts/me/avatar";
    let folder = Workdir::new("hostile-pictures");
    let folder = folder.path();
    let jpeg = picture(folder, "a.jpg", "testsrc2=size=640x480", &[]);
    let png = picture(folder, "a.png", "testsrc2=size=640x480", &[]);
    let webp = picture(folder, "a.webp", "testsrc2=size=640x480", &[]);
    // 30 000 lines of one colour are some hundred bytes.
    let mut bomb = picture(folder, "bomb.png", "color=black:size=8000x3000", &[]);
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    // A size within the limits that its data do not have.
    let mut liar = png.clone();
    liar[16..24].copy_from_slice(&[0, 0, 0x13, 0x88, 0, 0, 0x13, 0x88]);
    let noise = |head: &[u8]| {
        let mut state = 7_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        [head, &std::iter::repeat_with(next).take(4_096).collect::<Vec<_>>()].concat()
    };
    let mut damaged = jpeg.clone();
    // The tables of its codes.
    let at = damaged.windows(2).position(|pair| pair == [0xff, 0xc4]).expect("codes");
    damaged[at + 6..at + 20].fill(0xff);
    for (name, bytes) in [
        ("bomb", bomb),
        ("liar", liar),
        ("cut JPEG", jpeg[..jpeg.len() / 2].to_vec()),
        ("cut PNG", png[..png.len() - 20].to_vec()),
        ("cut WebP", webp[..webp.len() / 2].to_vec()),
        ("PNG and HTML", [&png[..], b"<script>alert(1)</script>"].concat()),
        ("WebP and ZIP", [&webp[..], b"PK\x03\x04........"].concat()),
        ("damaged JPEG", damaged),
        ("JPEG of noise", noise(&jpeg[..600])),
        ("PNG of noise", noise(&png[..40])),
        ("HTML", b"<html><script>alert(1)</script></html>".to_vec()),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
        ("GIF", picture(folder, "a.gif", "testsrc2=size=64x48", &[])),
        ("nothing", Vec::new()),
    ] {
        let response = send(&daemon, "PUT", path, &mara, &bytes);
        assert_eq!(response.status, 422, "{name}: {}", response.text());
    }
    let large = vec![0; (8 << 20) + 1];
    assert_eq!(send(&daemon, "PUT", path, &mara, &large).status, 413);
    let me = json(&send(&daemon, "GET", "/api/v1/accounts/me", &mara, b""));
    assert_eq!(me["avatar"], Value::Null);
    // Another program behind the end of a JPEG is not kept.
    let polyglot = [&jpeg[..], b"<script>alert(1)</script>PK\x03\x04"].concat();
    let kept = send(&daemon, "PUT", path, &ines, &polyglot);
    assert_eq!(kept.status, 200, "{}", kept.text());
    let hash = json(&kept)["picture"].as_str().expect("a name").to_owned();
    let file = daemon.get(&format!("/api/v1/avatars/{hash}/512")).body;
    assert!(!file.windows(8).any(|window| window == b"<script>"));
    daemon.assert_healthy();
}

/// An HTTPS server with a key set, which a test changes.
struct KeySet {
    url: String,
    /// The body; `None`: it closes connections without a response.
    body: Arc<Mutex<Option<String>>>,
    asked: Arc<Mutex<u32>>,
}

impl KeySet {
    fn start(certificate: &Certificate) -> Self {
        let chain = vec![CertificateDer::from_pem_file(&certificate.cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let config = Arc::new(config.expect("a certificate"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (body, asked) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(0)));
        let (text, count) = (Arc::clone(&body), Arc::clone(&asked));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                *count.lock().expect("a count") += 1;
                let Some(text): Option<String> = text.lock().expect("a text").clone() else {
                    continue;
                };
                let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
                let mut stream = StreamOwned::new(session, socket);
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let response = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{text}",
                    text.len()
                );
                let _ = stream.write_all(response.as_bytes());
            }
        });
        Self { url: format!("https://localhost:{port}/jwks.json"), body, asked }
    }

    fn serve(&self, keys: &[&Signer]) {
        let keys = keys.iter().map(|signer| signer.jwk.clone()).collect::<Vec<_>>();
        *self.body.lock().expect("a text") = Some(json!({ "keys": keys }).to_string());
    }

    fn fail(&self) {
        *self.body.lock().expect("a text") = None;
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().expect("a count")
    }
}

/// A key that signs tokens.
struct Signer {
    kid: &'static str,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = kid.into();
        Self { kid, key, jwk }
    }

    fn token(&self, channel: &str) -> String {
        let claims = json!({ "exp": get_current_timestamp() + 3_600, "channel": channel });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        encode(&header, &claims, &self.key).expect("a token")
    }
}

#[test]
fn keys_at_an_address_admit_publishers_also_while_their_server_is_down() {
    let folder = Workdir::new("jwks");
    let certificate = Certificate::make(folder.path(), "server");
    let server = KeySet::start(&certificate);
    let [one, two] = ["one", "two"].map(Signer::new);
    let ca = text(&certificate.cert);
    let extra = format!("[publish.jwt]\njwks_url = {:?}\nca = {ca:?}\n", server.url);
    let publish = "policy = \"jwt\"".into();
    let daemon = Daemon::start(&Settings { publish, extra, ..Settings::default() });
    // The server was down at the start: the encoder is told to try again.
    wait_for("the first attempt", LIMIT, || (server.asked() > 0).then_some(()));
    let refusal = Client::publish(daemon.rtmp, "live", &one.token("a")).expect_err("no keys");
    assert!(refusal.description.contains("try again"), "{refusal:?}");
    server.serve(&[&one]);
    let first =
        wait_for("the keys", LIMIT, || Client::publish(daemon.rtmp, "live", &one.token("a")).ok());
    // A new key is found by the first token that it has signed; forged ones cause no load.
    server.serve(&[&one, &two]);
    let asked = server.asked();
    for _ in 0..20 {
        let forged = Signer::new("three").token("b");
        assert!(Client::publish(daemon.rtmp, "live", &forged).is_err());
    }
    assert!(server.asked() <= asked + 1, "{} {asked}", server.asked());
    wait_for("the new key", LIMIT, || Client::publish(daemon.rtmp, "live", &two.token("b")).ok());
    server.fail();
    for channel in ["c", "d"] {
        Client::publish(daemon.rtmp, "live", &one.token(channel)).expect("the last good keys");
    }
    drop(first);
    let warned = daemon.complaints();
    assert!(warned.iter().all(|line| line.contains("key set of tokens")), "{warned:?}");
}

#[test]
fn a_key_set_of_a_server_that_nobody_vouches_for_is_not_used() {
    let folder = Workdir::new("jwks-untrusted");
    let [certificate, other] =
        ["server", "other"].map(|name| Certificate::make(folder.path(), name));
    let (server, signer) = (KeySet::start(&certificate), Signer::new("one"));
    server.serve(&[&signer]);
    let ca = text(&other.cert);
    let extra = format!("[publish.jwt]\njwks_url = {:?}\nca = {ca:?}\n", server.url);
    let publish = "policy = \"jwt\"".into();
    let mut daemon = Daemon::start(&Settings { publish, extra, ..Settings::default() });
    daemon.process.wait_for_lines("the fault", LIMIT, |lines| {
        lines.iter().any(|line| line.contains("cannot be fetched")).then_some(())
    });
    assert!(Client::publish(daemon.rtmp, "live", &signer.token("a")).is_err());
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_share() {
    let log = Workdir::new("proxy-log");
    let log = log.path().join("access.log");
    let status = |daemon: &Daemon, forwarded: &str| {
        let headers = [("x-forwarded-for", forwarded)];
        http::request(daemon.http, "GET", "/api/v1/channels", &headers).status
    };
    let env = vec![
        ("STREAMFORGE_API_LIMIT".to_owned(), "3/60s".to_owned()),
        ("STREAMFORGE_HTTP_TRUSTED_PROXIES".to_owned(), "[\"127.0.0.1\"]".to_owned()),
        ("STREAMFORGE_HTTP_ACCESS_LOG".to_owned(), text(&log).to_owned()),
    ];
    let mut daemon = Daemon::start(&Settings { env, ..settings("") });
    for _ in 0..3 {
        assert_eq!(status(&daemon, "203.0.113.9"), 200);
    }
    assert_eq!(status(&daemon, "203.0.113.9"), 429);
    // The beginning of the field is the client's own invention.
    assert_eq!(status(&daemon, "198.51.100.7, 203.0.113.9"), 429);
    assert_eq!(status(&daemon, "203.0.113.10"), 200);
    wait_for("the access log", LIMIT, || {
        let text = fs::read_to_string(&log).ok()?;
        (text.contains("203.0.113.9 - -") && text.contains("203.0.113.10 - -")).then_some(())
    });
    daemon.assert_healthy();
}
