//! The address of a client behind trusted proxies: X-Forwarded-For, to which each proxy appends the
//! address of its own client.
//!
//! Anyone can send the field, so an entry counts only if a trusted proxy has appended it. The
//! entries are read from the end: the address of the client is the first one that is no trusted
//! proxy.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use http_server::Client;
use net_core::Network;

/// The field.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Entries that are read: more than proxies in a row.
const MAX_ENTRIES: usize = 16;

/// The trusted proxies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Vec<Network>);

impl Proxies {
    /// The proxies of these networks.
    pub(crate) fn new(networks: &[Network]) -> Self {
        Self(networks.to_vec())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The client of a request with these headers: `client` itself, unless its connection is that
    /// of a trusted proxy. The port stays that of the connection.
    pub(crate) fn client(&self, headers: &HeaderMap, client: Client) -> Client {
        let mut address = client.peer.ip();
        // A process of this daemon passes on the requests of its own clients.
        if client.ours || !self.trusts(address) {
            return client;
        }
        let fields = headers.get_all(FORWARDED_FOR).iter().rev();
        // A field that is no text ends the list, as an entry that is no address does.
        let entries = fields.flat_map(|field| field.to_str().unwrap_or("?").rsplit(','));
        for entry in entries.take(MAX_ENTRIES) {
            let Some(entry) = parse(entry.trim()) else { break };
            address = entry;
            if !self.trusts(address) {
                break;
            }
        }
        Client { peer: SocketAddr::new(address, client.peer.port()), ..client }
    }
}

/// An address, which some proxies write with a port or in brackets.
fn parse(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
    address.or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[&str]) -> String {
        let proxies = Proxies::new(&["127.0.0.1", "10.0.0.0/8", "2001:db8::/64"].map(|text| {
            let network: Network = text.parse().unwrap();
            network
        }));
        let mut headers = HeaderMap::new();
        for field in fields {
            let field = http::HeaderValue::from_bytes(field.as_bytes()).unwrap();
            headers.append(FORWARDED_FOR, field);
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 7);
        let client = Client { peer, ours: false, secure: false, early: false };
        let found = proxies.client(&headers, client).peer;
        assert_eq!(found.port(), 7);
        found.ip().to_string()
    }

    #[test]
    fn the_client_is_the_last_entry_that_is_no_trusted_proxy() {
        for (peer, fields, expected) in [
            ("127.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1,203.0.113.9 , 10.1.2.3"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.9", "10.1.2.3"], "203.0.113.9"),
            ("2001:db8::7", &["2001:db8:0:1::1"], "2001:db8:0:1::1"),
            ("127.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("127.0.0.1", &["[2001:db9::1]:4711"], "2001:db9::1"),
            ("127.0.0.1", &["[2001:db9::1]"], "2001:db9::1"),
            // The client is itself within.
            ("127.0.0.1", &["10.9.9.9"], "10.9.9.9"),
            ("::ffff:127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
        ] {
            assert_eq!(client(peer, fields), expected, "{peer} {fields:?}");
        }
    }

    #[test]
    fn nobody_else_chooses_an_address() {
        for (peer, fields, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1, 127.0.0.1"], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &[""], "127.0.0.1"),
            ("127.0.0.1", &["unknown"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1, \u{e9}, 10.1.1.1"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1, unknown, 10.1.1.1"], "10.1.1.1"),
        ] {
            assert_eq!(client(peer, fields), expected, "{peer} {fields:?}");
        }
    }

    #[test]
    fn a_long_list_is_not_read_to_its_end() {
        let list = format!("203.0.113.9{}", ", 10.1.1.1".repeat(MAX_ENTRIES));
        assert_eq!(client("127.0.0.1", &[&list]), "10.1.1.1");
    }
}
