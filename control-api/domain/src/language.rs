//! Languages: tags of BCP 47 (RFC 5646).

use std::{fmt, str::FromStr};

use oxilangtag::LanguageTag;

/// A well-formed language tag in its usual case, such as `de` or `zh-Hant-TW`: at most 35
/// characters, which RFC 5646 4.4.1 asks implementations to provide for.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Language(String);

/// Why a text is not a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not a language tag of BCP 47, for example `de` or `pt-BR`, of at most 35 characters"
)]
pub struct NoLanguage;

/// The greatest length.
const MAX_LENGTH: usize = 35;

impl Language {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Language {
    type Err = NoLanguage;

    fn from_str(text: &str) -> Result<Self, NoLanguage> {
        if text.len() > MAX_LENGTH {
            return Err(NoLanguage);
        }
        let tag = LanguageTag::parse_and_normalize(text).map_err(|_| NoLanguage)?;
        Some(tag.into_inner()).filter(|tag| tag.len() <= MAX_LENGTH).map(Self).ok_or(NoLanguage)
    }
}

impl TryFrom<String> for Language {
    type Error = NoLanguage;

    fn try_from(text: String) -> Result<Self, NoLanguage> {
        text.parse()
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl schemars::JsonSchema for Language {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Language".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A language tag of BCP 47.",
            "minLength": 2,
            "maxLength": MAX_LENGTH,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_a_well_formed_tag_in_its_usual_case() {
        for (text, tag) in [("DE", "de"), ("pt-br", "pt-BR"), ("ZH-hant-tw", "zh-Hant-TW")] {
            assert_eq!(text.parse::<Language>().map(String::from).as_deref(), Ok(tag));
        }
        for refused in ["", "d", "german language", "de_AT", "de-", &"en-abcdefgh".repeat(9)] {
            assert!(refused.parse::<Language>().is_err(), "{refused}");
        }
    }
}
