//! The coefficients of the filter in one direction.

/// One, in coefficients.
const ONE: f64 = 32_768.0;

/// The source samples of each result sample, in one direction.
#[derive(Debug)]
pub(super) struct Axis {
    /// Number of source samples for each.
    pub(super) taps: usize,
    /// The first of them.
    pub(super) starts: Vec<usize>,
    /// `taps` for each, in 32 768ths.
    pub(super) coefficients: Vec<i16>,
}

impl Axis {
    /// From and to this number of samples.
    #[expect(clippy::cast_possible_truncation, reason = "these are sizes of pictures")]
    pub(super) fn new(from: usize, to: usize) -> Self {
        let step = from as f64 / to as f64;
        // The filter passes no higher frequencies than the result can represent.
        let scale = step.max(1.0);
        // The cubic filter is four samples wide in the coarser of the two grids.
        let wide = (4.0 * scale).ceil() as isize;
        let taps = (wide as usize).min(from);
        let mut axis = Self {
            taps,
            starts: Vec::with_capacity(to),
            coefficients: Vec::with_capacity(to * taps),
        };
        for number in 0..to {
            // Sample positions are centres: the edges of both pictures coincide, not their first
            // samples.
            let centre = (number as f64 + 0.5) * step - 0.5;
            let first = (centre - wide as f64 / 2.0).floor() as isize + 1;
            // All taps read samples within the picture; weights beyond the edge are added to the
            // outermost.
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
    #[inline]
    pub(super) fn of(&self, number: usize) -> impl Iterator<Item = (usize, i16)> {
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
    // The coefficients must add up to one exactly, otherwise flat areas would change their
    // brightness.
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
