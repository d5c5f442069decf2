use std::{
    task::{Context, Waker},
    time::{Duration, Instant, SystemTime},
};

use media_core::{
    Hub, TrackIndex, TrackName,
    broadcast::Limits,
    codec::{Config, aac},
    hub,
};

use super::*;
use crate::renderer::example::{Cut, Example};

/// Two broadcasts of one channel, the one after the other.
fn broadcasts() -> [Arc<Live>; 2] {
    let hub = Hub::new(hub::Settings {
        broadcast: Limits {
            bytes: 1 << 20,
            age: Duration::from_secs(60),
            segment: Duration::from_secs(2),
            stall: Duration::from_secs(2),
        },
        reconnect: Duration::ZERO,
        max_channels: 1,
    });
    [0, 1].map(|_| {
        let config = Config::Aac(aac::Config::parse(&[0x11, 0x90]).unwrap());
        let tracks = vec![(TrackName::source_audio(), config)];
        let claim = hub.claim("demo".parse().unwrap()).unwrap();
        let producer = claim.start(tracks, Instant::now(), SystemTime::now()).unwrap();
        let live = Arc::new(Live::new(producer.broadcast()));
        producer.end();
        live
    })
}

fn is(found: Option<Arc<Live>>, live: &Arc<Live>) -> bool {
    found.is_some_and(|found| Arc::ptr_eq(&found, live))
}

#[test]
fn a_broadcast_keeps_its_channel_name_until_its_successor_takes_it() {
    let [first, second] = broadcasts();
    let presentations = Presentations::default();
    let name = first.channel().clone();
    assert!(presentations.insert(&first).is_none());
    assert!(is(presentations.channel(&name), &first));
    assert!(is(presentations.insert(&second), &first));
    assert!(is(presentations.channel(&name), &first));
    presentations.name(&second);
    assert!(is(presentations.channel(&name), &second));
    assert!(is(presentations.broadcast(first.broadcast()), &first));
    // The name is not the first's any more.
    presentations.remove(&first);
    assert!(is(presentations.channel(&name), &second));
    assert!(presentations.broadcast(first.broadcast()).is_none());
}

#[test]
fn a_name_that_becomes_free_goes_to_the_broadcast_that_waits_for_it() {
    let [first, second] = broadcasts();
    let presentations = Presentations::default();
    presentations.insert(&first);
    presentations.insert(&second);
    presentations.remove(&first);
    assert!(is(presentations.channel(second.channel()), &second));
    presentations.remove(&second);
    assert!(presentations.is_empty() && presentations.channel(second.channel()).is_none());
}

#[test]
fn the_discontinuity_sequence_of_a_channel_is_the_maximum_of_all_snapshots() {
    let [first, second] = broadcasts();
    let presentations = Presentations::default();
    presentations.insert(&first);
    presentations.insert(&second);
    assert_eq!(presentations.discontinuities(), 0);
    for (live, count) in [(&first, 3), (&second, 1)] {
        let mut example = Example::of(&["v0", "a0"]);
        for _ in 0..count {
            example.push(Cut::Discontinuity, 180_000);
        }
        live.publish(example.snapshot(), &[TrackIndex::new(0), TrackIndex::new(1)]);
    }
    let reached = [first, second].map(|live| live.current().unwrap().tracks[0].discontinuities());
    assert_eq!(reached[0], reached[1] + 2);
    assert_eq!(presentations.discontinuities(), reached[0]);
}

#[test]
fn the_wait_for_an_empty_index_ends_with_the_last_removal_and_at_once_without_any() {
    let [first, second] = broadcasts();
    let presentations = Presentations::default();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(presentations.emptied()).poll(&mut cx).is_ready());
    presentations.insert(&first);
    presentations.insert(&second);
    let mut emptied = pin!(presentations.emptied());
    assert!(emptied.as_mut().poll(&mut cx).is_pending());
    presentations.remove(&first);
    assert!(emptied.as_mut().poll(&mut cx).is_pending());
    presentations.remove(&second);
    assert!(emptied.poll(&mut cx).is_ready());
}

#[test]
fn an_older_broadcast_does_not_regain_the_channel_name() {
    let [first, second] = broadcasts();
    let presentations = Presentations::default();
    for live in [&first, &second] {
        presentations.insert(live);
        let mut example = Example::of(&["v0", "a0"]);
        example.push(Cut::Media, 180_000);
        live.publish(example.snapshot(), &[TrackIndex::new(0), TrackIndex::new(1)]);
        presentations.name(live);
    }
    presentations.remove(&second);
    assert!(presentations.channel(first.channel()).is_none());
}
