//! The messages between two processes of the daemon. Pure: bytes from and to values; descriptors
//! are passed separately.
//!
//! A packet is one message: a byte with the version of the protocol, then JSON. A process that
//! receives an unknown version refuses, and then the old process continues.

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sockets::Purpose;

/// The version of the protocol. It increases when an older process could misunderstand a message.
const VERSION: u8 = 1;
/// Maximum size of a packet in bytes.
pub(super) const MAX_BYTES: usize = 16 << 10;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "lowercase")]
pub(super) enum Message {
    /// To the new process: a listening socket, as the only descriptor.
    Socket { purpose: Purpose, address: SocketAddr },
    /// To the new process: a QUIC socket, as the first descriptor; the other descriptors lead to
    /// its former owners, which the note describes.
    Quic { address: SocketAddr, note: Note },
    /// To the new process: all sockets were sent. It fetches the old one's broadcasts over HTTP
    /// from this Unix socket. No broadcast of the old process reaches this discontinuity sequence,
    /// or has reached this media sequence number, which grows by at most one a second.
    Start {
        local: PathBuf,
        discontinuities: u64,
        /// 0 from a process that does not send it.
        #[serde(default)]
        msn: u64,
        /// Whether the old process has publishers with stored stream keys, and understands
        /// [`Message::Withdraw`].
        #[serde(default)]
        stored_keys: bool,
    },
    /// To the old process: the new process serves.
    Ready,
    /// To the new process: it is the service manager's main process.
    Main,
    /// To the old process: reload keys and tokens, and reopen the access log.
    Reload,
    /// To the old process: the rights to publish that concern this key, channel or account end.
    Withdraw { subject: Uuid },
    /// To the old process: stop without draining.
    Stop,
}

impl Message {
    /// Its name for the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Socket { .. } => "socket",
            Self::Quic { .. } => "quic",
            Self::Start { .. } => "start",
            Self::Ready => "ready",
            Self::Main => "main",
            Self::Reload => "reload",
            Self::Withdraw { .. } => "withdraw",
            Self::Stop => "stop",
        }
    }

    /// Serialises the message as one packet.
    ///
    /// # Errors
    /// [`Malformed::TooLong`].
    pub(super) fn write(&self) -> Result<Vec<u8>, Malformed> {
        let mut packet = vec![VERSION];
        serde_json::to_writer(&mut packet, self).map_err(|_| Malformed::NotAMessage)?;
        match packet.len() {
            0..=MAX_BYTES => Ok(packet),
            len => Err(Malformed::TooLong(len)),
        }
    }

    /// Parses one packet. The version is checked first, so that the JSON may differ between
    /// versions.
    ///
    /// # Errors
    /// [`Malformed::Version`], [`Malformed::NotAMessage`].
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        match packet.split_first() {
            Some((&VERSION, json)) => {
                serde_json::from_slice(json).map_err(|_| Malformed::NotAMessage)
            }
            Some((&theirs, _)) => Err(Malformed::Version { theirs }),
            None => Err(Malformed::NotAMessage),
        }
    }
}

/// State that one owner of a QUIC socket leaves to the next. A secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note(pub(super) Vec<u8>);

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a packet is not a valid message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// It has another version.
    #[error(
        "version {theirs} of the hand-over protocol, this process has {VERSION}: between these \
         versions, restart the service"
    )]
    Version { theirs: u8 },
    /// It is not a known message.
    #[error("an unknown message of the hand-over")]
    NotAMessage,
    /// It is too large for a packet.
    #[error("a message of {0} bytes, the limit is {MAX_BYTES}")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Message {
        Message::Socket { purpose: Purpose::Https, address: "[::1]:8443".parse().unwrap() }
    }

    #[test]
    fn a_hand_over_message_has_the_expected_bytes() {
        let packet =
            b"\x01{\"message\":\"socket\",\"purpose\":\"https\",\"address\":\"[::1]:8443\"}";
        assert_eq!(socket().write().unwrap(), packet);
    }

    #[test]
    fn written_values_are_parsed_back() {
        let local = "/var/lib/streamforge/handover/1.sock".into();
        let quic =
            Message::Quic { address: "0.0.0.0:8443".parse().unwrap(), note: Note(vec![0, 255]) };
        assert!(format!("{quic:?}").contains("***"));
        for message in [
            quic,
            socket(),
            Message::Start {
                local,
                discontinuities: 46_769,
                msn: 1_795_000_000,
                stored_keys: true,
            },
            Message::Ready,
            Message::Main,
            Message::Reload,
            Message::Stop,
        ] {
            assert_eq!(Message::parse(&message.write().unwrap()), Ok(message));
        }
    }

    #[test]
    fn a_start_message_without_msn_is_accepted_with_msn_0() {
        let packet = b"\x01{\"message\":\"start\",\"local\":\"/a\",\"discontinuities\":7}";
        let start =
            Message::Start { local: "/a".into(), discontinuities: 7, msn: 0, stored_keys: false };
        assert_eq!(Message::parse(packet), Ok(start));
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        let mut packet = Message::Ready.write().unwrap();
        packet[0] = 2;
        let refusal = Message::parse(&packet).unwrap_err();
        assert_eq!(refusal, Malformed::Version { theirs: 2 });
        assert!(refusal.to_string().contains("restart the service"));
        assert_eq!(Message::parse(b"\x07"), Err(Malformed::Version { theirs: 7 }));
    }

    #[test]
    fn invalid_and_too_long_messages_are_refused() {
        for packet in
            [&b""[..], b"\x01", b"\x01{}", b"\x01{\"message\":\"else\"}", b"\x01[", b"\x01\xff"]
        {
            assert_eq!(Message::parse(packet), Err(Malformed::NotAMessage), "{packet:?}");
        }
        let local = "x".repeat(MAX_BYTES).into();
        let start = Message::Start { local, discontinuities: 0, msn: 0, stored_keys: false };
        assert!(matches!(start.write(), Err(Malformed::TooLong(_))));
    }
}
