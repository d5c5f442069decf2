//! The names of the stream and of its subjects.

use std::{fmt, str::FromStr};

/// Longest name, in bytes.
const MAX: usize = 64;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Of a stream.
    #[error("the name of a stream has 1 to 64 letters, digits, - and _")]
    Stream,
    /// Of subjects.
    #[error(
        "a prefix of subjects has words of letters, digits, - and _, joined by dots, and 1 to 64 \
         characters in all; for example sf.main"
    )]
    Prefix,
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The name of the stream. Its bucket of keys has the same name with `_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName(Box<str>);

impl StreamName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StreamName {
    fn default() -> Self {
        Self("streamforge".into())
    }
}

impl FromStr for StreamName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match is_word(text) && text.len() <= MAX {
            true => Ok(Self(text.into())),
            false => Err(NameError::Stream),
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first words of all subjects: the product and the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectPrefix(Box<str>);

impl SubjectPrefix {
    /// The words, joined by dots.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SubjectPrefix {
    fn default() -> Self {
        Self("sf.main".into())
    }
}

impl FromStr for SubjectPrefix {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.len() <= MAX && text.split('.').all(is_word) {
            true => Ok(Self(text.into())),
            false => Err(NameError::Prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_characters_with_a_meaning_in_nats() {
        assert_eq!(
            "prod-2_a".parse::<StreamName>().map(|name| name.to_string()),
            Ok("prod-2_a".into())
        );
        for wrong in ["", "a.b", "a*", "a>", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(wrong.parse::<StreamName>(), Err(NameError::Stream), "{wrong}");
        }
        for right in ["sf", "sf.main", "a.b-c.d_e"] {
            assert_eq!(right.parse::<SubjectPrefix>().map(|prefix| prefix.0), Ok(right.into()));
        }
        for wrong in ["", ".", "sf.", ".sf", "sf..main", "sf.*", "$JS.API", "sf.>"] {
            assert_eq!(wrong.parse::<SubjectPrefix>(), Err(NameError::Prefix), "{wrong}");
        }
    }
}
