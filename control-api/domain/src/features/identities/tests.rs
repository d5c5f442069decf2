use super::{
    commands::{Link, RegisterByIdentity, Unlink},
    queries,
    subject::Subject,
    tables::MAX_OF_AN_ACCOUNT,
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::accounts::{
        self,
        commands::{Add, Erase, PasswordHash, SetPassword},
    },
    id::{AccountId, IdentityId},
    scenario::Scenario,
};

const ISSUER: &str = "https://login.example.org";

fn account(scenario: &mut Scenario, name: &str, role: Role) -> (AccountId, Actor) {
    let command = Add {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: PasswordHash("$argon2id$".to_owned()),
        role,
    };
    let id = scenario.send(Actor::System, &command).expect("the name is free");
    (id, Actor::Person { id, role })
}

fn subject(subject: &str) -> Subject {
    Subject { issuer: ISSUER.to_owned(), subject: subject.to_owned() }
}

fn link(account: AccountId, person: &str) -> Link {
    Link { account, provider: "example".to_owned(), subject: subject(person) }
}

fn register(name: &str, person: &str, is_verified: bool) -> RegisterByIdentity {
    RegisterByIdentity {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        is_verified,
        provider: "example".to_owned(),
        subject: subject(person),
    }
}

fn owner(scenario: &Scenario, person: &str) -> Option<AccountId> {
    let found = queries::by_subject(&scenario.rows, &scenario.vault, &subject(person));
    found.expect("memory")
}

fn identities(scenario: &Scenario, account: AccountId) -> Vec<IdentityId> {
    let all = queries::of_account(&scenario.rows, account).expect("memory");
    all.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn the_first_sign_in_makes_an_account_without_a_password_on_the_providers_word() {
    let mut scenario = Scenario::default();
    let ada = scenario.send(Actor::System, &register("ada", "a", true)).expect("unknown");
    let eve = scenario.send(Actor::System, &register("eve", "e", false)).expect("unknown");
    assert_eq!((owner(&scenario, "a"), owner(&scenario, "e")), (Some(ada), Some(eve)));
    let present = |id| accounts::queries::present(&scenario.rows, id).expect("it exists");
    assert_eq!((present(ada).is_verified, present(eve).is_verified), (true, false));
    assert_eq!(present(ada).role, Role::Viewer);
    let person = present(ada).open(&scenario.vault).expect("memory");
    assert_eq!(person.expect("not erased").password, "");
    let again = scenario.send(Actor::System, &register("ada2", "a", true));
    assert!(matches!(again, Err(Refusal::Conflict { rule: "identity_taken", .. })), "{again:?}");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn an_address_never_leads_to_the_account_that_has_it_also_not_a_verified_one() {
    let mut scenario = Scenario::default();
    let (ada, _) = account(&mut scenario, "ada", Role::Administrator);
    for is_verified in [false, true] {
        let other = RegisterByIdentity {
            name: "somebody".parse().expect("a name"),
            ..register("ada", "stranger", is_verified)
        };
        let taken = scenario.send(Actor::System, &other);
        assert!(matches!(taken, Err(Refusal::Conflict { rule: "email_taken", .. })), "{taken:?}");
    }
    assert_eq!((owner(&scenario, "stranger"), identities(&scenario, ada)), (None, vec![]));
}

#[test]
fn an_identity_belongs_to_one_account_which_only_its_owner_links() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Viewer);
    let (bob, as_bob) = account(&mut scenario, "bob", Role::Administrator);
    let foreign = scenario.send(as_bob, &link(ada, "a"));
    assert!(matches!(foreign, Err(Refusal::Forbidden { .. })), "{foreign:?}");
    scenario.send(as_ada, &link(ada, "a")).expect("her own");
    scenario.send(as_ada, &link(ada, "a")).expect("again is no error");
    assert_eq!(identities(&scenario, ada).len(), 1);
    let taken = scenario.send(as_bob, &link(bob, "a"));
    assert!(matches!(taken, Err(Refusal::Conflict { rule: "identity_taken", .. })), "{taken:?}");
    // The same subject at another provider is another person.
    let other = Subject { issuer: "https://other.example".to_owned(), subject: "a".to_owned() };
    scenario.send(as_bob, &Link { subject: other, ..link(bob, "") }).expect("another person");
    for index in 1..MAX_OF_AN_ACCOUNT {
        scenario.send(as_ada, &link(ada, &format!("a{index}"))).expect("room");
    }
    let full = scenario.send(as_ada, &link(ada, "one more"));
    assert!(matches!(full, Err(Refusal::Limit { .. })), "{full:?}");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_last_way_to_sign_in_is_not_unlinked() {
    let mut scenario = Scenario::default();
    let ada = scenario.send(Actor::System, &register("ada", "a", true)).expect("unknown");
    let as_ada = Actor::Person { id: ada, role: Role::Viewer };
    let (_, as_bob) = account(&mut scenario, "bob", Role::Moderator);
    let identity = identities(&scenario, ada)[0];
    let foreign = scenario.send(as_bob, &Unlink { identity });
    assert!(matches!(foreign, Err(Refusal::NotFound { .. })), "{foreign:?}");
    let last = scenario.send(as_ada, &Unlink { identity });
    assert!(matches!(last, Err(Refusal::Conflict { rule: "last_credential", .. })), "{last:?}");
    let password = PasswordHash("$argon2id$".to_owned());
    scenario.send(as_ada, &SetPassword { account: ada, password }).expect("her own");
    scenario.send(as_ada, &Unlink { identity }).expect("there is a password");
    assert_eq!(owner(&scenario, "a"), None);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn nothing_is_left_of_the_identities_of_an_erased_account() {
    let mut scenario = Scenario::default();
    let person = "subject-42";
    let ada = scenario.send(Actor::System, &register("ada", person, true)).expect("unknown");
    let as_ada = Actor::Person { id: ada, role: Role::Viewer };
    scenario.send(as_ada, &Erase { account: ada }).expect("her own");
    scenario.vault.erase(ada);
    for table in super::FEATURE.tables {
        assert_eq!(scenario.rows.rows(table).count(), 0, "{table}");
    }
    assert_eq!(scenario.rebuilt(), scenario.rows);
    let log = serde_json::to_string(&scenario.log).expect("events are JSON");
    assert!(!log.contains(person), "the subject is personal: {log}");
    scenario.send(Actor::System, &register("ada", person, true)).expect("free again");
}
