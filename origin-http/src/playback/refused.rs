//! Why a token does not open a resource.

/// Why a request is refused. The texts are for viewers and issuers, and hold nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The request has no token.
    #[error("this needs a playback token")]
    Missing,
    /// It is not a JWT of an acceptable size, or lacks `exp`, or names nothing that it opens.
    #[error("the playback token is malformed")]
    Malformed,
    /// Its `kid` is not in force, or its algorithm is not that of the key.
    #[error("the playback token names no key that is in force")]
    Key,
    /// The key did not sign it.
    #[error("the signature of the playback token is invalid")]
    Signature,
    /// `exp` is past.
    #[error("the playback token has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("the playback token is not valid yet")]
    Early,
    /// It is bound to another client address.
    #[error("the playback token is for another address")]
    Address,
    /// It opens another channel, video or broadcast.
    #[error("the playback token is for another presentation")]
    Presentation,
}

impl Refused {
    /// All of them.
    pub(super) const ALL: [Self; 8] = [
        Self::Missing,
        Self::Malformed,
        Self::Key,
        Self::Signature,
        Self::Expired,
        Self::Early,
        Self::Address,
        Self::Presentation,
    ];

    /// The label of metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Address => "address",
            Self::Presentation => "presentation",
        }
    }
}
