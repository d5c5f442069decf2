//! Tests of the whole daemon, through its command line, its sockets and its logs, with real
//! clients. One program, so that the daemon is linked and started in one place; `cargo test --test
//! integration playlists::` runs one module.

mod support;

mod absence;
mod api;
mod audit;
mod bus;
mod certificates;
mod channel_settings;
mod contract;
mod crowds;
mod daemon;
mod delivery;
mod edge;
mod handover;
mod hostile;
mod https;
mod ladder;
mod manifests;
mod metrics;
mod nothing_lost;
mod operators;
mod packaging;
mod page;
mod platform;
mod playback;
mod playback_tokens;
mod playlists;
mod proxies;
mod publish_policies;
mod publishers;
mod reload;
#[cfg(feature = "search")]
mod search;
mod sign_in;
mod switching;
mod traces;
mod tracks;
mod views;
mod webhooks;
