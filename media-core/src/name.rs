//! Names of channels and tracks, and identities of broadcasts. A parsed name is safe in a path, a
//! URL and a log.

use std::{fmt, str::FromStr, sync::Arc, time::SystemTime};

use uuid::Uuid;

/// A text is not a name: it has a character or a length that names must not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A channel's name does not match `[A-Za-z0-9_-]{1,64}`.
    #[error(
        "a channel name must have 1 to 64 of the characters A-Z a-z 0-9 _ -, this one has {len} \
         bytes"
    )]
    ChannelLength {
        /// Length of the refused name in bytes.
        len: usize,
    },
    /// A channel's name has a character outside `[A-Za-z0-9_-]`.
    #[error(
        "a channel name must have 1 to 64 of the characters A-Z a-z 0-9 _ -, this one has the \
         character {character:?}"
    )]
    ChannelCharacter {
        /// The first such character; the message escapes it.
        character: char,
    },
    /// A track's name does not match `[a-z0-9-]{1,32}`.
    #[error("a track name must have 1 to 32 of the characters a-z 0-9 -, this one has {len} bytes")]
    TrackLength {
        /// Length of the refused name in bytes.
        len: usize,
    },
    /// A track's name has a character outside `[a-z0-9-]`.
    #[error(
        "a track name must have 1 to 32 of the characters a-z 0-9 -, this one has the character \
         {character:?}"
    )]
    TrackCharacter {
        /// The first such character; the message escapes it.
        character: char,
    },
}

/// A channel's public name: `[A-Za-z0-9_-]{1,64}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if let Some(character) = name.chars().find(|c| other(*c)) {
            return Err(Invalid::ChannelCharacter { character });
        }
        match name.len() {
            1..=64 => Ok(Self(name.into())),
            len => Err(Invalid::ChannelLength { len }),
        }
    }
}

/// A track's name within its broadcast: `[a-z0-9-]{1,32}`, for example `v0`, `a0`, `v720`. Cheap to
/// clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackName(Arc<str>);

impl TrackName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `v0`: the source's video.
    pub fn source_video() -> Self {
        Self("v0".into())
    }

    /// `a0`: the source's audio.
    pub fn source_audio() -> Self {
        Self("a0".into())
    }
}

impl FromStr for TrackName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        let other = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if let Some(character) = name.chars().find(|c| other(*c)) {
            return Err(Invalid::TrackCharacter { character });
        }
        match name.len() {
            1..=32 => Ok(Self(name.into())),
            len => Err(Invalid::TrackLength { len }),
        }
    }
}

/// A broadcast's identity: a UUIDv7 created at the first publish, kept across reconnects, never
/// reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BroadcastId(Uuid);

impl BroadcastId {
    /// A new identity for a broadcast that starts at `utc`.
    pub fn new(utc: SystemTime) -> Self {
        let since_epoch = utc.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stamp = uuid::Timestamp::from_unix_time(
            since_epoch.as_secs(),
            since_epoch.subsec_nanos(),
            0,
            0,
        );
        Self(Uuid::new_v7(stamp))
    }
}

impl FromStr for BroadcastId {
    type Err = uuid::Error;

    fn from_str(id: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(id).map(Self)
    }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
shown_as_text!(ChannelName, TrackName, BroadcastId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_name_that_could_be_a_path_is_refused() {
        for bad in ["", "../../etc/passwd", "a/b", "a.b", "a b", "ä", "%2e", &"x".repeat(65)] {
            assert!(bad.parse::<ChannelName>().is_err(), "{bad}");
        }
        for good in ["demo", "A-Z_09", &"x".repeat(64)] {
            assert_eq!(good.parse::<ChannelName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_name_error_reports_the_escaped_character_or_the_length() {
        let words = |name: &str| name.parse::<ChannelName>().unwrap_err().to_string();
        for (name, shown) in [
            ("K 16", "the character ' '"),
            ("k17%20", "the character '%'"),
            ("stream:k25", "the character ':'"),
            ("a\nb", r"the character '\n'"),
            ("a\u{1b}b", r"the character '\u{1b}'"),
            ("a\u{200b}b", r"the character '\u{200b}'"),
            ("", "0 bytes"),
            (&"x".repeat(65), "65 bytes"),
        ] {
            assert!(words(name).ends_with(shown), "{}", words(name));
        }
        let track = "V0".parse::<TrackName>().unwrap_err().to_string();
        assert!(track.ends_with("the character 'V'"), "{track}");
    }

    #[test]
    fn a_track_name_is_lower_case() {
        assert!("V0".parse::<TrackName>().is_err());
        assert!("v0.mp4".parse::<TrackName>().is_err());
        assert_eq!("v720".parse::<TrackName>().unwrap().as_str(), "v720");
    }

    #[test]
    fn a_broadcast_id_is_parsed_from_its_text() {
        let id = BroadcastId::new(SystemTime::UNIX_EPOCH);
        assert_eq!(id.to_string().parse::<BroadcastId>().unwrap(), id);
    }
}
