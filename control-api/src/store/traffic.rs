//! What happens too often to be kept for ever as events: the present refresh token of each session,
//! and its last use; `analytics`: how often and how well each channel is watched. It is in a file
//! of its own, `traffic.redb`, is bounded by age, and is neither folded nor rebuilt: without the
//! file everybody signs in again.
//!
//! Writes are durable when they return, because a refresh token that was used must never become
//! valid again. All calls block for the disk.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use control_domain::{Fault, Rows, RowsMut, Table, Time, id::SessionId, rows::Order};
use redb::{Durability, ReadableDatabase as _};
use serde::{Deserialize, Serialize};

use super::{
    analytics_tables,
    database::{Handle, fault, is_of_disk},
    open_error::OpenError,
    rows::{ReadRows, WriteRows},
};

/// The file, in the platform's folder.
pub(super) const TRAFFIC: &str = "traffic.redb";

/// The time after which a session that is not used cannot be continued.
pub const IDLE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The time for which the second use of a refresh token is taken for a client that did the same
/// thing twice at once, such as two tabs of a browser. It gets no tokens, but its session goes on.
const TWICE: Duration = Duration::from_secs(10);
/// Sessions that are forgotten at most when another begins.
const SWEEP: usize = 16;

/// The present refresh token of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refresh {
    /// Its SHA-256.
    digest: [u8; 32],
    /// The number of tokens before it.
    generation: u32,
    /// When it was issued.
    used: Time,
}

const REFRESH: Table<SessionId, Refresh> = Table::new("traffic.refresh");
/// Sessions by their last use, to find those that are too old.
const BY_USE: Table<(Time, SessionId), ()> = Table::new("traffic.by_use");

/// A refresh token as it was presented: it is known to be issued by this daemon.
#[derive(Debug, Clone, Copy)]
pub struct Presented {
    /// The session.
    pub session: SessionId,
    /// The number of tokens before it.
    pub generation: u32,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

/// The result of presenting a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It was the present one; now the next is.
    Rotated,
    /// It was used a moment ago. Nothing has changed.
    Twice,
    /// It was used before: somebody has a copy. The session cannot be continued.
    Reused,
    /// The session was not used for too long, and cannot be continued.
    Idle,
    /// The session is not known.
    Unknown,
}

/// The open file.
pub struct Traffic {
    handle: Handle,
    /// Held during a write, because only one may open the file again.
    writing: Mutex<()>,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traffic")
    }
}

impl Traffic {
    /// Opens the file in the platform's folder, or makes it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(TRAFFIC);
        let traffic = Self { handle: Handle::open(&path)?, writing: Mutex::new(()) };
        // Reads need tables.
        traffic.write(|rows| {
            let nobody = SessionId::new(uuid::Uuid::nil());
            REFRESH.remove(rows, &nobody)?;
            BY_USE.remove(rows, &(Time::default(), nobody))?;
            analytics_tables::prepare(rows)
        })?;
        Ok(traffic)
    }

    /// Begins a session with its first refresh token. Forgets some that are too old.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn begin(&self, session: SessionId, digest: [u8; 32], now: Time) -> Result<(), Fault> {
        self.write(|rows| {
            for ((used, old), ()) in BY_USE.page(rows, &(), None, Order::Up, SWEEP)? {
                if used.after(IDLE) <= now {
                    forget(rows, old)?;
                }
            }
            put(rows, session, &Refresh { digest, generation: 0, used: now })
        })
    }

    /// Replaces the present refresh token of a session, if this is it. After another result but
    /// [`Rotation::Twice`] the session has none.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn rotate(
        &self,
        presented: Presented,
        next: [u8; 32],
        now: Time,
    ) -> Result<Rotation, Fault> {
        let Presented { session, generation, digest } = presented;
        self.write(|rows| {
            let Some(present) = REFRESH.get(rows, &session)? else { return Ok(Rotation::Unknown) };
            let rotation = match generation {
                _ if present.used.after(IDLE) <= now => Rotation::Idle,
                _ if generation == present.generation && digest == present.digest => {
                    let generation = generation.saturating_add(1);
                    forget(rows, session)?;
                    put(rows, session, &Refresh { digest: next, generation, used: now })?;
                    return Ok(Rotation::Rotated);
                }
                // A copy of the file was restored, so that nobody knows the present one.
                _ if generation >= present.generation => Rotation::Unknown,
                _ if generation + 1 == present.generation && now < present.used.after(TWICE) => {
                    return Ok(Rotation::Twice);
                }
                _ => Rotation::Reused,
            };
            forget(rows, session)?;
            Ok(rotation)
        })
    }

    /// Forgets sessions that have ended.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn forget(&self, sessions: &[SessionId]) -> Result<(), Fault> {
        match sessions {
            [] => Ok(()),
            _ => self.write(|rows| sessions.iter().try_for_each(|session| forget(rows, *session))),
        }
    }

    /// When each of these sessions was last used; `None` for one that cannot be continued.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn last_use(&self, sessions: &[SessionId], now: Time) -> Result<Vec<Option<Time>>, Fault> {
        let rows = self.rows()?;
        let used = sessions.iter().map(|session| {
            let used = REFRESH.get(&rows, session)?.map(|present| present.used);
            Ok(used.filter(|used| now < used.after(IDLE)))
        });
        used.collect()
    }

    /// The tables as they are now. None of them is ever built again.
    pub(super) fn rows(&self) -> Result<ReadRows, Fault> {
        let snapshot = self.handle.get()?.begin_read().map_err(fault)?;
        Ok(ReadRows::of(snapshot, Arc::default()))
    }

    /// Writes in one transaction, which is durable afterwards.
    pub(super) fn write<T>(
        &self,
        act: impl FnOnce(&mut dyn RowsMut) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.handle.writable().and_then(|database| {
            let mut transaction = database.begin_write().map_err(fault)?;
            transaction.set_durability(Durability::Immediate).map_err(fault)?;
            let mut rows = WriteRows::new(&transaction, Arc::default());
            let done = act(&mut rows)?;
            drop(rows);
            transaction.commit().map_err(fault)?;
            Ok(done)
        });
        if written.as_ref().is_err_and(is_of_disk) {
            // The next write tries again if it is still impossible.
            let _ = self.handle.reopen();
        }
        written
    }
}

fn put(rows: &mut dyn RowsMut, session: SessionId, refresh: &Refresh) -> Result<(), Fault> {
    BY_USE.put(rows, &(refresh.used, session), &())?;
    REFRESH.put(rows, &session, refresh)
}

fn forget(rows: &mut dyn RowsMut, session: SessionId) -> Result<(), Fault> {
    let Some(present) = REFRESH.get(rows as &dyn Rows, &session)? else { return Ok(()) };
    BY_USE.remove(rows, &(present.used, session))?;
    REFRESH.remove(rows, &session)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("streamforge-traffic-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn open(&self) -> Traffic {
            Traffic::open(&self.0).expect("the folder can be written")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const START: Time = Time::from_millis(1_796_000_000_000);

    fn session(n: u128) -> SessionId {
        SessionId::new(uuid::Uuid::from_u128(n))
    }

    /// The token of this generation of a session has this number as its digest.
    fn presented(session: SessionId, generation: u8) -> Presented {
        Presented { session, generation: generation.into(), digest: [generation; 32] }
    }

    /// Uses the token of this generation.
    fn rotate(traffic: &Traffic, generation: u8, now: Time) -> Rotation {
        let next = [generation + 1; 32];
        traffic.rotate(presented(session(1), generation), next, now).expect("the disk has room")
    }

    #[test]
    fn a_token_is_used_once_also_after_a_restart() {
        let folder = Folder::new("once");
        let traffic = folder.open();
        traffic.begin(session(1), [0; 32], START).expect("the disk has room");
        let later = START.after(Duration::from_secs(600));
        assert_eq!(rotate(&traffic, 0, later), Rotation::Rotated);
        drop(traffic);
        let traffic = folder.open();
        assert_eq!(
            traffic.last_use(&[session(1), session(2)], later).unwrap(),
            [Some(later), None]
        );
        assert_eq!(rotate(&traffic, 1, later.after(TWICE)), Rotation::Rotated);
        let reused = later.after(2 * TWICE);
        assert_eq!(rotate(&traffic, 1, reused), Rotation::Reused);
        // The holder of the copy and the owner are both out.
        assert_eq!(rotate(&traffic, 2, reused), Rotation::Unknown);
        assert_eq!(traffic.last_use(&[session(1)], reused).unwrap(), [None]);
    }

    #[test]
    fn two_tabs_that_refresh_at_once_do_not_end_the_session() {
        let folder = Folder::new("tabs");
        let traffic = folder.open();
        traffic.begin(session(1), [0; 32], START).expect("the disk has room");
        assert_eq!(rotate(&traffic, 0, START), Rotation::Rotated);
        let just = START.after(TWICE - Duration::from_millis(1));
        assert_eq!(rotate(&traffic, 0, just), Rotation::Twice);
        assert_eq!(rotate(&traffic, 1, just), Rotation::Rotated);
        // Two generations ago is no such case, however soon.
        assert_eq!(rotate(&traffic, 0, just), Rotation::Reused);
    }

    #[test]
    fn a_session_that_is_not_used_cannot_be_continued_and_is_forgotten() {
        let folder = Folder::new("idle");
        let traffic = folder.open();
        for n in 1..=30 {
            traffic.begin(session(n), [0; 32], START).expect("the disk has room");
        }
        let last = START.after(IDLE - Duration::from_millis(1));
        assert_eq!(rotate(&traffic, 0, last), Rotation::Rotated);
        let end = START.after(IDLE);
        let next = [9; 32];
        assert_eq!(traffic.rotate(presented(session(2), 0), next, end).unwrap(), Rotation::Idle);
        assert_eq!(traffic.last_use(&[session(1), session(3)], end).unwrap(), [Some(last), None]);
        for n in 100..102 {
            traffic.begin(session(n), [0; 32], end).expect("the disk has room");
        }
        let rows = traffic.rows().unwrap();
        let left = BY_USE.page(&rows, &(), None, Order::Up, 100).unwrap();
        let left = left.into_iter().map(|((_, id), ())| id).collect::<Vec<_>>();
        assert_eq!(left, [session(1), session(100), session(101)]);
    }

    #[test]
    fn another_token_of_the_present_generation_is_unknown() {
        let folder = Folder::new("other");
        let traffic = folder.open();
        traffic.begin(session(1), [7; 32], START).expect("the disk has room");
        assert_eq!(rotate(&traffic, 0, START), Rotation::Unknown);
        traffic.forget(&[session(1), session(2)]).expect("the disk has room");
        assert_eq!(rotate(&traffic, 0, START), Rotation::Unknown);
    }
}
