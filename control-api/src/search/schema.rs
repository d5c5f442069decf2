//! The fields of the index, and the words in them.
//!
//! All texts of an entry share one field. A term is a word, a slash, and the letter of the place at
//! which the word stands: `bunny/t` is a word of a title. So one walk through one dictionary finds
//! all spellings of a word at all places, and the place weighs it.

use tantivy::{
    TantivyDocument,
    schema::{Field, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions},
    tokenizer::{Token, TokenStream, Tokenizer, TokenizerManager},
};

use super::{analysis, entry::Entry, place::Place};

/// The version of the entries. An index with another one is built again: increase it when the
/// fields, the keys or the analysis change.
pub(super) const VERSION: u32 = 1;

/// Between a word and the letter of its place. No word has it.
pub(super) const MARK: u8 = b'/';

/// The fast fields.
pub(super) const AT: &str = "at";
pub(super) const FACTS: &str = "facts";
pub(super) const ID_HIGH: &str = "id_high";
pub(super) const ID_LOW: &str = "id_low";

/// The fields.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) schema: Schema,
    /// All words with their places.
    pub(super) words: Field,
    /// The words of titles in their order.
    pub(super) title: Field,
    /// Terms that are compared as a whole.
    pub(super) keys: Field,
    at: Field,
    facts: Field,
    id_high: Field,
    id_low: Field,
}

impl Default for Fields {
    fn default() -> Self {
        let mut schema = Schema::builder();
        let text = |tokenizer: &str, option| {
            let indexing = TextFieldIndexing::default().set_fieldnorms(false);
            let indexing = indexing.set_tokenizer(tokenizer).set_index_option(option);
            TextOptions::default().set_indexing_options(indexing)
        };
        let fast = || NumericOptions::default().set_fast();
        let words = schema.add_text_field("words", text(WORDS, IndexRecordOption::Basic));
        let in_order = IndexRecordOption::WithFreqsAndPositions;
        let title = schema.add_text_field("title", text(TITLE, in_order));
        let keys = schema.add_text_field("keys", text("raw", IndexRecordOption::Basic));
        let at = schema.add_u64_field(AT, fast());
        let facts = schema.add_u64_field(FACTS, fast());
        let id_high = schema.add_u64_field(ID_HIGH, fast());
        let id_low = schema.add_u64_field(ID_LOW, fast());
        Self { schema: schema.build(), words, title, keys, at, facts, id_high, id_low }
    }
}

impl Fields {
    /// The document of an entry.
    pub(super) fn document(&self, entry: Entry) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        let (high, low) = entry.thing.id().as_u64_pair();
        document.add_u64(self.id_high, high);
        document.add_u64(self.id_low, low);
        document.add_u64(self.at, entry.at.as_millis());
        document.add_u64(self.facts, facts(entry.thing.is_channel(), entry.popularity));
        for key in entry.keys {
            document.add_text(self.keys, key);
        }
        for (place, text) in entry.texts {
            if place == Place::Title {
                document.add_text(self.title, &text);
            }
            // The tokenizer takes the letter off again.
            document.add_text(self.words, format!("{}{text}", char::from(place.letter())));
        }
        document
    }
}

/// The number that holds the kind and the popularity of an entry.
fn facts(is_channel: bool, popularity: u8) -> u64 {
    u64::from(is_channel) | u64::from(popularity) << 1
}

/// Whether an entry is a channel.
pub(super) fn is_channel(facts: u64) -> bool {
    facts & 1 == 1
}

/// The popularity of an entry.
pub(super) fn popularity(facts: u64) -> u64 {
    facts >> 1
}

const WORDS: &str = "streamforge-words";
const TITLE: &str = "streamforge-title";

/// The tokenizers that the fields name.
pub(super) fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(WORDS, Words { with_place: true });
    tokenizers.register(TITLE, Words { with_place: false });
    tokenizers
}

/// Cuts a text into words.
#[derive(Debug, Clone)]
struct Words {
    /// Whether the text begins with the letter of its place, which each word gets.
    with_place: bool,
}

/// The words of one text.
#[derive(Debug)]
struct Stream {
    words: std::vec::IntoIter<analysis::Word>,
    /// The letter of the place.
    letter: Option<char>,
    /// The number of words before.
    position: usize,
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = Stream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Stream {
        let mut chars = text.chars();
        let letter = if self.with_place { chars.next() } else { None };
        let words = analysis::words(chars.as_str()).into_iter();
        Stream { words, letter, position: 0, token: Token::default() }
    }
}

impl TokenStream for Stream {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else { return false };
        self.token = Token {
            offset_from: word.range.start,
            offset_to: word.range.end,
            position: self.position,
            text: match self.letter {
                Some(letter) => format!("{}{}{letter}", word.text, char::from(MARK)),
                None => word.text,
            },
            position_length: 1,
        };
        self.position += 1;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_a_word_and_the_letter_of_its_place() {
        let terms = |with_place, text| {
            let mut words = Words { with_place };
            let mut stream = words.token_stream(text);
            let mut terms = Vec::new();
            while stream.advance() {
                terms.push(stream.token().text.clone());
            }
            terms
        };
        assert_eq!(terms(true, "tBig Bunny"), ["big/t", "bunny/t"]);
        assert_eq!(terms(false, "tBig Bunny"), ["tbig", "bunny"]);
        for place in [Place::Title, Place::Tag, Place::Channel, Place::Description] {
            assert_eq!(Place::of_letter(place.letter()), Some(place));
        }
    }

    #[test]
    fn kind_and_popularity_share_a_number() {
        for kind in [false, true] {
            for popular in [0, 1, 64] {
                let both = facts(kind, popular);
                assert_eq!((is_channel(both), popularity(both)), (kind, u64::from(popular)));
            }
        }
    }
}
