use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use control_domain::{Envelope, Folding, features::channels::events::Visibility, rows::Order};
use redb::TableDefinition;

use super::*;

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
    let store = Store::open(&folder.0, updated(next_version)).expect("the folder can be written");
    store.ready().await.expect("the log is sound");
    assert_sound(&store);
    assert_eq!((account(&store, ada), account(&store, gone.done)), live);
}

/// Whether [`slow`] waits at each event.
static IS_SLOW: AtomicBool = AtomicBool::new(false);

/// The fold of channels, which takes longer.
fn slow(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    if IS_SLOW.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(3));
    }
    channels::tables::fold(folding, envelope)
}

/// Features of which channels alone have another version.
fn slow_channels() -> &'static [&'static Feature] {
    updated(|feature| match feature.name {
        "channels" => Feature { fold: slow, ..next_version(feature) },
        _ => *feature,
    })
}

/// Opens, and builds nothing again before it returns.
fn open_at_once(folder: &Folder, features: &'static [&'static Feature]) -> Store {
    Store::open_with(&folder.0, features, Duration::ZERO).expect("the folder can be written")
}

/// The number of channels.
fn channels_of(store: &Store) -> Result<usize, Fault> {
    let all = channels::tables::CHANNELS;
    store.read(|rows| all.page(rows, &(), None, Order::Up, 10_000).map(|page| page.len()))?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_that_is_built_again_is_refused_alone_and_then_complete() {
    let folder = Folder::new("background");
    let store = folder.open();
    let mut owners = Vec::new();
    for n in 0..20 {
        let name = format!("n{n}");
        let id = store.send(Actor::System, creator(&name)).await.expect("free").done;
        let owner = Actor::Person { id, role: Role::Creator };
        for m in 0..20 {
            store.send(owner, create(id, &format!("{name}-{m}"))).await.expect("a creator");
        }
        owners.push(owner);
    }
    drop(store);

    IS_SLOW.store(true, Ordering::Relaxed);
    let store = open_at_once(&folder, slow_channels());
    // Readers see no table that is not complete.
    let incomplete = Arc::new(AtomicU64::new(0));
    let reader = {
        let (store, incomplete) = (store.clone(), Arc::clone(&incomplete));
        std::thread::spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(60) {
                match channels_of(&store) {
                    Err(Fault::Rebuilding { feature: "channels" }) => {}
                    // Owners are erased meanwhile, with their channels.
                    Ok(380) => return,
                    _ => drop(incomplete.fetch_add(1, Ordering::Relaxed)),
                }
            }
        })
    };
    let bob = store.send(Actor::Anonymous, register("Bob")).await.expect("accounts work").done;
    assert!(account(&store, bob).is_some());
    let owner = owners[0].account().expect("a person");
    let refused = store.send(owners[0], create(owner, "another")).await;
    let Err(SendError::Refused(Refusal::Fault(Fault::Rebuilding { feature }))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(feature, "channels");
    // An event that another feature commits, and that changes tables of channels.
    store.send(Actor::System, Erase { account: owner }).await.expect("accounts work");
    assert_eq!(store.rebuilding(), ["channels"], "otherwise nothing of this was tested");

    IS_SLOW.store(false, Ordering::Relaxed);
    store.ready().await.expect("the log is sound");
    reader.join().expect("no panic");
    assert_eq!(incomplete.load(Ordering::Relaxed), 0);
    assert_eq!(channels_of(&store).expect("complete"), 380);
    let owner = owners[1].account().expect("a person");
    store.send(owners[1], create(owner, "another")).await.expect_err("they have twenty");
    assert_sound(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_built_again_equal_the_live_ones_under_concurrent_commands() {
    let folder = Folder::new("concurrent");
    let store = folder.open();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (store, is_over) = (store.clone(), Arc::clone(&is_over));
        tasks.spawn(async move {
            let mut refused = 0_u32;
            for n in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    return (n, refused);
                }
                let name = format!("w{writer}n{n}");
                let sent = one_life(&store, &name, n % 3 == 0).await;
                match sent {
                    Ok(()) => {}
                    Err(SendError::Refused(Refusal::Fault(Fault::Rebuilding { .. }))) => {
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            unreachable!("it ends when it is told")
        });
    }
    for round in 0..12 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let names: &[&str] = [&[][..], &["channels"], &["accounts", "stream_keys"]][round % 3];
        let rebuilt = store.rebuild(names).await.expect("it is open");
        assert_eq!(rebuilt.len(), if names.is_empty() { features::ALL.len() } else { names.len() });
        if round % 2 == 0 {
            store.ready().await.expect("the log is sound");
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let (mut sent, mut refused) = (0, 0);
    while let Some(counts) = tasks.join_next().await {
        let (own, own_refused) = counts.expect("no panic");
        (sent, refused) = (sent + own, refused + own_refused);
    }
    assert!(sent > refused && refused > 0, "{refused} of {sent} were refused");
    store.ready().await.expect("the log is sound");
    assert_sound(&store);
}

/// An account with a channel, which may be erased at the end.
async fn one_life(store: &Store, name: &str, is_erased: bool) -> Result<(), SendError> {
    let id = store.send(Actor::System, creator(name)).await?.done;
    let owner = Actor::Person { id, role: Role::Creator };
    let channel = store.send(owner, create(id, name)).await?.done;
    let edits = channels::events::Edits {
        visibility: Some(Visibility::Private),
        ..channels::events::Edits::default()
    };
    store.send(owner, channels::commands::Edit { channel, edits }).await?;
    if is_erased {
        store.send(owner, Erase { account: id }).await?;
    }
    Ok(())
}

/// A fold that reads no event.
fn broken(_: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let error = serde_json::from_str::<u8>("x").expect_err("no number");
    Err(Fault::Event { kind: envelope.kind.clone(), error })
}

#[tokio::test]
async fn a_feature_that_cannot_be_built_again_stays_refused_and_the_rest_works() {
    let folder = Folder::new("broken");
    let store = folder.open();
    let ada = store.send(Actor::System, creator("ada")).await.expect("the name is free").done;
    let owner = Actor::Person { id: ada, role: Role::Creator };
    store.send(owner, create(ada, "engine")).await.expect("a creator");
    drop(store);
    let features = updated(|feature| match feature.name {
        "channels" => Feature { fold: broken, ..next_version(feature) },
        _ => *feature,
    });
    let store = Store::open(&folder.0, features).expect("the folder can be written");
    let error = store.ready().await.expect_err("its fold reads nothing");
    assert!(error.to_string().contains("streamforge.channel.created.v1"), "{error}");
    assert!(matches!(channels_of(&store), Err(Fault::Rebuilding { feature: "channels" })));
    store.send(Actor::Anonymous, register("Bob")).await.expect("accounts work");
    let faults = store.verify().expect("it can be read").faults;
    assert!(faults.iter().any(|fault| fault.contains("are being built again")), "{faults:?}");
    drop(store);
    // The next version can.
    let store = Store::open(&folder.0, updated(next_version)).expect("it can be written");
    store.ready().await.expect("the log is sound");
    assert_eq!(channels_of(&store).expect("complete"), 1);
    assert_sound(&store);
}
