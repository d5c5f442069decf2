//! The tables of channels, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::{
    events::{Event, Visibility},
    settings::Settings,
};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::accounts,
    id::{AccountId, ChannelId},
    rows::{Fault, Order, RowsMut},
    table::Table,
    time::Time,
};

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The account that owns it.
    pub owner: AccountId,
    /// The name in addresses.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its description.
    pub description: String,
    /// Its visibility.
    pub visibility: Visibility,
    /// When it was made.
    pub created: Time,
    /// When it was last changed.
    pub changed: Time,
}

/// All channels.
pub const CHANNELS: Table<ChannelId, Channel> = Table::new("channels.channels");
/// Channels by their name in lower case.
pub const BY_NAME: Table<String, ChannelId> = Table::new("channels.by_name");
/// Channels of an account.
pub const BY_OWNER: Table<(AccountId, ChannelId), ()> = Table::new("channels.by_owner");
/// The settings of channels that were ever changed.
pub const SETTINGS: Table<ChannelId, Settings> = Table::new("channels.settings");
/// Channels that are gone because their account was erased, until an event says so.
pub const ORPHANED: Table<ChannelId, ()> = Table::new("channels.orphaned");

/// The greatest number of channels of an account.
pub const MAX_OF_AN_OWNER: usize = 20;

/// Applies an event of a channel, or the end of an account.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    if envelope.kind == accounts::events::ERASED {
        let accounts::events::Event::Erased(event) = accounts::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        let owned = BY_OWNER.page(rows, &event.account, None, Order::Up, MAX_OF_AN_OWNER)?;
        return owned.iter().try_for_each(|((_, channel), ())| {
            ORPHANED.put(rows, channel, &())?;
            remove(rows, *channel)
        });
    }
    match Event::read(envelope)? {
        Event::Created(event) => {
            let channel = Channel {
                owner: event.owner,
                name: event.name.into(),
                title: event.title.into(),
                description: String::new(),
                visibility: event.visibility,
                created: envelope.time,
                changed: envelope.time,
            };
            BY_NAME.put(rows, &channel.name.to_ascii_lowercase(), &event.channel)?;
            BY_OWNER.put(rows, &(event.owner, event.channel), &())?;
            CHANNELS.put(rows, &event.channel, &channel)
        }
        Event::Edited(event) => CHANNELS.change(rows, &event.channel, |channel| {
            let edits = event.edits;
            channel.changed = envelope.time;
            if let Some(title) = edits.title {
                channel.title = title.into();
            }
            if let Some(description) = edits.description {
                channel.description = description.into();
            }
            channel.visibility = edits.visibility.unwrap_or(channel.visibility);
        }),
        Event::SettingsChanged(event) => {
            let settings = SETTINGS.get(rows, &event.channel)?.unwrap_or_default();
            SETTINGS.put(rows, &event.channel, &settings.with(event.changes))
        }
        Event::Deleted(event) => {
            ORPHANED.remove(rows, &event.channel)?;
            remove(rows, event.channel)
        }
    }
}

fn remove(rows: &mut dyn RowsMut, id: ChannelId) -> Result<(), Fault> {
    let Some(channel) = CHANNELS.get(rows, &id)? else { return Ok(()) };
    BY_NAME.remove(rows, &channel.name.to_ascii_lowercase())?;
    BY_OWNER.remove(rows, &(channel.owner, id))?;
    SETTINGS.remove(rows, &id)?;
    CHANNELS.remove(rows, &id)
}
