//! The events of a tag.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{events, text::Tag};

/// A tag means another one now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Merged {
    /// The tag.
    pub tag: Tag,
    /// The tag that it means, which is merged into no other.
    pub into: Tag,
}

/// A tag means itself again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Separated {
    /// The tag.
    pub tag: Tag,
}

events! {
    /// An event of a tag.
    pub enum Event {
        Merged = "streamforge.tag.merged.v1" on tag,
        Separated = "streamforge.tag.separated.v1" on tag,
    }
}
