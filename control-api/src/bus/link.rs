//! The connection to the servers. The library connects again by itself after a loss; whoever uses
//! the connection notices the loss at once, and begins again with a look at the stream.

use std::{future::Future, io, path::Path, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event,
    jetstream::{Context, context::ContextBuilder},
    rustls::ClientConfig,
};
use rustls::RootCertStore;
use tokio::sync::watch;

use super::{
    address::{Login, Token},
    error::Error,
    settings::Settings,
};

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a request or an acknowledgement.
const REQUEST: Duration = Duration::from_secs(5);
/// Greatest delay between two attempts to connect.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// Interval of pings, by which a silent loss is found after three.
const PING: Duration = Duration::from_secs(5);
/// Acknowledgements that may be outstanding.
pub(super) const MAX_ACKS: usize = 1024;

/// The state of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    is_up: bool,
    losses: u64,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Link {
    jetstream: Context,
    state: watch::Receiver<State>,
}

impl Link {
    /// Connects. `up` gets whether the connection is there, from now on.
    ///
    /// # Errors
    /// [`Error::Connect`], or a fault of the settings.
    pub(super) async fn connect(settings: &Settings, up: Up) -> Result<Self, Error> {
        let (sender, state) = watch::channel(State { is_up: true, losses: 0 });
        let options = options(settings)?.event_callback(move |event| {
            let is_up = match event {
                Event::Connected => Some(true),
                Event::Disconnected | Event::Closed => Some(false),
                _ => None,
            };
            if let Some(is_up) = is_up {
                sender.send_modify(|state| {
                    state.losses += u64::from(state.is_up && !is_up);
                    state.is_up = is_up;
                });
                up(is_up);
            }
            std::future::ready(())
        });
        let scheme = if settings.address.is_encrypted() { "tls" } else { "nats" };
        let hosts = settings.address.hosts().iter();
        let servers = hosts.map(|host| format!("{scheme}://{host}").parse());
        let servers = servers.collect::<Result<Vec<async_nats::ServerAddr>, io::Error>>();
        let servers = servers.map_err(async_nats::ConnectError::from)?;
        let client: Client = options.connect(servers).await?;
        let jetstream =
            ContextBuilder::new().timeout(REQUEST).ack_timeout(REQUEST).max_ack_inflight(MAX_ACKS);
        let jetstream = jetstream.build(client);
        Ok(Self { jetstream, state })
    }

    /// The requests of JetStream.
    pub(super) fn jetstream(&self) -> &Context {
        &self.jetstream
    }

    /// Waits until the connection is there, and begins a use of it.
    pub(super) async fn begin(&self) -> Use {
        let mut state = self.state.clone();
        let losses = match state.wait_for(|state| state.is_up).await {
            Ok(state) => state.losses,
            // The sender lives as long as the client.
            Err(_) => 0,
        };
        Use { state, losses }
    }
}

/// Gets whether the connection is there.
pub(super) type Up = Box<dyn Fn(bool) + Send + Sync>;

/// A use of the connection, which ends with its loss.
#[derive(Debug, Clone)]
pub(super) struct Use {
    state: watch::Receiver<State>,
    losses: u64,
}

impl Use {
    /// The output of a future, unless the connection is lost before.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub(super) async fn unless_lost<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        let mut state = self.state.clone();
        tokio::select! {
            output = future => Ok(output),
            _ = state.wait_for(|state| state.losses != self.losses) => Err(Error::Lost),
        }
    }
}

/// The options of a connection. Credentials of the file come before the token, and that before
/// those of the address.
fn options(settings: &Settings) -> Result<ConnectOptions, Error> {
    let mut options = ConnectOptions::new()
        .name("streamforge")
        .connection_timeout(CONNECT)
        .request_timeout(Some(REQUEST))
        .ping_interval(PING)
        // The servers are those that the operator has named: others may be unknown to the network.
        .ignore_discovered_servers()
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(8);
            (Duration::from_millis(10) * 2_u32.pow(doublings)).min(MAX_DELAY)
        });
    if settings.address.is_encrypted() {
        options = options.require_tls(true).tls_client_config(tls(settings.roots.clone())?);
    }
    let has_file = !settings.credentials.as_os_str().is_empty();
    Ok(match (&settings.token, settings.address.login()) {
        _ if has_file => credentials(options, &settings.credentials)?,
        (Some(token), _) | (None, Login::Token(token)) => options.token(expose(token)),
        (None, Login::Password(name, password)) => {
            options.user_and_password(name.clone(), expose(password))
        }
        (None, Login::Nobody) => options,
    })
}

fn expose(token: &Token) -> String {
    token.expose().to_owned()
}

/// Reads the file, which is a JSON Web Token and a key. Blocks for it.
fn credentials(options: ConnectOptions, file: &Path) -> Result<ConnectOptions, Error> {
    let text = std::fs::read_to_string(file).and_then(|text| options.credentials(&text));
    text.map_err(|error| Error::Credentials { file: file.to_owned(), error })
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
