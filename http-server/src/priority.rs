//! Priorities of the responses that share a connection. Pure: no input or output.
//!
//! RFC 9218 (the Priority field: section 4 its members, 5 the header field, 10 the server's duties)
//! and RFC 9651 4.2.2 (parsing, by sfparse).

use http::{HeaderMap, HeaderName, HeaderValue};
use sfparse::{Parser, Value};

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
    /// Parses the Priority fields of a message, merged in their order (RFC 9651 4.2). A field that
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

/// Parses one field line as a dictionary (RFC 9651 4.2.2) and merges it with the lines before; a
/// later member replaces an earlier one. `None` if the line is invalid: one syntax error
/// invalidates the whole field (RFC 9651 4.2).
fn parse(line: &[u8], mut priority: Priority) -> Option<Priority> {
    let mut members = Parser::new(line);
    while let Some(member) = members.parse_dict().ok()? {
        match member {
            // An urgency out of range or of another type counts as absent (RFC 9218 4).
            ("u", Value::Integer(urgency)) => {
                priority.urgency = u8::try_from(urgency).ok().filter(|&u| u <= 7)
            }
            ("u", _) => priority.urgency = None,
            ("i", Value::Bool(incremental)) => priority.incremental = incremental,
            ("i", _) => priority.incremental = false,
            _ => {}
        }
    }
    Some(priority)
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
    fn priority_fields_are_parsed_by_rfc_9218_and_rfc_8941() {
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
    fn responses_rank_by_the_clients_urgency_and_then_by_the_servers() {
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
        fn arbitrary_priority_fields_never_panic_and_their_urgency_is_at_most_7(
            line in "[ui=?01,;() \t\"\\\\:*a.9-]{0,24}",
        ) {
            let read = parse(line.as_bytes(), Priority::default()).unwrap_or_default();
            prop_assert!(read.urgency.is_none_or(|urgency| urgency <= 7));
        }
    }
}
