//! What every room of streamforge speaks: time, codec configurations, frames, tracks, broadcasts, cut marks, the hub.
//!
//! `media-core` does no I/O: no sockets, no files, no clocks (`now` is an argument) and no configuration files. The other
//! crates meet only in its types and handles.
//!
//! - [`name`]: what channels, tracks and broadcasts are called.
//! - [`time`]: timescales, and the anchor that maps media time to the wall clock.
//! - [`codec`]: configuration records (`avcC`, `AudioSpecificConfig`) and what players must know of them.
//! - [`frame`]: one access unit on its track's clock, and the mark that starts a segment.
//! - [`timeline`]: a publisher's own clock mapped onto the broadcast's.
//! - [`cut`]: where segments start, decided once for everybody.
//! - [`broadcast`]: tracks, groups, the publishing and the subscribing handle.
//! - [`hub`]: the names that are live.

#![forbid(unsafe_code)]

pub mod broadcast;
pub mod codec;
pub mod cut;
mod error;
pub mod frame;
pub mod hub;
pub mod name;
pub mod time;
pub mod timeline;
mod track;

pub use broadcast::Broadcast;
pub use error::Error;
pub use frame::{AccessUnit, Frame, Mark};
pub use hub::Hub;
pub use name::{BroadcastId, ChannelName, TrackName};
pub use time::{Anchor, Timescale};
