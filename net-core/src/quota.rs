//! Limits of a number, in total and for each address. A share beyond the limit is refused.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Host, Limit};

/// A limit in total, and one for each address (IPv6: each /64).
#[derive(Debug)]
pub struct Quota {
    max: usize,
    max_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_host: HashMap<Host, usize>,
}

/// One share of a [`Quota`], returned when dropped.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    host: Option<Host>,
}

impl Quota {
    /// At most `max` shares in total, and `max_per_address` for each address.
    pub fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_address, taken: Mutex::default() })
    }

    /// Takes a share for `address`; `None` counts in the total only.
    ///
    /// # Errors
    /// The limit that is reached: [`Limit::Total`] or [`Limit::Address`].
    pub fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Share, Limit> {
        let host = address.map(Host::of);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Both limits are checked before either count changes, so that a refusal leaves no trace.
        if taken.total >= self.max {
            return Err(Limit::Total);
        }
        if let Some(host) = host {
            let here = taken.by_host.get(&host).copied().unwrap_or(0);
            if here >= self.max_per_address {
                return Err(Limit::Address);
            }
            taken.by_host.insert(host, here + 1);
        }
        taken.total += 1;
        Ok(Share { quota: Arc::clone(self), host })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.quota.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(host) = &self.host
            && let Some(here) = taken.by_host.get_mut(host)
        {
            *here -= 1;
            // Hosts without a share are removed, so that the map is bounded by the total limit.
            if *here == 0 {
                taken.by_host.remove(host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_share_is_available_again() {
        let quota = Quota::new(2, 1);
        let [a, b, c] = [1, 2, 3].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        let first = quota.take(a).unwrap();
        assert_eq!(quota.take(a).unwrap_err(), Limit::Address);
        let _second = quota.take(b).unwrap();
        assert_eq!(quota.take(c).unwrap_err(), Limit::Total);
        drop(first);
        let _third = quota.take(c).unwrap();
        assert!(quota.taken.lock().unwrap().by_host.len() == 2);
    }
}
