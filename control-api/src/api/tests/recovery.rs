//! Verified addresses, forgotten passwords and second factors, from the request over the mail to
//! the outcome.

use control_domain::Role;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    members::{Members, PASSWORD, UNLIMITED, kind, text},
    *,
};
use crate::{
    mail::{Mail, Mailer, Outbox, Sending},
    rate::{Limit, Limits},
};

const OTHER: &str = "lilies at nine";

/// A mail server that hands each mail to the test.
struct Server(mpsc::UnboundedSender<Mail>);

impl Mailer for Server {
    fn send<'a>(&'a self, mail: &'a Mail) -> Sending<'a> {
        let _ = self.0.send(mail.clone());
        Box::pin(async { Ok(()) })
    }
}

/// The mails of a site.
struct Post {
    mails: mpsc::UnboundedReceiver<Mail>,
    stop: CancellationToken,
    _serving: JoinHandle<()>,
}

impl Post {
    fn of(members: &Members) -> Self {
        let (sender, mails) = mpsc::unbounded_channel();
        let server = Arc::new(Server(sender));
        let (outbox, postman) = Outbox::new(members.platform.clone(), server, "https://a.example");
        let _ = members.identity.clone().with_outbox(outbox).with_site("https://a.example");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(postman.serve(stop.clone()));
        Self { mails, stop, _serving: serving }
    }

    async fn next(&mut self) -> Mail {
        let mail = timeout(Duration::from_secs(10), self.mails.recv()).await;
        mail.expect("a mail").expect("the postman lives")
    }

    /// The ticket in the next mail, which must be to this address.
    async fn ticket(&mut self, to: &str) -> String {
        let mail = self.next().await;
        assert_eq!(mail.to.as_str(), to);
        let (_, rest) = mail.text.split_once("#token=").expect("a link");
        rest.lines().next().expect("a ticket").to_owned()
    }

    /// Whether no mail has come until all orders so far were carried out.
    async fn is_empty(&mut self, members: &Members) -> bool {
        let fence = crate::mail::Order::AddressChanged("fence@example.org".parse().expect("one"));
        members.identity.outbox().expect("set").post(fence).expect("room");
        self.next().await.to.as_str() == "fence@example.org"
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn sign_in(members: &Members, login: &str, password: &str) -> (u16, Value) {
    let body = json!({ "login": login, "password": password });
    members.post("", "/api/v1/sessions", body).await
}

#[tokio::test]
async fn an_address_is_verified_by_the_token_that_is_sent_to_it_once() {
    let members = Members::new("verify").await;
    let mut post = Post::of(&members);
    let new = json!({ "name": "Ada", "email": "ada@example.org", "password": PASSWORD });
    let (status, account) = members.post("", "/api/v1/accounts", new).await;
    assert_eq!((status, &account["email_verified"]), (201, &json!(false)), "{account}");
    let token = post.ticket("ada@example.org").await;
    let (_, session) = sign_in(&members, "ada", PASSWORD).await;
    let access = text(&session, "access_token");
    let resend = "/api/v1/accounts/me/verification-mail";
    assert_eq!(members.post(access, resend, Value::Null).await.0, 202);
    let again = post.ticket("ada@example.org").await;

    let verify = async |token: &str| {
        members.post("", "/api/v1/accounts/verify-email", json!({ "token": token })).await
    };
    for wrong in ["", "x", &token[1..]] {
        let (status, problem) = verify(wrong).await;
        assert_eq!((status, kind(&problem)), (403, "invalid-mailed-token"), "{wrong}");
    }
    assert_eq!(verify(&token).await.0, 204);
    let (_, account) = members.get(access, "/api/v1/accounts/me").await;
    assert_eq!(account["email_verified"], true);
    // Used, and overtaken.
    for token in [&token, &again] {
        assert_eq!(verify(token).await.0, 403);
    }
    let (status, problem) = members.post(access, resend, Value::Null).await;
    assert_eq!((status, text(&problem, "rule")), (409, "already_verified"));
    assert!(post.is_empty(&members).await);
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_once_and_all_sessions_end() {
    let members = Members::new("reset").await;
    let mut post = Post::of(&members);
    let ada = members.account("ada", Role::Viewer).await;
    let (_, session) = sign_in(&members, "ada", PASSWORD).await;
    let access = text(&session, "access_token");
    let forgot = async |email: &str| {
        let path = "/api/v1/password-resets";
        members.send("", "POST", path, json!({ "email": email }), &[]).await
    };
    let strip = |(status, headers, body): super::members::Answer| {
        let names = headers.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
        (status, names, body)
    };
    let known = strip(forgot("ADA@example.org").await);
    let unknown = strip(forgot("nobody@example.org").await);
    assert_eq!((known.0, &known), (202, &unknown), "the response does not tell");
    let token = post.ticket("ada@example.org").await;
    assert!(post.is_empty(&members).await, "nobody has the other address");

    let complete = async |token: &str, password: &str| {
        let body = json!({ "token": token, "password": password });
        members.post("", "/api/v1/password-resets/complete", body).await
    };
    assert_eq!(complete(&token, "password123").await.0, 422, "a common one");
    assert_eq!(complete("x", OTHER).await.0, 403);
    // Of two requests with one token one is refused, whichever comes first.
    let both = tokio::join!(complete(&token, OTHER), complete(&token, "roses at ten"));
    let mut statuses = [both.0.0, both.1.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 403]);
    let password = if both.0.0 == 204 { OTHER } else { "roses at ten" };
    assert_eq!(complete(&token, OTHER).await.0, 403);
    assert_eq!(members.get(access, "/api/v1/accounts/me").await.0, 401, "signed out");
    assert_eq!(sign_in(&members, "ada", PASSWORD).await.0, 401);
    assert_eq!(sign_in(&members, "ada", password).await.0, 201);

    // A token to an address that is no longer the account's.
    forgot("ada@example.org").await;
    let token = post.ticket("ada@example.org").await;
    let email = "countess@example.org".parse().expect("an address");
    let command = control_domain::features::accounts::commands::ChangeEmail { account: ada, email };
    members.platform.send(control_domain::Actor::System, command).await.expect("free");
    assert_eq!(complete(&token, OTHER).await.0, 403);
}

#[tokio::test]
async fn the_owner_of_an_address_gets_few_mails_from_however_many_askers() {
    let mail = "2/5m".parse::<Limit>().ok();
    let members = Members::limited("few", UNLIMITED).await;
    let mut post = Post::of(&members);
    members.account("ada", Role::Viewer).await;
    members.limiter.set(Limits { mail, ..UNLIMITED });
    for _ in 0..4 {
        // Whoever asks: no address is counted here. The response does not tell of other requests.
        let email = "ada@example.org".parse().expect("an address");
        members.identity.request_reset(email).await.expect("no refusal");
    }
    for _ in 0..2 {
        post.ticket("ada@example.org").await;
    }
    assert!(post.is_empty(&members).await);
}

#[tokio::test]
async fn an_address_is_changed_with_the_password_and_both_addresses_learn_of_it() {
    let members = Members::new("change-email").await;
    let mut post = Post::of(&members);
    members.account("ada", Role::Viewer).await;
    members.account("bob", Role::Viewer).await;
    let (_, session) = sign_in(&members, "ada", PASSWORD).await;
    let access = text(&session, "access_token");
    let change = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        members.post(access, "/api/v1/accounts/me/email", body).await
    };
    let (status, problem) = change("countess@example.org", "wrong password").await;
    assert_eq!((status, text(&problem["errors"][0], "pointer")), (422, "/password"));
    let (status, problem) = change("bob@example.org", PASSWORD).await;
    assert_eq!((status, text(&problem, "rule")), (409, "email_taken"));
    assert!(post.is_empty(&members).await);
    assert_eq!(change("countess@example.org", PASSWORD).await.0, 204);
    let (_, account) = members.get(access, "/api/v1/accounts/me").await;
    assert_eq!(account["email_verified"], false);
    let notice = post.next().await;
    assert_eq!((notice.to.as_str(), notice.text.contains("#token=")), ("ada@example.org", false));
    let token = post.ticket("countess@example.org").await;
    let body = json!({ "token": token });
    assert_eq!(members.post("", "/api/v1/accounts/verify-email", body).await.0, 204);
    let (_, account) = members.get(access, "/api/v1/accounts/me").await;
    assert_eq!(account["email_verified"], true);
}

#[tokio::test]
async fn the_owner_of_an_address_learns_that_somebody_tried_to_register_with_it() {
    let members = Members::new("taken").await;
    let mut post = Post::of(&members);
    members.account("ada", Role::Viewer).await;
    let new = json!({ "name": "Eve", "email": "ada@example.org", "password": PASSWORD });
    assert_eq!(members.post("", "/api/v1/accounts", new).await.0, 409);
    let notice = post.next().await;
    assert_eq!((notice.to.as_str(), notice.text.contains("Eve")), ("ada@example.org", false));
    assert!(post.is_empty(&members).await);
}

#[tokio::test]
async fn without_a_mail_server_nobody_is_promised_a_mail() {
    let members = Members::new("no-mail").await;
    let body = json!({ "email": "ada@example.org" });
    let (status, problem) = members.post("", "/api/v1/password-resets", body).await;
    assert_eq!((status, kind(&problem)), (403, "mail-disabled"));
    let new = json!({ "name": "Ada", "email": "ada@example.org", "password": PASSWORD });
    assert_eq!(members.post("", "/api/v1/accounts", new).await.0, 201);
}
