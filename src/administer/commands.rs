//! The commands and their arguments.

use std::path::PathBuf;

use clap::Subcommand;

use super::{videos::Video, webhooks::Webhook};

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
    /// Makes the people, channels, videos and other things of a file of fixtures that do not exist.
    /// Its passwords are for demonstrations: everybody who reads the file knows them.
    Seed {
        /// The file, for example conf/fixtures/demo.json.
        file: PathBuf,
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
        /// Why, for the audit log.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Commands about the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Lists what administrators, moderators and the operator have done, the newest first.
    List {
        /// On whose behalf: an account's id, name or e-mail address, operator:socket,
        /// operator:token, operator:signal or system.
        #[arg(long)]
        actor: Option<String>,
        /// The type of the event, such as streamforge.account.role_changed.v1.
        #[arg(long = "type")]
        kind: Option<String>,
        /// The thing that it happened to: an id, or the subject of an operation.
        #[arg(long)]
        subject: Option<String>,
        /// The earliest time, as in RFC 3339: 2026-12-01T00:00:00Z.
        #[arg(long)]
        from: Option<String>,
        /// The time before which it happened.
        #[arg(long)]
        to: Option<String>,
        /// Greatest number of entries.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

/// A command of one of these groups.
#[derive(Debug)]
pub(crate) enum Task {
    User(User),
    Database(Database),
    Channel(Channel),
    Key(Key),
    Stream(Stream),
    Audit(Audit),
    Video(Video),
    Webhook(Webhook),
}
