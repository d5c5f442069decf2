//! `[smtp]`: the server through which the platform sends mail.

use std::path::PathBuf;

use control_api::mail::smtp::{self, Smtp, Url};
use serde::{Deserialize, Deserializer};

/// The mail server. Without `url` no mail is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mail {
    /// The server with its credentials; empty for none.
    #[serde(deserialize_with = "url")]
    url: Option<Url>,
    /// The sender.
    from: String,
    /// Certificate authorities in PEM, beside those of the system; empty for none.
    ca: PathBuf,
}

impl Mail {
    /// The connection to the server, if one is configured. Blocks for files.
    pub(crate) fn server(&self) -> Result<Option<Smtp>, smtp::Error> {
        self.url.as_ref().map(|url| Smtp::new(url, &self.from, &self.ca)).transpose()
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(Some(text).filter(|text| !text.is_empty()).map(Url::new))
}
