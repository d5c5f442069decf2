//! The events of a session: requests and messages of its peer.

use bytes::Bytes;

use crate::{
    amf0::Value,
    auth::{ClientInfo, Refusal, StreamKey},
};

/// A request or a message of a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The peer requests to publish. Respond with [`Session::accept`](super::Session::accept) or
    /// [`Session::refuse`](super::Session::refuse); nothing more is read before.
    Publish {
        /// Its application.
        app: String,
        /// Its stream key, without a query and surrounding characters.
        key: StreamKey,
        /// The key exactly as sent, if it differs.
        verbatim: Option<StreamKey>,
        /// The text after `?`, in the key or in the application.
        query: Option<StreamKey>,
        /// What it states about itself.
        client: Box<ClientInfo>,
    },
    /// The peer requests to play. Respond with [`Session::accept`](super::Session::accept) or
    /// [`Session::refuse`](super::Session::refuse); nothing more is read before.
    Play {
        /// The requested name, without a query.
        name: String,
        /// The text after `?`, in the name or in the application.
        query: Option<StreamKey>,
    },
    /// onMetaData of a publisher.
    Metadata(Value),
    /// An audio message of a publisher.
    Audio {
        /// Milliseconds modulo 2^32.
        timestamp: u32,
        /// The FLV tag body.
        body: Bytes,
    },
    /// A video message of a publisher.
    Video {
        /// Milliseconds modulo 2^32.
        timestamp: u32,
        /// The FLV tag body.
        body: Bytes,
    },
    /// The peer has closed the stream that was published or played; the connection stays.
    Closed,
    /// The session refused a request by itself, and has sent the refusal. For the log and the
    /// counters.
    Refused(Refusal),
}
