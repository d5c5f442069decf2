//! The daemon: command line, configuration, wiring, start and stop. No media logic and no business rules: those are the crates'.
//!
//! - `cli`: the commands. `config`: what an operator sets. `logs`: where messages go.
//! - `serve`: what runs, and in which order it stops. `publish`: who may publish. `pages`: the watch page. `demo`: the test picture.
//! - `sockets`: where it listens. `certificates`: what TLS shows. `handover`: how one process follows another without a pause.
//! - `signals`, `notify`: the operator and the service manager. `limits`: what the machine allows. `check`: whether it would run.

#![forbid(unsafe_code)]

mod certificates;
mod check;
mod cli;
mod config;
mod demo;
mod handover;
mod limits;
mod logs;
mod notify;
mod pages;
mod publish;
mod serve;
mod signals;
mod sockets;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // One cryptography for all; it can be set once, and this is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(what) => {
            eprintln!("streamforge: {what}");
            ExitCode::FAILURE
        }
    }
}
