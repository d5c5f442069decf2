//! Searches over a database and an index in a folder of the test.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use control_domain::{
    Actor, Command, Role,
    features::{
        accounts::commands as accounts,
        channels,
        reactions::{commands::React, events::Reaction},
        tags::commands as tags,
        videos::{
            self,
            commands::{Announce, Delete, Edit, Publish, Unpublish},
            details::{Chapters, Details, Edits, Tags, Visibility},
            processing::{FinishProcessing, FinishUpload, StartUpload},
            state::Media,
        },
    },
    id::{AccountId, ChannelId, VideoId},
};
use tantivy::{
    Directory,
    directory::{
        AntiCallToken, FileHandle, MmapDirectory, TerminatingWrite, WatchCallback, WatchHandle,
        WritePtr,
        error::{DeleteError, LockError, OpenReadError, OpenWriteError},
        {DirectoryLock, Lock},
    },
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    find::Hits,
    index::{self, Disk, Files},
    metrics::QueryResult,
    service::{AT_ONCE, NoAnswer, State},
    *,
};
use crate::{
    Platform,
    problem::{Kind, Problem},
};

mod keeping;
mod limits;
mod words;

/// A platform with a search, which runs.
pub(crate) struct Site {
    pub(crate) platform: Platform,
    pub(crate) search: Search,
    folder: PathBuf,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    owner: AccountId,
}

fn details(title: &str, description: &str, tags: &[&str]) -> Details {
    let tags = tags.iter().map(|tag| tag.parse().expect("a tag")).collect::<Vec<_>>();
    Details {
        title: title.parse().expect("a title"),
        description: description.parse().expect("a text"),
        tags: Tags::try_from(tags).expect("a few"),
        category: None,
        language: None,
        visibility: Visibility::Public,
        chapters: Chapters::default(),
    }
}

impl Site {
    async fn new(name: &str) -> Self {
        Self::on(name, Box::new(index::real_disk)).await
    }

    async fn on(name: &str, disk: Box<Disk>) -> Self {
        let name = format!("streamforge-search-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        let search = Search::on(platform.clone(), disk);
        let owner = AccountId::new(uuid::Uuid::nil());
        let mut site = Self { platform, search, folder, running: None, owner };
        site.owner = site.account("ada", Role::Creator).await;
        site.run();
        site
    }

    fn run(&mut self) {
        let stop = CancellationToken::new();
        let serving = self.search.clone().serve(self.folder.clone(), stop.clone());
        self.running = Some((stop, tokio::spawn(serving)));
    }

    /// Stops the search; the platform stays open.
    async fn stop(&mut self) {
        if let Some((stop, running)) = self.running.take() {
            stop.cancel();
            running.await.expect("no panic");
        }
    }

    /// Closes everything, as at a stop of the daemon, and opens it again.
    async fn restart(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.stop().await;
        self.platform.close().await;
        meanwhile(&self.folder);
        self.platform = Platform::default();
        self.platform.open(&self.folder).await.expect("the folder can be written");
        self.search = Search::new(self.platform.clone());
        self.run();
    }

    async fn send<C>(&self, command: C) -> C::Done
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        self.platform.send(Actor::System, command).await.expect("it is permitted").done
    }

    async fn account(&self, name: &str, role: Role) -> AccountId {
        self.send(accounts::Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: accounts::PasswordHash("$argon2id$secret".to_owned()),
            role,
        })
        .await
    }

    async fn channel(&self, name: &str, title: &str) -> ChannelId {
        self.send(channels::commands::Create {
            owner: self.owner,
            name: name.parse().expect("a name"),
            title: title.parse().expect("a title"),
            visibility: channels::events::Visibility::Public,
        })
        .await
    }

    async fn announce(&self, channel: ChannelId, details: Details) -> VideoId {
        self.send(Announce { channel, details, password: None }).await
    }

    async fn publish(&self, channel: ChannelId, details: Details) -> VideoId {
        let video = self.announce(channel, details).await;
        let media = Media { duration_ms: 1_000, width: None, height: None };
        self.send(StartUpload { video }).await;
        self.send(FinishUpload { video, bytes: 1 }).await;
        self.send(FinishProcessing { video, media }).await;
        self.send(Publish { video, at: None }).await;
        video
    }

    async fn titled(&self, channel: ChannelId, title: &str) -> VideoId {
        self.publish(channel, details(title, "", &[])).await
    }

    async fn edit(&self, video: VideoId, edits: Edits) {
        self.send(Edit { video, edits, password: None, expected: None }).await;
    }

    /// Waits until searches see all that has happened, and are answered.
    async fn settled(&self) {
        let sequence = self.platform.store().await.expect("it is open").sequence();
        let mut states = self.search.0.state.subscribe();
        let is_open = states.wait_for(|state| matches!(state, State::Open(_)));
        timeout(Duration::from_secs(60), is_open).await.expect("in time").expect("it lives");
        let mut seen = self.search.0.seen.subscribe();
        let is_seen = seen.wait_for(|seen| *seen >= sequence);
        timeout(Duration::from_secs(60), is_seen).await.expect("in time").expect("it lives");
    }

    async fn hits(&self, wanted: Wanted) -> Result<Hits, Problem> {
        self.search.ask(move |reading| reading.find(&wanted)).await
    }

    /// The things that everybody finds, the best first, after everything has settled.
    async fn find(&self, text: &str) -> Vec<Thing> {
        self.settled().await;
        let hits = self.hits(wanted(text)).await.expect("it is answered");
        hits.places.iter().map(|place| place.rank.thing()).collect()
    }

    /// The same with titles.
    async fn titles(&self, text: &str) -> Vec<String> {
        let mut titles = Vec::new();
        for thing in self.find(text).await {
            let read =
                |rows: &dyn control_domain::Rows| -> Result<String, control_domain::Refusal> {
                    Ok(match thing {
                        Thing::Video(id) => {
                            videos::queries::video(rows, id)?.video.details.title.into()
                        }
                        Thing::Channel(id) => channels::queries::channel(rows, id)?.title,
                    })
                };
            titles.push(self.platform.read(read).await.expect("it exists"));
        }
        titles
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn wanted(text: &str) -> Wanted {
    Wanted {
        asked: Asked::parse(text),
        filters: Filters::of(&Actor::Anonymous, false),
        sort: Sort::Relevance,
        after: None,
        limit: 100,
        needs_all: false,
    }
}

/// A disk that is full on demand: no file can be made or written.
#[derive(Debug, Clone)]
struct FullDisk {
    inner: MmapDirectory,
    is_full: Arc<AtomicBool>,
    refusals: Arc<AtomicUsize>,
}

impl FullDisk {
    fn check(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            // `ENOSPC` of Linux.
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }
}

/// A file of such a disk.
struct FullFile {
    inner: WritePtr,
    disk: FullDisk,
}

impl io::Write for FullFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.check()?;
        self.inner.flush()
    }
}

impl TerminatingWrite for FullFile {
    fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
        self.disk.check()?;
        self.inner.get_mut().terminate_ref(token)
    }
}

impl Directory for FullDisk {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.check().map_err(|error| OpenWriteError::wrap_io_error(error, path.to_owned()))?;
        let inner = self.inner.open_write(path)?;
        Ok(io::BufWriter::new(Box::new(FullFile { inner, disk: self.clone() })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.inner.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(callback)
    }
}
