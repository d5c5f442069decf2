//! Texts with the words that were found in them, as pieces, so that a page needs no markup in
//! texts of users.

use std::{collections::HashSet, ops::Range};

use super::analysis::{self, Word};

/// Characters of a description that are looked through.
const LOOKED_THROUGH: usize = 3_000;
/// Characters of an excerpt before the first word that was found.
const BEFORE: usize = 40;
/// Characters of an excerpt.
const LENGTH: usize = 180;
/// Marks a text that was cut.
const CUT: &str = "…";

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The part.
    pub(crate) text: String,
    /// Whether it was searched.
    pub(crate) is_match: bool,
}

/// A text in pieces. It is a single one if none of the words is in it.
pub(crate) fn pieces(text: &str, spellings: &HashSet<String>) -> Vec<Piece> {
    cut(text, 0..text.len(), &matches(&analysis::words(text), spellings))
}

/// The part of a long text around the first word that was found, in pieces; none if none is there.
pub(crate) fn excerpt(text: &str, spellings: &HashSet<String>) -> Vec<Piece> {
    let end = text.char_indices().nth(LOOKED_THROUGH).map_or(text.len(), |(end, _)| end);
    let text = &text[..end];
    let words = analysis::words(text);
    let matches = matches(&words, spellings);
    let Some(first) = matches.first() else { return Vec::new() };
    // From the beginning of a word on, and to the end of one.
    let back = |from: usize, count: usize| {
        text[..from].char_indices().rev().take(count).last().map_or(from, |(start, _)| start)
    };
    let start = back(first.start, BEFORE);
    let start = match start {
        0 => 0,
        _ => words.iter().map(|word| word.range.start).find(|it| *it >= start).unwrap_or(start),
    };
    let limit = text[start..].char_indices().nth(LENGTH).map_or(text.len(), |(at, _)| start + at);
    let end = match limit == text.len() {
        true => limit,
        false => {
            let ends = words.iter().map(|word| word.range.end);
            ends.take_while(|end| *end <= limit).last().unwrap_or(limit).max(first.end)
        }
    };
    let mut pieces = cut(text, start..end, &matches);
    let cut = || Piece { text: CUT.to_owned(), is_match: false };
    if start > 0 {
        pieces.insert(0, cut());
    }
    if end < text.len() {
        pieces.push(cut());
    }
    pieces
}

/// The places of the words that were searched. Those that overlap are one.
fn matches(words: &[Word], spellings: &HashSet<String>) -> Vec<Range<usize>> {
    let mut matches = Vec::<Range<usize>>::new();
    for word in words.iter().filter(|word| spellings.contains(&word.text)) {
        match matches.last_mut().filter(|last| last.end >= word.range.start) {
            Some(last) => last.end = last.end.max(word.range.end),
            None => matches.push(word.range.clone()),
        }
    }
    matches
}

/// A part of a text in pieces.
fn cut(text: &str, part: Range<usize>, matches: &[Range<usize>]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = part.start;
    let mut add = |range: Range<usize>, is_match| {
        // Ranges begin and end with words, and so at characters.
        let text = text.get(range).unwrap_or_default().to_owned();
        if !text.is_empty() {
            pieces.push(Piece { text, is_match });
        }
    };
    for found in matches.iter().filter(|it| it.start >= part.start && it.end <= part.end) {
        add(at..found.start, false);
        add(found.clone(), true);
        at = found.end;
    }
    add(at..part.end, false);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[Piece]) -> String {
        let shown = pieces.iter().map(|piece| match piece.is_match {
            true => format!("[{}]", piece.text),
            false => piece.text.clone(),
        });
        shown.collect()
    }

    fn spellings(words: &[&str]) -> HashSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_words_that_were_searched_are_marked_as_they_are_written() {
        let found = spellings(&["cafe", "tokyo", "東京", "京タ"]);
        let shown = |text| shown(&pieces(text, &found));
        assert_eq!(shown("Le Café <b>"), "Le [Café] <b>");
        assert_eq!(shown("東京タワー"), "[東京タ]ワー");
        assert_eq!(shown("nothing"), "nothing");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn an_excerpt_of_a_long_text_is_around_the_first_word_that_was_found() {
        let filler = "lorem ipsum dolor sit amet ".repeat(20);
        let text = format!("{filler}the bunny {filler}");
        let pieces = excerpt(&text, &spellings(&["bunny"]));
        let shown = shown(&pieces);
        assert!(shown.contains("the [bunny] lorem"), "{shown}");
        assert!(shown.starts_with("…") && shown.ends_with("…"), "{shown}");
        assert!(shown.chars().count() < 200, "{shown}");
        assert!(excerpt(&filler, &spellings(&["bunny"])).is_empty());
        let far = format!("{}bunny", "x ".repeat(LOOKED_THROUGH));
        assert!(excerpt(&far, &spellings(&["bunny"])).is_empty());
    }

    #[test]
    fn the_pieces_of_a_short_text_are_the_text() {
        for text in ["a bunny", "bunny", "ein Häschen und ein bunny…", "ñ bunny ñ"] {
            let pieces = excerpt(text, &spellings(&["bunny"]));
            let joined = pieces.iter().map(|piece| piece.text.as_str()).collect::<String>();
            assert_eq!(joined, text);
        }
    }
}
