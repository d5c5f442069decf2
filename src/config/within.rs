//! A number in a range.

use std::fmt;

use net_core::config::in_range;
use serde::{Deserialize, Deserializer, de};

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Within<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    /// For defaults: a value out of range is a compile error in a constant, and a panic elsewhere.
    pub(crate) const fn new(value: u64) -> Self {
        assert!(MIN <= value && value <= MAX, "a default is in its range");
        Self(value)
    }

    /// The number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // TOML's integers are signed, so a negative number must get the error of the range, not of
        // the type.
        deserializer.deserialize_i64(Visitor::<MIN, MAX>)
    }
}

/// Parses a number and checks its range.
struct Visitor<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> de::Visitor<'_> for Visitor<MIN, MAX> {
    type Value = Within<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        in_range(value, MIN, MAX).map(Within).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        in_range(value, MIN, MAX).map(Within).map_err(E::custom)
    }
}
