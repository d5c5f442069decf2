//! The parts of signing in that not every installation has: they are added once, after the
//! identities are open.

use std::sync::OnceLock;

use super::{ISSUER, Identity, oidc::Providers};
use crate::mail::Outbox;

/// The parts.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The queue of mails.
    pub(super) outbox: OnceLock<Outbox>,
    /// The foreign providers of identities.
    providers: OnceLock<Providers>,
    /// The name of the site, as apps and mails show it.
    site: OnceLock<String>,
}

impl Identity {
    /// Sends mails through an outbox from now on. A second call changes nothing.
    #[must_use]
    pub fn with_outbox(self, outbox: Outbox) -> Self {
        let _ = self.extras().outbox.set(outbox);
        self
    }

    /// Lets people sign in at these providers from now on. A second call changes nothing.
    #[must_use]
    pub fn with_providers(self, providers: Providers) -> Self {
        let _ = self.extras().providers.set(providers);
        self
    }

    /// The foreign providers, if there are any.
    pub(crate) fn providers(&self) -> Option<&Providers> {
        self.extras().providers.get()
    }

    /// Names the site by its address. A second call changes nothing.
    #[must_use]
    pub fn with_site(self, url: &str) -> Self {
        let host = url.split("://").last().unwrap_or(url).trim_end_matches('/');
        let _ = self.extras().site.set(host.to_owned());
        self
    }

    /// The name of the site.
    pub(super) fn site(&self) -> &str {
        self.extras().site.get().map_or(ISSUER, String::as_str)
    }
}
