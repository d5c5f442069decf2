//! Questions about merged tags. They read tables only.

pub use super::tables::Merged;
use super::tables::{BY_TARGET, MAX_OF_A_TAG, MERGED};
use crate::{
    audience::Audience,
    event::Envelope,
    rows::{Fault, Order, Rows},
    table::Beginning,
    text::{Tag, folded},
};

/// The tag that a tag means: itself, if it was not merged.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn meaning(rows: &dyn Rows, tag: &Tag) -> Result<Tag, Fault> {
    let merged = MERGED.get(rows, &folded(tag.as_str()))?;
    Ok(merged.map_or_else(|| tag.clone(), |merged| merged.into))
}

/// The folded forms of all tags that mean the same as this one, the meaning first: at most
/// [`MAX_OF_A_TAG`] and one.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn spellings(rows: &dyn Rows, tag: &Tag) -> Result<Vec<String>, Fault> {
    let meaning = folded(meaning(rows, tag)?.as_str());
    let mut spellings = vec![meaning.clone()];
    spellings.extend(merged_into(rows, &meaning)?);
    Ok(spellings)
}

/// The folded forms of the tags that were merged into the tag with this folded form.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn merged_into(rows: &dyn Rows, folded: &String) -> Result<Vec<String>, Fault> {
    let merged = BY_TARGET.page(rows, folded, None, Order::Up, MAX_OF_A_TAG)?;
    Ok(merged.into_iter().map(|((_, tag), ())| tag).collect())
}

/// At most `limit` merged tags whose folded forms begin with a text, behind the folded form
/// `after`.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn page(
    rows: &dyn Rows,
    beginning: &str,
    after: Option<&String>,
    limit: usize,
) -> Result<Vec<(String, Merged)>, Fault> {
    MERGED.page(rows, &Beginning(beginning), after, Order::Up, limit)
}

/// Everybody knows the meanings of tags.
///
/// # Errors
/// None.
pub fn audience(_: &dyn Rows, _: &Envelope) -> Result<Audience, Fault> {
    Ok(Audience::Anyone)
}
