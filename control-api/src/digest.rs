//! SHA-256 digests of random keys and tokens, and their comparison. Passwords, which people choose,
//! need a slow hash and do not belong here.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The SHA-256 of a random key. `Debug` prints `***`, because the hash of a weak key could be
/// reversed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 hexadecimal digits; `printf %s KEY | sha256sum` prints it")]
pub struct NotADigest;

impl KeyDigest {
    /// The digest of `key`.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Its bytes, to look up a key in a table.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Whether `key` is the key, in a time that does not depend on the first difference.
    pub fn matches(&self, key: &str) -> bool {
        // An early return at the first different byte could be measured, and would reveal a prefix.
        self.0.ct_eq(&Self::of(key).0).into()
    }
}

impl FromStr for KeyDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let digit =
            |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        // The length is checked first, so that each chunk is a whole pair. The text is read as
        // bytes: those of a character beyond ASCII are no digits.
        let bytes: Option<Vec<u8>> = match text.len() {
            64 => text.as_bytes().chunks_exact(2).map(pair).collect(),
            _ => None,
        };
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NotADigest)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // printf %s abc | sha256sum
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_hex_digest_in_either_case_matches_only_its_key() {
        for text in [ABC.to_owned(), ABC.to_uppercase()] {
            let digest: KeyDigest = text.parse().unwrap();
            assert!(digest.matches("abc"));
            assert!(!digest.matches("abd"));
            assert!(!digest.matches(""));
        }
    }

    #[test]
    fn invalid_digests_are_refused() {
        for text in
            ["", "abc", &ABC[..62], &format!("{ABC}00"), &ABC.replace('b', "g"), &"ä".repeat(32)]
        {
            assert_eq!(text.parse::<KeyDigest>(), Err(NotADigest), "{text}");
        }
    }

    #[test]
    fn a_digest_is_masked_in_debug_output() {
        assert_eq!(format!("{:?}", KeyDigest::of("abc")), "***");
    }
}
