//! One publisher's tracks in one bounded log, a handle that publishes and handles that read.
//!
//! The log keeps the order of arrival over all tracks. A group is a sequence of a track's frames
//! from a position where decoding can start: a key frame for video, a cut mark for audio.
//! Publishing never waits for a subscriber: the log is bounded by age and by bytes, and a
//! subscriber that falls out of it continues at the newest groups and gets the number of lost
//! frames.

mod consumer;
mod event;
mod health;
mod limits;
mod log;
mod pushed;
mod rendition;
mod shared;
mod situation;

pub use crate::timeline::Notice;
pub use consumer::Consumer;
pub use event::{CutRule, Event, Presence, TrackStart};
pub use health::Health;
pub use limits::{Limits, MAX_TRACKS};
pub use pushed::{Pushed, Refused, TrackNotice};
pub use rendition::{OutOfOrder, Rendition};
pub use shared::{Broadcast, LogSize, TrackInfo};
pub use situation::Situation;
