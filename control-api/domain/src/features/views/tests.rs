use std::time::Duration;

use super::{
    commands::*,
    events::Event,
    queries::{self, Totals},
    tables::{DAYS, DELETED, KEPT_DAYS, SWEPT, TOTALS},
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::{
        channels::{self, events::Visibility as OfChannel},
        videos::{
            self,
            commands::Announce,
            details::{Details, Visibility},
        },
    },
    id::{ChannelId, NodeId, VideoId},
    rows::Order,
    scenario::Scenario,
    time::Time,
};

const NODE: NodeId = NodeId::new(uuid::Uuid::from_u128(7));
const OTHER_NODE: NodeId = NodeId::new(uuid::Uuid::from_u128(8));

fn minute(number: u64) -> Time {
    Time::from_millis(1_796_000_040_000).after(Duration::from_secs(60 * number))
}

fn record(batch: u64, counts: Vec<Count>) -> Record {
    Record { node: NODE, batch, counts }
}

fn of_channel(channel: ChannelId, minute: Time, views: u64, watched_ms: u64) -> Count {
    Count { subject: Subject::Channel(channel), minute, views, watched_ms }
}

fn announced(scenario: &mut Scenario, owner: Actor, channel: ChannelId) -> VideoId {
    let details = Details {
        title: "Notes".parse().expect("a title"),
        description: String::new().try_into().expect("a text"),
        tags: Vec::new().try_into().expect("no tags"),
        category: None,
        language: None,
        visibility: Visibility::Public,
        chapters: Vec::new().try_into().expect("no chapters"),
    };
    let announce = Announce { channel, details, password: None };
    scenario.send(owner, &announce).expect("the owner")
}

/// A platform with Ada, her channel and her video.
fn platform() -> (Scenario, Actor, ChannelId, VideoId) {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let channel = scenario.channel(ada, "engine", OfChannel::Public);
    let video = announced(&mut scenario, ada, channel);
    (scenario, ada, channel, video)
}

fn totals(scenario: &Scenario, channel: ChannelId) -> (u64, u64) {
    let Totals { views, watched_ms } =
        queries::of_channel(&scenario.rows, channel).expect("memory");
    (views, watched_ms)
}

#[test]
fn counts_of_minutes_are_added_to_days_and_totals() {
    let (mut scenario, _, channel, video) = platform();
    let of_video =
        Count { subject: Subject::Video(video), minute: minute(0), views: 5, watched_ms: 50 };
    let first = record(1, vec![of_channel(channel, minute(0), 2, 60_000), of_video]);
    scenario.send(Actor::System, &first).expect("the daemon");
    let second = record(2, vec![of_channel(channel, minute(1), 1, 500)]);
    scenario.send(Actor::System, &second).expect("the daemon");
    let days_later = record(3, vec![of_channel(channel, minute(2 * 24 * 60), 4, 1)]);
    scenario.send(Actor::System, &days_later).expect("the daemon");

    assert_eq!(totals(&scenario, channel), (7, 60_501));
    let of_video = queries::of_video(&scenario.rows, video).expect("memory");
    assert_eq!(of_video, Totals { views: 5, watched_ms: 50 });
    let day = queries::day(minute(0));
    let days = |first, last, limit| {
        let subject = Subject::Channel(channel);
        queries::days(&scenario.rows, subject, first, last, limit).expect("memory")
    };
    let two = [
        (day, Totals { views: 3, watched_ms: 60_500 }),
        (day + 2, Totals { views: 4, watched_ms: 1 }),
    ];
    assert_eq!(days(0, u64::MAX, 10), two);
    assert_eq!(days(day + 1, day + 2, 10), two[1..]);
    assert_eq!(days(day, day + 1, 10), two[..1]);
    assert_eq!(days(0, u64::MAX, 1), two[..1]);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_batch_counts_once_for_each_node() {
    let (mut scenario, _, channel, _) = platform();
    let batch = record(1, vec![of_channel(channel, minute(0), 2, 10)]);
    for _ in 0..2 {
        scenario.send(Actor::System, &batch).expect("again is no error");
    }
    assert_eq!(totals(&scenario, channel), (2, 10));
    assert_eq!(scenario.take_events::<Event>().len(), 1);
    let other = Record { node: OTHER_NODE, ..batch.clone() };
    scenario.send(Actor::System, &other).expect("the daemon");
    let next = record(3, batch.counts.clone());
    scenario.send(Actor::System, &next).expect("a batch without counts was left out");
    scenario.send(Actor::System, &record(2, batch.counts)).expect("it is late");
    assert_eq!(totals(&scenario, channel), (6, 30));
    assert_eq!(queries::last_batch(&scenario.rows, NODE).expect("memory"), 3);
}

#[test]
fn only_the_daemon_records_and_nothing_is_recorded_of_things_that_are_gone() {
    let (mut scenario, ada, channel, video) = platform();
    let admin = scenario.person("root", Role::Administrator);
    let batch = record(1, vec![of_channel(channel, minute(0), 2, 10)]);
    for actor in [Actor::Anonymous, ada, admin] {
        let refused = scenario.send(actor, &batch);
        assert!(matches!(refused, Err(Refusal::SignIn | Refusal::Forbidden { .. })), "{refused:?}");
    }
    scenario.take_events::<Event>();
    scenario.send(ada, &videos::commands::Delete { video }).expect("the owner");
    let gone = Subject::Video(video);
    let unknown = Subject::Channel(ChannelId::new(uuid::Uuid::nil()));
    let counts = [gone, unknown].map(|subject| Count {
        subject,
        minute: minute(0),
        views: 1,
        watched_ms: 1,
    });
    scenario.send(Actor::System, &record(1, counts.to_vec())).expect("the daemon");
    let nothing = record(2, vec![of_channel(channel, minute(0), 0, 0)]);
    scenario.send(Actor::System, &nothing).expect("the daemon");
    assert_eq!(scenario.take_events::<Event>(), []);
    let many = record(3, vec![of_channel(channel, minute(0), 1, 1); MAX_COUNTS + 1]);
    let refused = scenario.send(Actor::System, &many);
    assert!(matches!(refused, Err(Refusal::Limit { .. })), "{refused:?}");
}

#[test]
fn days_are_kept_for_three_years() {
    let (mut scenario, _, channel, _) = platform();
    for (batch, day) in [0, 1, KEPT_DAYS, KEPT_DAYS + 1].into_iter().enumerate() {
        let counts = vec![of_channel(channel, minute(day * 24 * 60), 1, 0)];
        let batch = record(batch as u64 + 1, counts);
        scenario.send(Actor::System, &batch).expect("the daemon");
    }
    let first = queries::day(minute(0));
    let subject = Subject::Channel(channel);
    let kept = queries::days(&scenario.rows, subject, 0, u64::MAX, 10).expect("memory");
    let kept = kept.into_iter().map(|(day, _)| day - first).collect::<Vec<_>>();
    assert_eq!(kept, [KEPT_DAYS, KEPT_DAYS + 1]);
    assert_eq!(totals(&scenario, channel).0, 4);
}

#[test]
fn the_rows_of_a_deleted_channel_are_removed_in_steps() {
    let (mut scenario, ada, channel, _) = platform();
    let other = scenario.channel(ada, "loom", OfChannel::Public);
    for day in 0..SWEPT as u64 + 5 {
        let counts = vec![of_channel(channel, minute(day * 24 * 60), 1, 0)];
        scenario.send(Actor::System, &record(day + 1, counts)).expect("the daemon");
    }
    let left = |scenario: &Scenario| {
        let subject = Subject::Channel(channel);
        DAYS.page(&scenario.rows, &subject, None, Order::Up, 1_000).expect("memory").len()
    };
    scenario.send(ada, &channels::commands::Delete { channel }).expect("the owner");
    assert_eq!(left(&scenario), 5);
    let counts = vec![of_channel(other, minute(0), 1, 0)];
    scenario.send(Actor::System, &record(1_000, counts)).expect("the daemon");
    assert_eq!(left(&scenario), 0);
    let rows = &scenario.rows;
    assert!(!TOTALS.contains(rows, &Subject::Channel(channel)).expect("memory"));
    assert_eq!(DELETED.page(rows, &(), None, Order::Up, 10).expect("memory"), []);
    assert_eq!(totals(&scenario, other), (1, 0));
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_owner_and_administrators_read_about_the_audience() {
    let (mut scenario, ada, channel, _) = platform();
    let admin = scenario.person("root", Role::Administrator);
    let moderator = scenario.person("mod", Role::Moderator);
    let may = |actor: Actor| queries::may_show(&scenario.rows, &actor, channel);
    assert!(may(ada).is_ok() && may(admin).is_ok() && may(Actor::System).is_ok());
    assert!(matches!(may(moderator), Err(Refusal::Forbidden { .. })));
    assert!(matches!(may(Actor::Anonymous), Err(Refusal::SignIn)));
    let batch = record(1, vec![of_channel(channel, minute(0), 1, 1)]);
    scenario.send(Actor::System, &batch).expect("the daemon");
    let event = scenario.log.last().expect("an event");
    let reads =
        |actor: Actor| queries::audience(&scenario.rows, event).expect("memory").includes(&actor);
    assert!(reads(ada) && reads(admin));
    assert!(!reads(moderator) && !reads(Actor::Anonymous));
}
