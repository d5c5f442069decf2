//! The properties of a video that its owner chooses.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::CategoryId,
    language::Language,
    patch,
    text::{ChapterTitle, Description, Tag, VideoTitle, folded},
};

/// The viewers that may watch a video and find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody, and it is listed.
    Public,
    /// Everybody who has the address; it is not listed.
    Unlisted,
    /// Viewers with a playback token.
    #[default]
    Private,
    /// Members of the channel, with a playback token.
    Members,
    /// Everybody who is signed in, and it is listed for them.
    Internal,
    /// Everybody who has the address and the password; it is not listed.
    Password,
}

/// The tags of a video: at most five, and none twice in its folded form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Tag>")]
pub struct Tags(Vec<Tag>);

/// There are too many tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a video has at most {} tags", Tags::MAX)]
pub struct TooManyTags;

impl Tags {
    /// The greatest number.
    pub const MAX: usize = 5;

    /// The tags, in the order of their owner.
    pub fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.0.iter()
    }
}

impl TryFrom<Vec<Tag>> for Tags {
    type Error = TooManyTags;

    /// A tag that is there already is left out.
    fn try_from(mut tags: Vec<Tag>) -> Result<Self, TooManyTags> {
        if tags.len() > Self::MAX {
            return Err(TooManyTags);
        }
        let mut seen = BTreeSet::new();
        tags.retain(|tag| seen.insert(folded(tag.as_str())));
        Ok(Self(tags))
    }
}

impl JsonSchema for Tags {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tags".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let tag = generator.subschema_for::<Tag>();
        schemars::json_schema!({ "type": "array", "items": tag, "maxItems": Self::MAX })
    }
}

/// A chapter of a video, which ends where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chapter {
    /// Its beginning in milliseconds of the video.
    pub start_ms: u64,
    /// Its title.
    pub title: ChapterTitle,
}

/// The chapters of a video: none, or at most 100, of which the first begins at 0 and each other
/// one after the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Chapter>")]
pub struct Chapters(Vec<Chapter>);

/// Why chapters are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChaptersError {
    /// There are too many.
    #[error("a video has at most {} chapters", Chapters::MAX)]
    TooMany,
    /// The first one begins later.
    #[error("the first chapter begins at {0} ms, it must begin at 0")]
    First(u64),
    /// Two are in the wrong order, or one.
    #[error("a chapter begins at {0} ms, which is not after the one before it")]
    Order(u64),
}

impl Chapters {
    /// The greatest number.
    pub const MAX: usize = 100;

    /// The chapters, from the beginning of the video.
    pub fn iter(&self) -> impl Iterator<Item = &Chapter> {
        self.0.iter()
    }
}

impl TryFrom<Vec<Chapter>> for Chapters {
    type Error = ChaptersError;

    fn try_from(chapters: Vec<Chapter>) -> Result<Self, ChaptersError> {
        if chapters.len() > Self::MAX {
            return Err(ChaptersError::TooMany);
        }
        if let Some(first) = chapters.first().filter(|first| first.start_ms > 0) {
            return Err(ChaptersError::First(first.start_ms));
        }
        match chapters.windows(2).find(|pair| pair[1].start_ms <= pair[0].start_ms) {
            Some(pair) => Err(ChaptersError::Order(pair[1].start_ms)),
            None => Ok(Self(chapters)),
        }
    }
}

impl JsonSchema for Chapters {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Chapters".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let chapter = generator.subschema_for::<Chapter>();
        schemars::json_schema!({ "type": "array", "items": chapter, "maxItems": Self::MAX })
    }
}

/// The properties of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Details {
    /// Its title.
    pub title: VideoTitle,
    /// Its description.
    pub description: Description,
    /// Its tags.
    pub tags: Tags,
    /// Its category. It may have been removed.
    pub category: Option<CategoryId>,
    /// The language that is spoken.
    pub language: Option<Language>,
    /// Its visibility, once it is published.
    pub visibility: Visibility,
    /// Its chapters.
    pub chapters: Chapters,
}

/// Properties that change. Fields that are absent keep their value, `null` removes a value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Edits {
    /// The title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<VideoTitle>,
    /// The description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// The tags, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// The category.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "patch::nullable"
    )]
    pub category: Option<Option<CategoryId>>,
    /// The language that is spoken.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "patch::nullable"
    )]
    pub language: Option<Option<Language>>,
    /// The visibility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// The chapters, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chapters: Option<Chapters>,
}

impl Details {
    /// The edits without those that change nothing.
    pub(super) fn effective(&self, edits: Edits) -> Edits {
        Edits {
            title: edits.title.filter(|new| *new != self.title),
            description: edits.description.filter(|new| *new != self.description),
            tags: edits.tags.filter(|new| *new != self.tags),
            category: edits.category.filter(|new| *new != self.category),
            language: edits.language.filter(|new| *new != self.language),
            visibility: edits.visibility.filter(|new| *new != self.visibility),
            chapters: edits.chapters.filter(|new| *new != self.chapters),
        }
    }

    /// Carries out edits.
    pub(super) fn edit(&mut self, edits: Edits) {
        set(&mut self.title, edits.title);
        set(&mut self.description, edits.description);
        set(&mut self.tags, edits.tags);
        set(&mut self.category, edits.category);
        set(&mut self.language, edits.language);
        set(&mut self.visibility, edits.visibility);
        set(&mut self.chapters, edits.chapters);
    }
}

fn set<T>(field: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *field = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_has_at_most_five_tags_and_none_twice() {
        let tags = |texts: &[&str]| {
            let tags = texts.iter().map(|text| text.parse().expect("a tag"));
            let tags = Tags::try_from(tags.collect::<Vec<Tag>>())?;
            Ok(tags.iter().map(Tag::to_string).collect::<Vec<_>>())
        };
        assert_eq!(tags(&["Go", "rust", "GO"]), Ok(vec!["Go".to_owned(), "rust".to_owned()]));
        assert!(tags(&["aa", "bb", "cc", "dd", "ee"]).is_ok());
        assert_eq!(tags(&["aa", "bb", "cc", "dd", "ee", "ff"]), Err(TooManyTags));
        assert!("x".parse::<Tag>().is_err() && "x".repeat(31).parse::<Tag>().is_err());
    }

    #[test]
    fn chapters_begin_at_zero_and_one_after_the_other() {
        let chapters = |starts: &[u64]| {
            let chapter = |start_ms: &u64| Chapter {
                start_ms: *start_ms,
                title: "A chapter".parse().expect("a title"),
            };
            Chapters::try_from(starts.iter().map(chapter).collect::<Vec<_>>()).map(drop)
        };
        assert_eq!(chapters(&[]), Ok(()));
        assert_eq!(chapters(&[0, 1, 60_000]), Ok(()));
        assert_eq!(chapters(&[1, 2]), Err(ChaptersError::First(1)));
        assert_eq!(chapters(&[0, 5, 5]), Err(ChaptersError::Order(5)));
        assert_eq!(chapters(&[0, 5, 4]), Err(ChaptersError::Order(4)));
        assert_eq!(chapters(&(0..101).collect::<Vec<_>>()), Err(ChaptersError::TooMany));
        assert!("x".repeat(101).parse::<ChapterTitle>().is_err());
    }

    #[test]
    fn an_edit_that_repeats_the_present_values_changes_nothing() {
        let details = Details {
            title: "A title".parse().expect("a title"),
            description: "Words".parse().expect("a text"),
            tags: Tags::default(),
            category: None,
            language: Some("de".parse().expect("a language")),
            visibility: Visibility::Public,
            chapters: Chapters::default(),
        };
        let json = serde_json::to_string(&details).expect("JSON");
        let all: Edits = serde_json::from_str(&json).expect("the same fields");
        assert_eq!(all.category, Some(None), "null is a value");
        assert_eq!(details.effective(all), Edits::default());
        let edits = Edits { language: Some(None), ..Edits::default() };
        let effective = details.effective(edits.clone());
        assert_eq!(effective, edits);
        let mut edited = details.clone();
        edited.edit(effective);
        assert_eq!(edited, Details { language: None, ..details });
    }
}
