//! The events of a second factor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    features::stream_keys::events::KeyDigest,
    id::{AccountId, SecondFactorId},
    vault::Sealed,
};

/// Somebody has got the secret of a second factor, which is in force once a code confirms it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Begun {
    /// The factor.
    pub factor: SecondFactorId,
    /// The account.
    pub account: AccountId,
    /// The secret in base 32 (RFC 4648 6).
    pub secret: Sealed,
}

/// A second factor is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmed {
    /// The factor.
    pub factor: SecondFactorId,
    /// The time step of the code that confirmed it.
    pub step: u64,
    /// The digests of the recovery codes.
    pub recovery: Vec<KeyDigest>,
}

/// A code was accepted. No code of its time step or an earlier one is accepted again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CodeUsed {
    /// The factor.
    pub factor: SecondFactorId,
    /// The time step.
    pub step: u64,
}

/// A recovery code was accepted, which is of no use any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryCodeUsed {
    /// The factor.
    pub factor: SecondFactorId,
    /// The code's digest.
    pub code: KeyDigest,
}

/// A second factor is no longer in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// The factor.
    pub factor: SecondFactorId,
}

events! {
    /// An event of a second factor.
    pub enum Event {
        Begun = "streamforge.second_factor.begun.v1" on factor,
        Confirmed = "streamforge.second_factor.confirmed.v1" on factor,
        CodeUsed = "streamforge.second_factor.code_used.v1" on factor,
        RecoveryCodeUsed = "streamforge.second_factor.recovery_code_used.v1" on factor,
        Removed = "streamforge.second_factor.removed.v1" on factor,
    }
}
