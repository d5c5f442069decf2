//! Personal data in events: sealed under a key of the person, so that the log stays as it is when
//! an account is erased. Without the key the data cannot be read.

use std::fmt;
#[cfg(any(test, feature = "testing"))]
use std::{cell::RefCell, collections::BTreeMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::AccountId, rows::Fault};

/// A personal value that only the holder of the person's key can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// The person whose key opens it.
    pub person: AccountId,
    /// The nonce and the ciphertext with its tag, in base 64 (RFC 4648 5).
    pub sealed: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({})", self.person)
    }
}

/// The port to the keys of personal data.
pub trait Vault {
    /// Seals a value under the person's key, which is made with the first value.
    ///
    /// # Errors
    /// [`Fault::Vault`] if the key cannot be stored, or has been erased.
    fn seal(&self, person: AccountId, plain: &str) -> Result<Sealed, Fault>;

    /// Opens a value. `None` if the person's key has been erased.
    ///
    /// # Errors
    /// [`Fault::Vault`] if the key cannot be read, or the value is damaged.
    fn open(&self, sealed: &Sealed) -> Result<Option<String>, Fault>;

    /// A keyed digest by which a value is found without being readable (HMAC-SHA-256).
    fn digest(&self, value: &str) -> [u8; 32];
}

/// A vault in memory, for tests: it hides nothing.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
pub struct MemoryVault {
    /// Erased persons have `false`.
    keys: RefCell<BTreeMap<AccountId, bool>>,
}

#[cfg(any(test, feature = "testing"))]
impl MemoryVault {
    /// Erases the key of a person.
    pub fn erase(&self, person: AccountId) {
        self.keys.borrow_mut().insert(person, false);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Vault for MemoryVault {
    fn seal(&self, person: AccountId, plain: &str) -> Result<Sealed, Fault> {
        match *self.keys.borrow_mut().entry(person).or_insert(true) {
            true => Ok(Sealed { person, sealed: plain.chars().rev().collect() }),
            false => Err(Fault::Vault("the person's key has been erased".into())),
        }
    }

    fn open(&self, sealed: &Sealed) -> Result<Option<String>, Fault> {
        let has_key = self.keys.borrow().get(&sealed.person) == Some(&true);
        Ok(has_key.then(|| sealed.sealed.chars().rev().collect()))
    }

    fn digest(&self, value: &str) -> [u8; 32] {
        let mut digest = [0_u8; 32];
        for (index, byte) in value.bytes().enumerate() {
            digest[index % 32] = digest[index % 32].wrapping_mul(31) ^ byte;
        }
        digest
    }
}
