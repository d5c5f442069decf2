//! A stream of the other process, as its API lists it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A stream as the other process lists it. Kept as it is, and not parsed into our own type, because
/// the other process may be an older version with other members.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Theirs(Map<String, Value>);

impl Theirs {
    /// The channel's name, if it is listed in a form that is known here.
    pub(super) fn channel(&self) -> Option<&str> {
        self.0.get("channel")?.as_str()
    }

    /// Marks a stream as draining. The other process cannot do so, because it does not know that it
    /// was replaced in this list.
    pub(super) fn mark(mut self) -> Self {
        self.0.insert("draining".into(), true.into());
        self
    }
}
