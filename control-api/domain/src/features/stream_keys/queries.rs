//! Questions about stream keys. They read tables only.

use serde_json::json;

use super::tables::{BY_CHANNEL, BY_DIGEST, KEYS, MAX_OF_A_CHANNEL, StreamKey};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    command::Refusal,
    event::Envelope,
    export::{ExportOf, Portion},
    features::channels::{self, queries::Channel},
    id::{ChannelId, StreamKeyId},
    permission::{Permission, Who},
    rows::{Fault, Order, Rows},
};

/// The actors that may list the keys of a channel.
pub const LIST: Permission =
    Permission { command: "stream_key.list", who: Who::OwnerOr(Role::Administrator) };

/// The keys of a channel for an actor, the oldest first: at most [`MAX_OF_A_CHANNEL`].
///
/// # Errors
/// [`Refusal::NotFound`], or another refusal of [`LIST`].
pub fn list(
    rows: &dyn Rows,
    actor: &Actor,
    channel: ChannelId,
) -> Result<Vec<(StreamKeyId, StreamKey)>, Refusal> {
    let row = channels::queries::channel(rows, channel)?;
    LIST.check(actor, Some(row.owner), channels::queries::is_visible(&row, actor))?;
    Ok(of_channel(rows, channel)?)
}

/// A key, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn key(rows: &dyn Rows, id: StreamKeyId) -> Result<StreamKey, Refusal> {
    KEYS.get(rows, &id)?.ok_or(Refusal::NotFound { thing: "stream_key" })
}

/// The keys of a channel, the oldest first: at most [`MAX_OF_A_CHANNEL`].
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_channel(
    rows: &dyn Rows,
    channel: ChannelId,
) -> Result<Vec<(StreamKeyId, StreamKey)>, Fault> {
    let ids = BY_CHANNEL.page(rows, &channel, None, Order::Up, MAX_OF_A_CHANNEL)?;
    let mut keys = Vec::with_capacity(ids.len());
    for ((_, id), ()) in ids {
        keys.extend(KEYS.get(rows, &id)?.map(|key| (id, key)));
    }
    Ok(keys)
}

/// The key with this digest, and the channel on which it may publish. `None` if the key is unknown
/// or revoked, or its channel is gone.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn right(rows: &dyn Rows, digest: &[u8; 32]) -> Result<Option<(StreamKeyId, Channel)>, Fault> {
    let Some(id) = BY_DIGEST.get(rows, digest)? else { return Ok(None) };
    let Some(key) = KEYS.get(rows, &id)? else { return Ok(None) };
    Ok(channels::queries::find(rows, key.channel)?.map(|channel| (id, channel)))
}

/// The events of a key are for the owner of its channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let id = envelope.subject.parse().ok();
    let key = id.map(|id| KEYS.get(rows, &id)).transpose()?.flatten();
    let channel = key.map(|key| channels::queries::find(rows, key.channel)).transpose()?.flatten();
    Ok(channel.map_or(Audience::Administrators, |channel| Audience::Owner(channel.owner)))
}

/// The stream keys of a person's channels, without their secrets.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, _: Option<&[u8]>) -> Result<Portion, Fault> {
    let mut items = Vec::new();
    for channel in channels::queries::of_owner(person.rows, person.id)? {
        let keys = of_channel(person.rows, channel)?.into_iter().map(|(id, key)| {
            json!({ "id": id, "channel": channel, "name": key.name, "added": key.added })
        });
        items.extend(keys);
    }
    Ok(Portion::whole(items))
}
