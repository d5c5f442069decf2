//! Questions about follows. They read tables only.

use serde_json::json;

pub use super::tables::Follow;
use super::tables::{BY_CHANNEL, FOLLOWED, FOLLOWERS, FOLLOWS};
use crate::{
    actor::Actor,
    audience::Audience,
    event::Envelope,
    export::{self, ExportOf, Portion},
    features::channels,
    id::{AccountId, ChannelId},
    page::{self, Page},
    permission::{Permission, Who},
    rows::{Fault, Order, Rows},
};

/// The actors that may read which channels they follow themselves.
pub const LIST: Permission = Permission { command: "follow.list", who: Who::SignedIn };

/// The follow of a person on a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn follow(
    rows: &dyn Rows,
    person: AccountId,
    channel: ChannelId,
) -> Result<Option<Follow>, Fault> {
    FOLLOWS.get(rows, &(person, channel))
}

/// The number of followers of a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn followers(rows: &dyn Rows, channel: ChannelId) -> Result<u64, Fault> {
    Ok(FOLLOWERS.get(rows, &channel)?.unwrap_or_default())
}

/// The number of channels that a person follows.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn followed(rows: &dyn Rows, person: AccountId) -> Result<u64, Fault> {
    Ok(FOLLOWED.get(rows, &person)?.unwrap_or_default())
}

/// At most `limit` of the channels that a person follows and the actor may know of, the oldest
/// channel first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_person(
    rows: &dyn Rows,
    actor: &Actor,
    person: AccountId,
    after: Option<ChannelId>,
    limit: usize,
) -> Result<Page<(ChannelId, Follow), ChannelId>, Fault> {
    let read = |after: Option<&ChannelId>, count: usize| {
        let after = after.map(|channel| (person, *channel));
        let page = FOLLOWS.page(rows, &person, after.as_ref(), Order::Up, count)?;
        Ok(page.into_iter().map(|((_, channel), _)| channel).collect())
    };
    page::filtered(after, limit, read, |id| {
        let channel = channels::queries::find(rows, *id)?;
        let is_shown = channel.is_some_and(|row| channels::queries::is_visible(&row, actor));
        let follow = FOLLOWS.get(rows, &(person, *id))?.filter(|_| is_shown);
        Ok(follow.map(|follow| (*id, follow)))
    })
}

/// At most `limit` of the followers of a channel behind `after`, the oldest account first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_channel(
    rows: &dyn Rows,
    channel: ChannelId,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<AccountId>, Fault> {
    let after = after.map(|person| (channel, person));
    let page = BY_CHANNEL.page(rows, &channel, after.as_ref(), Order::Up, limit)?;
    Ok(page.into_iter().map(|((_, person), ())| person).collect())
}

/// The channels that a person follows are a matter of that person, on whose behalf it happens.
///
/// # Errors
/// None.
pub fn audience(_: &dyn Rows, _: &Envelope) -> Result<Audience, Fault> {
    Ok(Audience::Administrators)
}

/// The channels that a person follows.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, after: Option<&[u8]>) -> Result<Portion, Fault> {
    let after = export::after(FOLLOWS.name(), after)?;
    let (rows, person) = (person.rows, person.id);
    let page = FOLLOWS.page(rows, &person, after.as_ref(), Order::Up, export::PORTION)?;
    Ok(Portion::page(page.into_iter().map(|(key, follow)| {
        let Follow { notices, since } = follow;
        (key, Some(json!({ "channel": key.1, "notices": notices, "since": since })))
    })))
}
