use super::{commands::*, events::KeyDigest, queries, tables::MAX_OF_A_CHANNEL};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::{
        accounts::commands::{Add, PasswordHash},
        channels::{commands::Create, commands::Delete, events::Visibility},
    },
    id::ChannelId,
    scenario::Scenario,
};

fn person(scenario: &mut Scenario, name: &str) -> Actor {
    let add = Add {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: PasswordHash("$argon2id$".to_owned()),
        role: Role::Creator,
    };
    let id = scenario.send(Actor::System, &add).expect("nobody has this name");
    Actor::Person { id, role: Role::Creator }
}

/// A platform with Ada and her channel, and Bob.
fn platform() -> (Scenario, Actor, ChannelId, Actor) {
    let mut scenario = Scenario::default();
    let (ada, bob) = (person(&mut scenario, "ada"), person(&mut scenario, "bob"));
    let create = Create {
        owner: ada.account().expect("a person"),
        name: "engine".parse().expect("a channel name"),
        title: "Engine".parse().expect("a title"),
        visibility: Visibility::Public,
    };
    let channel = scenario.send(ada, &create).expect("a creator");
    (scenario, ada, channel, bob)
}

fn add(channel: ChannelId, n: u8) -> AddKey {
    let name = format!("key {n}").parse().expect("a name");
    AddKey { channel, name, digest: KeyDigest([n; 32]) }
}

fn publishes_on(scenario: &Scenario, n: u8) -> Option<String> {
    let right = queries::right(&scenario.rows, &[n; 32]).expect("memory");
    right.map(|(_, channel)| channel.name)
}

#[test]
fn each_key_of_a_channel_publishes_on_it_until_it_is_revoked() {
    let (mut scenario, ada, channel, _) = platform();
    let first = scenario.send(ada, &add(channel, 1)).expect("the owner");
    scenario.send(ada, &add(channel, 2)).expect("the owner");
    assert_eq!(publishes_on(&scenario, 1).as_deref(), Some("engine"));
    scenario.send(ada, &RevokeKey { key: first }).expect("the owner");
    assert_eq!(publishes_on(&scenario, 1), None);
    assert_eq!(publishes_on(&scenario, 2).as_deref(), Some("engine"));
    assert_eq!(publishes_on(&scenario, 3), None);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn nobody_but_the_owner_adds_or_revokes_keys_or_knows_them() {
    let (mut scenario, ada, channel, bob) = platform();
    let key = scenario.send(ada, &add(channel, 1)).expect("the owner");
    let refused = scenario.send(bob, &add(channel, 2));
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    let refused = scenario.send(bob, &RevokeKey { key });
    assert!(matches!(refused, Err(Refusal::NotFound { .. })), "{refused:?}");
    assert_eq!(publishes_on(&scenario, 1).as_deref(), Some("engine"));
}

#[test]
fn keys_have_different_names_and_a_limited_number() {
    let (mut scenario, ada, channel, _) = platform();
    for n in 0..u8::try_from(MAX_OF_A_CHANNEL).expect("a small number") {
        scenario.send(ada, &add(channel, n)).expect("below the limit");
        if n == 0 {
            let again = AddKey { digest: KeyDigest([99; 32]), ..add(channel, 0) };
            let refused = scenario.send(ada, &again);
            assert!(matches!(refused, Err(Refusal::Conflict { rule: "name_taken", .. })));
        }
    }
    let refused = scenario.send(ada, &add(channel, 200));
    assert!(matches!(refused, Err(Refusal::Limit { limit: 20, .. })), "{refused:?}");
}

#[test]
fn the_keys_of_a_deleted_channel_are_gone() {
    let (mut scenario, ada, channel, _) = platform();
    scenario.send(ada, &add(channel, 1)).expect("the owner");
    scenario.send(ada, &Delete { channel }).expect("the owner");
    assert_eq!(publishes_on(&scenario, 1), None);
    assert_eq!(queries::of_channel(&scenario.rows, channel).expect("memory"), []);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_digest_is_64_hexadecimal_digits() {
    let text = "0123456789abcdef".repeat(4);
    let digest = KeyDigest::try_from(text.clone()).expect("64 digits");
    assert_eq!(String::from(digest), text);
    for refused in [&text[1..], &text.replace('0', "+"), &text.replace('f', "g"), "ä"] {
        assert!(KeyDigest::try_from(refused.to_owned()).is_err(), "{refused}");
    }
}
