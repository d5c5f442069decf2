//! The features of the platform, one folder each. Another feature is another line in [`ALL`].

use crate::{feature::Feature, permission::Permission};

pub mod accounts;
pub mod api_keys;
pub mod channels;
pub mod sessions;
pub mod stream_keys;

/// All features, in the order in which they fold an event that several of them fold.
pub const ALL: &[&Feature] = &[
    &accounts::FEATURE,
    &sessions::FEATURE,
    &api_keys::FEATURE,
    &channels::FEATURE,
    &stream_keys::FEATURE,
];

/// The table of permissions: who may send each command.
pub fn permissions() -> impl Iterator<Item = &'static Permission> {
    ALL.iter().flat_map(|feature| feature.permissions)
}

#[cfg(test)]
mod tests;
