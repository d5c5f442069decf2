//! The ladder, and what else is made with GStreamer, each pipeline in a process of its own.
//!
//! A pipeline runs in the daemon's own binary, started again with a hidden subcommand: a crash, a leak or an exploit in a codec costs one
//! job, not the daemon. So this crate has two faces:
//!
//! - For the daemon, which never touches GStreamer: [`ladder`] makes renditions of every broadcast ([`plan`] says which), [`pictures`] has
//!   the posters, [`supervisor`] keeps a process running (the test picture's), `process` is one worker and the socket to it.
//! - For the worker's process: [`worker`] decodes, scales and encodes, after [`confine`] has taken from it what it does not need; [`trial`]
//!   says whether an encoder works, [`elements`] what is installed, [`test_picture`] pushes a clock.
//!
//! [`protocol`] is what crosses between the two. The ladder's seam is the hub, as for everybody: it reads the source's tracks, and its
//! renditions become further tracks of the same broadcast. Nothing downstream knows who made a track.

// But in one module: `worker::plane::avx2`, whose header says why.
#![deny(unsafe_code)]

pub mod confine;
pub mod elements;
mod error;
pub mod ladder;
mod metrics;
mod overlay;
pub mod pictures;
pub mod plan;
mod process;
pub mod protocol;
pub mod supervisor;
pub mod test_picture;
pub mod trial;
pub mod worker;

pub use error::Error;
pub use ladder::Ladder;
pub use metrics::Metrics;
pub use pictures::Pictures;
pub use supervisor::Worker;
