//! Deliveries of a real database to receivers on this machine, with a clock that the test moves.

use std::{collections::BTreeMap, convert::Infallible, pin::Pin};

use bytes::Bytes;
use control_domain::{
    Actor, Envelope, Role, Time,
    features::{
        accounts::commands::{Add, PasswordHash, Register},
        channels::{self, events::Visibility},
        webhooks::{
            commands::{Create, Disable, Enable, RotateSecret},
            events::Cause,
            filter::TypeFilter,
            secret::WebhookSecret,
        },
    },
    id::WebhookId,
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use super::*;
use crate::store::DeliveryState;

/// A clock that the test moves.
#[derive(Debug)]
struct TestClock(watch::Sender<Time>);

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(watch::channel(std::time::SystemTime::now().into()).0))
    }

    fn advance(&self, time: Duration) {
        self.0.send_modify(|now| *now = now.after(time));
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        *self.0.borrow()
    }

    fn wait_until(&self, time: Time) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            let _ = now.wait_for(|now| *now >= time).await;
        })
    }
}

/// A request that a receiver got.
#[derive(Debug, Clone)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
    status: u16,
}

impl Received {
    fn envelope(&self) -> Envelope {
        serde_json::from_slice(&self.body).expect("an event")
    }

    fn id(&self) -> String {
        self.headers["webhook-id"].to_str().expect("text").to_owned()
    }

    /// Whether an independent implementation accepts the signature.
    fn is_signed(&self, secret: &WebhookSecret) -> bool {
        let theirs = standardwebhooks::Webhook::new(secret.expose()).expect("a secret");
        let text = |name: &str| self.headers[name].to_str().expect("text").to_owned();
        let timestamp = text("webhook-timestamp").parse().expect("seconds");
        // Without its check of the time, because the clock is the test's.
        let expected = theirs.sign(&self.id(), timestamp, &self.body).expect("text");
        text("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

/// A server that responds with a status, and remembers all requests.
struct Receiver {
    port: u16,
    status: watch::Sender<u16>,
    received: watch::Receiver<Vec<Received>>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn new(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (status, current) = watch::channel(status);
        let (store, received) = watch::channel(Vec::new());
        let store = Arc::new(store);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (current, store) = (current.clone(), Arc::clone(&store));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (status, store) = (*current.borrow(), Arc::clone(&store));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.expect("a whole body").to_bytes();
                        let received = Received { headers: parts.headers, body, status };
                        store.send_modify(|all| all.push(received));
                        let response = Response::builder().status(status);
                        Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).expect("it"))
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Self { port, status, received, task }
    }

    fn respond_with(&self, status: u16) {
        self.status.send_replace(status);
    }

    /// Waits until so many requests have come.
    async fn wait(&self, count: usize) -> Vec<Received> {
        let mut received = self.received.clone();
        let wait = received.wait_for(|all| all.len() >= count);
        match timeout(Duration::from_secs(30), wait).await {
            Ok(all) => all.expect("the server runs").clone(),
            Err(_) => panic!("{} of {count} requests have come", self.received.borrow().len()),
        }
    }

    fn count(&self) -> usize {
        self.received.borrow().len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A platform that delivers.
struct Site {
    platform: Platform,
    folder: PathBuf,
    clock: Arc<TestClock>,
    webhooks: Webhooks,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Site {
    async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir()
            .join(format!("streamforge-webhooks-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        let clock = TestClock::new();
        let webhooks = Self::webhooks(&platform, &clock);
        let stop = CancellationToken::new();
        let mut site = Self { platform, folder, clock, webhooks, stop, task: None };
        site.begin();
        site
    }

    fn webhooks(platform: &Platform, clock: &Arc<TestClock>) -> Webhooks {
        let settings = Settings { allow_internal: true, roots: RootCertStore::empty() };
        let clock: Arc<dyn Clock> = clock.clone();
        Webhooks::new(platform.clone(), settings, clock).expect("TLS is supported")
    }

    /// Begins to deliver, as after a start of the daemon.
    fn begin(&mut self) {
        self.webhooks = Self::webhooks(&self.platform, &self.clock);
        self.stop = CancellationToken::new();
        let serving = self.webhooks.clone().serve(self.folder.clone(), self.stop.clone());
        self.task = Some(tokio::spawn(serving));
    }

    async fn end(&mut self) {
        self.stop.cancel();
        let task = self.task.take().expect("it runs");
        timeout(Duration::from_secs(10), task).await.expect("it ends").expect("no panic");
    }

    async fn webhook(&self, owner: Actor, receiver: &Receiver) -> (WebhookId, WebhookSecret) {
        let secret = format!("whsec_{}", "QUJD".repeat(8)).parse::<WebhookSecret>();
        let secret = secret.expect("a secret");
        let url = format!("http://127.0.0.1:{}/in", receiver.port).parse().expect("an address");
        let types = ["streamforge.account.*", "streamforge.channel.*"].map(str::to_owned).to_vec();
        let types = TypeFilter::try_from(types).expect("types");
        let create = Create { owner: owner.account(), url, types, secret: secret.clone() };
        let receipt = self.platform.send(owner, create).await.expect("an owner");
        (receipt.done, secret)
    }

    async fn person(&self, name: &str) -> Actor {
        let command = Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: PasswordHash("$argon2id$".to_owned()),
            role: Role::Creator,
        };
        let receipt = self.platform.send(Actor::System, command).await.expect("a free name");
        Actor::Person { id: receipt.done, role: Role::Creator }
    }

    /// The identifiers of all events from a sequence on.
    fn events(&self, after: u64) -> Vec<String> {
        let store = self.platform.ready().expect("it is open");
        let events = store.events(after, 256).expect("a disk");
        events.into_iter().map(|(_, envelope)| envelope.id.to_string()).collect()
    }

    fn last(&self) -> u64 {
        self.platform.ready().expect("it is open").sequence()
    }

    async fn disabled(&self, webhook: WebhookId) -> Option<Cause> {
        let read = self.platform.read(|rows| queries::webhook(rows, webhook)).await;
        read.expect("it is there").disabled
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn accepted(received: &[Received]) -> Vec<String> {
    received.iter().filter(|one| one.status < 300).map(Received::id).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_receiver_that_fails_for_an_hour_gets_all_events_in_order_and_delays_no_other() {
    let site = Site::new("hour").await;
    let (failing, healthy) = (Receiver::new(500).await, Receiver::new(204).await);
    let (id, secret) = site.webhook(Actor::System, &failing).await;
    site.webhook(Actor::System, &healthy).await;
    let before = site.last();
    for n in 0..5 {
        site.person(&format!("person{n}")).await;
    }
    let events = site.events(before);
    // The healthy one gets them at once.
    assert_eq!(accepted(&healthy.wait(5).await), events);
    // The other fails at 0 s, 5 s, 5 m 5 s, 35 m 5 s.
    failing.wait(1).await;
    for (attempt, delay) in [(2, Duration::from_secs(5)), (3, 5 * MINUTE), (4, 30 * MINUTE)] {
        // Not before its time.
        site.clock.advance(delay - Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(failing.count(), attempt - 1);
        let next = site.webhooks.deliveries(id).await.expect("a disk");
        assert_eq!((next.len(), next[0].1.state), (1, DeliveryState::Waiting));
        assert_eq!(next[0].1.attempts as usize, attempt - 1);
        site.clock.advance(Duration::from_secs(1));
        failing.wait(attempt).await;
        settle(&site, id, attempt).await;
    }
    site.clock.advance(25 * MINUTE);
    failing.respond_with(200);
    site.clock.advance(2 * 60 * MINUTE);
    let received = failing.wait(4 + 5).await;
    assert_eq!(accepted(&received), events, "in order, each once");
    assert_eq!(received.len(), 9);
    assert!(received[..4].iter().all(|one| one.id() == events[0] && one.status == 500));
    for one in &received {
        assert!(one.is_signed(&secret));
        assert_eq!(one.envelope().id.to_string(), one.id());
        assert_eq!(one.headers["content-type"], "application/cloudevents+json; charset=utf-8");
    }
    let list = site.webhooks.deliveries(id).await.expect("a disk");
    let first = list.last().expect("the first event").1.clone();
    assert_eq!(
        (first.state, first.attempts, first.status),
        (DeliveryState::Delivered, 5, Some(200))
    );
}

/// Waits until an attempt is recorded.
async fn settle(site: &Site, id: WebhookId, attempts: usize) {
    for _ in 0..600 {
        let list = site.webhooks.deliveries(id).await.expect("a disk");
        if list.iter().any(|(_, delivery)| delivery.attempts as usize >= attempts) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("attempt {attempts} is not recorded");
}

#[tokio::test]
async fn a_receiver_that_fails_for_five_days_is_disabled_and_begins_anew_when_it_is_enabled() {
    let site = Site::new("days").await;
    let receiver = Receiver::new(503).await;
    let (id, _) = site.webhook(Actor::System, &receiver).await;
    let begun = site.clock.now();
    for n in 0..8 {
        site.person(&format!("person{n}")).await;
    }
    for _ in 0..20_000 {
        if site.disabled(id).await.is_some() {
            break;
        }
        // To the next attempt, once the one before is recorded.
        let next = site.webhooks.0.lines().next_at();
        match next.and_then(|at| at.as_millis().checked_sub(site.clock.now().as_millis())) {
            Some(wait @ 1..) => site.clock.advance(Duration::from_millis(wait)),
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    assert_eq!(receiver.count(), 4 * 8 + 7, "four events are given up");
    assert_eq!(site.disabled(id).await, Some(Cause::Failing));
    let days = (site.clock.now().as_millis() - begun.as_millis()) as f64 / 86_400_000.0;
    assert!((5.0..5.5).contains(&days), "{days} days");
    // Nothing more comes while it is disabled, nor later of that time.
    site.person("meanwhile").await;
    site.clock.advance(24 * 60 * MINUTE);
    receiver.respond_with(200);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let count = receiver.count();
    site.platform.send(Actor::System, Enable { webhook: id }).await.expect("the operator");
    let before = site.last();
    site.person("later").await;
    let received = receiver.wait(count + 1).await;
    assert_eq!(received.len(), count + 1);
    assert_eq!(accepted(&received), site.events(before));
}

#[tokio::test]
async fn pending_events_are_delivered_after_a_restart() {
    let mut site = Site::new("restart").await;
    let receiver = Receiver::new(500).await;
    let (id, _) = site.webhook(Actor::System, &receiver).await;
    let before = site.last();
    site.person("first").await;
    receiver.wait(1).await;
    settle(&site, id, 1).await;
    site.end().await;
    site.person("second").await;
    receiver.respond_with(200);
    site.begin();
    site.person("third").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.count(), 1, "its time has not come");
    site.clock.advance(Duration::from_secs(5));
    let received = receiver.wait(4).await;
    assert_eq!(accepted(&received), site.events(before));
    // A delivered event is not delivered again.
    settle(&site, id, 2).await;
    site.end().await;
    let last = site.last();
    site.person("fourth").await;
    site.begin();
    let received = receiver.wait(5).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(accepted(&received[4..]), site.events(last));
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn an_owner_gets_the_events_that_the_owner_may_see() {
    let site = Site::new("owner").await;
    let ada = site.person("ada").await;
    let (of_ada, of_operator) = (Receiver::new(200).await, Receiver::new(200).await);
    site.webhook(ada, &of_ada).await;
    site.webhook(Actor::System, &of_operator).await;
    let before = site.last();
    let bob = site.person("bob").await;
    let create = |owner: Actor, name: &str, visibility| channels::commands::Create {
        owner: owner.account().expect("a person"),
        name: name.parse().expect("a name"),
        title: "A title".parse().expect("a title"),
        visibility,
    };
    for (owner, name, visibility) in [
        (bob, "hidden", Visibility::Private),
        (bob, "open", Visibility::Public),
        (ada, "mine", Visibility::Private),
    ] {
        site.platform.send(owner, create(owner, name, visibility)).await.expect("a creator");
    }
    assert_eq!(accepted(&of_operator.wait(4).await), site.events(before));
    let received = of_ada.wait(2).await;
    let names = received.iter().map(|one| {
        let data = one.envelope().data.get().to_owned();
        let data: serde_json::Value = serde_json::from_str(&data).expect("JSON");
        data["name"].as_str().expect("a name").to_owned()
    });
    assert_eq!(names.collect::<Vec<_>>(), ["open", "mine"]);
    // Nothing is sent of an account that is gone.
    let account = ada.account().expect("a person");
    let erase = control_domain::features::accounts::commands::Erase { account };
    site.platform.send(ada, erase).await.expect("their own account");
    let last = site.last();
    let register = Register {
        name: "eve".parse().expect("a name"),
        email: "eve@example.org".parse().expect("an address"),
        password: PasswordHash("$argon2id$".to_owned()),
    };
    site.platform.send(Actor::Anonymous, register).await.expect("a free name");
    site.platform.send(bob, create(bob, "open2", Visibility::Public)).await.expect("a creator");
    let total = site.events(before).len();
    assert_eq!(accepted(&of_operator.wait(total).await)[4..], site.events(before)[4..]);
    assert!(site.events(last).len() >= 2);
    assert_eq!(of_ada.count(), 2);
}

#[tokio::test]
async fn a_secret_that_was_rotated_counts_for_a_day_and_a_receiver_that_is_gone_is_left() {
    let site = Site::new("rotate").await;
    let receiver = Receiver::new(200).await;
    let (id, before) = site.webhook(Actor::System, &receiver).await;
    let after = format!("whsec_{}", "REVG".repeat(8)).parse::<WebhookSecret>().expect("a secret");
    let rotate = RotateSecret { webhook: id, secret: after.clone() };
    site.platform.send(Actor::System, rotate).await.expect("the operator");
    site.person("first").await;
    let received = receiver.wait(1).await;
    assert!(received[0].is_signed(&before) && received[0].is_signed(&after));
    site.clock.advance(Duration::from_secs(86_400 + 60));
    site.person("later").await;
    let received = receiver.wait(2).await;
    assert!(!received[1].is_signed(&before) && received[1].is_signed(&after));
    receiver.respond_with(410);
    site.person("last").await;
    for _ in 0..600 {
        if site.disabled(id).await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(site.disabled(id).await, Some(Cause::Gone));
    assert_eq!(receiver.count(), 3);
}

#[tokio::test]
async fn a_test_and_a_replay_are_sent_at_once_and_pending_events_follow() {
    let site = Site::new("again").await;
    let receiver = Receiver::new(500).await;
    let (id, secret) = site.webhook(Actor::System, &receiver).await;
    let before = site.last();
    site.person("first").await;
    receiver.wait(1).await;
    settle(&site, id, 1).await;
    let webhook = site.platform.read(|rows| queries::webhook(rows, id)).await.expect("it is there");
    let (test, delivery) = site.webhooks.test(id, &webhook).await.expect("the file is open");
    assert_eq!((delivery.state, delivery.status), (DeliveryState::Failed, Some(500)));
    receiver.respond_with(200);
    let (again, delivery) = site.webhooks.replay(id, &webhook, test).await.expect("a test");
    assert_eq!((delivery.state, delivery.sequence), (DeliveryState::Delivered, None));
    // The receiver is there: the event that waits comes without a wait.
    let received = receiver.wait(4).await;
    let by_id = received.iter().fold(BTreeMap::new(), |mut by_id: BTreeMap<_, Vec<u16>>, one| {
        by_id.entry(one.id()).or_default().push(one.status);
        by_id
    });
    assert_eq!(by_id[&test.to_string()], [500]);
    assert_eq!(by_id[&again.to_string()], [200]);
    let event = site.events(before)[0].clone();
    assert_eq!(by_id[&event], [500, 200]);
    assert!(received.iter().all(|one| one.is_signed(&secret)));
    // Also while it is disabled.
    settle(&site, id, 2).await;
    site.platform.send(Actor::System, Disable { webhook: id }).await.expect("the operator");
    let event = event.parse().expect("an id");
    let (_, delivery) = site.webhooks.replay(id, &webhook, event).await.expect("a delivery");
    assert_eq!((delivery.attempts, delivery.state), (3, DeliveryState::Delivered));
    let unknown = control_domain::id::EventId::new(uuid::Uuid::now_v7());
    assert!(site.webhooks.replay(id, &webhook, unknown).await.is_err());
}
