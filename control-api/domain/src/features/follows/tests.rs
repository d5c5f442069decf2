use super::{
    commands::*,
    events::{Event, Notices},
    queries,
    tables::{BY_CHANNEL, DELETED, FOLLOWED, FOLLOWS, MAX_OF_A_PERSON, SWEPT},
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::channels::{
        commands::{Delete, Edit},
        events::{Edits, Visibility},
    },
    id::ChannelId,
    rows::Order,
    scenario::Scenario,
};

fn follow(channel: ChannelId) -> Follow {
    Follow { channel, notices: Notices::All }
}

/// A platform with Ada and her channel, and Bob.
fn platform() -> (Scenario, Actor, ChannelId, Actor) {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let bob = scenario.person("bob", Role::Viewer);
    let channel = scenario.channel(ada, "engine", Visibility::Public);
    (scenario, ada, channel, bob)
}

fn followers(scenario: &Scenario, channel: ChannelId) -> u64 {
    let count = queries::followers(&scenario.rows, channel).expect("memory");
    let listed = queries::of_channel(&scenario.rows, channel, None, 1_000).expect("memory");
    assert_eq!(count, listed.len() as u64);
    count
}

fn followed(scenario: &Scenario, person: Actor) -> Vec<ChannelId> {
    let id = person.account().expect("a person");
    let page = queries::of_person(&scenario.rows, &person, id, None, 100).expect("memory");
    page.items.into_iter().map(|(channel, _)| channel).collect()
}

#[test]
fn a_person_follows_a_channel_once_and_changes_the_notices() {
    let (mut scenario, ada, channel, bob) = platform();
    for _ in 0..2 {
        scenario.send(bob, &follow(channel)).expect("a person");
    }
    scenario.send(ada, &follow(channel)).expect("a person");
    assert_eq!(followers(&scenario, channel), 2);
    let since = scenario.now();
    let quiet = Follow { channel, notices: Notices::None };
    scenario.send(bob, &quiet).expect("a person");
    assert_eq!(scenario.take_events::<Event>().len(), 3, "a repeated one changes nothing");
    assert_eq!((followers(&scenario, channel), followed(&scenario, bob)), (2, vec![channel]));
    let person = bob.account().expect("a person");
    let row = queries::follow(&scenario.rows, person, channel).expect("memory").expect("a row");
    assert_eq!(row.notices, Notices::None);
    assert!(row.since < since, "it has begun before");
}

#[test]
fn a_follow_that_is_removed_is_counted_no_more() {
    let (mut scenario, _, channel, bob) = platform();
    scenario.send(bob, &Unfollow { channel }).expect("none is no error");
    scenario.send(bob, &follow(channel)).expect("a person");
    for _ in 0..2 {
        scenario.send(bob, &Unfollow { channel }).expect("again is no error");
    }
    assert_eq!((followers(&scenario, channel), followed(&scenario, bob)), (0, vec![]));
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn only_people_follow_and_only_channels_that_they_may_know_of() {
    let (mut scenario, ada, channel, bob) = platform();
    let private = scenario.channel(ada, "secret", Visibility::Private);
    let refused = scenario.send(Actor::Anonymous, &follow(channel));
    assert!(matches!(refused, Err(Refusal::SignIn)), "{refused:?}");
    let refused = scenario.send(bob, &follow(private));
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "channel" })), "{refused:?}");

    // A channel that has become private is listed no more, and can be left.
    scenario.send(bob, &follow(channel)).expect("a person");
    let edits = Edits { visibility: Some(Visibility::Private), ..Edits::default() };
    scenario.send(ada, &Edit { channel, edits }).expect("the owner");
    assert_eq!(followed(&scenario, bob), []);
    scenario.send(bob, &Unfollow { channel }).expect("he follows it");
    assert_eq!(followers(&scenario, channel), 0);

    scenario.erase(bob);
    let refused = scenario.send(bob, &follow(channel));
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "account" })), "{refused:?}");
}

#[test]
fn lists_are_read_page_by_page() {
    let (mut scenario, ada, first, bob) = platform();
    let names = ["second", "third"];
    let others = names.map(|name| scenario.channel(ada, name, Visibility::Public));
    for channel in [first, others[0], others[1]] {
        scenario.send(bob, &follow(channel)).expect("a person");
        scenario.send(ada, &follow(channel)).expect("a person");
    }
    let (ada, person) = (ada.account().expect("a person"), bob.account().expect("a person"));
    let page = queries::of_person(&scenario.rows, &bob, person, None, 2).expect("memory");
    assert_eq!(page.items.iter().map(|row| row.0).collect::<Vec<_>>(), [first, others[0]]);
    let page = queries::of_person(&scenario.rows, &bob, person, page.next, 2).expect("memory");
    assert_eq!(page.items.iter().map(|row| row.0).collect::<Vec<_>>(), [others[1]]);
    assert_eq!(page.next, None);
    let of_channel = |after| queries::of_channel(&scenario.rows, first, after, 1).expect("memory");
    assert_eq!(
        [of_channel(None), of_channel(Some(ada)), of_channel(Some(person))],
        [vec![ada], vec![person], vec![]]
    );
}

#[test]
fn a_person_follows_a_limited_number_of_channels() {
    let (mut scenario, _, channel, bob) = platform();
    let person = bob.account().expect("a person");
    let full = MAX_OF_A_PERSON as u64;
    FOLLOWED.put(&mut scenario.rows, &person, &full).expect("memory");
    let refused = scenario.send(bob, &follow(channel));
    assert!(matches!(refused, Err(Refusal::Limit { limit, .. }) if limit == full), "{refused:?}");
}

#[test]
fn an_erased_account_follows_nothing() {
    let (mut scenario, ada, channel, bob) = platform();
    scenario.send(bob, &follow(channel)).expect("a person");
    scenario.send(ada, &follow(channel)).expect("a person");
    scenario.erase(bob);
    assert_eq!(followers(&scenario, channel), 1);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_followers_of_a_deleted_channel_are_removed_in_steps() {
    let (mut scenario, ada, channel, bob) = platform();
    let kept = scenario.channel(ada, "kept", Visibility::Public);
    let people = (0..2 * SWEPT).map(|n| scenario.person(&format!("p{n}"), Role::Viewer));
    let people = people.collect::<Vec<_>>();
    for person in &people {
        scenario.send(*person, &follow(channel)).expect("a person");
    }
    scenario.send(bob, &follow(channel)).expect("a person");
    scenario.send(ada, &Delete { channel }).expect("the owner");
    assert_eq!(followed(&scenario, people[0]), []);
    assert_eq!(followed(&scenario, bob), []);
    let left = |scenario: &Scenario| {
        let rows = BY_CHANNEL.page(&scenario.rows, &channel, None, Order::Up, 1_000);
        rows.expect("memory").len()
    };
    assert_eq!(left(&scenario), SWEPT + 1);
    scenario.send(bob, &follow(kept)).expect("a person");
    scenario.send(bob, &Unfollow { channel: kept }).expect("a person");
    assert_eq!(left(&scenario), 0);
    assert_eq!(FOLLOWS.page(&scenario.rows, &(), None, Order::Up, 10).expect("memory"), []);
    assert_eq!(DELETED.page(&scenario.rows, &(), None, Order::Up, 10).expect("memory"), []);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}
