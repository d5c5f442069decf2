//! The file of fixtures. Its JSON Schema is conf/fixtures/fixtures.schema.json.
//!
//! Passwords stand in it as they are, because it is for demonstrations. They are hashed as all
//! others are before they are stored.

use control_domain::{
    Role,
    features::{
        categories::events::Translations,
        channels::events::Visibility as ChannelVisibility,
        follows::events::Notices,
        reactions::events::Reaction,
        videos::{
            details::{Chapters, Tags, Visibility},
            state::Media,
        },
    },
    language::Language,
    text::{
        CategoryName, ChannelName, ChannelTitle, Description, DisplayName, Email, KeyName, Tag,
        VideoTitle,
    },
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::when::When;
use crate::problem::Fault;

/// The things of a platform. People, channels and videos are named as in their own entries; a
/// channel, person or category may also exist already.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fixtures {
    /// The address of this schema, for editors.
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    /// Categories, beside those with which a platform begins.
    pub(super) categories: Vec<Category>,
    /// Tags that mean another one.
    pub(super) tags: Vec<MergedTag>,
    /// The accounts.
    pub(super) people: Vec<Person>,
    /// The channels.
    pub(super) channels: Vec<Channel>,
    /// The videos. They have no media: they are listed, and cannot be played.
    pub(super) videos: Vec<Video>,
    /// Who follows which channel.
    pub(super) follows: Vec<Follow>,
    /// Who likes which video.
    pub(super) reactions: Vec<React>,
}

/// A category.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Category {
    /// Its name.
    pub(super) name: CategoryName,
    /// Its names in other languages.
    #[serde(default)]
    pub(super) translations: Translations,
}

/// A tag that means another one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MergedTag {
    /// The tag.
    pub(super) tag: Tag,
    /// The tag that it means.
    pub(super) into: Tag,
}

/// An account, with a verified address. There is no `Debug` for the password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    /// The name that it shows, by which other entries name it.
    pub(super) name: DisplayName,
    /// Its address, by which it signs in.
    #[schemars(schema_with = "address")]
    pub(super) email: Email,
    /// Its password. It is for a demonstration: everybody who reads the file knows it.
    #[schemars(length(min = 8, max = 128))]
    pub(super) password: String,
    /// Its role.
    #[serde(default = "viewer")]
    pub(super) role: Role,
    /// A description of the person.
    #[serde(default)]
    pub(super) about: Option<Description>,
    /// When it was made. Default: now.
    #[serde(default)]
    pub(super) registered: Option<When>,
}

fn address(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "email", "maxLength": 254 })
}

fn viewer() -> Role {
    Role::Viewer
}

/// A channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Channel {
    /// Its name in addresses.
    pub(super) name: ChannelName,
    /// The name of the person that owns it.
    pub(super) owner: DisplayName,
    /// Its title.
    pub(super) title: ChannelTitle,
    /// Its description.
    #[serde(default)]
    pub(super) description: Option<Description>,
    /// Its visibility. Default: public.
    #[serde(default = "public")]
    pub(super) visibility: ChannelVisibility,
    /// When it was made. Default: now.
    #[serde(default)]
    pub(super) created: Option<When>,
    /// Its stream keys.
    #[serde(default)]
    pub(super) stream_keys: Vec<StreamKey>,
}

fn public() -> ChannelVisibility {
    ChannelVisibility::Public
}

/// A stream key. There is no `Debug` for the secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamKey {
    /// Its name.
    pub(super) name: KeyName,
    /// The key itself, for the encoder: 16 to 128 letters, digits, `-` and `_`. Everybody who reads
    /// the file can publish with it. Default: a random one, which is printed once.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{16,128}$"))]
    pub(super) secret: Option<String>,
}

/// A video. There is no `Debug` for the password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Video {
    /// The name of its channel.
    pub(super) channel: ChannelName,
    /// Its title, which no other video of the channel in this file has.
    pub(super) title: VideoTitle,
    /// Its description.
    #[serde(default)]
    pub(super) description: Option<Description>,
    /// Its tags.
    #[serde(default)]
    pub(super) tags: Tags,
    /// The name of its category.
    #[serde(default)]
    pub(super) category: Option<CategoryName>,
    /// The language that is spoken.
    #[serde(default)]
    pub(super) language: Option<Language>,
    /// Its visibility. Default: private.
    #[serde(default)]
    pub(super) visibility: Visibility,
    /// The password, for the visibility `password`.
    #[serde(default)]
    #[schemars(length(min = 8, max = 128))]
    pub(super) password: Option<String>,
    /// Its chapters.
    #[serde(default)]
    pub(super) chapters: Chapters,
    /// The properties of its media. Without them it is a draft.
    #[serde(default)]
    pub(super) media: Option<Media>,
    /// When it was made and published. It needs `media`.
    #[serde(default)]
    pub(super) published: Option<When>,
    /// When it is to be published.
    #[serde(default)]
    pub(super) publish_at: Option<When>,
}

/// A follow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Follow {
    /// The name of the person.
    pub(super) person: DisplayName,
    /// The name of the channel.
    pub(super) channel: ChannelName,
    /// The notices that the person wants.
    #[serde(default)]
    pub(super) notices: Notices,
    /// Since when. Default: now.
    #[serde(default)]
    pub(super) since: Option<When>,
}

/// A reaction.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct React {
    /// The name of the person.
    pub(super) person: DisplayName,
    /// The name of the video's channel.
    pub(super) channel: ChannelName,
    /// The title of the video.
    pub(super) video: VideoTitle,
    /// The reaction.
    pub(super) reaction: Reaction,
    /// When. Default: now.
    #[serde(default)]
    pub(super) at: Option<When>,
}

macro_rules! masked {
    ($($name:ident),+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )+};
}

masked!(Person, StreamKey, Video);

impl Fixtures {
    /// Reads fixtures.
    ///
    /// # Errors
    /// The fault, with its place as a JSON Pointer.
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let fixtures = serde_path_to_error::deserialize(&mut json).map_err(|err| {
            let pointer = pointer(err.path());
            Fault { pointer: pointer.into(), detail: err.into_inner().to_string().into() }
        })?;
        json.end().map_err(|err| Fault { pointer: "".into(), detail: err.to_string().into() })?;
        Ok(fixtures)
    }
}

/// A path as a JSON Pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |mut pointer, segment| {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => {
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { variant } => pointer.push_str(variant),
            Segment::Unknown => pointer.push('?'),
        }
        pointer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_place_in_the_file() {
        for (text, pointer, detail) in [
            (r#"{"videos":[{"channel":"a","title":"x"}]}"#, "/videos/0/title", "3 to 120"),
            (r#"{"people":[{"name":"a"}]}"#, "/people/0", "missing field `email`"),
            (r#"{"peeple":[]}"#, "/peeple", "unknown field"),
            (
                r#"{"follows":[{"person":"a","channel":"b","since":"soon"}]}"#,
                "/follows/0/since",
                "-3d",
            ),
            (r#"{"people":["#, "/people", "EOF"),
            (r#"{} x"#, "", "trailing"),
        ] {
            let fault = Fixtures::parse(text.as_bytes()).expect_err("a fault");
            assert_eq!(fault.pointer, pointer, "{fault:?}");
            assert!(fault.detail.contains(detail), "{fault:?}");
        }
    }

    #[test]
    fn secrets_of_fixtures_are_not_printed() {
        let text = r#"{"people":[{"name":"a","email":"a@b.c","password":"geheim-77"}],
            "channels":[{"name":"a","owner":"a","title":"a",
                "stream_keys":[{"name":"k","secret":"geheim-77geheim-77"}]}],
            "videos":[{"channel":"a","title":"abc","password":"geheim-77"}]}"#;
        let fixtures = Fixtures::parse(text.as_bytes()).expect("valid");
        assert!(!format!("{fixtures:?}").contains("geheim"));
    }
}
