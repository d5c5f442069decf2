//! How many connections there may be, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    config::Config,
    metrics::{Counted, Metrics},
};

/// Connections in all and from each address.
pub(crate) struct Places {
    max: usize,
    max_per_address: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One connection's place, given back when dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    _counted: Counted,
}

impl Places {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            max: config.max_connections,
            max_per_address: config.max_connections_per_address,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from `address`; none if there are too many.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, metrics: &Metrics) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        if *all >= self.max
            || by_address
                .get(&address)
                .is_some_and(|&here| here >= self.max_per_address)
        {
            return None;
        }
        *all += 1;
        *by_address.entry(address).or_default() += 1;
        Some(Place {
            places: Arc::clone(self),
            address,
            _counted: Counted::new(&metrics.connections),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        *all -= 1;
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}
