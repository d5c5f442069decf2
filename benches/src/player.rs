//! Players as a server sees them, at the least cost: they take what a player would take, when it would, look at whether it is there and whole,
//! and forget it. [`client`] speaks the protocols, [`hls`] follows a live broadcast part by part, [`dash`] by segments that grow.

pub mod client;
pub mod dash;
pub mod hls;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Three target durations of 4 s: with nothing new for so long, a player stands still.
pub const STALL: Duration = Duration::from_secs(12);

/// Why a player gave up. The text is of a small set: what was asked for, and what came of it.
#[derive(Debug)]
pub struct Fault(pub String);

impl Fault {
    /// `what` has failed because of `err`.
    pub fn of(what: &str, err: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {err}"))
    }
}

/// How often each thing has happened.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    /// Kinds that are told apart; the rest is one.
    const MOST: usize = 1_000;

    /// Once more.
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

    /// How many in all.
    pub fn sum(&self) -> u64 {
        self.all().values().sum()
    }
}
