//! The tables of stream keys, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::Event;
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::channels,
    id::{ChannelId, StreamKeyId},
    rows::{Fault, Order, RowsMut},
    table::Table,
    time::Time,
};

/// A stream key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamKey {
    /// The channel on which it may publish.
    pub channel: ChannelId,
    /// The name that its owner gave it.
    pub name: String,
    /// The SHA-256 of the secret.
    pub digest: [u8; 32],
    /// When it was made.
    pub added: Time,
}

/// All valid keys.
pub const KEYS: Table<StreamKeyId, StreamKey> = Table::new("stream_keys.keys");
/// Keys by the digest of their secret.
pub const BY_DIGEST: Table<[u8; 32], StreamKeyId> = Table::new("stream_keys.by_digest");
/// The keys of a channel.
pub const BY_CHANNEL: Table<(ChannelId, StreamKeyId), ()> = Table::new("stream_keys.by_channel");

/// The greatest number of keys of a channel.
pub const MAX_OF_A_CHANNEL: usize = 20;

/// Applies an event of a stream key, or the end of a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    if envelope.kind == channels::events::DELETED {
        let channels::events::Event::Deleted(event) = channels::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        let keys = BY_CHANNEL.page(rows, &event.channel, None, Order::Up, MAX_OF_A_CHANNEL)?;
        return keys.iter().try_for_each(|((_, key), ())| remove(rows, *key));
    }
    match Event::read(envelope)? {
        Event::Added(event) => {
            let key = StreamKey {
                channel: event.channel,
                name: event.name.into(),
                digest: event.digest.0,
                added: envelope.time,
            };
            BY_DIGEST.put(rows, &key.digest, &event.key)?;
            BY_CHANNEL.put(rows, &(key.channel, event.key), &())?;
            KEYS.put(rows, &event.key, &key)
        }
        Event::Revoked(event) => remove(rows, event.key),
    }
}

fn remove(rows: &mut dyn RowsMut, id: StreamKeyId) -> Result<(), Fault> {
    let Some(key) = KEYS.get(rows, &id)? else { return Ok(()) };
    BY_DIGEST.remove(rows, &key.digest)?;
    BY_CHANNEL.remove(rows, &(key.channel, id))?;
    KEYS.remove(rows, &id)
}
