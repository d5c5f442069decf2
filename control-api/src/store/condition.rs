//! Whether the database can be read and written, as far as it is known from the last attempt.

use control_domain::Fault;
use redb::Durability;
use tracing::info;

use super::{
    database::{fault, is_of_disk},
    writer::Writer,
};

/// The state of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It can be read, and the last commit succeeded.
    Sound,
    /// It can be read; the last commit failed.
    NotWritable {
        /// The cause.
        cause: String,
    },
    /// It is not open, because the disk fails.
    Closed,
}

impl Writer {
    /// Tries whether a commit succeeds that changes nothing.
    pub(super) fn probe(&mut self) {
        match self.empty_commit() {
            Ok(()) => {
                if self.metrics.last_commit_error().is_some() {
                    info!("a commit succeeds again");
                }
                self.metrics.committed();
            }
            Err(fault) if is_of_disk(&fault) => {
                // The handle logs whether it succeeds.
                let _ = self.database.reopen();
            }
            // The handle has tried to open the file again.
            Err(_) => {}
        }
    }

    fn empty_commit(&self) -> Result<(), Fault> {
        let mut transaction = self.database.writable()?.begin_write().map_err(fault)?;
        transaction.set_durability(Durability::Immediate).map_err(fault)?;
        transaction.commit().map_err(fault)
    }
}
