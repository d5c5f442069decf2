//! The events of an account.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{actor::Role, events, id::AccountId, vault::Sealed};

/// Somebody has an account now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The account.
    pub account: AccountId,
    /// Its role.
    pub role: Role,
    /// The name that it shows.
    pub name: Sealed,
    /// Its e-mail address.
    pub email: Sealed,
    /// The password's hash in PHC format.
    pub password: Sealed,
    /// Whether the address needs no verification: an administrator vouches for it.
    pub is_verified: bool,
}

/// An account shows another name or description. Fields that are absent keep their value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileEdited {
    /// The account.
    pub account: AccountId,
    /// The name that it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
    /// The description of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Sealed>,
}

/// An account has another password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordSet {
    /// The account.
    pub account: AccountId,
    /// The password's hash in PHC format.
    pub password: Sealed,
}

/// The password of an account must be replaced at the next sign-in, because others know it: it was
/// printed or handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordExpired {
    /// The account.
    pub account: AccountId,
}

/// The owner of an account has shown that mail to its address arrives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EmailVerified {
    /// The account.
    pub account: AccountId,
}

/// An account has another address, which is not verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EmailChanged {
    /// The account.
    pub account: AccountId,
    /// Its e-mail address.
    pub email: Sealed,
}

/// An account has another role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoleChanged {
    /// The account.
    pub account: AccountId,
    /// Its role.
    pub role: Role,
}

/// An account and its personal data are gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Erased {
    /// The account.
    pub account: AccountId,
}

events! {
    /// An event of an account.
    pub enum Event {
        Registered = "streamforge.account.registered.v1" on account,
        ProfileEdited = "streamforge.account.profile_edited.v1" on account,
        PasswordSet = "streamforge.account.password_set.v1" on account,
        PasswordExpired = "streamforge.account.password_expired.v1" on account,
        EmailVerified = "streamforge.account.email_verified.v1" on account,
        EmailChanged = "streamforge.account.email_changed.v1" on account,
        RoleChanged = "streamforge.account.role_changed.v1" on account,
        Erased = "streamforge.account.erased.v1" on account,
    }
}

/// The type of [`Erased`], at which other features delete what the account owned.
pub const ERASED: &str = "streamforge.account.erased.v1";
