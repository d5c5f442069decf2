//! Identifiers: UUIDs of version 7 (RFC 9562 5.7), a type for each kind of thing.

/// Declares identifier types. Their text is the UUID's, in JSON, addresses and logs alike.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// The identifier with this UUID.
            pub const fn new(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            pub const fn uuid(self) -> uuid::Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

        impl crate::table::Key for $name {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.0.as_bytes());
            }

            fn parse(bytes: &mut &[u8]) -> Option<Self> {
                let (uuid, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self(uuid::Uuid::from_bytes(*uuid)))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": "uuid" })
            }
        }
    )*};
}

ids! {
    /// An event in the log, which is also the idempotency key of its effects.
    EventId,
    /// A person's account.
    AccountId,
    /// A channel: where somebody publishes, with its settings.
    ChannelId,
    /// A stream key: the right to publish on one channel.
    StreamKeyId,
    /// A session of an account: a device on which somebody is signed in.
    SessionId,
    /// An API key: a part of an account's rights, for a program.
    ApiKeyId,
    /// A second factor: the secret of an authenticator app.
    SecondFactorId,
    /// An identity at a foreign provider, with which an account signs in.
    IdentityId,
    /// A video, from its announcement to its deletion.
    VideoId,
    /// A category of videos and live broadcasts.
    CategoryId,
    /// A webhook: an address to which events are delivered.
    WebhookId,
    /// A node: a daemon with a file of traffic of its own, which counts views.
    NodeId,
}
