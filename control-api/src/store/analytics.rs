//! How often and how well each channel and video is watched: a row for each minute, kept for days,
//! and one for each day, kept for years. Views wait here in numbered batches until they are events.
//!
//! A minute is written in one commit with its batches, so that after a crash each of its views is
//! recorded once.

use control_domain::{
    Fault, Rows, RowsMut, Time,
    features::views::{
        commands::{Count, MAX_COUNTS},
        queries::Subject,
    },
    id::NodeId,
    rows::Order,
};

use super::{
    analytics_tables::{BATCHES, NODE, SIZES, Step, Stored},
    traffic::Traffic,
};
use crate::views::counts::Row;

/// Rows that are removed at most with each minute, more than a minute adds if it is not the first
/// one after a long time.
const SWEPT: usize = 4_096;
/// Greatest number of rows of minutes, and of days: the oldest are removed for new ones, whatever
/// their age.
const MAX_ROWS: u64 = 1_000_000;

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Number of minutes.
    pub minutes: u64,
    /// Number of days.
    pub days: u64,
}

impl Default for Kept {
    /// Two days, and three years.
    fn default() -> Self {
        Self { minutes: 2 * 24 * 60, days: 1_096 }
    }
}

impl Traffic {
    /// Adds the rows of a minute, which begins at `minute`, and numbers its views as batches. Rows
    /// that are too old are removed.
    ///
    /// # Errors
    /// [`Fault::Storage`]; then nothing has changed.
    pub fn add_minute(
        &self,
        minute: Time,
        counted: &[(Subject, Row)],
        kept: Kept,
    ) -> Result<(), Fault> {
        self.write(|rows| {
            for (subject, row) in counted {
                for step in [Step::Minute, Step::Day] {
                    add(rows, step, *subject, step.number(minute), row)?;
                }
            }
            let counts = counted.iter().map(|(subject, row)| Count {
                subject: *subject,
                minute,
                views: row.all.views,
                watched_ms: row.all.watched_ms,
            });
            let counts = counts.filter(|count| count.views > 0 || count.watched_ms > 0);
            enqueue(rows, &counts.collect::<Vec<_>>())?;
            for (step, kept) in [(Step::Minute, kept.minutes), (Step::Day, kept.days)] {
                sweep(rows, step, step.number(minute).saturating_sub(kept))?;
            }
            Ok(())
        })
    }

    /// The rows of a channel or video from step `first` to step `last` in which there was an
    /// audience, in order: at most `limit`.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Row`].
    pub fn audience(
        &self,
        subject: Subject,
        step: Step,
        first: u64,
        last: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Row)>, Fault> {
        let after = first.checked_sub(1).map(|before| (subject, before));
        let rows = self.rows()?;
        let page = step.table().page(&rows, &subject, after.as_ref(), Order::Up, limit)?;
        let page = page.into_iter().map(|((_, number), Stored::V1(row))| (number, row));
        Ok(page.take_while(|(number, _)| *number <= last).collect())
    }

    /// The node that numbers the batches of this file.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Row`].
    pub fn node(&self) -> Result<NodeId, Fault> {
        let node = NODE.get(&self.rows()?, &0)?;
        node.map(|node| node.id).ok_or(Fault::Row { table: NODE.name() })
    }

    /// At most `limit` batches that are no events yet, in order.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Row`].
    pub fn batches(&self, limit: usize) -> Result<Vec<(u64, Vec<Count>)>, Fault> {
        BATCHES.page(&self.rows()?, &(), None, Order::Up, limit)
    }

    /// Forgets batches that are events, or will never be: those up to this number.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn forget_batches(&self, up_to: u64) -> Result<(), Fault> {
        self.write(|rows| {
            for (number, _) in BATCHES.page(rows, &(), None, Order::Up, SWEPT)? {
                if number <= up_to {
                    BATCHES.remove(rows, &number)?;
                }
            }
            Ok(())
        })
    }

    /// Numbers later batches from after `last` on: an older copy of the file may have been
    /// restored, whose batches would count for sent.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn number_after(&self, last: u64) -> Result<(), Fault> {
        let node = NODE.get(&self.rows()?, &0)?;
        match node.is_some_and(|node| node.batch < last) {
            true => self.write(|rows| NODE.change(rows, &0, |node| node.batch = last)),
            false => Ok(()),
        }
    }
}

/// Adds a row to the one of its step.
fn add(
    rows: &mut dyn RowsMut,
    step: Step,
    subject: Subject,
    number: u64,
    more: &Row,
) -> Result<(), Fault> {
    let key = (subject, number);
    let mut row = match step.table().get(rows as &dyn Rows, &key)? {
        Some(Stored::V1(row)) => row,
        None => {
            step.by_time().put(rows, &(number, subject), &())?;
            let name = step.table().name().to_owned();
            let size = SIZES.get(rows as &dyn Rows, &name)?.unwrap_or_default();
            SIZES.put(rows, &name, &size.saturating_add(1))?;
            Row::default()
        }
    };
    row.merge(more);
    step.table().put(rows, &key, &Stored::V1(row))
}

/// Numbers counts as batches.
fn enqueue(rows: &mut dyn RowsMut, counts: &[Count]) -> Result<(), Fault> {
    let Some(mut node) = NODE.get(rows as &dyn Rows, &0)? else {
        return Err(Fault::Row { table: NODE.name() });
    };
    for batch in counts.chunks(MAX_COUNTS) {
        node.batch = node.batch.saturating_add(1);
        BATCHES.put(rows, &node.batch, &batch.to_vec())?;
    }
    NODE.put(rows, &0, &node)
}

/// Removes the oldest rows: those before step `first`, and those beyond [`MAX_ROWS`].
fn sweep(rows: &mut dyn RowsMut, step: Step, first: u64) -> Result<(), Fault> {
    let name = step.table().name().to_owned();
    let mut size = SIZES.get(rows as &dyn Rows, &name)?.unwrap_or_default();
    for ((number, subject), ()) in step.by_time().page(rows, &(), None, Order::Up, SWEPT)? {
        if number >= first && size <= MAX_ROWS {
            break;
        }
        step.table().remove(rows, &(subject, number))?;
        step.by_time().remove(rows, &(number, subject))?;
        size = size.saturating_sub(1);
    }
    SIZES.put(rows, &name, &size)
}

#[cfg(test)]
mod tests;
