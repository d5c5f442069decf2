use super::{
    commands::{EndStream, Record},
    events::{Event, Outcome, Performed},
    queries::{self, Entry, Filter},
};
use crate::{
    actor::{Actor, ActorId, Authority, Door, Role},
    command::Refusal,
    features::{accounts, categories, channels, channels::events::Visibility, videos},
    rows::Rows,
    scenario::Scenario,
    vault::Vault as _,
};

const OPERATOR: Actor = Actor::Operator(Door::Socket);

/// All entries that the filter includes, page by page, the newest first.
fn listed(rows: &dyn Rows, filter: &Filter) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = queries::list(rows, &Actor::System, filter, after, 2).expect("the daemon");
        entries.extend(page.items.into_iter().map(|(_, entry)| entry));
        after = page.next;
        if after.is_none() {
            return entries;
        }
    }
}

/// The type and authority of all entries, the oldest first.
fn kinds(scenario: &Scenario) -> Vec<(String, Option<Authority>)> {
    let entries = listed(&scenario.rows, &Filter::default()).into_iter().rev();
    let short = |kind: &str| {
        let kind = kind.trim_start_matches("streamforge.").trim_end_matches(".v1");
        kind.to_owned()
    };
    entries.map(|entry| (short(&entry.kind), entry.authority)).collect()
}

fn record(operation: &str, reason: Option<&str>) -> Record {
    Record {
        operation: operation.parse().expect("a name"),
        subject: "log_level".parse().expect("a subject"),
        outcome: Outcome::Done,
        value: Some("debug".parse().expect("a value")),
        reason: reason.map(|reason| reason.parse().expect("a reason")),
    }
}

fn end(channel: &str) -> EndStream {
    EndStream {
        channel: channel.parse().expect("a name"),
        outcome: Outcome::Done,
        reason: Some("it was loud".parse().expect("a reason")),
    }
}

fn made(name: &str) -> categories::commands::Make {
    let name = name.parse().expect("a name");
    categories::commands::Make { name, translations: Default::default() }
}

#[test]
fn acts_on_own_things_and_those_of_the_daemon_are_in_no_audit_log() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let channel = scenario.channel(ada, "ada", Visibility::Public);
    let title = Some("Another".parse().expect("a title"));
    let edits = channels::events::Edits { title, ..Default::default() };
    scenario.send(ada, &channels::commands::Edit { channel, edits }).expect("the owner");
    scenario.send(Actor::System, &categories::commands::MakeStartSet).expect("the daemon");
    scenario.send(ada, &channels::commands::Delete { channel }).expect("the owner");
    assert_eq!(kinds(&scenario), []);
}

#[test]
fn acts_by_a_role_on_things_of_others_and_on_those_of_all_are_listed() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let moderator = scenario.person("mo", Role::Moderator);
    let root = scenario.person("root", Role::Administrator);
    let channel = scenario.channel(ada, "ada", Visibility::Public);
    let details = videos::details::Details {
        title: "A film".parse().expect("a title"),
        description: String::new().try_into().expect("a text"),
        tags: videos::details::Tags::default(),
        category: None,
        language: None,
        visibility: videos::details::Visibility::Public,
        chapters: Vec::new().try_into().expect("no chapters"),
    };
    let announce = videos::commands::Announce { channel, details, password: None };
    let video = scenario.send(ada, &announce).expect("the owner");
    scenario.send(moderator, &videos::commands::Delete { video }).expect("a moderator");
    let account = ada.account().expect("a person");
    let role = Role::Moderator;
    scenario.send(root, &accounts::commands::ChangeRole { account, role }).expect("root");
    scenario.send(root, &made("Chess")).expect("root");
    scenario.send(OPERATOR, &channels::commands::Delete { channel }).expect("the operator");
    let by = |authority| Some(authority);
    assert_eq!(
        kinds(&scenario),
        [
            ("video.deleted".to_owned(), by(Authority::Moderator)),
            ("account.role_changed".to_owned(), by(Authority::Administrator)),
            ("category.made".to_owned(), by(Authority::Administrator)),
            ("channel.deleted".to_owned(), by(Authority::Operator)),
        ]
    );
    let filter = Filter { subject: Some(account.to_string()), ..Filter::default() };
    let [changed] = &listed(&scenario.rows, &filter)[..] else { panic!("one entry") };
    assert_eq!(changed.details["role"], "moderator");
    assert_eq!(changed.actor, ActorId::Account(root.account().expect("a person")));
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn an_administrator_who_changes_an_own_thing_uses_no_authority() {
    let mut scenario = Scenario::default();
    let root = scenario.person("root", Role::Administrator);
    let channel = scenario.channel(root, "root", Visibility::Public);
    scenario.send(root, &channels::commands::Delete { channel }).expect("the owner");
    assert_eq!(kinds(&scenario), []);
    // A channel for somebody else is an act.
    let ada = scenario.person("ada", Role::Creator).account().expect("a person");
    let create = channels::commands::Create {
        owner: ada,
        name: "ada".parse().expect("a name"),
        title: "Ada".parse().expect("a title"),
        visibility: Visibility::Public,
    };
    scenario.send(root, &create).expect("root");
    let authority = Some(Authority::Administrator);
    assert_eq!(kinds(&scenario), [("channel.created".to_owned(), authority)]);
}

#[test]
fn operations_of_the_daemon_are_recorded_by_administrators_and_the_operator_alone() {
    let mut scenario = Scenario::default();
    let root = scenario.person("root", Role::Administrator);
    let moderator = scenario.person("mo", Role::Moderator);
    scenario.take_events::<accounts::events::Event>();
    scenario.send(root, &record("log_level.set", None)).expect("root");
    let [Event::Performed(Performed { operation, outcome, value, reason, .. })] =
        &scenario.take_events()[..]
    else {
        panic!("one event")
    };
    let value = value.as_ref().map(|value| value.as_str());
    assert_eq!((operation.as_str(), *outcome), ("log_level.set", Outcome::Done));
    assert_eq!((value, reason), (Some("debug"), &None));
    for actor in [moderator, Actor::Anonymous] {
        let refused = scenario.send(actor, &record("log_level.set", None));
        let is_refused = matches!(refused, Err(Refusal::Forbidden { .. } | Refusal::SignIn));
        assert!(is_refused, "{refused:?}");
    }
    for door in Door::ALL {
        let operator = Actor::Operator(door);
        scenario.send(operator, &record("database.backup", None)).expect("the operator");
    }
    // The daemon's own operations, such as the first administrator, are listed too.
    scenario.send(Actor::System, &record("administrator.make", None)).expect("the daemon");
    let entries = listed(&scenario.rows, &Filter::default());
    let actors = entries.iter().map(|entry| entry.actor.to_string()).collect::<Vec<_>>();
    assert_eq!(actors[0], "system");
    assert_eq!(actors[1..4], ["operator:signal", "operator:token", "operator:socket"]);
    assert_eq!(entries.len(), 5);
}

#[test]
fn a_broadcast_is_ended_by_the_owner_of_its_channel_and_by_administrators() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let eve = scenario.person("eve", Role::Creator);
    let moderator = scenario.person("mo", Role::Moderator);
    let root = scenario.person("root", Role::Administrator);
    scenario.channel(ada, "ada", Visibility::Private);
    scenario.channel(ada, "stage", Visibility::Public);
    for actor in [ada, root, OPERATOR] {
        let name = "ADA".parse().expect("a name");
        queries::may_end_stream(&scenario.rows, &actor, &name).expect("permitted");
        scenario.send(actor, &end("ada")).expect("permitted");
    }
    for (actor, channel, is_hidden) in
        [(eve, "ada", true), (eve, "stage", false), (moderator, "ada", false), (eve, "gone", false)]
    {
        let name = channel.parse().expect("a name");
        let asked = queries::may_end_stream(&scenario.rows, &actor, &name);
        for refused in [asked, scenario.send(actor, &end(channel))] {
            match is_hidden {
                true => assert!(matches!(refused, Err(Refusal::NotFound { .. })), "{refused:?}"),
                false => assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}"),
            }
        }
    }
    let nobody = scenario.send(Actor::Anonymous, &end("stage"));
    assert!(matches!(nobody, Err(Refusal::SignIn)), "{nobody:?}");
    // A channel of the configuration's keys, which the platform does not know.
    scenario.send(root, &end("camera")).expect("an administrator");
    let authorities = kinds(&scenario).into_iter().map(|(_, authority)| authority);
    let expected = [
        None,
        Some(Authority::Administrator),
        Some(Authority::Operator),
        Some(Authority::Administrator),
    ];
    assert_eq!(authorities.collect::<Vec<_>>(), expected);
}

#[test]
fn the_words_of_a_sender_are_gone_with_the_account() {
    let mut scenario = Scenario::default();
    let root = scenario.person("root", Role::Administrator);
    scenario.person("other", Role::Administrator);
    scenario.send(root, &record("log_level.set", Some("Ada asked for it"))).expect("root");
    let reason = |scenario: &Scenario| {
        let entries = listed(&scenario.rows, &Filter::default());
        let operation = entries.last().and_then(|entry| entry.operation.clone());
        let sealed = operation.and_then(|operation| operation.reason).expect("words");
        scenario.vault.open(&sealed).expect("memory")
    };
    assert_eq!(reason(&scenario).as_deref(), Some("Ada asked for it"));
    scenario.erase(root);
    assert_eq!(reason(&scenario), None);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_log_is_filtered_by_actor_type_thing_and_time() {
    let mut scenario = Scenario::default();
    let root = scenario.person("root", Role::Administrator);
    let begin = scenario.now();
    for name in ["Chess", "Cooking", "Dance"] {
        scenario.send(root, &made(name)).expect("root");
    }
    let middle = scenario.now();
    scenario.send(OPERATOR, &made("Drawing")).expect("the operator");
    scenario.send(root, &record("log_level.set", None)).expect("root");
    let count = |filter: Filter| listed(&scenario.rows, &filter).len();
    let all = Filter::default;
    let person = root.account().map(ActorId::Account);
    let kind = Some("streamforge.category.made.v1".to_owned());
    assert_eq!(count(all()), 5);
    assert_eq!(count(Filter { actor: person, ..all() }), 4);
    assert_eq!(count(Filter { actor: Some(OPERATOR.id()), ..all() }), 1);
    assert_eq!(count(Filter { kind: kind.clone(), ..all() }), 4);
    assert_eq!(count(Filter { actor: person, kind: kind.clone(), ..all() }), 3);
    assert_eq!(count(Filter { subject: Some("log_level".to_owned()), kind, ..all() }), 0);
    assert_eq!(count(Filter { subject: Some("log_level".to_owned()), ..all() }), 1);
    assert_eq!(count(Filter { from: Some(middle), ..all() }), 2);
    assert_eq!(count(Filter { to: Some(middle), ..all() }), 3);
    assert_eq!(count(Filter { from: Some(begin), to: Some(middle), actor: person, ..all() }), 3);
    assert_eq!(count(Filter { from: Some(middle), to: Some(middle), ..all() }), 0);
}

#[test]
fn the_log_is_read_by_administrators_alone() {
    let mut scenario = Scenario::default();
    let moderator = scenario.person("mo", Role::Moderator);
    let root = scenario.person("root", Role::Administrator);
    let list = |actor| queries::list(&scenario.rows, &actor, &Filter::default(), None, 10);
    assert!(list(root).is_ok() && list(OPERATOR).is_ok());
    assert!(matches!(list(moderator), Err(Refusal::Forbidden { .. })));
    assert!(matches!(list(Actor::Anonymous), Err(Refusal::SignIn)));
}
