//! Claims of tokens whose signature has been verified, so that a viewer's segments do not pay for
//! it again.
//!
//! The key is the token itself: a look-up hashes it once with the keyed SipHash of the standard
//! library. Its SHA-256 as the key would repeat most of the work of verifying HS256, which is an
//! HMAC with SHA-256 over the token, and would save little, because an entry is small anyway. Only
//! tokens with a valid signature are kept, so that nobody without a key can fill it.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::claims::Claims;

/// Maximum size of all entries in bytes: 40 000 tokens of 300 bytes.
const MAX_BYTES: u64 = 24 << 20;
/// Memory of an entry besides its token.
const ENTRY_BYTES: u64 = 300;
/// Entries for which there is room at the start.
const FIRST_ENTRIES: usize = 16;

/// The claims of verified tokens, by token. The least used ones are removed when it is full.
pub(super) struct Verified(Cache<Box<str>, Arc<Claims>, Weight>);

/// The size of an entry.
#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Box<str>, Arc<Claims>> for Weight {
    fn weight(&self, token: &Box<str>, _: &Arc<Claims>) -> u64 {
        ENTRY_BYTES + token.len() as u64
    }
}

impl Default for Verified {
    fn default() -> Self {
        Self(Cache::with_weighter(FIRST_ENTRIES, MAX_BYTES, Weight))
    }
}

impl Verified {
    /// The claims of a token that was verified before.
    pub(super) fn find(&self, token: &str) -> Option<Arc<Claims>> {
        self.0.get(token)
    }

    /// Keeps the claims of a token whose signature is valid.
    pub(super) fn insert(&self, token: &str, claims: &Arc<Claims>) {
        self.0.insert(token.into(), Arc::clone(claims));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playback::testing;

    #[test]
    fn its_size_is_bounded() {
        let verified = Verified::default();
        let claims = Arc::new(testing::claims(r#"{"exp":1,"channel":"demo"}"#).unwrap());
        for n in 0..60_000 {
            verified.insert(&format!("{n:0300}"), &claims);
        }
        assert!(verified.0.weight() <= MAX_BYTES, "{}", verified.0.weight());
        assert!(verified.0.len() > 20_000 && verified.0.len() < 60_000, "{}", verified.0.len());
        assert_eq!(verified.find(&format!("{:0300}", 59_999)), Some(claims));
    }
}
