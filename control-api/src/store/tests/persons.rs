use control_domain::Vault as _;

use super::{
    erased::ERASED_LIST,
    vault::{KEYS_FILE, MASTER_KEY},
    *,
};

fn copy_master_key(from: &Folder, to: &Folder) {
    fs::create_dir_all(&to.0).expect("a folder");
    fs::copy(from.0.join(MASTER_KEY), to.0.join(MASTER_KEY)).expect("a key");
}

fn holds(file: &Path, bytes: &[u8]) -> bool {
    fs::read(file).expect("a file").windows(bytes.len()).any(|window| window == bytes)
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
    copy_master_key(&folder, &copy);
    let restored = copy.open();
    restored.ready().await.expect("the log is sound");
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
fn another_master_key_is_refused() {
    let folder = Folder::new("master");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = folder.open();
    let ada = runtime.block_on(store.send(Actor::Anonymous, register("Ada"))).expect("free").done;
    let sealed = store.vault().seal(ada, "x").expect("she has a key");
    drop(store);
    let right = fs::read(folder.0.join(MASTER_KEY)).expect("a file");
    fs::write(folder.0.join(MASTER_KEY), [7; 32]).expect("a file");
    let refused = Store::open(&folder.0, features::ALL).expect_err("it is another key");
    assert!(matches!(refused, OpenError::WrongMasterKey { .. }), "{refused}");
    fs::write(folder.0.join(MASTER_KEY), [7; 31]).expect("a file");
    let refused = Store::open(&folder.0, features::ALL).expect_err("the key is too short");
    assert!(matches!(refused, OpenError::MasterKey { expected: 32, .. }), "{refused}");
    fs::write(folder.0.join(MASTER_KEY), right).expect("a file");
    assert_eq!(folder.open().vault().open(&sealed).expect("its key").as_deref(), Some("x"));
}

#[tokio::test]
async fn an_erased_key_leaves_the_file_when_it_is_written_anew() {
    let folder = Folder::new("renewal");
    let store = folder.open();
    let [ada, bob] = [register("Ada"), register("Bob")];
    let ada = store.send(Actor::Anonymous, ada).await.expect("free").done;
    let bob = store.send(Actor::Anonymous, bob).await.expect("free").done;
    let sealed = [ada, bob].map(|person| store.vault().seal(person, "x").expect("a key"));
    let (file, key) = (folder.0.join(KEYS_FILE), store.vault().stored(ada).expect("a key"));
    assert!(holds(&file, &key), "otherwise this tests nothing");
    store.send(Actor::System, Erase { account: ada }).await.expect("the operator");
    // A person whose key is made while the file is written anew is in it too.
    let carol = std::thread::scope(|scope| {
        let renewal = scope.spawn(|| store.vault().renew());
        let carol = AccountId::new(uuid::Uuid::now_v7());
        let sealed = store.vault().seal(carol, "y").expect("a new key");
        renewal.join().expect("no panic").expect("the disk works");
        sealed
    });
    assert!(!holds(&file, &key));
    let opened = |sealed| store.vault().open(sealed).expect("the keys can be read");
    assert_eq!(opened(&sealed[0]), None);
    assert_eq!(opened(&sealed[1]).as_deref(), Some("x"));
    assert_eq!(opened(&carol).as_deref(), Some("y"));
    assert_sound(&store);
    drop(store);
    let store = folder.open();
    assert_eq!(store.vault().open(&carol).expect("a sound file").as_deref(), Some("y"));
}

#[tokio::test]
async fn a_restored_backup_has_what_it_had_and_keeps_erased_persons_erased() {
    let (folder, backup) = (Folder::new("drill"), Folder::new("drill-backup"));
    let store = folder.open();
    let mut people = Vec::new();
    for n in 0..300 {
        let name = format!("person{n}");
        let id = store.send(Actor::System, creator(&name)).await.expect("free").done;
        let owner = Actor::Person { id, role: Role::Creator };
        store.send(owner, create(id, &name)).await.expect("a creator");
        people.push(id);
    }
    store.send(Actor::System, Erase { account: people[0] }).await.expect("the operator");
    assert_eq!(store.backup(&backup.0).expect("an empty folder"), 601);
    // After the backup: one is erased, and one registers and is lost with the disk.
    store.send(Actor::System, Erase { account: people[1] }).await.expect("the operator");
    let lost = store.send(Actor::Anonymous, register("Lost")).await.expect("free").done;
    let kept = account(&store, people[2]);
    drop(store);
    let list = folder.0.join(ERASED_LIST);

    let fresh = Folder::new("drill-restored");
    let refused = Store::restore(&backup.0, &fresh.0, &[]).expect_err("it has no master key");
    assert!(matches!(refused, ArchiveError::NoMasterKey { .. }), "{refused}");
    fs::write(fresh.0.join(MASTER_KEY), [7; 32]).expect("a file");
    let refused = Store::restore(&backup.0, &fresh.0, &[]).expect_err("it is another key");
    let is_wrong = matches!(refused, ArchiveError::Open(OpenError::WrongMasterKey { .. }));
    assert!(is_wrong, "{refused}");
    assert!(!fresh.0.join(DATABASE).exists() && !fresh.0.join(KEYS_FILE).exists());
    copy_master_key(&folder, &fresh);
    let restored = Store::restore(&backup.0, &fresh.0, &[&list]).expect("a sound backup");
    assert_eq!(restored, Restored { sequence: 602, erased_again: 1 });
    let refused = Store::restore(&backup.0, &fresh.0, &[]).expect_err("it has a database");
    assert!(matches!(refused, ArchiveError::Exists { .. }), "{refused}");

    let store = fresh.open();
    store.ready().await.expect("the log is sound");
    assert_eq!(store.sequence(), 602);
    for erased in &people[..2] {
        assert_eq!(account(&store, *erased).expect("a row").person, None);
        assert!(store.vault().seal(*erased, "x").is_err(), "no key is made again");
    }
    let channel = |name: &str| {
        let name = name.parse().expect("a channel name");
        let found = store.read(|rows| channels::queries::by_name(rows, &name));
        found.expect("it is open").expect("a sound table")
    };
    assert!(channel("person0").is_none() && channel("person1").is_none());
    assert!(channel("person2").is_some());
    assert_eq!(account(&store, people[2]), kept);
    assert_eq!(account(&store, lost), None, "it came after the backup");
    assert_sound(&store);
    store.send(Actor::Anonymous, register("Lost")).await.expect("the name is free again");

    // A backup of the restored one needs no list.
    let (second, last) = (Folder::new("drill-second"), Folder::new("drill-last"));
    store.backup(&second.0).expect("an empty folder");
    copy_master_key(&folder, &last);
    let restored = Store::restore(&second.0, &last.0, &[]).expect("a sound backup");
    assert_eq!(restored, Restored { sequence: 603, erased_again: 0 });
}

#[test]
fn an_incomplete_backup_is_refused() {
    let (folder, backup) = (Folder::new("no-backup"), Folder::new("no-backup-copy"));
    drop(folder.open());
    let fresh = Folder::new("no-backup-fresh");
    copy_master_key(&folder, &fresh);
    fs::create_dir_all(&backup.0).expect("a folder");
    let refused = Store::restore(&backup.0, &fresh.0, &[]).expect_err("it is empty");
    assert!(matches!(refused, ArchiveError::NoBackup { .. }), "{refused}");
    let missing = backup.0.join("missing.txt");
    folder.open().backup(&backup.0).expect("an empty folder");
    let refused = Store::restore(&backup.0, &fresh.0, &[&missing]).expect_err("no such list");
    assert!(refused.to_string().contains("missing.txt"), "{refused}");
}
