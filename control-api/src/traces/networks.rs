//! Networks of addresses, as in `192.0.2.0/24`.

use std::{net::IpAddr, str::FromStr};

use serde::Deserialize;

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: it is an address, or ADDRESS/PREFIX as in 192.0.2.0/24 or fd00::/8")]
pub struct InvalidNetwork(String);

/// A list of networks. The default is this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Networks(Vec<Network>);

/// An address, and the number of its leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Networks {
    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        // A listener of both protocols has addresses of IPv4 as those of IPv6.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Default for Networks {
    fn default() -> Self {
        let of = |address: IpAddr, prefix| Network { address, prefix };
        Self(vec![of([127, 0, 0, 0].into(), 8), of(std::net::Ipv6Addr::LOCALHOST.into(), 128)])
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = InvalidNetwork;

    fn try_from(texts: Vec<String>) -> Result<Self, InvalidNetwork> {
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let (own, other, length) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        // All bits for a prefix of 0 of IPv6.
        (own ^ other).checked_shr(length - self.prefix).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address = address.parse::<IpAddr>().map_err(|_| invalid())?;
        let length = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match text.contains('/') {
            true => prefix.parse::<u32>().map_err(|_| invalid())?,
            false => length,
        };
        (prefix <= length).then_some(Self { address, prefix }).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Result<Networks, InvalidNetwork> {
        texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn a_network_has_the_addresses_with_its_leading_bits() {
        let list = networks(&["192.0.2.0/24", "198.51.100.7", "fd00::/8", "2001:db8::1"]);
        let list = list.expect("networks");
        let has = |text: &str| list.contains(text.parse().expect("an address"));
        for inside in [
            "192.0.2.0",
            "192.0.2.255",
            "198.51.100.7",
            "fdff::1",
            "2001:db8::1",
            "::ffff:192.0.2.9",
        ] {
            assert!(has(inside), "{inside}");
        }
        for outside in ["192.0.3.0", "198.51.100.8", "fe00::1", "2001:db8::2", "127.0.0.1"] {
            assert!(!has(outside), "{outside}");
        }
        let all = networks(&["0.0.0.0/0", "::/0"]).expect("networks");
        assert!(all.contains([8, 8, 8, 8].into()));
        assert!(all.contains("2001:db8::2".parse().expect("an address")));
        assert!(!networks(&[]).expect("none").contains([127, 0, 0, 1].into()));
    }

    #[test]
    fn this_machine_is_the_default_and_other_texts_are_refused() {
        let machine = Networks::default();
        assert!(machine.contains([127, 0, 0, 1].into()) && machine.contains([127, 9, 9, 9].into()));
        assert!(machine.contains("::1".parse().expect("an address")));
        assert!(!machine.contains([192, 168, 0, 1].into()));
        for text in ["", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/x", "/8"] {
            assert!(networks(&[text]).is_err(), "{text}");
        }
    }
}
