//! The right to publish, which the daemon decides, and the texts of refusals. Keys are never shown.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Instant};

use media_core::{BroadcastId, ChannelName, ChannelSettings};
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

/// The right to publish.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The name.
    pub channel: ChannelName,
    /// The channel's settings.
    pub settings: ChannelSettings,
    /// Cancelled when the right is withdrawn: the publisher is then disconnected.
    pub withdrawn: CancellationToken,
    /// The end of the right, if it has one: the publisher is then disconnected.
    pub expires: Option<Instant>,
    /// Dropped when the publisher stops.
    pub lease: Lease,
}

impl From<ChannelName> for Grant {
    /// The permanent right to a name.
    fn from(channel: ChannelName) -> Self {
        Self {
            channel,
            settings: ChannelSettings::default(),
            withdrawn: CancellationToken::new(),
            expires: None,
            lease: Lease::default(),
        }
    }
}

/// A value of the one that granted a right, dropped when the publisher has stopped, whatever the
/// cause. Its `Drop` must not block.
#[derive(Clone, Default)]
pub struct Lease(Option<Arc<dyn Send + Sync>>);

impl Lease {
    /// A lease that holds `value`.
    pub fn new(value: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(value)))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Lease" } else { "None" })
    }
}

/// A request to publish.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The application of its `connect`, `live` in `rtmp://host/live`.
    pub app: String,
    /// Its stream key, without a query and without surrounding spaces, slashes and the application.
    pub key: StreamKey,
    /// The key exactly as sent, if it differs: a secret may begin or end with such characters. It
    /// has precedence, and a refusal of both is one refusal.
    pub verbatim: Option<StreamKey>,
    /// The text after `?` in the stream key or in the application, if any; it may hold a token.
    pub query: Option<StreamKey>,
    /// Its address.
    pub peer: SocketAddr,
    /// What it states about itself.
    pub client: ClientInfo,
}

/// Texts of a peer's `connect` and `publish` (RTMP 7.2.1.1, 7.2.2.6). They are not checked, and
/// each is cut off after [`ClientInfo::MAX_BYTES`]. `Debug` hides them: a tcUrl may hold a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// `app`, as sent.
    pub app: String,
    /// `flashVer`: the name and version of the encoder.
    pub flash_ver: String,
    /// `swfUrl`.
    pub swf_url: String,
    /// `tcUrl`: the server's address, as it was entered.
    pub tc_url: String,
    /// `pageUrl`.
    pub page_url: String,
    /// The publishing type: `live`, `record` or `append`.
    pub publishing_type: String,
}

impl ClientInfo {
    /// Largest number of bytes of a text. The longest is a tcUrl, for which ffmpeg has 1024.
    pub const MAX_BYTES: usize = 2_048;

    /// The first [`ClientInfo::MAX_BYTES`] of `text`, or fewer, so that no character is divided.
    pub(crate) fn bounded(text: &str) -> String {
        text[..text.floor_char_boundary(Self::MAX_BYTES)].to_owned()
    }
}

impl fmt::Debug for ClientInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
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
    /// The cause for the operator, for example a fault of another server. Only the log has it.
    pub detail: Option<String>,
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
        Self { reason, description: description.into(), detail: None }
    }

    /// Adds the cause for the operator. It must not hold a key.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
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
            verbatim: Some(StreamKey::new("live/s3cret")),
            query: Some(StreamKey::new("token=s3cret")),
            peer: ([127, 0, 0, 1], 1).into(),
            client: ClientInfo { tc_url: "rtmp://host/live?s3cret".into(), ..Default::default() },
        };
        assert!(!format!("{request:?}").contains("s3cret"));
        assert_eq!(request.key.expose(), "s3cret");
    }

    #[test]
    fn a_long_text_of_a_peer_is_cut_off_between_two_characters() {
        let long = "ü".repeat(ClientInfo::MAX_BYTES);
        assert_eq!(ClientInfo::bounded(&long).len(), ClientInfo::MAX_BYTES);
        let shifted = format!("a{long}");
        assert_eq!(ClientInfo::bounded(&shifted).len(), ClientInfo::MAX_BYTES - 1);
        assert_eq!(ClientInfo::bounded("short"), "short");
    }

    #[test]
    fn a_lease_is_dropped_with_its_last_clone() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let lease = Lease::new(sender);
        let other = lease.clone();
        drop(lease);
        assert_eq!(receiver.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
        drop(other);
        assert_eq!(receiver.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }
}
