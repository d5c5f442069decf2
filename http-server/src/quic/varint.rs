//! Variable-length integers (RFC 9000 16).

use bytes::BufMut;

/// Parses one from the front. Returns its value and its length in bytes, 1, 2, 4 or 8; `None` if it
/// is incomplete. Forms longer than necessary are valid.
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = 1 << (bytes.first()? >> 6);
    let [first, rest @ ..] = bytes.get(..len)? else {
        return None;
    };
    let value =
        rest.iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    Some((value, len))
}

/// Parses two from the front, for example a frame's type and length. Returns their values and the
/// number of bytes of both; `None` if one is incomplete.
pub(crate) fn read_pair(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (one, first) = read(bytes)?;
    let (two, second) = read(&bytes[first..])?;
    Some((one, two, first + second))
}

/// Appends the lower 62 bits of `value` in the shortest form.
pub(crate) fn write(value: u64, into: &mut impl BufMut) {
    let (bytes, form) = (value.to_be_bytes(), value);
    match form {
        0..=0x3f => into.put_u8(bytes[7]),
        0x40..=0x3fff => into.put_slice(&[bytes[6] | 0x40, bytes[7]]),
        0x4000..=0x3fff_ffff => into.put_slice(&[bytes[4] | 0x80, bytes[5], bytes[6], bytes[7]]),
        _ => {
            into.put_u8(bytes[0] & 0x3f | 0xc0);
            into.put_slice(&bytes[1..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_varint_examples_of_rfc_9000_are_read_and_written() {
        // RFC 9000 A.1
        for (value, bytes) in [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ] {
            assert_eq!(read(bytes), Some((value, bytes.len())));
            assert_eq!(read(&bytes[..bytes.len() - 1]), None);
            let mut written = Vec::new();
            write(value, &mut written);
            assert_eq!(written, bytes);
        }
    }
}
