//! Players from a server's perspective, at the least cost: they make a player's requests at the
//! right times, check that the media are present and complete, and discard them. [`client`]
//! implements the protocols, [`hls`] follows a live broadcast part by part, [`dash`] by segments
//! that grow.

pub mod client;
pub mod dash;
pub mod hls;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Three target durations of 4 s: a player without new media for this long has stalled.
pub const STALL: Duration = Duration::from_secs(12);

/// Why a player gave up. The texts are a small set: the requested resource and the fault.
#[derive(Debug)]
pub struct Fault(pub String);

impl Fault {
    /// `what` has failed because of `err`.
    pub fn of(what: &str, err: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {err}"))
    }
}

/// Number of occurrences of each event.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    /// Maximum number of separate events; further ones share one count.
    const MOST: usize = 1_000;

    /// Counts an occurrence.
    pub fn add(&self, what: &str) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = match kinds.contains_key(what) || kinds.len() < Self::MOST {
            true => what,
            false => "others",
        };
        *kinds.entry(what.to_owned()).or_default() += 1;
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The total.
    pub fn sum(&self) -> u64 {
        self.all().values().sum()
    }
}
