//! Errors of a configuration, in one line with the position.

use std::{io, net::SocketAddr, path::PathBuf};

use media_core::ChannelName;
use net_core::config;
use origin_http::edge::Origin;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}; --config FILE names the configuration", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// A line of the file is not TOML, or has an unknown key or an invalid value.
    #[error("{}:{line}: {key}{what}", file.display())]
    Line {
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key of that line and a colon, or empty.
        key: String,
        /// The parser's message, without the value.
        what: String,
    },
    /// An environment variable has an unknown name or an invalid value.
    #[error("environment variable {name}: {what}")]
    Variable {
        name: String,
        /// The parser's message, without the value.
        what: String,
    },
    /// File and environment are valid alone, and not together.
    #[error("{what}")]
    Layers {
        /// The parser's message, without the value.
        what: String,
    },
    /// A value is out of its range, or not of its form.
    #[error(transparent)]
    Value(#[from] config::Error),
    /// The test picture cannot be published.
    #[error("demo.enabled is true, but the test picture needs rtmp.listen")]
    DemoWithoutRtmp,
    /// A certificate without a key, or a key without a certificate.
    #[error("tls.cert and tls.key belong together: set both, or neither")]
    HalfACertificate,
    /// The administrator's token is set twice.
    #[error("api.admin_token and api.admin_token_sha256 are both set: keep one")]
    TwoTokens,
    /// No token could be verified.
    #[error(
        "publish.policy is \"jwt\", which needs publish.jwt.secret, publish.jwt.public_key or \
         publish.jwt.jwks"
    )]
    NoTokenKey,
    /// There is no back end to ask.
    #[error("publish.policy is \"webhook\", which needs publish.webhook.url")]
    NoBackEnd,
    /// The end of a stream is announced in one format only.
    #[error("publish.webhook.done_url needs publish.webhook.format = \"nginx-rtmp\"")]
    DoneWithoutFormat,
    /// A segment has less than two parts.
    #[error("live.part_ms is {part_ms}, it must be at most half of live.segment_ms, {most_ms}")]
    LongPart { part_ms: u64, most_ms: u64 },
    /// Playlists would list less than three target durations (RFC 8216bis 6.2.2).
    #[error(
        "live.window_s is {window_s}, with segments of {segment_ms} ms it must be at least \
         {least_s}"
    )]
    ShortWindow { window_s: u64, segment_ms: u64, least_s: u64 },
    /// An edge would request from itself, and wait for its own responses.
    #[error(
        "edge.origin names {origin}, but this process itself listens on {address}: name the \
         server that has the media"
    )]
    OwnOrigin { origin: Box<Origin>, address: SocketAddr },
    /// This build cannot speak to the bus.
    #[error("bus.url is set, but this build has no bus: build it with the cargo feature nats")]
    NoBus,
    /// A replica has no source.
    #[error("--role replica needs bus.url and platform.enabled = true")]
    ReplicaWithoutBus,
    /// The bus has no events.
    #[error("bus.url needs platform.enabled = true, because the bus carries the platform's events")]
    BusWithoutPlatform,
    /// Several credentials for one server.
    #[error("of bus.credentials, bus.token and the login in bus.url, keep one")]
    TwoLogins,
    /// Authorities without TLS.
    #[error("bus.ca needs tls:// in bus.url")]
    BusWithoutTls,
    /// A vote of an even number of servers has no majority if half of them are lost.
    #[error("bus.copies is {copies}, it must be 1, 3 or 5")]
    EvenCopies { copies: u64 },
    /// Credentials would be readable on their way.
    #[error(
        "traces.url is http, so everybody on the way to {host} could read traces.headers: use https"
    )]
    PlainHeaders { host: String },
    /// The program has no exporter.
    #[error("traces.url is set, but this program was built without the feature otel")]
    NoTraces,
    /// Two rungs would have the same name.
    #[error("ladder.rungs has two entries with a height of {height}: keep one")]
    SameHeight { height: u64 },
    /// Chroma planes have half the height.
    #[error("ladder.rungs has a height of {height}, which must be even")]
    OddHeight { height: u64 },
    /// x264 has no such preset.
    #[error("ladder.preset is {preset:?}, it must be one of {}", presets.join(", "))]
    Preset { preset: String, presets: &'static [&'static str] },
    /// A bit rate below those of the encoder.
    #[error("ladder.audio_kbps is {kbps}, it must be 0, or 16 to 512")]
    AudioRate { kbps: u64 },
}

/// Why an entry of `publish.keys` is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The name of the channel is not valid.
    #[error(transparent)]
    Channel(#[from] media_core::name::Invalid),
    /// The entry has no secret, or two of them.
    #[error("the entry for {channel} needs either key or key_sha256")]
    Secret { channel: ChannelName },
}
