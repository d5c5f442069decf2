use std::{
    collections::VecDeque,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use control_domain::{
    Actor,
    features::accounts::commands::{ChangeEmail, PasswordHash, Register, VerifyEmail},
};
use tokio::{task::JoinHandle, time::sleep};

use super::*;
use crate::{identity::ticket::Presented, mail::Sending};

/// A mail server that responds as it is told, and keeps each mail with the time of its attempt.
#[derive(Default)]
struct Server {
    results: Mutex<VecDeque<SendError>>,
    mails: Mutex<Vec<(Instant, Mail)>>,
}

impl Mailer for Server {
    fn send<'a>(&'a self, mail: &'a Mail) -> Sending<'a> {
        self.mails.lock().expect("no panic").push((Instant::now(), mail.clone()));
        let result = self.results.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        Box::pin(async move { result.map_or(Ok(()), Err) })
    }
}

struct Site {
    platform: Platform,
    folder: PathBuf,
    server: Arc<Server>,
    outbox: Outbox,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Site {
    async fn new(name: &str, results: &[SendError]) -> Self {
        let name = format!("streamforge-outbox-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        let server = Arc::new(Server::default());
        server.results.lock().expect("no panic").extend(results.iter().cloned());
        let mailer = Arc::clone(&server) as Arc<dyn Mailer>;
        let (outbox, postman) = Outbox::new(platform.clone(), mailer, "https://example.org/");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(postman.serve(stop.clone()));
        Self { platform, folder, server, outbox, stop, serving }
    }

    async fn register(&self, name: &str) -> AccountId {
        let command = Register {
            name: name.parse().expect("a name"),
            email: email(name),
            password: PasswordHash("$argon2id$".to_owned()),
        };
        self.platform.send(Actor::Anonymous, command).await.expect("the name is free").done
    }

    fn post(&self, order: Order) {
        self.outbox.post(order).expect("room");
    }

    /// Stops the postman. Its mails, each with its attempt's time.
    async fn stopped(self) -> Vec<(Instant, Mail)> {
        self.stop.cancel();
        self.serving.await.expect("no panic");
        let _ = fs::remove_dir_all(&self.folder);
        self.server.mails.lock().expect("no panic").clone()
    }
}

fn email(name: &str) -> Email {
    format!("{name}@example.org").parse().expect("an address")
}

/// The ticket in a mail.
fn ticket(mail: &Mail) -> &str {
    let (_, rest) = mail.text.split_once("#token=").expect("a link");
    rest.lines().next().expect("a ticket")
}

fn not_sent() -> SendError {
    SendError::NotSent("451 later".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_mail_is_written_from_the_account_as_it_is_when_it_is_sent() {
    let site = Site::new("fresh", &[]).await;
    let (ada, bob) = (site.register("ada").await, site.register("bob").await);
    site.platform.send(Actor::System, VerifyEmail { account: bob }).await.expect("it exists");
    let command = ChangeEmail { account: ada, email: email("countess") };
    site.platform.send(Actor::System, command).await.expect("it is free");
    for order in [
        Order::VerifyAddress(ada),
        Order::VerifyAddress(bob),
        Order::VerifyAddress(AccountId::new(uuid::Uuid::nil())),
        Order::ResetPassword(email("bob")),
        Order::ResetPassword(email("ada")),
        Order::AddressTaken(email("bob")),
        Order::AddressTaken(email("nobody")),
        Order::AddressChanged(email("ada")),
    ] {
        site.post(order);
    }
    sleep(Duration::from_secs(1)).await;
    let presented = |mail: &Mail, purpose| Presented::parse(ticket(mail), purpose).expect("one");
    let platform = site.platform.clone();
    let mails = site.stopped().await;
    let recipients = mails.iter().map(|(_, mail)| mail.to.as_str()).collect::<Vec<_>>();
    let expected =
        ["countess@example.org", "bob@example.org", "bob@example.org", "ada@example.org"];
    assert_eq!(recipients, expected);
    let verify = presented(&mails[0].1, Purpose::VerifyEmail);
    assert!(mails[0].1.text.contains("https://example.org/verify-email#token="));
    assert!(mails[1].1.text.contains("https://example.org/reset-password#token="));
    assert_eq!(verify.account, ada);
    assert_eq!(presented(&mails[1].1, Purpose::ResetPassword).account, bob);
    let store = platform.store().await.expect("open");
    let now = Time::from(SystemTime::now());
    let holder = store.read(|rows| verify.holder(rows, store.vault(), now));
    assert!(holder.expect("open").expect("readable").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_was_not_sent_is_sent_again_after_growing_delays_with_a_new_ticket() {
    let site = Site::new("retries", &[not_sent(), not_sent(), not_sent()]).await;
    let ada = site.register("ada").await;
    site.post(Order::VerifyAddress(ada));
    sleep(Duration::from_secs(1)).await;
    // Others do not wait for it.
    site.post(Order::AddressChanged(email("bob")));
    sleep(Duration::from_secs(3_600)).await;
    let mails = site.stopped().await;
    let times = |to: &str| {
        let own = mails.iter().filter(|(_, mail)| mail.to.as_str() == to);
        own.map(|(time, _)| *time).collect::<Vec<_>>()
    };
    let ada = times("ada@example.org");
    let delays = ada.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect::<Vec<_>>();
    // The second of the three faults was bob's.
    assert_eq!(delays, [15, 30], "{ada:?}");
    assert_eq!(times("bob@example.org").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_mail_is_given_up_if_it_is_refused_and_after_the_last_attempt() {
    let refused = SendError::Refused("550 no such user".to_owned());
    let site = Site::new("refused", &[refused]).await;
    site.post(Order::AddressChanged(email("ada")));
    sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(site.stopped().await.len(), 1);
    let site = Site::new("given-up", &vec![not_sent(); 100]).await;
    site.post(Order::AddressChanged(email("ada")));
    sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(site.stopped().await.len(), ATTEMPTS as usize);
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let platform = Platform::default();
    let (outbox, _postman) =
        Outbox::new(platform, Arc::new(Server::default()), "https://a.example");
    for _ in 0..WAITING {
        outbox.post(Order::AddressChanged(email("ada"))).expect("room");
    }
    assert_eq!(outbox.post(Order::AddressChanged(email("ada"))), Err(Full));
}

#[test]
fn delays_grow_to_an_hour_over_about_five_hours() {
    let delays = (1..ATTEMPTS).map(delay).collect::<Vec<_>>();
    assert_eq!(delays[0], FIRST_DELAY);
    assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(delays.last(), Some(&LONGEST_DELAY));
    let hours = delays.iter().sum::<Duration>().as_secs() / 3_600;
    assert!((4..=6).contains(&hours), "{hours}");
}
