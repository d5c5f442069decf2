//! Checks of a request's field section that h3 omits: pseudo-header fields come first, occur once
//! each, and are those of a request (RFC 9114 4.3, 4.3.1). Otherwise two readers could interpret
//! one request differently. Only the form of field lines is parsed (RFC 9204 4.5); h3 decodes their
//! values.

/// The pseudo-header field at an index of the static table (RFC 9204 A), if there is one.
fn pseudo(index: u64) -> Option<Pseudo> {
    match index {
        0 => Some(Pseudo::Authority),
        1 => Some(Pseudo::Path),
        15..=21 => Some(Pseudo::Method),
        22 | 23 => Some(Pseudo::Scheme),
        24..=28 | 63..=71 => Some(Pseudo::Status),
        _ => None,
    }
}

/// The pseudo-header fields that the static table names. The first four are those of a request, in
/// the order of the marks in [`is_request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pseudo {
    Authority,
    Path,
    Method,
    Scheme,
    /// Only in responses.
    Status,
    /// A field whose name is a literal. No request needs that for a pseudo-header field.
    Other,
}

/// Whether the pseudo-header fields of an encoded field section are those of a request:
/// `:authority`, `:path`, `:method` and `:scheme`, each at most once, before all other fields. h3
/// checks that the required ones are present.
///
/// Sections that cannot be decoded pass, because h3 reports them; except for those with an overlong
/// integer, which another reader may decode.
pub(crate) fn is_request(section: &[u8]) -> bool {
    let (mut seen, mut regular) = ([false; 4], false);
    let mut lines = Lines::new(section);
    while let Some(pseudo) = lines.next_name() {
        let Some(pseudo) = pseudo else {
            regular = true;
            continue;
        };
        // `Status` and `Other` are beyond the four marks.
        let Some(seen) = seen.get_mut(pseudo as usize) else {
            return false;
        };
        if regular || std::mem::replace(seen, true) {
            return false;
        }
    }
    !lines.overlong
}

/// Whether the section has no pseudo-header field (RFC 9114 4.3).
pub(crate) fn is_trailer(section: &[u8]) -> bool {
    let mut lines = Lines::new(section);
    while let Some(pseudo) = lines.next_name() {
        if pseudo.is_some() {
            return false;
        }
    }
    !lines.overlong
}

/// Iterates over the names of field lines.
struct Lines<'a> {
    /// The bytes not parsed yet.
    rest: &'a [u8],
    /// An integer is longer than necessary: another implementation may continue to read where this
    /// one does not.
    overlong: bool,
}

impl<'a> Lines<'a> {
    /// Skips the prefix, which is two integers: Required Insert Count and Base (RFC 9204 4.5.1).
    fn new(section: &'a [u8]) -> Self {
        let mut lines = Self { rest: section, overlong: false };
        if lines.integer(8).and_then(|_| lines.integer(7)).is_none() {
            lines.rest = &[];
        }
        lines
    }

    /// The name of the next line: `Some(None)` for a regular field. `None` at the end, or where the
    /// bytes are not a line.
    fn next_name(&mut self) -> Option<Option<Pseudo>> {
        // The leading bits give the form of the line. Forms that refer to the dynamic table by a
        // post-base index (first bits 0000 and 0001) end the iteration: h3 rejects them.
        let first = *self.rest.first()?;
        if first & 0x80 != 0 {
            // Indexed (RFC 9204 4.5.2). h3 rejects a dynamic index, because there is no dynamic
            // table.
            return Some(pseudo(self.integer(6)?).filter(|_| first & 0x40 != 0));
        }
        if first & 0x40 != 0 {
            // Literal with name reference (RFC 9204 4.5.4).
            let name = pseudo(self.integer(4)?).filter(|_| first & 0x10 != 0);
            self.string(7)?;
            return Some(name);
        }
        if first & 0x20 != 0 {
            // Literal name (RFC 9204 4.5.6): a colon, plain or Huffman-coded (RFC 7541 B: 1011100).
            let huffman = first & 0x08 != 0;
            let name = self.string(3)?;
            self.string(7)?;
            let colon = match (name.first(), huffman) {
                (Some(&first), true) => first >> 1 == 0b101_1100,
                (Some(&first), false) => first == b':',
                (None, _) => false,
            };
            return Some(colon.then_some(Pseudo::Other));
        }
        None
    }

    /// Parses an integer with a prefix of `bits` bits (RFC 9204 4.1.1).
    fn integer(&mut self, bits: u32) -> Option<u64> {
        let (&first, mut rest) = self.rest.split_first()?;
        let most = (1u64 << bits) - 1;
        let mut value = u64::from(first) & most;
        if value == most {
            let mut shift = 0;
            loop {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                value = value.checked_add(u64::from(byte & 0x7f).checked_shl(shift)?)?;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
                if shift > 56 {
                    self.overlong = true;
                    return None;
                }
            }
        }
        self.rest = rest;
        Some(value)
    }

    /// Parses a string whose length has a prefix of `bits` bits (RFC 9204 4.1.2). The bytes stay
    /// coded.
    fn string(&mut self, bits: u32) -> Option<&'a [u8]> {
        let len = usize::try_from(self.integer(bits)?).ok()?;
        let (string, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(lines: &[&[u8]]) -> Vec<u8> {
        [&[&[0, 0][..]], lines].concat().concat()
    }

    const GET: &[u8] = &[0xc0 | 17];
    const HTTPS: &[u8] = &[0xc0 | 23];
    const ROOT: &[u8] = &[0xc0 | 1];
    const AUTHORITY: &[u8] = b"\x50\x01a";
    const PATH: &[u8] = b"\x51\x02/b";
    const ACCEPT: &[u8] = &[0xc0 | 29];

    #[test]
    fn each_pseudo_header_field_occurs_once_and_before_regular_fields() {
        let good = section(&[GET, HTTPS, AUTHORITY, PATH, ACCEPT]);
        assert!(is_request(&good));
        for bad in [
            section(&[GET, HTTPS, AUTHORITY, ROOT, PATH]),
            section(&[GET, GET, HTTPS, AUTHORITY, ROOT]),
            section(&[GET, HTTPS, AUTHORITY, AUTHORITY, ROOT]),
            section(&[GET, HTTPS, AUTHORITY, ACCEPT, ROOT]),
            section(&[GET, HTTPS, AUTHORITY, ROOT, &[0xc0 | 25]]), // :status
        ] {
            assert!(!is_request(&bad), "{bad:02x?}");
        }
        assert!(is_trailer(&section(&[ACCEPT])) && !is_trailer(&good));
    }

    #[test]
    fn a_pseudo_header_field_with_a_literal_name_is_refused_plain_or_huffman() {
        let plain = section(&[GET, HTTPS, AUTHORITY, ROOT, b"\x25:path\x02/c"]);
        // ":path" Huffman-coded: 1011100 101011 00011 01001 100111, padded.
        let huffman = section(&[
            GET,
            HTTPS,
            AUTHORITY,
            ROOT,
            &[0x2c, 0xb9, 0x58, 0xd3, 0x3f, 0x02, b'/', b'c'],
        ]);
        let regular = section(&[GET, HTTPS, AUTHORITY, ROOT, b"\x25xpath\x02/c"]);
        assert!(!is_request(&plain) && !is_request(&huffman) && is_request(&regular));
    }

    #[test]
    fn an_overlong_integer_does_not_hide_a_duplicate_pseudo_header_field() {
        let long = [&[0xff][..], &[0x80; 20], &[0]].concat();
        assert!(!is_request(&section(&[GET, HTTPS, AUTHORITY, ROOT, &long, PATH])));
    }

    #[test]
    fn malformed_field_sections_never_panic() {
        for garbage in [
            &b""[..],
            &[0],
            &[0, 0, 0x10],
            &[0, 0, 0x51, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            let passes = (is_request(garbage), is_trailer(garbage));
            assert_eq!(passes, (true, true), "{garbage:02x?}");
        }
        // Except for an overlong integer, which another reader may decode.
        let overlong = [0xff; 40];
        assert!(!is_request(&overlong) && !is_trailer(&overlong));
    }
}
