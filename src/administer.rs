//! The commands that administer a running daemon through its control socket: each is one or a few
//! requests to the API, and prints the response as a table or as JSON.

mod audit;
mod commands;
mod database;
mod error;
mod lookups;
mod output;
mod requests;
mod videos;
mod webhooks;

use std::path::PathBuf;

use clap::Args;

pub(crate) use self::{
    commands::{Audit, Channel, Database, Key, Stream, Task, User},
    error::Error,
    videos::Video,
    webhooks::Webhook,
};
use crate::{
    config,
    control_socket::{self, Client},
};

/// The daemon to administer, and the format of the output.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// The daemon's configuration file, as for `serve`: it names the data folder with the control
    /// socket.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// Runs a command, and prints its result.
///
/// # Errors
/// [`Error`].
pub(crate) fn run(task: Task, daemon: &Daemon, config: &config::Config) -> Result<(), Error> {
    let client = Client::new(&control_socket::path(&config.data_dir));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let work = async {
        match task {
            Task::User(command) => requests::user(&client, command).await,
            Task::Channel(command) => requests::channel(&client, command).await,
            Task::Key(command) => requests::key(&client, command).await,
            Task::Stream(command) => requests::stream(&client, command).await,
            Task::Audit(command) => audit::carry_out(&client, command, daemon.json).await,
            Task::Video(command) => videos::video(&client, command).await,
            Task::Webhook(command) => webhooks::webhook(&client, command).await,
            Task::Database(command) => {
                database::carry_out(&client, command, &config.platform_folder()).await
            }
        }
    };
    let result = runtime.block_on(work)?;
    output::print(&result, daemon.json);
    match result["faults"].as_array() {
        Some(faults) if !faults.is_empty() => Err(Error::NotSound),
        _ => Ok(()),
    }
}
