//! Questions about stream keys. They read tables only.

use super::tables::{BY_CHANNEL, BY_DIGEST, KEYS, MAX_OF_A_CHANNEL, StreamKey};
use crate::{
    command::Refusal,
    features::channels::queries::{self as channels, Channel},
    id::{ChannelId, StreamKeyId},
    rows::{Fault, Order, Rows},
};

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
    Ok(channels::find(rows, key.channel)?.map(|channel| (id, channel)))
}
