//! The tables of follows, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::{Event, Notices};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::{accounts, channels},
    id::{AccountId, ChannelId},
    rows::{Fault, Order, RowsMut},
    table::{Key, Table},
    time::Time,
};

/// A follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// The notices that the person wants.
    pub notices: Notices,
    /// When it began.
    pub since: Time,
}

/// The channels that a person follows.
pub const FOLLOWS: Table<(AccountId, ChannelId), Follow> = Table::new("follows.follows");
/// The followers of a channel.
pub const BY_CHANNEL: Table<(ChannelId, AccountId), ()> = Table::new("follows.by_channel");
/// The number of followers of a channel that has any.
pub const FOLLOWERS: Table<ChannelId, u64> = Table::new("follows.followers");
/// The number of channels that a person follows.
pub const FOLLOWED: Table<AccountId, u64> = Table::new("follows.followed");
/// Deleted channels whose followers are not removed yet.
pub const DELETED: Table<ChannelId, ()> = Table::new("follows.deleted");

/// The greatest number of channels that a person follows. An erasure folds so many.
pub const MAX_OF_A_PERSON: usize = 2_000;
/// Followers of deleted channels that are removed with each event, more than an event adds.
pub const SWEPT: usize = 100;

/// Applies an event of a follow, or the end of an account or a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    match envelope.kind.as_str() {
        accounts::events::ERASED => {
            let accounts::events::Event::Erased(event) = accounts::events::Event::read(envelope)?
            else {
                return Ok(());
            };
            let follows = FOLLOWS.page(rows, &event.account, None, Order::Up, MAX_OF_A_PERSON)?;
            follows.into_iter().try_for_each(|((person, channel), _)| remove(rows, person, channel))
        }
        channels::events::DELETED => {
            let channels::events::Event::Deleted(event) = channels::events::Event::read(envelope)?
            else {
                return Ok(());
            };
            if FOLLOWERS.contains(rows, &event.channel)? {
                DELETED.put(rows, &event.channel, &())?;
            }
            sweep(rows)
        }
        _ => {
            match Event::read(envelope)? {
                Event::Followed(event) => {
                    let key = (event.person, event.channel);
                    let before = FOLLOWS.get(rows, &key)?;
                    if before.is_none() {
                        BY_CHANNEL.put(rows, &(event.channel, event.person), &())?;
                        count(rows, &FOLLOWERS, &event.channel, |count| count + 1)?;
                        count(rows, &FOLLOWED, &event.person, |count| count + 1)?;
                    }
                    let since = before.map_or(envelope.time, |before| before.since);
                    FOLLOWS.put(rows, &key, &Follow { notices: event.notices, since })?;
                }
                Event::Unfollowed(event) => remove(rows, event.person, event.channel)?,
            }
            sweep(rows)
        }
    }
}

fn remove(rows: &mut dyn RowsMut, person: AccountId, channel: ChannelId) -> Result<(), Fault> {
    if !FOLLOWS.contains(rows, &(person, channel))? {
        return Ok(());
    }
    FOLLOWS.remove(rows, &(person, channel))?;
    BY_CHANNEL.remove(rows, &(channel, person))?;
    count(rows, &FOLLOWERS, &channel, |count| count.saturating_sub(1))?;
    count(rows, &FOLLOWED, &person, |count| count.saturating_sub(1))
}

/// Removes some followers of deleted channels, which queries find no more.
fn sweep(rows: &mut dyn RowsMut) -> Result<(), Fault> {
    let Some((channel, ())) = DELETED.page(rows, &(), None, Order::Up, 1)?.pop() else {
        return Ok(());
    };
    for ((_, person), ()) in BY_CHANNEL.page(rows, &channel, None, Order::Up, SWEPT)? {
        remove(rows, person, channel)?;
    }
    match FOLLOWERS.contains(rows, &channel)? {
        true => Ok(()),
        false => DELETED.remove(rows, &channel),
    }
}

/// Changes a count, whose row exists while it is not zero.
fn count<K: Key>(
    rows: &mut dyn RowsMut,
    table: &Table<K, u64>,
    key: &K,
    change: impl FnOnce(u64) -> u64,
) -> Result<(), Fault> {
    match change(table.get(rows, key)?.unwrap_or_default()) {
        0 => table.remove(rows, key),
        count => table.put(rows, key, &count),
    }
}
