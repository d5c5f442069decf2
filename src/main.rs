//! The daemon: command line, configuration, wiring, start and stop. No media logic and no business rules: those are the crates'.
//!
//! - `cli`: the commands. `config`: what an operator sets. `logs`: where messages go.
//! - `serve`: what runs, and in which order it stops. `publish`: who may publish. `pages`: the watch page. `demo`: the test picture.
//! - `check`: whether it would run.

#![forbid(unsafe_code)]

mod check;
mod cli;
mod config;
mod demo;
mod logs;
mod pages;
mod publish;
mod serve;
mod signals;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(what) => {
            eprintln!("streamforge: {what}");
            ExitCode::FAILURE
        }
    }
}
