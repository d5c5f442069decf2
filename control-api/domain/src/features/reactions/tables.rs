//! The tables of reactions, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::{Event, Reaction};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::{accounts, videos},
    id::{AccountId, VideoId},
    rows::{Fault, Order, RowsMut},
    table::Table,
};

/// The numbers of reactions to a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Of those that like it.
    pub likes: u64,
    /// Of those that dislike it.
    pub dislikes: u64,
}

/// The reactions to a video.
pub const REACTIONS: Table<(VideoId, AccountId), Reaction> = Table::new("reactions.reactions");
/// The videos to which a person has reacted.
pub const BY_PERSON: Table<(AccountId, VideoId), ()> = Table::new("reactions.by_person");
/// The numbers of reactions to a video that has any.
pub const COUNTS: Table<VideoId, Counts> = Table::new("reactions.counts");
/// Deleted videos whose reactions are not removed yet.
pub const DELETED: Table<VideoId, ()> = Table::new("reactions.deleted");
/// Erased accounts whose reactions are not removed yet.
pub const ERASED: Table<AccountId, ()> = Table::new("reactions.erased");

/// Reactions that an erasure removes at once; the others follow with later events.
pub const SWEPT_AT_ONCE: usize = 1_000;
/// Reactions that are removed with each event, more than an event adds.
pub const SWEPT: usize = 100;

/// Applies an event of a reaction, or the end of an account or a video.
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
            ERASED.put(rows, &event.account, &())?;
            sweep(rows, SWEPT_AT_ONCE)
        }
        videos::events::DELETED => {
            let videos::events::Event::Deleted(event) = videos::events::Event::read(envelope)?
            else {
                return Ok(());
            };
            DELETED.put(rows, &event.video, &())?;
            sweep(rows, SWEPT)
        }
        _ => {
            match Event::read(envelope)? {
                Event::ReactionSet(event) => {
                    remove(rows, event.video, event.person)?;
                    REACTIONS.put(rows, &(event.video, event.person), &event.reaction)?;
                    BY_PERSON.put(rows, &(event.person, event.video), &())?;
                    count(rows, event.video, event.reaction, |count| count + 1)?;
                }
                Event::ReactionRemoved(event) => remove(rows, event.video, event.person)?,
            }
            sweep(rows, SWEPT)
        }
    }
}

fn remove(rows: &mut dyn RowsMut, video: VideoId, person: AccountId) -> Result<(), Fault> {
    let Some(reaction) = REACTIONS.get(rows, &(video, person))? else { return Ok(()) };
    REACTIONS.remove(rows, &(video, person))?;
    BY_PERSON.remove(rows, &(person, video))?;
    count(rows, video, reaction, |count| count.saturating_sub(1))
}

/// Changes the number of one reaction to a video.
fn count(
    rows: &mut dyn RowsMut,
    video: VideoId,
    reaction: Reaction,
    change: impl FnOnce(u64) -> u64,
) -> Result<(), Fault> {
    let mut counts = COUNTS.get(rows, &video)?.unwrap_or_default();
    let count = match reaction {
        Reaction::Like => &mut counts.likes,
        Reaction::Dislike => &mut counts.dislikes,
    };
    *count = change(*count);
    match counts == Counts::default() {
        true => COUNTS.remove(rows, &video),
        false => COUNTS.put(rows, &video, &counts),
    }
}

/// Removes at most `limit` reactions of an erased account, and as many to a deleted video.
fn sweep(rows: &mut dyn RowsMut, limit: usize) -> Result<(), Fault> {
    if let Some((person, ())) = ERASED.page(rows, &(), None, Order::Up, 1)?.pop() {
        let page = BY_PERSON.page(rows, &person, None, Order::Up, limit)?;
        for ((_, video), ()) in &page {
            remove(rows, *video, person)?;
        }
        if page.len() < limit {
            ERASED.remove(rows, &person)?;
        }
    }
    if let Some((video, ())) = DELETED.page(rows, &(), None, Order::Up, 1)?.pop() {
        let page = REACTIONS.page(rows, &video, None, Order::Up, limit)?;
        for ((_, person), _) in &page {
            remove(rows, video, *person)?;
        }
        if page.len() < limit {
            DELETED.remove(rows, &video)?;
        }
    }
    Ok(())
}
