//! The new process' side: it receives the sockets of the old one, and reports that it is ready.

use std::{
    io,
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use http_server::QuicSocket;
use media_core::hub::Numbers;
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use super::{channel::Channel, error::Error, message::Message};
use crate::sockets::{Any, Open, Purpose};

/// Time limit for the sockets; the old process sends all at once.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Maximum number of sockets: each `listen` may be a list.
const MAX_SOCKETS: usize = 1024;

/// The old process, as seen by the new one.
#[derive(Debug)]
pub(crate) struct Predecessor {
    /// The socket to the old process.
    channel: Channel,
    /// Path of its Unix socket.
    local: PathBuf,
    /// See [`Predecessor::numbers`].
    numbers: Numbers,
    /// Whether it has publishers with stored stream keys.
    stored_keys: bool,
}

impl Predecessor {
    /// Receives the old process' messages and sockets on standard input. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// No process hands over, or it uses another version.
    pub(crate) async fn receive() -> Result<(Self, Vec<Open>), Error> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        let channel = Channel::new(end)?;
        let all = async {
            let mut sockets = Vec::new();
            loop {
                // All sockets precede Start. A sender that exceeds the limit is refused as out of
                // turn.
                match channel.receive().await? {
                    (Message::Socket { purpose, address }, descriptors)
                        if sockets.len() < MAX_SOCKETS =>
                    {
                        sockets.push(Open {
                            purpose,
                            address,
                            socket: Any::Tcp(TcpListener::from(first(descriptors)?.0)),
                        });
                    }
                    (Message::Quic { address, note }, descriptors)
                        if sockets.len() < MAX_SOCKETS =>
                    {
                        // The first descriptor is the socket; the others lead to former owners,
                        // whose datagrams are forwarded.
                        let (socket, rest) = first(descriptors)?;
                        let inboxes = rest.into_iter().map(UnixDatagram::from).collect();
                        sockets.push(Open {
                            purpose: Purpose::Quic,
                            address,
                            socket: Any::Quic(QuicSocket::inherit(
                                UdpSocket::from(socket),
                                &note.0,
                                inboxes,
                            )?),
                        });
                    }
                    (Message::Start { local, discontinuities, msn, stored_keys }, _) => {
                        let numbers = Numbers { msn, discontinuity: discontinuities };
                        return Ok((sockets, local, numbers, stored_keys));
                    }
                    (other, _) => return Err(Error::OutOfTurn(other.name())),
                }
            }
        };
        let late = |_| Error::Late(SEND_LIMIT.as_secs());
        let received = timeout(SEND_LIMIT, all).await.map_err(late)??;
        let (sockets, local, numbers, stored_keys) = received;
        let predecessor = Self { channel, local, numbers, stored_keys };
        Ok((predecessor, sockets))
    }

    /// The Unix socket on which it serves its broadcasts.
    pub(crate) fn local(&self) -> &Path {
        &self.local
    }

    /// A discontinuity sequence and a media sequence number above those of all its broadcasts.
    pub(crate) fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Reports that this process serves, and waits until it is the main process.
    ///
    /// # Errors
    /// The old process has ended, or has stopped waiting.
    pub(crate) async fn take_over(&self) -> Result<(), Error> {
        self.channel.send(&Message::Ready, &[]).await?;
        match timeout(SEND_LIMIT, self.channel.receive()).await {
            Ok(Ok((Message::Main, _))) => Ok(()),
            Ok(Ok((other, _))) => Err(Error::OutOfTurn(other.name())),
            Ok(Err(err)) => Err(err),
            Err(_) => Err(Error::Late(SEND_LIMIT.as_secs())),
        }
    }

    /// Waits until it has ended. Cancel-safe.
    pub(crate) async fn gone(&self) {
        // Further messages are ignored.
        while self.channel.receive().await.is_ok() {}
    }

    /// Asks it to stop. [`Predecessor::gone`] waits for its end.
    pub(crate) async fn stop(&self) {
        self.notify(&Message::Stop).await;
    }

    /// Asks it to reload the configuration, as far as a draining process does.
    pub(crate) async fn reload(&self) {
        self.notify(&Message::Reload).await;
    }

    /// Ends its rights to publish that concern a key, channel or account. It has no database.
    pub(crate) async fn withdraw(&self, subject: Uuid) {
        if self.stored_keys {
            self.notify(&Message::Withdraw { subject }).await;
        }
    }

    /// Sends a message. A failure means that the old process has ended, which needs no action.
    async fn notify(&self, message: &Message) {
        if let Err(err) = self.channel.send(message, &[]).await {
            debug!(%err, "the old process cannot be notified");
        }
    }
}

/// The first descriptor, and the others.
fn first(mut descriptors: Vec<OwnedFd>) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    match descriptors.is_empty() {
        true => Err(io::Error::other("a socket came without its descriptor")),
        false => Ok((descriptors.remove(0), descriptors)),
    }
}
