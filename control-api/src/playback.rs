//! The port to the key of playback tokens.

use std::{fmt, net::IpAddr};

use media_core::ChannelName;

/// What a token opens, for whom and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The channel.
    pub channel: ChannelName,
    /// The only address that may use the token, if it is bound to one.
    pub address: Option<IpAddr>,
    /// Unix time in seconds from which on it is invalid.
    pub expires_s: u64,
}

/// Issues playback tokens.
pub trait PlaybackTokens: fmt::Debug + Send + Sync + 'static {
    /// A token. `None` if it cannot be signed.
    fn issue(&self, admission: &Admission) -> Option<String>;

    /// The key with which edges and CDNs verify the tokens: its `kid`, and the public key in PEM.
    fn key(&self) -> (String, String);
}
