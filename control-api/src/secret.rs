//! Random secrets that are shown once: stream keys and the keys of the API. Only their digest is
//! kept.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    KeyDigest,
    problem::{Kind, Problem},
};

/// Random bytes of a secret: 256 bits cannot be guessed from their digest.
const BYTES: usize = 32;

/// A secret. `Debug` prints `***`.
pub struct Secret(String);

impl Secret {
    /// A new secret: a prefix that names its kind, and 43 letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// 500 if the system has no random numbers.
    pub fn random(prefix: &'static str) -> Result<Self, Problem> {
        let mut bytes = [0; BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Problem::new(Kind::Internal, "the system returned no random numbers"))?;
        Ok(Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text, to show it once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its digest.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_256_random_bits_and_is_not_printed() {
        let secrets = [(); 2].map(|()| Secret::random("live_").expect("random numbers"));
        for secret in &secrets {
            let text = secret.expose().strip_prefix("live_").expect("its prefix");
            assert_eq!(text.len(), 43);
            assert_eq!(URL_SAFE_NO_PAD.decode(text).expect("base64url").len(), BYTES);
            assert_eq!(format!("{secret:?}"), "***");
            assert!(secret.digest().matches(secret.expose()));
        }
        assert_ne!(secrets[0].expose(), secrets[1].expose());
    }
}
