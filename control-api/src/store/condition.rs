//! Whether the database can be read and written, as far as it is known from the last attempt.

use control_domain::Fault;
use redb::Durability;
use tracing::info;

use super::{
    Store,
    database::{fault, is_of_disk},
    writer::{Message, Writer},
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

impl Store {
    /// The state of the database.
    pub fn condition(&self) -> Condition {
        if self.0.database.get().is_err() {
            return Condition::Closed;
        }
        let cause = self.0.database.not_writable().or_else(|| self.0.metrics.last_commit_error());
        match cause {
            Some(cause) => Condition::NotWritable { cause },
            None => Condition::Sound,
        }
    }

    /// Lets the thread that writes try whether the disk can be written again, if the last commit
    /// failed. Otherwise [`Store::condition`] would show the error until the next command. Does not
    /// wait for the result.
    pub fn probe(&self) {
        if self.condition() == Condition::Sound {
            return;
        }
        if let Some(jobs) = &self.0.jobs {
            // A full queue has commands that show the same.
            let _ = jobs.try_send(Message::Probe);
        }
    }
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
