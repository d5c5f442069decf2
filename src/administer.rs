//! The commands that administer a running daemon through its control socket: each is one or a few
//! requests to the API, and prints the response as a table or as JSON.

mod output;
mod requests;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    config,
    control_socket::{self, Client, ClientError},
};

/// Commands about channels.
#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// Makes a channel.
    Add {
        /// Its name in addresses.
        name: String,
        /// The account that owns it: its id, name or e-mail address.
        #[arg(long)]
        owner: String,
        /// Its title. Default: the name.
        #[arg(long)]
        title: Option<String>,
        /// public, unlisted, private or members.
        #[arg(long)]
        visibility: Option<String>,
    },
    /// Lists all channels, the oldest first.
    List,
    /// Shows a channel.
    Show {
        /// Its name or id.
        channel: String,
    },
    /// Changes a channel. Properties that are not given stay as they are.
    Edit {
        /// Its name or id.
        channel: String,
        /// Its title.
        #[arg(long)]
        title: Option<String>,
        /// Its description.
        #[arg(long)]
        description: Option<String>,
        /// public, unlisted, private or members.
        #[arg(long)]
        visibility: Option<String>,
    },
    /// Deletes a channel. Its broadcast ends, and its stream keys are gone.
    Delete {
        /// Its name or id.
        channel: String,
    },
}

/// Commands about stream keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Adds a stream key to a channel, and prints it this once.
    Add {
        /// The channel's name or id.
        channel: String,
        /// A name for the key, which no other key of the channel has.
        name: String,
    },
    /// Lists the stream keys of a channel, without their secrets.
    List {
        /// The channel's name or id.
        channel: String,
    },
    /// Revokes a stream key. A publisher that uses it is disconnected.
    Revoke {
        /// The channel's name or id.
        channel: String,
        /// The key's name or id.
        key: String,
    },
}

/// Commands about live broadcasts.
#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// Lists the live broadcasts.
    List,
    /// Shows the live broadcast of a channel.
    Show {
        /// The channel's name.
        channel: String,
    },
    /// Ends the live broadcast of a channel, and disconnects its publisher.
    End {
        /// The channel's name.
        channel: String,
    },
}

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

/// A command of one of these groups.
#[derive(Debug)]
pub(crate) enum Task {
    Channel(Channel),
    Key(Key),
    Stream(Stream),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The daemon has no response, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command's threads cannot be started.
    #[error("no threads to run on: {0}")]
    Runtime(#[source] std::io::Error),
    /// No thing has this name.
    #[error("{place} has no {thing} {name}")]
    Unknown {
        /// The kind of thing.
        thing: &'static str,
        /// The name that was given.
        name: String,
        /// The thing in which it was looked for.
        place: String,
    },
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
    let result = runtime.block_on(requests::carry_out(&client, task))?;
    output::print(&result, daemon.json);
    Ok(())
}
