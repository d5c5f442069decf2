//! The callers whose traces are continued.

use std::net::IpAddr;

use net_core::Network;
use serde::Deserialize;

/// A list of networks. The default is this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Default for Networks {
    fn default() -> Self {
        let machine = ["127.0.0.0/8", "::1"];
        Self(machine.into_iter().filter_map(|network| network.parse().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_the_default() {
        let machine = Networks::default();
        assert!(machine.contains([127, 0, 0, 1].into()) && machine.contains([127, 9, 9, 9].into()));
        assert!(machine.contains("::1".parse().expect("an address")));
        assert!(!machine.contains([192, 168, 0, 1].into()));
        assert!(!Networks(Vec::new()).contains([127, 0, 0, 1].into()));
    }
}
