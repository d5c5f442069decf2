//! GStreamer pipelines, each in a process of its own, and the supervision of these processes.
//!
//! A pipeline runs in the daemon's own binary, started again with a hidden subcommand: a crash, a leak or an exploit in a codec costs one
//! job, not the daemon. So this crate has two faces:
//!
//! - [`supervisor`], for the daemon: starts a worker, restarts it with growing delays, passes on what it logs, and ends it. It
//!   never touches GStreamer.
//! - [`test_picture`] and [`elements`], for the worker's process, the only place where GStreamer is initialised.
//!
//! The ladder's seam is the hub, as for everybody: per broadcast, a supervised worker is fed from a `media_core::broadcast::Consumer` of
//! the source's track, forces a key frame at each frame that carries a `media_core::Mark`, and its renditions become further tracks
//! of the same broadcast. Nothing downstream knows who made a track.

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
