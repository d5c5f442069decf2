//! The tables of categories, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::{Event, Made, Translations};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    id::CategoryId,
    rows::{Fault, RowsMut},
    table::Table,
    text::{CategoryName, folded},
};

/// A category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Its name where there is no translation.
    pub name: CategoryName,
    /// Its names in other languages.
    pub translations: Translations,
    /// The number of its changes, for conditional edits.
    pub version: u64,
}

/// All categories.
pub const CATEGORIES: Table<CategoryId, Category> = Table::new("categories.categories");
/// Categories by their folded name.
pub const BY_NAME: Table<String, CategoryId> = Table::new("categories.by_name");
/// The order of the list: a single row, which exists once a category was made.
pub const ORDER: Table<u64, Vec<CategoryId>> = Table::new("categories.order");

/// The key of the single row of [`ORDER`].
pub const LIST: u64 = 0;
/// The greatest number of categories.
pub const MAX: usize = 100;

/// Applies an event of a category.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    match Event::read(envelope)? {
        Event::Made(event) => {
            let Made { category, name, translations } = event;
            BY_NAME.put(rows, &folded(name.as_str()), &category)?;
            CATEGORIES.put(rows, &category, &Category { name, translations, version: 1 })?;
            place(rows, category, Some(usize::MAX))
        }
        Event::Renamed(event) => {
            let Some(mut category) = CATEGORIES.get(rows, &event.category)? else { return Ok(()) };
            BY_NAME.remove(rows, &folded(category.name.as_str()))?;
            BY_NAME.put(rows, &folded(event.name.as_str()), &event.category)?;
            category.name = event.name;
            category.translations = event.translations;
            category.version += 1;
            CATEGORIES.put(rows, &event.category, &category)
        }
        Event::Moved(event) => {
            let position = usize::try_from(event.position).unwrap_or(usize::MAX);
            place(rows, event.category, Some(position))
        }
        Event::Removed(event) => {
            let Some(category) = CATEGORIES.get(rows, &event.category)? else { return Ok(()) };
            BY_NAME.remove(rows, &folded(category.name.as_str()))?;
            CATEGORIES.remove(rows, &event.category)?;
            place(rows, event.category, None)
        }
    }
}

/// Puts a category at a position of the list, or takes it out.
fn place(
    rows: &mut dyn RowsMut,
    category: CategoryId,
    position: Option<usize>,
) -> Result<(), Fault> {
    let mut order = ORDER.get(rows, &LIST)?.unwrap_or_default();
    order.retain(|other| *other != category);
    if let Some(position) = position {
        order.insert(position.min(order.len()), category);
    }
    ORDER.put(rows, &LIST, &order)
}
