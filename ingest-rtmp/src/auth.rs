//! Who may publish, asked of the daemon, and how a refusal is worded. Keys are never shown.

use std::{fmt, net::SocketAddr};

use media_core::ChannelName;
use tokio_util::sync::CancellationToken;

/// Decides who may publish, and under which name. Called from a connection's task: it must not block.
pub trait Authorize: Send + Sync + 'static {
    /// The channel that this publisher's frames go to, and for how long.
    ///
    /// # Errors
    /// A [`Refusal`]; its description is what the streamer reads in the encoder.
    fn authorize(&self, request: &PublishRequest) -> Result<Grant, Refusal>;
}

/// The right to publish.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Under which name.
    pub channel: ChannelName,
    /// Cancelled when the right is withdrawn: the publisher is sent off.
    pub withdrawn: CancellationToken,
}

impl From<ChannelName> for Grant {
    /// The right to a name for ever.
    fn from(channel: ChannelName) -> Self {
        Self {
            channel,
            withdrawn: CancellationToken::new(),
        }
    }
}

/// What a publisher asks for.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The application of its `connect`, `live` in `rtmp://host/live`.
    pub app: String,
    /// What it gave as stream key, without a query and what is around it: spaces, slashes, the
    /// application.
    pub key: StreamKey,
    /// What came after `?` in the stream key, if anything; it may hold a token.
    pub query: Option<StreamKey>,
    /// Where it comes from.
    pub peer: SocketAddr,
}

/// A stream key: a secret. `Debug` shows `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey(String);

impl StreamKey {
    /// Wraps what a publisher sent.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key itself, to compare or hash; not for logs, metrics or answers.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A refusal as the peer is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which `code` the peer reads, and the label it is counted under.
    pub reason: Reason,
    /// One sentence for the person at the encoder or player: what is wrong, and what to do.
    pub description: String,
}

/// Why a peer is turned away or sent off. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `connect` named an application that is not served here.
    App,
    /// As many broadcasts are live as there may be.
    Busy,
    /// As many players are connected as there may be.
    Players,
    /// The key is wrong, or nobody may publish.
    Denied,
    /// The name has a publisher already, or cannot be a name.
    Name,
    /// A codec or configuration that is not carried.
    Codec,
    /// Nothing that it sent for ten seconds could be published.
    Unusable,
    /// Nothing is published under the name that should be played.
    NotFound,
    /// An operator ended the broadcast.
    Kicked,
    /// The broadcast could not go on.
    Failed,
    /// The stream key is not good any more.
    Withdrawn,
    /// It was silent, and another publisher of its name took over.
    TakenOver,
    /// It asked for a second stream on one connection; the first goes on.
    Second,
    /// The server is going down.
    Shutdown,
}

impl Refusal {
    /// A refusal for `reason`, with one sentence for the person who reads it.
    pub fn new(reason: Reason, description: impl Into<String>) -> Self {
        Self {
            reason,
            description: description.into(),
        }
    }

    /// The usual answer of an [`Authorize`]: not with this key.
    pub fn denied(description: impl Into<String>) -> Self {
        Self::new(Reason::Denied, description)
    }
}

impl Reason {
    /// The `code` of the status message (RTMP 7.2.1.1, 7.2.2.6; the names are those that librtmp and OBS act on).
    pub fn code(self) -> &'static str {
        match self {
            Self::App => "NetConnection.Connect.Rejected",
            Self::Busy | Self::Denied | Self::Kicked | Self::Withdrawn => "NetStream.Publish.Denied",
            Self::Name | Self::TakenOver | Self::Second => "NetStream.Publish.BadName",
            Self::Codec | Self::Unusable | Self::Failed => "NetStream.Publish.Rejected",
            Self::NotFound => "NetStream.Play.StreamNotFound",
            Self::Players => "NetStream.Play.Failed",
            Self::Shutdown => "NetConnection.Connect.Closed",
        }
    }

    /// The label of metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Busy => "busy",
            Self::Players => "players",
            Self::Denied => "denied",
            Self::Name => "name",
            Self::Codec => "codec",
            Self::Unusable => "unusable",
            Self::NotFound => "not_found",
            Self::Kicked => "kicked",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
            Self::TakenOver => "taken_over",
            Self::Second => "second_stream",
            Self::Shutdown => "shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_a_log_shows_no_key() {
        let request = PublishRequest {
            app: "live".into(),
            key: StreamKey::new("s3cret"),
            query: Some(StreamKey::new("token=s3cret")),
            peer: ([127, 0, 0, 1], 1).into(),
        };
        assert!(!format!("{request:?}").contains("s3cret"));
        assert_eq!(request.key.expose(), "s3cret");
    }
}
