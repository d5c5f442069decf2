//! The parts of signing in that a configuration adds: mail, and foreign providers.

use std::sync::Arc;

use control_api::{
    identity::{self, Identity, oidc::Providers},
    mail::{Outbox, Postman, smtp},
};

use crate::config::Config;

/// Why a part cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The mail server cannot be used.
    #[error(transparent)]
    Mail(#[from] smtp::Error),
    /// A provider cannot be used.
    #[error(transparent)]
    Provider(#[from] identity::oidc::Error),
    /// Mails would have links to nowhere.
    #[error("[smtp] needs http.public_url, to which the links in mails lead")]
    NoAddress,
}

/// Adds the configured parts to the identities of the platform. The part that sends mails is `None`
/// without a mail server. Blocks for files.
///
/// # Errors
/// [`Error`].
pub(super) fn complete(
    config: &Config,
    mut identity: Identity,
) -> Result<(Identity, Option<Postman>), Error> {
    let url = config.http.public_url.as_str();
    if let Some(url) = url {
        identity = identity.with_site(url);
    }
    if !config.oidc.is_empty() {
        let all = config.oidc.iter().map(|provider| provider.settings()).collect();
        identity = identity.with_providers(Providers::new(all, url.unwrap_or_default())?);
    }
    let Some(server) = config.smtp.server()? else { return Ok((identity, None)) };
    let url = url.ok_or(Error::NoAddress)?;
    let (outbox, postman) = Outbox::new(identity.platform().clone(), Arc::new(server), url);
    Ok((identity.with_outbox(outbox), Some(postman)))
}
