//! Decoded pictures: turned upright, cut to a shape about the middle, scaled, and laid on white.
//! Pure.

/// A decoded picture with four bytes a sample: red, green, blue, and opacity.
#[derive(Debug)]
pub(super) struct Raster<'a> {
    /// The rows.
    pub(super) bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// Samples in a row.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// As in [`super::header::Header::orientation`].
    pub(super) orientation: u8,
}

/// A picture with three bytes a sample, without gaps between rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rgb {
    pub(super) bytes: Vec<u8>,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// A picture whose samples can be read.
pub(super) trait Samples {
    /// Its size as it is seen.
    fn size(&self) -> (usize, usize);

    /// A sample on white.
    fn at(&self, x: usize, y: usize) -> [u8; 3];
}

impl Samples for Raster<'_> {
    fn size(&self) -> (usize, usize) {
        match self.orientation {
            5..=8 => (self.height, self.width),
            _ => (self.width, self.height),
        }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        // The last stored column and row.
        let (right, low) = (self.width - 1, self.height - 1);
        let (x, y) = match self.orientation {
            2 => (right - x, y),
            3 => (right - x, low - y),
            4 => (x, low - y),
            5 => (y, x),
            6 => (y, low - x),
            7 => (right - y, low - x),
            8 => (right - y, x),
            _ => (x, y),
        };
        let start = y * self.stride + 4 * x;
        let [red, green, blue, opacity] = self
            .bytes
            .get(start..)
            .and_then(|rest| rest.first_chunk().copied())
            .unwrap_or_default();
        let opacity = u32::from(opacity);
        [red, green, blue].map(|colour| {
            let mixed = (u32::from(colour) * opacity + 255 * (255 - opacity) + 127) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        })
    }
}

impl Samples for Rgb {
    fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let start = 3 * (y * self.width + x);
        self.bytes.get(start..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default()
    }
}

/// The source samples that one target sample covers, and how much of each: the weights sum to the
/// number of source samples.
struct Span {
    start: usize,
    weights: Vec<u64>,
}

/// The spans of `target` samples over `length` source samples from `start` on.
fn spans(start: usize, length: usize, target: usize) -> Vec<Span> {
    // On an axis of `length * target` units a source sample has `target` of them, and a target
    // sample `length`.
    let span = |index: usize| {
        let (from, to) = (index * length, (index + 1) * length);
        let (first, last) = (from / target, (to - 1) / target);
        let covered = |source: usize| {
            let (begin, end) = (source * target, (source + 1) * target);
            (end.min(to) - begin.max(from)) as u64
        };
        Span { start: start + first, weights: (first..=last).map(covered).collect() }
    };
    (0..target).map(span).collect()
}

/// The middle of a picture in the shape of the target, scaled to it: each sample is the mean of the
/// area that it covers. The source must have samples.
pub(super) fn scale(source: &impl Samples, width: usize, height: usize) -> Rgb {
    let (full_width, full_height) = source.size();
    let cut_width = full_width.min((full_height * width / height).max(1));
    let cut_height = full_height.min((full_width * height / width).max(1));
    let (left, top) = ((full_width - cut_width) / 2, (full_height - cut_height) / 2);
    let columns = spans(left, cut_width, width);
    let area = (cut_width * cut_height) as u64;
    let mut bytes = Vec::with_capacity(3 * width * height);
    // The weighted sums of the rows of one target row, for each column.
    let mut sums = vec![[0_u64; 3]; cut_width];
    for row in spans(top, cut_height, height) {
        sums.fill([0; 3]);
        for (y, weight) in (row.start..).zip(&row.weights) {
            for (x, sums) in sums.iter_mut().enumerate() {
                for (sum, colour) in sums.iter_mut().zip(source.at(left + x, y)) {
                    *sum += u64::from(colour) * weight;
                }
            }
        }
        for column in &columns {
            let mut sample = [0_u64; 3];
            for (sums, weight) in sums[column.start - left..].iter().zip(&column.weights) {
                for (total, sum) in sample.iter_mut().zip(sums) {
                    *total += sum * weight;
                }
            }
            // A mean of bytes is a byte.
            let mean = |total| u8::try_from((total + area / 2) / area).unwrap_or(u8::MAX);
            bytes.extend(sample.map(mean));
        }
    }
    Rgb { bytes, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples whose red is their number.
    fn numbered(bytes: &[u8], width: usize, orientation: u8) -> Raster<'_> {
        let (stride, height) = (4 * width, bytes.len() / 4 / width);
        Raster { bytes, stride, width, height, orientation }
    }

    fn pixels(reds: &[u8]) -> Vec<u8> {
        reds.iter().flat_map(|red| [*red, 0, 0, 255]).collect()
    }

    fn reds(picture: &impl Samples) -> Vec<Vec<u8>> {
        let (width, height) = picture.size();
        let row = |y| (0..width).map(|x| picture.at(x, y)[0]).collect();
        (0..height).map(row).collect()
    }

    #[test]
    fn each_orientation_is_turned_upright() {
        // 1 2 3
        // 4 5 6
        let bytes = pixels(&[1, 2, 3, 4, 5, 6]);
        let upright = |orientation| reds(&numbered(&bytes, 3, orientation));
        assert_eq!(upright(1), [[1, 2, 3], [4, 5, 6]]);
        assert_eq!(upright(2), [[3, 2, 1], [6, 5, 4]]);
        assert_eq!(upright(3), [[6, 5, 4], [3, 2, 1]]);
        assert_eq!(upright(4), [[4, 5, 6], [1, 2, 3]]);
        assert_eq!(upright(5), [[1, 4], [2, 5], [3, 6]]);
        assert_eq!(upright(6), [[4, 1], [5, 2], [6, 3]]);
        assert_eq!(upright(7), [[6, 3], [5, 2], [4, 1]]);
        assert_eq!(upright(8), [[3, 6], [2, 5], [1, 4]]);
    }

    #[test]
    fn a_sample_is_the_mean_of_its_area_and_the_middle_is_cut_out() {
        let bytes = pixels(&[0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110]);
        // Six columns and two rows: the middle is two by two, 20 30 / 80 90.
        let source = numbered(&bytes, 6, 1);
        assert_eq!(reds(&scale(&source, 2, 2)), [[20, 30], [80, 90]]);
        assert_eq!(reds(&scale(&source, 1, 1)), [[55]]);
        assert_eq!(reds(&scale(&source, 3, 1)), [[35, 55, 75]]);
        // One and a half columns each: 0, half of 10; half of 10, 20.
        assert_eq!(reds(&scale(&numbered(&bytes[..12], 3, 1), 2, 1))[0].len(), 2);
    }

    #[test]
    fn a_smaller_picture_is_enlarged_and_any_size_has_samples() {
        let bytes = pixels(&[7]);
        let large = scale(&numbered(&bytes, 1, 1), 5, 3);
        assert_eq!(reds(&large), [[7; 5], [7; 5], [7; 5]]);
        for (width, height) in [(1, 9), (9, 1), (7, 5), (8, 8)] {
            let bytes = pixels(&vec![200; width * height]);
            for target in [1, 2, 3, 7, 16] {
                let scaled = scale(&numbered(&bytes, width, 1), target, target);
                assert_eq!(scaled.bytes.len(), 3 * target * target);
                assert!(scaled.bytes.chunks(3).all(|sample| sample == [200, 0, 0]));
            }
        }
    }

    #[test]
    fn transparent_samples_are_white() {
        let bytes = [10, 20, 30, 0, 0, 0, 0, 128, 9, 9, 9, 255];
        let raster = numbered(&bytes, 3, 1);
        assert_eq!(raster.at(0, 0), [255; 3]);
        assert_eq!(raster.at(1, 0), [127; 3]);
        assert_eq!(raster.at(2, 0), [9; 3]);
    }
}
