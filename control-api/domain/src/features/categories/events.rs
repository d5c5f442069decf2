//! The events of a category.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{events, id::CategoryId, language::Language, text::CategoryName};

/// The names of a category in other languages, at most [`Translations::MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Language, CategoryName>")]
pub struct Translations(BTreeMap<Language, CategoryName>);

/// There are too many translations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a category has at most {} translations", Translations::MAX)]
pub struct TooManyTranslations;

impl Translations {
    /// The greatest number.
    pub const MAX: usize = 100;

    /// The name in exactly this language.
    pub fn get(&self, language: &Language) -> Option<&CategoryName> {
        self.0.get(language)
    }

    /// All translations, ordered by language.
    pub fn iter(&self) -> impl Iterator<Item = (&Language, &CategoryName)> {
        self.0.iter()
    }
}

impl TryFrom<BTreeMap<Language, CategoryName>> for Translations {
    type Error = TooManyTranslations;

    fn try_from(names: BTreeMap<Language, CategoryName>) -> Result<Self, TooManyTranslations> {
        match names.len() {
            ..=Self::MAX => Ok(Self(names)),
            _ => Err(TooManyTranslations),
        }
    }
}

impl JsonSchema for Translations {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Translations".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "Names by language tag of BCP 47.",
            "additionalProperties": generator.subschema_for::<CategoryName>(),
            "maxProperties": Self::MAX,
        })
    }
}

/// There is another category, at the end of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Made {
    /// The category.
    pub category: CategoryId,
    /// Its name where there is no translation.
    pub name: CategoryName,
    /// Its names in other languages.
    pub translations: Translations,
}

/// A category has another name or other translations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Renamed {
    /// The category.
    pub category: CategoryId,
    /// Its name where there is no translation.
    pub name: CategoryName,
    /// Its names in other languages, all of them.
    pub translations: Translations,
}

/// A category is at another position of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    /// The category.
    pub category: CategoryId,
    /// The number of categories before it.
    pub position: u32,
}

/// A category is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// The category.
    pub category: CategoryId,
}

events! {
    /// An event of a category.
    pub enum Event {
        Made = "streamforge.category.made.v1" on category,
        Renamed = "streamforge.category.renamed.v1" on category,
        Moved = "streamforge.category.moved.v1" on category,
        Removed = "streamforge.category.removed.v1" on category,
    }
}
