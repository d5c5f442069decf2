//! The types of events that a webhook receives.

use serde::{Deserialize, Serialize};

/// The greatest number of entries.
pub const MAX_ENTRIES: usize = 50;
/// The greatest length of an entry in bytes.
const MAX_BYTES: usize = 100;

/// Types of events, or beginnings of types, which end with `*`. By default all types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct TypeFilter(Vec<String>);

/// Why a list is not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is empty, or too long.
    #[error("a filter has 1 to {} entries", MAX_ENTRIES)]
    Entries,
    /// An entry is no type.
    #[error("an entry is a type of events, or its beginning with * at the end")]
    Entry,
}

impl TypeFilter {
    /// Whether events of this type are received.
    pub fn includes(&self, kind: &str) -> bool {
        self.0.iter().any(|entry| match entry.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => kind == entry,
        })
    }
}

impl Default for TypeFilter {
    fn default() -> Self {
        Self(vec!["*".to_owned()])
    }
}

impl TryFrom<Vec<String>> for TypeFilter {
    type Error = FilterError;

    fn try_from(entries: Vec<String>) -> Result<Self, FilterError> {
        if !(1..=MAX_ENTRIES).contains(&entries.len()) {
            return Err(FilterError::Entries);
        }
        let of_types =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
        let is_type = |entry: &String| {
            let beginning = entry.strip_suffix('*').unwrap_or(entry);
            (1..=MAX_BYTES).contains(&entry.len()) && beginning.chars().all(of_types)
        };
        match entries.iter().all(is_type) {
            true => Ok(Self(entries)),
            false => Err(FilterError::Entry),
        }
    }
}

impl From<TypeFilter> for Vec<String> {
    fn from(filter: TypeFilter) -> Self {
        filter.0
    }
}

impl schemars::JsonSchema for TypeFilter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TypeFilter".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "array", "minItems": 1, "maxItems": MAX_ENTRIES,
            "items": { "type": "string", "pattern": "^[a-z0-9._]{0,99}[a-z0-9._*]$" }
        })
    }
}
