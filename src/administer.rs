//! The commands that administer a running daemon through its control socket: each is one or a few
//! requests to the API, and prints the response as a table or as JSON.

mod database;
mod output;
mod requests;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use control_api::store::{ArchiveError, OpenError};

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

/// Commands about accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Makes an account, and prints a password for it this once. It must be changed at the first
    /// sign-in.
    Add {
        /// The name to show.
        name: String,
        /// The e-mail address.
        email: String,
        /// viewer, creator, moderator or administrator.
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// Lists all accounts, the oldest first.
    List,
    /// Shows an account.
    Show {
        /// Its id, name or e-mail address.
        account: String,
    },
    /// Gives an account another role.
    Role {
        /// Its id, name or e-mail address.
        account: String,
        /// viewer, creator, moderator or administrator.
        role: String,
    },
    /// Gives an account another password, and prints it this once. Its sessions end.
    Password {
        /// Its id, name or e-mail address.
        account: String,
    },
    /// Deletes an account and its personal data for ever.
    Delete {
        /// Its id, name or e-mail address.
        account: String,
    },
}

/// Commands about the database. Those that need no daemon open it themselves if none runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Database {
    /// Compares the tables with the log of events.
    Verify,
    /// Builds the tables of some features, or of all, from the log.
    Rebuild {
        /// The features.
        features: Vec<String>,
    },
    /// Writes a consistent copy of the log and the keys into a new folder.
    Backup {
        /// The folder.
        folder: PathBuf,
    },
    /// Makes a database of a backup. The daemon must not run, and the folder "platform" in data_dir
    /// must hold master.key and no database.
    Restore {
        /// The backup's folder.
        backup: PathBuf,
        /// A list of erased persons (erased.txt) that is newer than the backup: they stay erased.
        #[arg(long, value_name = "FILE")]
        erased: Vec<PathBuf>,
    },
    /// Writes all events to standard output, as lines of JSON. Personal data are sealed.
    Export,
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
    User(User),
    Database(Database),
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
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be copied or restored.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The database cannot be read or changed.
    #[error("{0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The tables differ from the log.
    #[error("the database is not sound: run `streamforge db rebuild`, then verify again")]
    NotSound,
    /// The command needs a daemon that does not run.
    #[error("a daemon runs with this data_dir: stop it first")]
    DaemonRuns,
    /// The system has no random numbers.
    #[error("the system returned no random numbers")]
    Random,
    /// A folder has no absolute path.
    #[error("{}: {source}", path.display())]
    Path {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
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
    let work = async {
        match task {
            Task::User(command) => requests::user(&client, command).await,
            Task::Channel(command) => requests::channel(&client, command).await,
            Task::Key(command) => requests::key(&client, command).await,
            Task::Stream(command) => requests::stream(&client, command).await,
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
