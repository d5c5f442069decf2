//! Webhooks of a real daemon: events that are caused through the API reach a receiver, which
//! verifies their signatures with an implementation of Standard Webhooks that is not ours.

use crate::support::{
    daemon::{Daemon, Settings},
    http, wait_for,
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

const TOKEN: &str = "a-token-of-the-tests-0123456789abcdef";
const LIMIT: Duration = Duration::from_secs(30);

/// A request that the receiver got.
#[derive(Debug, Clone)]
struct Received {
    head: String,
    body: String,
    status: u16,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default()
    }

    fn event(&self) -> Value {
        serde_json::from_str(&self.body).expect("an event in JSON")
    }

    /// Verifies the signature and the age.
    #[track_caller]
    fn verify(&self, secret: &str) {
        let mut headers = ::http::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, self.header(name).parse().expect("a header"));
        }
        let verifier = standardwebhooks::Webhook::new(secret).expect("a secret");
        verifier.verify(self.body.as_bytes(), &headers).expect("a good signature");
        assert_eq!(self.event()["id"], self.header("webhook-id"));
    }
}

/// An HTTP server that responds with a status, and remembers all requests.
struct Receiver {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (status, received) = (Arc::new(AtomicU16::new(status)), Arc::default());
        let (current, store) = (Arc::clone(&status), Arc::clone(&received));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                Self::exchange(socket, current.load(Ordering::SeqCst), &store);
            }
        });
        Self { address, status, received }
    }

    fn exchange(mut socket: TcpStream, status: u16, store: &Mutex<Vec<Received>>) -> Option<()> {
        let mut input = String::new();
        let (head, body) = loop {
            if let Some((head, body)) = input.split_once("\r\n\r\n") {
                let length = head.split_once("content-length: ")?.1.lines().next()?;
                if body.len() >= length.parse::<usize>().ok()? {
                    break (head.to_owned(), body.to_owned());
                }
            }
            let mut bytes = [0; 4096];
            let count = socket.read(&mut bytes).ok().filter(|&count| count > 0)?;
            input.push_str(std::str::from_utf8(&bytes[..count]).ok()?);
        };
        let received = Received { head, body, status };
        store.lock().expect("nobody panics while holding it").push(received);
        let response = format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(response.as_bytes()).ok()
    }

    fn all(&self) -> Vec<Received> {
        self.received.lock().expect("nobody panics while holding it").clone()
    }

    #[track_caller]
    fn wait(&self, count: usize) -> Vec<Received> {
        wait_for(&format!("delivery {count}"), LIMIT, || {
            let all = self.all();
            (all.len() >= count).then_some(all)
        })
    }
}

/// A request of the operator, with a body of JSON.
#[track_caller]
fn send(daemon: &Daemon, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let (authorization, length) = (format!("Bearer {TOKEN}"), body.len().to_string());
    let mut headers =
        vec![("Authorization", authorization.as_str()), ("Content-Length", length.as_str())];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    let exchange = http::Exchange::send(daemon.http, method, path, &headers, body.as_bytes());
    let http::Response { status, body, .. } = exchange.finish();
    let value =
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    (status, value)
}

fn daemon(webhooks: &str) -> Daemon {
    let extra = format!(
        "[platform]\nenabled = true\n[api]\nadmin_token = {TOKEN:?}\n[webhooks]\n{webhooks}\n"
    );
    Daemon::start(&Settings { extra, ..Settings::default() })
}

/// Causes an event: another webhook, which is of no use.
#[track_caller]
fn cause(daemon: &Daemon) -> String {
    let new = json!({ "url": "https://example.org/", "types": ["nothing"] });
    let (status, made) = send(daemon, "POST", "/api/v1/webhooks", Some(new));
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().expect("an id").to_owned()
}

#[test]
fn events_reach_a_receiver_signed_and_in_order_also_after_a_failure_and_an_upgrade() {
    let mut daemon = daemon("allow_internal = true");
    let receiver = Receiver::start(204);
    // Not those of the categories with which a new platform begins, at the same time.
    let url = format!("http://{}/in", receiver.address);
    let new = json!({ "url": url, "types": ["streamforge.webhook.*"] });
    let (status, made) = send(&daemon, "POST", "/api/v1/webhooks", Some(new));
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let path = format!("/api/v1/webhooks/{}", made["id"].as_str().expect("an id"));

    let first = cause(&daemon);
    let received = receiver.wait(1);
    received[0].verify(&secret);
    assert_eq!(received[0].event()["type"], "streamforge.webhook.created.v1");
    assert_eq!(received[0].event()["subject"], first.as_str());
    assert!(!received[0].body.contains("example.org"), "the address is sealed");

    // The receiver fails; the second attempt is after 5 s, and what happens meanwhile waits.
    receiver.status.store(500, Ordering::SeqCst);
    let second = cause(&daemon);
    receiver.wait(2);
    let attempts = "streamforge_platform_webhook_attempts_total{result=";
    wait_for("the counts of the operator", LIMIT, || {
        let counts = ["\"accepted\"", "\"refused\"", "\"no_response\""]
            .map(|result| daemon.metric(&format!("{attempts}{result}")));
        let failing = daemon.metric("streamforge_platform_webhooks_failing ");
        (counts == [1, 1, 0] && failing == 1).then_some(())
    });
    receiver.status.store(200, Ordering::SeqCst);
    let third = cause(&daemon);
    // Another process of the daemon goes on.
    daemon.upgrade();
    let received = receiver.wait(4);
    let subjects = received.iter().map(|one| {
        one.verify(&secret);
        (one.event()["subject"].as_str().expect("text").to_owned(), one.status)
    });
    let expected = [(first, 204), (second.clone(), 500), (second, 200), (third, 200)];
    assert_eq!(subjects.collect::<Vec<_>>(), expected);

    let listed = wait_for("the record of the deliveries", LIMIT, || {
        let (status, listed) = send(&daemon, "GET", &format!("{path}/deliveries"), None);
        let is_there = status == 200 && listed["deliveries"].as_array()?.len() == 3;
        is_there.then_some(listed)
    });
    let attempts = listed["deliveries"].as_array().expect("a list").iter();
    let attempts = attempts.map(|one| (one["attempts"].as_u64(), one["state"].clone()));
    let delivered = json!("delivered");
    let expected = [1, 2, 1].map(|n| (Some(n), delivered.clone()));
    assert_eq!(attempts.collect::<Vec<_>>(), expected);

    let id = listed["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    let replay = format!("{path}/deliveries/{id}/replay");
    let (status, again) = send(&daemon, "POST", &replay, None);
    assert_eq!((status, &again["attempts"]), (200, &json!(2)), "{again}");
    let (status, test) = send(&daemon, "POST", &format!("{path}/test"), None);
    assert_eq!((status, &test["state"]), (200, &delivered), "{test}");
    let received = receiver.wait(6);
    assert_eq!(received[4].event()["id"], id.as_str());
    assert_eq!(received[5].event()["type"], "streamforge.webhook.test");
    received[4..].iter().for_each(|one| one.verify(&secret));
    assert_eq!(send(&daemon, "DELETE", &path, None).0, 204);
    cause(&daemon);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(receiver.all().len(), 6);
    // The first process has ended as it should; errors of either fail the test at its end.
}

#[test]
fn a_webhook_does_not_reach_this_machine_unless_it_is_allowed() {
    let mut daemon = daemon("");
    let receiver = Receiver::start(200);
    let port = receiver.address.port();
    for url in [format!("http://127.0.0.1:{port}/"), format!("https://127.0.0.1:{port}/")] {
        let (status, problem) =
            send(&daemon, "POST", "/api/v1/webhooks", Some(json!({ "url": url })));
        assert_eq!(status, 422, "{problem}");
    }
    // A name is judged when it is resolved.
    let new = json!({ "url": format!("https://localhost:{port}/") });
    let (status, made) = send(&daemon, "POST", "/api/v1/webhooks", Some(new));
    assert_eq!(status, 201, "{made}");
    let path = format!("/api/v1/webhooks/{}/test", made["id"].as_str().expect("an id"));
    let tested = wait_for("a test", LIMIT, || {
        let (status, tested) = send(&daemon, "POST", &path, None);
        (status == 200).then_some(tested)
    });
    assert_eq!(tested["state"], "failed");
    assert!(tested["error"].as_str().expect("words").contains("internal"), "{tested}");
    assert!(receiver.all().is_empty());
    daemon.assert_healthy();
}
