use super::{
    commands::*,
    events::{DELETED, Edits, Visibility},
    queries,
    settings::{Changes, Ladder, Latency, PublishPolicy, Settings},
    tables::MAX_OF_AN_OWNER,
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::{
        accounts::commands::{Add, Erase, PasswordHash},
        categories,
        categories::commands::{MakeStartSet, Remove},
    },
    id::{AccountId, ChannelId},
    scenario::Scenario,
};

fn account(scenario: &mut Scenario, name: &str, role: Role) -> (AccountId, Actor) {
    let add = Add {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: PasswordHash("$argon2id$".to_owned()),
        role,
    };
    let id = scenario.send(Actor::System, &add).expect("nobody has this name");
    (id, Actor::Person { id, role })
}

fn create(owner: AccountId, name: &str, visibility: Visibility) -> Create {
    Create {
        owner,
        name: name.parse().expect("a channel name"),
        title: "A title".parse().expect("a title"),
        visibility,
    }
}

fn names(scenario: &Scenario, actor: &Actor) -> Vec<String> {
    let page = queries::page(&scenario.rows, actor, None, 100).expect("memory");
    page.into_iter().map(|(_, channel)| channel.name).collect()
}

#[test]
fn creators_make_channels_of_their_own() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    let (bob, as_bob) = account(&mut scenario, "bob", Role::Viewer);
    scenario.send(as_ada, &create(ada, "engine", Visibility::Public)).expect("a creator");
    let refused = scenario.send(as_bob, &create(bob, "other", Visibility::Public));
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    let refused = scenario.send(as_ada, &create(bob, "other", Visibility::Public));
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "not for another: {refused:?}");
    let refused = scenario.send(as_ada, &create(ada, "ENGINE", Visibility::Public));
    assert!(matches!(refused, Err(Refusal::Conflict { rule: "name_taken", .. })), "{refused:?}");
}

#[test]
fn an_account_has_a_limited_number_of_channels() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    for n in 0..MAX_OF_AN_OWNER {
        let command = create(ada, &format!("c{n}"), Visibility::Public);
        scenario.send(as_ada, &command).expect("below the limit");
    }
    let refused = scenario.send(as_ada, &create(ada, "more", Visibility::Public));
    assert!(matches!(refused, Err(Refusal::Limit { limit: 20, .. })), "{refused:?}");
}

#[test]
fn a_private_channel_is_known_to_its_owner_and_moderators_alone() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    let (_, as_bob) = account(&mut scenario, "bob", Role::Creator);
    let (_, as_moderator) = account(&mut scenario, "eve", Role::Moderator);
    for (name, visibility) in [
        ("open", Visibility::Public),
        ("quiet", Visibility::Unlisted),
        ("secret", Visibility::Private),
    ] {
        scenario.send(as_ada, &create(ada, name, visibility)).expect("a creator");
    }
    assert_eq!(names(&scenario, &as_bob), ["open"]);
    assert_eq!(names(&scenario, &Actor::Anonymous), ["open"]);
    assert_eq!(names(&scenario, &as_ada), ["open", "quiet", "secret"]);
    assert_eq!(names(&scenario, &as_moderator), ["open", "quiet", "secret"]);

    let id = |name: &str| {
        let name = name.parse().expect("a channel name");
        queries::by_name(&scenario.rows, &name).expect("memory").expect("it exists")
    };
    let (open, secret) = (id("open"), id("secret"));
    let refused = scenario.send(as_bob, &Delete { channel: open });
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    let refused = scenario.send(as_bob, &Delete { channel: secret });
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "channel" })), "{refused:?}");
    let unknown = ChannelId::new(uuid::Uuid::from_u128(999));
    let refused = scenario.send(as_bob, &Delete { channel: unknown });
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "channel" })), "{refused:?}");
}

#[test]
fn a_page_that_skips_channels_is_full_if_there_are_enough() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    for n in 0..20 {
        let visibility = if n % 2 == 0 { Visibility::Private } else { Visibility::Public };
        scenario.send(as_ada, &create(ada, &format!("c{n}"), visibility)).expect("a creator");
    }
    let page = |after, limit| {
        let page = queries::page(&scenario.rows, &Actor::Anonymous, after, limit).expect("memory");
        page.into_iter().map(|(id, channel)| (id, channel.name)).collect::<Vec<_>>()
    };
    let first = page(None, 4);
    assert_eq!(
        first.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(),
        ["c1", "c3", "c5", "c7"]
    );
    let second = page(first.last().map(|(id, _)| *id), 100);
    assert_eq!(second.len(), 6, "{second:?}");
}

#[test]
fn an_edit_changes_the_named_properties_alone() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    let id = scenario.send(as_ada, &create(ada, "engine", Visibility::Public));
    let channel = id.expect("a creator");
    let edits = Edits { title: Some("Notes".parse().expect("a title")), ..Edits::default() };
    let edit = Edit { channel, edits };
    scenario.send(as_ada, &edit).expect("the owner");
    let events = scenario.log.len();
    scenario.send(as_ada, &edit).expect("the owner");
    assert_eq!(scenario.log.len(), events, "nothing changed");
    let now = queries::channel(&scenario.rows, channel).expect("it exists");
    assert_eq!((now.title.as_str(), now.visibility), ("Notes", Visibility::Public));
    assert!(now.changed > now.created);
}

#[test]
fn the_channels_of_an_erased_account_are_gone_and_their_names_free() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    let (bob, as_bob) = account(&mut scenario, "bob", Role::Creator);
    scenario.send(as_ada, &create(ada, "engine", Visibility::Public)).expect("a creator");
    let channel = queries::of_owner(&scenario.rows, ada).expect("memory")[0];
    scenario.send(as_ada, &Erase { account: ada }).expect("her own");
    scenario.vault.erase(ada);
    assert_eq!(names(&scenario, &Actor::System), [] as [&str; 0]);
    assert_eq!(queries::orphans(&scenario.rows, 10).expect("memory"), [channel]);
    scenario.send(Actor::System, &DeleteOrphans).expect("the daemon");
    let last = scenario.log.last().expect("an event");
    assert_eq!((last.kind.as_str(), last.subject.clone()), (DELETED, channel.to_string()));
    assert_eq!(queries::orphans(&scenario.rows, 10).expect("memory"), []);
    scenario.send(as_bob, &create(bob, "engine", Visibility::Public)).expect("the name is free");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn settings_begin_as_the_platforms_and_change_one_by_one() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    let create = create(ada, "engine", Visibility::Public);
    let channel = scenario.send(as_ada, &create).expect("a creator");
    let settings =
        |scenario: &Scenario| queries::settings(&scenario.rows, channel).expect("memory");
    assert_eq!(settings(&scenario), Settings::default());
    assert_eq!(settings(&scenario).publish, PublishPolicy::Keys);

    scenario.send(Actor::System, &MakeStartSet).expect("the operator");
    let categories = categories::queries::all(&scenario.rows).expect("memory");
    let changes = Changes {
        ladder: Some(Ladder::Rungs(vec![720, 360].try_into().expect("rungs"))),
        recording: Some(true),
        reconnect_s: Some(Some(30.try_into().expect("half a minute"))),
        latency: Some(Latency::Standard),
        publish: Some(PublishPolicy::Jwt),
        category: Some(Some(categories[0].0)),
        language: Some(Some("de".parse().expect("a language"))),
    };
    let change = |changes, expected| ChangeSettings { channel, changes, expected };
    scenario.send(as_ada, &change(changes.clone(), Some(0))).expect("the owner");
    let events = scenario.log.len();
    scenario.send(as_ada, &change(changes, Some(1))).expect("the owner");
    assert_eq!(scenario.log.len(), events, "nothing changed");
    let now = settings(&scenario);
    assert_eq!((now.recording, now.latency, now.version), (true, Latency::Standard, 1));

    // `null` returns to the platform's value, and the rest stays.
    let changes: Changes =
        serde_json::from_str(r#"{"reconnect_s":null,"category":null}"#).expect("a partial change");
    scenario.send(as_ada, &change(changes, None)).expect("the owner");
    let expected = Settings { reconnect_s: None, category: None, version: 2, ..now };
    assert_eq!(settings(&scenario), expected);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn settings_are_changed_by_the_owner_of_the_channel_they_were_read_from() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    let (_, as_moderator) = account(&mut scenario, "eve", Role::Moderator);
    let create = create(ada, "engine", Visibility::Public);
    let channel = scenario.send(as_ada, &create).expect("a creator");
    let changes = Changes { publish: Some(PublishPolicy::Open), ..Changes::default() };
    let change = ChangeSettings { channel, changes, expected: Some(0) };
    let refused = scenario.send(as_moderator, &change);
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    scenario.send(as_ada, &change).expect("the owner");
    let refused = scenario.send(as_ada, &change);
    assert!(matches!(refused, Err(Refusal::Changed { thing: "channel" })), "{refused:?}");

    scenario.send(Actor::System, &MakeStartSet).expect("the operator");
    let (category, _) = categories::queries::all(&scenario.rows).expect("memory")[0];
    scenario.send(Actor::System, &Remove { category }).expect("the operator");
    let changes = Changes { category: Some(Some(category)), ..Changes::default() };
    let refused = scenario.send(as_ada, &ChangeSettings { channel, changes, expected: None });
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "category" })), "{refused:?}");

    scenario.send(as_ada, &Delete { channel }).expect("the owner");
    let left = queries::settings(&scenario.rows, channel).expect("memory");
    assert_eq!(left, Settings::default(), "a row of the deleted channel");
}
