//! Scales one plane of eight-bit samples: a cubic filter, whose width grows with the reduction,
//! first down the columns, then along the rows. Plain arithmetic here; `avx2` has the bit-identical
//! version for sixteen samples at once.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vectors; see its header")]
mod avx2;

/// Fraction bits of samples between the passes: a sample has 8 bits, and the filter overshoots by
/// less than 2.
const FRACTION: u32 = 6;
/// Half the value of a sample there.
const HALF: i16 = 1 << (FRACTION - 1);
/// One, in coefficients.
const ONE: f64 = 32_768.0;

/// A plane's samples, row after row.
#[derive(Debug)]
pub(super) struct Plane<S> {
    pub(super) samples: S,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Distance between two rows.
    pub(super) stride: usize,
}

impl Plane<()> {
    /// The same shape with these samples.
    pub(super) fn with<S>(self, samples: S) -> Plane<S> {
        Plane { samples, width: self.width, height: self.height, stride: self.stride }
    }
}

impl<S: AsRef<[u8]>> Plane<S> {
    /// Whether all of its rows are present.
    pub(super) fn is_whole(&self) -> bool {
        let last = self.height.checked_sub(1).and_then(|rows| rows.checked_mul(self.stride));
        let end = last.and_then(|last| last.checked_add(self.width));
        self.width > 0
            && self.width <= self.stride
            && end.is_some_and(|end| end <= self.samples.as_ref().len())
    }
}

/// Scales planes of one size to another.
#[derive(Debug)]
pub(super) struct Filter {
    /// Down the columns: combines rows.
    down: Axis,
    /// Along the rows.
    along: Axis,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::Filter>,
    /// A row between the passes.
    row: Vec<i16>,
}

impl Filter {
    /// Sizes are width and height.
    pub(super) fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self {
            down: Axis::new(from.1, to.1),
            along: Axis::new(from.0, to.0),
            #[cfg(target_arch = "x86_64")]
            avx2: avx2::Filter::new(from, to),
            row: vec![0; from.0],
        }
    }

    /// Fills `to` with `from`. Both must be whole, and of the sizes given to `new`.
    pub(super) fn scale(&mut self, from: &Plane<&[u8]>, to: &mut Plane<&mut [u8]>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = &mut self.avx2 {
            return avx2.scale(&self.down, &self.along, from, to);
        }
        self.scale_plainly(from, to);
    }

    fn scale_plainly(&mut self, from: &Plane<&[u8]>, to: &mut Plane<&mut [u8]>) {
        for (number, scaled) in to.samples.chunks_mut(to.stride).take(to.height).enumerate() {
            self.row.fill(0);
            for (source, coefficient) in self.down.of(number) {
                let samples = &from.samples[source * from.stride..][..from.width];
                for (sum, &sample) in self.row.iter_mut().zip(samples) {
                    *sum = sum.wrapping_add(product(i16::from(sample) << FRACTION, coefficient));
                }
            }
            for (column, scaled) in scaled.iter_mut().take(to.width).enumerate() {
                let products = self
                    .along
                    .of(column)
                    .map(|(source, coefficient)| product(self.row[source], coefficient));
                let sum = products.fold(0, i16::wrapping_add);
                *scaled = ((sum.wrapping_add(HALF)) >> FRACTION).clamp(0, 255) as u8;
            }
        }
    }
}

/// The product of a coefficient and a sample, rounded as `pmulhrsw` rounds.
#[expect(
    clippy::cast_possible_truncation,
    reason = "samples are below 2^14 and overshoot by less than 2"
)]
fn product(sample: i16, coefficient: i16) -> i16 {
    let product = i32::from(sample) * i32::from(coefficient);
    (((product >> 14) + 1) >> 1) as i16
}

/// The source samples of each result sample, in one direction.
#[derive(Debug)]
struct Axis {
    /// Number of source samples for each.
    taps: usize,
    /// The first of them.
    starts: Vec<usize>,
    /// `taps` for each, in 32 768ths.
    coefficients: Vec<i16>,
}

impl Axis {
    #[expect(clippy::cast_possible_truncation, reason = "these are sizes of pictures")]
    fn new(from: usize, to: usize) -> Self {
        let step = from as f64 / to as f64;
        // The filter passes no higher frequencies than the result can represent.
        let scale = step.max(1.0);
        let wide = (4.0 * scale).ceil() as isize;
        let taps = (wide as usize).min(from);
        let mut axis = Self {
            taps,
            starts: Vec::with_capacity(to),
            coefficients: Vec::with_capacity(to * taps),
        };
        for number in 0..to {
            let centre = (number as f64 + 0.5) * step - 0.5;
            let first = (centre - wide as f64 / 2.0).floor() as isize + 1;
            let start = first.clamp(0, (from - taps) as isize);
            let mut weights = vec![0.0; taps];
            for tap in first..first + wide {
                // Samples beyond the edge equal the outermost sample.
                let at = tap.clamp(0, from as isize - 1) - start;
                if let Some(weight) = usize::try_from(at).ok().and_then(|at| weights.get_mut(at)) {
                    *weight += cubic((tap as f64 - centre) / scale);
                }
            }
            axis.starts.push(start as usize);
            axis.coefficients.extend(fixed(&weights));
        }
        axis
    }

    /// The source samples of one result sample, and their coefficients.
    fn of(&self, number: usize) -> impl Iterator<Item = (usize, i16)> {
        let coefficients = &self.coefficients[number * self.taps..][..self.taps];
        (self.starts[number]..).zip(coefficients.iter().copied())
    }
}

/// Bicubic with B = 0 and C = 0.6, as ffmpeg's.
fn cubic(x: f64) -> f64 {
    const C: f64 = 0.6;
    let x = x.abs();
    if x < 1.0 {
        ((2.0 - C) * x - (3.0 - C)) * x * x + 1.0
    } else if x < 2.0 {
        ((-C * x + 5.0 * C) * x - 8.0 * C) * x + 4.0 * C
    } else {
        0.0
    }
}

/// Weights as coefficients that add up to one; a single one is a 32 768th less.
#[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
fn fixed(weights: &[f64]) -> Vec<i16> {
    let sum: f64 = weights.iter().sum();
    let (mut exact, mut emitted) = (0.0, 0.0);
    let rounded = weights.iter().map(|weight| {
        exact += weight / sum * ONE;
        // The remainder that a coefficient cannot represent is carried to the next.
        let value = f64::round(exact - emitted).clamp(f64::from(i16::MIN), f64::from(i16::MAX));
        emitted += value;
        value as i16
    });
    let mut coefficients: Vec<_> = rounded.collect();
    // Or to the smallest one, after the last.
    if let [_, _, ..] = coefficients[..]
        && let Some(least) = coefficients.iter_mut().min()
    {
        *least += (ONE - emitted) as i16;
    }
    coefficients
}

#[cfg(test)]
mod tests;
