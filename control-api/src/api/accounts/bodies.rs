//! The bodies of requests about accounts.

use control_domain::{
    Role, patch,
    text::{Description, DisplayName, Email},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::described::described;

/// An account to make. There is no `Debug`, because it has a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// The name. Names that look alike are the same.
    #[schema(schema_with = described::<DisplayName>)]
    pub(super) name: DisplayName,
    /// The e-mail address.
    #[schema(value_type = String, format = Email, max_length = 254)]
    pub(super) email: Email,
    /// The password.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    pub(super) password: String,
    /// The role. Only administrators may name one. Default: viewer.
    #[serde(default)]
    #[schema(schema_with = described::<Role>, required = false)]
    pub(super) role: Option<Role>,
}

/// Changes of a profile, as a merge patch: members that are absent keep their value. None can be
/// removed, so that null is refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfilePatch {
    /// The name.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<DisplayName>, required = false)]
    pub(super) name: Option<DisplayName>,
    /// The description of the person.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Description>, required = false)]
    pub(super) about: Option<Description>,
}

/// Another role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRole {
    /// The role.
    #[schema(schema_with = described::<Role>)]
    pub(super) role: Role,
}

/// Another password. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The present password. An administrator who sets the password of somebody else sends none.
    #[serde(default)]
    #[schema(required = false, max_length = 1024, format = Password)]
    pub(super) present: Option<String>,
    /// The password that replaces it.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    pub(super) password: String,
}
