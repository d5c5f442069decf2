//! Builds the tables of features again from the log, slice by slice, in the thread that writes:
//! between its groups, so that nothing is appended while the last slice ends. Events of such a
//! feature that are committed meanwhile are folded with their slice, and only then.
//!
//! A feature has no version in the database until its tables are complete. If the process ends
//! before, they are built again from the start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use control_domain::{
    Fault, Feature,
    feature::{Folding, fold},
};
use redb::{Database, Durability, ReadableTable as _, TableDefinition, WriteTransaction};
use tokio::sync::watch;
use tracing::{error, info};

use super::{
    buffer::BufferedRows,
    database::{Handle, fault, is_of_all, is_of_disk},
    log,
    rows::{Rebuilding, WriteRows, definition},
    vault::KeyVault,
};

/// The version of each feature's tables, by the feature's name.
const VERSIONS: TableDefinition<&str, u32> = TableDefinition::new("versions");

/// Events that one transaction folds at most. It is not durable, because a crash begins anew.
const SLICE: usize = 50_000;
/// Length of a slice while commands wait.
const SLICE_TIME: Duration = Duration::from_millis(20);
/// Events between two looks at the clock.
const LOOK: usize = 64;
/// Time until the next attempt after an error of the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes all tables, so that queries find empty ones. Returns the features whose tables have
/// another version.
pub(super) fn prepare(
    database: &Database,
    features: &[&'static Feature],
) -> Result<Vec<&'static Feature>, Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    log::create(&transaction)?;
    let mut outdated = Vec::new();
    {
        let has_events = log::Appender::new(&transaction)?.last() > 0;
        let mut versions = transaction.open_table(VERSIONS).map_err(fault)?;
        for feature in features {
            for table in feature.tables {
                transaction.open_table(definition(table)).map_err(fault)?;
            }
            let version = versions.get(feature.name).map_err(fault)?.map(|found| found.value());
            match version == Some(feature.version) {
                true => {}
                false if has_events => outdated.push(*feature),
                false => {
                    versions.insert(feature.name, feature.version).map_err(fault)?;
                }
            }
        }
    }
    transaction.commit().map_err(fault)?;
    Ok(outdated)
}

/// The features whose tables are built again, and how far they are.
pub(super) struct Rebuild {
    all: &'static [&'static Feature],
    /// The features that fold events as they are committed.
    live: Vec<&'static Feature>,
    state: watch::Sender<Arc<Rebuilding>>,
    progress: Progress,
}

/// How far the tables are.
enum Progress {
    /// Old tables may be there.
    NotBegun,
    /// The events up to a sequence are folded.
    Folded {
        after: u64,
        since: Instant,
        /// How often the database was opened again before: if it is once more, slices are lost.
        opened_again: u64,
    },
    /// The disk has failed.
    Paused { until: Instant },
}

impl Rebuild {
    /// Begins with the features whose tables have another version.
    pub(super) fn new(
        all: &'static [&'static Feature],
        outdated: Vec<&'static Feature>,
    ) -> (Self, watch::Receiver<Arc<Rebuilding>>) {
        let (state, receiver) = watch::channel(Arc::default());
        let mut rebuild = Self { all, live: all.to_vec(), state, progress: Progress::NotBegun };
        if !outdated.is_empty() {
            rebuild.add(&outdated);
        }
        (rebuild, receiver)
    }

    /// Builds the tables of these features too. Those that are being built begin anew.
    pub(super) fn add(&mut self, features: &[&'static Feature]) {
        let before = self.rebuilding();
        let all = self.all.iter().filter(|feature| {
            before.contains(feature) || features.iter().any(|other| other.name == feature.name)
        });
        let now = Rebuilding { features: all.copied().collect(), failed: None };
        self.live = self.all.iter().filter(|feature| !now.contains(feature)).copied().collect();
        self.progress = Progress::NotBegun;
        self.state.send_replace(Arc::new(now));
    }

    /// The features whose tables are being built.
    pub(super) fn rebuilding(&self) -> Arc<Rebuilding> {
        Arc::clone(&self.state.borrow())
    }

    /// The features that fold events as they are committed.
    pub(super) fn live(&self) -> &[&'static Feature] {
        &self.live
    }

    /// Whether a slice is to be folded.
    pub(super) fn is_running(&self) -> bool {
        let state = self.state.borrow();
        !state.features.is_empty() && state.failed.is_none()
    }

    /// Folds the next slice. It ends early if `is_urgent`: a command waits.
    pub(super) fn slice(
        &mut self,
        database: &Handle,
        vault: &KeyVault,
        is_urgent: impl Fn() -> bool,
    ) {
        if let Progress::Paused { until } = self.progress {
            if Instant::now() < until {
                return std::thread::sleep(SLICE_TIME);
            }
            self.progress = Progress::NotBegun;
        }
        let Err(fault) = self.try_slice(database, vault, is_urgent) else { return };
        if is_of_disk(&fault) {
            // The handle logs whether it succeeds.
            let _ = database.reopen();
        }
        if is_of_all(&fault) {
            self.progress = Progress::Paused { until: Instant::now() + PAUSE };
            return;
        }
        error!(%fault, "tables cannot be built again: their features are out of service");
        let features = self.rebuilding().features.clone();
        self.state.send_replace(Arc::new(Rebuilding { features, failed: Some(Arc::new(fault)) }));
    }

    fn try_slice(
        &mut self,
        handle: &Handle,
        vault: &KeyVault,
        is_urgent: impl Fn() -> bool,
    ) -> Result<(), Fault> {
        let database = handle.writable()?;
        let features = &self.rebuilding().features;
        let (after, since) = match self.progress {
            Progress::Folded { after, since, opened_again }
                if opened_again == handle.opened_again() =>
            {
                (after, since)
            }
            _ => {
                empty(&database, features)?;
                (0, Instant::now())
            }
        };
        let mut transaction = database.begin_write().map_err(fault)?;
        let slice = fold_slice(&transaction, features, vault, after, is_urgent)?;
        let durability = if slice.is_last { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability).map_err(fault)?;
        if slice.is_last {
            let mut versions = transaction.open_table(VERSIONS).map_err(fault)?;
            for feature in features {
                versions.insert(feature.name, feature.version).map_err(fault)?;
            }
        }
        transaction.commit().map_err(fault)?;
        let (after, opened_again) = (slice.after, handle.opened_again());
        self.progress = Progress::Folded { after, since, opened_again };
        if slice.is_last {
            let names = features.iter().map(|feature| feature.name).collect::<Vec<_>>();
            let seconds = since.elapsed().as_secs_f32();
            info!(?names, events = after, seconds, "tables built again from the log");
            self.live = self.all.to_vec();
            self.progress = Progress::NotBegun;
            self.state.send_replace(Arc::default());
        }
        Ok(())
    }
}

/// Removes the versions and the rows of these features.
fn empty(database: &Database, features: &[&Feature]) -> Result<(), Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    {
        let mut versions = transaction.open_table(VERSIONS).map_err(fault)?;
        for feature in features {
            versions.remove(feature.name).map_err(fault)?;
            for table in feature.tables {
                transaction.delete_table(definition(table)).map_err(fault)?;
                transaction.open_table(definition(table)).map_err(fault)?;
            }
        }
    }
    transaction.commit().map_err(fault)
}

/// Events that were folded.
struct Slice {
    /// The sequence of the last one.
    after: u64,
    /// Whether it is the last of the log.
    is_last: bool,
}

/// Folds the next events behind a sequence.
fn fold_slice(
    transaction: &WriteTransaction,
    features: &[&'static Feature],
    vault: &KeyVault,
    mut after: u64,
    is_urgent: impl Fn() -> bool,
) -> Result<Slice, Fault> {
    let begun = Instant::now();
    let mut rows = BufferedRows::new(WriteRows::new(transaction, Arc::default()));
    let log = transaction.open_table(log::LOG).map_err(fault)?;
    let events = log.range(after.saturating_add(1)..).map_err(fault)?;
    for (count, event) in events.enumerate() {
        let looks = count % LOOK == 0 && count > 0;
        if count == SLICE || looks && begun.elapsed() > SLICE_TIME && is_urgent() {
            rows.finish()?;
            return Ok(Slice { after, is_last: false });
        }
        let (sequence, json) = event.map_err(fault)?;
        let folds = |kind: &str| features.iter().any(|feature| feature.folds(kind));
        if let Some(envelope) = log::parse_if(json.value(), folds)? {
            fold(features, &mut Folding { rows: &mut rows, vault }, &envelope)?;
        }
        after = sequence.value();
    }
    rows.finish()?;
    Ok(Slice { after, is_last: true })
}
