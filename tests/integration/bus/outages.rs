//! Servers and daemons that are killed while events happen.

use super::*;

/// Times that something is killed.
const KILLS: usize = 3;

/// Events that the server has acknowledged to this daemon.
fn published(daemon: &Daemon) -> u64 {
    daemon.metric("streamforge_bus_events_total ")
}

#[test]
fn a_server_that_is_killed_in_mid_stream_costs_no_event_and_doubles_none() {
    let mut nats = Nats::start();
    let mut daemon = Daemon::start(&settings(&nats));
    make_channel(&daemon);
    let causes = Causes::begin(daemon.http);
    for _ in 0..KILLS {
        let before = published(&daemon);
        wait_for("events on the bus", LIMIT, || (published(&daemon) > before + 30).then_some(()));
        nats.kill();
        // Events wait in the log meanwhile.
        causes.wait(30);
        assert!(daemon.metric("streamforge_bus_lag_events ") > 0);
        nats.begin();
    }
    causes.wait(30);
    let acknowledged = causes.end();
    let messages = wait_for_stream(&nats, &daemon);
    let last = acknowledged.last().copied().expect("many events");
    assert!(messages.len() as u64 >= last, "{} of {last}", messages.len());
    assert_eq!(daemon.metric("streamforge_bus_connected "), 1);
    assert!(daemon.metric("streamforge_bus_failures_total ") >= KILLS as u64);
    assert_eq!(health(&daemon), "");
    daemon.assert_healthy();
}

#[test]
fn a_daemon_that_is_killed_in_mid_stream_goes_on_behind_the_last_event_of_the_stream() {
    let nats = Nats::start();
    let mut daemon = Daemon::start(&settings(&nats));
    make_channel(&daemon);
    let mut acknowledged = Vec::new();
    for _ in 0..KILLS {
        let causes = Causes::begin(daemon.http);
        causes.wait(40);
        daemon.process.kill();
        acknowledged.extend(causes.end());
        daemon = daemon.start_again();
    }
    let messages = wait_for_stream(&nats, &daemon);
    let last = acknowledged.last().copied().expect("many events");
    assert!(messages.len() as u64 >= last, "{} of {last}", messages.len());
    daemon.assert_healthy();
}

#[test]
fn an_upgrade_of_either_side_hands_over_the_bus() {
    let nats = Nats::start();
    let mut daemon = Daemon::start(&settings(&nats));
    make_channel(&daemon);
    let mut replica = replica(&nats, &daemon);
    let causes = Causes::begin(daemon.http);
    causes.wait(20);
    daemon.upgrade();
    causes.wait(20);
    replica.upgrade();
    causes.wait(20);
    causes.end();
    wait_for_stream(&nats, &daemon);
    wait_until_level(&daemon, &replica);
    assert_eq!(exported(&daemon), exported(&replica));
    // The first processes have ended as they should; errors of any fail the test at its end.
}

#[test]
fn a_daemon_starts_without_a_server_and_fills_the_stream_when_there_is_one() {
    let mut nats = Nats::stopped();
    let mut daemon = Daemon::start(&settings(&nats));
    make_channel(&daemon);
    cause_many(&daemon, 300);
    assert_eq!(daemon.metric("streamforge_bus_connected "), 0);
    nats.begin();
    let messages = wait_for_stream(&nats, &daemon);
    assert!(messages.len() > 300);
    // A stream that is lost is filled again, and so are the keys.
    nats.delete(STREAM);
    nats.delete(BUCKET);
    cause(daemon.http, 300).expect("an event");
    let again = wait_for("the stream", LIMIT, || {
        let again = nats.read(STREAM);
        (again.len() == messages.len() + 1).then_some(again)
    });
    assert_is_log(&again, &exported(&daemon));
    assert!(!nats.read(BUCKET).is_empty());
    daemon.assert_healthy();
}
