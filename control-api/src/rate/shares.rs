//! The shares of all addresses and accounts under one limit: governor's GCRA, in bounded memory.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock as _, middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use net_core::Host;

use super::Limit;
use crate::caller::Account;

/// Shares are forgotten when they are whole again; this is looked for after so many checks.
const CHECKS: u32 = 1_024;
/// Number of shares, about 100 bytes each, above which addresses share a share.
const MAX_SHARES: usize = 100_000;
/// Number of the common shares.
const COMMON: u64 = 4_096;

/// The clock: the time since any fixed instant.
#[derive(Clone)]
pub(super) struct Clock(pub(super) Arc<dyn Fn() -> Duration + Send + Sync>);

impl governor::clock::Clock for Clock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

/// The owner of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// An IPv4 address, or a /64 of IPv6.
    Host(Host),
    /// An account or an API key.
    Account(Account),
    /// Those of many owners, while there are too many.
    Common(u64),
}

/// The rest of a share after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Whether the request was within the limit.
    pub(super) permitted: bool,
    /// Requests that would be permitted now.
    pub(super) remaining: u32,
    /// Seconds until the share is whole, or, after a refusal, until a request is permitted.
    pub(super) reset_s: u64,
}

/// All shares of one limit.
pub(super) struct Shares {
    pub(super) limit: Limit,
    clock: Clock,
    limiter: RateLimiter<Owner, DashMapStateStore<Owner>, Clock, StateInformationMiddleware>,
    /// Checks since the last search for whole shares.
    checks: AtomicU32,
    /// Whether there were too many shares at that time.
    crowded: AtomicBool,
    /// Number of shares above which they are common.
    max: usize,
    /// Chooses a common share, unpredictably for clients.
    hasher: RandomState,
}

impl Shares {
    /// No shares used yet.
    pub(super) fn new(limit: Limit, clock: Clock) -> Self {
        Self::with_max(limit, clock, MAX_SHARES)
    }

    fn with_max(limit: Limit, clock: Clock, max: usize) -> Self {
        let requests = limit.requests();
        // A window of at least a second and a million requests at most leave a microsecond.
        let period = limit.window() / requests.get();
        let quota = Quota::with_period(period)
            .map_or_else(|| Quota::per_second(requests), |quota| quota.allow_burst(requests));
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone()).with_middleware();
        let (checks, crowded) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { limit, clock, limiter, checks, crowded, max, hasher: RandomState::new() }
    }

    /// Takes one request from the share of `owner`, unless it is used up.
    pub(super) fn take(&self, owner: Owner) -> Rest {
        self.forget();
        let owner = match owner {
            Owner::Common(_) => owner,
            _ if !self.crowded.load(Ordering::Relaxed) => owner,
            // Beyond the bound no new share may be made, and those in use cannot be told apart from
            // new ones. An owner's requests meet those of few others.
            _ => {
                let mut hasher = self.hasher.build_hasher();
                std::hash::Hash::hash(&owner, &mut hasher);
                Owner::Common(hasher.finish() % COMMON)
            }
        };
        match self.limiter.check_key(&owner) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = self.limit.requests().get().saturating_sub(remaining);
                let period = self.limit.window() / self.limit.requests().get();
                Rest { permitted: true, remaining, reset_s: seconds(period * used) }
            }
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                Rest { permitted: false, remaining: 0, reset_s: seconds(wait) }
            }
        }
    }

    /// Forgets shares that are whole, once in a while.
    fn forget(&self) {
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS == CHECKS - 1 {
            self.limiter.retain_recent();
            self.crowded.store(self.limiter.len() >= self.max, Ordering::Relaxed);
        }
    }
}

/// A time in whole seconds, rounded up; at least 1.
fn seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn shares(rate: &str, max: usize) -> (FakeRelativeClock, Shares) {
        let clock = FakeRelativeClock::default();
        let source = clock.clone();
        let now = Clock(Arc::new(move || source.now().into()));
        (clock, Shares::with_max(rate.parse().unwrap(), now, max))
    }

    fn host(number: u64) -> Owner {
        Owner::Host(Host::of(IpAddr::V6(Ipv6Addr::from(u128::from(number) << 64))))
    }

    #[test]
    fn a_share_is_used_up_and_refilled_evenly() {
        let (clock, shares) = shares("5/10s", 100);
        for remaining in (0..5).rev() {
            let used = 5 - u64::from(remaining);
            let expected = Rest { permitted: true, remaining, reset_s: 2 * used };
            assert_eq!(shares.take(host(1)), expected);
        }
        let refused = Rest { permitted: false, remaining: 0, reset_s: 2 };
        assert_eq!(shares.take(host(1)), refused);
        assert!(shares.take(host(2)).permitted, "another address has a share of its own");
        clock.advance(Duration::from_millis(1_999));
        assert_eq!(shares.take(host(1)), Rest { reset_s: 1, ..refused });
        clock.advance(Duration::from_millis(1));
        assert!(shares.take(host(1)).permitted && !shares.take(host(1)).permitted);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(shares.take(host(1)).remaining, 4, "it does not grow beyond its size");
    }

    #[test]
    fn whole_shares_are_forgotten_and_the_number_of_shares_is_bounded() {
        let max = 2_000;
        let (clock, shares) = shares("2/10s", max);
        for number in 0..100_000 {
            shares.take(host(number));
        }
        let bound = max + usize::try_from(COMMON).unwrap() + usize::try_from(CHECKS).unwrap();
        assert!(shares.limiter.len() <= bound, "{}", shares.limiter.len());
        let refused = (0..100_000).filter(|number| !shares.take(host(*number)).permitted).count();
        assert!(refused > 0, "common shares limit too");
        // The window, and the time of one request.
        clock.advance(Duration::from_millis(15_001));
        for _ in 0..2 * CHECKS {
            shares.take(host(1));
        }
        assert!(shares.limiter.len() < 10, "{}", shares.limiter.len());
        assert!(shares.take(host(7)).permitted, "each has a share of its own again");
    }
}
