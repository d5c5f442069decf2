//! The settings of an HTTP listener.

use std::{net::SocketAddr, time::Duration};

use http_server::{mount, priority};
use net_core::{
    Network,
    config::{Error, addresses, one_or_many, within},
};
use serde::Deserialize;

use crate::{access_log::Format, cors::Cors, site::PublicUrl};

/// Most networks of trusted proxies.
const MAX_PROXIES: usize = 64;

/// Section `http` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port to listen on, or a list of them; an empty text or list for no plain HTTP.
    /// Default `[::]:8080`, which takes IPv4 as well. Port 0 takes a free one. All limits below
    /// hold for all HTTP listeners together, TLS and QUIC too.
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// The address under which players reach the daemon, for example `https://live.example.org`,
    /// with a path if a proxy adds one; empty, the default, for the scheme and Host of each
    /// request. DASH manifests list the clock (`/time`) with it as an absolute address, because
    /// some players do not resolve a relative one. Set it behind a proxy or CDN that changes Host
    /// or terminates TLS, and on the origin of edges, because only the origin writes manifests. On
    /// an edge it has no effect on manifests that are fetched from `edge.origin`.
    pub public_url: PublicUrl,
    /// Networks of proxies whose X-Forwarded-For is believed, at most 64, for example
    /// `["127.0.0.1", "10.0.0.0/8"]`. Default none. The client of a request through them is the
    /// last address in the field that is none of theirs: limits by address, playback tokens for an
    /// address, the counts of viewers, and the access log use it. A proxy must append to the field,
    /// not pass it on as it is. A network that is too wide lets clients choose their address.
    /// Limits of connections count the proxy's own address.
    pub trusted_proxies: Vec<Network>,
    /// Maximum number of connections. Default 10 000. Each costs a file descriptor and, while idle,
    /// some 6 KiB over HTTP/1.1, or 40 KiB over HTTP/2 with TLS. At the limit, the connection that
    /// has been idle longest is closed for a new one, first one of the same address; one in sixteen
    /// is reserved for addresses that have none.
    pub max_connections: usize,
    /// Maximum number of connections from one address, or one /64 of IPv6; at this limit its own
    /// idle ones are closed for its new ones. Default 1000. A lower value protects against one
    /// greedy host; a higher one suits a proxy or a CDN, whose viewers all have its address.
    pub max_connections_per_address: usize,
    /// Maximum number of concurrent HTTP/2 requests on one connection, 1 to 1000. Default 100.
    pub max_streams: u32,
    /// Largest request head in bytes, 1024 to 1 048 576. Default 16 384.
    pub max_header_bytes: u32,
    /// Maximum number of header fields of a request, 16 to 1000. Default 64.
    pub max_headers: u32,
    /// Largest body of a request to the API in bytes. Default 1 048 576. Media requests have none.
    pub max_body_bytes: usize,
    /// Milliseconds within which a new connection must send its first bytes, 100 to 60 000. Default
    /// 10 000.
    pub first_byte_ms: u32,
    /// Milliseconds for a request's head from its first byte, 100 to 60 000. Default 10 000.
    pub header_ms: u32,
    /// Milliseconds for which a connection without a request is kept, 1000 to 600 000. Default 75
    /// 000. The value should exceed a CDN's own limit, so that we never close while a request is in
    /// transit.
    pub idle_ms: u32,
    /// Milliseconds within which a peer must accept some of the bytes that are sent to it, and send
    /// some of the bytes that it announced, 100 to 600 000. Default 20 000. Over six times as long
    /// it must accept 1 KiB each second, of each response with bytes for it, because a slow reader
    /// holds media that have left the window. A lower value releases the memory of stuck players
    /// sooner.
    pub write_ms: u32,
    /// Milliseconds that requests may take to finish when the daemon stops, 0 to 600 000. Default
    /// 10 000.
    pub drain_ms: u32,
    /// Origins whose pages may read responses, in addition to our own. `["*"]`, the default: any,
    /// without credentials. Or at most 64 origins as browsers send them, for example
    /// `["https://player.example"]`: only these, with credentials such as cookies; the response
    /// then names the origin of the request, and caches store one for each. An empty list: none.
    /// Does not apply to the API.
    #[serde(deserialize_with = "one_or_many")]
    pub cors_origins: Vec<String>,
    /// A file to which a line is written for each response, or `-` for stdout; empty, the default,
    /// for none. SIGHUP reopens it. Lines that cannot be written in time are dropped and counted
    /// (`streamforge_http_access_log_dropped_total`), so that the log delays no response.
    pub access_log: String,
    /// `combined`, the default, or `json`, which also has the duration of a response and the time
    /// for which it waited for media.
    pub access_log_format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0u16; 8], 8080))],
            public_url: PublicUrl::default(),
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            max_streams: 100,
            max_header_bytes: 16 << 10,
            max_headers: 64,
            max_body_bytes: 1 << 20,
            first_byte_ms: 10_000,
            header_ms: 10_000,
            idle_ms: 75_000,
            write_ms: 20_000,
            drain_ms: 10_000,
            cors_origins: vec!["*".into()],
            access_log: String::new(),
            access_log_format: Format::default(),
        }
    }
}

/// Section `https` of the configuration: HTTP over TLS, and over QUIC. The limits are those of
/// [`Config`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Https {
    /// Address and port to listen on, or a list of them, for TCP and UDP; an empty text or list for
    /// none. Default `[::]:8443`. Nothing is listened on while there is no certificate.
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// Whether HTTP/3 is enabled, on the same port of UDP, and advertised in responses over TLS
    /// (Alt-Svc). Default true. It costs about three times the processor time of TLS over TCP, and
    /// suffers less from packet loss.
    pub http3: bool,
    /// Whether a returning client may send its first request in its first flight (RFC 8446 2.3, RFC
    /// 8470), which saves a round trip. Default true. Only GET and HEAD are accepted there; a
    /// replay of them changes nothing.
    pub early_data: bool,
}

impl Default for Https {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::from(([0u16; 8], 8443))], http3: true, early_data: true }
    }
}

impl Config {
    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// The first value that is out of its range, or not of its form.
    pub fn check(&self) -> Result<(), Error> {
        let within = |key, value, min, max| within("http", key, value, min, max);
        if self.trusted_proxies.len() > MAX_PROXIES {
            let (key, count) = ("http.trusted_proxies", self.trusted_proxies.len());
            return Err(Error::TooManyEntries { key, count, max: MAX_PROXIES });
        }
        let most = 1_000_000;
        within("max_connections", self.max_connections as u64, 1, most)?;
        within("max_connections_per_address", self.max_connections_per_address as u64, 1, most)?;
        within("max_streams", self.max_streams.into(), 1, 1_000)?;
        within("max_header_bytes", self.max_header_bytes.into(), 1_024, 1 << 20)?;
        within("max_headers", self.max_headers.into(), 16, 1_000)?;
        within("first_byte_ms", self.first_byte_ms.into(), 100, 60_000)?;
        within("header_ms", self.header_ms.into(), 100, 60_000)?;
        within("idle_ms", self.idle_ms.into(), 1_000, 600_000)?;
        within("write_ms", self.write_ms.into(), 100, 600_000)?;
        within("drain_ms", self.drain_ms.into(), 0, 600_000)?;
        Cors::new(&self.cors_origins).map(|_| ())
    }

    /// The settings of the server of both sections. The values are in their ranges
    /// ([`Self::check`]).
    pub fn server(&self, https: &Https) -> http_server::Config {
        http_server::Config {
            max_connections: self.max_connections,
            max_connections_per_address: self.max_connections_per_address,
            max_streams: self.max_streams,
            max_header_bytes: self.max_header_bytes,
            max_headers: self.max_headers,
            first_byte: ms(self.first_byte_ms),
            header: ms(self.header_ms),
            idle: ms(self.idle_ms),
            write: ms(self.write_ms),
            drain: ms(self.drain_ms),
            early_data: https.early_data,
        }
    }

    /// The properties of the API's mount.
    pub fn api(&self) -> mount::Settings {
        mount::Settings {
            name: "api",
            urgency: priority::DEFAULT,
            max_body_bytes: self.max_body_bytes,
            body_pause: self.body_pause(),
            upgrades: false,
        }
    }

    /// The time within which a client must send more of a request's body.
    pub(crate) fn body_pause(&self) -> Duration {
        ms(self.write_ms)
    }
}

/// A duration in milliseconds.
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
        assert_eq!(read("").unwrap(), Config::default());
        assert_eq!(read("listen = ''").unwrap().listen, []);
        assert_eq!(read("listen = []").unwrap().listen, []);
        let one = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(read("listen = '127.0.0.1:0'").unwrap().listen, [one]);
        let both = read("listen = ['127.0.0.1:0', '[::1]:80']").unwrap().listen;
        assert_eq!(both, [one, "[::1]:80".parse().unwrap()]);
        assert!(read("listen = 'here'").unwrap_err().to_string().contains("not an address"));
        assert!(
            read("port = 8080").is_err()
                && read("listen = 80").is_err()
                && read("listen = ['']").is_err()
        );
    }

    #[test]
    fn trusted_proxies_are_networks() {
        let read = |text: &str| read(text).map(|config| config.trusted_proxies);
        assert_eq!(read("trusted_proxies = ['10.0.0.0/8', '::1']").unwrap().len(), 2);
        let refused = read("trusted_proxies = ['10.0.0.1/8']").unwrap_err().to_string();
        assert!(refused.contains("10.0.0.0/8"), "{refused}");
        let many =
            Config { trusted_proxies: vec!["::1".parse().unwrap(); 65], ..Config::default() };
        assert!(many.check().unwrap_err().to_string().contains("http.trusted_proxies"));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        assert_eq!(Config::default().check(), Ok(()));
        let bad = Config { idle_ms: 5, ..Config::default() };
        assert_eq!(
            bad.check().unwrap_err().to_string(),
            "http.idle_ms is 5, it must be 1000 to 600000"
        );
        let bad = read("cors_origins = 'player.example'").unwrap();
        assert!(
            bad.check()
                .unwrap_err()
                .to_string()
                .starts_with("http.cors_origins: \"player.example\" is not an origin")
        );
        assert_eq!(read("cors_origins = ['https://a', 'https://b']").unwrap().check(), Ok(()));
    }
}
