//! The tables of views, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::Event;
pub use super::subject::Subject;
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::{channels, videos},
    id::NodeId,
    rows::{Fault, Order, RowsMut},
    table::Table,
    time::Time,
};

/// Views and watched media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// The number of views.
    pub views: u64,
    /// The watched media in milliseconds.
    pub watched_ms: u64,
}

impl Totals {
    fn add(&mut self, views: u64, watched_ms: u64) {
        self.views = self.views.saturating_add(views);
        self.watched_ms = self.watched_ms.saturating_add(watched_ms);
    }
}

/// The totals of all that was watched.
pub const TOTALS: Table<Subject, Totals> = Table::new("views.totals");
/// The totals of each day, which is counted from 1970-01-01 in UTC.
pub const DAYS: Table<(Subject, u64), Totals> = Table::new("views.days");
/// The last batch of each node.
pub const BATCHES: Table<NodeId, u64> = Table::new("views.batches");
/// Deleted channels and videos whose rows are not removed yet.
pub const DELETED: Table<Subject, ()> = Table::new("views.deleted");

/// Number of days that are kept of a channel or video: three years.
pub const KEPT_DAYS: u64 = 1_096;
/// Rows of deleted things that are removed with each event, more than an event adds.
pub const SWEPT: usize = 100;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// The day of a time, counted from 1970-01-01 in UTC.
pub const fn day(time: Time) -> u64 {
    time.as_millis() / DAY_MS
}

/// Applies an event of views, or the end of a channel or video.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    match envelope.kind.as_str() {
        channels::events::DELETED => {
            if let channels::events::Event::Deleted(event) =
                channels::events::Event::read(envelope)?
            {
                delete(rows, Subject::Channel(event.channel))?;
            }
        }
        videos::events::DELETED => {
            if let videos::events::Event::Deleted(event) = videos::events::Event::read(envelope)? {
                delete(rows, Subject::Video(event.video))?;
            }
        }
        _ => {
            let (subject, minute, node, batch, views, watched_ms) = match Event::read(envelope)? {
                Event::ChannelViewsCounted(event) => {
                    let subject = Subject::Channel(event.channel);
                    (subject, event.minute, event.node, event.batch, event.views, event.watched_ms)
                }
                Event::VideoViewsCounted(event) => {
                    let subject = Subject::Video(event.video);
                    (subject, event.minute, event.node, event.batch, event.views, event.watched_ms)
                }
            };
            BATCHES.put(rows, &node, &batch)?;
            let mut totals = TOTALS.get(rows, &subject)?.unwrap_or_default();
            totals.add(views, watched_ms);
            TOTALS.put(rows, &subject, &totals)?;
            let key = (subject, day(minute));
            let mut totals = DAYS.get(rows, &key)?.unwrap_or_default();
            totals.add(views, watched_ms);
            DAYS.put(rows, &key, &totals)?;
            forget_oldest(rows, key)?;
        }
    }
    sweep(rows)
}

/// Removes the oldest day of a thing, if it is too old by this day.
fn forget_oldest(rows: &mut dyn RowsMut, (subject, day): (Subject, u64)) -> Result<(), Fault> {
    let oldest = DAYS.page(rows, &subject, None, Order::Up, 1)?.pop();
    match oldest {
        Some((key, _)) if key.1.saturating_add(KEPT_DAYS) <= day => DAYS.remove(rows, &key),
        _ => Ok(()),
    }
}

fn delete(rows: &mut dyn RowsMut, subject: Subject) -> Result<(), Fault> {
    match TOTALS.contains(rows, &subject)? {
        true => DELETED.put(rows, &subject, &()),
        false => Ok(()),
    }
}

/// Removes some rows of deleted things, which nobody reads any more.
fn sweep(rows: &mut dyn RowsMut) -> Result<(), Fault> {
    let Some((subject, ())) = DELETED.page(rows, &(), None, Order::Up, 1)?.pop() else {
        return Ok(());
    };
    let days = DAYS.page(rows, &subject, None, Order::Up, SWEPT)?;
    for (key, _) in &days {
        DAYS.remove(rows, key)?;
    }
    if days.len() < SWEPT {
        TOTALS.remove(rows, &subject)?;
        DELETED.remove(rows, &subject)?;
    }
    Ok(())
}
