//! The ladder, and everything else that is made with GStreamer, each pipeline in a separate
//! process.
//!
//! A pipeline runs in the daemon's own binary, started again with a hidden subcommand: a crash, a
//! leak or an exploit in a codec costs one job, not the daemon. So this crate has two sides:
//!
//! - For the daemon, which never uses GStreamer: [`ladder`] makes renditions of every broadcast, as
//!   [`plan`] selects them; [`pictures`] has the posters, [`images`] decodes uploads,
//!   [`supervisor`] keeps a process running (the test picture's), `process` is one worker and the
//!   socket to it.
//! - For the worker's process: [`worker`] decodes, scales and encodes, after [`confine`] has
//!   removed its privileges; [`trial`] tests an encoder, [`elements`] lists the installed elements,
//!   [`test_picture`] publishes a clock.
//!
//! [`protocol`] has the messages between the two. The ladder is connected through the hub: it reads
//! the source's tracks, and its renditions become further tracks of the same broadcast. Other
//! crates do not distinguish them from the source's.

// Except in one module, `worker::plane::avx2`, whose header gives the reason.
#![deny(unsafe_code)]

pub mod confine;
pub mod elements;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod images;
pub mod ladder;
mod metrics;
mod overlay;
mod packages;
pub mod pictures;
pub mod plan;
mod process;
pub mod protocol;
pub mod supervisor;
pub mod test_picture;
pub mod trial;
pub mod worker;

pub use error::Error;
pub use images::Images;
pub use ladder::Ladder;
pub use metrics::Metrics;
pub use pictures::Pictures;
pub use supervisor::Worker;
