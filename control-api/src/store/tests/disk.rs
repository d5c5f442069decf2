use std::{
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    process::Command as Process,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    time::Instant,
};

use control_domain::{Envelope, Folding, id::ChannelId};

use super::{metrics::CommandResult, overlay::Overlay, *};
use crate::{Health, Platform, Readiness, health::Status, platform_health::DatabaseHealth};

/// A file whose disk fails on demand: no write reaches it.
#[derive(Debug, Clone)]
struct FailingDisk {
    file: Arc<redb::backends::FileBackend>,
    /// The error of writes; 0 means none.
    errno: Arc<AtomicI32>,
}

impl FailingDisk {
    fn check(&self) -> io::Result<()> {
        match self.errno.load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl redb::StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }
}

/// `ENOSPC` of Linux.
pub(crate) const FULL: i32 = 28;
/// `EROFS` of Linux.
const READ_ONLY: i32 = 30;
/// `EIO` of Linux.
const BROKEN: i32 = 5;

/// Opens the database of a folder on a disk whose writes fail with an error, unless it is 0.
pub(crate) fn open_on(
    errno: &Arc<AtomicI32>,
    folder: &Path,
    features: &'static [&'static Feature],
) -> Store {
    let (path, errno) = (folder.join(DATABASE), Arc::clone(errno));
    let reads = path.clone();
    let open = move || {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).open(&path).map_err(redb::StorageError::Io)?;
        let file = Arc::new(redb::backends::FileBackend::new(file)?);
        let disk = FailingDisk { file, errno: Arc::clone(&errno) };
        redb::Database::builder().create_with_backend(disk)
    };
    let open_for_reads = move || {
        let file = Overlay::open(&reads).map_err(redb::StorageError::Io)?;
        redb::Database::builder().create_with_backend(file)
    };
    let handle = Handle::new(open().expect("the disk works"), open, open_for_reads);
    let vault = KeyVault::open(folder).expect("keys");
    let store =
        Store::with(handle, vault, features, folder, None, Duration::ZERO, NodeRole::Writer);
    store.expect("a sound database")
}

async fn fails_as_long_as_the_disk_does(errno: i32, words: &str) {
    let folder = Folder::new(&format!("disk-{errno}"));
    drop(folder.open());
    let fails = Arc::new(AtomicI32::new(0));
    let store = open_on(&fails, &folder.0, features::ALL);
    let ada = store.send(Actor::Anonymous, register("Ada")).await.expect("free").done;
    let is_there = || {
        let found = store.read(|rows| accounts::queries::account(rows, ada));
        found.expect("it is open").expect("a sound table").is_some()
    };

    for round in 0..3 {
        fails.store(errno, Ordering::Relaxed);
        for _ in 0..3 {
            let refused = store.send(Actor::Anonymous, register("Bob")).await;
            let refused = refused.expect_err("the disk fails");
            assert!(matches!(refused, SendError::NotCommitted(_)), "{refused}");
            let Condition::NotWritable { cause } = store.condition() else {
                panic!("{:?}", store.condition());
            };
            assert!(cause.contains(words), "{cause}");
            assert!(refused.to_string().contains(words), "{refused}");
            assert!(is_there(), "reads go on in round {round}");
            assert_eq!(store.events(0, 10).expect("the log can be read").len(), 1);
        }
        fails.store(0, Ordering::Relaxed);
        assert_eq!(store.sequence(), 1);
        // It is tried once a second.
        let begun = Instant::now();
        loop {
            match store.send(Actor::Anonymous, register("Ada")).await {
                Err(SendError::Refused(_)) => break,
                Err(SendError::NotCommitted(_)) if begun.elapsed() < Duration::from_secs(30) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => panic!("{other:?}"),
            }
            assert!(is_there());
        }
        assert!(is_there());
    }
    store.send(Actor::Anonymous, register("Bob")).await.expect("the disk works again");
    assert_eq!(store.condition(), Condition::Sound);
    assert_eq!(store.sequence(), 2);
    assert_eq!(
        store.metrics().with(CommandResult::NotCommitted),
        store.metrics().commit_failures.get()
    );
    assert!(store.metrics().commit_failures.get() >= 9);
    assert_eq!(store.metrics().with(CommandResult::Done), 2);
    assert_sound(&store);
    drop(store);
    assert_sound(&folder.open());
}

#[tokio::test]
async fn a_disk_that_has_room_again_is_found_without_a_command() {
    let folder = Folder::new("disk-probe");
    drop(folder.open());
    let fails = Arc::new(AtomicI32::new(0));
    let store = open_on(&fails, &folder.0, features::ALL);
    let readiness = Readiness::default();
    readiness.set(true);
    let database = DatabaseHealth(Platform::of(store.clone()));
    let health = Health::new(readiness, vec![Box::new(database)]);
    let status = || health.report().status;
    assert_eq!(status(), Status::Ok);
    fails.store(FULL, Ordering::Relaxed);
    store.send(Actor::Anonymous, register("Ada")).await.expect_err("the disk is full");
    let begun = Instant::now();
    let mut probed = Duration::ZERO;
    while probed < Duration::from_secs(2) {
        store.probe();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Media are served, so that the daemon is ready.
        assert_eq!(status(), Status::Degraded, "it is still full");
        let text = health.report().text();
        assert!(text.starts_with("ready\n") && text.contains("No space left"), "{text}");
        probed = begun.elapsed();
    }
    fails.store(0, Ordering::Relaxed);
    while store.condition() != Condition::Sound {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", store.condition());
        store.probe();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((status(), store.sequence()), (Status::Ok, 0), "a probe adds nothing");
    store.send(Actor::Anonymous, register("Ada")).await.expect("the disk works again");
}

#[tokio::test]
async fn a_full_disk_fails_commands_with_its_reason_and_reads_go_on() {
    fails_as_long_as_the_disk_does(FULL, "No space left on device").await;
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_fails_commands_and_reads_go_on() {
    fails_as_long_as_the_disk_does(READ_ONLY, "Read-only file system").await;
}

#[tokio::test]
async fn a_disk_that_fails_to_write_fails_commands_and_reads_go_on() {
    fails_as_long_as_the_disk_does(BROKEN, "Input/output error").await;
}

/// Whether [`slow`] waits at each event.
static IS_SLOW: AtomicBool = AtomicBool::new(true);

/// The fold of accounts, which takes longer.
fn slow(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    if IS_SLOW.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    accounts::tables::fold(folding, envelope)
}

#[tokio::test]
async fn tables_that_are_built_again_on_a_disk_that_fails_meanwhile_are_complete() {
    let folder = Folder::new("disk-rebuild");
    let store = folder.open();
    for n in 0..200 {
        store.send(Actor::System, creator(&format!("n{n}"))).await.expect("free");
    }
    drop(store);
    let features = updated(|feature| match feature.name {
        "accounts" => Feature { fold: slow, ..next_version(feature) },
        _ => *feature,
    });
    let fails = Arc::new(AtomicI32::new(0));
    let store = open_on(&fails, &folder.0, features);
    // A command ends the first slice early, so that it is committed when the disk fails.
    let channel = ChannelId::new(uuid::Uuid::from_u128(1));
    let delete = channels::commands::Delete { channel };
    store.send(Actor::System, delete).await.expect_err("no such channel");
    fails.store(FULL, Ordering::Relaxed);
    // Longer than all events take, so that the last slice fails.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(store.rebuilding(), ["accounts"], "the disk is full");
    fails.store(0, Ordering::Relaxed);
    IS_SLOW.store(false, Ordering::Relaxed);
    store.ready().await.expect("the log is sound");
    assert_sound(&store);
    let count = store.read(|rows| accounts::queries::page(rows, None, 1000).map(|page| page.len()));
    assert_eq!(count.expect("it is open").expect("sound tables"), 200);
}

/// The folder that the process below opens.
const READER: &str = "STREAMFORGE_STORE_READER";

#[test]
fn a_folder_that_cannot_be_written_is_refused_in_words() {
    if let Some(folder) = std::env::var_os(READER) {
        let refused = Store::open(Path::new(&folder), features::ALL).expect_err("read-only");
        println!("refused {refused}");
        return;
    }
    let folder = Folder::new("read-only");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = folder.open();
    runtime.block_on(store.send(Actor::Anonymous, register("Ada"))).expect("free");
    drop(store);
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let files = fs::read_dir(&folder.0).expect("a folder").map(|file| file.expect("one").path());
    let files = files.collect::<Vec<_>>();
    files.iter().for_each(|file| set_mode(file, 0o444));
    set_mode(&folder.0, 0o555);

    // Modes do not bind root, so that a process of nobody tries.
    let mut reader = Process::new(std::env::current_exe().expect("the test program"));
    let is_root = fs::metadata("/proc/self").expect("Linux").uid() == 0;
    if is_root {
        reader.uid(65534).gid(65534);
    }
    reader.args([
        "--exact",
        "store::tests::disk::a_folder_that_cannot_be_written_is_refused_in_words",
    ]);
    let output = reader.arg("--nocapture").env(READER, &folder.0).output();
    set_mode(&folder.0, 0o755);
    files.iter().for_each(|file| set_mode(file, 0o644));
    let output = output.expect("the test program");
    let text = String::from_utf8_lossy(&output.stdout);
    let refused = text.split_once("refused ").unwrap_or_else(|| panic!("{text}")).1;
    assert!(refused.contains("Permission denied"), "{refused}");
    assert!(refused.contains(".redb"), "{refused}");
    assert!(refused.contains("must be able to write it"), "{refused}");
    assert_sound(&folder.open());
}
