//! `[[oidc]]`: the providers at which people sign in to the platform.

use std::fmt;

use control_api::identity::oidc::Settings;
use serde::Deserialize;

/// A provider.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    /// The name in addresses.
    id: String,
    /// The name that people see.
    name: String,
    /// The issuer identifier, an address.
    issuer: String,
    /// The identifier of this installation at the provider.
    client_id: String,
    /// The secret that belongs to it. Default: none, for a public client.
    client_secret: Option<String>,
}

impl Provider {
    /// The provider for the API.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            id: self.id.clone(),
            name: self.name.clone(),
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
        }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
