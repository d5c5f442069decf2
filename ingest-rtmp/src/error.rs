//! Why a connection ends early. Every variant is the peer's fault; none affects more than its own
//! connection.

use std::io;

use rml_rtmp::{
    chunk_io::ChunkSerializationError, handshake::HandshakeError,
    messages::MessageSerializationError,
};

use crate::amf0;

/// Errors of one RTMP connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's handshake is not RTMP version 3.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// A chunk refers to the previous header on its chunk stream, and there is none.
    #[error(
        "chunk of format {format} on chunk stream {csid} without an earlier header to refer to"
    )]
    NoHeaderBefore {
        /// The chunk stream.
        csid: u32,
        /// The chunk's header format, 2 or 3.
        format: u8,
    },
    /// A header inside an unfinished message has another length or type than the one that opened
    /// it.
    #[error(
        "message of {len} bytes on chunk stream {csid} is interrupted after {got} bytes by a \
         message of {other} bytes"
    )]
    MessageInterrupted {
        /// The chunk stream.
        csid: u32,
        /// Length of the open message in bytes.
        len: u32,
        /// Number of bytes received.
        got: usize,
        /// Length of the message that the new header declares.
        other: u32,
    },
    /// The peer uses more chunk streams than the limit.
    #[error("more than {max} chunk streams")]
    TooManyChunkStreams {
        /// The limit.
        max: usize,
    },
    /// The declared length is above the limit of the session's stage. Nothing was allocated for it.
    #[error("message of {len} bytes on chunk stream {csid} exceeds the limit of {max}")]
    MessageTooLarge {
        /// The chunk stream.
        csid: u32,
        /// The declared length in bytes.
        len: u32,
        /// The limit in bytes.
        max: u32,
    },
    /// Unfinished messages together hold more than the limit of a connection.
    #[error("unfinished messages hold {held} bytes: the limit is {max}")]
    TooMuchUnfinished {
        /// Bytes that would be held.
        held: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The peer announces a chunk size of 0 or of more than 31 bits.
    #[error("chunk size {size}: must be 1 to {max} bytes")]
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
    /// The session's stage does not allow this command, for example `createStream` before
    /// `connect`.
    #[error("command {command} is not allowed while {stage}")]
    OutOfOrder {
        /// The command's name, truncated to 32 characters.
        command: String,
        /// The state of the session.
        stage: &'static str,
    },
    /// The peer exceeded a time limit.
    #[error("{what} took longer than {limit_ms} ms")]
    TimedOut {
        /// `handshake`, `setup`, `idle` or `write`.
        what: &'static str,
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// The peer accepts bytes more slowly than 1 KiB a second.
    #[error("peer accepted only {taken} bytes in {waited_ms} ms: at least 1 KiB/s is required")]
    TooSlow {
        /// Bytes that it accepted.
        taken: u64,
        /// Time for which writes waited for it, in milliseconds.
        waited_ms: u64,
    },
    /// A response of ours does not fit RTMP's framing. Our fault, not the peer's; no known input
    /// causes it.
    #[error("response cannot be framed: {0}")]
    Serialize(#[from] ChunkSerializationError),
    /// A response of ours cannot be encoded. Our fault, not the peer's; no known input causes it.
    #[error("response cannot be encoded: {0}")]
    Encode(#[from] MessageSerializationError),
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
}
