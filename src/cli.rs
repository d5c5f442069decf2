//! The commands and their flags. A flag that is not given overrides nothing.

use std::{env, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use control_api::store::NodeRole;
use transcoder::{
    confine,
    images::{self, Size},
    protocol::Encoder,
};

use crate::{
    administer::{self, Task},
    check,
    config::{
        self,
        source::{self, Loaded},
    },
    logs, serve,
    traces::{self, Traces},
};

/// A live video daemon: RTMP in, low-latency HLS and DASH out.
#[derive(Debug, Parser)]
#[command(name = "streamforge", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Format of the messages on stderr; RUST_LOG selects them.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: logs::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon until SIGTERM or SIGINT; a second signal ends it at once. SIGHUP reloads the
    /// configuration; SIGUSR2 starts the program again and hands over to it.
    Serve(Serve),
    /// Checks the configuration, the codecs and the ports.
    Check(Configured),
    /// Makes, lists and deletes accounts of the running daemon, and changes their roles and
    /// passwords.
    User {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::User,
    },
    /// Verifies, rebuilds, backs up, restores, exports and seeds the platform's database.
    Db {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::Database,
    },
    /// Makes, lists, edits and deletes channels of the running daemon.
    Channel {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::Channel,
    },
    /// Adds, lists and revokes stream keys of the running daemon.
    Key {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::Key,
    },
    /// Lists and ends live broadcasts of the running daemon.
    Stream {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::Stream,
    },
    /// Lists the administrative acts of the running daemon: who has used a right over the things of
    /// others, or has operated the daemon.
    Audit {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::Audit,
    },
    /// Announces, lists, edits, publishes and deletes videos of the running daemon.
    Video {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::Video,
    },
    /// Makes, lists, edits, tests and deletes webhooks of the running daemon, and shows and repeats
    /// their deliveries.
    Webhook {
        #[command(flatten)]
        daemon: administer::Daemon,
        #[command(subcommand)]
        command: administer::Webhook,
    },
    /// Publishes the test picture; without an address, to the one on standard input until that
    /// closes. A worker of `serve`.
    #[command(hide = true)]
    TestPicture {
        /// For example rtmp://127.0.0.1/live/demo.
        #[arg(long)]
        url: Option<String>,
    },
    /// Makes the renditions of one source, as ordered through the socket on standard input. A
    /// worker of `serve`.
    #[command(hide = true)]
    TranscodeWorker,
    /// Decodes the picture on standard input, and writes it in these sizes to standard output. A
    /// worker of `serve`.
    #[command(hide = true)]
    ImageWorker {
        /// Minimum niceness.
        #[arg(long)]
        nice: u8,
        /// For example 512x512.
        sizes: Vec<Size>,
    },
    /// Prints whether a video encoder works, and how fast, as JSON. A worker of `serve` and
    /// `check`.
    #[command(hide = true)]
    EncoderTrial {
        /// The encoder, for example x264.
        encoder: String,
        /// The preset of x264, for example veryfast.
        preset: String,
    },
    /// Prints the confinement of a worker, and a warning in a second line if there is one. A worker
    /// of `check`.
    #[command(hide = true)]
    ConfinementTrial {
        /// Limit of private memory, in bytes.
        memory_bytes: u64,
        /// Minimum niceness.
        nice: u8,
    },
    /// Prints the names of missing GStreamer elements. A worker of `check`.
    #[command(hide = true)]
    MissingElements,
}

/// The role of a daemon's database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Role {
    /// It decides, and publishes its events to the bus if there is one.
    #[default]
    Writer,
    /// It takes the writer's events from the bus, and answers queries.
    Replica,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    configured: Configured,
    /// The role of the platform's database. A replica has no publishers; it needs [bus] and the
    /// writer's master.key.
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// Takes over from the process at the other end of standard input.
    #[arg(long, hide = true)]
    take_over: bool,
}

#[derive(Debug, Args)]
struct Configured {
    /// The configuration file. Default: conf/streamforge.toml if it exists, otherwise built-in
    /// values. Variables STREAMFORGE_<SECTION>_<KEY> override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why a command failed, in one line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A running daemon cannot be administered.
    #[error(transparent)]
    Administer(#[from] administer::Error),
    /// The filter of messages is not valid.
    #[error(transparent)]
    Logs(#[from] logs::BadFilter),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] traces::Error),
    /// The daemon failed.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// A pipeline failed.
    #[error(transparent)]
    Pipeline(#[from] transcoder::Error),
    /// A process cannot be confined.
    #[error(transparent)]
    Confinement(#[from] confine::Error),
    /// There is no such encoder.
    #[error("no encoder is called {0}")]
    NoEncoder(String),
}

impl Configured {
    fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(source::default_file)
    }

    fn load(&self) -> Result<Loaded, config::Error> {
        source::load(self.file().as_deref(), env::vars_os())
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// The fault of the command.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Serve(Serve { configured, role, take_over }) => {
                let mut loaded = configured.load()?;
                let role = match role {
                    Role::Writer => NodeRole::Writer,
                    Role::Replica => {
                        loaded.config.become_replica()?;
                        NodeRole::Replica
                    }
                };
                let (traces, export) = Traces::new(&loaded.config.traces)?.unzip();
                logs::init(self.log_format, traces.as_ref())?;
                let file = configured.file();
                Ok(serve::run(serve::Call { loaded, file, takes_over: take_over, role, export })?)
            }
            Command::Check(configured) => {
                let file = configured.file();
                Ok(check::run(file.as_deref(), configured.load().map(|loaded| loaded.config)))
            }
            Command::User { daemon, command } => administer(Task::User(command), daemon),
            Command::Db { daemon, command } => administer(Task::Database(command), daemon),
            Command::Channel { daemon, command } => administer(Task::Channel(command), daemon),
            Command::Key { daemon, command } => administer(Task::Key(command), daemon),
            Command::Stream { daemon, command } => administer(Task::Stream(command), daemon),
            Command::Audit { daemon, command } => administer(Task::Audit(command), daemon),
            Command::Video { daemon, command } => administer(Task::Video(command), daemon),
            Command::Webhook { daemon, command } => administer(Task::Webhook(command), daemon),
            Command::TestPicture { url: Some(url) } => {
                transcoder::test_picture::push(&url)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::TestPicture { url: None } => {
                transcoder::test_picture::push_for_parent()?;
                Ok(ExitCode::SUCCESS)
            }
            Command::TranscodeWorker => {
                transcoder::worker::run_for_parent()?;
                Ok(ExitCode::SUCCESS)
            }
            Command::ImageWorker { nice, sizes } => match images::worker::run(&sizes, nice) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(images::worker::WorkerError::Ours(error)) => Err(error.into()),
                // For the daemon, which passes the reason on to the sender.
                Err(refusal) => {
                    eprintln!("{refusal}");
                    Ok(ExitCode::from(images::REFUSED))
                }
            },
            Command::EncoderTrial { encoder, preset } => {
                let encoder = Encoder::named(&encoder).ok_or(Error::NoEncoder(encoder))?;
                println!("{}", transcoder::trial::run(encoder, &preset)?.to_json());
                Ok(ExitCode::SUCCESS)
            }
            Command::ConfinementTrial { memory_bytes, nice } => {
                let nice = nice.into();
                let limits = confine::Limits { memory_bytes, nice, ..confine::Limits::default() };
                let confinement = confine::trial(&limits)?;
                println!("{confinement}");
                if let Some(warning) = confinement.warning() {
                    println!("{warning}");
                }
                Ok(ExitCode::SUCCESS)
            }
            Command::MissingElements => {
                let missing = transcoder::elements::missing()?;
                missing.into_iter().for_each(|name| println!("{name}"));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Runs a command that administers the daemon with this configuration.
fn administer(task: Task, daemon: administer::Daemon) -> Result<ExitCode, Error> {
    let configured = Configured { config: daemon.config.clone() };
    administer::run(task, &daemon, &configured.load()?.config)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::handover;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_log_format_may_stand_after_the_command() {
        let cli =
            Cli::parse_from(["streamforge", "serve", "--config", "a.toml", "--log-format", "json"]);
        assert_eq!(cli.log_format, logs::Format::Json);
        assert!(matches!(
            cli.command,
            Command::Serve(Serve {
                configured: Configured { config: Some(_) },
                role: Role::Writer,
                take_over: false
            })
        ));
    }

    #[test]
    fn the_hand_over_flag_may_stand_anywhere_after_the_command() {
        let cli = Cli::parse_from(["streamforge", "--log-format", "json", "serve", handover::FLAG]);
        assert!(matches!(cli.command, Command::Serve(Serve { take_over: true, .. })));
        let args =
            ["streamforge", "serve", "--config", "a.toml", "--log-format", "json", handover::FLAG];
        let cli = Cli::parse_from(args);
        assert!(matches!(cli.command, Command::Serve(Serve { take_over: true, .. })));
    }
}
