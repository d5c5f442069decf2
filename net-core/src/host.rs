//! The owner of an IP address, to whom limits for one address apply.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One host. With IPv6 it has a /64 (RFC 6177); IPv4 addresses are mapped into IPv6 (RFC 4291
/// 2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Ipv6Addr);

impl Host {
    /// The host that has `address`.
    pub fn of(address: IpAddr) -> Self {
        // An IPv4 client has the same host whether an IPv4 or an IPv6 socket accepted it.
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64),
            IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_a_64_prefix_and_mapped_addresses_are_ipv4_hosts() {
        let host = |text: &str| Host::of(text.parse().unwrap());
        let [a, b, c] = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(host);
        assert!(a == b && a != c);
        let [a, b, c] = ["::ffff:192.0.2.1", "::ffff:192.0.2.2", "192.0.2.1"].map(host);
        assert!(a != b && a == c);
    }
}
