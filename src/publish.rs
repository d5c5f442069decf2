//! The right to publish according to the configuration: a listed key, and for publishers without
//! one the policy: none is needed, there is no right, a signed token (`jwt`), or the decision of a
//! back end (`webhook`). Also the right to play a private channel over RTMP.

mod client;
mod credentials;
mod hint;
mod jwt;
mod keys;
mod owned;
mod webhook;

use std::{future::pending, sync::Arc};

use arc_swap::ArcSwap;
use control_api::KeyDigest;
use ingest_rtmp::{
    Authorization, Authorize, Grant, PlayRequest, PublishRequest, Reason, Refusal, StreamKey,
};
use media_core::ChannelName;
use origin_http::Playback;
use tokio::{sync::Notify, time::sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::{Key, Policy, Publish},
    directory::{Directory, Owned},
};
use hint::hint;
use keys::Keys;
use webhook::{BackEnd, Notices};

/// Authorises every publisher, by the configuration in force.
#[derive(Debug)]
pub(crate) struct Publishers {
    rules: ArcSwap<Rules>,
    /// Keys of the daemon itself, which are permanent.
    own: Keys,
    /// Notices to back ends, which outlive a reload.
    notices: Notices,
    /// Decides about players of private channels; without it all are public.
    playback: Option<Arc<Playback>>,
    /// The platform's stream keys, which are valid under every policy.
    directory: Option<Directory>,
    /// Notified when other rules are in force.
    reloaded: Notify,
}

/// The configuration in force. A reload replaces it as a whole.
#[derive(Debug)]
struct Rules {
    /// The configured keys.
    keys: Keys,
    /// Decides about publishers without a listed key.
    policy: Decider,
    /// The other policies that are configured, for channels whose owners have chosen them.
    others: Vec<Decider>,
}

/// A policy with its state.
#[derive(Debug)]
enum Decider {
    /// The right of publishers that need no key.
    Open(CancellationToken),
    Keys,
    Jwt(jwt::Verifier),
    Webhook(Arc<BackEnd>),
}

/// Why a configuration of the right to publish cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A key of tokens.
    #[error("publish.jwt: {0}")]
    Jwt(#[from] jwt::Error),
    /// The back end.
    #[error(transparent)]
    Webhook(#[from] webhook::Error),
}

/// A configuration whose files were read, and which can be applied without a failure.
#[derive(Debug)]
pub(crate) struct Prepared {
    keys: Vec<Key>,
    policy: Decider,
    others: Vec<Decider>,
}

impl Prepared {
    /// A note about the policy for `streamforge check`.
    pub(crate) fn describe(&self) -> String {
        match &self.policy {
            Decider::Open(_) => "open: anyone who reaches the RTMP listener may publish".to_owned(),
            Decider::Keys => format!("{} stream keys", self.keys.len()),
            Decider::Jwt(verifier) => {
                let (own, listed) = (verifier.len(), self.keys.len());
                match verifier.address() {
                    Some(address) => format!(
                        "tokens (keys: {own}, and those at {address}) and {listed} stream keys"
                    ),
                    None => format!("tokens (keys: {own}) and {listed} stream keys"),
                }
            }
            Decider::Webhook(back_end) => {
                format!("{} decides, beside {} stream keys", back_end.address(), self.keys.len())
            }
        }
    }
}

impl Publishers {
    /// The rules of a configuration, without keys of the daemon itself. Blocks for files.
    ///
    /// # Errors
    /// A file of the policy is missing or not valid.
    pub(crate) fn new(publish: &Publish) -> Result<Self, Error> {
        let notices = Notices::default();
        let Prepared { keys, policy, others } = prepare(publish, &notices)?;
        let keys = Keys::new(&keys, &Keys::default());
        let rules = ArcSwap::from_pointee(Rules { keys, policy, others });
        let (own, playback, directory) = (Keys::default(), None, None);
        Ok(Self { rules, own, notices, playback, directory, reloaded: Notify::new() })
    }

    /// Accepts the platform's stream keys.
    pub(crate) fn with_stored_keys(&mut self, directory: Directory) {
        self.directory = Some(directory);
    }

    /// Adds a permanent key, under any policy.
    pub(crate) fn admit(&mut self, channel: ChannelName, key: &str) {
        self.own.push(Key { channel, digest: KeyDigest::of(key) });
    }

    /// Requires a token of players of private channels.
    pub(crate) fn guard(&mut self, playback: Arc<Playback>) {
        self.playback = Some(playback);
    }

    /// Reads the files of another configuration. Blocks.
    ///
    /// # Errors
    /// One is missing or not valid.
    pub(crate) fn prepare(&self, publish: &Publish) -> Result<Prepared, Error> {
        prepare(publish, &self.notices)
    }

    /// Applies another configuration. Publishers are disconnected whose key is no longer listed,
    /// whose token was verified by a key that is gone, or whose policy is no longer in force; the
    /// others continue. Returns the number of withdrawn keys.
    pub(crate) fn reload(&self, prepared: Prepared) -> usize {
        let Prepared { keys, mut policy, mut others } = prepared;
        // Only one task reloads, so nothing changes between this load and the store.
        let before = self.rules.load_full();
        policy.continue_rights(&before.policy);
        for newer in &mut others {
            if let Some(known) = of_kind(&before.others, newer.kind()) {
                newer.continue_rights(known);
            }
        }
        let rules = Arc::new(Rules { keys: Keys::new(&keys, &before.keys), policy, others });
        self.rules.store(Arc::clone(&rules));
        self.reloaded.notify_one();
        // Withdrawn after the new rules are in force: a publisher that reconnects at once is
        // refused.
        let of_others = before.others.iter().map(|known| {
            let newer = of_kind(&rules.others, known.kind());
            known.withdraw_missing(newer.unwrap_or(&Decider::Keys))
        });
        before.keys.withdraw_missing(&rules.keys)
            + before.policy.withdraw_missing(&rules.policy)
            + of_others.sum::<usize>()
    }

    /// Ends the rights of stored keys that concern a key, a channel or an account.
    pub(crate) fn withdraw(&self, subject: Uuid) {
        if let Some(directory) = &self.directory {
            directory.withdraw(subject);
        }
    }

    /// Keeps the key set of tokens fresh, if one is at an address, until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let rules = self.rules.load_full();
            let renewal = match &rules.policy {
                Decider::Jwt(verifier) => {
                    verifier.renew().await;
                    verifier.renewal()
                }
                _ => None,
            };
            let due = async {
                match renewal {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.reloaded.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Waits until back ends are notified of all publishers that have stopped.
    pub(crate) async fn finish(&self) {
        self.notices.finish().await;
    }

    /// The decision about a publisher: the channel and the right, or a refusal with the remedy.
    async fn decide(&self, request: &PublishRequest) -> Result<Grant, Refusal> {
        // The rules are those at the start of the decision, which may take a while.
        let rules = self.rules.load_full();
        // A listed key counts under every policy: the test picture has one under the open policy
        // too. The exact text is compared first, because a key may end with a slash.
        let exact = request.verbatim.iter().map(StreamKey::expose);
        let mut texts = exact.chain([request.key.expose()]);
        let listed = texts.find_map(|key| self.own.find(key).or_else(|| rules.keys.find(key)));
        if let Some(listed) = listed {
            let withdrawn = listed.right.clone();
            let grant = Grant { withdrawn, ..Grant::from(listed.key.channel.clone()) };
            return self.settled(grant, None).await;
        }
        if let Some(stored) = self.stored(request).await? {
            return Ok(stored);
        }
        self.without_key(request, &rules).await
    }
}

impl Publishers {
    /// The right that a stored key grants.
    async fn stored(&self, request: &PublishRequest) -> Result<Option<Grant>, Refusal> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let exact = request.verbatim.iter().map(StreamKey::expose);
        for key in exact.chain([request.key.expose()]) {
            match directory.grant(key).await {
                Ok(None) => {}
                Ok(grant) => return Ok(grant),
                Err(err) => return Err(owned::not_looked_up(&err)),
            }
        }
        Ok(None)
    }
}

/// Publishers without a stream key. On the channel of an account its owner has decided how they are
/// authorised, whatever the policy for other names is.
impl Publishers {
    /// The decision about a publisher that has no stream key.
    async fn without_key(&self, request: &PublishRequest, rules: &Rules) -> Result<Grant, Refusal> {
        let owned = self.owned(request.key.expose()).await?;
        let policy =
            owned.as_ref().map_or(rules.policy.kind(), |owned| owned::chosen(owned.publish));
        let grant = match rules.of(policy) {
            None => return Err(owned::not_configured(policy)),
            // The name as the owner has written it, whatever the publisher wrote.
            Some(Decider::Open(right)) => match &owned {
                Some(owned) => {
                    Grant { withdrawn: right.clone(), ..Grant::from(owned.name.clone()) }
                }
                None => open(request.key.expose(), right)?,
            },
            // Where every name needs a key, the refusal does not reveal which names exist.
            Some(Decider::Keys) if rules.policy.kind() == Policy::Keys => {
                let none = rules.keys.is_empty() && self.own.is_empty() && self.directory.is_none();
                return Err(unknown(request.key.expose(), none));
            }
            Some(Decider::Keys) => return Err(owned::needs_key()),
            Some(Decider::Jwt(verifier)) => verifier.decide(request).await?,
            Some(Decider::Webhook(back_end)) => back_end.decide(request).await?,
        };
        self.settled(grant, Some(policy)).await
    }

    /// A right with the settings of its channel. `policy`: the one that has granted it, which must
    /// be that of the channel, because a token or a back end may name another than the publisher.
    ///
    /// # Errors
    /// The channel's owner has chosen another policy.
    async fn settled(&self, grant: Grant, policy: Option<Policy>) -> Result<Grant, Refusal> {
        let found = match self.owned(grant.channel.as_str()).await {
            // The operator's own keys need no database.
            Err(_) if policy.is_none() => None,
            found => found?,
        };
        let Some(Owned { publish, settings, .. }) = found else { return Ok(grant) };
        match policy.is_none_or(|policy| owned::chosen(publish) == policy) {
            true => Ok(Grant { settings, ..grant }),
            false => Err(owned::needs_key()),
        }
    }

    async fn owned(&self, name: &str) -> Result<Option<Owned>, Refusal> {
        let Some(directory) = &self.directory else { return Ok(None) };
        directory.owned(name).await.map_err(|err| owned::not_looked_up(&err))
    }
}

/// The rules of a configuration.
fn prepare(publish: &Publish, notices: &Notices) -> Result<Prepared, Error> {
    let decider = |policy| {
        Ok::<_, Error>(match policy {
            Policy::Open => Decider::Open(CancellationToken::new()),
            Policy::Keys => Decider::Keys,
            Policy::Jwt => Decider::Jwt(jwt::Verifier::load(&publish.jwt)?),
            Policy::Webhook => {
                Decider::Webhook(Arc::new(BackEnd::new(&publish.webhook, notices.clone())?))
            }
        })
    };
    let is_other = |policy: &Policy| {
        *policy != publish.policy
            && match policy {
                Policy::Open | Policy::Keys => true,
                Policy::Jwt => publish.jwt.has_key(),
                Policy::Webhook => publish.webhook.url.is_some(),
            }
    };
    let others = [Policy::Open, Policy::Keys, Policy::Jwt, Policy::Webhook].into_iter();
    let others = others.filter(is_other).map(decider).collect::<Result<_, _>>()?;
    Ok(Prepared { keys: publish.keys.clone(), policy: decider(publish.policy)?, others })
}

impl Rules {
    /// The policy of this kind, if it is configured.
    fn of(&self, kind: Policy) -> Option<&Decider> {
        match self.policy.kind() == kind {
            true => Some(&self.policy),
            false => of_kind(&self.others, kind),
        }
    }
}

fn of_kind(deciders: &[Decider], kind: Policy) -> Option<&Decider> {
    deciders.iter().find(|decider| decider.kind() == kind)
}

impl Decider {
    fn kind(&self) -> Policy {
        match self {
            Self::Open(_) => Policy::Open,
            Self::Keys => Policy::Keys,
            Self::Jwt(_) => Policy::Jwt,
            Self::Webhook(_) => Policy::Webhook,
        }
    }

    /// Adopts the rights of `before` that stay valid under this policy.
    fn continue_rights(&mut self, before: &Self) {
        match (self, before) {
            (Self::Open(right), Self::Open(known)) => *right = known.clone(),
            (Self::Jwt(verifier), Self::Jwt(known)) => verifier.continue_rights(known),
            // The back end has decided about these publishers, whatever its address is now.
            (Self::Webhook(back_end), Self::Webhook(known)) => back_end.continue_right(known),
            _ => {}
        }
    }

    /// Withdraws the rights that `newer` has not adopted. Returns the number of withdrawn keys.
    fn withdraw_missing(&self, newer: &Self) -> usize {
        match (self, newer) {
            (Self::Jwt(verifier), Self::Jwt(newer)) => verifier.withdraw_missing(Some(newer)),
            (Self::Jwt(verifier), _) => verifier.withdraw_missing(None),
            (Self::Open(_), Self::Open(_)) | (Self::Webhook(_), Self::Webhook(_)) => 0,
            (Self::Open(right), _) => {
                right.cancel();
                0
            }
            (Self::Webhook(back_end), _) => {
                back_end.right().cancel();
                0
            }
            (Self::Keys, _) => 0,
        }
    }
}

impl Authorize for Publishers {
    fn authorize<'a>(&'a self, request: &'a PublishRequest) -> Authorization<'a> {
        Box::pin(self.decide(request))
    }

    fn may_play(&self, request: &PlayRequest) -> Result<(), Refusal> {
        let private = |playback: &&Arc<Playback>| playback.is_private(&request.channel);
        let Some(playback) = self.playback.as_ref().filter(private) else {
            return Ok(());
        };
        let query = request.query.as_ref().map(|query| query.expose());
        let token =
            query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("token=")));
        playback
            .check_token(token, request.peer.ip(), &request.channel, request.broadcast)
            .map_err(|refused| Refusal::new(Reason::Private, refused.to_string()))
    }
}

/// The right without a key, in which the stream key is the channel's name.
fn open(key: &str, right: &CancellationToken) -> Result<Grant, Refusal> {
    match key.parse::<ChannelName>() {
        Ok(channel) => Ok(Grant { withdrawn: right.clone(), ..Grant::from(channel) }),
        Err(err) => Err(Refusal::new(
            Reason::Name,
            format!("{err}; the stream key is the channel's name here{}", hint(key)),
        )),
    }
}

/// The refusal of a key that is not listed. `none`: there are no keys at all.
fn unknown(key: &str, none: bool) -> Refusal {
    match none {
        true => Refusal::denied(
            "this server has no stream keys yet: the operator must add one to the configuration, \
             as [[publish.keys]] with channel = \"NAME\" and key = \"SECRET\", and send SIGHUP to \
             the daemon",
        ),
        false => Refusal::denied(format!(
            "this stream key is not known here: check its spelling, or ask the server's operator \
             for one{}",
            hint(key)
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::Future;

    use ingest_rtmp::ClientInfo;

    use super::*;

    /// A request of 192.0.2.7 to publish with `key`, without a query.
    pub(crate) fn request(key: &str) -> PublishRequest {
        PublishRequest {
            app: "live".into(),
            key: StreamKey::new(key),
            verbatim: None,
            query: None,
            peer: ([192, 0, 2, 7], 1).into(),
            client: ClientInfo::default(),
        }
    }

    /// The decision, which nothing delays under these policies.
    fn now<T>(decision: impl Future<Output = T>) -> T {
        let mut decision = std::pin::pin!(decision);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match decision.as_mut().poll(&mut context) {
            std::task::Poll::Ready(decision) => decision,
            std::task::Poll::Pending => panic!("the decision waits"),
        }
    }

    fn grant(publishers: &Publishers, key: &str) -> Result<Grant, Refusal> {
        now(publishers.decide(&request(key)))
    }

    fn reload(publishers: &Publishers, publish: &Publish) -> usize {
        publishers.reload(publishers.prepare(publish).unwrap())
    }

    fn ask(publishers: &Publishers, key: &str) -> Result<String, Refusal> {
        grant(publishers, key).map(|grant| grant.channel.to_string())
    }

    fn publish(policy: Policy, keys: &[&str]) -> Publish {
        let key = |key: &&str| Key { channel: "one".parse().unwrap(), digest: KeyDigest::of(key) };
        Publish { policy, keys: keys.iter().map(key).collect(), ..Publish::default() }
    }

    fn listed() -> Publishers {
        let mut publishers = Publishers::new(&publish(Policy::Keys, &[])).unwrap();
        publishers.admit("one".parse().unwrap(), "key-of-one");
        publishers.admit("two".parse().unwrap(), "key-of-two");
        publishers
    }

    #[test]
    fn a_listed_key_permits_only_its_channel() {
        assert_eq!(ask(&listed(), "key-of-one").unwrap(), "one");
        assert_eq!(ask(&listed(), "key-of-two").unwrap(), "two");
        let refusal = ask(&listed(), "one").unwrap_err();
        assert_eq!(refusal.reason, Reason::Denied);
        assert!(!refusal.description.contains("key-of"));
    }

    #[test]
    fn without_keys_publishers_are_refused_with_a_hint_to_add_one() {
        let refusal = ask(&Publishers::new(&Publish::default()).unwrap(), "anything").unwrap_err();
        assert_eq!(refusal.reason, Reason::Denied);
        assert!(refusal.description.contains("[[publish.keys]]"), "{}", refusal.description);
    }

    #[test]
    fn with_the_open_policy_the_key_is_the_channel_name() {
        let publishers = Publishers::new(&publish(Policy::Open, &[])).unwrap();
        assert_eq!(ask(&publishers, "demo").unwrap(), "demo");
        assert_eq!(ask(&publishers, "../../etc/passwd").unwrap_err().reason, Reason::Name);
        let words = ask(&publishers, "k17%20").unwrap_err().description;
        assert!(words.contains("the character '%'"), "{words}");
    }

    #[test]
    fn a_key_with_whitespace_or_a_url_is_refused_with_a_hint_and_not_shown() {
        let open = Publishers::new(&publish(Policy::Open, &[])).unwrap();
        for publishers in [listed(), open] {
            for key in ["key-of one", "key-of\none", "https://key-of-one"] {
                let words = ask(&publishers, key).unwrap_err().description;
                assert!(words.ends_with("enter only the stream key in its field"), "{words}");
                assert!(!words.contains("key-of"), "{words}");
            }
            assert!(
                !ask(&publishers, "key/of")
                    .unwrap_err()
                    .description
                    .contains("only the stream key")
            );
        }
    }

    #[test]
    fn a_reload_withdraws_removed_keys_and_keeps_the_others() {
        let mut publishers =
            Publishers::new(&publish(Policy::Keys, &["first-key", "other-key"])).unwrap();
        publishers.admit("own".parse().unwrap(), "own-key-");
        let rights = ["first-key", "other-key", "own-key-"]
            .map(|key| grant(&publishers, key).unwrap().withdrawn);
        assert_eq!(reload(&publishers, &publish(Policy::Keys, &["other-key", "third-key"])), 1);
        assert_eq!(rights.map(|right| right.is_cancelled()), [true, false, false]);
        assert_eq!(ask(&publishers, "first-key").unwrap_err().reason, Reason::Denied);
        assert_eq!(ask(&publishers, "third-key").unwrap(), "one");
        assert_eq!(ask(&publishers, "own-key-").unwrap(), "own");
    }

    #[test]
    fn grants_without_a_listed_key_are_withdrawn_when_the_policy_requires_keys() {
        let publishers = Publishers::new(&publish(Policy::Open, &["first-key"])).unwrap();
        let without = grant(&publishers, "anyone").unwrap().withdrawn;
        let with = grant(&publishers, "first-key").unwrap().withdrawn;
        reload(&publishers, &publish(Policy::Open, &["first-key"]));
        assert!(!without.is_cancelled());
        reload(&publishers, &publish(Policy::Keys, &["first-key"]));
        assert!(without.is_cancelled() && !with.is_cancelled());
        reload(&publishers, &publish(Policy::Open, &[]));
        assert!(with.is_cancelled());
        assert!(!grant(&publishers, "anyone").unwrap().withdrawn.is_cancelled());
    }

    #[test]
    fn a_key_is_compared_exactly_as_sent_before_it_is_stripped() {
        let mut publishers = listed();
        publishers.admit("three".parse().unwrap(), "key-of-three/");
        let mut asked = request("key-of-three");
        assert_eq!(now(publishers.decide(&asked)).unwrap_err().reason, Reason::Denied);
        asked.verbatim = Some(StreamKey::new("key-of-three/"));
        assert_eq!(now(publishers.decide(&asked)).unwrap().channel.as_str(), "three");
        let mut asked = request("key-of-one");
        asked.verbatim = Some(StreamKey::new("live/key-of-one"));
        assert_eq!(now(publishers.decide(&asked)).unwrap().channel.as_str(), "one");
    }

    #[test]
    fn listed_keys_are_valid_under_the_policies_of_tokens_and_back_ends() {
        use crate::{
            config::{Format, Webhook},
            publish::jwt::tests::hs256,
        };
        let webhook = Webhook::at("http://127.0.0.1:9/", Format::MediaMtx);
        for policy in [Policy::Jwt, Policy::Webhook] {
            let publishers = Publishers::new(&Publish {
                jwt: hs256(),
                webhook: webhook.clone(),
                ..publish(policy, &["first-key"])
            });
            assert_eq!(ask(&publishers.unwrap(), "first-key").unwrap(), "one");
        }
    }
}
