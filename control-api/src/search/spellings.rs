//! The spellings of the asked words that the index has: a word itself, words that it begins, and
//! words that differ in a letter or two.
//!
//! The dictionary of each segment is a finite state transducer, and the walk through it follows a
//! Levenshtein automaton (Schulz and Mihov, 2002). Its steps, the spellings that it finds, those
//! that are used and their postings are all limited, so that no query costs much more than
//! another.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use levenshtein_automata::{DFA, Distance, LevenshteinAutomatonBuilder, SINK_STATE};
use tantivy::{Searcher, index::InvertedIndexReader, postings::TermInfo, schema::Field};
use tantivy_fst::Automaton;

use super::{
    asked::{Asked, AskedWord},
    error::Error,
    place::Place,
    schema::MARK,
};

/// Steps of a query through the dictionaries of all segments.
pub(super) const MAX_STEPS: u32 = 1_000_000;
/// Spellings that are looked at for a word in one segment.
const MAX_FOUND: usize = 2_000;
/// Spellings of a word that are used.
pub(super) const MAX_USED: usize = 64;
/// Entries of all spellings of a word but the word itself.
const MAX_POSTINGS: u64 = 1_000_000;
/// Entries with a word, from which on others are not looked for: it is no typing error.
const ENOUGH: u64 = 100;

/// How well a spelling fits, at most 8.
pub(super) mod fit {
    /// It is the word.
    pub(in super::super) const SAME: u32 = 8;
    /// It is the word and its neighbour in one.
    pub(in super::super) const COMPOUND: u32 = 7;
    /// It begins with the word.
    pub(in super::super) const LONGER: u32 = 6;
    /// It differs in one letter.
    pub(in super::super) const ONE: u32 = 4;
    /// It begins with a word that differs.
    pub(in super::super) const LONGER_DIFFERENT: u32 = 3;
    /// It differs in two letters.
    pub(in super::super) const TWO: u32 = 2;
}

/// The words of a query with their spellings.
#[derive(Debug, Default)]
pub(super) struct Spelled {
    pub(super) words: Vec<SpelledWord>,
    /// Steps through the dictionaries that it took.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the tests of the limit"))]
    pub(super) steps: u32,
}

/// A word with its spellings.
#[derive(Debug, Default)]
pub(super) struct SpelledWord {
    /// The best first.
    pub(super) spellings: Vec<Spelling>,
    /// Entries with the word, or if there are none, with one of its spellings: at most so many.
    pub(super) entries: u64,
}

/// A spelling of a word.
#[derive(Debug, Default)]
pub(super) struct Spelling {
    pub(super) text: String,
    /// See [`fit`].
    pub(super) fit: u32,
    /// The entries that have it, in all segments.
    pub(super) entries: u64,
    /// Where they are.
    pub(super) postings: Vec<Postings>,
}

/// The entries of one segment that have a spelling at one place.
#[derive(Debug, Clone)]
pub(super) struct Postings {
    pub(super) segment: usize,
    pub(super) place: Place,
    pub(super) info: TermInfo,
}

/// Builds automata that accept one and two wrong letters; a swap of neighbours is one.
static BUILDERS: LazyLock<[LevenshteinAutomatonBuilder; 3]> =
    LazyLock::new(|| [0, 1, 2].map(|typos| LevenshteinAutomatonBuilder::new(typos, true)));

/// Looks up the spellings of all words of a query.
///
/// # Errors
/// [`Error::Index`] if the dictionaries cannot be read.
pub(super) fn find(searcher: &Searcher, words: Field, asked: &Asked) -> Result<Spelled, Error> {
    find_within(searcher, words, asked, MAX_STEPS)
}

/// Looks them up in so many steps at most.
pub(super) fn find_within(
    searcher: &Searcher,
    words: Field,
    asked: &Asked,
    max_steps: u32,
) -> Result<Spelled, Error> {
    let dictionaries = searcher.segment_readers().iter().map(|it| it.inverted_index(words));
    let dictionaries = dictionaries.collect::<Result<Vec<_>, _>>()?;
    let left = Cell::new(max_steps);
    let walk = Walk { dictionaries, left: &left };
    let spelled = asked.words.iter().map(|word| walk.spellings(word));
    let words = spelled.collect::<Result<_, Error>>()?;
    Ok(Spelled { words, steps: max_steps - left.get() })
}

/// The walk through the dictionaries of all segments.
struct Walk<'a> {
    dictionaries: Vec<Arc<InvertedIndexReader>>,
    /// Steps that are left.
    left: &'a Cell<u32>,
}

/// The spellings that were found, by their text.
type Found = HashMap<String, Spelling>;

impl Walk<'_> {
    fn spellings(&self, word: &AskedWord) -> Result<SpelledWord, Error> {
        let mut found = Found::new();
        self.look_up(&word.text, fit::SAME, &mut found)?;
        for compound in &word.compounds {
            self.look_up(compound, fit::COMPOUND, &mut found)?;
        }
        if word.is_beginning {
            self.search(word, 0, &mut found)?;
        }
        let count = found.values().map(|spelling| spelling.entries).sum::<u64>();
        if word.typos > 0 && count < ENOUGH {
            self.search(word, word.typos, &mut found)?;
        }
        Ok(chosen(found))
    }

    /// Adds the word itself.
    fn look_up(&self, text: &str, fit: u32, found: &mut Found) -> Result<(), Error> {
        let (begin, end) =
            ([text.as_bytes(), &[MARK]].concat(), [text.as_bytes(), &[MARK + 1]].concat());
        for (segment, dictionary) in self.dictionaries.iter().enumerate() {
            let mut terms = dictionary.terms().range().ge(&begin).lt(&end).into_stream()?;
            while terms.advance() {
                add(found, segment, terms.key(), terms.value(), fit);
            }
        }
        Ok(())
    }

    /// Adds the words that differ from it in so many letters at most, and those that it begins.
    fn search(&self, word: &AskedWord, typos: u8, found: &mut Found) -> Result<(), Error> {
        let Some(builder) = BUILDERS.get(usize::from(typos)) else { return Ok(()) };
        let dfa = match word.is_beginning {
            true => builder.build_prefix_dfa(&word.text),
            false => builder.build_dfa(&word.text),
        };
        let whole = builder.build_dfa(&word.text);
        for (segment, dictionary) in self.dictionaries.iter().enumerate() {
            let automaton = Spellings { dfa: &dfa, left: self.left };
            let mut terms = dictionary.terms().search(&automaton).into_stream()?;
            let mut looked_at = 0;
            while looked_at < MAX_FOUND && terms.advance() {
                looked_at += 1;
                let text = terms.key().split(|byte| *byte == MARK).next().unwrap_or_default();
                let fit = fit_of(&word.text, text, &whole);
                add(found, segment, terms.key(), terms.value(), fit);
            }
        }
        Ok(())
    }
}

/// How well a spelling fits that an automaton has accepted.
fn fit_of(word: &str, spelling: &[u8], whole: &DFA) -> u32 {
    if spelling == word.as_bytes() {
        return fit::SAME;
    }
    match whole.eval(spelling) {
        _ if spelling.starts_with(word.as_bytes()) => fit::LONGER,
        Distance::Exact(0 | 1) => fit::ONE,
        Distance::Exact(_) => fit::TWO,
        Distance::AtLeast(_) => fit::LONGER_DIFFERENT,
    }
}

/// Adds a term of a segment.
fn add(found: &mut Found, segment: usize, term: &[u8], info: &TermInfo, fit: u32) {
    // Terms are words of ours.
    let Some((&letter, text)) = term.split_last() else { return };
    let Some(text) = text.strip_suffix(&[MARK]).and_then(|text| std::str::from_utf8(text).ok())
    else {
        return;
    };
    let Some(place) = Place::of_letter(letter) else { return };
    let spelling = found
        .entry(text.to_owned())
        .or_insert_with(|| Spelling { text: text.to_owned(), ..Spelling::default() });
    // An earlier look may have found it.
    if spelling.postings.iter().any(|known| known.segment == segment && known.place == place) {
        return;
    }
    spelling.fit = spelling.fit.max(fit);
    spelling.entries += u64::from(info.doc_freq);
    spelling.postings.push(Postings { segment, place, info: info.clone() });
}

/// The spellings that are used.
fn chosen(found: Found) -> SpelledWord {
    let mut spellings = found.into_values().collect::<Vec<_>>();
    spellings.sort_unstable_by(|a, b| {
        let key = |it: &Spelling| (Reverse(it.fit), Reverse(it.entries));
        key(a).cmp(&key(b)).then_with(|| a.text.cmp(&b.text))
    });
    let mut left = MAX_POSTINGS;
    let mut number = 0;
    spellings.retain(|spelling| {
        // The word itself is always used.
        if spelling.fit == fit::SAME {
            return true;
        }
        number += 1;
        match left.checked_sub(spelling.entries) {
            Some(rest) if number <= MAX_USED => {
                left = rest;
                true
            }
            _ => false,
        }
    });
    let best = spellings.first().map_or(0, |best| best.fit);
    let of_best = spellings.iter().filter(|spelling| spelling.fit == best || best < fit::SAME);
    let entries = of_best.map(|spelling| spelling.entries).sum();
    SpelledWord { spellings, entries }
}

/// Accepts terms whose word is one that an automaton accepts, until the steps are used up.
struct Spellings<'a> {
    dfa: &'a DFA,
    left: &'a Cell<u32>,
}

/// Where the automaton is in a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Within the word.
    Word(u32),
    /// Behind the mark of an accepted word.
    Mark,
    /// Behind the letter of its place.
    End,
    /// No continuation is accepted.
    Nowhere,
}

impl Automaton for Spellings<'_> {
    type State = At;

    fn start(&self) -> At {
        At::Word(self.dfa.initial_state())
    }

    fn is_match(&self, at: &At) -> bool {
        *at == At::End
    }

    fn can_match(&self, at: &At) -> bool {
        *at != At::Nowhere
    }

    fn accept(&self, at: &At, byte: u8) -> At {
        let Some(left) = self.left.get().checked_sub(1) else { return At::Nowhere };
        self.left.set(left);
        match *at {
            At::Word(state) if byte == MARK => match self.dfa.distance(state) {
                Distance::Exact(_) => At::Mark,
                Distance::AtLeast(_) => At::Nowhere,
            },
            At::Word(state) => match self.dfa.transition(state, byte) {
                SINK_STATE => At::Nowhere,
                next => At::Word(next),
            },
            At::Mark => At::End,
            At::End | At::Nowhere => At::Nowhere,
        }
    }
}
