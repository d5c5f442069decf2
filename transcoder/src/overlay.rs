//! The clocks drawn into the test picture, for people and for programs. Pure: modifies the bytes of
//! a picture for a given time.
//!
//! The strip at the very top is a sixteenth of the picture's height: 32 equally wide blocks, black
//! or white, the most significant first, white for one; together they are the milliseconds since
//! the Unix epoch modulo 2^32. Below it is the same time in digits, in UTC.

use std::time::Duration;

/// Luma samples of a row, and rows. Both are multiples of 16, and the width of 32, so that blocks
/// and macroblocks have whole sizes.
pub(crate) const WIDTH: usize = 768;
/// See [`WIDTH`].
pub(crate) const HEIGHT: usize = 432;
/// Bytes of a picture: luma, then both chroma planes at a quarter of it (I420).
pub(crate) const PICTURE_BYTES: usize = WIDTH * HEIGHT * 3 / 2;

/// Height of the strip of blocks in luma samples: 27.
const STRIP_HEIGHT: usize = HEIGHT / 16;
/// Blocks of the strip: a bit of the time for each.
const BLOCKS: usize = 32;
/// Width of a block in luma samples: 24.
const BLOCK_WIDTH: usize = WIDTH / BLOCKS;

/// Luma of black in the limited range of video (ITU-R BT.709).
const BLACK: u8 = 16;
/// Luma of white in the limited range of video.
const WHITE: u8 = 235;
/// Chroma without colour, in both planes.
const NEUTRAL: u8 = 128;

/// Side of a glyph's dot in luma samples.
const DOT: usize = 5;
/// Dots in a row of a glyph; one column of distance is added between glyphs.
const GLYPH_WIDTH: usize = 5;
/// Dots in a column of a glyph.
const GLYPH_HEIGHT: usize = 7;
/// First luma row of the digits.
const TEXT_TOP: usize = STRIP_HEIGHT + 4 * DOT + 3;

/// Draws both clocks into an I420 picture of [`WIDTH`] by [`HEIGHT`]. A picture of another size is
/// not changed.
pub(crate) fn draw(picture: &mut [u8], since_epoch: Duration) {
    if picture.len() != PICTURE_BYTES {
        return;
    }
    let millis = since_epoch.as_millis();
    for block in 0..BLOCKS {
        // The most significant bit is on the left. Bits above 2^32 are cut off by the number of
        // blocks.
        let one = millis >> (BLOCKS - 1 - block) & 1 == 1;
        fill(
            picture,
            block * BLOCK_WIDTH,
            0,
            BLOCK_WIDTH,
            STRIP_HEIGHT,
            if one { WHITE } else { BLACK },
        );
    }
    let text = digits(since_epoch);
    let width = text.len() * (GLYPH_WIDTH + 1) * DOT;
    let left = (WIDTH - width) / 2;
    // A black box behind the digits, so that they are readable above any picture.
    fill(picture, left - DOT, TEXT_TOP - DOT, width + DOT, (GLYPH_HEIGHT + 2) * DOT, BLACK);
    for (index, &letter) in text.iter().enumerate() {
        let left = left + index * (GLYPH_WIDTH + 1) * DOT;
        for (row, dots) in glyph(letter).into_iter().enumerate() {
            for column in
                (0..GLYPH_WIDTH).filter(|column| dots >> (GLYPH_WIDTH - 1 - column) & 1 == 1)
            {
                fill(picture, left + column * DOT, TEXT_TOP + row * DOT, DOT, DOT, WHITE);
            }
        }
    }
}

/// `20:15:00.250 UTC`
fn digits(since_epoch: Duration) -> [u8; 16] {
    let mut text = *b"00:00:00.000 UTC";
    let seconds = since_epoch.as_secs();
    let mut write = |places: &[usize], mut number: u64| {
        for &place in places.iter().rev() {
            text[place] += u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
    };
    write(&[0, 1], seconds / 3_600 % 24);
    write(&[3, 4], seconds / 60 % 60);
    write(&[6, 7], seconds % 60);
    write(&[9, 10, 11], since_epoch.subsec_millis().into());
    text
}

/// Fills a rectangle with a grey value; the part outside of the picture is ignored.
fn fill(picture: &mut [u8], left: usize, top: usize, width: usize, height: usize, luma: u8) {
    let mut rows = |plane: usize,
                    stride: usize,
                    left: usize,
                    top: usize,
                    width: usize,
                    height: usize,
                    value: u8| {
        for row in top..top + height {
            let start = plane + row * stride + left;
            if let Some(samples) = picture.get_mut(start..start + width) {
                samples.fill(value);
            }
        }
    };
    // Chroma is set to neutral too; otherwise black and white would keep the colours behind them.
    rows(0, WIDTH, left, top, width, height, luma);
    for plane in [WIDTH * HEIGHT, WIDTH * HEIGHT * 5 / 4] {
        rows(plane, WIDTH / 2, left / 2, top / 2, width.div_ceil(2), height.div_ceil(2), NEUTRAL);
    }
}

/// Seven rows of five dots, the leftmost the highest bit.
fn glyph(letter: u8) -> [u8; GLYPH_HEIGHT] {
    match letter {
        b'0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        b'1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        b'2' => [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111],
        b'3' => [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110],
        b'4' => [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
        b'5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        b'6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        b'7' => [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
        b'8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        b'9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        b':' => [0b00000, 0b00100, 0b00100, 0b00000, 0b00100, 0b00100, 0b00000],
        b'.' => [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100],
        b'U' => [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
        b'T' => [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100],
        b'C' => [0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110],
        // A space.
        _ => [0; GLYPH_HEIGHT],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_strip(picture: &[u8]) -> u32 {
        let middle = STRIP_HEIGHT / 2 * WIDTH + BLOCK_WIDTH / 2;
        (0..BLOCKS).fold(0, |bits, block| {
            bits << 1 | u32::from(picture[middle + block * BLOCK_WIDTH] > 125)
        })
    }

    #[test]
    fn the_strip_encodes_milliseconds_modulo_2_to_the_32() {
        let mut picture = vec![77; PICTURE_BYTES];
        for millis in [0, 1, 1_770_000_000_123, u64::from(u32::MAX), 1 << 32, 0xaaaa_5555] {
            draw(&mut picture, Duration::from_millis(millis));
            assert_eq!(u64::from(read_strip(&picture)), millis % (1 << 32));
        }
        assert!(picture[..WIDTH * STRIP_HEIGHT].iter().all(|&luma| luma == BLACK || luma == WHITE));
        assert_eq!(
            picture[WIDTH * STRIP_HEIGHT],
            77,
            "below the strip nothing is drawn but the digits"
        );
    }

    #[test]
    fn the_digits_show_the_time_of_day_in_utc() {
        assert_eq!(
            &digits(Duration::from_millis(86_400_000 * 20_000 + 72_900_250)),
            b"20:15:00.250 UTC"
        );
        assert_eq!(&digits(Duration::ZERO), b"00:00:00.000 UTC");
        assert_eq!(&digits(Duration::from_millis(86_399_999)), b"23:59:59.999 UTC");
    }

    #[test]
    fn a_picture_of_a_different_size_is_not_changed() {
        let mut picture = vec![77; 640 * 360 * 3 / 2];
        draw(&mut picture, Duration::from_secs(1));
        assert!(picture.iter().all(|&sample| sample == 77));
    }
}
