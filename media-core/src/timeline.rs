//! A publisher's own clock mapped onto its broadcast's timeline.
//!
//! - `mapping`: the offset of each track, and corrections of timestamps that are no clock.
//! - `verdict`: whether a mapped time stays near the wall clock and the other tracks.
//! - `lead`: how far a publisher is ahead of the wall clock, and media that are dropped for that.
//! - `drift`, `outage`, `reorder`, `retimed`: the state of one correction each. `limits`: distances
//!   that several of them compare with.

mod drift;
mod lead;
mod limits;
mod mapping;
mod outage;
mod reorder;
mod retimed;
mod verdict;

pub use mapping::{Arrival, Notice, Placed, Timeline, TooFarAhead};

#[cfg(test)]
mod tests;
