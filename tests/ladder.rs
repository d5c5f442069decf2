//! The daemon with its ladder, tested from outside: the media that are published over RTMP are
//! served over HTTP, in every size, whatever happens to workers.

mod support;

#[path = "ladder/failures.rs"]
mod failures;
#[path = "ladder/listings.rs"]
mod listings;
#[path = "ladder/lives.rs"]
mod lives;
#[path = "ladder/posters.rs"]
mod posters;
#[path = "ladder/returns.rs"]
mod returns;
#[path = "ladder/stage.rs"]
mod stage;
#[path = "ladder/timelines.rs"]
mod timelines;
