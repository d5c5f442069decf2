//! Key sets of a server that rotates its keys, fails, and lies.

use std::sync::atomic::{AtomicUsize, Ordering};

use ingest_rtmp::Reason;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;

use super::*;
use crate::publish::{
    jwt::{Settings, Verifier},
    tests::request,
};

/// A server whose response a test chooses.
#[derive(Clone, Default)]
struct Server(Arc<State>);

#[derive(Default)]
struct State {
    /// `None`: it fails.
    response: Mutex<Option<(String, Option<u64>)>>,
    asked: AtomicUsize,
}

impl Server {
    fn respond(&self, keys: &[&Signer], max_age: Option<u64>) {
        let keys = keys.iter().map(|signer| signer.jwk.clone()).collect::<Vec<_>>();
        self.say(Some((json!({ "keys": keys }).to_string(), max_age)));
    }

    fn say(&self, response: Option<(String, Option<u64>)>) {
        *self.0.response.lock().unwrap() = response;
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }
}

impl Fetch for Server {
    fn fetch(&self) -> Fetching<'_> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let response = self.0.response.lock().unwrap().clone();
        Box::pin(async move {
            let (text, age) = response.ok_or(Fault::TimedOut)?;
            Ok(Fetched { text: text.into(), max_age: age.map(Duration::from_secs) })
        })
    }
}

/// A key with its name.
struct Signer {
    kid: &'static str,
    key: EncodingKey,
    jwk: serde_json::Value,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = kid.into();
        Self { kid, key, jwk }
    }

    fn token(&self) -> String {
        let claims = json!({
            "exp": jsonwebtoken::get_current_timestamp() + 3_600, "channel": "show",
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        encode(&header, &claims, &self.key).unwrap()
    }
}

fn verifier(server: &Server, now: Instant) -> Verifier {
    let remote = Remote::with(Box::new(server.clone()), "https://id.example".into(), now);
    let settings = Settings {
        issuer: String::new(),
        audience: String::new(),
        permissions_claim: String::new(),
        end_at_expiry: false,
    };
    Verifier { keys: Vec::new(), remote: Some(Arc::new(remote)), settings }
}

fn remote(verifier: &Verifier) -> &Remote {
    verifier.remote.as_ref().unwrap()
}

fn admits(verifier: &Verifier, signer: &Signer) -> bool {
    verifier.grant(&request(&signer.token())).is_ok()
}

#[tokio::test]
async fn a_set_is_fetched_again_before_it_is_old_and_the_last_good_one_counts_in_an_outage() {
    let (server, signer) = (Server::default(), Signer::new("one"));
    let start = Instant::now();
    let verifier = verifier(&server, start);
    let remote = remote(&verifier);
    // The server is down at the start.
    remote.renew(start).await;
    assert!(remote.is_empty() && !admits(&verifier, &signer));
    assert_eq!(remote.next(), start + INTERVAL, "not at once again");
    server.respond(&[&signer], Some(300));
    remote.renew(start + Duration::from_secs(9)).await;
    assert_eq!(server.asked(), 1);
    let first = start + INTERVAL;
    remote.renew(first).await;
    assert!(admits(&verifier, &signer));
    assert_eq!(remote.next(), first + Duration::from_secs(300));
    remote.renew(first + Duration::from_secs(299)).await;
    assert_eq!(server.asked(), 2);
    // Then it is down for long, and says nonsense.
    let mut now = first + Duration::from_secs(300);
    for response in [None, Some("<html>"), Some("{\"keys\":[]}"), Some("{\"keys\":[1]}")] {
        server.say(response.map(|text| (text.to_owned(), None)));
        remote.renew(now).await;
        assert!(admits(&verifier, &signer), "{response:?}");
        now += INTERVAL;
    }
    assert_eq!(server.asked(), 6);
}

#[tokio::test]
async fn the_age_of_a_set_is_what_its_server_says_within_bounds() {
    let (server, signer) = (Server::default(), Signer::new("one"));
    for (said, seconds) in [(None, 600), (Some(0), 60), (Some(900), 900), (Some(1 << 40), 86_400)] {
        let start = Instant::now();
        let verifier = verifier(&server, start);
        server.respond(&[&signer], said);
        remote(&verifier).renew(start).await;
        assert_eq!(remote(&verifier).next(), start + Duration::from_secs(seconds), "{said:?}");
    }
    for (field, age) in [
        ("public, max-age=900", Some(900)),
        ("Max-Age=\"7\", must-revalidate", Some(7)),
        ("no-store", None),
        ("max-age=soon", None),
        ("s-maxage=7", None),
    ] {
        assert_eq!(max_age(field), age.map(Duration::from_secs), "{field}");
    }
}

#[tokio::test]
async fn a_token_of_an_unknown_key_makes_one_attempt_in_ten_seconds() {
    let server = Server::default();
    let [one, two, forged] = ["one", "two", "forged"].map(Signer::new);
    let start = Instant::now();
    let verifier = verifier(&server, start);
    let remote = remote(&verifier);
    server.respond(&[&one], None);
    remote.renew(start).await;
    server.respond(&[&one, &two], None);
    // Within the interval the set is not asked for.
    assert!(!remote.look_again(start + Duration::from_secs(9)).await);
    assert!(!admits(&verifier, &two));
    assert!(remote.look_again(start + INTERVAL).await);
    assert!(admits(&verifier, &two) && admits(&verifier, &one));
    for _ in 0..100 {
        remote.look_again(start + INTERVAL + Duration::from_secs(5)).await;
    }
    assert!(!admits(&verifier, &forged));
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_publisher_waits_for_the_first_set_and_is_told_to_try_again_without_one() {
    let (server, signer) = (Server::default(), Signer::new("one"));
    let verifier = verifier(&server, Instant::now());
    let refusal = verifier.decide(&request(&signer.token())).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Failed);
    assert!(refusal.description.contains("try again"), "{refusal:?}");
    server.respond(&[&signer], None);
    let later = Instant::now() + INTERVAL;
    remote(&verifier).renew(later).await;
    assert_eq!(verifier.decide(&request(&signer.token())).await.unwrap().channel.as_str(), "show");
}

#[tokio::test]
async fn a_key_that_leaves_the_set_disconnects_its_publishers_and_others_continue() {
    let server = Server::default();
    let [one, two] = ["one", "two"].map(Signer::new);
    let start = Instant::now();
    let verifier = verifier(&server, start);
    server.respond(&[&one, &two], None);
    remote(&verifier).renew(start).await;
    let right = |signer: &Signer| {
        verifier.grant(&request(&signer.token())).ok().map(|grant| grant.withdrawn)
    };
    let rights = [&one, &two].map(|signer| right(signer).unwrap());
    server.respond(&[&two], None);
    remote(&verifier).renew(start + USUAL_AGE).await;
    assert_eq!(rights.each_ref().map(|right| right.is_cancelled()), [true, false]);
    assert!(right(&one).is_none() && right(&two).is_some());
    // The policy ends.
    assert_eq!(verifier.withdraw_missing(None), 1);
    assert!(rights[1].is_cancelled());
}

#[tokio::test]
async fn a_secret_in_a_set_that_anyone_can_read_is_no_key() {
    let server = Server::default();
    let secret = json!({ "keys": [{ "kty": "oct", "kid": "s",
        "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY" }] });
    server.say(Some((secret.to_string(), None)));
    let start = Instant::now();
    let verifier = verifier(&server, start);
    remote(&verifier).renew(start).await;
    assert!(remote(&verifier).is_empty());
}

#[test]
fn an_address_without_tls_is_refused() {
    let address = serde_json::from_value(json!("http://id.example/jwks.json")).unwrap();
    let jwt = Jwt { jwks_url: Some(address), ..Jwt::default() };
    assert!(matches!(Remote::of(&jwt), Err(Error::NotHttps)));
}
