//! Segments and CMAF headers in files, because immutable objects can outlive memory and restarts.
//! Separate threads do the work: a viewer never waits for a busy disk, and after a fault the cache
//! is disabled without an error for viewers.
//!
//! `{dir}/{broadcast}/{track}.{file}` is a head of lines (magic, address, time of creation,
//! lifetime in seconds, headers, an empty line), the bytes, and a checksum of everything before it.
//! A file is written under another name and renamed; it is not synced, because the checksum detects
//! files that a crash has damaged. Files with other names are not touched.

mod index;

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use net_core::Rope;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{metrics::Metrics, object::Object};
use crate::resource::Resource;
use index::Index;

/// First line of each file: the format and its version. Files of other versions are removed when
/// they are read.
const MAGIC: &str = "streamforge edge 2";
/// Prefix of incomplete files.
const UNFINISHED: &str = ".streamforge-";
/// Number of threads: one may wait for the disk while the other reads.
const THREADS: usize = 2;
/// Maximum number of waiting jobs; further ones are dropped.
const QUEUE: usize = 64;
/// CRC-32 of the bytes before it: it detects damage, not forgery, because a user who may write here
/// may write anything.
const CHECKSUM_BYTES: usize = 4;
/// Number of bytes in each write.
const WRITE: usize = 64 << 10;

/// A bounded directory of objects.
#[derive(Debug)]
pub(super) struct Disk {
    shared: Arc<Shared>,
    /// The queue of the threads.
    jobs: SyncSender<Job>,
}

/// The state that the threads share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    /// Largest file in bytes, without its head.
    max_file_bytes: u64,
    index: Mutex<Index>,
    /// A fault has occurred: the cache is not used until the next start.
    off: AtomicBool,
    /// Distinguishes the names of incomplete files of this process.
    serial: AtomicU64,
    /// Shows the bytes in use.
    gauge: Gauge,
}

/// The content of a file.
#[derive(Debug)]
pub(super) struct File {
    /// The fields of the response.
    pub(super) headers: HeaderMap,
    /// Its age now (RFC 9111 4.2.3).
    pub(super) age: Duration,
    /// Its lifetime in total.
    pub(super) lifetime: Duration,
    pub(super) body: Bytes,
}

/// Work of the threads.
#[derive(Debug)]
enum Job {
    /// Find the files of an earlier run.
    Scan,
    /// Read the file of an address.
    Read(Arc<str>, oneshot::Sender<Option<File>>),
    /// Store an object under its address, with its time of creation.
    Write(Arc<str>, Arc<Object>, SystemTime),
}

impl Disk {
    /// The cache in `dir`, of at most `limit` bytes and of files of at most `max_file_bytes`;
    /// `None`, with a warning, if it cannot be used. Its threads end when it is dropped.
    pub(super) fn open(
        dir: &Path,
        limit: u64,
        max_file_bytes: u64,
        metrics: &Metrics,
    ) -> Option<Self> {
        let opened = Self::try_open(dir, limit, max_file_bytes, metrics);
        opened
            .inspect_err(|err| {
                let dir = dir.display();
                warn!(%dir, %err, "disk cache disabled: its directory cannot be used");
            })
            .ok()
    }

    /// See [`Disk::open`].
    ///
    /// # Errors
    /// The directory cannot be created or written, or a thread cannot be started.
    fn try_open(
        dir: &Path,
        limit: u64,
        max_file_bytes: u64,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            max_file_bytes,
            index: Mutex::new(Index::new(limit)),
            off: AtomicBool::new(false),
            serial: AtomicU64::new(0),
            gauge: metrics.on_disk.clone(),
        });
        // A directory that is not writable is useless.
        let probe = shared.unfinished(dir);
        fs::write(&probe, MAGIC)?;
        fs::remove_file(&probe)?;
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let _ = jobs.try_send(Job::Scan);
        for _ in 0..THREADS {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            thread::Builder::new().name("edge-disk".into()).spawn(move || shared.work(&queue))?;
        }
        Ok(Self { shared, jobs })
    }

    /// The size of the file of `target`, which becomes the most recently used.
    pub(super) fn find(&self, target: &Arc<str>) -> Option<u64> {
        self.shared.index().touch(target)
    }

    /// The file of `target`, if it is still fresh. `None` also if the queue is full: the origin is
    /// faster then.
    pub(super) async fn read(&self, target: &Arc<str>) -> Option<File> {
        let (reply, file) = oneshot::channel();
        self.jobs.try_send(Job::Read(Arc::clone(target), reply)).ok()?;
        file.await.ok().flatten()
    }

    /// Stores a whole object, now `age` old, unless the disk is too slow.
    pub(super) fn write(&self, target: &Arc<str>, object: &Arc<Object>, age: Duration) {
        if !self.shared.off.load(Ordering::Relaxed) {
            let born = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            let _ = self.jobs.try_send(Job::Write(Arc::clone(target), Arc::clone(object), born));
        }
    }
}

impl Shared {
    /// Performs jobs until the queue is closed.
    fn work(&self, queue: &Mutex<Receiver<Job>>) {
        loop {
            // The thread that waits for a job holds the lock; the other one waits for the lock, or
            // works.
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if self.off.load(Ordering::Relaxed) {
                continue;
            }
            let done = match job {
                Job::Scan => self.scan(),
                Job::Read(target, reply) => self.read(&target).map(|file| {
                    let _ = reply.send(file);
                }),
                Job::Write(target, object, born) => self.write(&target, &object, born),
            };
            // The first fault disables the cache for good: a disk that is full or failing would
            // otherwise delay every request.
            if let Err(err) = done
                && !self.off.swap(true, Ordering::Relaxed)
            {
                warn!(dir = %self.dir.display(), %err, "disk cache disabled until the next start");
                self.index().clear();
                self.gauge.set(0);
            }
        }
    }

    /// Finds the files of an earlier run and lists them in the order of their last change. Removes
    /// incomplete files, and those beyond the limit.
    fn scan(&self) -> io::Result<()> {
        let mut found = Vec::new();
        // Only names that this cache writes are touched: the operator may have configured a
        // directory with other files.
        for broadcast in fs::read_dir(&self.dir)? {
            let broadcast = broadcast?;
            let name = broadcast.file_name();
            let Some(name) = name.to_str().filter(|_| broadcast.path().is_dir()) else {
                continue;
            };
            for file in fs::read_dir(broadcast.path())? {
                let file = file?;
                // A file counts only if its name has the exact form of an object's; its content is
                // checked when it is read.
                let Some(target) = file.file_name().to_str().and_then(|file| target_of(name, file))
                else {
                    if file.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED)) {
                        remove(&file.path())?;
                    }
                    continue;
                };
                // The file has just been removed.
                let Ok(metadata) = file.metadata() else { continue };
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((modified, target, metadata.len()));
            }
        }
        // The time of the last change stands for the last use, which is not stored.
        found.sort();
        let files = found.len();
        let evicted = {
            let mut index = self.index();
            for (_, target, bytes) in found {
                index.insert(target.into(), bytes);
            }
            index.evict()
        };
        self.remove_all(evicted)?;
        info!(dir = %self.dir.display(), files, "disk cache opened");
        Ok(())
    }

    /// Reads a file. An invalid file is removed, and is no fault of the disk.
    fn read(&self, target: &str) -> io::Result<Option<File>> {
        let path = self.path(target)?;
        // A file that is too large is not read: it cannot be ours, and would exceed the memory that
        // was charged.
        let read = fs::metadata(&path).and_then(|metadata| {
            let too_large = metadata.len() > self.max_file_bytes.saturating_add(64 << 10);
            if too_large { Ok(Vec::new()) } else { fs::read(&path) }
        });
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(err),
        };
        let file = parse(target, bytes.into(), SystemTime::now());
        if file.is_none() {
            self.index().remove(target);
            self.count();
            remove(&path)?;
        }
        Ok(file)
    }

    /// Writes a complete object. A short one is skipped: it has no rope.
    fn write(&self, target: &Arc<str>, object: &Object, born: SystemTime) -> io::Result<()> {
        let Some(rope) = object.content.rope() else {
            return Ok(());
        };
        let path = self.path(target)?;
        let dir = path.parent().unwrap_or(&self.dir);
        let born = born.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // The head is text, so that an operator can read it. Header values that are not ASCII are
        // left out.
        let mut text =
            format!("{MAGIC}\n{target}\n{born}\n{}\n", object.freshness.lifetime().as_secs());
        for (name, value) in &object.headers {
            if let Ok(value) = value.to_str() {
                text.push_str(&format!("{name}: {value}\n"));
            }
        }
        text.push('\n');
        let bytes = text.len() + rope.len() + CHECKSUM_BYTES;
        fs::create_dir_all(dir)?;
        let unfinished = self.unfinished(dir);
        // The new name appears only when the file is complete, so that a crash leaves no partial
        // file under it.
        let written =
            write_file(&unfinished, &text, &rope).and_then(|()| fs::rename(&unfinished, &path));
        if let Err(err) = written {
            let _ = fs::remove_file(&unfinished);
            // A process that has just opened the same cache, as in an upgrade, removes it as
            // incomplete.
            return if err.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(err) };
        }
        let evicted = {
            let mut index = self.index();
            index.insert(Arc::clone(target), bytes as u64);
            index.evict()
        };
        self.remove_all(evicted)
    }

    /// Removes files that are no longer in the index, and directories that become empty.
    fn remove_all(&self, targets: Vec<Arc<str>>) -> io::Result<()> {
        self.count();
        // Outside the lock of the index, because removing files takes long.
        for target in targets {
            let path = self.path(&target)?;
            remove(&path)?;
            if let Some(dir) = path.parent() {
                let _ = fs::remove_dir(dir); // if it is empty
            }
        }
        Ok(())
    }

    /// Updates the gauge.
    fn count(&self) {
        let bytes = self.index().bytes();
        self.gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The path of an object. Its address was parsed, so that no part of it can escape the
    /// directory.
    fn path(&self, target: &str) -> io::Result<PathBuf> {
        let mut parts = target.strip_prefix("/media/").unwrap_or_default().splitn(3, '/');
        // `{broadcast}/{track}/{file}`: the three parts were parsed by `Resource::parse`, and
        // contain no slash and no leading dot.
        match (parts.next(), parts.next(), parts.next()) {
            (Some(broadcast), Some(track), Some(file)) => {
                Ok(self.dir.join(broadcast).join(format!("{track}.{file}")))
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// A new name for an incomplete file in `dir`.
    fn unfinished(&self, dir: &Path) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        dir.join(format!("{UNFINISHED}{}-{serial}", std::process::id()))
    }

    /// The lock is not held while a file is read or written.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of one of our files.
fn target_of(broadcast: &str, file: &str) -> Option<String> {
    let (track, file) = file.split_once('.')?;
    let target = format!("/media/{broadcast}/{track}/{file}");
    matches!(Resource::parse(&target)?, Resource::Media(..)).then_some(target)
}

/// Parses a file of `target`; `None` if it is damaged, another's, or no longer fresh.
fn parse(target: &str, mut bytes: Bytes, now: SystemTime) -> Option<File> {
    // The checksum comes first, so that nothing of a damaged file is interpreted.
    let stated = bytes.split_off(bytes.len().checked_sub(CHECKSUM_BYTES)?).get_u32();
    if stated != crc32fast::hash(&bytes) {
        return None;
    }
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let head = bytes.split_to(end + 2);
    let mut lines = std::str::from_utf8(&head).ok()?.lines();
    if lines.next()? != MAGIC || lines.next()? != target {
        return None;
    }
    let born =
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(lines.next()?.parse().ok()?))?;
    let lifetime = Duration::from_secs(lines.next()?.parse().ok()?);
    // The checksum guarantees that these lines are the ones written; invalid ones would mean
    // another version.
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::from_str(value).ok()?,
        );
    }
    // The clock may have been set back.
    let age = now.duration_since(born).unwrap_or_default();
    (age < lifetime).then_some(File { headers, age, lifetime, body: bytes })
}

/// Removes a file, if it still exists.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Writes a head, the bytes after it, and the checksum of both, piece by piece, because a copy of
/// the whole would take as much memory again.
fn write_file(path: &Path, head: &str, rope: &Rope) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(WRITE, fs::File::create(path)?);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(head.as_bytes());
    file.write_all(head.as_bytes())?;
    for piece in rope.pieces() {
        checksum.update(&piece);
        file.write_all(&piece)?;
    }
    file.write_all(&checksum.finalize().to_be_bytes())?;
    file.flush()
}

#[cfg(test)]
mod tests;
