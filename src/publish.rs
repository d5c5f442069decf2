//! The right to publish according to the configuration: anyone, or publishers with a listed key;
//! and the right to play a private channel over RTMP.

use std::{future::ready, sync::Arc};

use arc_swap::ArcSwap;
use control_api::KeyDigest;
use ingest_rtmp::{Authorization, Authorize, Grant, PlayRequest, PublishRequest, Reason, Refusal};
use media_core::ChannelName;
use origin_http::Playback;
use tokio_util::sync::CancellationToken;

use crate::config::{Key, Policy, Publish};

/// Authorises every publisher, by the configuration in force.
#[derive(Debug)]
pub(crate) struct Publishers {
    rules: ArcSwap<Rules>,
    /// Keys of the daemon itself, which are permanent.
    own: Vec<Listed>,
    /// Decides about players of private channels; without it all are public.
    playback: Option<Arc<Playback>>,
}

/// The configuration in force. A reload replaces it as a whole.
#[derive(Debug)]
struct Rules {
    /// Whether publishers need a key.
    policy: Policy,
    /// The configured keys.
    keys: Vec<Listed>,
    /// The right of publishers that need no key.
    open: CancellationToken,
}

/// A key, and the right granted for it.
#[derive(Debug, Clone)]
struct Listed {
    /// The key's hash, and its channel.
    key: Key,
    /// Cancelled when the key is withdrawn: publishers with this key are then disconnected.
    right: CancellationToken,
}

impl Listed {
    fn new(key: Key) -> Self {
        Self { key, right: CancellationToken::new() }
    }
}

impl Publishers {
    /// The rules of a configuration, without keys of the daemon itself.
    pub(crate) fn new(publish: &Publish) -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules {
                policy: publish.policy,
                keys: publish.keys.iter().cloned().map(Listed::new).collect(),
                open: CancellationToken::new(),
            }),
            own: Vec::new(),
            playback: None,
        }
    }

    /// Adds a permanent key, under any policy.
    pub(crate) fn admit(&mut self, channel: ChannelName, key: &str) {
        self.own.push(Listed::new(Key { channel, digest: KeyDigest::of(key) }));
    }

    /// Requires a token of players of private channels.
    pub(crate) fn guard(&mut self, playback: Arc<Playback>) {
        self.playback = Some(playback);
    }

    /// Applies another configuration. Publishers whose key is no longer listed, or that have no key
    /// where one is required now, are disconnected; the others continue. Returns the number of
    /// withdrawn keys.
    pub(crate) fn reload(&self, publish: &Publish) -> usize {
        // Only one task reloads, so nothing changes between this load and the store.
        let before = self.rules.load_full();
        let known = |key: &Key| before.keys.iter().find(|listed| listed.key == *key).cloned();
        let keys = publish.keys.iter();
        let rules = Rules {
            policy: publish.policy,
            // A key that stays keeps its token, so that its publisher continues.
            keys: keys.map(|key| known(key).unwrap_or_else(|| Listed::new(key.clone()))).collect(),
            open: match (before.policy, publish.policy) {
                (Policy::Open, Policy::Open) => before.open.clone(),
                _ => CancellationToken::new(),
            },
        };
        self.rules.store(Arc::new(rules));
        // A publisher without a key could connect only under the open policy.
        if publish.policy != Policy::Open {
            before.open.cancel();
        }
        let withdrawn = before.keys.iter().filter(|listed| !publish.keys.contains(&listed.key));
        // Cancelled after the new rules are in force: a publisher that reconnects at once is
        // refused.
        withdrawn.inspect(|listed| listed.right.cancel()).count()
    }
}

impl Authorize for Publishers {
    fn authorize<'a>(&'a self, request: &'a PublishRequest) -> Authorization<'a> {
        Box::pin(ready(self.decide(request)))
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

impl Publishers {
    /// The decision about a publisher: the channel and the right, or a refusal with the remedy.
    fn decide(&self, request: &PublishRequest) -> Result<Grant, Refusal> {
        let key = request.key.expose();
        let rules = self.rules.load();
        // All keys are compared, so that the time does not reveal the match.
        let listed = self.own.iter().chain(&rules.keys).fold(None, |found, listed| {
            match listed.key.digest.matches(key) {
                true => Some(listed),
                false => found,
            }
        });
        // A listed key counts under both policies: the test picture has one under the open policy
        // too.
        match (listed, rules.policy) {
            (Some(listed), _) => Ok(Grant {
                withdrawn: listed.right.clone(),
                ..Grant::from(listed.key.channel.clone())
            }),
            (None, Policy::Open) => match key.parse::<ChannelName>() {
                Ok(channel) => Ok(Grant { withdrawn: rules.open.clone(), ..Grant::from(channel) }),
                Err(err) => Err(Refusal::new(
                    Reason::Name,
                    format!("{err}; the stream key is the channel's name here{}", hint(key)),
                )),
            },
            (None, Policy::Keys) if rules.keys.is_empty() && self.own.is_empty() => {
                Err(Refusal::denied(
                    "this server has no stream keys yet: the operator must add one to the \
                     configuration, as [[publish.keys]] with channel = \"NAME\" and key = \
                     \"SECRET\", and send SIGHUP to the daemon",
                ))
            }
            (None, Policy::Keys) => Err(Refusal::denied(format!(
                "this stream key is not known here: check its spelling, or ask the server's \
                 operator for one{}",
                hint(key)
            ))),
        }
    }
}

/// A hint for a key with characters that keys rarely contain; it shows none of them.
fn hint(key: &str) -> &'static str {
    match key.contains(|c: char| c.is_whitespace() || c.is_control()) || key.contains("//") {
        true => {
            "; it contains a space, a line end or an address: enter only the stream key in its \
             field"
        }
        false => "",
    }
}

#[cfg(test)]
mod tests {
    use ingest_rtmp::StreamKey;

    use super::*;

    fn grant(publishers: &Publishers, key: &str) -> Result<Grant, Refusal> {
        let request = PublishRequest {
            app: "live".into(),
            key: StreamKey::new(key),
            query: None,
            peer: ([127, 0, 0, 1], 1).into(),
        };
        publishers.decide(&request)
    }

    fn ask(publishers: &Publishers, key: &str) -> Result<String, Refusal> {
        grant(publishers, key).map(|grant| grant.channel.to_string())
    }

    fn publish(policy: Policy, keys: &[&str]) -> Publish {
        let key = |key: &&str| Key { channel: "one".parse().unwrap(), digest: KeyDigest::of(key) };
        Publish { policy, keys: keys.iter().map(key).collect() }
    }

    fn listed() -> Publishers {
        let mut publishers = Publishers::new(&publish(Policy::Keys, &[]));
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
        let refusal = ask(&Publishers::new(&Publish::default()), "anything").unwrap_err();
        assert_eq!(refusal.reason, Reason::Denied);
        assert!(refusal.description.contains("[[publish.keys]]"), "{}", refusal.description);
    }

    #[test]
    fn with_the_open_policy_the_key_is_the_channel_name() {
        let publishers = Publishers::new(&Publish { policy: Policy::Open, keys: Vec::new() });
        assert_eq!(ask(&publishers, "demo").unwrap(), "demo");
        assert_eq!(ask(&publishers, "../../etc/passwd").unwrap_err().reason, Reason::Name);
        let words = ask(&publishers, "k17%20").unwrap_err().description;
        assert!(words.contains("the character '%'"), "{words}");
    }

    #[test]
    fn a_key_with_whitespace_or_a_url_is_refused_with_a_hint_and_not_shown() {
        let open = Publishers::new(&publish(Policy::Open, &[]));
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
        let mut publishers = Publishers::new(&publish(Policy::Keys, &["first-key", "other-key"]));
        publishers.admit("own".parse().unwrap(), "own-key-");
        let rights = ["first-key", "other-key", "own-key-"]
            .map(|key| grant(&publishers, key).unwrap().withdrawn);
        assert_eq!(publishers.reload(&publish(Policy::Keys, &["other-key", "third-key"])), 1);
        assert_eq!(rights.map(|right| right.is_cancelled()), [true, false, false]);
        assert_eq!(ask(&publishers, "first-key").unwrap_err().reason, Reason::Denied);
        assert_eq!(ask(&publishers, "third-key").unwrap(), "one");
        assert_eq!(ask(&publishers, "own-key-").unwrap(), "own");
    }

    #[test]
    fn grants_without_a_listed_key_are_withdrawn_when_the_policy_requires_keys() {
        let publishers = Publishers::new(&publish(Policy::Open, &["first-key"]));
        let without = grant(&publishers, "anyone").unwrap().withdrawn;
        let with = grant(&publishers, "first-key").unwrap().withdrawn;
        publishers.reload(&publish(Policy::Open, &["first-key"]));
        assert!(!without.is_cancelled());
        publishers.reload(&publish(Policy::Keys, &["first-key"]));
        assert!(without.is_cancelled() && !with.is_cancelled());
        publishers.reload(&publish(Policy::Open, &[]));
        assert!(with.is_cancelled());
        assert!(!grant(&publishers, "anyone").unwrap().withdrawn.is_cancelled());
    }
}
