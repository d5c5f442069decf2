use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command as Process, Stdio},
};

use super::*;

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
            .args([
                "--exact",
                "store::tests::kills::everything_acknowledged_is_there_after_fifty_kills",
            ])
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

/// The folder of the process that is killed while it builds tables again.
const REBUILDER: &str = "STREAMFORGE_STORE_REBUILDER";

#[tokio::test]
async fn tables_are_complete_after_kills_while_they_are_built() {
    if let Some(folder) = std::env::var_os(REBUILDER) {
        let store = Store::open_with(Path::new(&folder), updated(next_version), Duration::ZERO);
        let store = store.expect("the folder can be written");
        println!("begun {}", store.rebuilding().len());
        // Durable commits, which make slices durable too.
        for n in 0.. {
            let name = format!("p{}n{n}", std::process::id());
            // Accounts are refused until they are complete.
            let _ = store.send(Actor::Anonymous, register(&name)).await;
            store.rebuild(&[]).await.expect("it is open");
            println!("again {n}");
        }
    }
    let folder = Folder::new("rebuild-killed");
    let store = folder.open();
    for n in 0..300 {
        let name = format!("n{n}");
        let id = store.send(Actor::System, creator(&name)).await.expect("free").done;
        let owner = Actor::Person { id, role: Role::Creator };
        store.send(owner, create(id, &name)).await.expect("a creator");
        if n % 10 == 0 {
            store.send(owner, Erase { account: id }).await.expect("their own");
        }
    }
    drop(store);
    let mut events = 0;
    for round in 0..12 {
        let mut victim = Process::new(std::env::current_exe().expect("the test program"))
            .args([
                "--exact",
                "store::tests::kills::tables_are_complete_after_kills_while_they_are_built",
            ])
            .arg("--nocapture")
            .env(REBUILDER, &folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test program");
        let lines = BufReader::new(victim.stdout.take().expect("it is piped")).lines();
        let begun = lines.map_while(Result::ok).filter(|line| line.contains("begun"));
        assert_eq!(begun.take(1).count(), 1, "it has begun in round {round}");
        std::thread::sleep(Duration::from_millis(round * 3));
        victim.kill().expect("it runs");
        victim.wait().expect("it was started");
        // Every other time the next process finds what the killed one has left.
        if round % 2 == 1 {
            let store = Store::open(&folder.0, updated(next_version)).expect("it can be written");
            store.ready().await.expect("the log is sound");
            assert!(store.sequence() >= events.max(630));
            events = store.sequence();
            assert_sound(&store);
            drop(store);
            // So that the next one begins.
            let store = folder.open();
            store.ready().await.expect("the log is sound");
        }
    }
}
