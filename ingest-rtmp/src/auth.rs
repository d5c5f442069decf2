//! The right to publish, which the daemon decides, and the texts of refusals. Keys are never shown.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin};

use media_core::{BroadcastId, ChannelName};
use tokio_util::sync::CancellationToken;

/// The decision about a request to publish.
///
/// # Errors
/// A [`Refusal`]; the streamer reads its description in the encoder.
pub type Authorization<'a> = Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>>;

/// Decides whether a publisher may publish, and under which name. It runs in the connection's task:
/// it may wait, for example for a database, but must not block. Meanwhile the peer is not read. It
/// is refused after the time limit for the set-up of a connection.
pub trait Authorize: Send + Sync + 'static {
    /// The channel of this publisher's frames, its settings, and the validity of the right.
    /// Dropping the future cancels the request.
    fn authorize<'a>(&'a self, request: &'a PublishRequest) -> Authorization<'a>;

    /// Whether a player may play a channel. It must not block. By default every channel may be
    /// played.
    ///
    /// # Errors
    /// A [`Refusal`]; it must not reveal whether the channel is live.
    fn may_play(&self, _request: &PlayRequest) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Settings of a channel, which its owner decides. There are none yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelSettings {}

/// The right to publish.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The name.
    pub channel: ChannelName,
    /// The channel's settings.
    pub settings: ChannelSettings,
    /// Cancelled when the right is withdrawn: the publisher is then disconnected.
    pub withdrawn: CancellationToken,
}

impl From<ChannelName> for Grant {
    /// The permanent right to a name.
    fn from(channel: ChannelName) -> Self {
        Self { channel, settings: ChannelSettings::default(), withdrawn: CancellationToken::new() }
    }
}

/// A request to publish.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The application of its `connect`, `live` in `rtmp://host/live`.
    pub app: String,
    /// Its stream key, without a query and without surrounding spaces, slashes and the application.
    pub key: StreamKey,
    /// The text after `?` in the stream key, if any; it may hold a token.
    pub query: Option<StreamKey>,
    /// Its address.
    pub peer: SocketAddr,
}

/// A request to play.
#[derive(Debug, Clone)]
pub struct PlayRequest {
    /// The requested channel.
    pub channel: ChannelName,
    /// Its broadcast, if it is live.
    pub broadcast: Option<BroadcastId>,
    /// The text after `?` in the name, if any; it may hold a token.
    pub query: Option<StreamKey>,
    /// Its address.
    pub peer: SocketAddr,
}

/// A stream key: a secret. `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey(String);

impl StreamKey {
    /// Wraps a publisher's key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key itself, to compare or hash; not for logs, metrics or responses.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A refusal as the peer receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Determines the `code` that the peer reads, and the label of metrics.
    pub reason: Reason,
    /// One sentence for the streamer or viewer: the cause and the remedy.
    pub description: String,
}

/// Why a peer is refused or disconnected. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `connect` named an application that is not served here.
    App,
    /// The limit of broadcasts is reached, of all channels or of one channel in a short time.
    Busy,
    /// The limit of players is reached.
    Players,
    /// The key is wrong, or publishing is disabled.
    Denied,
    /// The name already has a publisher, or is invalid.
    Name,
    /// An unsupported codec or configuration.
    Codec,
    /// Nothing that it sent could be published, for ten seconds or longer.
    Unusable,
    /// Nothing is published under the requested name.
    NotFound,
    /// The channel is private, and the player has no token that opens it.
    Private,
    /// An operator ended the broadcast.
    Kicked,
    /// The broadcast could not begin or continue, because of a fault of the server.
    Failed,
    /// The stream key is no longer valid.
    Withdrawn,
    /// It was silent, and another publisher with its name took over.
    TakenOver,
    /// It requested a second stream on one connection; the first continues.
    Second,
    /// The server stops.
    Shutdown,
}

impl Refusal {
    /// A refusal for `reason`, with one sentence for the streamer or viewer.
    pub fn new(reason: Reason, description: impl Into<String>) -> Self {
        Self { reason, description: description.into() }
    }

    /// The usual refusal of an [`Authorize`]: the key is wrong.
    pub fn denied(description: impl Into<String>) -> Self {
        Self::new(Reason::Denied, description)
    }
}

impl Reason {
    /// The `code` of the status message (RTMP 7.2.1.1, 7.2.2.6; the names are those that librtmp
    /// and OBS interpret).
    pub fn code(self) -> &'static str {
        // Encoders know only these codes, so several reasons share one: the description
        // distinguishes them.
        match self {
            Self::App => "NetConnection.Connect.Rejected",
            Self::Busy | Self::Denied | Self::Kicked | Self::Withdrawn => {
                "NetStream.Publish.Denied"
            }
            Self::Name | Self::TakenOver | Self::Second => "NetStream.Publish.BadName",
            Self::Codec | Self::Unusable | Self::Failed => "NetStream.Publish.Rejected",
            Self::NotFound => "NetStream.Play.StreamNotFound",
            Self::Players | Self::Private => "NetStream.Play.Failed",
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
            Self::Private => "private",
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
    fn the_debug_form_of_a_request_hides_the_stream_key() {
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
