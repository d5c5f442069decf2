//! Byte ranges of complete media (RFC 9110 14). Pure. Only a single range is supported; the
//! response to a request for several is the whole representation, which the standard permits and no
//! player requests.

use std::str;

/// The requested bytes of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// All of it: there is no valid range.
    Whole,
    /// 206: `len` bytes (at least one) from `start`.
    Slice {
        /// The first byte.
        start: usize,
        /// The number of bytes.
        len: usize,
    },
    /// 416: the range starts after the end.
    Unsatisfiable,
}

impl Range {
    /// Parses a Range header's value for a representation of `size` bytes. An invalid one, one of
    /// another unit and a list of several ranges count as absent (RFC 9110 14.2).
    pub fn parse(value: &[u8], size: usize) -> Self {
        parse_range(value, size).unwrap_or(Self::Whole)
    }
}

/// A single range of bytes (RFC 9110 14.1.2); `None` if it is anything else.
fn parse_range(value: &[u8], size: usize) -> Option<Range> {
    let (unit, set) = str::from_utf8(value).ok()?.split_once('=')?;
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // `bytes=-n`, `bytes=start-`, `bytes=start-last`. A last byte beyond the end counts as the end.
    let (start, end) = match (parse_position(first), parse_position(last)) {
        // The last `n` bytes.
        (None, Some(n)) if first.is_empty() => (size - n.min(size), size),
        (Some(start), None) if last.is_empty() => (start, size),
        (Some(start), Some(last)) if start <= last => (start, size.min(last.saturating_add(1))),
        _ => return None,
    };
    match start < end {
        true => Some(Range::Slice { start, len: end - start }),
        false => Some(Range::Unsatisfiable),
    }
}

/// A decimal number; one that is too large counts as the largest possible one.
fn parse_position(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_single_range_is_clamped_to_the_length_or_unsatisfiable() {
        let slice = |start, len| Range::Slice { start, len };
        for (value, range) in [
            ("bytes=0-", slice(0, 10)),
            ("bytes=0-0", slice(0, 1)),
            ("bytes=3-5", slice(3, 3)),
            ("BYTES= 3-5 ", slice(3, 3)),
            ("bytes=3-99999999999999999999999", slice(3, 7)),
            ("bytes=9-", slice(9, 1)),
            ("bytes=-4", slice(6, 4)),
            ("bytes=-99", slice(0, 10)),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=10-12", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=99999999999999999999999-", Range::Unsatisfiable),
        ] {
            assert_eq!(Range::parse(value.as_bytes(), 10), range, "{value}");
        }
        assert_eq!(Range::parse(b"bytes=0-", 0), Range::Unsatisfiable);
    }

    #[test]
    fn values_other_than_a_single_byte_range_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "items=0-1",
            "bytes=a-b",
            "0-5",
        ] {
            assert_eq!(Range::parse(value.as_bytes(), 10), Range::Whole, "{value}");
        }
        assert_eq!(Range::parse(b"bytes=\xff-", 10), Range::Whole);
    }

    proptest! {
        #[test]
        fn a_slice_lies_within_the_whole(
            value in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 0usize..1000,
        ) {
            if let Range::Slice { start, len } = Range::parse(value.as_bytes(), size) {
                prop_assert!(len > 0 && start + len <= size);
            }
        }

        #[test]
        fn arbitrary_field_values_never_panic(value: Vec<u8>, size: usize) {
            let _ = Range::parse(&value, size);
        }
    }
}
