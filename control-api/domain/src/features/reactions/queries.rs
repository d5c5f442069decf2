//! Questions about reactions. They read tables only.

use serde_json::json;

pub use super::tables::Counts;
use super::{
    events::Reaction,
    tables::{BY_PERSON, COUNTS, REACTIONS},
};
use crate::{
    actor::Actor,
    audience::Audience,
    command::Refusal,
    event::Envelope,
    export::{self, ExportOf, Portion},
    features::videos,
    id::{AccountId, VideoId},
    page::{self, Page},
    permission::{Permission, Who},
    rows::{Fault, Order, Rows},
};

/// The actors that may read their own reactions.
pub const SHOW: Permission = Permission { command: "reaction.show", who: Who::SignedIn };

/// The reaction of a person to a video.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn reaction(
    rows: &dyn Rows,
    video: VideoId,
    person: AccountId,
) -> Result<Option<Reaction>, Fault> {
    REACTIONS.get(rows, &(video, person))
}

/// The numbers of reactions to a video.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn counts(rows: &dyn Rows, video: VideoId) -> Result<Counts, Fault> {
    Ok(COUNTS.get(rows, &video)?.unwrap_or_default())
}

/// At most `limit` of the videos to which a person has reacted and that the actor may know of, the
/// newest announcement first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_person(
    rows: &dyn Rows,
    actor: &Actor,
    person: AccountId,
    after: Option<VideoId>,
    limit: usize,
) -> Result<Page<(videos::queries::Entry, Reaction), VideoId>, Fault> {
    let read = |after: Option<&VideoId>, count: usize| {
        let after = after.map(|video| (person, *video));
        let page = BY_PERSON.page(rows, &person, after.as_ref(), Order::Down, count)?;
        Ok(page.into_iter().map(|((_, video), ())| video).collect())
    };
    page::filtered(after, limit, read, |video| {
        let entry = match videos::queries::visible(rows, actor, *video) {
            Ok(entry) => entry,
            Err(Refusal::Fault(fault)) => return Err(fault),
            Err(_) => return Ok(None),
        };
        Ok(reaction(rows, *video, person)?.map(|reaction| (entry, reaction)))
    })
}

/// The videos that a person likes are a matter of that person, on whose behalf it happens.
///
/// # Errors
/// None.
pub fn audience(_: &dyn Rows, _: &Envelope) -> Result<Audience, Fault> {
    Ok(Audience::Administrators)
}

/// The reactions of a person.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, after: Option<&[u8]>) -> Result<Portion, Fault> {
    let after = export::after(BY_PERSON.name(), after)?;
    let (rows, person) = (person.rows, person.id);
    let mut found = Vec::new();
    for (key, ()) in BY_PERSON.page(rows, &person, after.as_ref(), Order::Up, export::PORTION)? {
        let reaction = reaction(rows, key.1, person)?;
        let item = reaction.map(|reaction| json!({ "video": key.1, "reaction": reaction }));
        found.push((key, item));
    }
    Ok(Portion::page(found))
}
