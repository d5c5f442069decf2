//! The daemon with its ladder, tested from outside: the media that are published over RTMP are
//! served over HTTP, in every size, whatever happens to workers.

mod failures;
mod listings;
mod lives;
mod posters;
mod returns;
mod stage;
mod timelines;
