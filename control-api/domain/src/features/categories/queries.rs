//! Questions about categories. They read tables only.

use super::tables::{BY_NAME, CATEGORIES, Category, LIST, ORDER};
use crate::{
    audience::Audience,
    command::Refusal,
    event::Envelope,
    id::CategoryId,
    language::Language,
    rows::{Fault, Rows},
    text::{CategoryName, folded},
};

/// A category, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn category(rows: &dyn Rows, id: CategoryId) -> Result<Category, Refusal> {
    CATEGORIES.get(rows, &id)?.ok_or(Refusal::NotFound { thing: "category" })
}

/// The category with a name, in any case.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn by_name(rows: &dyn Rows, name: &CategoryName) -> Result<Option<CategoryId>, Fault> {
    BY_NAME.get(rows, &folded(name.as_str()))
}

/// All categories in their order: at most [`super::tables::MAX`].
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn all(rows: &dyn Rows) -> Result<Vec<(CategoryId, Category)>, Fault> {
    let order = ORDER.get(rows, &LIST)?.unwrap_or_default();
    let mut all = Vec::with_capacity(order.len());
    for id in order {
        all.extend(CATEGORIES.get(rows, &id)?.map(|category| (id, category)));
    }
    Ok(all)
}

/// Whether no category was ever made: the platform needs its start set. It stays `false` when an
/// administrator removes all of them.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn is_new(rows: &dyn Rows) -> Result<bool, Fault> {
    Ok(!ORDER.contains(rows, &LIST)?)
}

/// The name of a category for a reader of this language: the translation for the tag or, as in
/// RFC 4647 3.4, for the tag without its last parts; otherwise the name.
pub fn name<'a>(category: &'a Category, language: &Language) -> &'a str {
    let mut range = Some(language.clone());
    while let Some(tag) = range {
        if let Some(name) = category.translations.get(&tag) {
            return name.as_str();
        }
        // A single letter introduces an extension and does not end a tag.
        let shorter = tag.as_str().rsplit_once('-').map(|(head, _)| head);
        let shorter = shorter.map(|head| match head.rsplit_once('-') {
            Some((head, last)) if last.len() == 1 => head,
            _ => head,
        });
        range = shorter.and_then(|tag| tag.parse().ok());
    }
    category.name.as_str()
}

/// Everybody knows the categories.
///
/// # Errors
/// None.
pub fn audience(_: &dyn Rows, _: &Envelope) -> Result<Audience, Fault> {
    Ok(Audience::Anyone)
}
