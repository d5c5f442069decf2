//! Finds the entries that have the words of a query, and ranks them.
//!
//! Entries with all words are before those with some. Within both, a word counts by its place, by
//! how well its spelling fits, and by how rare it is; titles that have the words in their order, or
//! nothing else, count more; new and popular things count a little more. All of it is whole
//! numbers that depend on the query and the entry alone, and on the weights and the time that the
//! cursor keeps. So the entries of one page have the same ranks when the next one is read, and are
//! not repeated there, whatever was added meanwhile.

use std::{cmp::Reverse, collections::BinaryHeap};

use tantivy::{
    DocSet as _, Searcher, SegmentReader, TERMINATED, Term,
    columnar::Column,
    index::InvertedIndexReader,
    postings::TermInfo,
    query::{EnableScoring, PhraseQuery, Query as _},
    schema::IndexRecordOption,
};
use uuid::Uuid;

use super::{
    asked::Asked,
    entry::{Thing, exact},
    error::Error,
    schema::{self, Fields},
    spellings::Spelled,
};

/// Greatest weight of a word.
const MAX_WEIGHT: u64 = 64;
/// Least weight of a word.
const MIN_WEIGHT: u64 = 8;
/// What a doubling of a word's rarity adds to its weight.
const PER_DOUBLING: u64 = 4;
/// What words in their order in a title count, for each unit of their weight.
const IN_ORDER: u32 = 24;
/// What a title without other words counts, for each unit of the words' weight.
const NOTHING_ELSE: u32 = 48;
/// The factor of a thing that is neither new nor popular.
const PLAIN: u64 = 256;
/// What is added to the factor of a thing of this minute.
const NEW: u64 = 64;
/// The age at which half of that is left.
const HALF_NEW_MINUTES: u64 = 30 * 24 * 60;
/// What a doubling of its likes or followers adds to the factor of a thing.
const POPULAR: u64 = 4;
/// The greatest such addition.
const MAX_POPULAR: u64 = 64;
/// The rank of entries with all words is above that of all others.
const ALL_WORDS: u64 = 1 << 40;

/// The order of the hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sort {
    /// The best first.
    #[default]
    Relevance,
    /// The newest first.
    New,
}

/// The place of a hit in the order: the greatest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// The rank itself, or the time.
    pub(super) value: u64,
    /// Things of the same rank are ordered by their identifiers, which begin with a time.
    pub(super) id: Uuid,
    /// Whether it is a channel.
    pub(super) is_channel: bool,
}

impl Rank {
    /// The thing.
    pub(crate) fn thing(&self) -> Thing {
        Thing::of(self.is_channel, self.id)
    }
}

/// What the ranks depend on besides the query and the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weights {
    /// Of each word.
    pub(super) words: Vec<u8>,
    /// The time of the first page, in minutes since 1970.
    pub(super) minute: u32,
}

impl Weights {
    /// The weights of a first page: rare words count more.
    pub(super) fn new(spelled: &Spelled, documents: u64, minute: u32) -> Self {
        let weight = |entries: u64| {
            let rarity = (documents + 1) / (entries + 1);
            let weight = MIN_WEIGHT + PER_DOUBLING * u64::from(rarity.max(1).ilog2());
            u8::try_from(weight.min(MAX_WEIGHT)).unwrap_or(u8::MAX)
        };
        let words = spelled.words.iter().map(|word| weight(word.entries)).collect();
        Self { words, minute }
    }
}

/// A question to the index.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) asked: &'a Asked,
    pub(super) spelled: &'a Spelled,
    pub(super) weights: &'a Weights,
    pub(super) sort: Sort,
    /// An entry must have a key of each of these lists.
    pub(super) filters: &'a [Vec<String>],
    /// Hits behind this one.
    pub(super) after: Option<Rank>,
    /// The number of hits at most.
    pub(super) limit: usize,
    /// Whether an entry must have all words.
    pub(super) needs_all: bool,
}

/// The first hits, the best first.
///
/// # Errors
/// [`Error::Index`] if the index cannot be read.
pub(super) fn rank(
    searcher: &Searcher,
    fields: &Fields,
    question: &Question<'_>,
) -> Result<Vec<Rank>, Error> {
    let mut best = Best { hits: BinaryHeap::new(), after: question.after, limit: question.limit };
    for (index, segment) in searcher.segment_readers().iter().enumerate() {
        Segment { reader: segment, fields, question }.rank(index, &mut best)?;
    }
    Ok(best.hits.into_sorted_vec().into_iter().map(|Reverse(rank)| rank).collect())
}

/// The best hits that were seen.
struct Best {
    /// The worst of them on top.
    hits: BinaryHeap<Reverse<Rank>>,
    after: Option<Rank>,
    limit: usize,
}

impl Best {
    /// Whether a hit of this rank may be one of the best, whatever its identifier is.
    fn wants(&self, value: u64) -> bool {
        let is_behind = self.after.is_none_or(|after| value <= after.value);
        let worst = self.hits.peek().filter(|_| self.hits.len() >= self.limit);
        is_behind && worst.is_none_or(|Reverse(worst)| value >= worst.value)
    }

    fn add(&mut self, rank: Rank) {
        if self.after.is_none_or(|after| rank < after) {
            self.hits.push(Reverse(rank));
            if self.hits.len() > self.limit {
                self.hits.pop();
            }
        }
    }
}

/// What a segment's entries have of a query.
struct Scores {
    /// What the words count, by entry.
    quality: Vec<u32>,
    /// The number of words, by entry.
    words: Vec<u8>,
    /// The last word that was counted, from 1 on, by entry.
    last: Vec<u8>,
    /// The filters that an entry has passed, one after the other.
    passed: Vec<u8>,
}

/// A segment that is searched.
struct Segment<'a> {
    reader: &'a SegmentReader,
    fields: &'a Fields,
    question: &'a Question<'a>,
}

impl Segment<'_> {
    fn rank(&self, index: usize, best: &mut Best) -> Result<(), Error> {
        let documents = self.reader.max_doc() as usize;
        let mut scores = Scores {
            quality: vec![0; documents],
            words: vec![0; documents],
            last: vec![0; documents],
            passed: vec![0; documents],
        };
        self.score(index, &mut scores)?;
        self.score_titles(&mut scores)?;
        self.filter(&mut scores)?;
        self.collect(&scores, best)
    }

    /// Scores the words of all entries that have any.
    fn score(&self, index: usize, scores: &mut Scores) -> Result<(), Error> {
        let inverted = self.reader.inverted_index(self.fields.words)?;
        let words = self.question.spelled.words.iter().zip(&self.question.weights.words);
        for (mark, (word, weight)) in (1_u8..).zip(words) {
            let postings = word.spellings.iter().flat_map(|spelling| {
                let here = spelling.postings.iter().filter(|postings| postings.segment == index);
                here.map(|postings| (postings.place.weight() * spelling.fit, &postings.info))
            });
            // The best first, so that an entry counts its best spelling and place.
            let mut postings = postings.collect::<Vec<_>>();
            postings.sort_by_key(|(quality, _)| Reverse(*quality));
            for (quality, info) in postings {
                each(&inverted, info, |doc| {
                    if scores.last[doc] != mark {
                        scores.last[doc] = mark;
                        scores.words[doc] += 1;
                        scores.quality[doc] += quality * u32::from(*weight);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Scores titles that have the words in their order, or no others.
    fn score_titles(&self, scores: &mut Scores) -> Result<(), Error> {
        let Question { asked, weights, .. } = self.question;
        let weight = weights.words.iter().map(|weight| u32::from(*weight)).sum::<u32>();
        let keys = self.reader.inverted_index(self.fields.keys)?;
        if let Some(info) = keys.terms().get(exact(&asked.joined))? {
            each(&keys, &info, |doc| scores.quality[doc] += NOTHING_ELSE * weight)?;
        }
        let terms = asked.words.iter().map(|it| Term::from_field_text(self.fields.title, &it.text));
        let terms = terms.collect::<Vec<_>>();
        if terms.len() < 2 {
            return Ok(());
        }
        let schema = &self.fields.schema;
        let phrase = PhraseQuery::new(terms).weight(EnableScoring::disabled_from_schema(schema))?;
        let mut docs = phrase.scorer(self.reader, 1.0)?;
        while docs.doc() != TERMINATED {
            scores.quality[docs.doc() as usize] += IN_ORDER * weight;
            docs.advance();
        }
        Ok(())
    }

    /// Notes which entries pass all filters.
    fn filter(&self, scores: &mut Scores) -> Result<(), Error> {
        let inverted = self.reader.inverted_index(self.fields.keys)?;
        for (before, keys) in (0_u8..).zip(self.question.filters) {
            for key in keys {
                let Some(info) = inverted.terms().get(key)? else { continue };
                each(&inverted, &info, |doc| {
                    if scores.passed[doc] == before {
                        scores.passed[doc] = before + 1;
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Adds the hits of the segment to the best ones.
    fn collect(&self, scores: &Scores, best: &mut Best) -> Result<(), Error> {
        let fast = self.reader.fast_fields();
        let (at, facts) = (fast.u64(schema::AT)?, fast.u64(schema::FACTS)?);
        let (high, low) = (fast.u64(schema::ID_HIGH)?, fast.u64(schema::ID_LOW)?);
        let value_of = |column: &Column<u64>, doc: u32| column.first(doc).unwrap_or_default();
        let filters = self.question.filters.len();
        let all = self.question.spelled.words.len();
        // Of several words an entry must have half: others have little to do with the query.
        let least = if self.question.needs_all { all } else { all.div_ceil(2).max(1) };
        for (doc, words) in (0_u32..).zip(&scores.words) {
            let (index, words) = (doc as usize, usize::from(*words));
            let is_hit = words >= least && usize::from(scores.passed[index]) == filters;
            if !is_hit || self.reader.is_deleted(doc) {
                continue;
            }
            let (time, facts) = (value_of(&at, doc), value_of(&facts, doc));
            let value = match self.question.sort {
                Sort::New => time,
                Sort::Relevance => {
                    let factor = factor(time, facts, self.question.weights.minute);
                    relevance(scores.quality[index], words, all, factor)
                }
            };
            if best.wants(value) {
                let id = Uuid::from_u64_pair(value_of(&high, doc), value_of(&low, doc));
                best.add(Rank { value, id, is_channel: schema::is_channel(facts) });
            }
        }
        Ok(())
    }
}

/// The rank of an entry that has so many words of all.
fn relevance(quality: u32, words: usize, all: usize, factor: u64) -> u64 {
    let (words, all) = (words as u64, all.max(1) as u64);
    // At most 16 words of 64 * 96, and both bonuses: below 2^18, times 16, times 384.
    let value = u64::from(quality) * (16 * words / all) * factor;
    if words == all { ALL_WORDS + value } else { value.min(ALL_WORDS - 1) }
}

/// The factor for the age and the popularity of a thing.
fn factor(at_ms: u64, facts: u64, minute: u32) -> u64 {
    let age = u64::from(minute).saturating_sub(at_ms / 60_000);
    let new = NEW * HALF_NEW_MINUTES / (HALF_NEW_MINUTES + age);
    let popular = (POPULAR * schema::popularity(facts)).min(MAX_POPULAR);
    PLAIN + new + popular
}

/// Calls a function with each entry of a term, deleted ones included.
fn each(
    inverted: &InvertedIndexReader,
    info: &TermInfo,
    mut visit: impl FnMut(usize),
) -> Result<(), Error> {
    let mut postings =
        inverted.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?;
    loop {
        let docs = postings.docs();
        if docs.is_empty() {
            return Ok(());
        }
        docs.iter().for_each(|doc| visit(*doc as usize));
        postings.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{asked::MAX_WORDS, place::Place, spellings::fit},
        *,
    };

    #[test]
    fn no_quality_reaches_the_rank_of_all_words() {
        let number = |number: u64| u32::try_from(number).expect("it is small");
        let weight = number(MAX_WEIGHT);
        let of_a_word = (Place::Title.weight() * fit::SAME + IN_ORDER + NOTHING_ELSE) * weight;
        let quality = number(MAX_WORDS as u64) * of_a_word;
        let factor = PLAIN + NEW + MAX_POPULAR;
        let some = relevance(quality, MAX_WORDS - 1, MAX_WORDS, factor);
        assert!(some < relevance(1, MAX_WORDS, MAX_WORDS, PLAIN), "{some}");
        assert!(some < ALL_WORDS - 1, "it is not cut");
        assert!(relevance(quality, MAX_WORDS, MAX_WORDS, factor) < u64::MAX / 2);
    }

    #[test]
    fn new_and_popular_things_count_a_little_more() {
        let now = 30_000_000;
        let ms = |minute: u32| u64::from(minute) * 60_000;
        let month = 30 * 24 * 60;
        let plain = factor(0, 0, now);
        assert!((PLAIN..PLAIN + 2).contains(&plain));
        assert_eq!(factor(ms(now), 0, now), PLAIN + NEW);
        assert_eq!(factor(ms(now - month), 0, now), PLAIN + NEW / 2);
        assert_eq!(factor(ms(now) + 1, 0, 0), PLAIN + NEW, "a time to come is now");
        assert!(factor(0, 10 << 1, now) > factor(0, 9 << 1, now));
        assert!(factor(ms(now), 64 << 1, now) <= PLAIN * 3 / 2);
    }

    #[test]
    fn the_best_hits_are_kept_and_those_of_earlier_pages_left_out() {
        let rank = |value, id| Rank { value, id: Uuid::from_u128(id), is_channel: false };
        let mut best = Best { hits: BinaryHeap::new(), after: Some(rank(9, 5)), limit: 3 };
        for value in [3, 9, 12, 7, 9, 1, 8] {
            for id in [5, 4] {
                if best.wants(value) {
                    best.add(rank(value, id));
                }
            }
        }
        let sorted = best.hits.into_sorted_vec();
        let sorted = sorted.into_iter().map(|Reverse(hit)| (hit.value, hit.id.as_u128()));
        assert_eq!(sorted.collect::<Vec<_>>(), [(9, 4), (9, 4), (8, 5)]);
    }
}
