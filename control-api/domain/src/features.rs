//! The features of the platform, one folder each. Another feature is another line in [`ALL`].

use crate::{feature::Feature, permission::Permission};

pub mod accounts;
pub mod api_keys;
pub mod audit;
pub mod categories;
pub mod channels;
pub mod follows;
pub mod identities;
pub mod pictures;
pub mod reactions;
pub mod second_factors;
pub mod sessions;
pub mod stream_keys;
pub mod tags;
pub mod videos;
pub mod views;
pub mod webhooks;

/// All features, in the order in which they fold an event that several of them fold.
pub const ALL: &[&Feature] = &[
    &accounts::FEATURE,
    &sessions::FEATURE,
    &api_keys::FEATURE,
    &second_factors::FEATURE,
    &identities::FEATURE,
    &channels::FEATURE,
    &stream_keys::FEATURE,
    &categories::FEATURE,
    &tags::FEATURE,
    &videos::FEATURE,
    &follows::FEATURE,
    &reactions::FEATURE,
    &views::FEATURE,
    &webhooks::FEATURE,
    &audit::FEATURE,
    &pictures::FEATURE,
];

/// The table of permissions: who may send each command.
pub fn permissions() -> impl Iterator<Item = &'static Permission> {
    ALL.iter().flat_map(|feature| feature.permissions)
}

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod tests;
