//! Who may publish, by the configuration: anyone, or who has a key that is listed.

use control_api::KeyDigest;
use ingest_rtmp::{Authorize, PublishRequest, Reason, Refusal};
use media_core::ChannelName;

use crate::config::{Key, Policy, Publish};

/// Answers for every publisher; made once, from the configuration.
#[derive(Debug)]
pub(crate) struct Publishers {
    policy: Policy,
    keys: Vec<Key>,
}

impl Publishers {
    pub(crate) fn new(publish: &Publish) -> Self {
        Self {
            policy: publish.policy,
            keys: publish.keys.clone(),
        }
    }

    /// Lists one more key, whatever the policy.
    pub(crate) fn admit(&mut self, channel: ChannelName, key: &str) {
        self.keys.push(Key {
            channel,
            digest: KeyDigest::of(key),
        });
    }
}

impl Authorize for Publishers {
    fn authorize(&self, request: &PublishRequest) -> Result<ChannelName, Refusal> {
        let key = request.key.expose();
        // All are compared, so that the time tells nothing of which.
        let listed = self
            .keys
            .iter()
            .fold(None, |found, listed| match listed.digest.matches(key) {
                true => Some(&listed.channel),
                false => found,
            });
        match (listed, self.policy) {
            (Some(channel), _) => Ok(channel.clone()),
            (None, Policy::Open) => key.parse().map_err(|err: media_core::Error| {
                Refusal::new(
                    Reason::Name,
                    format!("{err}; the stream key is the channel's name here"),
                )
            }),
            (None, Policy::Keys) if self.keys.is_empty() => Err(Refusal::denied(
                "this server has no stream keys yet: its operator adds one to the configuration, as [[publish.keys]] with \
                 channel = \"NAME\" and key = \"SECRET\", and starts the daemon again",
            )),
            (None, Policy::Keys) => Err(Refusal::denied(
                "this stream key is not known here: check it for a typing mistake, or ask the server's operator for one",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use ingest_rtmp::StreamKey;

    use super::*;

    fn ask(publishers: &Publishers, key: &str) -> Result<String, Refusal> {
        let request = PublishRequest {
            app: "live".into(),
            key: StreamKey::new(key),
            query: None,
            peer: ([127, 0, 0, 1], 1).into(),
        };
        publishers.authorize(&request).map(|channel| channel.to_string())
    }

    fn listed() -> Publishers {
        let mut publishers = Publishers {
            policy: Policy::Keys,
            keys: Vec::new(),
        };
        publishers.admit("one".parse().unwrap(), "key-of-one");
        publishers.admit("two".parse().unwrap(), "key-of-two");
        publishers
    }

    #[test]
    fn a_listed_key_opens_its_channel_and_no_other() {
        assert_eq!(ask(&listed(), "key-of-one").unwrap(), "one");
        assert_eq!(ask(&listed(), "key-of-two").unwrap(), "two");
        let refusal = ask(&listed(), "one").unwrap_err();
        assert_eq!(refusal.reason, Reason::Denied);
        assert!(!refusal.description.contains("key-of"));
    }

    #[test]
    fn with_no_keys_everyone_is_refused_with_the_words_that_say_how_to_add_one() {
        let refusal = ask(&Publishers::new(&Publish::default()), "anything").unwrap_err();
        assert_eq!(refusal.reason, Reason::Denied);
        assert!(
            refusal.description.contains("[[publish.keys]]"),
            "{}",
            refusal.description
        );
    }

    #[test]
    fn where_publishing_is_open_the_key_is_the_name() {
        let publishers = Publishers::new(&Publish {
            policy: Policy::Open,
            keys: Vec::new(),
        });
        assert_eq!(ask(&publishers, "demo").unwrap(), "demo");
        assert_eq!(ask(&publishers, "../../etc/passwd").unwrap_err().reason, Reason::Name);
    }
}
