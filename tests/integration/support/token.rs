//! Playback tokens as another program issues them: JWTs signed by the command openssl, so that the
//! daemon's reading of them is checked by a second implementation.

use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// A key that issues tokens.
#[derive(Debug, Clone)]
pub(crate) enum Issuer {
    /// HS256: the identifier and the secret.
    Secret(&'static str, &'static str),
    /// EdDSA: the identifier and the file of the private key, in PEM.
    Private(&'static str, PathBuf),
}

impl Issuer {
    /// An Ed25519 key in a new file of `directory`.
    pub(crate) fn ed25519(directory: &Path, id: &'static str) -> Self {
        let file = directory.join(format!("{id}.pem"));
        let mut openssl = Command::new("openssl");
        let made = openssl.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&file).status();
        assert!(made.is_ok_and(|status| status.success()), "openssl genpkey");
        Self::Private(id, file)
    }

    /// Its entry of `playback.keys` in TOML.
    pub(crate) fn to_toml(&self) -> String {
        match self {
            Self::Secret(id, secret) => {
                format!("[[playback.keys]]\nid = \"{id}\"\nsecret = \"{secret}\"\n")
            }
            Self::Private(id, file) => {
                let mut openssl = Command::new("openssl");
                let public = openssl.args(["pkey", "-pubout", "-in"]).arg(file).output();
                let public = String::from_utf8(public.expect("openssl").stdout).expect("PEM");
                format!("[[playback.keys]]\nid = \"{id}\"\npublic_key = '''{public}'''\n")
            }
        }
    }

    /// A token with these claims.
    pub(crate) fn issue(&self, claims: &Value) -> String {
        let (algorithm, id) = match self {
            Self::Secret(id, _) => ("HS256", id),
            Self::Private(id, _) => ("EdDSA", id),
        };
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": id });
        let parts = [header.to_string(), claims.to_string()].map(|part| base64url(part.as_bytes()));
        let signed = parts.join(".");
        format!("{signed}.{}", base64url(&self.sign(signed.as_bytes())))
    }

    /// A token for a channel, valid for `seconds`.
    pub(crate) fn channel(&self, channel: &str, seconds: u64) -> String {
        self.issue(&json!({ "channel": channel, "exp": now_s() + seconds }))
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Secret(_, secret) => {
                let mut openssl = Command::new("openssl");
                openssl.args(["dgst", "-sha256", "-mac", "HMAC", "-macopt"]);
                openssl.arg(format!("key:{secret}")).arg("-binary");
                let mut openssl = openssl
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("the command openssl");
                let mut stdin = openssl.stdin.take().expect("stdin is piped");
                stdin.write_all(text).expect("openssl reads");
                drop(stdin);
                openssl.wait_with_output().expect("openssl").stdout
            }
            Self::Private(_, file) => {
                // Ed25519 signs a whole file, not a stream. Tests sign at the same time.
                let unique = format!("{:?}", std::thread::current().id());
                let input = file.with_extension(unique.replace(['(', ')'], "-"));
                fs::write(&input, text).expect("a file");
                let mut openssl = Command::new("openssl");
                openssl.args(["pkeyutl", "-sign", "-rawin", "-inkey"]).arg(file);
                let signature = openssl.arg("-in").arg(&input).output().expect("openssl").stdout;
                assert_eq!(signature.len(), 64, "an Ed25519 signature");
                signature
            }
        }
    }
}

/// The Unix time.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// RFC 4648 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | usize::from(*chunk.get(n).unwrap_or(&0)));
        (0..=chunk.len()).map(move |n| char::from(DIGITS[bits >> (18 - 6 * n) & 63]))
    });
    digits.collect()
}
