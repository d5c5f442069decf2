//! The key set at an address (RFC 7517 5). It is fetched over https, again before it is old, and at
//! once for a token whose key is not known. Attempts have a least interval, so that forged tokens
//! cause no load; the last good set counts while the server fails.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header;
use tokio::time::timeout;
use tracing::{info, warn};

use super::keys::{Error, SetFault, VerifyingKey, from_set};
use crate::{
    authorities,
    config::{Address, Jwt},
    publish::client::{self, Client},
};

/// Least time between two attempts.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time after which a set is fetched again, if its server names none, and its range.
const USUAL_AGE: Duration = Duration::from_secs(600);
const AGES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3_600));
/// Time limit of an attempt. An encoder waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// A response with a set.
pub(super) struct Fetched {
    pub(super) text: Bytes,
    /// The age up to which it may be kept.
    pub(super) max_age: Option<Duration>,
}

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Exchange(#[from] client::Fault),
    #[error("no response within {} s", LIMIT.as_secs())]
    TimedOut,
    #[error("the response has status {0}")]
    Status(http::StatusCode),
    #[error(transparent)]
    Set(#[from] SetFault),
}

/// An attempt in progress.
pub(super) type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, Fault>> + Send + 'a>>;

/// Fetches a set.
pub(super) trait Fetch: Send + Sync {
    fn fetch(&self) -> Fetching<'_>;
}

/// Fetches from the configured address.
struct Https {
    client: Client,
    address: Address,
}

impl Fetch for Https {
    fn fetch(&self) -> Fetching<'_> {
        Box::pin(async move {
            let response = timeout(LIMIT, self.client.get(self.address.uri())).await;
            let response = response.map_err(|_| Fault::TimedOut)??;
            // Redirects are not followed: they could lead anywhere.
            if response.status != http::StatusCode::OK {
                return Err(Fault::Status(response.status));
            }
            let control = response.headers.get(header::CACHE_CONTROL);
            let max_age = control.and_then(|control| control.to_str().ok()).and_then(max_age);
            Ok(Fetched { text: response.body, max_age })
        })
    }
}

/// `max-age` of a Cache-Control field (RFC 9111 5.2.2.1).
fn max_age(control: &str) -> Option<Duration> {
    let mut directives = control.split(',').map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

/// The times of attempts.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// When the present set is old.
    stale: Instant,
    /// The end of the least interval.
    next_attempt: Instant,
    /// Whether the last attempt failed, which is logged once.
    is_failing: bool,
}

/// The key set at an address.
pub(super) struct Remote {
    fetch: Box<dyn Fetch>,
    /// Scheme, host and port, for the log.
    address: String,
    /// The settings, to recognise it after a reload.
    settings: Option<(Address, std::path::PathBuf)>,
    /// The last good set.
    keys: ArcSwap<Vec<VerifyingKey>>,
    times: Mutex<Times>,
    /// Held during an attempt, so that there is one at a time.
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Remote {
    /// The set of a configuration, if it names an address. Nothing is fetched yet. Blocks for the
    /// certificate authorities.
    ///
    /// # Errors
    /// They cannot be read, or the address is not https.
    pub(super) fn of(config: &Jwt) -> Result<Option<Self>, Error> {
        let Some(address) = &config.jwks_url else { return Ok(None) };
        if !address.is_https() {
            return Err(Error::NotHttps);
        }
        let client = Client::new(authorities::load(&config.ca)?, LIMIT)?;
        let fetch = Https { client, address: address.clone() };
        let mut remote = Self::with(Box::new(fetch), address.to_string(), Instant::now());
        remote.settings = Some((address.clone(), config.ca.clone()));
        Ok(Some(remote))
    }

    /// A set without keys, which is to be fetched now.
    pub(super) fn with(fetch: Box<dyn Fetch>, address: String, now: Instant) -> Self {
        let times = Times { stale: now, next_attempt: now, is_failing: false };
        let (keys, times) = (ArcSwap::default(), Mutex::new(times));
        Self { fetch, address, settings: None, keys, times, turn: tokio::sync::Mutex::default() }
    }

    /// Scheme, host and port.
    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    /// Whether another one is of the same settings.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.settings.is_some() && self.settings == other.settings
    }

    /// The last good set.
    pub(super) fn keys(&self) -> Arc<Vec<VerifyingKey>> {
        self.keys.load_full()
    }

    /// Whether no set was ever fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }

    /// When it is to be fetched again.
    pub(super) fn next(&self) -> Instant {
        let Times { stale, next_attempt, .. } = *self.times();
        stale.max(next_attempt)
    }

    /// Fetches it again if it is old.
    pub(super) async fn renew(&self, now: Instant) {
        let _turn = self.turn.lock().await;
        if self.times().stale <= now {
            self.attempt(now).await;
        }
    }

    /// Fetches it again for a token whose key is not in it, unless it was fetched just now. Returns
    /// whether there is another set since the call.
    pub(super) async fn look_again(&self, now: Instant) -> bool {
        let before = self.keys();
        let _turn = self.turn.lock().await;
        // Another caller may have fetched it meanwhile.
        if Arc::ptr_eq(&before, &self.keys()) {
            self.attempt(now).await;
        }
        !Arc::ptr_eq(&before, &self.keys())
    }

    /// Withdraws the rights of all its keys. Returns their number.
    pub(super) fn withdraw(&self) -> usize {
        let keys = self.keys();
        keys.iter().for_each(|key| key.right.cancel());
        keys.len()
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the set, at most once in the least interval.
    async fn attempt(&self, now: Instant) {
        {
            let mut times = self.times();
            if times.next_attempt > now {
                return;
            }
            times.next_attempt = now + INTERVAL;
        }
        let fetched = self.fetch.fetch().await.and_then(|fetched| {
            Ok((from_set(&fetched.text, true)?, fetched.max_age.unwrap_or(USUAL_AGE)))
        });
        match fetched {
            Ok((keys, age)) => {
                let was_failing = {
                    let mut times = self.times();
                    times.stale = now + age.clamp(AGES.0, AGES.1);
                    std::mem::take(&mut times.is_failing)
                };
                if was_failing {
                    info!(address = self.address, "the key set of tokens can be fetched again");
                }
                self.adopt(keys);
            }
            Err(fault) => {
                let was_failing = std::mem::replace(&mut self.times().is_failing, true);
                if !was_failing {
                    warn!(%fault, address = self.address, keys = self.keys().len(),
                        "the key set of tokens cannot be fetched: the last one counts");
                }
            }
        }
    }

    /// Replaces the set. Publishers whose key is gone are disconnected.
    fn adopt(&self, mut keys: Vec<VerifyingKey>) {
        let before = self.keys();
        for key in &mut keys {
            if let Some(known) = before.iter().find(|known| known.is_same(key)) {
                key.right = known.right.clone();
            }
        }
        let is_gone = |known: &&VerifyingKey| !keys.iter().any(|key| key.is_same(known));
        let gone = before.iter().filter(is_gone).map(|key| key.right.clone()).collect::<Vec<_>>();
        self.keys.store(Arc::new(keys));
        // Afterwards, so that a publisher that reconnects at once is refused.
        gone.iter().for_each(|right| right.cancel());
    }
}

#[cfg(test)]
mod tests;
