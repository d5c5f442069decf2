//! Why a connection ends early. Every variant is the peer's doing; none costs more than the connection it came on.

use std::io;

use rml_rtmp::{chunk_io::ChunkSerializationError, handshake::HandshakeError, messages::MessageSerializationError};

use crate::amf0;

/// Errors of one RTMP connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's handshake is not RTMP version 3.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// A chunk takes its message's length from the header before it on its chunk stream, and there is none.
    #[error("chunk of format {format} on chunk stream {csid}, which had no header before")]
    NoHeaderBefore {
        /// The chunk stream.
        csid: u32,
        /// The chunk's header format, 2 or 3.
        format: u8,
    },
    /// A header inside an unfinished message says another length or type than the one that opened it.
    #[error("message of {len} bytes on chunk stream {csid} is interrupted after {got} by another of {other}")]
    MessageInterrupted {
        /// The chunk stream.
        csid: u32,
        /// Length of the open message in bytes.
        len: u32,
        /// How much of it had come.
        got: usize,
        /// Length of the message that the new header declares.
        other: u32,
    },
    /// The peer uses more chunk streams than we keep state for.
    #[error("more than {max} chunk streams")]
    TooManyChunkStreams {
        /// The limit.
        max: usize,
    },
    /// The declared length is above the limit of the session's stage. Nothing was allocated for it.
    #[error("message of {len} bytes on chunk stream {csid}, limit {max}")]
    MessageTooLarge {
        /// The chunk stream.
        csid: u32,
        /// The declared length in bytes.
        len: u32,
        /// The limit in bytes.
        max: u32,
    },
    /// Unfinished messages together hold more than a connection may.
    #[error("unfinished messages hold {held} bytes, limit {max}")]
    TooMuchUnfinished {
        /// Bytes that would be held.
        held: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The peer announces a chunk size of 0 or of more than 31 bits.
    #[error("chunk size {size}, allowed are 1 to {max}")]
    BadChunkSize {
        /// The announced size in bytes.
        size: u32,
        /// The limit in bytes.
        max: u32,
    },
    /// A control message (types 1 to 6) or an aggregate (22) is shorter than its fields.
    #[error("message of type {kind} with {len} bytes is truncated")]
    Truncated {
        /// The message type id.
        kind: u8,
        /// The message's length in bytes.
        len: usize,
    },
    /// A command's AMF0 values cannot be read.
    #[error("command: {0}")]
    Amf0(#[from] amf0::Error),
    /// A command that the session's stage does not allow, such as `createStream` before `connect`.
    #[error("command {command} while {stage}")]
    OutOfOrder {
        /// The command's name, cut to 32 characters.
        command: String,
        /// What the session was waiting for.
        stage: &'static str,
    },
    /// The peer let a deadline pass.
    #[error("{what} took longer than {limit_ms} ms")]
    TimedOut {
        /// `handshake`, `setup`, `idle` or `write`.
        what: &'static str,
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// The peer takes what is written to it more slowly than 1 KiB a second.
    #[error("took {taken} bytes in {waited_ms} ms")]
    TooSlow {
        /// Bytes that it took.
        taken: u64,
        /// How long writes had to wait for it, in milliseconds.
        waited_ms: u64,
    },
    /// An answer of ours does not fit RTMP's framing. Ours, not the peer's; no known input leads here.
    #[error("answer cannot be framed: {0}")]
    Serialize(#[from] ChunkSerializationError),
    /// An answer of ours cannot be encoded. Ours, not the peer's; no known input leads here.
    #[error("answer cannot be encoded: {0}")]
    Encode(#[from] MessageSerializationError),
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
}
