//! The end of a worker's life.

use media_core::codec::Config;

/// Why a worker's life ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// All units were encoded. The source has a gap, or another configuration.
    Drained(Option<Config>),
    /// All units were encoded, and the source has ended.
    Over,
    /// Another list of renditions is wanted; all units were encoded up to a mark, from which the
    /// next worker continues.
    Replan,
    /// The daemon stops.
    Stopped,
    /// The worker failed.
    Failed(Failure),
}

impl End {
    /// Its name in traces.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Drained(_) => "drained",
            Self::Over => "over",
            Self::Replan => "replan",
            Self::Stopped => "stopped",
            Self::Failed(failure) => failure.label(),
        }
    }
}

/// Why a worker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its process could not be started.
    Start,
    /// It ended before it had encoded all units.
    Died,
    /// It reported an invalid message.
    Socket,
    /// It reported an invalid configuration, or too many of them.
    Config,
    /// It reported a unit that no encoder makes of the source.
    Unit,
    /// It reported too many messages other than units.
    Flood,
    /// It, or one of its encoders, accepts units and outputs none.
    Stuck,
}

impl Failure {
    /// All failures.
    pub(crate) const ALL: [Self; 7] =
        [Self::Start, Self::Died, Self::Socket, Self::Config, Self::Unit, Self::Flood, Self::Stuck];

    /// Its label in the metrics and the log.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Died => "died",
            Self::Socket => "socket",
            Self::Config => "config",
            Self::Unit => "unit",
            Self::Flood => "flood",
            Self::Stuck => "stuck",
        }
    }
}
