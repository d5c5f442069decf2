//! Tokens of each algorithm, valid and forged.

use std::{fs, path::PathBuf};

use ingest_rtmp::StreamKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::json;

use super::*;
use crate::publish::tests::request;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Settings with a secret.
pub(crate) fn hs256() -> Jwt {
    let secret = serde_json::from_value(json!(SECRET)).unwrap();
    Jwt { secret: Some(secret), ..Jwt::default() }
}

/// A directory of this test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("streamforge-jwt-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn in_an_hour() -> u64 {
    jsonwebtoken::get_current_timestamp() + 3_600
}

/// A token that is signed with `secret`.
fn signed(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn show() -> Value {
    json!({"exp": in_an_hour(), "channel": "show"})
}

fn decide(jwt: &Jwt, key: &str, query: Option<&str>) -> Result<Grant, Rejection> {
    let mut request = request(key);
    request.query = query.map(StreamKey::new);
    Verifier::load(jwt).unwrap().grant(&request)
}

/// The channel of a token that is the whole stream key.
fn channel(jwt: &Jwt, token: &str) -> Result<String, Rejection> {
    decide(jwt, token, None).map(|grant| grant.channel.to_string())
}

fn rejection(claims: &Value) -> Rejection {
    channel(&hs256(), &signed(claims, SECRET)).unwrap_err()
}

#[test]
fn a_token_is_the_key_or_in_the_query_of_the_channels_name() {
    let token = signed(&show(), SECRET);
    assert_eq!(channel(&hs256(), &token).unwrap(), "show");
    for query in [format!("token={token}"), format!("jwt={token}"), format!("user=a&pass={token}")]
    {
        let grant = decide(&hs256(), "show", Some(&query)).unwrap();
        assert_eq!(grant.channel.as_str(), "show");
        assert_eq!(decide(&hs256(), "other", Some(&query)).unwrap_err(), Rejection::Foreign);
    }
    let wrong = decide(&hs256(), "a/b", Some(&format!("token={token}"))).unwrap_err();
    assert!(matches!(wrong, Rejection::Name(_)));
    assert_eq!(decide(&hs256(), "show", None).unwrap_err(), Rejection::Missing);
    assert_eq!(decide(&hs256(), "show", Some("token=")).unwrap_err(), Rejection::Missing);
}

#[test]
fn a_token_with_permissions_of_mediamtx_needs_the_name_if_it_permits_several() {
    let permission = json!([{"action": "publish", "path": "~^live/team-"}]);
    let token = signed(&json!({"exp": in_an_hour(), "mediamtx_permissions": permission}), SECRET);
    let query = format!("token={token}");
    assert!(decide(&hs256(), "team-7", Some(&query)).is_ok());
    assert_eq!(decide(&hs256(), "other", Some(&query)).unwrap_err(), Rejection::Foreign);
    assert_eq!(channel(&hs256(), &token).unwrap_err(), Rejection::NoChannel);
    let other = Jwt { permissions_claim: "may".into(), ..hs256() };
    let token = signed(&json!({"exp": in_an_hour(), "may": [{"action": "publish"}]}), SECRET);
    assert!(decide(&other, "any", Some(&format!("jwt={token}"))).is_ok());
    assert_eq!(
        decide(&hs256(), "any", Some(&format!("jwt={token}"))).unwrap_err(),
        Rejection::Foreign
    );
}

#[test]
fn the_time_of_a_token_is_checked_and_its_end_is_required() {
    let now = jsonwebtoken::get_current_timestamp();
    assert_eq!(rejection(&json!({"channel": "show"})), Rejection::Claim("exp"));
    assert_eq!(rejection(&json!({"channel": "show", "exp": "never"})), Rejection::Claim("exp"));
    assert_eq!(rejection(&json!({"channel": "show", "exp": now - 60})), Rejection::Expired);
    assert_eq!(
        rejection(&json!({"channel": "show", "exp": now + 600, "nbf": now + 300})),
        Rejection::Early
    );
    // Clocks differ a little.
    let late = signed(&json!({"channel": "show", "exp": now - 1, "nbf": now + 1}), SECRET);
    assert!(channel(&hs256(), &late).is_ok());
}

#[test]
fn a_configured_issuer_and_audience_are_required() {
    let jwt = Jwt { issuer: "https://id.example".into(), audience: "video".into(), ..hs256() };
    for (issuer, audience, expected) in [
        (json!("https://id.example"), json!(["other", "video"]), None),
        (json!("https://other.example"), json!("video"), Some(Rejection::Claim("iss"))),
        (json!("https://id.example"), json!("other"), Some(Rejection::Claim("aud"))),
        (Value::Null, json!("video"), Some(Rejection::Claim("iss"))),
        (json!("https://id.example"), Value::Null, Some(Rejection::Claim("aud"))),
    ] {
        let mut claims = show();
        claims["iss"] = issuer;
        claims["aud"] = audience;
        assert_eq!(channel(&jwt, &signed(&claims, SECRET)).err(), expected, "{claims}");
    }
    let mut claims = show();
    claims["aud"] = json!("anything");
    assert!(channel(&hs256(), &signed(&claims, SECRET)).is_ok(), "no audience is configured");
}

#[test]
fn forged_tokens_are_rejected() {
    let token = signed(&show(), SECRET);
    let [header, claims, signature]: [&str; 3] =
        token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = signed(&json!({"exp": in_an_hour(), "channel": "other"}), SECRET);
    let others_claims = other.split('.').nth(1).unwrap();
    let jwt = hs256();
    assert_eq!(
        channel(&jwt, &format!("{header}.{others_claims}.{signature}")),
        Err(Rejection::Signature)
    );
    assert_eq!(channel(&jwt, &format!("{header}.{claims}.")), Err(Rejection::Signature));
    assert_eq!(channel(&jwt, &signed(&show(), &SECRET.to_uppercase())), Err(Rejection::Signature));
    // {"alg":"none","typ":"JWT"}, with and without a signature.
    const NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for end in ["", signature] {
        assert_eq!(channel(&jwt, &format!("{NONE}.{claims}.{end}")), Err(Rejection::Unreadable));
    }
    for text in ["a.b.c", "..", &"x".repeat(20_000), &format!("{header}.{claims}.{signature}=")] {
        assert!(channel(&jwt, text).is_err(), "{text}");
    }
    let huge = json!({"exp": in_an_hour(), "channel": "show", "x": "x".repeat(9_000)});
    assert_eq!(channel(&jwt, &signed(&huge, SECRET)), Err(Rejection::Unreadable));
}

/// A token of 2100 and the public key of its signer; made with openssl, which has deleted the
/// private one.
const RSA_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzfDC8DV7T2hIZBDm0P80
LBjZEVjnVlwG2gB4Cs+LLO65rGJ0olVeF98jPp488+GlJUk7udmbru2EqVnsH0E/
1FPP1qoG+Jvj32rp/sp6thcDRoFrLymik6qXtniLgO0jpTDHk6BtTODH7NORnvRh
KMEISiU2SDjSe0tGZ/oCJujlrBXe1zZhZwZKhFM9Nt9b5gvUU1X8LPDUqRykrI39
ONcNnXan1YpgR5QM09d4JQV92izIVSyc55JzqJLrocjfvG3HTKztGnJnx+qrqgdh
btH+Qph9D1ejM+wzKXUGOCjYoOx/BEJ9Hu4pu41ab+kiHne4Fsj1ZcIHbonj3w80
MQIDAQAB
-----END PUBLIC KEY-----
";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsImNoYW5uZ\
    WwiOiJzaG93In0.lSUjO6egyyN2KdJfG42vxhU-XTQRtm3vnR-ng43oQjPkmHyD3j8DsgMYKtIx79RgHWB7KgG0tE96REo\
    gksnYnyXAVHvMbKjWBFipGjLd4KZh5ONpnUjpSB8TV3prshjpa5EDnFyptH8NmZm3kwCnQV_0pKCUs1q6HAUP5X2aidCqI\
    vd3iE2VUiRdDjCqy7pV-j9kTC0f9l0mnIfwUAiuGugUHybUZTkO-I8EG__o4Ig-P45z8JzArz-hcXPTvNy0AA-TR6GlvMx\
    3_M5TJ4eUDSA7aLAjEyMsSXSHipK0gpRFDCrkbWk_i1nO-6Ah2TG1aH6B2iobfb9Jw51hGBvyyA";

#[test]
fn each_kind_of_public_key_verifies_its_algorithm_and_no_other() {
    let scratch = Scratch::new("public");
    let of = |name: &str, pem: &str| Jwt { public_key: scratch.write(name, pem), ..Jwt::default() };
    let rsa = of("rsa.pem", RSA_PUBLIC);
    assert_eq!(channel(&rsa, RSA_TOKEN).unwrap(), "show");

    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let sign =
        |algorithm, key: &EncodingKey| encode(&Header::new(algorithm), &show(), key).unwrap();
    let ed_key = EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
    let ed_token = sign(Algorithm::EdDSA, &ed_key);
    let ec_key = EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap();
    let ec_token = sign(Algorithm::ES256, &ec_key);
    let (ed, ec) = (of("ed.pem", &ed.public_key_pem()), of("ec.pem", &ec.public_key_pem()));
    assert_eq!(channel(&ed, &ed_token).unwrap(), "show");
    assert_eq!(channel(&ec, &ec_token).unwrap(), "show");
    for (jwt, token) in
        [(&ed, &ec_token), (&ec, &ed_token), (&rsa, &ec_token), (&ec, &RSA_TOKEN.to_owned())]
    {
        assert_eq!(channel(jwt, token), Err(Rejection::UnknownKey));
    }
    // The classic confusion: HS256 with the public key's text as the secret (RFC 8725 2.1).
    for jwt in [&rsa, &ed, &ec] {
        let pem = fs::read_to_string(&jwt.public_key).unwrap();
        for secret in [pem.as_str(), pem.trim()] {
            assert_eq!(channel(jwt, &signed(&show(), secret)), Err(Rejection::UnknownKey));
        }
    }
    // A secret beside the public key does not change that.
    let both = Jwt { secret: hs256().secret, ..rsa };
    assert_eq!(channel(&both, &signed(&show(), RSA_PUBLIC)), Err(Rejection::Signature));
    assert_eq!(channel(&both, &signed(&show(), SECRET)).unwrap(), "show");
    assert_eq!(channel(&both, RSA_TOKEN).unwrap(), "show");
}

/// RFC 7515 A.2: a token that expired in 2011, and its key.
const RFC_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0d\
    HA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu\
    3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLg\
    rnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqt\
    FZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlU\
    PQGe77Rw";
const RFC_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qP\
    CJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bS\
    f63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT\
    6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

#[test]
fn a_key_set_is_searched_by_kid_and_its_unusable_keys_are_skipped() {
    let scratch = Scratch::new("jwks");
    let of = |keys: Value| {
        let file = scratch.write("jwks.json", &json!({"keys": keys}).to_string());
        Jwt { jwks: file, ..Jwt::default() }
    };
    // base64url of SECRET, and of the same 16 digits.
    let oct = |kid: &str, k: &str| json!({"kty": "oct", "kid": kid, "k": k, "alg": "HS256"});
    const K: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
    const OTHER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA";
    let rsa = json!({"kty": "RSA", "n": RFC_MODULUS, "e": "AQAB", "use": "sig"});
    let set = of(json!([
        {"kty": "RSA", "n": RFC_MODULUS, "e": "AQAB", "use": "enc", "alg": "RSA-OAEP"},
        {"kty": "unheard", "x": 1},
        {"kty": "EC", "crv": "P-384", "x": K, "y": K},
        oct("short", "MDEyMw"),
        oct("old", OTHER), oct("new", K), rsa
    ]));
    assert_eq!(Verifier::load(&set).unwrap().len(), 3);
    let named = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        encode(&header, &show(), &EncodingKey::from_secret(SECRET.as_bytes()).unwrap()).unwrap()
    };
    assert_eq!(channel(&set, &named(Some("new"))).unwrap(), "show");
    assert_eq!(channel(&set, &named(None)).unwrap(), "show", "all keys are tried");
    assert_eq!(channel(&set, &named(Some("old"))), Err(Rejection::Signature));
    assert_eq!(channel(&set, &named(Some("gone"))), Err(Rejection::UnknownKey));
    // The RSA key verifies: only the time of the token is wrong.
    assert_eq!(channel(&set, RFC_TOKEN), Err(Rejection::Expired));
}

#[test]
fn files_without_a_usable_key_are_refused_by_name_and_nothing_of_them_is_shown() {
    let scratch = Scratch::new("files");
    let pem = |text: &str| {
        let public_key = scratch.write("key.pem", text);
        Verifier::load(&Jwt { public_key, ..Jwt::default() }).unwrap_err().to_string()
    };
    let private = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    assert!(pem(&private).contains("this is a private key"));
    let large = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().public_key_pem();
    for text in ["", "s3cret", &large, RSA_TOKEN] {
        let words = pem(text);
        assert!(words.contains("key.pem: no public key in PEM"), "{words}");
        assert!(!words.contains("s3cret"), "{words}");
    }
    assert!(pem(&"x".repeat(300 << 10)).contains("larger than 256 KiB"));
    let set = |text: &str| {
        let jwks = scratch.write("jwks.json", text);
        Verifier::load(&Jwt { jwks, ..Jwt::default() }).unwrap_err().to_string()
    };
    assert!(
        set("s3cret")
            .ends_with("jwks.json: not a JSON Web Key Set, an object with a list named keys")
    );
    assert!(set("{}").contains("not a JSON Web Key Set"));
    assert!(set("{\"keys\":[]}").contains("no key for EdDSA, ES256, RS256 or HS256 among its 0"));
    assert!(set(&json!({"keys": vec![1; 65]}).to_string()).contains("65 keys"));
    let missing = Jwt { jwks: scratch.0.join("missing"), ..Jwt::default() };
    assert!(Verifier::load(&missing).unwrap_err().to_string().contains("missing"));
    assert!(!format!("{:?} {:?}", hs256(), Verifier::load(&hs256())).contains(SECRET));
}

#[test]
fn a_right_ends_with_its_token_only_if_that_is_configured() {
    let token = signed(&show(), SECRET);
    assert_eq!(decide(&hs256(), &token, None).unwrap().expires, None);
    let jwt = Jwt { end_at_expiry: true, ..hs256() };
    let expires = decide(&jwt, &token, None).unwrap().expires.unwrap();
    let rest = expires.duration_since(Instant::now()).as_secs();
    assert!((3_590..=3_605).contains(&rest), "{rest}");
    // Beyond the clock's range there is no end; a fraction is permitted.
    let for_ever = signed(&json!({"exp": u64::MAX / 2, "channel": "show"}), SECRET);
    assert!(decide(&jwt, &for_ever, None).is_ok());
    let half = json!({"exp": 4_102_444_800.5, "channel": "show"});
    assert!(decide(&jwt, &signed(&half, SECRET), None).unwrap().expires.is_some());
}

#[test]
fn rights_continue_over_a_reload_as_long_as_their_key_and_the_conditions_stay() {
    let scratch = Scratch::new("reload");
    let both = Jwt { public_key: scratch.write("rsa.pem", RSA_PUBLIC), ..hs256() };
    let before = Verifier::load(&both).unwrap();
    let right = |verifier: &Verifier, key: &str| verifier.grant(&request(key)).unwrap().withdrawn;
    let token = signed(&show(), SECRET);
    let rights = [right(&before, &token), right(&before, RSA_TOKEN)];

    let mut same = Verifier::load(&both).unwrap();
    same.continue_rights(&before);
    assert_eq!(before.withdraw_missing(Some(&same)), 0);
    let mut without = Verifier::load(&hs256()).unwrap();
    without.continue_rights(&same);
    assert_eq!(same.withdraw_missing(Some(&without)), 1);
    assert_eq!(rights.clone().map(|right| right.is_cancelled()), [false, true]);

    let mut stricter =
        Verifier::load(&Jwt { issuer: "https://id.example".into(), ..hs256() }).unwrap();
    stricter.continue_rights(&without);
    assert_eq!(without.withdraw_missing(Some(&stricter)), 1);
    assert!(rights[0].is_cancelled());
    assert_eq!(stricter.withdraw_missing(None), 1);
}
