//! The daemon: command line, configuration, wiring, start and stop. Media logic and business rules
//! belong to the crates.
//!
//! - `cli`: the commands. `config`: the operator's settings. `logs`: the output of messages.
//!   `traces`: the export of traces.
//! - `administer`: the commands that administer a running daemon. `control_socket`: its socket.
//! - `serve`: the running parts, and their order of stopping. `publish`: the right to publish.
//!   `playback_key`: the key of playback tokens. `directory`: stored stream keys and private
//!   channels. `pages`: the watch page. `demo`: the test picture.
//! - `sockets`: the listening sockets. `certificates`: the TLS certificate. `handover`: the
//!   hand-over to another process without interruption.
//! - `signals`, `notify`: the operator and the service manager. `limits`: limits of the machine.
//!   `check`: whether the daemon would run. `blocking`: work that may block.

#![forbid(unsafe_code)]

mod administer;
mod authorities;
mod blocking;
mod certificates;
mod check;
mod cli;
mod config;
mod control_socket;
mod demo;
mod directory;
mod handover;
mod https;
mod limits;
mod logs;
mod notify;
mod pages;
mod playback_key;
mod publish;
mod serve;
mod signals;
mod sockets;
#[cfg_attr(not(feature = "otel"), path = "no_traces.rs")]
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "nothing is exported"))]
mod traces;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // One crypto provider for the whole process; it can be set only once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        // One line on stderr, not a log message: the log may not be set up yet.
        Err(err) => {
            eprintln!("streamforge: {err}");
            ExitCode::FAILURE
        }
    }
}
