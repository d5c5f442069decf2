//! Priorities of the responses that share a connection. Pure: no input or output.
//!
//! RFC 9218 (the Priority field: section 4 its members, 5 the header field, 10 the server's duties)
//! and RFC 8941 4.2.2 (parsing).

use http::{HeaderMap, HeaderName, HeaderValue};

/// `Priority` (RFC 9218 5).
pub const PRIORITY: HeaderName = HeaderName::from_static("priority");
/// The urgency of a request without the field (RFC 9218 4.1).
pub const DEFAULT: u8 = 3;

/// The field's values by urgency, so that no response formats one.
const VALUES: [HeaderValue; 8] = [
    HeaderValue::from_static("u=0"),
    HeaderValue::from_static("u=1"),
    HeaderValue::from_static("u=2"),
    HeaderValue::from_static("u=3"),
    HeaderValue::from_static("u=4"),
    HeaderValue::from_static("u=5"),
    HeaderValue::from_static("u=6"),
    HeaderValue::from_static("u=7"),
];

/// The members of a Priority field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Priority {
    /// 0 (most urgent) to 7; `None` if the field has no valid urgency.
    pub urgency: Option<u8>,
    /// The client can use parts of the response as they arrive, so that it may share bandwidth with
    /// others (RFC 9218 4.2).
    pub incremental: bool,
}

/// The rank of a body among those of its connection; lower ranks are sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// 0 to 63: ordered by the client's urgency, then by the service's.
    pub level: u8,
    /// Shares bandwidth with the bodies of its level. Otherwise they are sent one after the other,
    /// in the order of their requests.
    pub incremental: bool,
}

impl Default for Rank {
    fn default() -> Self {
        Priority::default().rank(DEFAULT)
    }
}

impl Priority {
    /// Parses the Priority fields of a message, merged in their order (RFC 8941 4.2). A field that
    /// does not parse makes all of them count as absent.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut priority = Self::default();
        for value in headers.get_all(PRIORITY) {
            match parse(value.as_bytes(), priority) {
                Some(read) => priority = read,
                None => return Self::default(),
            }
        }
        priority
    }

    /// The rank with the service's own urgency `ours`, 0 (first) to 7: the client's urgency decides
    /// if there is one, and `ours` decides among equals. Larger values count as 7.
    ///
    /// Source: RFC 9218 8 (the server may combine the two).
    pub fn rank(self, ours: u8) -> Rank {
        Rank {
            level: 8 * self.urgency.unwrap_or(ours).min(7) + ours.min(7),
            incremental: self.incremental,
        }
    }
}

/// The urgency as the value of a Priority field of a response (RFC 9218 5.1); more than 7 counts as
/// 7.
pub fn value(urgency: u8) -> HeaderValue {
    VALUES[usize::from(urgency.min(7))].clone()
}

/// Parses one field line as a dictionary (RFC 8941 4.2.2) and merges it with the lines before; a
/// later member replaces an earlier one. `None` if the line is invalid.
fn parse(line: &[u8], mut priority: Priority) -> Option<Priority> {
    let mut input = Input(line.trim_ascii());
    // Members without a meaning here are parsed too, because one syntax error invalidates the whole
    // field (RFC 8941 4.2).
    while !input.0.is_empty() {
        let key = input.key()?;
        let item = if input.take(b'=') { input.member()? } else { Item::Bool(true) };
        input.parameters()?;
        match (key, item) {
            // An urgency out of range or of another type counts as absent (RFC 9218 4).
            (b"u", Item::Integer(urgency)) => {
                priority.urgency = u8::try_from(urgency).ok().filter(|&u| u <= 7)
            }
            (b"u", _) => priority.urgency = None,
            (b"i", Item::Bool(incremental)) => priority.incremental = incremental,
            (b"i", _) => priority.incremental = false,
            _ => {}
        }
        input.space(b" \t");
        if input.0.is_empty() {
            break;
        }
        if !input.take(b',') {
            return None;
        }
        input.space(b" \t");
        if input.0.is_empty() {
            return None; // a trailing comma
        }
    }
    Some(priority)
}

/// A bare item, as far as its value matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Integer(i64),
    Bool(bool),
    Other,
}

/// The bytes not parsed yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Removes `byte` if it is the next one, and returns whether it was.
    fn take(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((&first, rest)) if first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Skips bytes that are in `of`: parameters and inner lists allow spaces, members also tabs.
    fn space(&mut self, of: &[u8]) {
        self.span(|byte| of.contains(&byte));
    }

    /// Takes the leading bytes that match `like`.
    fn span(&mut self, like: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.0.iter().position(|&byte| !like(byte)).unwrap_or(self.0.len());
        let (span, rest) = self.0.split_at(len);
        self.0 = rest;
        span
    }

    /// Parses a key (RFC 8941 4.2.3.3): a lower-case letter or `*`, then also digits, `_`, `-` and
    /// `.`.
    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        if !(first.is_ascii_lowercase() || first == b'*') {
            return None;
        }
        Some(self.span(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        }))
    }

    /// Parses an item or an inner list (RFC 8941 4.2.1.1).
    fn member(&mut self) -> Option<Item> {
        if !self.take(b'(') {
            return self.item();
        }
        loop {
            self.space(b" ");
            if self.take(b')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    /// Skips any number of `;key=item`: no parameter has a meaning here.
    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.space(b" ");
            self.key()?;
            if self.take(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    /// Parses a bare item (RFC 8941 4.2.3.1). Only integers and booleans keep their value.
    fn item(&mut self) -> Option<Item> {
        let (&first, rest) = self.0.split_first()?;
        // The first byte decides the type: boolean, string, byte sequence, number, token.
        match first {
            b'?' => {
                self.0 = rest;
                let value = self.take(b'1');
                (value || self.take(b'0')).then_some(Item::Bool(value))
            }
            b'"' => {
                self.0 = rest;
                loop {
                    // Strings have no meaning here, but their quotes and escapes decide where the
                    // item ends.
                    let (&byte, rest) = self.0.split_first()?;
                    self.0 = rest;
                    match byte {
                        b'"' => return Some(Item::Other),
                        b'\\' if self.take(b'"') || self.take(b'\\') => {}
                        b'\\' => return None,
                        0x20..=0x7e => {}
                        _ => return None,
                    }
                }
            }
            b':' => {
                self.0 = rest;
                self.span(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.take(b':').then_some(Item::Other)
            }
            b'-' | b'0'..=b'9' => self.number(),
            _ if first.is_ascii_alphabetic() || first == b'*' => {
                self.span(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Some(Item::Other)
            }
            _ => None,
        }
    }

    /// Parses an integer of at most 15 digits, or a decimal of at most 12 and 3 digits (RFC 8941
    /// 4.2.4).
    fn number(&mut self) -> Option<Item> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        // 15 digits fit into 64 bits, so that the sum below cannot overflow.
        let digits = self.span(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return None;
        }
        if self.take(b'.') {
            let fraction = self.span(|byte| byte.is_ascii_digit());
            let fits = digits.len() <= 12 && (1..=3).contains(&fraction.len());
            return fits.then_some(Item::Other);
        }
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Some(Item::Integer(sign * number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> (Option<u8>, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PRIORITY, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let Priority { urgency, incremental } = Priority::of(&headers);
        (urgency, incremental)
    }

    #[test]
    fn a_priority_field_is_read_as_the_rfcs_say() {
        for (lines, expected) in [
            (&["u=0"][..], (Some(0), false)),
            (&["u=7, i"], (Some(7), true)),
            (&["i,u=2"], (Some(2), true)),
            (&["i=?0, u=5"], (Some(5), false)),
            (&["u=1;x=\"a, b\";y, i=?1;z=3"], (Some(1), true)),
            (&["u=3, u=4"], (Some(4), false)),
            (&["u=3", "i", "u=1"], (Some(1), true)),
            (&[" u=2 ,\ti "], (Some(2), true)),
            (&["x=(a \"b\" 1.5;p);q, u=2, blob=:aGk=:, n=-5, t=*a/b"], (Some(2), false)),
            (&[""], (None, false)),
            (&[], (None, false)),
            // Another type, or out of range:
            (&["u=8, i"], (None, true)),
            (&["u=-1"], (None, false)),
            (&["u=1.5, i"], (None, true)),
            (&["u, i=1"], (None, false)),
            (&["u=(1)"], (None, false)),
            // Not a dictionary:
            (&["u=1,"], (None, false)),
            (&["u=1 i"], (None, false)),
            (&["U=1"], (None, false)),
            (&["u=1, x=\"a"], (None, false)),
            (&["u=1", "=;"], (None, false)),
            (&["u=1234567890123456"], (None, false)),
            (&["u=1, \u{e9}"], (None, false)),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_clients_urgency_decides_first_and_ours_among_equals() {
        let asked = |urgency| Priority { urgency, incremental: false };
        let order = [
            asked(Some(0)).rank(6),
            asked(None).rank(1),
            asked(Some(1)).rank(2),
            asked(None).rank(2),
            asked(Some(3)).rank(1),
            asked(None).rank(3),
            asked(None).rank(6),
            asked(Some(7)).rank(1),
        ];
        assert!(order.is_sorted_by_key(|rank| rank.level), "{order:?}");
        assert_eq!(Rank::default(), asked(Some(3)).rank(3));
    }

    proptest! {
        #[test]
        fn no_field_makes_the_parser_panic_or_has_an_urgency_out_of_range(
            line in "[ui=?01,;() \t\"\\\\:*a.9-]{0,24}",
        ) {
            let read = parse(line.as_bytes(), Priority::default()).unwrap_or_default();
            prop_assert!(read.urgency.is_none_or(|urgency| urgency <= 7));
        }
    }
}
