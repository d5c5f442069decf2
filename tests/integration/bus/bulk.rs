//! A replica that was down for a hundred thousand events. They are written with the library of the
//! database, because the API would take minutes for them.

use super::*;
use control_api::Store;
use control_domain::{
    Actor, Command, Context, Refusal, Role, Who,
    command::Decision,
    features::{
        self,
        accounts::commands::{Add, PasswordHash},
        channels::{
            self,
            events::{Edited, Edits},
        },
    },
    id::ChannelId,
};
use std::{path::Path, time::Instant};

/// Events that the replica misses.
const EVENTS: u64 = 100_000;
/// Events of one command.
const AT_ONCE: u64 = 1_000;
/// Accounts among them, each with a key.
const ACCOUNTS: usize = 1_000;

/// Edits a channel many times.
struct EditOften {
    channel: ChannelId,
    begin: u64,
}

impl Command for EditOften {
    const NAME: &'static str = "test.edit_often";
    const WHO: Who = Who::System;
    type Done = ();

    fn decide(&self, _: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let mut decision = Decision::nothing(());
        for number in self.begin..self.begin + AT_ONCE {
            let title = Some(format!("Part {number}").parse().expect("a title"));
            let edits = Edits { title, ..Edits::default() };
            decision = decision.and(Edited { channel: self.channel, edits })?;
        }
        Ok(decision)
    }
}

/// Writes events into a database that no daemon has open.
fn write(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let store = Store::open(folder, features::ALL).expect("the database");
        let begin = store.sequence();
        let name = "show".parse().expect("a name");
        let found = store.read(|rows| channels::queries::by_name(rows, &name));
        let channel = found.expect("the tables").expect("the tables").expect("the channel");
        let mut accounts = tokio::task::JoinSet::new();
        for number in 0..ACCOUNTS {
            let add = Add {
                name: format!("person{number}").parse().expect("a name"),
                email: format!("person{number}@example.org").parse().expect("an address"),
                password: PasswordHash("$argon2id$".to_owned()),
                role: Role::Viewer,
            };
            let store = store.clone();
            accounts.spawn(async move { store.send(Actor::System, add).await.map(drop) });
        }
        while let Some(added) = accounts.join_next().await {
            added.expect("no panic").expect("the name is free");
        }
        while store.sequence() < begin + EVENTS {
            let edit = EditOften { channel, begin: store.sequence() };
            store.send(Actor::System, edit).await.expect("the disk works");
        }
    });
}

#[test]
fn a_replica_that_was_down_for_a_hundred_thousand_events_catches_up() {
    let nats = Nats::start();
    let writer = Daemon::start(&settings(&nats));
    make_channel(&writer);
    let replica = replica(&nats, &writer);
    wait_until_level(&writer, &replica);
    let (replicas, writers) = (replica.into_folder(), writer.into_folder());
    write(&writers.path().join("data/platform"));

    let begun = Instant::now();
    let mut writer = Daemon::start_in(writers, &settings(&nats));
    let end = sequence(&writer);
    assert!(end > EVENTS);
    let replica_settings = Settings { is_replica: true, ..settings(&nats) };
    let mut replica = Daemon::start_in(replicas, &replica_settings);
    wait_for("the last event at the replica", 2 * LIMIT, || {
        (sequence(&replica) == end).then_some(())
    });
    println!("{EVENTS} events through the bus, from the start of both: {:?}", begun.elapsed());
    assert_eq!(nats.info(STREAM)["last"], end);
    assert_eq!(nats.info(STREAM)["messages"], end);
    for path in ["/api/v1/channels/show", "/api/v1/accounts?limit=100", "/api/v1/categories"] {
        assert_eq!(read(&writer, path), read(&replica, path), "{path}");
    }
    assert_eq!(exported(&writer), exported(&replica));
    // It goes on.
    cause(writer.http, 1).expect("an event");
    wait_until_level(&writer, &replica);
    assert_eq!(read(&replica, "/api/v1/channels/show")["title"], "Number 1");
    writer.assert_healthy();
    replica.assert_healthy();
}
