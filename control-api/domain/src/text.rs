//! Bounded texts from outside. A type's limits are checked when a value is made, so that a value
//! cannot be wrong; the schema in the API's description has the same limits.

use unicode_normalization::UnicodeNormalization as _;

/// Why a text is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is too short or too long.
    #[error("it has {length} characters; {min} to {max} are allowed")]
    Length {
        /// Its characters, after normalisation.
        length: usize,
        /// The least number.
        min: usize,
        /// The greatest number.
        max: usize,
    },
    /// It contains a control character.
    #[error("it contains a control character")]
    Control,
    /// It contains a character that this kind of text may not have.
    #[error("it contains {0:?}; {1} are allowed")]
    Character(char, &'static str),
    /// It is not an e-mail address.
    #[error("it is not an e-mail address")]
    Address,
}

/// Normalises (Unicode NFKC) and trims a text of one or several lines, and checks its length in
/// characters.
///
/// # Errors
/// [`TextError::Length`], [`TextError::Control`].
pub fn check(text: &str, min: usize, max: usize, has_lines: bool) -> Result<String, TextError> {
    // Normalisation can grow a character eighteen times, so the input is bounded before it.
    let length = text.trim().chars().take(max.saturating_mul(4) + 1).count();
    if length > max.saturating_mul(4) {
        return Err(TextError::Length { length, min, max });
    }
    let text = text.trim().nfkc().collect::<String>();
    let allowed = |c: char| !c.is_control() || (has_lines && matches!(c, '\n' | '\t'));
    if !text.chars().all(allowed) {
        return Err(TextError::Control);
    }
    match text.chars().count() {
        length if (min..=max).contains(&length) => Ok(text),
        length => Err(TextError::Length { length, min, max }),
    }
}

/// Two names that look alike to a reader have the same folded form, which is compared for
/// uniqueness: NFKC and lower case.
pub fn folded(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

/// Declares text types with their limits in characters: `line` for one line, `lines` for several.
macro_rules! texts {
    (@lines line) => { false };
    (@lines lines) => { true };
    ($($(#[$doc:meta])* $name:ident: $kind:ident $min:literal..=$max:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                check(&text, $min, $max, texts!(@lines $kind)).map(Self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                check(text, $min, $max, texts!(@lines $kind)).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "minLength": $min, "maxLength": $max })
            }
        }
    )*};
}

texts! {
    /// The name that an account shows.
    DisplayName: line 1..=50,
    /// A channel's title.
    ChannelTitle: line 1..=120,
    /// A description of a channel or video.
    Description: lines 0..=10_000,
    /// The name of a device on which somebody is signed in.
    DeviceName: line 1..=100,
    /// The name that its owner gives a key.
    KeyName: line 1..=64,
    /// A video's title.
    VideoTitle: line 3..=120,
    /// The title of a chapter of a video.
    ChapterTitle: line 1..=100,
    /// A tag of a video.
    Tag: line 2..=30,
    /// The name of a category in one language.
    CategoryName: line 1..=50,
    /// The reason of a failure, for the person that it concerns.
    Reason: line 1..=300,
    /// The name of an operation of the daemon: `thing.verb`.
    OperationName: line 3..=64,
    /// The thing that an operation of the daemon was about.
    OperationSubject: line 1..=500,
    /// The value that an operation of the daemon has set.
    OperationValue: line 1..=1_000,
}

/// The name of a channel in addresses: 1 to 64 letters, digits, `_` and `-` of ASCII.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(String);

impl ChannelName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ChannelName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (min, max) = (1, 64);
        if !(min..=max).contains(&text.len()) {
            return Err(TextError::Length { length: text.chars().count(), min, max });
        }
        let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match text.chars().find(|c| !is_allowed(c)) {
            Some(c) => Err(TextError::Character(c, "letters, digits, '_' and '-'")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ChannelName {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.0
    }
}

impl std::fmt::Display for ChannelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl schemars::JsonSchema for ChannelName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChannelName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
    }
}

/// An e-mail address: at most 254 bytes (RFC 5321 4.5.3.1.3), a local part and a domain. Whether
/// mail arrives there is known only after a message was answered.
#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

impl Email {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which addresses are compared.
    pub fn folded(&self) -> String {
        folded(&self.0)
    }
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Email(***)")
    }
}

impl std::str::FromStr for Email {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or(TextError::Address)?;
        let is_plain =
            |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '>' | ',');
        let labels = domain
            .split('.')
            .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
        let fits = text.len() <= 254 && (1..=64).contains(&local.len());
        match fits && labels && text.chars().all(is_plain) && !local.contains('@') {
            true => Ok(Self(text.to_owned())),
            false => Err(TextError::Address),
        }
    }
}

impl TryFrom<String> for Email {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_trimmed_and_bounded() {
        let name = |text: &str| text.parse::<DisplayName>().map(String::from);
        assert_eq!(name("  Ａda ").as_deref(), Ok("Ada"));
        assert_eq!(name(""), Err(TextError::Length { length: 0, min: 1, max: 50 }));
        assert_eq!(name(&"x".repeat(51)), Err(TextError::Length { length: 51, min: 1, max: 50 }));
        assert!(name(&"\u{FDFA}".repeat(50)).is_err(), "each becomes 18 characters");
        assert_eq!(name("a\nb"), Err(TextError::Control));
        assert_eq!("a\nb".parse::<Description>().map(String::from).as_deref(), Ok("a\nb"));
    }

    #[test]
    fn names_that_look_alike_have_the_same_folded_form() {
        assert_eq!(folded("ＡdA"), folded("ada"));
        assert_eq!(folded("STRASSE"), folded("strasse"));
        assert_ne!(folded("ada"), folded("adb"));
    }

    #[test]
    fn a_channel_name_has_only_characters_of_addresses() {
        assert!("a-Z_09".parse::<ChannelName>().is_ok());
        for refused in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(refused.parse::<ChannelName>().is_err(), "{refused}");
        }
    }

    #[test]
    fn an_address_has_a_local_part_and_a_domain_and_is_never_printed() {
        let email: Email = " Ada@example.org ".parse().expect("an address");
        assert_eq!(email.as_str(), "Ada@example.org");
        assert_eq!(email.folded(), "ada@example.org");
        assert_eq!(format!("{email:?}"), "Email(***)");
        for refused in
            ["", "ada", "@b.c", "a@", "a@b..c", "a@-b.c", "a b@c.d", "a@b@c.d", "a\n@b.c"]
        {
            assert!(refused.parse::<Email>().is_err(), "{refused:?}");
        }
    }
}
