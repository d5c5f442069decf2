use std::{fs, os::unix::fs::PermissionsExt as _};

use jsonwebtoken::jwk::JwkSet;
use uuid::Uuid;

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("streamforge-access-tokens-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn open(&self, now: Time) -> AccessTokens {
        AccessTokens::open(&self.0, "https://example.org", now).expect("the folder can be written")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const START: Time = Time::from_millis(1_796_000_000_000);
const ADA: AccountId = AccountId::new(Uuid::from_u128(1));
const SESSION: SessionId = SessionId::new(Uuid::from_u128(2));

fn issue(tokens: &AccessTokens, now: Time) -> String {
    tokens.issue(ADA, SESSION, Role::Creator, now).expect("a key signs")
}

fn kid(token: &str) -> String {
    decode_header(token).expect("a token").kid.expect("the key is named")
}

#[test]
fn a_token_is_valid_for_ten_minutes_also_after_a_restart() {
    let folder = Folder::new("life");
    let token = issue(&folder.open(START), START);
    let tokens = folder.open(START);
    let expires = START.after(LIFE);
    let claims =
        Claims { account: ADA, session: SESSION, role: Role::Creator, issued: START, expires };
    // The second verdict is one that was kept.
    for _ in 0..2 {
        assert_eq!(tokens.verify(&token, START), Some(claims));
        assert_eq!(tokens.verify(&token, expires), None);
    }
    let last = Time::from_millis(expires.as_millis() - 1);
    assert_eq!(tokens.verify(&token, last), Some(claims));
}

#[test]
fn the_keys_are_readable_by_the_daemon_alone_and_a_damaged_file_is_an_error() {
    let folder = Folder::new("file");
    folder.open(START);
    let path = folder.0.join(FILE);
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for text in ["", "[]", "{}", r#"[{"secret":"AAAA","from":"2026-01-01T00:00:00Z"}]"#] {
        fs::write(&path, text).expect("the file can be written");
        let refused = AccessTokens::open(&folder.0, "i", START);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{text}");
    }
}

#[test]
fn others_verify_tokens_with_the_published_keys() {
    let folder = Folder::new("jwks");
    let tokens = folder.open(START);
    let token = issue(&tokens, START);
    let set: JwkSet = serde_json::from_value(tokens.jwks(START)).expect("a key set");
    let jwk = set.find(&kid(&token)).expect("the key of the token");
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(jwk).expect("a public key");
    let claims = decode::<Value>(&token, &key, &validation).expect("a valid signature").claims;
    assert_eq!(claims["iss"], "https://example.org");
    assert_eq!(claims["sub"], ADA.to_string());
    assert_eq!(claims["sid"], SESSION.to_string());
    assert_eq!(claims["role"], "creator");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
    let text = tokens.jwks(START).to_string();
    let stored = fs::read_to_string(folder.0.join(FILE)).expect("the file");
    let stored: Value = serde_json::from_str(&stored).expect("JSON");
    assert!(!text.contains(stored[0]["secret"].as_str().unwrap()), "the private key");
}

#[test]
fn no_token_of_another_signer_issuer_kind_or_algorithm_is_valid() {
    let folder = Folder::new("forged");
    let tokens = folder.open(START);
    let token = issue(&tokens, START);
    let (head, rest) = token.split_once('.').expect("three parts");
    let (claims, signature) = rest.split_once('.').expect("three parts");
    let other = Folder::new("other");
    let foreign = issue(&other.open(START), START);
    let elsewhere =
        AccessTokens::open(&folder.0, "https://other.example", START).expect("the same keys");
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = part(json!({"alg": "none", "typ": TYPE, "kid": kid(&token)}));
    let id = kid(&token);
    let hmac = Header { typ: Some(TYPE.into()), kid: Some(id.clone()), ..Header::default() };
    let public = tokens.jwks(START)["keys"][0]["x"].as_str().unwrap().to_owned();
    let secret = EncodingKey::from_secret(public.as_bytes()).expect("a key");
    let written: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).expect("claims");
    let confused = encode(&hmac, &written, &secret).expect("a token");
    // A token of our own key of another kind.
    let keys = tokens.keys.load();
    let plain = Header { kid: Some(id), ..Header::new(Algorithm::EdDSA) };
    let playback =
        encode(&plain, &written, keys[0].signing.as_ref().expect("it signs")).expect("a token");
    let mut more = written.clone();
    more["role"] = "administrator".into();
    let raised = format!("{head}.{}.{signature}", part(more));
    for forged in [
        foreign,
        issue(&elsewhere, START),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        confused,
        playback,
        raised,
        format!("{head}.{claims}."),
        token[..token.len() - 2].to_owned(),
        String::new(),
        "..".to_owned(),
        "a".repeat(100_000),
    ] {
        assert_eq!(tokens.verify(&forged, START), None, "{forged}");
    }
    assert!(tokens.verify(&token, START).is_some());
}

#[test]
fn a_new_key_is_announced_before_it_signs_and_the_old_one_verifies_its_last_token() {
    let folder = Folder::new("rotation");
    let tokens = folder.open(START);
    let first = kid(&issue(&tokens, START));
    let published = |now| {
        let set: JwkSet = serde_json::from_value(tokens.jwks(now)).expect("a key set");
        set.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect::<Vec<_>>()
    };
    let due = START.after(ROTATION);
    assert_eq!(published(Time::from_millis(due.as_millis() - 1)), std::slice::from_ref(&first));
    let both = published(due);
    assert_eq!((both.len(), &both[0]), (2, &first));
    assert_eq!(kid(&issue(&tokens, due)), first, "announced, but not used");
    let signs = due.after(ANNOUNCED);
    let last = issue(&tokens, Time::from_millis(signs.as_millis() - 1));
    assert_eq!(kid(&last), first);
    let new = issue(&tokens, signs);
    assert_eq!(kid(&new), both[1]);
    // Nobody who keeps the list for as long as permitted meets a key that it lacks.
    assert!(KEYS_MAX_AGE < ANNOUNCED);
    let fresh = folder.open(signs);
    assert!(fresh.verify(&last, signs).is_some(), "the old key still verifies");
    let over = signs.after(LIFE);
    assert_eq!(published(over), both[1..]);
    assert!(folder.open(over).verify(&new, signs).is_some());
}

#[test]
fn another_process_that_rotates_the_keys_is_noticed() {
    let folder = Folder::new("upgrade");
    let (here, there) = (folder.open(START), folder.open(START));
    let signs = START.after(ROTATION).after(ANNOUNCED);
    there.jwks(START.after(ROTATION));
    let token = issue(&there, signs);
    assert!(here.verify(&token, signs).is_some());
    // Both have the same keys: the second did not make others.
    assert_eq!(here.jwks(signs), there.jwks(signs));
}

#[test]
fn a_replica_verifies_with_the_keys_that_it_has_learned_and_issues_nothing() {
    let (writer, folder) = (Folder::new("writer"), Folder::new("replica"));
    let tokens = writer.open(START);
    let token = issue(&tokens, START);
    let set = tokens.jwks(START);
    let replica = AccessTokens::of_replica(&folder.0, "https://example.org");
    assert_eq!(replica.verify(&token, START), None);
    replica.learn(b"no keys");
    replica.learn(set.to_string().as_bytes());
    assert_eq!(replica.verify(&token, START).map(|claims| claims.account), Some(ADA));
    assert_eq!(replica.jwks(START.after(ROTATION)), set, "it rotates nothing");
    assert!(replica.issue(ADA, SESSION, Role::Creator, START).is_err());
    // After a restart it needs no connection.
    let again = AccessTokens::of_replica(&folder.0, "https://example.org");
    assert!(again.verify(&token, START).is_some());
    // The writer learns nothing.
    let other = Folder::new("elsewhere");
    let other = other.open(START);
    tokens.learn(other.jwks(START).to_string().as_bytes());
    assert_eq!(tokens.verify(&issue(&other, START), START), None);
}
