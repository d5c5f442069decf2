//! Questions about channels. They read tables only.

use serde_json::json;

pub use super::tables::Channel;
use super::{
    events::{DELETED, Visibility},
    settings::Settings,
    tables::{BY_NAME, BY_OWNER, CHANNELS, MAX_OF_AN_OWNER, ORPHANED, SETTINGS},
};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    command::Refusal,
    event::Envelope,
    export::{self, ExportOf, Portion},
    id::{AccountId, ChannelId},
    permission::{Permission, Who},
    rows::{Fault, Order, Rows},
    text::ChannelName,
};

/// The actors that may give viewers a token for a channel.
pub const ADMIT_VIEWERS: Permission =
    Permission { command: "channel.admit_viewers", who: Who::OwnerOr(Role::Moderator) };

/// The name of a channel whose viewers the actor may admit.
///
/// # Errors
/// [`Refusal::NotFound`], or another refusal of [`ADMIT_VIEWERS`].
pub fn admitting(rows: &dyn Rows, actor: &Actor, id: ChannelId) -> Result<Channel, Refusal> {
    let channel = channel(rows, id)?;
    ADMIT_VIEWERS.check(actor, Some(channel.owner), is_visible(&channel, actor))?;
    Ok(channel)
}

/// The actors that may read the settings of a channel.
pub const SHOW_SETTINGS: Permission =
    Permission { command: "channel.show_settings", who: Who::OwnerOr(Role::Moderator) };

/// The settings of a channel for an actor.
///
/// # Errors
/// [`Refusal::NotFound`], or another refusal of [`SHOW_SETTINGS`].
pub fn settings_for(rows: &dyn Rows, actor: &Actor, id: ChannelId) -> Result<Settings, Refusal> {
    let channel = channel(rows, id)?;
    SHOW_SETTINGS.check(actor, Some(channel.owner), is_visible(&channel, actor))?;
    Ok(settings(rows, id)?)
}

/// A channel, if there is one.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn find(rows: &dyn Rows, id: ChannelId) -> Result<Option<Channel>, Fault> {
    CHANNELS.get(rows, &id)
}

/// A channel, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn channel(rows: &dyn Rows, id: ChannelId) -> Result<Channel, Refusal> {
    find(rows, id)?.ok_or(Refusal::NotFound { thing: "channel" })
}

/// A channel that the actor may know of, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn visible(rows: &dyn Rows, actor: &Actor, id: ChannelId) -> Result<Channel, Refusal> {
    let channel = channel(rows, id)?;
    match is_visible(&channel, actor) {
        true => Ok(channel),
        false => Err(Refusal::NotFound { thing: "channel" }),
    }
}

/// The channel with a name, in any case.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn by_name(rows: &dyn Rows, name: &ChannelName) -> Result<Option<ChannelId>, Fault> {
    BY_NAME.get(rows, &name.as_str().to_ascii_lowercase())
}

/// The channels of an account, the oldest first: at most [`MAX_OF_AN_OWNER`].
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_owner(rows: &dyn Rows, owner: AccountId) -> Result<Vec<ChannelId>, Fault> {
    let owned = BY_OWNER.page(rows, &owner, None, Order::Up, MAX_OF_AN_OWNER)?;
    Ok(owned.into_iter().map(|((_, channel), ())| channel).collect())
}

/// The settings of a channel's broadcasts.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn settings(rows: &dyn Rows, channel: ChannelId) -> Result<Settings, Fault> {
    Ok(SETTINGS.get(rows, &channel)?.unwrap_or_default())
}

/// At most `limit` channels that are gone because their account was erased, and whose deletion is
/// not an event yet: there is work for `channel.delete_orphans`.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn orphans(rows: &dyn Rows, limit: usize) -> Result<Vec<ChannelId>, Fault> {
    let orphans = ORPHANED.page(rows, &(), None, Order::Up, limit)?;
    Ok(orphans.into_iter().map(|(channel, ())| channel).collect())
}

/// Whether an actor may know that a channel exists.
pub fn is_visible(channel: &Channel, actor: &Actor) -> bool {
    match channel.visibility {
        Visibility::Public | Visibility::Unlisted => true,
        Visibility::Private | Visibility::Members => {
            actor.has(Role::Moderator) || actor.account() == Some(channel.owner)
        }
    }
}

/// Whether a channel is listed for an actor.
pub fn is_listed(channel: &Channel, actor: &Actor) -> bool {
    let is_own = actor.account() == Some(channel.owner);
    channel.visibility == Visibility::Public || is_own || actor.has(Role::Moderator)
}

/// At most `limit` of the channels that are listed for the actor, behind `after`, the oldest first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn page(
    rows: &dyn Rows,
    actor: &Actor,
    after: Option<ChannelId>,
    limit: usize,
) -> Result<Vec<(ChannelId, Channel)>, Fault> {
    let mut listed = Vec::new();
    let mut after = after;
    // Channels that are not listed leave room for others. Each pass reads at least one page.
    while listed.len() < limit {
        let page = CHANNELS.page(rows, &(), after.as_ref(), Order::Up, limit)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        let is_last = page.len() < limit;
        listed.extend(page.into_iter().filter(|(_, channel)| is_listed(channel, actor)));
        if is_last {
            break;
        }
    }
    listed.truncate(limit);
    Ok(listed)
}

/// The events of a public channel are for everybody, and so is the deletion of a channel, which
/// names nothing but its identifier. Other events are for the owner and moderators.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let id = envelope.subject.parse().ok();
    let channel = id.map(|id| CHANNELS.get(rows, &id)).transpose()?.flatten();
    Ok(match channel {
        Some(channel) if channel.visibility == Visibility::Public => Audience::Anyone,
        Some(channel) => Audience::OwnerAndModerators(channel.owner),
        None if envelope.kind == DELETED => Audience::Anyone,
        None => Audience::Administrators,
    })
}

/// The channels of a person, with their settings.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, _: Option<&[u8]>) -> Result<Portion, Fault> {
    let mut items = Vec::new();
    for id in of_owner(person.rows, person.id)? {
        let Some(channel) = find(person.rows, id)? else { continue };
        items.push(json!({
            "id": id,
            "name": channel.name,
            "title": channel.title,
            "description": channel.description,
            "visibility": channel.visibility,
            "settings": export::json(&settings(person.rows, id)?)?,
            "created": channel.created,
            "changed": channel.changed,
        }));
    }
    Ok(Portion::whole(items))
}
