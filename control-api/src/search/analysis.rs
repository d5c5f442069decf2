//! Cuts texts into the words that are indexed and searched, in the same way for both.
//!
//! Letters are folded: compatibility forms (Unicode NFKD), case, and marks of Latin, Greek,
//! Cyrillic, Arabic and Hebrew letters, so that "cafe" finds "Café". A word is a run of letters and
//! digits. Scripts that are written without spaces, and Hangul, are cut into overlapping pairs of
//! characters instead, because no dictionary of words is needed for that. The rules do not depend
//! on a language.

use std::ops::Range;

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Longest word in characters. The rest of a longer one is left out.
const MAX_WORD: usize = 40;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Its folded form.
    pub(super) text: String,
    /// Its place in the text, in bytes.
    pub(super) range: Range<usize>,
    /// What it is.
    pub(super) form: Form,
}

/// The forms of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A whole word of a script that is written with spaces.
    Whole,
    /// Two characters of a run in another script.
    Pair,
    /// The last character of such a run.
    Last,
}

/// The words of a text, in order. A run of another script has a word for each pair, and one for its
/// last character, so that each character begins a word.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut run = Run::default();
    for (start, c) in text.char_indices() {
        let end = start + c.len_utf8();
        let is_mark = is_combining_mark(c);
        // A mark continues a word, and begins none.
        if !c.is_alphanumeric() && (!is_mark || run.units.is_empty()) {
            run.end(&mut words);
            continue;
        }
        let is_unspaced = is_unspaced(c) || (is_mark && run.is_unspaced);
        if is_unspaced != run.is_unspaced {
            run.end(&mut words);
            run.is_unspaced = is_unspaced;
        }
        let mut folded = String::new();
        fold(c, &mut folded);
        run.units.push((folded, start..end));
    }
    run.end(&mut words);
    words
}

/// The folded words of a text, joined by a space: texts with the same words in the same order have
/// the same.
pub(super) fn joined(text: &str) -> String {
    let words = words(text).into_iter().filter(|word| word.form != Form::Last);
    words.map(|word| word.text).collect::<Vec<_>>().join(" ")
}

/// A run of letters, digits and marks of one kind of script.
#[derive(Default)]
struct Run {
    is_unspaced: bool,
    /// The folded form of each character, and its place.
    units: Vec<(String, Range<usize>)>,
}

impl Run {
    /// Adds the words of the run, and begins another.
    fn end(&mut self, words: &mut Vec<Word>) {
        let units = std::mem::take(&mut self.units);
        let (Some((_, first)), Some((_, last))) = (units.first(), units.last()) else { return };
        if !self.is_unspaced {
            let text = units.iter().flat_map(|(text, _)| text.chars()).take(MAX_WORD);
            let text = text.collect::<String>();
            if !text.is_empty() {
                words.push(Word { text, range: first.start..last.end, form: Form::Whole });
            }
            return;
        }
        // A mark is one unit with its letter. A mark that was folded away leaves nothing.
        let units = units.into_iter().filter(|(text, _)| !text.is_empty()).collect::<Vec<_>>();
        for (index, (text, range)) in units.iter().enumerate() {
            words.push(match units.get(index + 1) {
                Some((next, after)) => Word {
                    text: format!("{text}{next}"),
                    range: range.start..after.end,
                    form: Form::Pair,
                },
                None => Word { text: text.clone(), range: range.clone(), form: Form::Last },
            });
        }
    }
}

/// Appends the folded form of a character: nothing for a mark that is left out.
fn fold(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(c.to_ascii_lowercase());
        return;
    }
    let letters = [c].into_iter().nfkd().filter(|c| !is_left_out(*c));
    // What is left is composed again, because a mark that is kept belongs to its letter.
    let letters = letters.flat_map(char::to_lowercase).filter(|c| !is_left_out(*c)).nfc();
    for c in letters {
        match plain(c) {
            Some(plain) => out.push_str(plain),
            None => out.push(c),
        }
    }
}

/// Marks without which a letter is found: those of Latin, Greek and Cyrillic letters, the points of
/// Hebrew, and the vowel signs and the long line of Arabic. Marks of other scripts are letters of
/// their own to a reader.
fn is_left_out(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36F}' | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}'
        | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}'
        | '\u{591}'..='\u{5BD}' | '\u{5BF}' | '\u{5C1}'..='\u{5C2}' | '\u{5C4}'..='\u{5C5}'
        | '\u{5C7}' | '\u{64B}'..='\u{65F}' | '\u{670}' | '\u{640}')
}

/// The usual spelling of a letter that has no decomposition.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'þ' => "th",
        'ħ' => "h",
        'ı' => "i",
        'ŋ' => "n",
        'ŧ' => "t",
        'ς' => "σ",
        _ => return None,
    })
}

/// Whether a character is of a script that is written without spaces between words, or of Hangul,
/// whose words have endings.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        // Thai, Lao, Tibetan, Myanmar, Khmer.
        '\u{E00}'..='\u{EFF}' | '\u{F00}'..='\u{FFF}' | '\u{1000}'..='\u{109F}'
        | '\u{1780}'..='\u{17FF}'
        // Hangul.
        | '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}' | '\u{A960}'..='\u{A97F}'
        | '\u{AC00}'..='\u{D7FF}'
        // Kana, Bopomofo and Han, also in half and full width.
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{312F}' | '\u{31A0}'..='\u{31FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{FF66}'..='\u{FFDC}' | '\u{1B000}'..='\u{1B16F}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn case_accents_and_compatibility_forms_make_no_difference() {
        for (text, expected) in [
            ("Café", "cafe"),
            ("Cafe\u{301}", "cafe"),
            ("ＣＡＦÉ", "cafe"),
            ("STRASSE", "strasse"),
            ("Straße", "strasse"),
            ("Ærøskøbing", "aeroskobing"),
            ("Łódź", "lodz"),
            ("İstanbul", "istanbul"),
            ("Ñandú", "nandu"),
            ("ΟΔΟΣ", "οδοσ"),
            ("ὁδός", "οδοσ"),
            ("Ёлка", "елка"),
            ("שָׁלוֹם", "שלום"),
            ("مُحَمَّد", "محمد"),
            ("ﬁlm", "film"),
            ("H₂O", "h2o"),
        ] {
            assert_eq!(texts(text), [expected], "{text}");
        }
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(
            texts("Rust, 2024: don't-panic_now!"),
            ["rust", "2024", "don", "t", "panic", "now"]
        );
        assert_eq!(texts("♥ … !?"), [] as [&str; 0]);
        assert_eq!(texts("\u{301}"), [] as [&str; 0], "a mark alone is no word");
        // A sign between two consonants does not end a word.
        assert_eq!(texts("हिन्दी फ़िल्म").len(), 2);
        let long = "x".repeat(100);
        assert_eq!(texts(&long), ["x".repeat(MAX_WORD)]);
    }

    #[test]
    fn scripts_without_spaces_are_cut_into_pairs_and_each_character_begins_a_word() {
        assert_eq!(texts("東京タワー"), ["東京", "京タ", "タワ", "ワー", "ー"]);
        assert_eq!(texts("猫"), ["猫"]);
        assert_eq!(texts("3D映像2"), ["3d", "映像", "像", "2"]);
        assert_eq!(texts("한국어"), ["한국", "국어", "어"]);
        assert_eq!(texts("ﾀﾜｰ"), ["タワ", "ワー", "ー"], "half width");
        assert_eq!(texts("がく"), ["がく", "く"], "the mark of a kana is kept");
        assert_ne!(texts("がく"), texts("かく"));
        assert!(!texts("ภาษาไทย").is_empty());
    }

    #[test]
    fn the_place_of_a_word_is_that_of_its_letters() {
        let text = "Le Café, 東京";
        let found = words(text);
        let places = found.iter().map(|word| &text[word.range.clone()]).collect::<Vec<_>>();
        assert_eq!(places, ["Le", "Café", "東京", "京"]);
    }

    #[test]
    fn texts_with_the_same_words_are_the_same_when_joined() {
        assert_eq!(joined("Big Buck  BUNNY!"), joined("big buck bunny"));
        assert_ne!(joined("Big Buck"), joined("big buck bunny"));
        assert_eq!(joined("…"), "");
    }

    #[test]
    fn any_text_is_cut_without_a_fault_and_places_are_within_it() {
        // Numbers of a simple generator: the same each time.
        let mut state = 7_u32;
        for _ in 0..2_000 {
            let text = (0..12)
                .filter_map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    char::from_u32((state >> 8) % 0x3_0000)
                })
                .collect::<String>();
            for word in words(&text) {
                assert!(!word.text.is_empty() && text.get(word.range).is_some(), "{text:?}");
            }
        }
    }
}
