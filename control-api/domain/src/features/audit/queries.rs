//! Questions about the audit log. They read tables only.

use super::tables::{BY_ACTOR, BY_SUBJECT, BY_TYPE, ENTRIES};
pub use super::tables::{Entry, Place};
use crate::{
    actor::{Actor, ActorId, Role},
    audience::Audience,
    command::{Command as _, Refusal},
    event::Envelope,
    features::channels,
    id::EventId,
    page::{Page, filtered},
    permission::{Permission, Who},
    rows::{Fault, Order, Rows},
    table::Table,
    text::ChannelName,
    time::Time,
};

/// The actors that may read the audit log.
pub const LIST: Permission =
    Permission { command: "audit.list", who: Who::Role(Role::Administrator) };

/// The entries to list. Fields that are absent limit nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// On whose behalf.
    pub actor: Option<ActorId>,
    /// The type of the event.
    pub kind: Option<String>,
    /// The thing that it happened to.
    pub subject: Option<String>,
    /// The earliest time.
    pub from: Option<Time>,
    /// The time before which it happened.
    pub to: Option<Time>,
}

/// An index of the log.
type Index = Table<(String, Time, EventId), ()>;

impl Filter {
    /// Whether it includes an entry, whose time is checked before.
    fn includes(&self, entry: &Entry) -> bool {
        self.actor.is_none_or(|actor| actor == entry.actor)
            && self.kind.as_ref().is_none_or(|kind| *kind == entry.kind)
            && self.subject.as_ref().is_none_or(|subject| *subject == entry.subject)
    }

    /// The index that leaves the fewest entries, as a guess.
    fn index(&self) -> Option<(&'static Index, String)> {
        match self {
            Self { subject: Some(subject), .. } => Some((&BY_SUBJECT, subject.clone())),
            Self { actor: Some(actor), .. } => Some((&BY_ACTOR, actor.to_string())),
            Self { kind: Some(kind), .. } => Some((&BY_TYPE, kind.clone())),
            _ => None,
        }
    }
}

/// A page of the log for an actor, the newest entry first.
///
/// # Errors
/// A refusal of [`LIST`].
pub fn list(
    rows: &dyn Rows,
    actor: &Actor,
    filter: &Filter,
    after: Option<Place>,
    limit: usize,
) -> Result<Page<(Place, Entry), Place>, Refusal> {
    LIST.check(actor, None, true)?;
    // The list goes back in time, so that it begins behind its end.
    let end = filter.to.map(|to| (to, EventId::new(uuid::Uuid::nil())));
    let begin = match (after, end) {
        (Some(after), Some(end)) => Some(after.min(end)),
        (after, end) => after.or(end),
    };
    let index = filter.index();
    let read = |after: Option<&Place>, count: usize| -> Result<Vec<Place>, Fault> {
        let mut places = match &index {
            Some((index, value)) => {
                let after = after.map(|(time, id)| (value.clone(), *time, *id));
                let found = index.page(rows, value, after.as_ref(), Order::Down, count)?;
                found.into_iter().map(|((_, time, id), ())| (time, id)).collect()
            }
            None => {
                let found = ENTRIES.page(rows, &(), after, Order::Down, count)?;
                found.into_iter().map(|(place, _)| place).collect::<Vec<_>>()
            }
        };
        // Shorter than requested: the end of the list.
        places.retain(|(time, _)| filter.from.is_none_or(|from| *time >= from));
        Ok(places)
    };
    let show = |place: &Place| {
        let entry = ENTRIES.get(rows, place)?.filter(|entry| filter.includes(entry));
        Ok(entry.map(|entry| (*place, entry)))
    };
    Ok(filtered(begin, limit, read, show)?)
}

/// Checks that an actor may end the broadcast of a channel.
///
/// # Errors
/// A refusal of `stream.end`.
pub fn may_end_stream(rows: &dyn Rows, actor: &Actor, name: &ChannelName) -> Result<(), Refusal> {
    let channel = match channels::queries::by_name(rows, name)? {
        Some(id) => channels::queries::find(rows, id)?,
        None => None,
    };
    let is_visible =
        channel.as_ref().is_none_or(|channel| channels::queries::is_visible(channel, actor));
    let owner = channel.map(|channel| channel.owner);
    super::commands::EndStream::PERMISSION.check(actor, owner, is_visible)
}

/// Operations of the daemon are for administrators.
///
/// # Errors
/// None.
pub fn audience(_: &dyn Rows, _: &Envelope) -> Result<Audience, Fault> {
    Ok(Audience::Administrators)
}
