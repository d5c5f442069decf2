//! The settings of edge mode.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use http::Uri;
use http_server::authority;
use net_core::config::{Error, within};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// Maximum number of origins of an edge.
const MAX_ORIGINS: usize = 16;

/// Section `edge` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The origins: `https://host[:port]` or `http://host[:port]`, one or a list (in one text:
    /// separated by commas), at most 16, which are requested in this order: the next one after a
    /// failure, and also after a 404, so that origins may have different publishers. A channel
    /// stays with the origin where it was found while that responds, because each origin has its
    /// own broadcast. A listener of this process is refused. Default none: no edge. HTTP/2 is used
    /// with `https` origins that offer it, HTTP/1.1 with others, where each waiting request holds a
    /// connection: see `http.max_connections_per_address` of the origin.
    #[serde(deserialize_with = "origins")]
    pub origin: Vec<Origin>,
    /// PEM file of the certificate authorities for `https` origins. Default empty: those of the
    /// system.
    pub ca: PathBuf,
    /// Memory for cached objects and transfers in MiB, 16 to 1 048 576. Default 256. A minute of a
    /// channel with a ladder up to 1080p takes some 120 MiB, as parts and as segments; the objects
    /// without requests are removed first. Objects that players request soon after each other
    /// should fit. An eighth is closed to segments, so that slow readers of them leave room for the
    /// rest.
    pub memory_mb: u32,
    /// The largest object in MiB, 1 to 1024, at most half of `memory_mb`. Default 64: eight seconds
    /// of 60 Mbit/s.
    pub object_mb: u32,
    /// Directory for segments that outlive memory and restarts; created if missing, and exclusive:
    /// other files in it are not touched, broken files of its own are removed. Default empty: none.
    /// Live playback needs no disk; time-shift far behind the edge does.
    pub disk_dir: PathBuf,
    /// Maximum size of the directory in MiB; 0, the default, for none.
    pub disk_mb: u32,
    /// Maximum number of concurrent requests to each origin, 16 to 100 000. Default 1000. A watched
    /// live track uses two, which wait most of the time.
    pub max_fetches: u32,
    /// Maximum number of waiting requests to origins that one address, or one /64 of IPv6, may have
    /// caused, 1 to 100 000. Default 250. Further ones get 503. A higher value suits a proxy, a CDN
    /// or another edge, whose viewers all have its address; a request for a cached object or one in
    /// progress causes none.
    pub max_fetches_per_address: u32,
    /// Maximum number of viewers' requests that wait at the same time, 16 to 10 000 000. Default
    /// 100 000. Further ones get 503.
    pub max_waiting: u32,
    /// The largest head of an origin's response in bytes, 1024 to 1 048 576. Default 16 384.
    pub max_header_bytes: u32,
    /// Milliseconds for connecting and the TLS handshake, 100 to 60 000. Default 3000.
    pub connect_ms: u32,
    /// Milliseconds until a response must begin, 1000 to 300 000. Default 20 000. It must exceed
    /// the time for which origins hold requests: at most three target durations (12 s by default),
    /// and 15 s for a channel that has just begun. A lower value detects an origin that hangs
    /// sooner.
    pub first_byte_ms: u32,
    /// Milliseconds for which a response may pause, 1000 to 300 000. Default 20 000. An open
    /// segment pauses while its publisher is silent.
    pub stall_ms: u32,
}

/// An origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A server: scheme and authority.
    Remote(Uri),
    /// A process on this machine that listens on a Unix socket. When it has ended, its resources
    /// are gone: 404.
    Local(PathBuf),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            origin: Vec::new(),
            ca: PathBuf::new(),
            memory_mb: 256,
            object_mb: 64,
            disk_dir: PathBuf::new(),
            disk_mb: 0,
            max_fetches: 1_000,
            max_fetches_per_address: 250,
            max_waiting: 100_000,
            max_header_bytes: 16 << 10,
            connect_ms: 3_000,
            first_byte_ms: 20_000,
            stall_ms: 20_000,
        }
    }
}

impl Config {
    /// For a process that takes over from another one on this machine, which serves `socket`:
    /// fetches the old process' resources, and caches little.
    pub fn local(socket: PathBuf) -> Self {
        Self {
            origin: vec![Origin::Local(socket)],
            memory_mb: 64,
            object_mb: 32,
            max_fetches_per_address: 500,
            ..Self::default()
        }
    }

    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// The first value that is out of its range, or conflicts with another.
    pub fn check(&self) -> Result<(), Error> {
        let within =
            |key, value: u32, min, max: u32| within("edge", key, value.into(), min, max.into());
        // A process of this daemon (`Config::local`) does not count: it is not configured.
        let remote = self.origin.iter().filter(|origin| matches!(origin, Origin::Remote(_)));
        let remote = remote.count();
        if remote > MAX_ORIGINS {
            let (key, count, max) = ("edge.origin", remote, MAX_ORIGINS);
            return Err(Error::TooManyOrigins { key, count, max });
        }
        within("memory_mb", self.memory_mb, 16, 1 << 20)?;
        within("object_mb", self.object_mb, 1, (self.memory_mb / 2).min(1_024))?;
        within("max_fetches", self.max_fetches, 16, 100_000)?;
        within("max_fetches_per_address", self.max_fetches_per_address, 1, 100_000)?;
        within("max_waiting", self.max_waiting, 16, 10_000_000)?;
        within("max_header_bytes", self.max_header_bytes, 1_024, 1 << 20)?;
        within("connect_ms", self.connect_ms, 100, 60_000)?;
        within("first_byte_ms", self.first_byte_ms, 1_000, 300_000)?;
        within("stall_ms", self.stall_ms, 1_000, 300_000)?;
        // One key without the other would silently do nothing.
        let (folder, size) = ("edge.disk_dir", "edge.disk_mb");
        match (self.disk_dir.as_os_str().is_empty(), self.disk_mb) {
            (true, 1..) => Err(Error::Unpaired { set: size, unset: folder, value: "not" }),
            (false, 0) => Err(Error::Unpaired { set: folder, unset: size, value: "0" }),
            _ => Ok(()),
        }
    }

    /// `memory_mb` in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mb) << 20
    }

    /// `object_mb` in bytes.
    pub(super) fn object_bytes(&self) -> u64 {
        u64::from(self.object_mb) << 20
    }

    /// `disk_mb` in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        u64::from(self.disk_mb) << 20
    }

    /// `connect_ms`.
    pub(super) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms.into())
    }

    /// `first_byte_ms`.
    pub(super) fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms.into())
    }

    /// `stall_ms`.
    pub(super) fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms.into())
    }
}

impl Origin {
    /// Whether a request to it reaches the listener at `listen` of this machine. Of names, only
    /// `localhost` is known to be this machine.
    pub fn is_listener(&self, listen: SocketAddr) -> bool {
        let Self::Remote(uri) = self else {
            return false;
        };
        // An edge that fetched from its own listener would wait for itself; Via and CDN-Loop find
        // loops over other machines.
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        if uri.port_u16().unwrap_or(default) != listen.port() {
            return false;
        }
        let bound = listen.ip().to_canonical();
        // `[::]` takes IPv4 as well.
        let takes =
            |ip: IpAddr| bound == ip || bound.is_unspecified() && (bound.is_ipv6() || ip.is_ipv4());
        let host = uri.host().unwrap_or_default();
        if host.eq_ignore_ascii_case("localhost") {
            return bound.is_loopback() || bound.is_unspecified();
        }
        match host.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            // A connection to the unspecified address reaches this machine.
            Ok(ip) if ip.is_unspecified() => bound.is_loopback() || takes(ip),
            Ok(ip) if ip.is_loopback() => takes(ip),
            Ok(ip) => bound == ip,
            Err(_) => false,
        }
    }
}

/// A text is not the URL of an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {fault}; an origin is for example \"https://origin.example:8443\"")]
pub struct BadOrigin {
    /// The text.
    pub text: String,
    /// The fault.
    pub fault: OriginFault,
}

/// The fault of a text that is not the URL of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginFault {
    /// It is not a URL.
    #[error("is not a URL")]
    NoUrl,
    /// It has no authority.
    #[error("has no host")]
    NoHost,
    /// Its authority has userinfo.
    #[error("contains a user")]
    User,
    /// Its authority is not valid.
    #[error("has no valid host and port (1 to 65535)")]
    Authority,
    /// Its port is 0.
    #[error("has port 0")]
    PortZero,
    /// It has a path or a query.
    #[error("contains a path")]
    Path,
    /// Its scheme is another one, or missing.
    #[error("is neither http nor https")]
    Scheme,
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let bad = |fault| BadOrigin { text: text.to_owned(), fault };
        let uri: Uri = text.parse().map_err(|_| bad(OriginFault::NoUrl))?;
        let authority = uri.authority().ok_or_else(|| bad(OriginFault::NoHost))?;
        // The order decides which fault is reported, if a text has several.
        let fault = match uri.scheme_str() {
            Some("http" | "https") if authority.as_str().contains('@') => OriginFault::User,
            Some("http" | "https") if !authority::is_valid(authority.as_str().as_bytes()) => {
                OriginFault::Authority
            }
            Some("http" | "https") if uri.port_u16() == Some(0) => OriginFault::PortZero,
            Some("http" | "https") if !matches!(uri.path(), "" | "/") || uri.query().is_some() => {
                OriginFault::Path
            }
            Some("http" | "https") => return Ok(Self::Remote(uri)),
            _ => OriginFault::Scheme,
        };
        Err(bad(fault))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(uri) => {
                f.write_str(uri.authority().map_or("", |authority| authority.as_str()))
            }
            Self::Local(_) => f.write_str("local"),
        }
    }
}

/// A text, with commas between several origins, or a list of texts.
fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Origin>, D::Error> {
    // A visitor instead of an untagged enum, so that the message of a single wrong origin reaches
    // the operator.
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<Origin>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an origin's URL or a list of them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<Origin>, E> {
            let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            texts.map(|text| text.parse().map_err(E::custom)).collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Origin>, A::Error> {
            let mut origins = Vec::new();
            while let Some(text) = list.next_element::<String>()? {
                origins.push(text.parse().map_err(de::Error::custom)?);
            }
            Ok(origins)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|err| err.to_string())?;
        config.check().map(|()| config).map_err(|err| err.to_string())
    }

    #[test]
    fn origins_are_one_or_more_urls_without_userinfo_or_path() {
        assert_eq!(read("").unwrap(), Config::default());
        assert_eq!(read("origin = ''").unwrap().origin, []);
        let one = read("origin = 'https://a.example'").unwrap().origin;
        assert_eq!(one, [Origin::Remote(Uri::from_static("https://a.example"))]);
        assert_eq!(read("origin = ['https://a.example']").unwrap().origin, one);
        let two = read("origin = 'https://a.example, http://[::1]:8080/'").unwrap().origin;
        assert_eq!(
            two.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a.example", "[::1]:8080"]
        );
        for (bad, why) in [
            ("a.example", "neither http nor https"),
            ("/live", "has no host"),
            ("ftp://a.example", "neither http nor https"),
            ("https://me:secret@a.example", "user"),
            ("https://a.example/live", "path"),
            ("https://a.example/?x", "path"),
            ("http://127.0.0.1:99999", "host and port"),
            ("http://:8080", "host and port"),
            ("http://[fe80::1%25lo]:80", "host and port"),
            ("http://[::1", "not a URL"),
            ("http://a.example:0", "port 0"),
        ] {
            assert!(read(&format!("origin = {bad:?}")).unwrap_err().contains(why), "{bad}");
        }
        assert!(read("origins = 'https://a.example'").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn an_origin_that_is_a_listener_of_this_machine_is_detected() {
        let is_listener = |origin: &str, listen: &str| {
            origin.parse::<Origin>().unwrap().is_listener(listen.parse().unwrap())
        };
        for (origin, listen) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1:8080", "0.0.0.0:8080"),
            ("http://127.0.0.1:8080", "[::]:8080"),
            ("http://[::1]:8080/", "[::]:8080"),
            ("http://[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
            ("http://LOCALHOST:8080", "[::1]:8080"),
            ("http://0.0.0.0:8080", "127.0.0.1:8080"),
            ("http://192.0.2.1", "192.0.2.1:80"),
            ("https://localhost", "[::]:443"),
        ] {
            assert!(is_listener(origin, listen), "{origin} {listen}");
        }
        for (origin, listen) in [
            ("http://127.0.0.1:8081", "127.0.0.1:8080"),
            ("http://127.0.0.2:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "0.0.0.0:8080"),
            ("http://192.0.2.1:8080", "127.0.0.1:8080"),
            // It may be another machine's.
            ("http://192.0.2.1:8080", "[::]:8080"),
            ("http://origin.example:8080", "127.0.0.1:8080"),
            ("https://localhost", "[::]:80"),
        ] {
            assert!(!is_listener(origin, listen), "{origin} {listen}");
        }
        assert!(!Origin::Local("/run/x".into()).is_listener("[::]:80".parse().unwrap()));
    }

    #[test]
    fn values_out_of_range_are_refused_and_the_disk_needs_both_of_its_keys() {
        for (text, why) in [
            ("memory_mb = 1", "edge.memory_mb is 1, it must be 16 to 1048576"),
            ("object_mb = 129", "edge.object_mb is 129, it must be 1 to 128"),
            ("first_byte_ms = 10", "edge.first_byte_ms is 10"),
            ("disk_mb = 1", "edge.disk_dir is not"),
            ("disk_dir = '/x'", "edge.disk_mb is 0"),
        ] {
            assert!(
                read(text).unwrap_err().starts_with(why) || read(text).unwrap_err().contains(why),
                "{text}"
            );
        }
        assert_eq!(Config::local("/run/x".into()).check(), Ok(()));
    }
}
