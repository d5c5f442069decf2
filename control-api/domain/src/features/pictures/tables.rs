//! The tables of pictures, and the fold that writes them.

use super::events::{Event, PictureHash};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::{accounts, channels},
    id::{AccountId, ChannelId},
    rows::{Fault, RowsMut},
    table::{Key, Table},
};

/// The picture of an account.
pub const AVATARS: Table<AccountId, PictureHash> = Table::new("pictures.avatars");
/// The picture of a channel.
pub const CHANNEL_AVATARS: Table<ChannelId, PictureHash> = Table::new("pictures.channel_avatars");
/// The banner of a channel.
pub const BANNERS: Table<ChannelId, PictureHash> = Table::new("pictures.banners");
/// The pictures that are shown. A name is that of one owner and one use, so it is here once.
pub const HELD: Table<[u8; 32], ()> = Table::new("pictures.held");

/// Applies an event of a picture, or the end of an account or a channel.
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
            set(rows, &AVATARS, &event.account, None)
        }
        channels::events::DELETED => {
            let channels::events::Event::Deleted(event) = channels::events::Event::read(envelope)?
            else {
                return Ok(());
            };
            set(rows, &CHANNEL_AVATARS, &event.channel, None)?;
            set(rows, &BANNERS, &event.channel, None)
        }
        _ => match Event::read(envelope)? {
            Event::AvatarChanged(event) => set(rows, &AVATARS, &event.account, event.avatar),
            Event::ChannelAvatarChanged(event) => {
                set(rows, &CHANNEL_AVATARS, &event.channel, event.avatar)
            }
            Event::BannerChanged(event) => set(rows, &BANNERS, &event.channel, event.banner),
        },
    }
}

fn set<K: Key>(
    rows: &mut dyn RowsMut,
    table: &Table<K, PictureHash>,
    owner: &K,
    picture: Option<PictureHash>,
) -> Result<(), Fault> {
    if let Some(before) = table.get(rows, owner)? {
        HELD.remove(rows, &before.0)?;
    }
    match picture {
        Some(picture) => {
            HELD.put(rows, &picture.0, &())?;
            table.put(rows, owner, &picture)
        }
        None => table.remove(rows, owner),
    }
}
