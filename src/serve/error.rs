//! Errors of the command `serve`: one line with the fault and the remedy.

use std::{io, path::PathBuf};

use super::parts::Part;
use crate::{authorities, certificates, handover, playback_key, publish, signals::Signal, sockets};

/// Why the daemon did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The threads of the runtime cannot be started.
    #[error("no threads to run on: {0}")]
    Runtime(#[source] io::Error),
    /// Signals cannot be received.
    #[error("signals: {0}")]
    Signals(#[source] io::Error),
    /// The old process does not hand over.
    #[error("cannot take over: {0}")]
    TakeOver(#[source] handover::Error),
    /// A listener is missing.
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
    /// The packager refuses a setting.
    #[error(transparent)]
    Packager(net_core::config::Error),
    /// The certificate cannot be loaded.
    #[error("tls: {0}")]
    Certificates(#[source] certificates::Error),
    /// A file of the policy for publishers cannot be used.
    #[error(transparent)]
    Publish(publish::Error),
    /// The platform's database cannot be opened.
    #[error("platform: {0}")]
    Platform(#[from] control_api::store::OpenError),
    /// Signing in is not possible.
    #[error("platform: {0}")]
    Identity(#[from] control_api::identity::Error),
    /// The key of playback tokens cannot be used.
    #[error("platform: {0}")]
    PlaybackKey(#[from] playback_key::Error),
    /// The accounts cannot be used.
    #[error(transparent)]
    Accounts(#[from] super::accounts::Error),
    /// The certificate authorities of webhooks cannot be used.
    #[error("webhooks.ca: {0}")]
    WebhookAuthorities(#[source] authorities::Error),
    /// The TLS settings of webhooks are not supported.
    #[error("webhooks: {0}")]
    Webhooks(#[source] rustls::Error),
    /// The certificate authorities of the bus cannot be used.
    #[cfg(feature = "nats")]
    #[error("bus.ca: {0}")]
    BusAuthorities(#[source] authorities::Error),
    /// The control socket cannot be bound.
    #[error("the control socket in data_dir: {0}")]
    Control(#[source] io::Error),
    /// The configured encoder does not work.
    #[error("ladder.encoder: {0}")]
    Encoder(#[source] transcoder::ladder::Error),
    /// The channel of the test picture has no valid name.
    #[error(transparent)]
    DemoChannel(media_core::name::Invalid),
    /// The program that publishes the test picture is not found.
    #[error("the test picture's program: {0}")]
    Demo(#[source] io::Error),
    /// The access log cannot be opened.
    #[error("http.access_log: {file}: {source}")]
    AccessLog { file: String, source: io::Error },
    /// The edge cannot be created.
    #[error("edge: {0}")]
    Edge(#[source] io::Error),
    /// The RTMP server cannot be created.
    #[error("rtmp: {0}")]
    Rtmp(#[source] io::Error),
    /// The HTTP server cannot be created.
    #[error("http: {0}")]
    Http(#[source] io::Error),
    /// The server of the operator's tools cannot be created.
    #[error("admin: {0}")]
    Admin(#[source] io::Error),
    /// A second signal ended the stop.
    #[error("ended at once by a second {0}: live broadcasts are cut")]
    Cut(Signal),
    /// A part panicked.
    #[error(
        "{0} panicked, a bug of this program: the log has the location; start the daemon again"
    )]
    Panicked(Part),
    /// A part ended without a reason to.
    #[error("{0} ended unexpectedly: see the log; start the daemon again")]
    Ended(Part),
}

/// Why this process did not hand over. It continues.
#[derive(Debug, thiserror::Error)]
pub(super) enum Kept {
    /// The socket for the new process cannot be opened.
    #[error("{}: {source}", socket.display())]
    Local { socket: PathBuf, source: io::Error },
    /// The new process does not take over.
    #[error(transparent)]
    Successor(#[from] handover::Error),
}
