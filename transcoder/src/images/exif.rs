//! The orientation in the Exif data of a JPEG: one tag of the first directory (TIFF 6.0, clause 2;
//! Exif 2.32, 4.6.4 A). Pure.

/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;
/// The type of a 16-bit number.
const SHORT: u16 = 3;
/// Bytes of an entry of a directory.
const ENTRY: usize = 12;

/// The orientation, 1 to 8, in a TIFF structure; `None` if it has none, or is damaged.
pub(super) fn orientation(tiff: &[u8]) -> Option<u8> {
    let is_little = match tiff.first_chunk()? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |bytes: &[u8]| {
        let bytes = *bytes.first_chunk()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let offset = *tiff.get(4..)?.first_chunk()?;
    let offset = if is_little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) };
    let directory = tiff.get(usize::try_from(offset).ok()?..)?;
    let entries = directory.get(2..)?.chunks_exact(ENTRY);
    for entry in entries.take(usize::from(short(directory)?)) {
        if short(entry)? == ORIENTATION && short(&entry[2..])? == SHORT {
            let value = u8::try_from(short(&entry[8..])?).ok()?;
            return (1..=8).contains(&value).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orientation_is_read_in_both_byte_orders() {
        let little =
            b"II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\x04\0\0\0abc\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0";
        assert_eq!(orientation(little), Some(8));
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
        assert_eq!(orientation(big), Some(3));
        for end in 0..little.len() - 3 {
            assert_eq!(orientation(&little[..end]), None, "{end}");
        }
    }

    #[test]
    fn data_that_point_nowhere_or_are_of_another_type_have_no_orientation() {
        for tiff in [
            &b"II*\0\xff\xff\xff\xff"[..],
            b"II*\0\x08\0\0\0\xff\xff",
            b"XX*\0\x08\0\0\0",
            b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
            b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x03\0\0\0\0",
        ] {
            assert_eq!(orientation(tiff), None);
        }
    }
}
