//! Quotas: how many there may be of something, in all and for each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Host, Limit};

/// So many in all, and so many for each address.
#[derive(Debug)]
pub struct Places {
    max: usize,
    max_per_address: usize,
    taken: Mutex<(usize, HashMap<Host, usize>)>,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    places: Arc<Places>,
    host: Option<Host>,
}

impl Places {
    /// `max` in all, `max_per_address` for each address.
    pub fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_address,
            taken: Mutex::default(),
        })
    }

    /// A seat for `address`, or for one whose share is not bounded.
    ///
    /// # Errors
    /// The limit that is reached: [`Limit::Total`] or [`Limit::Address`].
    pub fn seat(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Seat, Limit> {
        let host = address.map(Host::of);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_host) = &mut *taken;
        if *all >= self.max {
            return Err(Limit::Total);
        }
        if let Some(host) = host {
            let here = by_host.get(&host).copied().unwrap_or(0);
            if here >= self.max_per_address {
                return Err(Limit::Address);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_it_is_given_back() {
        let places = Places::new(2, 1);
        let [a, b, c] = [1, 2, 3].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        let first = places.seat(a).unwrap();
        assert_eq!(places.seat(a).unwrap_err(), Limit::Address);
        let _second = places.seat(b).unwrap();
        assert_eq!(places.seat(c).unwrap_err(), Limit::Total);
        drop(first);
        let _third = places.seat(c).unwrap();
        assert!(places.taken.lock().unwrap().1.len() == 2);
    }
}
