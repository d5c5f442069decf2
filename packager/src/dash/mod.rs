//! DASH (ISO/IEC 23009-1): the texts that describe a [`crate::Presentation`], and the periods they are made of.
//!
//! - [`period`]: where one Period ends and the next begins, decided once.

pub mod period;

pub use period::{Period, Periods};
