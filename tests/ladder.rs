//! The daemon with its ladder, driven from outside: what goes in by RTMP is what comes out by HTTP, in every size, whatever happens
//! to those who make them.

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
