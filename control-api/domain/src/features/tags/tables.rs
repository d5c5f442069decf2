//! The tables of merged tags, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::Event;
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    rows::{Fault, RowsMut},
    table::Table,
    text::{Tag, folded},
};

/// A tag that was merged into another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The tag as the administrator wrote it.
    pub tag: Tag,
    /// The tag that it means.
    pub into: Tag,
}

/// Merged tags by their folded form.
pub const MERGED: Table<String, Merged> = Table::new("tags.merged");
/// The folded forms of the tags that were merged into a tag, by its folded form.
pub const BY_TARGET: Table<(String, String), ()> = Table::new("tags.by_target");

/// The greatest number of tags that are merged into one.
pub const MAX_OF_A_TAG: usize = 20;

/// Applies an event of a tag.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    match Event::read(envelope)? {
        Event::Merged(event) => {
            let key = folded(event.tag.as_str());
            separate(rows, &key)?;
            BY_TARGET.put(rows, &(folded(event.into.as_str()), key.clone()), &())?;
            MERGED.put(rows, &key, &Merged { tag: event.tag, into: event.into })
        }
        Event::Separated(event) => separate(rows, &folded(event.tag.as_str())),
    }
}

fn separate(rows: &mut dyn RowsMut, key: &String) -> Result<(), Fault> {
    let Some(merged) = MERGED.get(rows, key)? else { return Ok(()) };
    BY_TARGET.remove(rows, &(folded(merged.into.as_str()), key.clone()))?;
    MERGED.remove(rows, key)
}
