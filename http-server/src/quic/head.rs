//! Writes the head of a response over HTTP/3: a HEADERS frame (RFC 9114 7.2.2) whose field lines
//! refer to QPACK's static table only (RFC 9204 4.5, appendix A). Without a dynamic table, a
//! response never waits for another stream, and connections hold no table. Without Huffman coding a
//! head is a fifth longer, but coding would cost more time than all other steps of writing it.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};

use super::varint;

/// Frame types (RFC 9114 11.2.1).
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
/// Index of `:status` in the static table.
const STATUS: u8 = 24;

/// Appends a HEADERS frame with `:status` and all of `headers`, whose names are in lower case
/// already.
pub(super) fn write(status: StatusCode, headers: &HeaderMap, into: &mut BytesMut) {
    // The length takes two bytes up to 16 383, and four beyond. Four are reserved; a value may use
    // a longer form than it needs (RFC 9000 16).
    into.put_u8(HEADERS);
    let length_at = into.len();
    into.put_u32(0);
    let begin = into.len();
    into.put_slice(&[0, 0]); // nothing of the dynamic table (4.5.1)
    // 0xc0: indexed field line of the static table (4.5.2). 0x50: literal value with a name of that
    // table (4.5.4). 0x20: literal name (4.5.6).
    match whole_status(status) {
        Some(index) => integer(index, 6, 0xc0, into),
        None => {
            integer(STATUS, 4, 0x50, into);
            string(status.as_str().as_bytes(), into);
        }
    }
    for (name, value) in headers {
        let value = value.as_bytes();
        // Both forms name the field by its index, and the first also its value: one byte or two
        // instead of the text.
        match known(name) {
            Some((index, values)) => match values.iter().find(|(known, _)| *known == value) {
                Some(&(_, whole)) => integer(whole, 6, 0xc0, into),
                None => {
                    integer(index, 4, 0x50, into);
                    string(value, into);
                }
            },
            None => {
                long(name.as_str().len(), 3, 0x20, into);
                into.put_slice(name.as_str().as_bytes());
                string(value, into);
            }
        }
    }
    let length = u32::try_from(into.len() - begin).unwrap_or(u32::MAX).min(0x3fff_ffff);
    into[length_at..begin].copy_from_slice(&(length | 0x8000_0000).to_be_bytes());
}

/// Appends the head of a DATA frame of `length` bytes.
pub(super) fn write_data(length: usize, into: &mut BytesMut) {
    into.put_u8(DATA);
    varint::write(length as u64, into);
}

/// The index of `:status` with this value in the static table, if it is there.
fn whole_status(status: StatusCode) -> Option<u8> {
    Some(match status.as_u16() {
        200 => 25,
        204 => 64,
        206 => 65,
        304 => 26,
        400 => 67,
        403 => 68,
        404 => 27,
        421 => 69,
        425 => 70,
        500 => 71,
        503 => 28,
        _ => return None,
    })
}

/// Values that the static table holds for one name, with their indices.
type Whole = &'static [(&'static [u8], u8)];

/// A name's index in the static table and the values there, for the fields that responses have.
fn known(name: &HeaderName) -> Option<(u8, Whole)> {
    Some(match *name {
        header::AGE => (2, &[]),
        header::CONTENT_LENGTH => (4, &[]),
        header::DATE => (6, &[]),
        header::ETAG => (7, &[]),
        header::LAST_MODIFIED => (10, &[]),
        header::LOCATION => (12, &[]),
        header::ACCEPT_RANGES => (32, &[(b"bytes", 32)]),
        header::ACCESS_CONTROL_ALLOW_HEADERS => (75, &[(b"*", 75)]),
        header::ACCESS_CONTROL_ALLOW_ORIGIN => (35, &[(b"*", 35)]),
        header::CACHE_CONTROL => (36, &[(b"no-cache", 39), (b"no-store", 40)]),
        header::CONTENT_ENCODING => (43, &[(b"gzip", 43)]),
        header::CONTENT_TYPE => (
            46,
            &[(b"application/json", 46), (b"image/jpeg", 49), (b"text/html; charset=utf-8", 52)],
        ),
        header::VARY => (59, &[(b"accept-encoding", 59)]),
        header::X_CONTENT_TYPE_OPTIONS => (61, &[(b"nosniff", 61)]),
        header::ACCESS_CONTROL_ALLOW_METHODS => (76, &[]),
        header::ACCESS_CONTROL_EXPOSE_HEADERS => (79, &[]),
        header::ALT_SVC => (83, &[]),
        header::SERVER => (92, &[]),
        ref name if name.as_str() == "timing-allow-origin" => (93, &[(b"*", 93)]),
        _ => return None,
    })
}

/// Appends a string literal, not Huffman-coded (RFC 9204 4.1.2).
fn string(string: &[u8], into: &mut BytesMut) {
    long(string.len(), 7, 0, into);
    into.put_slice(string);
}

/// Appends an index of the static table as [`long`] does.
fn integer(value: u8, bits: u32, form: u8, into: &mut BytesMut) {
    long(value.into(), bits, form, into);
}

/// Appends an integer with a prefix of `bits` bits, after the bits of `form` (RFC 9204 4.1.1).
fn long(mut value: usize, bits: u32, form: u8, into: &mut BytesMut) {
    let most = (1 << bits) - 1;
    let byte = |value: usize| u8::try_from(value & 0xff).unwrap_or(0);
    if value < most {
        return into.put_u8(form | byte(value));
    }
    into.put_u8(form | byte(most));
    value -= most;
    while value >= 0x80 {
        into.put_u8(byte(value) | 0x80);
        value >>= 7;
    }
    into.put_u8(byte(value));
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_headers_and_data_frames_of_a_response_have_the_expected_bytes() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("12"));
        headers.insert("priority", HeaderValue::from_static("u=3"));
        headers.insert(header::DATE, HeaderValue::from_static("x"));
        let mut bytes = BytesMut::new();
        write(StatusCode::IM_A_TEAPOT, &headers, &mut bytes);
        let expected = b"\x01\x80\x00\x00\x1e\x00\x00\x5f\x09\x03418\xe0\x54\x0212\
                         \x27\x01priority\x03u=3\x56\x01x";
        assert_eq!(bytes[..], expected[..]);
        bytes.clear();
        write(StatusCode::OK, &HeaderMap::new(), &mut bytes);
        write_data(300, &mut bytes);
        assert_eq!(bytes[..], b"\x01\x80\x00\x00\x03\x00\x00\xd9\x00\x41\x2c"[..]);
    }

    #[test]
    fn the_length_of_a_long_field_value_is_a_multi_byte_integer() {
        let mut headers = HeaderMap::new();
        let value = "v".repeat(127 + 128 + 5);
        headers.insert(header::SERVER, HeaderValue::from_str(&value).unwrap());
        let mut bytes = BytesMut::new();
        write(StatusCode::OK, &headers, &mut bytes);
        // 92 = 15 + 77; 260 = 127 + 133, the lower seven bits first.
        assert_eq!(bytes[8..13], [0x5f, 77, 0x7f, 0x85, 0x01]);
        assert_eq!(bytes.len(), 13 + value.len());
    }
}
