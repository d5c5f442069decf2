//! The socket between two processes of the daemon: packets, each with a few descriptors at most.
//! unix(7), SOCK_SEQPACKET.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
        sendmsg, socketpair,
    },
};
use tokio::{io::Interest, net::UnixDatagram};

use super::{
    error::Error,
    message::{MAX_BYTES, Message},
};

/// Maximum number of descriptors with one packet: a QUIC socket has one for each former owner that
/// still drains.
const MAX_DESCRIPTORS: usize = 16;

/// One end. Tokio has no type for sockets that preserve packets and report the close of the other
/// end; only the waiting is Tokio's.
#[derive(Debug)]
pub(super) struct Channel(UnixDatagram);

impl Channel {
    /// This process' end, and the other one as a descriptor for a child. Inside a tokio runtime.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    /// The end that was passed at the start. Inside a tokio runtime.
    ///
    /// # Errors
    /// It is not a socket, or cannot be polled.
    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        let end = std::os::unix::net::UnixDatagram::from(end);
        end.set_nonblocking(true)?;
        UnixDatagram::from_std(end).map(Self)
    }

    /// Sends one packet. The kernel accepts it at once, unless the other end has stopped reading.
    pub(super) async fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let packet = message.write()?;
        // Packets are sent whole or not at all, so a cancelled call leaves no partial message.
        let sent = self.0.async_io(Interest::WRITABLE, || {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(io::Error::other("too many descriptors for one message"));
            }
            Ok(sendmsg(&self.0, &[IoSlice::new(&packet)], &mut beside, SendFlags::NOSIGNAL)?)
        });
        sent.await.map(drop).map_err(closed)
    }

    /// The next packet, and its descriptors. Cancel-safe.
    pub(super) async fn receive(&self) -> Result<(Message, Vec<OwnedFd>), Error> {
        let received = self.0.async_io(Interest::READABLE, || {
            let mut packet = vec![0; MAX_BYTES];
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut packet)];
            let got = recvmsg(&self.0, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            let descriptors: Vec<OwnedFd> = beside
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                    _ => None,
                })
                .flatten()
                .collect();
            // A truncated packet or control message is never valid: both buffers have the maximum
            // size.
            let cut = got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
            packet.truncate(got.bytes);
            Ok((packet, descriptors, cut))
        });
        let (packet, descriptors, cut) = received.await.map_err(closed)?;
        // No message is empty, so an empty packet is the end of the stream.
        if packet.is_empty() {
            return Err(Error::Gone);
        }
        if cut {
            return Err(io::Error::other("a packet was cut").into());
        }
        Ok((Message::parse(&packet)?, descriptors))
    }
}

/// The error of a system call; [`Error::Gone`] if the other end has closed.
fn closed(err: io::Error) -> Error {
    let gone = [Errno::PIPE, Errno::CONNRESET];
    match Errno::from_io_error(&err) {
        Some(errno) if gone.contains(&errno) => Error::Gone,
        _ => Error::Socket(err),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd};

    use super::*;
    use crate::sockets::Purpose;

    #[tokio::test]
    async fn messages_and_descriptors_arrive_in_order_and_the_end_is_detected() {
        let (old, end) = Channel::pair().unwrap();
        let new = Channel::new(end).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = Message::Socket { purpose: Purpose::Http, address };
        old.send(&socket, &[listener.as_fd()]).await.unwrap();
        old.send(&Message::Main, &[]).await.unwrap();
        let (message, mut descriptors) = new.receive().await.unwrap();
        assert_eq!((message, descriptors.len()), (socket, 1));
        let received = TcpListener::from(descriptors.remove(0));
        assert_eq!(received.local_addr().unwrap(), address);
        let (message, descriptors) = new.receive().await.unwrap();
        assert_eq!((message, descriptors.len()), (Message::Main, 0));
        drop(old);
        assert!(matches!(new.receive().await, Err(Error::Gone)));
        assert!(matches!(new.send(&Message::Ready, &[]).await, Err(Error::Gone)));
    }
}
