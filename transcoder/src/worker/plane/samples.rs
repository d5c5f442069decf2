//! Planes of samples, and the form of a sample between the two passes of the filter.

/// Fraction bits of samples between the passes: a sample has 8 bits, and the filter overshoots by
/// less than 2.
pub(super) const FRACTION: u32 = 6;
/// Half the value of a sample there.
pub(super) const HALF: i16 = 1 << (FRACTION - 1);

/// A plane's samples, row after row.
#[derive(Debug)]
pub(crate) struct Plane<S> {
    pub(crate) samples: S,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Distance between two rows.
    pub(crate) stride: usize,
}

impl Plane<()> {
    /// The same shape with these samples.
    pub(crate) fn with<S>(self, samples: S) -> Plane<S> {
        Plane { samples, width: self.width, height: self.height, stride: self.stride }
    }
}

impl<S: AsRef<[u8]>> Plane<S> {
    /// Whether all of its rows are present.
    pub(crate) fn is_whole(&self) -> bool {
        let last = self.height.checked_sub(1).and_then(|rows| rows.checked_mul(self.stride));
        let end = last.and_then(|last| last.checked_add(self.width));
        self.width > 0
            && self.width <= self.stride
            && end.is_some_and(|end| end <= self.samples.as_ref().len())
    }
}
