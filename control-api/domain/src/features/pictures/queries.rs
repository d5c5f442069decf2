//! Questions about pictures. They read tables only.

use serde_json::json;

use super::{
    events::{Event, PictureHash},
    tables::{AVATARS, BANNERS, CHANNEL_AVATARS, HELD},
};
use crate::{
    audience::Audience,
    event::{Envelope, Events as _},
    export::{ExportOf, Portion},
    features::channels::{self, events::Visibility},
    id::{AccountId, ChannelId},
    rows::{Fault, Rows},
};

/// The picture of an account.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn avatar(rows: &dyn Rows, account: AccountId) -> Result<Option<PictureHash>, Fault> {
    AVATARS.get(rows, &account)
}

/// The picture of a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn channel_avatar(rows: &dyn Rows, channel: ChannelId) -> Result<Option<PictureHash>, Fault> {
    CHANNEL_AVATARS.get(rows, &channel)
}

/// The banner of a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn banner(rows: &dyn Rows, channel: ChannelId) -> Result<Option<PictureHash>, Fault> {
    BANNERS.get(rows, &channel)
}

/// Whether an account or a channel shows a picture, so that its files are needed.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn holds(rows: &dyn Rows, picture: PictureHash) -> Result<bool, Fault> {
    HELD.contains(rows, &picture.0)
}

/// Everybody sees the pictures of accounts and of public channels.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let channel = match Event::read(envelope)? {
        Event::AvatarChanged(_) => return Ok(Audience::Anyone),
        Event::ChannelAvatarChanged(event) => event.channel,
        Event::BannerChanged(event) => event.channel,
    };
    Ok(match channels::queries::find(rows, channel)? {
        Some(channel) if channel.visibility == Visibility::Public => Audience::Anyone,
        Some(channel) => Audience::OwnerAndModerators(channel.owner),
        None => Audience::Administrators,
    })
}

/// The pictures of a person and of their channels. Their files are at
/// `/api/v1/avatars/{picture}/{size}`.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, _: Option<&[u8]>) -> Result<Portion, Fault> {
    let (rows, mut items) = (person.rows, Vec::new());
    let own = avatar(rows, person.id)?;
    items.extend(own.map(|picture| json!({ "use": "avatar", "picture": picture })));
    for channel in channels::queries::of_owner(rows, person.id)? {
        let uses = [("avatar", channel_avatar(rows, channel)?), ("banner", banner(rows, channel)?)];
        for (purpose, picture) in uses {
            let item = |picture| json!({ "use": purpose, "channel": channel, "picture": picture });
            items.extend(picture.map(item));
        }
    }
    Ok(Portion::whole(items))
}
