//! Keys and tokens for tests. The keys are for nothing else.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;

use super::{
    Config, Refused,
    claims::{Claims, Written},
};

pub(crate) const SECRET: &str = "a secret of thirty-two bytes, or more";
pub(crate) const OTHER_SECRET: &str = "another secret that is as long as that";

/// Made by `openssl genpkey -algorithm ed25519`.
pub(crate) const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIOgviOeEGdbk7b80KhcwTM+jLPkr6OJpbCNghrKnuC4O
-----END PRIVATE KEY-----
";
pub(crate) const OTHER_PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIMszsFT5JLb5+m+B6oHrCDzavp3aOEKRhq3dS1nls8nh
-----END PRIVATE KEY-----
";
/// That of [`PRIVATE_KEY`].
pub(crate) const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAlNnWlsZHMIflTKaXIEVAGE92m2ZPVwTUQCR5BVl+4tQ=
-----END PUBLIC KEY-----
";

/// The keys `first` and `second`, secrets, and `edge`, a public key. The channel `demo` is private.
pub(crate) fn config() -> Config {
    let text = format!(
        "private = ['demo']\nleeway_s = 0\n\
         [[keys]]\nid = 'first'\nsecret = '{SECRET}'\n\
         [[keys]]\nid = 'second'\nsecret = '{OTHER_SECRET}'\n\
         [[keys]]\nid = 'edge'\npublic_key = '''{PUBLIC_KEY}'''\n"
    );
    toml::from_str(&text).unwrap()
}

/// A token with these claims, signed with [`SECRET`].
pub(crate) fn token(kid: &str, claims: &str) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid.into());
    sign(&header, SECRET, claims)
}

/// A token signed with [`PRIVATE_KEY`].
pub(crate) fn ed_token(kid: &str, claims: &str) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(kid.into());
    encode(&header, &value(claims), &ed_key(PRIVATE_KEY)).unwrap()
}

pub(crate) fn ed_key(pem: &str) -> EncodingKey {
    EncodingKey::from_ed_pem(pem.as_bytes()).unwrap()
}

pub(crate) fn sign(header: &Header, secret: &str, claims: &str) -> String {
    encode(header, &value(claims), &EncodingKey::from_secret(secret.as_bytes()).unwrap()).unwrap()
}

/// A token with any header, and some signature.
pub(crate) fn with_header(header: &str, claims: &str) -> String {
    format!("{}.{}.AAAA", base64url(header), base64url(claims))
}

/// The claims, as if they had been signed.
pub(crate) fn claims(text: &str) -> Result<Claims, Refused> {
    serde_json::from_str::<Written>(text).map_err(|_| Refused::Malformed)?.try_into()
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// RFC 4648 5, without padding.
fn base64url(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = text.as_bytes().chunks(3).flat_map(|chunk| {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | usize::from(*chunk.get(n).unwrap_or(&0)));
        (0..=chunk.len()).map(move |n| char::from(DIGITS[bits >> (18 - 6 * n) & 63]))
    });
    digits.collect()
}
