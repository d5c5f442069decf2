//! How many there may be of something, in all and for each address: connections over all listeners and protocols, and what an edge fetches.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{Counted, Metrics, Reason};

/// So many in all, and so many for each address.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    max_per_address: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    places: Arc<Places>,
    host: Option<IpAddr>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _seat: Seat,
    _counted: Counted<Gauge>,
}

impl Places {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_address,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from `address`, or what there are too many of.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, metrics: &Metrics) -> Result<Place, Reason> {
        Ok(Place {
            _seat: self.seat(Some(address))?,
            _counted: Counted::new(metrics.connections.clone()),
        })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// A seat for `address`, or for one whose share is not bounded, or what there are too many of.
    pub(crate) fn seat(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Seat, Reason> {
        let host = address.map(host);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_host) = &mut *taken;
        if *all >= self.max {
            return Err(Reason::Connections);
        }
        if let Some(host) = host {
            let here = by_host.get(&host).copied().unwrap_or(0);
            if here >= self.max_per_address {
                return Err(Reason::Address);
            }
            by_host.insert(host, here + 1);
        }
        *all += 1;
        Ok(Seat {
            places: Arc::clone(self),
            host,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_host) = &mut *taken;
        *all -= 1;
        if let Some(host) = &self.host
            && let Some(here) = by_host.get_mut(host)
        {
            *here -= 1;
            if *here == 0 {
                by_host.remove(host);
            }
        }
    }
}

/// Who is behind an address: with IPv6 one host has a /64.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_host_has_a_64() {
        let [a, b, c] = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|ip| host(ip.parse().unwrap()));
        assert!(a == b && a != c);
    }

    #[test]
    fn ipv4_hosts_behind_an_ipv6_listener_are_told_apart() {
        let [a, b, c] = ["::ffff:192.0.2.1", "::ffff:192.0.2.2", "192.0.2.1"].map(|ip| host(ip.parse().unwrap()));
        assert!(a != b && a == c);
    }

    #[test]
    fn a_place_is_free_again_when_it_is_given_back() {
        let (places, metrics) = (Places::new(2, 1), Metrics::default());
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let first = places.take(a, &metrics).unwrap();
        assert_eq!(places.take(a, &metrics).unwrap_err(), Reason::Address);
        let _second = places.take(b, &metrics).unwrap();
        assert_eq!(places.take(c, &metrics).unwrap_err(), Reason::Connections);
        assert_eq!(metrics.connections.get(), 2);
        drop(first);
        let _third = places.take(c, &metrics).unwrap();
        assert!(places.taken.lock().unwrap().1.len() == 2);
    }
}
