//! The new process' side: it takes the sockets of the old one, and says when it is ready.

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

use media_core::hub::Numbers;
use origin_http::QuicSocket;
use tokio::time::timeout;
use tracing::debug;

use super::{Error, channel::Channel, message::Message};
use crate::sockets::{Any, Open, Purpose};

/// The old process sends all at once.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Sockets at most: each `listen` may be a list.
const MAX_SOCKETS: usize = 1024;

/// The process that this one follows.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    local: PathBuf,
    numbers: Numbers,
}

impl Predecessor {
    /// Takes what comes on standard input, inside a tokio runtime: the old process, and its sockets.
    ///
    /// # Errors
    /// Nobody is there who hands over, or they speak another version.
    pub(crate) async fn receive() -> Result<(Self, Vec<Open>), Error> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        let channel = Channel::new(end)?;
        let all = async {
            let mut sockets = Vec::new();
            loop {
                match channel.receive().await? {
                    (Message::Socket { purpose, address }, descriptors) if sockets.len() < MAX_SOCKETS => {
                        sockets.push(Open {
                            purpose,
                            address,
                            socket: Any::Tcp(TcpListener::from(first(descriptors)?.0)),
                        });
                    }
                    (Message::Quic { address, note }, descriptors) if sockets.len() < MAX_SOCKETS => {
                        let (socket, rest) = first(descriptors)?;
                        let inboxes = rest.into_iter().map(UnixDatagram::from).collect();
                        sockets.push(Open {
                            purpose: Purpose::Quic,
                            address,
                            socket: Any::Quic(QuicSocket::inherit(UdpSocket::from(socket), &note.0, inboxes)?),
                        });
                    }
                    (
                        Message::Start {
                            local,
                            discontinuities,
                            msn,
                        },
                        _,
                    ) => {
                        let numbers = Numbers {
                            msn,
                            discontinuity: discontinuities,
                        };
                        return Ok((sockets, local, numbers));
                    }
                    (other, _) => return Err(Error::OutOfTurn(other.name())),
                }
            }
        };
        let late = |_| Error::Late(SEND_LIMIT.as_secs());
        let (sockets, local, numbers) = timeout(SEND_LIMIT, all).await.map_err(late)??;
        let predecessor = Self {
            channel,
            local,
            numbers,
        };
        Ok((predecessor, sockets))
    }

    /// Where it serves what only it has.
    pub(crate) fn local(&self) -> &Path {
        &self.local
    }

    /// A discontinuity sequence that none of its broadcasts gets to, and a media sequence number that none has come to.
    pub(crate) fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Says that this process serves, and waits until it is the main one.
    ///
    /// # Errors
    /// The old process is gone, or has given up waiting.
    pub(crate) async fn take_over(&self) -> Result<(), Error> {
        self.channel.send(&Message::Ready, &[]).await?;
        match timeout(SEND_LIMIT, self.channel.receive()).await {
            Ok(Ok((Message::Main, _))) => Ok(()),
            Ok(Ok((other, _))) => Err(Error::OutOfTurn(other.name())),
            Ok(Err(err)) => Err(err),
            Err(_) => Err(Error::Late(SEND_LIMIT.as_secs())),
        }
    }

    /// Waits until it is gone. Cancel-safe.
    pub(crate) async fn gone(&self) {
        // It has nothing more to say.
        while self.channel.receive().await.is_ok() {}
    }

    /// Tells it to stop. [`Predecessor::gone`] waits until it has.
    pub(crate) async fn stop(&self) {
        self.tell(&Message::Stop).await;
    }

    /// Tells it to go by the configuration as it is now, as far as a process that drains does.
    pub(crate) async fn reload(&self) {
        self.tell(&Message::Reload).await;
    }

    async fn tell(&self, message: &Message) {
        if let Err(err) = self.channel.send(message, &[]).await {
            debug!(%err, "the old process is not told");
        }
    }
}

fn first(mut descriptors: Vec<OwnedFd>) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    match descriptors.is_empty() {
        true => Err(io::Error::other("a socket came without its descriptor")),
        false => Ok((descriptors.remove(0), descriptors)),
    }
}
