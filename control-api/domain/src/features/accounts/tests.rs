use super::{
    commands::*,
    events::{Event, RoleChanged},
    queries,
    tables::ACCOUNTS,
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    id::AccountId,
    scenario::Scenario,
};

fn hash() -> PasswordHash {
    PasswordHash("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned())
}

fn register(name: &str, email: &str) -> Register {
    Register {
        name: name.parse().expect("a name"),
        email: email.parse().expect("an address"),
        password: hash(),
    }
}

fn person(id: AccountId, role: Role) -> Actor {
    Actor::Person { id, role }
}

/// A platform with the account of Ada.
fn with_ada() -> (Scenario, AccountId) {
    let mut scenario = Scenario::default();
    let ada = scenario.send(Actor::Anonymous, &register("Ada", "ada@example.org"));
    let ada = ada.expect("nobody has this name");
    (scenario, ada)
}

fn rule(refused: Result<impl Sized, Refusal>) -> &'static str {
    match refused.err() {
        Some(Refusal::Conflict { rule, .. }) => rule,
        Some(Refusal::Forbidden { .. }) => "forbidden",
        Some(Refusal::SignIn) => "sign_in",
        Some(Refusal::NotFound { .. }) => "not_found",
        Some(other) => panic!("{other}"),
        None => "carried out",
    }
}

#[test]
fn a_registered_account_is_a_viewer_with_an_unverified_address() {
    let (scenario, ada) = with_ada();
    let account = queries::present(&scenario.rows, ada).expect("it exists");
    assert_eq!((account.role, account.is_verified), (Role::Viewer, false));
    let shown = account.open(&scenario.vault).expect("memory").expect("it is not erased");
    assert_eq!((shown.name.as_str(), shown.email.as_str()), ("Ada", "ada@example.org"));
    let email = "ADA@example.org".parse().expect("an address");
    let found = queries::by_email(&scenario.rows, &scenario.vault, &email);
    assert_eq!(found.expect("memory"), Some(ada));
}

#[test]
fn names_and_addresses_are_unique_in_any_case() {
    let (mut scenario, _) = with_ada();
    let mut again = |name, email| rule(scenario.send(Actor::Anonymous, &register(name, email)));
    assert_eq!(again("Bob", "Ada@EXAMPLE.org"), "email_taken");
    assert_eq!(again("ＡＤＡ", "other@example.org"), "name_taken");
    assert_eq!(again("Bob", "bob@example.org"), "carried out");
}

#[test]
fn a_name_that_was_given_up_is_free() {
    let (mut scenario, ada) = with_ada();
    let edit = EditProfile {
        account: ada,
        name: Some("Countess".parse().expect("a name")),
        about: Some("Mathematician".parse().expect("a text")),
    };
    scenario.send(person(ada, Role::Viewer), &edit).expect("her own");
    scenario.send(person(ada, Role::Viewer), &edit).expect("the same again");
    assert_eq!(scenario.log.len(), 2, "nothing happened the second time");
    let bob = scenario.send(Actor::Anonymous, &register("ada", "bob@example.org"));
    assert!(bob.is_ok());
}

#[test]
fn only_the_owner_and_moderators_edit_a_profile() {
    let (mut scenario, ada) = with_ada();
    let bob = scenario.send(Actor::Anonymous, &register("Bob", "bob@example.org"));
    let bob = bob.expect("nobody has this name");
    let edit = |name: &str| EditProfile {
        account: ada,
        name: Some(name.parse().expect("a name")),
        about: None,
    };
    let mut try_as = |actor, name| rule(scenario.send(actor, &edit(name)));
    assert_eq!(try_as(person(bob, Role::Creator), "A1"), "forbidden");
    assert_eq!(try_as(Actor::Anonymous, "A2"), "sign_in");
    assert_eq!(try_as(person(bob, Role::Moderator), "A3"), "carried out");
    assert_eq!(try_as(person(ada, Role::Viewer), "A4"), "carried out");
}

#[test]
fn only_administrators_change_roles_and_never_their_own() {
    let (mut scenario, ada) = with_ada();
    let admin = Add {
        name: "Root".parse().expect("a name"),
        email: "root@example.org".parse().expect("an address"),
        password: hash(),
        role: Role::Administrator,
    };
    assert_eq!(rule(scenario.send(person(ada, Role::Moderator), &admin)), "forbidden");
    let root = scenario.send(Actor::System, &admin).expect("the operator");
    let appoint = |account, role| ChangeRole { account, role };
    let as_root = person(root, Role::Administrator);
    scenario.take_events::<Event>();
    scenario.send(as_root, &appoint(ada, Role::Creator)).expect("an administrator");
    let events = scenario.take_events::<Event>();
    assert_eq!(events, [Event::RoleChanged(RoleChanged { account: ada, role: Role::Creator })]);
    assert_eq!(rule(scenario.send(as_root, &appoint(root, Role::Viewer))), "own_role");
}

#[test]
fn a_new_address_must_be_verified_again() {
    let (mut scenario, ada) = with_ada();
    scenario.send(Actor::System, &VerifyEmail { account: ada }).expect("the daemon");
    assert!(queries::present(&scenario.rows, ada).expect("it exists").is_verified);
    assert_eq!(
        rule(scenario.send(person(ada, Role::Administrator), &VerifyEmail { account: ada })),
        "forbidden",
        "only a mailed token shows it"
    );
    let email = "lovelace@example.org".parse().expect("an address");
    let change = ChangeEmail { account: ada, email };
    scenario.send(person(ada, Role::Viewer), &change).expect("her own");
    assert!(!queries::present(&scenario.rows, ada).expect("it exists").is_verified);
    let bob = scenario.send(Actor::Anonymous, &register("Bob", "ada@example.org"));
    assert!(bob.is_ok(), "the old address is free");
}

#[test]
fn tables_that_are_folded_again_after_an_erasure_equal_the_live_ones() {
    let (mut scenario, ada) = with_ada();
    let own = person(ada, Role::Viewer);
    let edit = EditProfile { account: ada, name: None, about: Some("x".parse().expect("a text")) };
    scenario.send(own, &edit).expect("her own");
    scenario.send(own, &SetPassword { account: ada, password: hash() }).expect("her own");
    scenario.send(Actor::System, &VerifyEmail { account: ada }).expect("the daemon");
    assert_eq!(scenario.rebuilt(), scenario.rows);

    scenario.send(own, &Erase { account: ada }).expect("her own");
    scenario.vault.erase(ada);
    assert_eq!(scenario.rebuilt(), scenario.rows);
    let row = ACCOUNTS.get(&scenario.rows, &ada).expect("memory").expect("a row remains");
    assert_eq!(row.person, None);
    assert_eq!(rule(scenario.send(own, &edit)), "not_found");
    scenario.send(own, &Erase { account: ada }).expect("erasing again is no error");
    let log = serde_json::to_string(&scenario.log).expect("events are JSON");
    assert!(!log.contains("Ada") && !log.contains("example.org"), "{log}");
}

#[test]
fn the_first_administrator_is_made_once_and_must_change_the_password() {
    let (mut scenario, ada) = with_ada();
    let bootstrap = Bootstrap {
        name: "admin".parse().expect("a name"),
        email: "admin@localhost".parse().expect("an address"),
        password: hash(),
    };
    let as_ada = person(ada, Role::Administrator);
    assert_eq!(rule(scenario.send(as_ada, &bootstrap)), "forbidden");
    let root = scenario.send(Actor::System, &bootstrap).expect("the daemon").expect("the first");
    let account = queries::present(&scenario.rows, root).expect("it exists");
    assert_eq!((account.role, account.must_change_password), (Role::Administrator, true));
    assert_eq!(scenario.send(Actor::System, &bootstrap).expect("the daemon"), None);
    scenario.send(Actor::System, &SetPassword { account: root, password: hash() }).expect("reset");
    assert!(!queries::present(&scenario.rows, root).expect("it exists").must_change_password);
    scenario.send(Actor::System, &ExpirePassword { account: root }).expect("the operator");
    assert!(queries::present(&scenario.rows, root).expect("it exists").must_change_password);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_only_administrator_stays_until_there_is_another() {
    let (mut scenario, ada) = with_ada();
    let add = |name: &str| Add {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: hash(),
        role: Role::Administrator,
    };
    let root = scenario.send(Actor::System, &add("root")).expect("the operator");
    let as_root = person(root, Role::Administrator);
    let erase = Erase { account: root };
    assert_eq!(rule(scenario.send(as_root, &erase)), "last_administrator");
    let appoint = |role| ChangeRole { account: ada, role };
    scenario.send(as_root, &appoint(Role::Administrator)).expect("an administrator");
    scenario.send(as_root, &appoint(Role::Viewer)).expect("an administrator");
    assert_eq!(rule(scenario.send(as_root, &erase)), "last_administrator");
    scenario.send(as_root, &appoint(Role::Administrator)).expect("an administrator");
    scenario.send(as_root, &erase).expect("ada remains");
    scenario.vault.erase(root);
    assert_eq!(queries::administrators(&scenario.rows, 9).expect("memory"), [ada]);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}
