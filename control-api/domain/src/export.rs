//! The part of a feature in the export of a person's data. Each feature declares it, so that a new
//! one cannot forget it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{
    id::AccountId,
    rows::{Fault, Rows},
    table::Key,
    vault::Vault,
};

/// Entries of one portion.
pub const PORTION: usize = 100;

/// The part of a feature in an export.
#[derive(Debug, Clone, Copy)]
pub enum Export {
    /// The feature has nothing that belongs to a person, for this reason.
    Nothing(&'static str),
    /// A member of the export with this name and one value.
    One(&'static str, fn(&ExportOf<'_>) -> Result<Value, Fault>),
    /// A member of the export with this name, and a list as its value, which is read in portions:
    /// the first without a key, and each further one behind the key of the one before.
    Many(&'static str, fn(&ExportOf<'_>, Option<&[u8]>) -> Result<Portion, Fault>),
}

impl Export {
    /// The name of the member.
    pub const fn member(&self) -> Option<&'static str> {
        match self {
            Self::Nothing(_) => None,
            Self::One(member, _) | Self::Many(member, _) => Some(member),
        }
    }
}

/// The person whose data are exported, and the tables that have them.
#[derive(Clone, Copy)]
pub struct ExportOf<'a> {
    /// The tables.
    pub rows: &'a dyn Rows,
    /// Opens personal data.
    pub vault: &'a dyn Vault,
    /// Their account.
    pub id: AccountId,
}

impl fmt::Debug for ExportOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportOf").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A portion of a list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Portion {
    /// The entries.
    pub items: Vec<Value>,
    /// The key behind which the next portion begins; `None` at the end.
    pub next: Option<Vec<u8>>,
}

impl Portion {
    /// A list that is short.
    pub fn whole(items: Vec<Value>) -> Self {
        Self { items, next: None }
    }

    /// A page of at most [`PORTION`] rows that was read with this limit, with their keys.
    pub fn page<K: Key>(rows: impl IntoIterator<Item = (K, Option<Value>)>) -> Self {
        let (mut items, mut last, mut count) = (Vec::new(), None, 0);
        for (key, item) in rows {
            count += 1;
            items.extend(item);
            last = Some(key);
        }
        // A page that is not full is the last.
        let next = last.filter(|_| count >= PORTION).map(|key| {
            let mut bytes = Vec::new();
            key.write(&mut bytes);
            bytes
        });
        Self { items, next }
    }
}

/// The key of a portion.
///
/// # Errors
/// [`Fault::Row`] for bytes that are no key of this table.
pub fn after<K: Key>(table: &'static str, key: Option<&[u8]>) -> Result<Option<K>, Fault> {
    let Some(mut rest) = key else { return Ok(None) };
    K::parse(&mut rest).filter(|_| rest.is_empty()).ok_or(Fault::Row { table }).map(Some)
}

/// A value as JSON.
///
/// # Errors
/// [`Fault::Event`] for one that JSON cannot express; there is none.
pub fn json(value: &impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(value).map_err(|error| Fault::Event { kind: "export".to_owned(), error })
}
