//! Requests to add and revoke stream keys.

use super::{
    events::{Added, KeyDigest, Revoked},
    queries,
    tables::MAX_OF_A_CHANNEL,
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::channels,
    id::{AccountId, ChannelId, StreamKeyId},
    permission::Who,
    rows::Rows,
    text::KeyName,
};

/// Adds a key to a channel.
#[derive(Debug)]
pub struct AddKey {
    /// The channel.
    pub channel: ChannelId,
    /// A name for the key, which no other key of the channel has.
    pub name: KeyName,
    /// The digest of the secret, which was made at random.
    pub digest: KeyDigest,
}

impl Command for AddKey {
    const NAME: &'static str = "stream_key.add";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = StreamKeyId;

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(channels::queries::channel(rows, self.channel)?.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        let channel = channels::queries::channel(rows, self.channel)?;
        Ok(channels::queries::is_visible(&channel, actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<StreamKeyId>, Refusal> {
        let keys = queries::of_channel(context.rows, self.channel)?;
        if keys.len() >= MAX_OF_A_CHANNEL {
            return Err(Refusal::Limit { things: "stream keys", limit: MAX_OF_A_CHANNEL as u64 });
        }
        if keys.iter().any(|(_, key)| key.name == self.name.as_str()) {
            return Err(Refusal::Conflict {
                rule: "name_taken",
                reason: "another key of the channel has this name",
            });
        }
        if queries::right(context.rows, &self.digest.0)?.is_some() {
            return Err(Refusal::Conflict { rule: "key_taken", reason: "this key exists" });
        }
        let key = StreamKeyId::new(context.ids.next());
        let event =
            Added { key, channel: self.channel, name: self.name.clone(), digest: self.digest };
        Decision::event(event, key)
    }
}

/// Revokes a key.
#[derive(Debug)]
pub struct RevokeKey {
    /// The key.
    pub key: StreamKeyId,
}

impl Command for RevokeKey {
    const NAME: &'static str = "stream_key.revoke";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        let key = queries::key(rows, self.key)?;
        Ok(Some(channels::queries::channel(rows, key.channel)?.owner))
    }

    /// Nobody but the owner knows a channel's keys.
    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::key(context.rows, self.key)?;
        Decision::event(Revoked { key: self.key }, ())
    }
}
