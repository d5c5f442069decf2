//! The settings of the RTMP server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use net_core::config::{Error, addresses, within};
use serde::Deserialize;

use crate::session;

/// Section `rtmp` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses and ports to listen on, such as `0.0.0.0:1935`: one, or a list; empty for no RTMP.
    /// Default `[::]:1935`, which takes IPv4 as well. Port 0 takes a free one.
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// The application: the path after the host in the server's URL. Default `live`. One segment,
    /// without `/`, `?` and spaces.
    pub app: String,
    /// Maximum number of connections, 1 to 1 000 000. Default 2000. Each costs up to 64 KiB while
    /// it publishes, and its unfinished messages. At the limit, the connection that has been idle
    /// longest is closed for a new one. One in sixteen is reserved for addresses that have none,
    /// and for publishers.
    pub max_connections: usize,
    /// Maximum number of connections from one address (IPv6: one /64), 1 to 1 000 000. Default 200.
    /// A lower value protects against one greedy host; a higher one suits a relay or a NAT address.
    pub max_connections_per_address: usize,
    /// Largest message of a publisher in bytes, 65 536 to 16 777 215. Default 8 388 608. A key
    /// frame must fit; a higher value lets a peer hold more memory, up to twice the value.
    pub max_message_bytes: u32,
    /// Time limit for the handshake in milliseconds, 100 to 60 000. Default 5000.
    pub handshake_ms: u32,
    /// Time from the connection's start to `publish` or `play` in milliseconds, 100 to 60 000.
    /// Default 10 000.
    pub setup_ms: u32,
    /// Milliseconds after which a silent publisher is disconnected, 1000 to 600 000. Default 10
    /// 000. A lower value ends it sooner; a higher one tolerates longer pauses. After a second of
    /// silence another connection with the same stream key takes over. One that sends messages, but
    /// no audio or video, is disconnected after the same time, and after 30 s at the earliest.
    pub idle_ms: u32,
    /// Milliseconds within which a peer must accept some of the bytes that are sent to it, 100 to
    /// 60 000. Default 5000. Over six times as long it must accept 1 KiB each second. A higher
    /// value keeps stuck players longer.
    pub write_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0u16; 8], 1935))],
            app: "live".into(),
            max_connections: 2_000,
            max_connections_per_address: 200,
            max_message_bytes: 8 << 20,
            handshake_ms: 5_000,
            setup_ms: 10_000,
            idle_ms: 10_000,
            write_ms: 5_000,
        }
    }
}

impl Config {
    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// The first value that is out of its range, or not of its form.
    pub fn check(&self) -> Result<(), Error> {
        let within = |key, value, min, max| within("rtmp", key, value, min, max);
        within("max_connections", self.max_connections as u64, 1, 1_000_000)?;
        within(
            "max_connections_per_address",
            self.max_connections_per_address as u64,
            1,
            1_000_000,
        )?;
        within("max_message_bytes", self.max_message_bytes.into(), 65_536, 0x00ff_ffff)?;
        within("handshake_ms", self.handshake_ms.into(), 100, 60_000)?;
        within("setup_ms", self.setup_ms.into(), 100, 60_000)?;
        within("idle_ms", self.idle_ms.into(), 1_000, 600_000)?;
        within("write_ms", self.write_ms.into(), 100, 60_000)?;
        // The application is compared with one segment of the peer's path, and the text after `?`
        // is a query: such a name would never match.
        if self.app.is_empty() || self.app.contains(['/', '?', ' ']) {
            let (value, form) = (self.app.clone(), "one name without / and ?");
            return Err(Error::Malformed { key: "rtmp.app", value, form });
        }
        Ok(())
    }

    /// The settings of each session.
    pub(crate) fn session(&self) -> session::Settings {
        session::Settings {
            app: Arc::from(self.app.as_str()),
            message_bytes: self.max_message_bytes,
            handshake: ms(self.handshake_ms),
            setup: ms(self.setup_ms),
            idle: ms(self.idle_ms),
        }
    }

    /// Time limit for a handshake, that of TLS and that of RTMP separately.
    pub(crate) fn handshake_limit(&self) -> Duration {
        ms(self.handshake_ms)
    }

    /// Time limit for one step of writing.
    pub(crate) fn write_limit(&self) -> Duration {
        ms(self.write_ms)
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn an_empty_listen_key_disables_the_listener_and_unknown_keys_are_refused() {
        let loopback: [SocketAddr; 2] = [([127, 0, 0, 1], 0).into(), "[::1]:0".parse().unwrap()];
        for off in ["listen = ''", "listen = []"] {
            assert_eq!(read(off).unwrap().listen, []);
        }
        assert_eq!(read("listen = '127.0.0.1:0'").unwrap().listen, loopback[..1]);
        assert_eq!(read("listen = ['127.0.0.1:0', '[::1]:0']").unwrap().listen, loopback);
        assert!(read("listen = ['127.0.0.1:0', '']").is_err());
        assert_eq!(read("").unwrap(), Config::default());
        assert!(read("listen = 'here'").unwrap_err().to_string().contains("not an address"));
        assert!(read("port = 1935").is_err());
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        assert_eq!(Config::default().check(), Ok(()));
        let bad = Config { idle_ms: 5, ..Config::default() };
        assert_eq!(
            bad.check().unwrap_err().to_string(),
            "rtmp.idle_ms is 5, it must be 1000 to 600000"
        );
        assert!(Config { app: "a/b".into(), ..Config::default() }.check().is_err());
    }
}
