//! The files of the index: opens them, moves damaged ones away, and writes.
//!
//! Each commit has the sequence of the log up to which its entries are, as its payload. The two
//! cannot differ: after a crash the index is as of its last commit, and the follower goes on from
//! there.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use control_domain::{
    Fault,
    id::{ChannelId, EventId},
};
use serde::{Deserialize, Serialize};
use tantivy::{
    Directory, Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, Term,
    directory::{MmapDirectory, error::OpenDirectoryError},
    indexer::{IndexWriterOptions, LogMergePolicy},
};
use tracing::{info, warn};

use super::{
    entry::{Entry, Thing},
    error::Error,
    schema::{self, Fields, VERSION},
};
use crate::Store;

/// The folder of the index, in that of the database.
const FOLDER: &str = "search";
/// The folder to which a damaged index is moved.
const DAMAGED: &str = "search.damaged";
/// Memory for the words of entries that are not in a segment yet.
const WRITER_BYTES: usize = 20_000_000;
/// The part of deleted entries from which on a segment is written again.
const MAX_DELETED: f32 = 0.3;

/// Opens the directory of the index in a folder.
pub(super) type Disk =
    dyn Fn(&Path) -> Result<Box<dyn Directory>, OpenDirectoryError> + Send + Sync;

/// The disk of the daemon.
///
/// # Errors
/// [`OpenDirectoryError`].
pub(super) fn real_disk(folder: &Path) -> Result<Box<dyn Directory>, OpenDirectoryError> {
    Ok(Box::new(MmapDirectory::open(folder)?))
}

/// How far an index is: the payload of its commit, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    /// The version of the entries.
    pub(super) version: u32,
    /// The last event whose effect is in the index.
    pub(super) sequence: u64,
    /// Its identifier, by which its log is known again; `None` for no event.
    pub(super) event: Option<EventId>,
    /// While the tables are copied for the first time: the part that was copied. The events behind
    /// `sequence` follow afterwards.
    pub(super) copied: Option<Copied>,
}

/// The part of the tables that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copied {
    /// The last channel whose videos were copied, too.
    pub(super) channel: Option<ChannelId>,
}

impl Progress {
    /// The progress of an empty index: the tables are to be copied as they are behind the present
    /// end of the log.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub(super) fn beginning(store: &Store) -> Result<Self, Fault> {
        let sequence = store.sequence();
        let event = event(store, sequence)?;
        let copied = Some(Copied { channel: None });
        Ok(Self { version: VERSION, sequence, event, copied })
    }

    /// Whether it is a place in this log. It is not after the database was restored.
    fn is_of(&self, store: &Store) -> Result<bool, Fault> {
        Ok(self.sequence <= store.sequence() && event(store, self.sequence)? == self.event)
    }
}

/// The identifier of an event.
///
/// # Errors
/// A [`Fault`] of the log.
fn event(store: &Store, sequence: u64) -> Result<Option<EventId>, Fault> {
    let Some(before) = sequence.checked_sub(1) else { return Ok(None) };
    let found = store.events(before, 1)?;
    Ok(found.first().filter(|(found, _)| *found == sequence).map(|(_, envelope)| envelope.id))
}

/// An open index.
pub(super) struct Files {
    /// `None` when it is dropped.
    writer: Option<IndexWriter>,
    reader: IndexReader,
    fields: Fields,
}

/// A view of the index that does not change. Clones share it.
#[derive(Clone)]
pub(super) struct View {
    pub(super) reader: IndexReader,
    pub(super) fields: Fields,
}

impl View {
    /// The entries as of the last commit.
    pub(super) fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }
}

/// What was found in the folder.
enum Found {
    /// A sound index.
    Sound(Index, Progress),
    /// None, or one that is out of date, for this reason.
    None(Option<&'static str>),
}

impl Drop for Files {
    /// Waits for the threads that merge segments, so that nothing uses the folder any more.
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take()
            && let Err(err) = writer.wait_merging_threads()
        {
            warn!(%err, "segments of the search were not merged");
        }
    }
}

impl Files {
    /// The writer, which is there until the end.
    fn writer(&self) -> Result<&IndexWriter, Error> {
        self.writer.as_ref().ok_or(Error::Stopped)
    }

    /// Opens the index in the folder of the database, or makes an empty one: if there is none, if
    /// it is of another version or another log, or if it is damaged. Returns how far it is.
    ///
    /// # Errors
    /// [`Error`] of the disk; a damaged index is none.
    pub(super) fn open(
        platform: &Path,
        disk: &Disk,
        store: &Store,
    ) -> Result<(Self, Progress), Error> {
        let folder = platform.join(FOLDER);
        let of_folder = |error| Error::Folder { path: folder.clone().into(), error };
        // A damaged file may let the crate panic.
        let found = catch_unwind(AssertUnwindSafe(|| inspect(&folder, disk, store)));
        let found = found.unwrap_or_else(|_| Err(Error::Damaged("reading them panics".into())));
        let (index, progress) = match found {
            Ok(Found::Sound(index, progress)) => (index, progress),
            Ok(Found::None(reason)) => {
                if let Some(reason) = reason {
                    info!(reason, "the index of the search is built again");
                }
                remove(&folder).map_err(of_folder)?;
                (create(&folder, disk)?, Progress::beginning(store)?)
            }
            Err(error) if error.is_damage() => {
                let moved = platform.join(DAMAGED);
                warn!(%error, moved_to = %moved.display(),
                    "the index of the search is damaged: it is moved away and built again");
                remove(&moved).map_err(of_folder)?;
                fs::rename(&folder, &moved).map_err(of_folder)?;
                (create(&folder, disk)?, Progress::beginning(store)?)
            }
            Err(error) => return Err(error),
        };
        Ok((Self::with(&index)?, progress))
    }

    fn with(index: &Index) -> Result<Self, Error> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(WRITER_BYTES)
            .build();
        let writer = index.writer_with_options(options)?;
        let mut policy = LogMergePolicy::default();
        policy.set_del_docs_ratio_before_merge(MAX_DELETED);
        writer.set_merge_policy(Box::new(policy));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { writer: Some(writer), reader, fields: Fields::default() })
    }

    /// A view of the entries as of the last commit, now and later.
    pub(super) fn view(&self) -> View {
        View { reader: self.reader.clone(), fields: self.fields.clone() }
    }

    /// Adds an entry of a thing that has none. It is seen after the next commit.
    ///
    /// # Errors
    /// [`Error::Index`]: the index must be opened again.
    pub(super) fn add(&self, entry: Entry) -> Result<(), Error> {
        self.writer()?.add_document(self.fields.document(entry))?;
        Ok(())
    }

    /// Replaces the entry of a thing, or removes it. It is seen after the next commit.
    ///
    /// # Errors
    /// [`Error::Index`]: the index must be opened again.
    pub(super) fn set(&self, thing: Thing, entry: Option<Entry>) -> Result<(), Error> {
        self.writer()?.delete_term(Term::from_field_text(self.fields.keys, &thing.key()));
        entry.map_or(Ok(()), |entry| self.add(entry))
    }

    /// Removes all entries with a key.
    pub(super) fn remove_all(&self, key: &str) {
        if let Some(writer) = &self.writer {
            writer.delete_term(Term::from_field_text(self.fields.keys, key));
        }
    }

    /// Makes all changes durable together with the progress, and lets them be seen.
    ///
    /// # Errors
    /// [`Error::Index`]: the index must be opened again.
    pub(super) fn commit(&mut self, progress: &Progress) -> Result<(), Error> {
        let payload = serde_json::to_string(progress).map_err(tantivy::TantivyError::from)?;
        let writer = self.writer.as_mut().ok_or(Error::Stopped)?;
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&payload);
        commit.commit()?;
        Ok(self.reader.reload()?)
    }
}

/// Looks at the index in a folder. The whole of it is read to compare its check sums, because a
/// damaged file could otherwise be found by a search, or by none.
fn inspect(folder: &Path, disk: &Disk, store: &Store) -> Result<Found, Error> {
    let there_is = folder.join("meta.json").try_exists();
    if !there_is.map_err(|error| Error::Folder { path: folder.into(), error })? {
        return Ok(Found::None(None));
    }
    let mut index = Index::open(disk(folder).map_err(tantivy::TantivyError::from)?)?;
    let fields = Fields::default();
    let payload = index.load_metas()?.payload;
    let progress = payload.and_then(|json| serde_json::from_str::<Progress>(&json).ok());
    let Some(progress) = progress.filter(|progress| progress.version == VERSION) else {
        return Ok(Found::None(Some("it is of another version")));
    };
    if index.schema() != fields.schema {
        return Err(Error::Damaged("they have other fields".into()));
    }
    let damaged = index.validate_checksum()?;
    if let Some(file) = damaged.into_iter().next() {
        return Err(Error::Damaged(file.display().to_string()));
    }
    if !progress.is_of(store)? {
        return Ok(Found::None(Some("it is of another log: the database was restored")));
    }
    index.set_tokenizers(schema::tokenizers());
    Ok(Found::Sound(index, progress))
}

/// Makes an empty index.
fn create(folder: &Path, disk: &Disk) -> Result<Index, Error> {
    fs::create_dir_all(folder).map_err(|error| Error::Folder { path: folder.into(), error })?;
    let directory = disk(folder).map_err(tantivy::TantivyError::from)?;
    let builder = Index::builder().schema(Fields::default().schema);
    Ok(builder.tokenizers(schema::tokenizers()).open_or_create(directory)?)
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The size of the index on the disk in bytes, or 0 if it cannot be read.
pub(super) fn size(platform: &Path) -> u64 {
    let files = fs::read_dir(platform.join(FOLDER)).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}
