//! A gauge of live objects.

use std::borrow::Borrow;

use prometheus_client::metrics::gauge::Gauge;

/// Adds one to a gauge while it lives.
#[derive(Debug)]
pub struct Counted<G: Borrow<Gauge> = Gauge>(G);

impl<G: Borrow<Gauge>> Counted<G> {
    /// Increments `gauge` until this is dropped.
    pub fn new(gauge: G) -> Self {
        gauge.borrow().inc();
        Self(gauge)
    }
}

impl<G: Borrow<Gauge>> Drop for Counted<G> {
    fn drop(&mut self) {
        self.0.borrow().dec();
    }
}
