//! A search as the API asks for it: its filters, its cursor, and its hits.

use std::collections::HashSet;

use control_domain::{
    Actor, Role, Time,
    id::{CategoryId, ChannelId},
    language::Language,
};
use uuid::Uuid;

use super::{
    asked::{Asked, MAX_WORDS},
    entry,
    error::Error,
    index::View,
    ranking::{self, Question, Rank, Sort, Weights},
    spellings,
};

/// The filters of a search: an entry has a key of each list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Vec<Vec<String>>);

impl Filters {
    /// Only what an actor may find. `in_channel`: in the list of its channel, otherwise in those of
    /// the whole platform. The tables decide; this saves reading entries that they would refuse.
    pub(crate) fn of(actor: &Actor, in_channel: bool) -> Self {
        if actor.has(Role::Moderator) {
            return Self::default();
        }
        let (everybody, signed_in) = match in_channel {
            true => (entry::EVERYBODY_IN_CHANNEL, entry::SIGNED_IN_IN_CHANNEL),
            false => (entry::EVERYBODY, entry::SIGNED_IN),
        };
        let mut keys = vec![everybody.to_owned()];
        if let Some(account) = actor.account() {
            keys.push(signed_in.to_owned());
            keys.push(entry::owner_key(account));
        }
        Self(vec![keys])
    }

    /// Only videos, or only channels.
    pub(crate) fn kind(&mut self, is_channel: bool) {
        self.0.push(vec![entry::kind_key(is_channel).to_owned()]);
    }

    /// Only a channel and its videos.
    pub(crate) fn channel(&mut self, channel: ChannelId) {
        self.0.push(vec![entry::channel_key(channel)]);
    }

    /// Only videos of a category.
    pub(crate) fn category(&mut self, category: CategoryId) {
        self.0.push(vec![entry::category_key(category)]);
    }

    /// Only videos in a language, or in one that is more special.
    pub(crate) fn language(&mut self, language: &Language) {
        self.0.push(vec![entry::language_key(language.as_str())]);
    }

    /// Only videos with one of these tags, by their folded forms.
    pub(crate) fn tags(&mut self, folded: &[String]) {
        self.0.push(folded.iter().map(|tag| entry::tag_key(tag)).collect());
    }
}

/// A search.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Its words.
    pub(crate) asked: Asked,
    /// Its filters.
    pub(crate) filters: Filters,
    /// The order of the hits.
    pub(crate) sort: Sort,
    /// Hits behind this place.
    pub(crate) after: Option<Position>,
    /// The number of hits at most.
    pub(crate) limit: usize,
    /// Whether a hit must have all words.
    pub(crate) needs_all: bool,
}

/// The hits of a search.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    /// The best first.
    pub(crate) places: Vec<Position>,
    /// All spellings of the words that were searched.
    pub(crate) spellings: HashSet<String>,
}

/// The place of a hit, and what it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The place.
    pub(crate) rank: Rank,
    weights: Weights,
}

/// Bytes of a position before the weights of its words.
const HEAD: usize = 8 + 16 + 1 + 4;

impl Position {
    /// The bytes of a cursor.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.weights.words.len());
        bytes.extend(self.rank.value.to_be_bytes());
        bytes.extend(self.rank.id.as_bytes());
        bytes.push(u8::from(self.rank.is_channel));
        bytes.extend(self.weights.minute.to_be_bytes());
        bytes.extend(&self.weights.words);
        bytes
    }

    /// The position in the bytes of a cursor, if they are one of this query.
    pub(crate) fn parse(bytes: &[u8], asked: &Asked) -> Option<Self> {
        let (value, bytes) = bytes.split_first_chunk()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        let (kind, bytes) = bytes.split_first()?;
        let (minute, words) = bytes.split_first_chunk()?;
        if *kind > 1 || words.len() != asked.words.len() || words.len() > MAX_WORDS {
            return None;
        }
        let rank = Rank {
            value: u64::from_be_bytes(*value),
            id: Uuid::from_bytes(*id),
            is_channel: *kind == 1,
        };
        let weights = Weights { words: words.to_vec(), minute: u32::from_be_bytes(*minute) };
        Some(Self { rank, weights })
    }
}

/// Carries out a search.
///
/// # Errors
/// [`Error::Index`].
pub(super) fn find(view: &View, wanted: &Wanted, now: Time) -> Result<Hits, Error> {
    if wanted.asked.is_empty() {
        return Ok(Hits::default());
    }
    let searcher = view.searcher();
    let spelled = spellings::find(&searcher, view.fields.words, &wanted.asked)?;
    let weights = match &wanted.after {
        Some(after) => after.weights.clone(),
        None => {
            let minute = u32::try_from(now.as_millis() / 60_000).unwrap_or(u32::MAX);
            Weights::new(&spelled, searcher.num_docs(), minute)
        }
    };
    let question = Question {
        asked: &wanted.asked,
        spelled: &spelled,
        weights: &weights,
        sort: wanted.sort,
        filters: &wanted.filters.0,
        after: wanted.after.as_ref().map(|after| after.rank),
        limit: wanted.limit,
        needs_all: wanted.needs_all,
    };
    let ranks = ranking::rank(&searcher, &view.fields, &question)?;
    let place = |rank| Position { rank, weights: weights.clone() };
    let spellings = spelled.words.into_iter().flat_map(|word| word.spellings);
    Ok(Hits {
        places: ranks.into_iter().map(place).collect(),
        spellings: spellings.map(|spelling| spelling.text).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_from_the_cursor_of_its_own_query_only() {
        let asked = Asked::parse("big buck bunny");
        let rank = Rank { value: u64::MAX - 1, id: Uuid::from_u128(7), is_channel: true };
        let weights = Weights { words: vec![8, 20, 64], minute: 29_000_000 };
        let position = Position { rank, weights };
        let bytes = position.bytes();
        assert!(bytes.len() <= crate::cursor::MAX_KEY_BYTES - MAX_WORDS);
        assert_eq!(Position::parse(&bytes, &asked), Some(position));
        assert_eq!(Position::parse(&bytes, &Asked::parse("two words")), None);
        for end in 0..bytes.len() {
            assert_eq!(Position::parse(&bytes[..end], &asked), None);
        }
    }

    #[test]
    fn a_moderator_is_not_filtered_and_others_find_their_own_things() {
        let id = control_domain::id::AccountId::new(Uuid::from_u128(9));
        let keys = |actor: &Actor| Filters::of(actor, false).0;
        assert_eq!(keys(&Actor::Anonymous), [[entry::EVERYBODY]]);
        let viewer = Actor::Person { id, role: Role::Viewer };
        let own = entry::owner_key(id);
        assert_eq!(keys(&viewer), [[entry::EVERYBODY, entry::SIGNED_IN, &own]]);
        let moderator = Actor::Person { id, role: Role::Moderator };
        assert!(keys(&moderator).is_empty());
    }
}
