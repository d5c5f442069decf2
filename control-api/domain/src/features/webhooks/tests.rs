use std::time::Duration;

use super::{
    commands::*, events::Cause, filter::TypeFilter, queries, secret::*, tables::*, url::*,
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    feature::may_read,
    features::{self, accounts, channels::events::Visibility},
    scenario::Scenario,
    vault::Vault as _,
};

fn secret(n: u8) -> WebhookSecret {
    let digits = String::from_utf8(vec![b'A' + n; 32]).expect("letters");
    format!("{PREFIX}{digits}").parse().expect("24 bytes")
}

fn create(owner: Actor) -> Create {
    let url = "https://hooks.example.org/in?key=1".parse().expect("an address");
    Create { owner: owner.account(), url, types: TypeFilter::default(), secret: secret(0) }
}

#[test]
fn a_webhook_is_made_edited_disabled_enabled_and_deleted() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Viewer);
    let webhook = scenario.send(ada, &create(ada)).expect("the owner");
    let row = |scenario: &Scenario| queries::webhook(&scenario.rows, webhook).expect("it is there");
    let made = row(&scenario);
    assert_eq!((made.owner, made.disabled), (ada.account(), None));
    assert_eq!(made.url, "https://hooks.example.org/in?key=1");

    let types = TypeFilter::try_from(vec!["streamforge.video.*".to_owned()]).expect("a type");
    let edits = Edits { url: None, types: Some(types.clone()) };
    let edit = Edit { webhook, edits };
    scenario.send(ada, &edit).expect("the owner");
    let events = scenario.log.len();
    scenario.send(ada, &edit).expect("the owner");
    assert_eq!(scenario.log.len(), events, "the same edit is no event");
    assert_eq!((row(&scenario).types, row(&scenario).url), (types, made.url));

    scenario.send(ada, &Disable { webhook }).expect("the owner");
    assert_eq!(row(&scenario).disabled, Some(Cause::Owner));
    scenario.wait(Duration::from_secs(60));
    let now = scenario.now();
    scenario.send(ada, &Enable { webhook }).expect("the owner");
    assert_eq!((row(&scenario).disabled, row(&scenario).since), (None, now));
    let give_up = GiveUp { webhook, cause: Cause::Failing };
    let refused = scenario.send(ada, &give_up);
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    scenario.send(Actor::System, &give_up).expect("the daemon");
    assert_eq!(row(&scenario).disabled, Some(Cause::Failing));
    scenario.send(ada, &Delete { webhook }).expect("the owner");
    let gone = queries::webhook(&scenario.rows, webhook);
    assert!(matches!(gone, Err(Refusal::NotFound { .. })));
    assert_eq!(queries::of_owner(&scenario.rows, ada.account()).expect("memory"), []);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_secret_before_counts_for_a_day() {
    let mut scenario = Scenario::default();
    let webhook = scenario.send(Actor::System, &create(Actor::System)).expect("the operator");
    let rotated = scenario.now();
    let rotate = RotateSecret { webhook, secret: secret(1) };
    scenario.send(Actor::System, &rotate).expect("the operator");
    let row = queries::webhook(&scenario.rows, webhook).expect("it is there");
    let open = |sealed| scenario.vault.open(sealed).expect("memory").expect("the key is there");
    assert_eq!(open(&row.secret), secret(1).expose());
    let (before, until) = row.previous.expect("the one before");
    assert_eq!(open(&before), secret(0).expose());
    assert_eq!(until, rotated.after(Duration::from_secs(86_400)));
}

#[test]
fn nobody_but_the_owner_and_administrators_knows_a_webhook() {
    let mut scenario = Scenario::default();
    let (ada, bob) =
        (scenario.person("ada", Role::Creator), scenario.person("bob", Role::Moderator));
    let root = scenario.person("root", Role::Administrator);
    let of_ada = scenario.send(ada, &create(ada)).expect("the owner");
    let of_operator = scenario.send(Actor::System, &create(Actor::System)).expect("the operator");
    for webhook in [of_ada, of_operator] {
        let refused = scenario.send(bob, &Delete { webhook });
        assert!(matches!(refused, Err(Refusal::NotFound { thing: "webhook" })), "{refused:?}");
        let rotate = RotateSecret { webhook, secret: secret(3) };
        assert!(matches!(scenario.send(bob, &rotate), Err(Refusal::NotFound { .. })));
        let refused = queries::shown(&scenario.rows, &bob, webhook);
        assert!(matches!(refused, Err(Refusal::NotFound { .. })), "{refused:?}");
        assert!(queries::shown(&scenario.rows, &root, webhook).is_ok());
    }
    assert!(queries::shown(&scenario.rows, &ada, of_ada).is_ok());
    assert!(queries::shown(&scenario.rows, &ada, of_operator).is_err());
    assert!(matches!(scenario.send(bob, &create(ada)), Err(Refusal::Forbidden { .. })));
    assert!(matches!(scenario.send(bob, &create(Actor::System)), Err(Refusal::Forbidden { .. })));
    assert!(matches!(scenario.send(Actor::Anonymous, &create(ada)), Err(Refusal::SignIn)));
    assert!(queries::list(&scenario.rows, &bob, ada.account()).is_err());
    assert!(queries::list(&scenario.rows, &ada, None).is_err());
    let event = scenario.log.iter().find(|event| event.kind.contains("webhook")).expect("made");
    let reads = |actor| may_read(features::ALL, &scenario.rows, &actor, event).expect("memory");
    assert_eq!([ada, bob, root].map(reads), [true, false, true]);
}

#[test]
fn an_owner_has_at_most_twenty_and_an_erased_account_none() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    scenario.channel(ada, "ada", Visibility::Public);
    for _ in 0..MAX_OF_AN_OWNER {
        scenario.send(ada, &create(ada)).expect("below the limit");
    }
    let refused = scenario.send(ada, &create(ada));
    assert!(matches!(refused, Err(Refusal::Limit { limit: 20, .. })), "{refused:?}");
    let kept = scenario.send(Actor::System, &create(Actor::System)).expect("another owner");
    let account = ada.account().expect("a person");
    scenario.erase(ada);
    let left = queries::page(&scenario.rows, None, 100).expect("memory");
    assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [kept]);
    assert_eq!(queries::reader(&scenario.rows, Some(account)).expect("memory"), None);
    assert_eq!(scenario.rebuilt(), scenario.rows);
    assert!(matches!(scenario.send(Actor::System, &create(ada)), Err(Refusal::NotFound { .. })));
}

#[test]
fn the_events_of_a_webhook_show_neither_its_address_nor_its_secret() {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Viewer);
    let webhook = scenario.send(ada, &create(ada)).expect("the owner");
    let edits = Edits { url: Some("https://other.example.org/".parse().expect("it")), types: None };
    scenario.send(ada, &Edit { webhook, edits }).expect("the owner");
    scenario.send(ada, &RotateSecret { webhook, secret: secret(1) }).expect("the owner");
    let log = serde_json::to_string(&scenario.log).expect("JSON");
    assert!(!log.contains("example.org/"), "{log}");
    assert!(!log.contains(PREFIX), "{log}");
    let row = queries::webhook(&scenario.rows, webhook).expect("it is there");
    assert!(!format!("{row:?} {:?}", create(ada)).contains("example"));
    let account = accounts::queries::account(&scenario.rows, ada.account().expect("a person"));
    assert!(account.expect("memory").is_some());
}

#[test]
fn an_address_is_http_without_user_and_fragment() {
    let long = format!("https://a.example/{}", "x".repeat(2_048));
    for refused in [
        "",
        "ftp://a.example",
        "https://",
        "https:///path",
        "https://:80/",
        "//a.example",
        "https://user@a.example/",
        "https://a.example/#part",
        "https://a.example/a b",
        "https://ä.example",
        "https://a.example/\n",
        &long,
    ] {
        assert!(refused.parse::<WebhookUrl>().is_err(), "{refused}");
    }
    for accepted in ["https://a.example", "http://127.0.0.1:8080/in?a=b@c", "https://[::1]/"] {
        assert!(accepted.parse::<WebhookUrl>().is_ok(), "{accepted}");
    }
}

#[test]
fn a_secret_has_24_to_64_bytes_in_base_64() {
    let of = |digits: &str| format!("{PREFIX}{digits}").parse::<WebhookSecret>();
    assert!(of(&"A".repeat(32)).is_ok());
    assert!(of(&format!("{}==", "A".repeat(86))).is_ok());
    for refused in ["", "AAAA", &"A".repeat(28), &"A".repeat(33), &"A".repeat(88)] {
        assert!(of(refused).is_err(), "{refused}");
    }
    assert!(of(&format!("{}-", "A".repeat(31))).is_err());
    assert!("A".repeat(38).parse::<WebhookSecret>().is_err());
    assert_eq!(format!("{:?}", secret(0)), "***");
}

#[test]
fn a_filter_names_types_or_their_beginnings() {
    let of = |entries: &[&str]| {
        TypeFilter::try_from(entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    };
    let filter = of(&["streamforge.video.*", "streamforge.channel.created.v1"]).expect("types");
    assert!(filter.includes("streamforge.video.published.v1"));
    assert!(filter.includes("streamforge.channel.created.v1"));
    assert!(!filter.includes("streamforge.channel.created.v10"));
    assert!(TypeFilter::default().includes("streamforge.channel.deleted.v1"));
    for refused in [&[][..], &[""], &["a*b"], &["A"], &["*"; 51]] {
        assert!(of(refused).is_err(), "{refused:?}");
    }
}
