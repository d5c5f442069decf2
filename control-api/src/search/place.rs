//! The place at which a word of an entry stands, which weighs it.

/// The place at which a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In a title, or in the name of a channel that is the thing itself.
    Title,
    /// In a tag, or in the tag that it means.
    Tag,
    /// In the title or name of a video's channel.
    Channel,
    /// In a description.
    Description,
}

impl Place {
    /// The letter in terms.
    pub(super) const fn letter(self) -> u8 {
        match self {
            Self::Title => b't',
            Self::Tag => b'g',
            Self::Channel => b'c',
            Self::Description => b'd',
        }
    }

    /// The place with this letter.
    pub(super) const fn of_letter(letter: u8) -> Option<Self> {
        match letter {
            b't' => Some(Self::Title),
            b'g' => Some(Self::Tag),
            b'c' => Some(Self::Channel),
            b'd' => Some(Self::Description),
            _ => None,
        }
    }

    /// The weight of a word at this place.
    pub(super) const fn weight(self) -> u32 {
        match self {
            Self::Title => 12,
            Self::Tag | Self::Channel => 8,
            Self::Description => 3,
        }
    }
}
