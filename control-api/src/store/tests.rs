use std::{fs, path::PathBuf};

use control_domain::{
    Actor, Command, Context, Feature, Refusal, Role, Who,
    command::Decision,
    features::{
        self,
        accounts::{self, commands::*},
        channels,
    },
    id::AccountId,
};

use super::*;

pub(crate) mod disk;
mod following;
mod kills;
mod persons;
mod rebuilding;
mod replicas;

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

/// The features with other versions, as after an update of the daemon.
fn updated(change: impl Fn(&Feature) -> Feature) -> &'static [&'static Feature] {
    let features = features::ALL.iter().map(|feature| &*Box::leak(Box::new(change(feature))));
    Box::leak(features.collect::<Vec<_>>().into_boxed_slice())
}

/// Another version of a feature.
fn next_version(feature: &Feature) -> Feature {
    Feature { version: feature.version + 1, ..*feature }
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

#[test]
fn a_second_process_is_refused_in_words() {
    let folder = Folder::new("second");
    let _store = folder.open();
    let refused = Store::open(&folder.0, features::ALL).expect_err("it is open");
    assert!(refused.to_string().contains("is open in another process"), "{refused}");
}
