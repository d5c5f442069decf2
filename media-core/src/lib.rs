//! The types that all crates share: time, codec configurations, frames, tracks, broadcasts, cut
//! marks, the hub.
//!
//! `media-core` does no I/O: no sockets, no files, no clocks (`now` is an argument) and no
//! configuration files. The other crates exchange data only in its types and handles.
//!
//! - [`name`]: names of channels and tracks, identities of broadcasts.
//! - [`MediaTime`]: instants on a broadcast's timeline, at 90 kHz; [`MediaSpan`]: distances between
//!   them. [`Ticks`]: times in units of a track's [`Timescale`]. [`Anchor`]: maps media time to the
//!   wall clock.
//! - [`codec`]: configuration records (`avcC`, `AudioSpecificConfig`) and their values that players
//!   need.
//! - [`frame`]: one access unit on its track's clock, and the mark that starts a segment.
//! - [`timeline`]: a publisher's own clock mapped onto the broadcast's.
//! - [`cut`]: where segments start, decided once for all readers.
//! - [`broadcast`]: tracks, groups, the publishing and the subscribing handle.
//! - [`hub`]: the live names. [`settings`]: what the owner of a name has decided.

#![forbid(unsafe_code)]

mod anchor;
pub mod broadcast;
pub mod codec;
pub mod cut;
mod error;
pub mod frame;
pub mod hub;
pub mod name;
pub mod settings;
mod span;
mod ticks;
mod time;
pub mod timeline;
mod timescale;
mod track;

pub use anchor::Anchor;
pub use broadcast::Broadcast;
pub use error::{Error, RecordFault};
pub use frame::{AccessUnit, Frame, Mark};
pub use hub::Hub;
pub use name::{BroadcastId, ChannelName, TrackName};
pub use settings::ChannelSettings;
pub use span::MediaSpan;
pub use ticks::Ticks;
pub use time::MediaTime;
pub use timescale::Timescale;
pub use track::TrackIndex;
