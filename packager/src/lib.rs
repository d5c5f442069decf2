//! Frames to CMAF parts and segments, and these to presentations that HLS and DASH describe.
//!
//! - [`rope`]: bytes in pieces, never joined.
//! - `boxes`, `fragment`: ISO/IEC 14496-12 and CMAF bytes.
//! - `track`, `segmenter`: a track cut into parts and segments, on a clock that continues to the tick.
//! - [`segments`], `window`: the segments of a track that are listed and held; [`program`]: all
//!   tracks in step, within a bound of memory.
//! - [`presentation`]: the immutable snapshot that is served; [`rendered`]: its texts, made at most once.
//! - [`hls`], [`dash`]: those texts.
//! - [`live`]: one task a broadcast, from the hub to the snapshot; and where the origin finds it. `waiters`: who waits for what comes.

#![forbid(unsafe_code)]

mod boxes;
pub mod dash;
mod error;
pub mod fragment;
pub mod hls;
pub mod live;
pub mod metrics;
mod packager;
mod period;
pub mod presentation;
mod presentations;
pub mod program;
pub mod rendered;
pub mod rope;
mod segmenter;
pub mod segments;
mod sets;
mod stamp;
mod track;
mod waiters;
mod window;

pub use error::Error;
pub use live::{Changed, Follow, Gone, Live};
pub use metrics::Metrics;
pub use packager::{Config, Packager};
pub use period::Period;
pub use presentation::{Init, Part, Presentation, Segment, Track};
pub use presentations::Presentations;
pub use rendered::{Listing, Rendered, Site, Skip, Text};
pub use rope::Rope;
pub use segments::Segments;
pub use track::silence::silent_frame;
