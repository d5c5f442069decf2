//! What two processes of the daemon say to each other. Pure: bytes from and to values; descriptors travel beside.
//!
//! A packet is one message: a byte with the version of this language, then JSON. A process that is spoken to in a version it does not know
//! refuses, and then the older of the two goes on.

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::sockets::Purpose;

/// The version of this language. Another is made when a process of the one before could misunderstand what is said.
const VERSION: u8 = 1;
/// Bytes of a packet, at most.
pub(super) const MAX_BYTES: usize = 16 << 10;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "lowercase")]
pub(super) enum Message {
    /// To the new process: a socket that listens, as the one descriptor beside it.
    Socket { purpose: Purpose, address: SocketAddr },
    /// To the new process: a socket of QUIC, as the first descriptor beside it; the rest lead to its former owners, as does the note.
    Quic { address: SocketAddr, note: Note },
    /// To the new process: these were all. What it does not have itself, it fetches over HTTP from this Unix socket. No broadcast of the old one
    /// gets as far as this discontinuity sequence, or has come to this media sequence number, which grows by one a second at the most.
    Start {
        local: PathBuf,
        discontinuities: u64,
        /// 0 from a process that does not say it.
        #[serde(default)]
        msn: u64,
    },
    /// To the old process: all parts run.
    Ready,
    /// To the new process: the service manager knows it as the main process.
    Main,
    /// To the old process: the configuration may be another, as to keys and tokens; the access log's file is.
    Reload,
    /// To the old process: do not drain, stop.
    Stop,
}

impl Message {
    /// For the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Socket { .. } => "socket",
            Self::Quic { .. } => "quic",
            Self::Start { .. } => "start",
            Self::Ready => "ready",
            Self::Main => "main",
            Self::Reload => "reload",
            Self::Stop => "stop",
        }
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, Malformed> {
        let mut packet = vec![VERSION];
        serde_json::to_writer(&mut packet, self).map_err(|_| Malformed::NotAMessage)?;
        match packet.len() {
            0..=MAX_BYTES => Ok(packet),
            len => Err(Malformed::TooLong(len)),
        }
    }

    pub(super) fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        match packet.split_first() {
            Some((&VERSION, json)) => serde_json::from_slice(json).map_err(|_| Malformed::NotAMessage),
            Some((&theirs, _)) => Err(Malformed::Version { theirs }),
            None => Err(Malformed::NotAMessage),
        }
    }
}

/// What one owner of a QUIC socket leaves to the next. A secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note(pub(super) Vec<u8>);

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Of another version.
    #[error(
        "version {theirs} of the hand-over's language, here it is {VERSION}: between these two versions, restart the service"
    )]
    Version { theirs: u8 },
    /// Nothing that is known.
    #[error("what is no message of the hand-over")]
    NotAMessage,
    /// More than a packet holds.
    #[error("a message of {0} bytes, the limit is {MAX_BYTES}")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Message {
        Message::Socket {
            purpose: Purpose::Https,
            address: "[::1]:8443".parse().unwrap(),
        }
    }

    #[test]
    fn a_message_byte_for_byte() {
        let packet = b"\x01{\"message\":\"socket\",\"purpose\":\"https\",\"address\":\"[::1]:8443\"}";
        assert_eq!(socket().write().unwrap(), packet);
    }

    #[test]
    fn what_is_written_reads_back() {
        let local = "/var/lib/streamforge/handover/1.sock".into();
        let quic = Message::Quic {
            address: "0.0.0.0:8443".parse().unwrap(),
            note: Note(vec![0, 255]),
        };
        assert!(format!("{quic:?}").contains("***"));
        for message in [
            quic,
            socket(),
            Message::Start {
                local,
                discontinuities: 46_769,
                msn: 1_795_000_000,
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
    fn a_start_without_a_media_sequence_number_is_of_an_older_process() {
        let packet = b"\x01{\"message\":\"start\",\"local\":\"/a\",\"discontinuities\":7}";
        let start = Message::Start {
            local: "/a".into(),
            discontinuities: 7,
            msn: 0,
        };
        assert_eq!(Message::parse(packet), Ok(start));
    }

    #[test]
    fn another_version_is_refused_by_its_number_whatever_follows() {
        let mut packet = Message::Ready.write().unwrap();
        packet[0] = 2;
        let refusal = Message::parse(&packet).unwrap_err();
        assert_eq!(refusal, Malformed::Version { theirs: 2 });
        assert!(refusal.to_string().contains("restart the service"));
        assert_eq!(Message::parse(b"\x07"), Err(Malformed::Version { theirs: 7 }));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for packet in [
            &b""[..],
            b"\x01",
            b"\x01{}",
            b"\x01{\"message\":\"else\"}",
            b"\x01[",
            b"\x01\xff",
        ] {
            assert_eq!(Message::parse(packet), Err(Malformed::NotAMessage), "{packet:?}");
        }
        let local = "x".repeat(MAX_BYTES).into();
        let start = Message::Start {
            local,
            discontinuities: 0,
            msn: 0,
        };
        assert!(matches!(start.write(), Err(Malformed::TooLong(_))));
    }
}
