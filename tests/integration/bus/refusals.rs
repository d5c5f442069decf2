//! Streams that do not belong to a database, which an operator must look at.

use super::*;

#[test]
fn a_second_writer_with_another_log_is_refused_and_says_so_once() {
    let nats = Nats::start();
    let first = Daemon::start(&settings(&nats));
    make_channel(&first);
    wait_for_stream(&nats, &first);
    let expected = vec!["the bus has stopped".to_owned()];
    let mut second = Daemon::start(&Settings { expected, ..settings(&nats) });
    make_channel(&second);
    let found = wait_for("the finding", LIMIT, || {
        let found = health(&second);
        (!found.is_empty()).then_some(found)
    });
    let says = ["degraded: bus: ", "another", "delete the stream"];
    assert!(says.iter().all(|words| found.contains(words)), "{found}");
    cause(first.http, 1).expect("an event");
    cause(second.http, 1).expect("it needs no bus");
    wait_for_stream(&nats, &first);
    let said = second.process.lines();
    let said = said.iter().filter(|line| line.contains("the bus has stopped"));
    assert_eq!(said.count(), 1);
    second.assert_healthy();
}

#[test]
fn a_message_of_somebody_else_in_the_stream_stops_the_writer() {
    let nats = Nats::start();
    let expected = vec!["the bus has stopped".to_owned()];
    let daemon = Daemon::start(&Settings { expected, ..settings(&nats) });
    make_channel(&daemon);
    let count = wait_for_stream(&nats, &daemon).len() as u64;
    let published = nats.publish(STREAM, "sf.main.channel.edited", "somebody-else");
    assert_eq!(published["sequence"], count + 1);
    cause(daemon.http, 1).expect("it needs no bus");
    let found = wait_for("the finding", LIMIT, || {
        let found = health(&daemon);
        (!found.is_empty()).then_some(found)
    });
    let words = format!("event {} of the stream", count + 1);
    assert!(found.contains(&words), "{found}");
    assert_eq!(nats.info(STREAM)["last"], count + 1);
}

#[test]
fn a_replica_whose_events_are_not_in_the_stream_any_more_says_so_and_keeps_its_data() {
    let nats = Nats::start();
    let writer = Daemon::start(&settings(&nats));
    make_channel(&writer);
    let replica = replica(&nats, &writer);
    let end = wait_until_level(&writer, &replica);
    let folder = replica.into_folder();
    cause_many(&writer, 20);
    wait_for_stream(&nats, &writer);
    nats.trim(STREAM, 5);

    let expected = vec!["the bus has stopped".to_owned()];
    let settings = Settings { is_replica: true, expected, ..settings(&nats) };
    let mut again = Daemon::start_in(folder, &settings);
    let found = wait_for("the finding", LIMIT, || {
        let found = health(&again);
        (!found.is_empty()).then_some(found)
    });
    let words = format!("this replica needs event {}", end + 1);
    assert!(found.contains(&words) && found.contains("restore a backup"), "{found}");
    assert_eq!(sequence(&again), end);
    assert_eq!(read(&again, "/api/v1/channels/show")["title"], "show");
    // The writer is not concerned.
    cause(writer.http, 20).expect("an event");
    let last = sequence(&writer);
    wait_for("the event", LIMIT, || (nats.info(STREAM)["last"] == last).then_some(()));

    // As the message says: a backup of the writer in place of the database.
    let backup = writer.workdir.path().join("backup");
    let backup = backup.to_str().expect("a UTF-8 path");
    operate(&writer, &["db", "backup", backup]);
    again.process.terminate();
    again.process.wait(LIMIT);
    for file in ["platform.redb", "keys.redb"] {
        let file = again.workdir.path().join("data/platform").join(file);
        fs::remove_file(file).expect("a file");
    }
    operate(&again, &["db", "restore", backup]);
    let again = again.start_again();
    cause(writer.http, 21).expect("an event");
    wait_until_level(&writer, &again);
    assert_eq!(exported(&writer), exported(&again));
    assert_eq!(health(&again), "");
}

#[test]
fn a_replica_needs_the_master_key_of_its_writer() {
    let nats = Nats::start();
    let writer = Daemon::start(&settings(&nats));
    make_channel(&writer);
    wait_for_stream(&nats, &writer);
    let folder = replicas_folder(&writer);
    fs::write(folder.path().join("data/platform/master.key"), [7; 32]).expect("a key");
    let expected = vec!["the bus has stopped".to_owned()];
    let settings = Settings { is_replica: true, expected, ..settings(&nats) };
    let replica = Daemon::start_in(folder, &settings);
    let found = wait_for("the finding", LIMIT, || {
        let found = health(&replica);
        (!found.is_empty()).then_some(found)
    });
    assert!(found.contains("a replica needs the writer's file master.key"), "{found}");
    assert_eq!(sequence(&replica), 0);
}

#[test]
fn a_server_asks_for_a_token_which_is_shown_nowhere() {
    const RIGHT: &str = "the-right-token-0123456789";
    const WRONG: &str = "a-wrong-token-0123456789";
    let nats = Nats::start_with(RIGHT);
    let with = |token: &str| {
        let extra = format!("{}token = {token:?}\n", settings(&nats).extra);
        // The library says so, too.
        let expected = vec!["authorization violation".to_owned()];
        Settings { extra, expected, ..Settings::default() }
    };
    let refused = Daemon::start(&with(WRONG));
    let accepted = Daemon::start(&with(RIGHT));
    make_channel(&accepted);
    wait_for_stream(&nats, &accepted);
    let found = wait_for("the finding", LIMIT, || {
        let found = health(&refused);
        (!found.is_empty()).then_some(found)
    });
    assert!(found.contains("authorization violation"), "{found}");
    let shown = read(&accepted, "/api/v1/configuration").to_string();
    assert!(shown.contains("sf.main"), "{shown}");
    for daemon in [&refused, &accepted] {
        let lines = daemon.process.lines();
        let leaks = |line: &&String| line.contains(RIGHT) || line.contains(WRONG);
        assert_eq!(lines.iter().find(leaks), None);
        let shown = read(daemon, "/api/v1/configuration").to_string();
        assert!(!shown.contains(RIGHT) && !shown.contains(WRONG), "{shown}");
    }
}
