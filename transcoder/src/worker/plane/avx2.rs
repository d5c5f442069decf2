//! The same filter for sixteen samples at once, on processors with AVX2.
//!
//! Sixteen rows of the result are made at a time. Their columns leave the first pass as vectors of
//! sixteen adjacent samples of a row, and are transposed in blocks of 16x16, so that in the second
//! pass too the sixteen samples of a vector need the same coefficient.
//!
//! Unsafe code is needed for two facts that the compiler cannot verify: that the processor has
//! AVX2, which is checked when the filter is created, and that an array of sixteen samples can be
//! read and written as one vector.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm256_add_epi16, _mm256_castsi256_si128,
    _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_mulhrs_epi16,
    _mm256_packus_epi16, _mm256_permute2x128_si256, _mm256_permute4x64_epi64, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_storeu_si256,
    _mm256_unpackhi_epi16, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi16,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use super::{
    axis::Axis,
    samples::{FRACTION, HALF, Plane},
};

/// Samples of a vector.
const LANES: usize = 16;
/// [`FRACTION`] as the instructions want it.
const SHIFT: i32 = FRACTION as i32;

/// A vector in memory.
type Lanes = [i16; LANES];
/// Sixteen vectors: 16x16 samples.
type Block = [__m256i; LANES];

/// Can only be created on a processor with AVX2.
#[derive(Debug)]
pub(super) struct Filter {
    /// Sixteen columns of the source rows of a block.
    columns: Vec<Lanes>,
    /// Sixteen rows after the first pass, column by column.
    turned: Vec<Lanes>,
}

impl Filter {
    pub(super) fn new(from: (usize, usize), to: (usize, usize)) -> Option<Self> {
        // Narrower planes, such as those of tiny pictures, are left to the plain version.
        let fits = from.0 >= LANES && to.0 >= LANES;
        (fits && is_x86_feature_detected!("avx2"))
            .then(|| Self { columns: vec![[0; LANES]; from.1], turned: vec![[0; LANES]; from.0] })
    }

    pub(super) fn scale(
        &mut self,
        down: &Axis,
        along: &Axis,
        from: &Plane<&[u8]>,
        to: &mut Plane<&mut [u8]>,
    ) {
        // SAFETY: `new` has checked that the processor has AVX2.
        unsafe { self.scale_all(down, along, from, to) }
    }

    /// Scales a plane, sixteen rows of the result at a time.
    #[target_feature(enable = "avx2")]
    fn scale_all(
        &mut self,
        down: &Axis,
        along: &Axis,
        from: &Plane<&[u8]>,
        to: &mut Plane<&mut [u8]>,
    ) {
        // `turned` holds sixteen rows, so these pass through both filters before the next sixteen.
        for top in (0..to.height).step_by(LANES) {
            let rows = LANES.min(to.height - top);
            for left in blocks(from.width) {
                self.down(down, from, top, rows, left);
            }
            for left in blocks(to.width) {
                self.along(along, to, top, rows, left);
            }
        }
    }

    /// Rows `top` to `top + rows` of the result, sixteen columns of the source from `left` on.
    #[target_feature(enable = "avx2")]
    fn down(&mut self, axis: &Axis, from: &Plane<&[u8]>, top: usize, rows: usize, left: usize) {
        // The source rows of all sixteen results are loaded and widened once, because adjacent
        // results share most of them.
        let first = axis.starts[top];
        let end = axis.starts[top + rows - 1] + axis.taps;
        let columns = &mut self.columns[..end - first];
        let mut at = first * from.stride + left;
        for column in columns.iter_mut() {
            let samples = from.samples[at..]
                .first_chunk()
                .map_or(_mm256_setzero_si256(), |samples| widen(samples));
            store(column, _mm256_slli_epi16::<SHIFT>(samples));
            at += from.stride;
        }
        let mut block = [_mm256_setzero_si256(); LANES];
        let starts = &axis.starts[top..top + rows];
        let coefficients = axis.coefficients[top * axis.taps..].chunks_exact(axis.taps);
        for ((sum, start), coefficients) in block.iter_mut().zip(starts).zip(coefficients) {
            *sum = weigh(&columns[start - first..], coefficients);
        }
        transpose(&mut block);
        for (turned, column) in self.turned[left..].iter_mut().zip(block) {
            store(turned, column);
        }
    }

    /// Sixteen columns of the result from `left` on.
    #[target_feature(enable = "avx2")]
    fn along(&self, axis: &Axis, to: &mut Plane<&mut [u8]>, top: usize, rows: usize, left: usize) {
        let mut block = [_mm256_setzero_si256(); LANES];
        let starts = &axis.starts[left..];
        let coefficients = axis.coefficients[left * axis.taps..].chunks_exact(axis.taps);
        for ((column, start), coefficients) in block.iter_mut().zip(starts).zip(coefficients) {
            let sum = _mm256_add_epi16(
                weigh(&self.turned[*start..], coefficients),
                _mm256_set1_epi16(HALF),
            );
            *column = _mm256_srai_epi16::<SHIFT>(sum);
        }
        transpose(&mut block);
        let mut at = top * to.stride + left;
        for (number, two) in block.chunks_exact(2).enumerate() {
            // Packing works within the halves of a vector, so the quarters are put in order after
            // it.
            let packed =
                _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(two[0], two[1]));
            let halves = [_mm256_castsi256_si128(packed), _mm256_extracti128_si256::<1>(packed)];
            for (row, half) in (2 * number..rows).zip(halves) {
                let _ = row;
                if let Some(bytes) =
                    to.samples.get_mut(at..).and_then(|rest| rest.first_chunk_mut())
                {
                    narrow(bytes, half);
                }
                at += to.stride;
            }
        }
    }
}

/// Starts of the blocks of sixteen: the last one overlaps its predecessor instead of exceeding the
/// width.
fn blocks(width: usize) -> impl Iterator<Item = usize> {
    (0..width).step_by(LANES).map(move |left| left.min(width - LANES))
}

/// The weighted sum of vectors, one for each coefficient. `pmulhrsw` multiplies in 32 768ths and
/// rounds.
#[target_feature(enable = "avx2")]
#[inline]
fn weigh(samples: &[Lanes], coefficients: &[i16]) -> __m256i {
    let mut sum = _mm256_setzero_si256();
    for (samples, &coefficient) in samples.iter().zip(coefficients) {
        sum = _mm256_add_epi16(
            sum,
            _mm256_mulhrs_epi16(load(samples), _mm256_set1_epi16(coefficient)),
        );
    }
    sum
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(lanes: &Lanes) -> __m256i {
    // SAFETY: the array has the vector's size, and the instruction needs no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(lanes: &mut Lanes, vector: __m256i) {
    // SAFETY: as in `load`.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) }
}

/// Sixteen bytes as 16-bit samples.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(bytes: &[u8; LANES]) -> __m256i {
    // SAFETY: the array has the vector's size, and the instruction needs no alignment.
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Writes sixteen bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn narrow(bytes: &mut [u8; LANES], vector: __m128i) {
    // SAFETY: the array has the vector's size, and the instruction needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) }
}

/// Transposes a block.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(block: &mut Block) {
    // Within each half of a vector, of eight samples: interleaves one, two and four samples.
    let mut ones = *block;
    for n in 0..8 {
        ones[2 * n] = _mm256_unpacklo_epi16(block[2 * n], block[2 * n + 1]);
        ones[2 * n + 1] = _mm256_unpackhi_epi16(block[2 * n], block[2 * n + 1]);
    }
    let mut twos = ones;
    for n in 0..4 {
        for half in 0..2 {
            let (a, b) = (ones[4 * n + half], ones[4 * n + half + 2]);
            twos[4 * n + 2 * half] = _mm256_unpacklo_epi32(a, b);
            twos[4 * n + 2 * half + 1] = _mm256_unpackhi_epi32(a, b);
        }
    }
    let mut fours = twos;
    for n in 0..2 {
        for quarter in 0..4 {
            let (a, b) = (twos[8 * n + quarter], twos[8 * n + quarter + 4]);
            fours[8 * n + 2 * quarter] = _mm256_unpacklo_epi64(a, b);
            fours[8 * n + 2 * quarter + 1] = _mm256_unpackhi_epi64(a, b);
        }
    }
    // Moves the halves to their vectors.
    for n in 0..8 {
        block[n] = _mm256_permute2x128_si256::<0x20>(fours[n], fours[n + 8]);
        block[n + 8] = _mm256_permute2x128_si256::<0x31>(fours[n], fours[n + 8]);
    }
}
