//! Limits of the rate of requests by class of route: for each address (IPv6: each /64), and for
//! each account when it is known. Responses have the headers of
//! draft-ietf-httpapi-ratelimit-headers-10, RateLimit-Policy and RateLimit, and a refusal has
//! Retry-After (RFC 9110 10.2.3).
//!
//! The class [`Class::Api`] does not limit addresses of the loopback interface: they are the
//! operator's tools, and a reverse proxy on this machine, whose clients would share one share. The
//! other classes protect accounts from guesses, so they limit every address.

mod limit;
mod shares;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue};
use net_core::Host;

pub use self::limit::{Limit, NotARate, Rate};
use self::shares::{Clock, Owner, Rest, Shares};
use crate::{
    caller::{Account, Caller},
    problem::{Kind, Problem},
};

/// The limits in force: a list of name, quota and window in seconds.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The rest of each: a list of name, remaining requests and seconds until the share is whole.
const REST: HeaderName = HeaderName::from_static("ratelimit");

/// A class of routes that share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// All routes.
    Api,
    /// Sign-in with a password or a second factor.
    Login,
    /// New accounts.
    SignUp,
    /// Routes that send a mail.
    Mail,
    /// Routes that take a token that was sent by mail.
    MailedToken,
}

impl Class {
    /// All classes.
    const ALL: [Self; 5] = [Self::Api, Self::Login, Self::SignUp, Self::Mail, Self::MailedToken];

    /// The name in the headers.
    const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Login => "login",
            Self::SignUp => "sign-up",
            Self::Mail => "mail",
            Self::MailedToken => "mailed-token",
        }
    }
}

/// The limit of each class; `None`: not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Default 50 in 10 s.
    pub api: Option<Limit>,
    /// Default 15 in 5 min.
    pub login: Option<Limit>,
    /// Default 2 in 5 min.
    pub sign_up: Option<Limit>,
    /// Default 3 in 5 min.
    pub mail: Option<Limit>,
    /// Default 10 in 5 min.
    pub mailed_token: Option<Limit>,
}

impl Default for Limits {
    fn default() -> Self {
        let limit = |requests, seconds| {
            NonZeroU32::new(requests).map(|requests| Limit::new(requests, seconds))
        };
        Self {
            api: limit(50, 10),
            login: limit(15, 300),
            sign_up: limit(2, 300),
            mail: limit(3, 300),
            mailed_token: limit(10, 300),
        }
    }
}

impl Limits {
    fn of(&self, class: Class) -> Option<Limit> {
        match class {
            Class::Api => self.api,
            Class::Login => self.login,
            Class::SignUp => self.sign_up,
            Class::Mail => self.mail,
            Class::MailedToken => self.mailed_token,
        }
    }
}

/// Counts the requests of all classes. The limits can be replaced.
pub struct Limiter {
    clock: Clock,
    /// In the order of [`Class::ALL`].
    shares: RwLock<[Option<Arc<Shares>>; Class::ALL.len()]>,
}

impl Limiter {
    /// A limiter on the system's monotonic clock.
    pub fn new(limits: Limits) -> Self {
        let start = Instant::now();
        Self::with_clock(limits, move || start.elapsed())
    }

    /// A limiter on another clock: the time since any fixed instant.
    pub fn with_clock(
        limits: Limits,
        clock: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        let limiter =
            Self { clock: Clock(Arc::new(clock)), shares: RwLock::new(Default::default()) };
        limiter.set(limits);
        limiter
    }

    /// Replaces the limits. Shares of a limit that stays the same are kept.
    pub fn set(&self, limits: Limits) {
        let mut shares = self.shares.write().unwrap_or_else(PoisonError::into_inner);
        for (class, shares) in Class::ALL.into_iter().zip(shares.iter_mut()) {
            let limit = limits.of(class);
            if shares.as_ref().map(|shares| shares.limit) != limit {
                *shares = limit.map(|limit| Arc::new(Shares::new(limit, self.clock.clone())));
            }
        }
    }

    /// The state of the middleware [`limit`] that counts a class by address, before credentials are
    /// checked.
    pub fn by_address(self: &Arc<Self>, class: Class) -> Counted {
        Counted { limiter: Arc::clone(self), class, by: By::Address }
    }

    /// The state of the middleware [`limit`] that counts a class by account, after credentials were
    /// checked. Requests without an account are not counted.
    pub fn by_account(self: &Arc<Self>, class: Class) -> Counted {
        Counted { limiter: Arc::clone(self), class, by: By::Account }
    }

    /// Takes one request of a class from the share of an account, for a handler that learns from
    /// the body whose account it is. Somebody who has none may have a share, too, under any
    /// identifier.
    ///
    /// # Errors
    /// 429 beyond the limit.
    pub fn take(&self, class: Class, account: Account) -> Result<(), Problem> {
        let Some(shares) = self.shares(class) else { return Ok(()) };
        let owner = Owner::Account(account);
        let rest = shares.take(owner);
        match rest.permitted {
            true => Ok(()),
            false => Err(refusal(shares.limit, owner, rest)),
        }
    }

    /// The shares of a class, if it is limited.
    fn shares(&self, class: Class) -> Option<Arc<Shares>> {
        let shares = self.shares.read().unwrap_or_else(PoisonError::into_inner);
        shares[class as usize].clone()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

/// The owner of the shares of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Address,
    Account,
}

/// A class of routes, counted by address or by account: the state of [`limit`].
#[derive(Debug, Clone)]
pub struct Counted {
    limiter: Arc<Limiter>,
    class: Class,
    by: By,
}

impl Counted {
    /// The owner of the share from which this request is taken; `None` if it is not limited.
    fn owner(&self, request: &Request) -> Option<Owner> {
        match self.by {
            By::Account => request.extensions().get().copied().map(Owner::Account),
            By::Address => {
                let Caller { address, ours } = *request.extensions().get()?;
                // The process that passes on a request has counted it.
                let exempt =
                    ours || self.class == Class::Api && address.to_canonical().is_loopback();
                (!exempt).then(|| Owner::Host(Host::of(address)))
            }
        }
    }

    /// The name of the limit in the headers, a token.
    fn name(&self) -> String {
        match self.by {
            By::Address => self.class.name().to_owned(),
            By::Account => format!("{}-account", self.class.name()),
        }
    }

    /// Adds the headers of this limit to those of others.
    fn describe(&self, limit: Limit, rest: Rest, response: &mut Response) {
        let (name, requests, window) = (self.name(), limit.requests(), limit.window().as_secs());
        let Rest { remaining, reset_s, .. } = rest;
        let fields = [
            (POLICY, format!("\"{name}\";q={requests};w={window}")),
            (REST, format!("\"{name}\";r={remaining};t={reset_s}")),
        ];
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().append(name, value);
            }
        }
    }
}

/// Middleware: refuses a request beyond the limit with 429.
pub async fn limit(State(counted): State<Counted>, request: Request, next: Next) -> Response {
    let shares = counted.limiter.shares(counted.class);
    let Some((shares, owner)) = shares.zip(counted.owner(&request)) else {
        return next.run(request).await;
    };
    let rest = shares.take(owner);
    let mut response = match rest.permitted {
        true => next.run(request).await,
        false => refusal(shares.limit, owner, rest).into_response(),
    };
    counted.describe(shares.limit, rest, &mut response);
    response
}

/// The problem of a request beyond the limit.
fn refusal(limit: Limit, owner: Owner, rest: Rest) -> Problem {
    let whose = match owner {
        Owner::Account(Account(_)) => "account",
        Owner::Host(_) | Owner::Common(_) => "address",
    };
    let wait = rest.reset_s;
    let words = format!("this {whose} may send {limit}: repeat the request in {wait} s");
    Problem::new(Kind::RateLimited, words).retry_after(wait)
}

#[cfg(test)]
mod tests;
