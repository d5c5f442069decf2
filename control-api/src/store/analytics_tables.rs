//! The tables of minutes, days and batches of views in `traffic.redb`.

use std::time::Duration;

use control_domain::{
    Fault, Rows, RowsMut, Table, Time,
    features::views::{commands::Count, queries::Subject},
    id::NodeId,
};
use serde::{Deserialize, Serialize};

use crate::views::counts::Row;

/// The rows of minutes; the second part of a key is the number of the minute since 1970.
const MINUTES: Table<(Subject, u64), Stored> = Table::new("traffic.minutes");
/// Minutes in the order of time, to find those that are too old.
const MINUTES_BY_TIME: Table<(u64, Subject), ()> = Table::new("traffic.minutes_by_time");
/// The rows of days, numbered since 1970 in UTC.
const DAYS: Table<(Subject, u64), Stored> = Table::new("traffic.days");
/// Days in the order of time.
const DAYS_BY_TIME: Table<(u64, Subject), ()> = Table::new("traffic.days_by_time");
/// The number of rows of a table by the table's name.
pub(super) const SIZES: Table<String, u64> = Table::new("traffic.sizes");
/// Batches that are no events yet, by their number.
pub(super) const BATCHES: Table<u64, Vec<Count>> = Table::new("traffic.view_batches");
/// The node, and the number of its last batch. There is one row.
pub(super) const NODE: Table<u64, Node> = Table::new("traffic.node");

/// The length of time of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A minute.
    Minute,
    /// A day in UTC.
    Day,
}

impl Step {
    /// Its length.
    pub const fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Day => Duration::from_secs(86_400),
        }
    }

    /// The number of the step in which a time is, since 1970.
    pub fn number(self, time: Time) -> u64 {
        time.as_millis() / (self.length().as_secs() * 1_000)
    }

    /// The beginning of a step.
    pub fn begin(self, number: u64) -> Time {
        Time::from_millis(number.saturating_mul(self.length().as_secs() * 1_000))
    }

    pub(super) const fn table(self) -> &'static Table<(Subject, u64), Stored> {
        match self {
            Self::Minute => &MINUTES,
            Self::Day => &DAYS,
        }
    }

    pub(super) const fn by_time(self) -> &'static Table<(u64, Subject), ()> {
        match self {
            Self::Minute => &MINUTES_BY_TIME,
            Self::Day => &DAYS_BY_TIME,
        }
    }
}

/// A row with the version of its format: it cannot be built again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Stored {
    V1(Row),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) batch: u64,
}

/// Makes the tables and the node of a new file.
pub(super) fn prepare(rows: &mut dyn RowsMut) -> Result<(), Fault> {
    let nothing = Subject::Channel(control_domain::id::ChannelId::new(uuid::Uuid::nil()));
    for step in [Step::Minute, Step::Day] {
        step.table().remove(rows, &(nothing, 0))?;
        step.by_time().remove(rows, &(0, nothing))?;
    }
    BATCHES.remove(rows, &0)?;
    SIZES.remove(rows, &String::new())?;
    if !NODE.contains(rows as &dyn Rows, &0)? {
        NODE.put(rows, &0, &Node { id: NodeId::new(uuid::Uuid::new_v4()), batch: 0 })?;
    }
    Ok(())
}
