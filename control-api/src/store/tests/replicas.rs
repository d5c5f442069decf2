//! Copies of a log, as a replica makes them.

use std::collections::BTreeSet;

use super::*;

/// A replica's folder, which has the writer's master key.
fn replica(name: &str, writer: &Folder) -> Folder {
    let folder = Folder::new(name);
    fs::create_dir_all(&folder.0).expect("a folder");
    fs::copy(writer.0.join("master.key"), folder.0.join("master.key")).expect("a copy");
    folder
}

fn open(folder: &Folder) -> Result<Store, OpenError> {
    Store::open_as(NodeRole::Replica, &folder.0, features::ALL)
}

/// The events of a log behind a sequence.
fn events(store: &Store, after: u64) -> Vec<CopiedEvent> {
    let page = store.stored_events(after, 256).expect("the log can be read");
    let events = page.into_iter().map(|(_, json)| CopiedEvent {
        envelope: serde_json::from_slice(&json).expect("an event"),
        json: json.into(),
    });
    events.collect()
}

fn copy_keys(from: &Store, to: &Store, persons: impl IntoIterator<Item = AccountId>) {
    let key = |person| {
        let key = from.vault().stored_key(person).expect("the keys can be read");
        (person, key.expect("it has one"))
    };
    to.vault().copy_keys(persons.into_iter().map(key).collect()).expect("the same master key");
}

#[tokio::test]
async fn a_replica_has_the_log_and_the_tables_of_its_writer_and_makes_no_decisions() {
    let folder = Folder::new("copied");
    let writer = folder.open();
    let ada = writer.send(Actor::System, creator("Ada")).await.expect("free").done;
    let eve = writer.send(Actor::System, creator("Eve")).await.expect("free").done;
    writer.send(Actor::System, create(ada, "show")).await.expect("a creator");
    let there = replica("copy", &folder);
    let store = open(&there).expect("it has the master key");
    copy_keys(&writer, &store, [ada, eve]);
    store.copy(0, events(&writer, 0)).await.expect("the disk works");
    assert_eq!(store.sequence(), writer.sequence());
    assert_eq!(account(&store, ada), account(&writer, ada));
    let refused = store.send(Actor::System, creator("Bob")).await.expect_err("a replica");
    assert!(matches!(refused, SendError::Replica), "{refused}");

    // An erasure costs the key here, too.
    let sequence = writer.sequence();
    writer.send(Actor::System, Erase { account: eve }).await.expect("she exists");
    store.copy(sequence, events(&writer, sequence)).await.expect("the disk works");
    assert_eq!(store.vault().stored_key(eve).expect("keys"), Some(StoredKey::Erased));
    assert_eq!(account(&store, eve), account(&writer, eve));
    let logs = [&store, &writer].map(|store| store.stored_events(0, 256).expect("the log"));
    assert_eq!(logs[0], logs[1]);
    assert_sound(&store);
    drop(store);
    assert_eq!(account(&open(&there).expect("a replica"), ada), account(&writer, ada));
}

#[tokio::test]
async fn events_that_do_not_follow_the_last_one_are_refused() {
    let folder = Folder::new("not-next");
    let writer = folder.open();
    let names = ["Ada", "Bob", "Eve"];
    let mut persons = BTreeSet::new();
    for name in names {
        persons.insert(writer.send(Actor::System, creator(name)).await.expect("free").done);
    }
    let there = replica("not-next-copy", &folder);
    let store = open(&there).expect("it has the master key");
    copy_keys(&writer, &store, persons);
    let refused = store.copy(1, events(&writer, 1)).await.expect_err("a hole");
    assert!(refused.to_string().contains("ends with event 0"), "{refused}");
    store.copy(0, events(&writer, 0)).await.expect("the disk works");
    let twice = store.copy(0, events(&writer, 0)).await.expect_err("they are there");
    assert!(twice.to_string().contains("ends with event 3"), "{twice}");
    assert_eq!(store.sequence(), 3);
    assert_sound(&store);
}

#[tokio::test]
async fn keys_are_copied_once_and_an_erased_one_does_not_return() {
    let folder = Folder::new("copied-keys");
    let writer = folder.open();
    let eve = writer.send(Actor::System, creator("Eve")).await.expect("free").done;
    let key = writer.vault().stored_key(eve).expect("keys").expect("hers");
    let there = replica("copied-keys-copy", &folder);
    let store = open(&there).expect("it has the master key");
    store.vault().copy_keys(vec![(eve, StoredKey::Erased)]).expect("the disk works");
    store.vault().copy_keys(vec![(eve, key.clone())]).expect("the disk works");
    assert_eq!(store.vault().stored_key(eve).expect("keys"), Some(StoredKey::Erased));
    // A key under another master key is damaged here.
    let other = Folder::new("copied-keys-other");
    assert!(other.open().vault().copy_keys(vec![(eve, key)]).is_err());
    let text = writer.vault().encrypt("name", b"text").expect("random numbers");
    assert_eq!(store.vault().decrypt("name", &text).as_deref(), Some(&b"text"[..]));
    assert_eq!(store.vault().decrypt("other", &text), None);
    assert_eq!(other.open().vault().decrypt("name", &text), None);
}

#[tokio::test]
async fn a_replicas_folder_is_not_opened_as_a_writers_and_needs_a_master_key() {
    let folder = Folder::new("role");
    drop(folder.open());
    assert_eq!(NodeRole::of(&folder.0), NodeRole::Writer);
    let empty = Folder::new("role-empty");
    assert!(matches!(open(&empty), Err(OpenError::NoMasterKey { .. })));
    let there = replica("role-copy", &folder);
    drop(open(&there).expect("it has the master key"));
    assert_eq!(NodeRole::of(&there.0), NodeRole::Replica);
    let refused = Store::open(&there.0, features::ALL).expect_err("it is a replica's");
    assert!(refused.to_string().contains("--role replica"), "{refused}");
    // It becomes the writer when its mark is gone.
    fs::remove_file(there.0.join("replica")).expect("the mark");
    drop(there.open());
}
