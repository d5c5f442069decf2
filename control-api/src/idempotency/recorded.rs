//! The record of responses by Idempotency-Key: the port of [`super::once`].

use std::{error::Error, fmt, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use net_core::Host;
use uuid::Uuid;

/// The sender of a request with a key. Two actors never share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// An account or an API key.
    Account(Uuid),
    /// A client without an account, by its address.
    Address(Host),
}

/// An actor's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The sender.
    pub actor: Actor,
    /// The text that the sender chose, at most 128 bytes.
    pub text: Arc<str>,
}

/// The SHA-256 of a request's method, target, media type and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A response that was recorded. It may hold a secret that is shown once, such as a new key:
/// `Debug` omits the body, and a durable record must encrypt it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The request that it belongs to.
    pub fingerprint: Fingerprint,
    /// The status.
    pub status: StatusCode,
    /// The headers that are the same for a repetition.
    pub headers: HeaderMap,
    /// The body, at most 64 KiB.
    pub body: Bytes,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("status", &self.status).finish_non_exhaustive()
    }
}

/// A future of the record.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, RecordError>> + Send + 'a>>;

/// The record cannot be read or written now.
#[derive(Debug, thiserror::Error)]
#[error("the record of idempotent requests is not available: {0}")]
pub struct RecordError(#[source] pub Box<dyn Error + Send + Sync>);

/// Keeps responses by key, for at least a day if their number permits.
pub trait Recorded: Send + Sync + 'static {
    /// The response under this key.
    ///
    /// # Errors
    /// It cannot be read; the request is then refused.
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Entry>>;

    /// Records a response.
    ///
    /// # Errors
    /// It cannot be written; the response is sent all the same.
    fn insert(&self, key: Key, entry: Entry) -> Pending<'_, ()>;
}
