//! The parts of signing in that not every installation has: they are added once, after the
//! identities are open.

use std::sync::OnceLock;

use super::oidc::Providers;
use crate::mail::Outbox;

/// The parts.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The queue of mails.
    pub(super) outbox: OnceLock<Outbox>,
    /// The foreign providers of identities.
    pub(super) providers: OnceLock<Providers>,
    /// The name of the site, as apps and mails show it.
    pub(super) site: OnceLock<String>,
}
