//! `[api]`: the administrator, and the limits and origins of the API.

use control_api::{
    KeyDigest,
    cors::Origins,
    rate::{Limit, Limits, Rate},
};
use serde::Deserialize;

use super::{
    error::Error,
    secret::{Hashed, Plain},
};

/// The administrator, and the clients of the API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    /// The token in plain text; only its hash is kept in memory.
    admin_token: Option<Plain>,
    /// The token's SHA-256 in hexadecimal digits, instead of `admin_token`.
    admin_token_sha256: Option<Hashed>,
    /// The origins whose pages may use the API. Default none.
    cors_origins: Origins,
    /// The rate of all requests of one address. Default `50/10s`.
    limit: Rate,
    /// The rate of sign-ins. Default `15/5m`.
    login_limit: Rate,
    /// The rate of new accounts. Default `2/5m`.
    sign_up_limit: Rate,
    /// The rate of requests that send a mail. Default `3/5m`.
    mail_limit: Rate,
    /// The rate of requests with a token that was sent by mail. Default `10/5m`.
    mailed_token_limit: Rate,
}

impl Default for Api {
    fn default() -> Self {
        let Limits { api, login, sign_up, mail, mailed_token } = Limits::default();
        Self {
            admin_token: None,
            admin_token_sha256: None,
            cors_origins: Origins::default(),
            limit: Rate(api),
            login_limit: Rate(login),
            sign_up_limit: Rate(sign_up),
            mail_limit: Rate(mail),
            mailed_token_limit: Rate(mailed_token),
        }
    }
}

impl Api {
    /// The administrator's token, if there is one.
    pub(crate) fn administrator(&self) -> Option<KeyDigest> {
        self.admin_token.map(|plain| plain.0).or(self.admin_token_sha256.map(|hashed| hashed.0))
    }

    /// The rates of all classes of routes.
    pub(crate) fn limits(&self) -> Limits {
        let of = |Rate(limit): Rate| -> Option<Limit> { limit };
        Limits {
            api: of(self.limit),
            login: of(self.login_limit),
            sign_up: of(self.sign_up_limit),
            mail: of(self.mail_limit),
            mailed_token: of(self.mailed_token_limit),
        }
    }

    /// The origins whose pages may use the API.
    pub(crate) fn origins(&self) -> Origins {
        self.cors_origins.clone()
    }

    /// Checks that there is one token at most.
    pub(super) fn check(&self) -> Result<(), Error> {
        match (&self.admin_token, &self.admin_token_sha256) {
            (Some(_), Some(_)) => Err(Error::TwoTokens),
            _ => Ok(()),
        }
    }
}
