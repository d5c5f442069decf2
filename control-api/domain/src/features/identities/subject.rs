//! A person at a provider.

use std::fmt;

use crate::vault::Vault;

/// A person at a provider, as a verified ID token names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    /// The provider's issuer identifier.
    pub issuer: String,
    /// The person's identifier at this provider.
    pub subject: String,
}

impl Subject {
    /// The digest by which it is found.
    pub fn digest(&self, vault: &dyn Vault) -> [u8; 32] {
        // The length keeps two pairs with the same concatenation apart.
        vault.digest(&format!("identity {} {}{}", self.issuer.len(), self.issuer, self.subject))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
