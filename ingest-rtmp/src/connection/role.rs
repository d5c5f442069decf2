//! The role of a connection's peer, and the events besides its bytes for which the connection waits
//! in each role.

use std::{
    future::{Future, pending},
    io,
};

use media_core::{broadcast, hub::Hold};
use net_core::{Dormant, Usage};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Grant, Lease, Refusal},
    player::Player,
    publisher::Publisher,
};

/// The role of the peer.
pub(super) enum Role {
    /// It neither publishes nor plays: before its request, and after its stream was closed.
    Idle,
    /// It has requested to publish, and waits for the decision.
    Authorizing(Dormant<dyn Future<Output = Result<Grant, Refusal>> + Send>),
    /// It has the right to publish its channel.
    Publisher {
        publisher: Publisher,
        /// The right to the name, at which its activity is recorded.
        hold: Hold,
        /// Resolves when the right to publish is revoked.
        revoked: Dormant<dyn Future<Output = Refusal> + Send>,
        /// Dropped with the role.
        _lease: Lease,
    },
    /// It plays a broadcast.
    Player(Player),
}

/// The cause of a wake-up.
pub(super) enum Wake {
    /// Number of bytes read, 0 at the end of the input.
    Read(io::Result<usize>),
    /// The timer fired, which may be earlier than a deadline.
    Timer,
    /// An event of the hub for the player; `None` when the broadcast has ended.
    Play(Option<broadcast::Event>),
    /// The decision about a request to publish.
    Authorized(Result<Grant, Refusal>),
    Revoked(Refusal),
    /// This process hands over to another one.
    Retire,
    /// The server stops.
    Shutdown,
    /// Its permit is needed for another connection.
    Evicted,
}

impl Role {
    /// Waits for events of this role besides those of the peer. Cancel-safe.
    pub(super) async fn wake(&mut self) -> Wake {
        match self {
            Self::Idle => pending().await,
            Self::Authorizing(decision) => Wake::Authorized(decision.await),
            Self::Publisher { revoked, .. } => Wake::Revoked(revoked.await),
            Self::Player(player) => Wake::Play(player.next().await),
        }
    }
}

/// Waits for a signal to the connection: the end of its publishing (`retire`), of the server, or
/// its own.
pub(super) async fn signalled(
    usage: &Usage,
    shutdown: &CancellationToken,
    retire: Option<&CancellationToken>,
) -> Wake {
    let retire = async {
        match retire {
            Some(retire) => retire.cancelled().await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = retire => Wake::Retire,
        () = shutdown.cancelled() => Wake::Shutdown,
        () = usage.closed() => Wake::Evicted,
    }
}
