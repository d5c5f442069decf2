//! The events of a session.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    id::{AccountId, SessionId},
    vault::Sealed,
};

/// Somebody has signed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// The session.
    pub session: SessionId,
    /// The account.
    pub account: AccountId,
    /// The name of the device.
    pub device: Sealed,
}

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its owner signed out on the device.
    SignedOut,
    /// Its owner or an administrator ended it from elsewhere.
    Revoked,
    /// A refresh token was used a second time: somebody has a copy of it.
    Reused,
    /// The account has another password.
    PasswordChanged,
    /// It was too old, or not used for too long.
    Expired,
    /// The account has signed in on too many other devices since.
    Displaced,
}

/// A session has ended. Its tokens are no longer valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// The session.
    pub session: SessionId,
    /// The reason.
    pub reason: Reason,
}

events! {
    /// An event of a session.
    pub enum Event {
        Started = "streamforge.session.started.v1" on session,
        Ended = "streamforge.session.ended.v1" on session,
    }
}
