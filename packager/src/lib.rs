//! Packages frames as CMAF parts and segments, and those as presentations that HLS and DASH
//! describe.
//!
//! From the bytes up to the task of a broadcast; each file imports only files above it in this
//! list:
//!
//! - `sample`, `boxes`, `fragment`: ISO/IEC 14496-12 and CMAF bytes. `sets`: parameter sets in
//!   front of key frames.
//! - `segment`, [`segments`], `period`, [`rendered`], [`presentation`]: the immutable snapshot that
//!   is served. `stamp`, `hls`, `dash`, `renderer`: its texts, rendered at most once.
//! - `segmenter`, `window`: a track cut into parts and segments, and the list of its segments.
//! - `track`: a track on its way into segments, on a clock that continues to the tick. [`program`]:
//!   all tracks in step, within a bound of memory.
//! - `waiters`, [`live`]: a broadcast's snapshot as it changes, and requests that wait for the
//!   next. `presentations`: where the origin finds it. `packager`: one task a broadcast, from the
//!   hub to the snapshot.

#![forbid(unsafe_code)]

mod boxes;
mod dash;
pub mod fragment;
mod hls;
pub mod live;
pub mod metrics;
mod packager;
mod period;
pub mod presentation;
mod presentations;
pub mod program;
pub mod rendered;
mod renderer;
mod sample;
mod segment;
mod segmenter;
pub mod segments;
mod sets;
mod stamp;
mod track;
mod waiters;
mod window;

pub use live::{
    Changed, Follow, Gone, Live,
    cursor::{Finished, SegmentCursor},
};
pub use metrics::Metrics;
pub use packager::{Config, Packager};
pub use period::{LastSegment, Period};
pub use presentation::{Init, LiveEdge, Presentation, Track};
pub use presentations::Presentations;
pub use rendered::{Rendered, Site, Skip, Text, TextKey};
pub use sample::{Reference, Sample};
pub use segment::{Part, Segment};
pub use segments::Segments;
pub use track::silence::silent_frame;
