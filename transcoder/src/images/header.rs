//! The kind and the size of a picture, and whether it is whole: its structure is walked to its end
//! before a decoder gets it. Pure.
//!
//! PNG (RFC 2083 and later editions, chunk layout of clause 5), WebP (RFC 9649) and JPEG (ITU-T
//! T.81 annex B). A PNG or WebP must end where it says that it ends. Cameras append data to a JPEG
//! (ITU-T T.81 permits no more than one picture, CIPA DC-007 appends more), so bytes behind its end
//! are permitted; no decoder reads them, and nothing of them is kept.

use super::exif;

/// Maximum number of samples in a row or a column.
pub const MAX_SIDE: u32 = 8_192;
/// Maximum number of samples of a picture.
pub const MAX_SAMPLES: u64 = 25_000_000;

/// A format of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JPEG: baseline or progressive, with 8 bits a sample.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
}

/// The facts of a picture's structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The format.
    pub kind: Kind,
    /// Samples in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The position of the stored picture, 1 to 8 (Exif 2.32, 4.6.4 A, tag 274).
    pub orientation: u8,
}

/// Why a picture is refused before it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Its first bytes are those of no accepted format.
    #[error("this is no JPEG, PNG or WebP")]
    Kind,
    /// It ends before its end, or its structure is wrong.
    #[error("the picture is truncated or damaged")]
    Damaged,
    /// There is something behind its end.
    #[error("there are bytes behind the end of the picture")]
    Trailing,
    /// It has too many samples, or none.
    #[error(
        "the picture has {width}x{height} samples; at most {MAX_SIDE} a side and {MAX_SAMPLES} in \
         all are accepted"
    )]
    Size {
        /// Samples in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

impl Header {
    /// Reads the structure of a picture.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(picture: &[u8]) -> Result<Self, HeaderError> {
        let header = match picture {
            [0xff, 0xd8, 0xff, ..] => jpeg(picture),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => png(picture),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(picture),
            _ => Err(HeaderError::Kind),
        }?;
        let Self { width, height, .. } = header;
        let has_samples = (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height);
        match has_samples && u64::from(width) * u64::from(height) <= MAX_SAMPLES {
            true => Ok(header),
            false => Err(HeaderError::Size { width, height }),
        }
    }
}

/// Takes `count` bytes from the front.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], HeaderError> {
    let (taken, left) = rest.split_at_checked(count).ok_or(HeaderError::Damaged)?;
    *rest = left;
    Ok(taken)
}

fn u16_be(bytes: &[u8]) -> Result<u16, HeaderError> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)).ok_or(HeaderError::Damaged)
}

fn u32_be(bytes: &[u8]) -> Result<u32, HeaderError> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(HeaderError::Damaged)
}

fn u32_le(bytes: &[u8]) -> Result<u32, HeaderError> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(HeaderError::Damaged)
}

fn length(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Walks the markers (T.81 B.1.1.3) from SOI to EOI.
fn jpeg(picture: &[u8]) -> Result<Header, HeaderError> {
    let mut rest = &picture[2..];
    let (mut size, mut orientation, mut has_scan) = (None, 1, false);
    loop {
        let marker = next_marker(&mut rest)?;
        match marker {
            // RST and TEM have no segment.
            0xd0..=0xd7 | 0x01 => continue,
            0xd8 => return Err(HeaderError::Damaged),
            0xd9 => break,
            _ => {}
        }
        let long = usize::from(u16_be(take(&mut rest, 2)?)?);
        let segment = take(&mut rest, long.checked_sub(2).ok_or(HeaderError::Damaged)?)?;
        match marker {
            // SOF0 to SOF2: P, Y, X (T.81 B.2.2). Other processes are not in use.
            0xc0..=0xc2 => {
                if size.is_some() {
                    return Err(HeaderError::Damaged);
                }
                let height = u16_be(segment.get(1..3).ok_or(HeaderError::Damaged)?)?;
                let width = u16_be(segment.get(3..5).ok_or(HeaderError::Damaged)?)?;
                size = Some((u32::from(width), u32::from(height)));
            }
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Err(HeaderError::Damaged),
            0xe1 => {
                if let Some(tiff) = segment.strip_prefix(b"Exif\0\0") {
                    orientation = exif::orientation(tiff).unwrap_or(orientation);
                }
            }
            0xda => {
                has_scan = size.is_some();
                skip_scan(&mut rest)?;
            }
            _ => {}
        }
    }
    let (width, height) = size.filter(|_| has_scan).ok_or(HeaderError::Damaged)?;
    Ok(Header { kind: Kind::Jpeg, width, height, orientation })
}

/// The next marker, before which fill bytes (0xff) may stand.
fn next_marker(rest: &mut &[u8]) -> Result<u8, HeaderError> {
    if take(rest, 1)? != [0xff] {
        return Err(HeaderError::Damaged);
    }
    loop {
        match take(rest, 1)?[0] {
            0xff => {}
            0x00 => return Err(HeaderError::Damaged),
            marker => return Ok(marker),
        }
    }
}

/// Skips entropy-coded data: up to the next marker that is no RST (T.81 F.1.2.3, stuffed bytes).
fn skip_scan(rest: &mut &[u8]) -> Result<(), HeaderError> {
    loop {
        let start = rest.iter().position(|&byte| byte == 0xff).ok_or(HeaderError::Damaged)?;
        match rest.get(start + 1).ok_or(HeaderError::Damaged)? {
            0x00 | 0xd0..=0xd7 => *rest = &rest[start + 2..],
            0xff => *rest = &rest[start + 1..],
            _ => {
                *rest = &rest[start..];
                return Ok(());
            }
        }
    }
}

/// Walks the chunks from IHDR to IEND.
fn png(picture: &[u8]) -> Result<Header, HeaderError> {
    let mut rest = &picture[8..];
    let (mut size, mut has_data) = (None, false);
    loop {
        let long = u32_be(take(&mut rest, 4)?)?;
        let kind = take(&mut rest, 4)?;
        let data = take(&mut rest, length(long))?;
        // The CRC, which the decoder compares.
        take(&mut rest, 4)?;
        match (kind, size) {
            (b"IHDR", None) => {
                let width = u32_be(data)?;
                size = Some((width, u32_be(data.get(4..).unwrap_or_default())?));
            }
            (b"IHDR", Some(_)) | (_, None) => return Err(HeaderError::Damaged),
            (b"IDAT", _) => has_data = true,
            (b"IEND", _) => break,
            _ => {}
        }
    }
    if !rest.is_empty() {
        return Err(HeaderError::Trailing);
    }
    let (width, height) = size.filter(|_| has_data).ok_or(HeaderError::Damaged)?;
    Ok(Header { kind: Kind::Png, width, height, orientation: 1 })
}

/// Reads the first chunk (RFC 9649 2.5 to 2.7), and compares the length in the RIFF header.
fn webp(picture: &[u8]) -> Result<Header, HeaderError> {
    let declared = length(u32_le(&picture[4..])?);
    let body = &picture[8..];
    let mut rest = body.get(4..declared).ok_or(HeaderError::Damaged)?;
    // Chunks have an even length; some writers leave the last byte out of the count.
    if body.len() > declared + declared % 2 {
        return Err(HeaderError::Trailing);
    }
    let kind = take(&mut rest, 4)?;
    let long = length(u32_le(take(&mut rest, 4)?)?);
    let chunk = take(&mut rest, long)?;
    let (width, height) = match kind {
        b"VP8 " => {
            // A key frame begins with a frame tag of three bytes and a start code (RFC 6386 9.1).
            let frame = chunk.get(..10).ok_or(HeaderError::Damaged)?;
            if frame[0] & 1 != 0 || frame[3..6] != [0x9d, 0x01, 0x2a] {
                return Err(HeaderError::Damaged);
            }
            let side =
                |at: usize| u32::from(u16::from_le_bytes([frame[at], frame[at + 1]]) & 0x3fff);
            (side(6), side(8))
        }
        b"VP8L" => {
            let bits = chunk.get(..5).filter(|head| head[0] == 0x2f);
            let bits = u32_le(&bits.ok_or(HeaderError::Damaged)?[1..])?;
            ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
        }
        b"VP8X" => {
            let head = chunk.get(..10).ok_or(HeaderError::Damaged)?;
            let side =
                |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]) + 1;
            (side(4), side(7))
        }
        _ => return Err(HeaderError::Damaged),
    };
    Ok(Header { kind: Kind::WebP, width, height, orientation: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG of 0x1234 columns and 0x56 rows, with an Exif orientation of 6.
    const JPEG: &[u8] =
        b"\xff\xd8\xff\xe1\x00\x22Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\
        \0\0\x06\0\0\0\0\0\0\0\xff\xc0\x00\x0b\x08\x00\x56\x12\x34\x01\x01\x11\0\
        \xff\xda\x00\x08\x01\x01\0\0\x3f\0\x11\xff\x00\x22\xff\xd0\x33\xff\xff\xd9";

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        png.extend(b"\x08\x02\0\0\0crc!\0\0\0\x01IDATxcrc!\0\0\0\0IENDcrc!");
        png
    }

    /// A RIFF file with one chunk.
    fn webp(kind: &[u8; 4], chunk: &[u8]) -> Vec<u8> {
        let mut webp = b"RIFF".to_vec();
        let length = u32::try_from(chunk.len()).expect("a small chunk");
        webp.extend((12 + length).to_le_bytes());
        webp.extend(b"WEBP");
        webp.extend(kind);
        webp.extend(length.to_le_bytes());
        webp.extend(chunk);
        webp
    }

    fn all() -> [(Vec<u8>, Header); 5] {
        let header = |kind, width, height, orientation| Header { kind, width, height, orientation };
        [
            (JPEG.to_vec(), header(Kind::Jpeg, 0x1234, 0x56, 6)),
            (png(3, 700), header(Kind::Png, 3, 700, 1)),
            (
                webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a\x40\x01\xf0\x40"),
                header(Kind::WebP, 320, 240, 1),
            ),
            (webp(b"VP8L", b"\x2f\x3f\xc1\x3b\x00\x00"), header(Kind::WebP, 320, 240, 1)),
            (webp(b"VP8X", b"\0\0\0\0\x3f\x01\0\xef\0\0"), header(Kind::WebP, 320, 240, 1)),
        ]
    }

    #[test]
    fn the_kind_and_size_of_each_format_are_read() {
        for (picture, header) in all() {
            assert_eq!(Header::parse(&picture), Ok(header));
        }
        for other in [&b"GIF89a"[..], b"", b"\xff\xd8", b"<svg/>", b"RIFF\0\0\0\0WAVE", b"%PDF"] {
            assert_eq!(Header::parse(other), Err(HeaderError::Kind));
        }
    }

    #[test]
    fn a_picture_that_is_cut_off_anywhere_is_refused() {
        for (picture, _) in all() {
            for end in 12..picture.len() {
                let refused = Header::parse(&picture[..end]);
                assert_eq!(refused, Err(HeaderError::Damaged), "{end} of {}", picture.len());
            }
        }
    }

    #[test]
    fn only_a_jpeg_may_have_bytes_behind_its_end() {
        for (mut picture, header) in all() {
            picture.extend(b"<script>PK\x03\x04");
            let expected = match header.kind {
                Kind::Jpeg => Ok(header),
                Kind::Png | Kind::WebP => Err(HeaderError::Trailing),
            };
            assert_eq!(Header::parse(&picture), expected);
        }
    }

    #[test]
    fn pictures_with_too_many_samples_or_none_are_refused() {
        for (width, height) in [(0, 1), (1, 0), (8_193, 1), (1, u32::MAX), (5_001, 5_000)] {
            assert_eq!(
                Header::parse(&png(width, height)),
                Err(HeaderError::Size { width, height })
            );
        }
        assert!(Header::parse(&png(5_000, 5_000)).is_ok());
        assert!(Header::parse(&png(8_192, 1)).is_ok());
    }
}
