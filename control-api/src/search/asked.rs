//! The words of a query, as a person types them. There is no query language: every text is a query,
//! and signs are passed over.

use unicode_normalization::UnicodeNormalization as _;

use super::analysis::{self, Form};

/// Longest query in characters.
pub(crate) const MAX_CHARS: usize = 200;
/// Words of a query that are searched. Later ones are passed over.
pub(super) const MAX_WORDS: usize = 16;
/// Characters of a word in which one wrong letter is tolerated, and those for two.
const TYPOS: [usize; 2] = [4, 8];

/// The words of a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Asked {
    /// At most [`MAX_WORDS`], none twice.
    pub(super) words: Vec<AskedWord>,
    /// All words in their order, joined as titles are for comparison.
    pub(super) joined: String,
}

/// A word of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AskedWord {
    /// Its folded form.
    pub(super) text: String,
    /// Whether it may be the beginning of a longer word, because its writer may not have ended it.
    pub(super) is_beginning: bool,
    /// Wrong letters that are tolerated.
    pub(super) typos: u8,
    /// Words that may be meant together with a neighbour, which was written apart.
    pub(super) compounds: Vec<String>,
}

impl Asked {
    /// The words of a text.
    pub(crate) fn parse(text: &str) -> Self {
        // A keyboard may send letters and marks apart.
        let text = text.chars().take(MAX_CHARS).nfkc().collect::<String>();
        let is_open = text.chars().next_back().is_some_and(char::is_alphanumeric);
        let found = analysis::words(&text);
        // The last character of a run is a part of its last pair, unless it is alone.
        let is_alone = |index: usize| {
            let before = index.checked_sub(1).and_then(|before| found.get(before));
            before.is_none_or(|before| {
                before.form != Form::Pair || before.range.end != found[index].range.end
            })
        };
        let found = found
            .iter()
            .enumerate()
            .filter(|(index, word)| word.form != Form::Last || is_alone(*index))
            .map(|(_, word)| word)
            .collect::<Vec<_>>();
        let mut words = Vec::<AskedWord>::new();
        for (index, word) in found.iter().enumerate() {
            if words.len() == MAX_WORDS {
                break;
            }
            let is_last = index + 1 == found.len();
            let is_beginning = (is_last && is_open) || word.form == Form::Last;
            if let Some(same) = words.iter_mut().find(|same| same.text == word.text) {
                same.is_beginning |= is_beginning;
                continue;
            }
            let is_whole = |other: &analysis::Word| other.form == Form::Whole;
            let pair = |left: &analysis::Word, right: &analysis::Word| {
                let both = is_whole(left) && is_whole(right);
                both.then(|| format!("{}{}", left.text, right.text))
            };
            let before = index.checked_sub(1).and_then(|before| found.get(before));
            let after = found.get(index + 1);
            let compounds = before.and_then(|before| pair(before, word)).into_iter();
            let compounds = compounds.chain(after.and_then(|after| pair(word, after))).collect();
            words.push(AskedWord {
                text: word.text.clone(),
                is_beginning,
                typos: typos(word),
                compounds,
            });
        }
        Self { words, joined: analysis::joined(&text) }
    }

    /// Whether there is nothing to search.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// Wrong letters that are tolerated in a word. Numbers that differ are others.
fn typos(word: &analysis::Word) -> u8 {
    let length = word.text.chars().count();
    match word.form {
        Form::Whole if !word.text.chars().all(char::is_numeric) => {
            TYPOS.iter().map(|least| u8::from(length >= *least)).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(String, bool, u8)> {
        let asked = Asked::parse(text);
        asked.words.into_iter().map(|word| (word.text, word.is_beginning, word.typos)).collect()
    }

    fn word(text: &str, is_beginning: bool, typos: u8) -> (String, bool, u8) {
        (text.to_owned(), is_beginning, typos)
    }

    #[test]
    fn the_last_word_may_be_a_beginning_until_something_follows_it() {
        assert_eq!(words("Big bun"), [word("big", false, 0), word("bun", true, 0)]);
        assert_eq!(words("Big bun "), [word("big", false, 0), word("bun", false, 0)]);
        assert_eq!(words("bun!"), [word("bun", false, 0)]);
        assert_eq!(words("go go"), [word("go", true, 0)], "none twice");
    }

    #[test]
    fn longer_words_may_have_more_wrong_letters_and_numbers_none() {
        let typos = |text: &str| words(&format!("{text} ")).first().map(|word| word.2);
        let expected = [("cat", 0), ("cats", 1), ("bunnies", 1), ("streamer", 2), ("20242025", 0)];
        for (text, number) in expected {
            assert_eq!(typos(text), Some(number), "{text}");
        }
        assert_eq!(
            words("東京タワー"),
            [
                word("東京", false, 0),
                word("京タ", false, 0),
                word("タワ", false, 0),
                word("ワー", true, 0),
            ]
        );
        assert_eq!(words("猫 "), [word("猫", true, 0)], "it begins each pair that it begins");
    }

    #[test]
    fn every_text_is_a_query_and_a_long_one_is_cut() {
        for text in ["", "  ", "\"", "title:(", "a AND OR NOT", "+-*?~^[]{}\\/", "\0", "♥"] {
            let asked = Asked::parse(text);
            assert!(asked.words.len() <= 4, "{asked:?}");
        }
        assert!(Asked::parse("!?").is_empty());
        let many = (0..500).map(|n| format!("{n} ")).collect::<String>();
        assert_eq!(Asked::parse(&many).words.len(), MAX_WORDS);
        let long = Asked::parse(&"x".repeat(1 << 20));
        assert!(long.words[0].text.len() <= MAX_CHARS);
    }

    #[test]
    fn neighbours_may_be_one_word() {
        let asked = Asked::parse("stream forge live");
        let compounds = |index: usize| asked.words[index].compounds.clone();
        assert_eq!(compounds(0), ["streamforge"]);
        assert_eq!(compounds(1), ["streamforge", "forgelive"]);
        assert_eq!(asked.joined, "stream forge live");
    }
}
