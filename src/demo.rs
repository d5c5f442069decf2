//! The demonstration: a worker process publishes the test picture over RTMP to the channel `demo`,
//! like any publisher.

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use media_core::ChannelName;
use transcoder::Worker;
use uuid::Uuid;

/// The channel's name.
pub(crate) const CHANNEL: &str = "demo";

/// A key that only the worker knows, for this run of the daemon: 122 random bits.
#[derive(Clone)]
pub(crate) struct Key(String);

impl Key {
    /// A new key. It is valid under any policy, beside the configured ones.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// The key in plain text, for the worker's input and the check of publishers.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// The channel, as a name.
pub(crate) fn channel() -> Result<ChannelName, media_core::name::Invalid> {
    CHANNEL.parse()
}

/// The worker that publishes to the listener at `rtmp`, under the application `app`.
///
/// # Errors
/// This program's own path cannot be determined.
pub(crate) fn worker(rtmp: SocketAddr, app: &str, key: &Key) -> io::Result<Worker> {
    Ok(Worker {
        name: "test picture",
        program: env::current_exe()?,
        args: vec!["test-picture".into()],
        // On standard input, because arguments are visible to all users of the machine.
        input: format!("rtmp://{}/{app}/{}", reachable(rtmp), key.expose()),
    })
}

/// An address of this machine at which a listener at `address` can be reached.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        // A listener on [::] accepts IPv4 as well.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            Ipv4Addr::LOCALHOST.into()
        }
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("[::]:1935"), "127.0.0.1:1935");
        assert_eq!(at("0.0.0.0:1935"), "127.0.0.1:1935");
        assert_eq!(at("[::1]:1935"), "[::1]:1935");
        assert_eq!(at("192.0.2.1:1935"), "192.0.2.1:1935");
    }

    #[test]
    fn the_worker_gets_the_key_on_standard_input_and_not_in_its_arguments() {
        let key = Key::random();
        let worker = worker("[::]:1935".parse().unwrap(), "live", &key).unwrap();
        assert!(worker.input.ends_with(key.expose()));
        assert!(worker.args.iter().all(|arg| !arg.to_string_lossy().contains(key.expose())));
        assert_ne!(key.expose(), Key::random().expose());
    }
}
