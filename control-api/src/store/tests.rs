use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command as Process, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use control_domain::{
    Actor, Command, Context, Refusal, Role, Vault as _, Who,
    command::Decision,
    features::{
        self,
        accounts::{self, commands::*},
        channels,
    },
    id::AccountId,
};
use redb::TableDefinition;

use super::{archive::ArchiveError, *};

/// A folder that is deleted when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("streamforge-store-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> Store {
        Store::open(&self.0, features::ALL).expect("the folder can be written")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn register(name: &str) -> Register {
    Register {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: PasswordHash("$argon2id$secret".to_owned()),
    }
}

fn creator(name: &str) -> Add {
    let Register { name, email, password } = register(name);
    Add { name, email, password, role: Role::Creator }
}

fn create(owner: AccountId, name: &str) -> channels::commands::Create {
    channels::commands::Create {
        owner,
        name: name.parse().expect("a channel name"),
        title: "A title".parse().expect("a title"),
        visibility: channels::events::Visibility::Public,
    }
}

fn account(store: &Store, id: AccountId) -> Option<accounts::tables::Account> {
    let found = store.read(|rows| accounts::queries::account(rows, id));
    found.and_then(|found| found).expect("the tables can be read")
}

fn assert_sound(store: &Store) {
    let verified = store.verify().expect("the database can be read");
    assert_eq!(verified.faults, [] as [&str; 0]);
    assert_eq!(verified.events, store.sequence());
}

#[tokio::test]
async fn a_command_is_acknowledged_with_its_sequence_and_is_there_after_a_restart() {
    let folder = Folder::new("restart");
    let store = folder.open();
    let ada = store.send(Actor::Anonymous, register("Ada")).await.expect("the name is free");
    assert_eq!((ada.sequence, store.sequence()), (1, 1));
    let bob = store.send(Actor::Anonymous, register("Bob")).await.expect("the name is free");
    assert_eq!(bob.sequence, 2);
    let before = account(&store, ada.done).expect("it exists");
    drop(store);

    let store = folder.open();
    assert_eq!(store.sequence(), 2);
    assert_eq!(account(&store, ada.done), Some(before));
    let events = store.events(1, 10).expect("the log can be read");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].0, events[0].1.subject.clone()), (2, bob.done.to_string()));
    assert_sound(&store);
}

#[tokio::test]
async fn of_simultaneous_commands_for_one_name_a_single_one_is_carried_out() {
    let folder = Folder::new("race");
    let store = folder.open();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let store = store.clone();
        // Twenty names, each wanted ten times.
        let command = Register {
            email: format!("n{n}@example.org").parse().expect("an address"),
            ..register(&format!("name{}", n % 20))
        };
        tasks.spawn(async move { store.send(Actor::Anonymous, command).await.map(drop) });
    }
    let (mut registered, mut refused) = (0, 0);
    while let Some(result) = tasks.join_next().await {
        match result.expect("no panic") {
            Ok(()) => registered += 1,
            Err(SendError::Refused(Refusal::Conflict { rule: "name_taken", .. })) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((registered, refused), (20, 180));
    assert_eq!(store.sequence(), 20);
    assert_sound(&store);
}

/// A command whose decision panics.
struct Faulty;

impl Command for Faulty {
    const NAME: &'static str = "test.faulty";
    const WHO: Who = Who::Anyone;

    type Done = ();

    fn decide(&self, _: &Context<'_>) -> Result<Decision<()>, Refusal> {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn a_decision_that_panics_costs_its_sender_alone() {
    let folder = Folder::new("panic");
    let store = folder.open();
    // Both are sent before either is awaited, so that they may share a group.
    let (faulty, sound) = tokio::join!(
        store.send(Actor::Anonymous, Faulty),
        store.send(Actor::Anonymous, register("Ada")),
    );
    assert!(matches!(faulty, Err(SendError::Panicked)), "{faulty:?}");
    assert!(sound.is_ok());
    assert!(store.send(Actor::Anonymous, register("Bob")).await.is_ok());
    assert_sound(&store);
}

#[tokio::test]
async fn a_refused_command_writes_nothing() {
    let folder = Folder::new("refused");
    let store = folder.open();
    let refused = store.send(Actor::Anonymous, creator("Ada")).await;
    assert!(matches!(refused, Err(SendError::Refused(Refusal::SignIn))), "{refused:?}");
    assert_eq!(store.sequence(), 0);
}

/// The features with other versions, as after an update of the daemon.
fn updated() -> &'static [&'static Feature] {
    let features = features::ALL.iter().map(|feature| {
        &*Box::leak(Box::new(Feature { version: feature.version + 1, ..**feature }))
    });
    Box::leak(features.collect::<Vec<_>>().into_boxed_slice())
}

#[tokio::test]
async fn tables_of_another_version_are_built_again_from_the_log() {
    let folder = Folder::new("rebuild");
    let store = folder.open();
    let ada = store.send(Actor::System, creator("ada")).await.expect("the name is free").done;
    let owner = Actor::Person { id: ada, role: Role::Creator };
    store.send(owner, create(ada, "engine")).await.expect("a creator");
    let gone = store.send(Actor::Anonymous, register("Gone")).await.expect("the name is free");
    store.send(Actor::System, Erase { account: gone.done }).await.expect("the operator");
    let live = (account(&store, ada), account(&store, gone.done));
    drop(store);
    // A table that is not as the log says, because the version before had a fault.
    let database = redb::Database::create(folder.0.join(DATABASE)).expect("nobody has it open");
    let table = TableDefinition::<&[u8], &[u8]>::new("channels.by_name");
    let transaction = database.begin_write().expect("it can be written");
    transaction.open_table(table).expect("it exists").insert(&b"x"[..], &b"y"[..]).expect("a row");
    transaction.commit().expect("it can be written");
    drop(database);

    let store = folder.open();
    let faults = store.verify().expect("it can be read").faults;
    assert_eq!(faults, ["table channels.by_name differs from the log: rebuild it"]);
    drop(store);
    let store = Store::open(&folder.0, updated()).expect("the folder can be written");
    assert_sound(&store);
    assert_eq!((account(&store, ada), account(&store, gone.done)), live);
}

#[tokio::test]
async fn a_backup_opens_elsewhere_with_the_master_key_and_equals_the_original() {
    let (folder, copy) = (Folder::new("original"), Folder::new("copy"));
    let store = folder.open();
    let ada = store.send(Actor::Anonymous, register("Ada")).await.expect("the name is free").done;
    for n in 0..300 {
        let name = format!("n{n}");
        store.send(Actor::Anonymous, register(&name)).await.expect("the name is free");
    }
    assert_eq!(store.backup(&copy.0).expect("an empty folder"), 301);
    assert!(matches!(store.backup(&copy.0), Err(ArchiveError::Exists { .. })));
    fs::copy(folder.0.join(MASTER_KEY), copy.0.join(MASTER_KEY)).expect("a key");
    let restored = copy.open();
    assert_eq!(restored.sequence(), 301);
    assert_eq!(account(&restored, ada), account(&store, ada));
    assert_sound(&restored);

    let mut text = Vec::new();
    assert_eq!(restored.export(&mut text).expect("memory"), 301);
    let first = text.split(|byte| *byte == b'\n').next().expect("a line");
    let first: serde_json::Value = serde_json::from_slice(first).expect("JSON");
    assert_eq!(first["sequence"], 1);
    assert_eq!(first["event"]["type"], "streamforge.account.registered.v1");
}

#[tokio::test]
async fn no_file_holds_an_erased_person() {
    let (folder, copy) = (Folder::new("erased"), Folder::new("erased-copy"));
    let store = folder.open();
    let ada = store.send(Actor::Anonymous, register("Lovelace")).await.expect("free").done;
    let key = store.vault().seal(ada, "x").expect("she has a key");
    let erase = Erase { account: ada };
    let as_ada = Actor::Person { id: ada, role: Role::Viewer };
    store.send(as_ada, erase).await.expect("her own");
    assert_eq!(store.vault().open(&key).expect("the keys can be read"), None);
    assert!(store.vault().seal(ada, "x").is_err(), "no key is made again");
    store.backup(&copy.0).expect("an empty folder");
    // The tables' free pages hold old bytes until the file is written anew, so the copy is looked
    // at: it is what leaves the machine.
    for file in fs::read_dir(&copy.0).expect("a folder") {
        let file = file.expect("a file").path();
        let bytes = fs::read(&file).expect("a file");
        for text in ["Lovelace", "lovelace@", "argon2id$secret"] {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{text} in {}", file.display());
        }
    }
    assert_sound(&store);
}

#[tokio::test]
async fn a_key_that_was_to_be_erased_at_a_crash_is_erased_at_the_next_start() {
    let folder = Folder::new("erasure");
    let store = folder.open();
    let ada = store.send(Actor::Anonymous, register("Ada")).await.expect("free").done;
    let sealed = store.vault().seal(ada, "x").expect("she has a key");
    drop(store);
    // Her keys as they were before the erasure: the process ended before it wrote them.
    let keys = fs::read(folder.0.join(KEYS_FILE)).expect("a file");
    let store = folder.open();
    store.send(Actor::System, Erase { account: ada }).await.expect("the operator");
    drop(store);
    fs::write(folder.0.join(KEYS_FILE), keys).expect("a file");
    let store = folder.open();
    assert_eq!(store.vault().open(&sealed).expect("the keys can be read"), None);
    assert_sound(&store);
}

#[test]
fn a_second_process_is_refused_in_words() {
    let folder = Folder::new("second");
    let _store = folder.open();
    let refused = Store::open(&folder.0, features::ALL).expect_err("it is open");
    assert!(refused.to_string().contains("is open in another process"), "{refused}");
}

#[test]
fn another_master_key_opens_no_personal_data() {
    let folder = Folder::new("master");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = folder.open();
    let ada = runtime.block_on(store.send(Actor::Anonymous, register("Ada"))).expect("free").done;
    let sealed = store.vault().seal(ada, "x").expect("she has a key");
    drop(store);
    fs::write(folder.0.join(MASTER_KEY), [7; 32]).expect("a file");
    let store = folder.open();
    assert!(store.vault().open(&sealed).is_err());
    drop(store);
    fs::write(folder.0.join(MASTER_KEY), [7; 31]).expect("a file");
    let refused = Store::open(&folder.0, features::ALL).expect_err("the key is too short");
    assert!(matches!(refused, OpenError::MasterKey { expected: 32, .. }), "{refused}");
}

/// A file whose disk fails on demand: no write reaches it.
#[derive(Debug, Clone)]
struct FailingDisk {
    file: Arc<redb::backends::FileBackend>,
    is_full: Arc<AtomicBool>,
}

impl FailingDisk {
    fn check(&self) -> io::Result<()> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
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

/// A store in a folder, whose disk is full when that is said.
pub(crate) fn on_failing_disk(folder: &Path, is_full: &Arc<AtomicBool>) -> Store {
    drop(Store::open(folder, features::ALL).expect("the folder can be written"));
    let (path, full) = (folder.join(DATABASE), Arc::clone(is_full));
    let open = move || {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).open(&path).map_err(redb::StorageError::Io)?;
        let file = Arc::new(redb::backends::FileBackend::new(file)?);
        let disk = FailingDisk { file, is_full: Arc::clone(&full) };
        redb::Database::builder().create_with_backend(disk)
    };
    let vault = KeyVault::open(&folder.join(KEYS_FILE), &folder.join(MASTER_KEY)).expect("keys");
    let handle = Handle::new(open().expect("the disk has room"), open);
    Store::with(handle, vault, features::ALL).expect("it is sound").expect("a thread")
}

#[tokio::test]
async fn a_full_disk_fails_commands_with_its_reason_and_reads_go_on() {
    let folder = Folder::new("full");
    let is_full = Arc::new(AtomicBool::new(false));
    let store = on_failing_disk(&folder.0, &is_full);
    let ada = store.send(Actor::Anonymous, register("Ada")).await.expect("free").done;

    for _ in 0..3 {
        is_full.store(true, Ordering::Relaxed);
        let refused = store.send(Actor::Anonymous, register("Bob")).await;
        let refused = refused.expect_err("the disk is full");
        assert!(matches!(refused, SendError::NotCommitted(_)), "{refused}");
        is_full.store(false, Ordering::Relaxed);
        assert_eq!(store.sequence(), 1);
        // A command opens the file again if that was impossible while the disk was full.
        let again = store.send(Actor::Anonymous, register("Ada")).await;
        assert!(matches!(again, Err(SendError::Refused(_))), "{again:?}");
        let found = store.read(|rows| accounts::queries::account(rows, ada));
        assert!(found.expect("it is open again").expect("a sound table").is_some());
    }
    store.send(Actor::Anonymous, register("Bob")).await.expect("the disk has room again");
    assert_eq!(store.sequence(), 2);
    assert_sound(&store);
}

/// The folder of the process that is killed in the test below.
const VICTIM: &str = "STREAMFORGE_STORE_VICTIM";

/// Writes without end, and prints what was acknowledged: one command a line.
fn write_until_killed(folder: PathBuf) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(&folder, features::ALL).expect("the folder can be written");
        let round = store.sequence();
        let writers = (0..4).map(|writer| {
            let store = store.clone();
            async move {
                for n in 0.. {
                    let name = format!("w{writer}r{round}n{n}");
                    let id = store.send(Actor::System, creator(&name)).await.expect("free").done;
                    println!("ack account {id} {name}");
                    let owner = Actor::Person { id, role: Role::Creator };
                    store.send(owner, create(id, &name)).await.expect("a creator");
                    println!("ack channel {id} {name}");
                    if n % 3 == 0 {
                        store.send(owner, Erase { account: id }).await.expect("their own");
                        println!("ack erased {id} {name}");
                    }
                }
            }
        });
        futures_join(writers).await;
    });
}

/// Polls all of these futures until they end.
async fn futures_join(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures = futures.map(Box::pin).collect::<Vec<_>>();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        match futures.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

#[test]
fn everything_acknowledged_is_there_after_fifty_kills() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        return write_until_killed(folder.into());
    }
    let folder = Folder::new("killed");
    let mut acknowledged = BTreeMap::new();
    for round in 0..50 {
        let mut victim = Process::new(std::env::current_exe().expect("the test program"))
            .args(["--exact", "store::tests::everything_acknowledged_is_there_after_fifty_kills"])
            .arg("--nocapture")
            .env(VICTIM, &folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test program");
        let stdout = victim.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let mut take = |line: &str| {
            // The test program may print before the first on the same line.
            let words = line.split_once("ack ").map(|(_, ack)| ack.split(' ').collect::<Vec<_>>());
            if let Some([what, id, name]) = words.as_deref() {
                acknowledged.insert((*name).to_owned(), ((*what).to_owned(), (*id).to_owned()));
            }
        };
        // A different number in each round, so that it is killed at different places.
        (&mut lines).take(5 + round * 7 % 40).for_each(|line| take(&line));
        victim.kill().expect("it runs");
        victim.wait().expect("it was started");
        // Lines that it printed before its end. The last may be incomplete.
        let mut rest = lines.collect::<Vec<_>>();
        rest.pop();
        rest.iter().for_each(|line| take(line));
    }
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());

    let store = folder.open();
    for (name, (what, id)) in &acknowledged {
        let id = id.parse().expect("an identifier");
        let account = account(&store, id).unwrap_or_else(|| panic!("{name} is lost"));
        let channel = name.parse().expect("a channel name");
        let channel = store.read(|rows| channels::queries::by_name(rows, &channel));
        let channel = channel.and_then(|found| found).expect("the tables can be read");
        match what.as_str() {
            "erased" => assert_eq!((account.person, channel), (None, None), "{name}"),
            // What follows may have happened without its acknowledgement.
            "channel" => assert!(channel.is_some() || account.person.is_none(), "{name}"),
            _ => {}
        }
    }
    assert_sound(&store);
    std::io::stdout().flush().expect("it can be written");
}
