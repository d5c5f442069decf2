//! Scales one plane of eight-bit samples: a cubic filter, whose width grows with the reduction,
//! first down the columns, then along the rows. Plain arithmetic here; `avx2` has the bit-identical
//! version for sixteen samples at once.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vectors; see its header")]
mod avx2;
mod axis;
mod samples;

use axis::Axis;
pub(super) use samples::Plane;
use samples::{FRACTION, HALF};

/// Scales planes of one size to another.
#[derive(Debug)]
pub(super) struct Filter {
    /// Down the columns: combines rows.
    down: Axis,
    /// Along the rows.
    along: Axis,
    /// `None` if the processor has no AVX2, or a plane is narrower than a vector.
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

    /// The reference for `avx2`, and the only version on other processors.
    fn scale_plainly(&mut self, from: &Plane<&[u8]>, to: &mut Plane<&mut [u8]>) {
        for (number, scaled) in to.samples.chunks_mut(to.stride).take(to.height).enumerate() {
            // First pass: a row of the source's width, as the weighted sum of the source's rows.
            self.row.fill(0);
            for (source, coefficient) in self.down.of(number) {
                let samples = &from.samples[source * from.stride..][..from.width];
                for (sum, &sample) in self.row.iter_mut().zip(samples) {
                    *sum = sum.wrapping_add(product(i16::from(sample) << FRACTION, coefficient));
                }
            }
            // Second pass: each sample of the result, as the weighted sum of that row's samples.
            for (column, scaled) in scaled.iter_mut().take(to.width).enumerate() {
                // Sums wrap as those of vectors do. They fit anyway: see `FRACTION`.
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

#[cfg(test)]
mod tests;
