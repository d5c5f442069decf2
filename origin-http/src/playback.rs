//! Playback tokens: which channels need one, and whether the token of a request opens its
//! resource. Works without a database, with keys of the configuration.
//!
//! A token is a JWT (RFC 7519) in JWS compact serialisation (RFC 7515), signed with HS256 or EdDSA
//! (RFC 7518 3.2, RFC 8037). `carried` finds it in a request, `keys` verifies it, `verified` keeps
//! the result until the token or the keys change, `claims` decides, `seal` completes the response.
//!
//! A request for a public channel costs one relaxed load, unless some channel is private.

mod carried;
mod claims;
mod config;
mod keys;
mod metrics;
mod refused;
mod seal;
mod verified;

use std::{
    collections::HashSet,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use http::request::Parts;
use media_core::{BroadcastId, ChannelName};
use prometheus_client::registry::Registry;

pub(crate) use carried::{Carried, take_from_path};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use carried::{check_form, first_request, strip};
use claims::{Claims, Named};
pub use config::{Config, Key, KeyFault};
use keys::Keys;
use metrics::Metrics;
pub use refused::Refused;
pub(crate) use seal::{MARK, Mark, REFUSAL, Seal, redirection, refusal};
use verified::Verified;

/// Knows which channels are private. The directory of channels implements it; until there is one,
/// `playback.private` lists them.
pub trait Visibility: Send + Sync + 'static {
    /// Whether watching the channel needs a token. Called for each request while installed, so it
    /// must not block.
    fn is_private(&self, channel: &ChannelName) -> bool;
}

/// Decides about playback tokens. One for all listeners; the rules can be replaced.
pub struct Playback {
    /// Whether any channel may be private, so that a public server pays one branch a request.
    guarded: AtomicBool,
    rules: ArcSwap<Rules>,
    directory: Option<Box<dyn Visibility>>,
    /// The key of this server's own tokens, which no reload removes.
    own: Option<Key>,
    metrics: Metrics,
}

/// The configuration in force. A reload replaces it as a whole, together with all verdicts.
struct Rules {
    keys: Keys,
    verified: Verified,
    private: HashSet<ChannelName>,
    edges: HashSet<IpAddr>,
    trusted_cdn: bool,
    leeway_s: u64,
}

impl Playback {
    /// The rules of a configuration that has been checked.
    pub fn new(config: &Config) -> Self {
        let rules = Rules::new(config, None);
        Self {
            guarded: AtomicBool::new(!rules.private.is_empty()),
            rules: ArcSwap::from_pointee(rules),
            directory: None,
            own: None,
            metrics: Metrics::default(),
        }
    }

    /// Adds a directory: a channel is private if it, or the configuration, says so.
    #[must_use]
    pub fn with_directory(mut self, directory: Box<dyn Visibility>) -> Self {
        self.directory = Some(directory);
        self.guarded = AtomicBool::new(true);
        self
    }

    /// Accepts tokens of this server's own key, beside those of the configuration, which must be
    /// `config` again.
    #[must_use]
    pub fn with_key(mut self, key: Key, config: &Config) -> Self {
        self.own = Some(key);
        self.rules = ArcSwap::from_pointee(Rules::new(config, self.own.as_ref()));
        self
    }

    /// Applies another configuration. Tokens are verified again, with the new keys.
    pub fn reload(&self, config: &Config) {
        let rules = Rules::new(config, self.own.as_ref());
        let guarded = self.directory.is_some() || !rules.private.is_empty();
        self.rules.store(Arc::new(rules));
        // Requests between the two stores are judged by the new rules, or as before.
        self.guarded.store(guarded, Ordering::Release);
    }

    /// Adds the metrics to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Whether any channel may be private.
    #[inline]
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Relaxed)
    }

    /// Whether watching the channel needs a token.
    pub fn is_private(&self, channel: &ChannelName) -> bool {
        self.is_guarded()
            && (self.rules.load().private.contains(channel)
                || self.directory.as_ref().is_some_and(|known| known.is_private(channel)))
    }

    /// Checks that `token`, if there is one, opens the live channel for a viewer at `address`, for
    /// protocols other than HTTP. `broadcast`: the one that the channel shows now.
    ///
    /// # Errors
    /// Why not. It is counted.
    pub fn check_token(
        &self,
        token: Option<&str>,
        address: IpAddr,
        channel: &ChannelName,
        broadcast: Option<BroadcastId>,
    ) -> Result<(), Refused> {
        let named = Named { channel, broadcast };
        let checked = match token {
            Some(token) => self.rules.load().admit(token, address, named, unix_s(), &self.metrics),
            None => Err(Refused::Missing),
        };
        checked.inspect_err(|refused| self.metrics.refuse(*refused))
    }

    /// Checks that the token of a request opens `named` for a viewer at `address`.
    ///
    /// # Errors
    /// Why not. It is counted.
    pub(crate) fn check(
        &self,
        head: &Parts,
        address: IpAddr,
        named: Named<'_>,
    ) -> Result<(), Refused> {
        let carried = Carried::of(head);
        self.check_token(
            carried.map(|carried| carried.token),
            address,
            named.channel,
            named.broadcast,
        )
    }

    /// The token of a request that an edge forwards: a valid one, which may open a resource under
    /// `channel`, if that is known. Any other would be refused at the origin, for everyone who
    /// waits for the same response.
    pub(crate) fn forwardable<'a>(
        &self,
        head: &'a Parts,
        address: IpAddr,
        channel: Option<&ChannelName>,
    ) -> Option<&'a str> {
        let token = Carried::of(head)?.token;
        let rules = self.rules.load();
        let claims = rules.claims(token, &self.metrics).ok()?;
        let valid = rules.admit_viewer(&claims, address, unix_s()).is_ok();
        (valid && channel.is_none_or(|channel| claims.may_open(channel))).then_some(token)
    }

    /// Whether a shared cache may store the response to this request for a private channel: only
    /// under the prefix, because the same address without a token is refused.
    pub(crate) fn is_shareable(&self, head: &Parts) -> bool {
        self.rules.load().trusted_cdn && Carried::of(head).is_some_and(|carried| carried.in_path)
    }

    /// The number of signatures that were verified.
    #[cfg(test)]
    pub(crate) fn verifications(&self) -> u64 {
        self.metrics.verifications()
    }
}

impl Rules {
    fn new(config: &Config, own: Option<&Key>) -> Self {
        Self {
            keys: Keys::new(config.keys.iter().chain(own)),
            verified: Verified::default(),
            private: config.private.iter().cloned().collect(),
            edges: config.edges.iter().map(IpAddr::to_canonical).collect(),
            trusted_cdn: config.trusted_cdn,
            leeway_s: u64::from(config.leeway_s),
        }
    }

    /// The claims of a token, whose signature is verified at its first use.
    fn claims(&self, token: &str, metrics: &Metrics) -> Result<Arc<Claims>, Refused> {
        if let Some(claims) = self.verified.find(token) {
            return Ok(claims);
        }
        carried::check_form(token)?;
        metrics.verify();
        let claims = Arc::new(self.keys.verify(token)?);
        self.verified.insert(token, &claims);
        Ok(claims)
    }

    /// Checks the time and the address.
    fn admit_viewer(&self, claims: &Claims, address: IpAddr, now_s: u64) -> Result<(), Refused> {
        claims.check_time(now_s, self.leeway_s)?;
        let address = address.to_canonical();
        // An edge has compared the address of its viewer, which is not known here.
        if self.edges.contains(&address) {
            return Ok(());
        }
        claims.check_address(address)
    }

    fn admit(
        &self,
        token: &str,
        address: IpAddr,
        named: Named<'_>,
        now_s: u64,
        metrics: &Metrics,
    ) -> Result<(), Refused> {
        let claims = self.claims(token, metrics)?;
        self.admit_viewer(&claims, address, now_s)?;
        claims.check_presentation(named)
    }
}

impl fmt::Debug for Playback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Playback").field("guarded", &self.is_guarded()).finish_non_exhaustive()
    }
}

/// The Unix time in whole seconds.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
