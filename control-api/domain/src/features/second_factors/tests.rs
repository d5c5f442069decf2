use super::{
    commands::{Begin, Confirm, FactorSecret, Remove, UseCode, UseRecoveryCode},
    queries,
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::{
        accounts::commands::{Add, Erase, PasswordHash},
        stream_keys::events::KeyDigest,
    },
    id::{AccountId, SecondFactorId},
    scenario::Scenario,
    vault::Vault as _,
};

const SECRET: &str = "JBSWY3DPEHPK3PXP";

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

fn begin(scenario: &mut Scenario, account: AccountId, actor: Actor) -> SecondFactorId {
    let secret = FactorSecret(SECRET.to_owned());
    scenario.send(actor, &Begin { account, secret }).expect("it has none")
}

fn codes() -> Vec<KeyDigest> {
    (0..10).map(|index| KeyDigest([index; 32])).collect()
}

/// An account whose factor is in force since the code of step 100.
fn enrolled(scenario: &mut Scenario) -> (AccountId, Actor, SecondFactorId) {
    let (ada, as_ada) = account(scenario, "ada", Role::Viewer);
    let factor = begin(scenario, ada, as_ada);
    let confirm = Confirm { account: ada, factor, step: 100, recovery: codes() };
    scenario.send(as_ada, &confirm).expect("it was begun");
    (ada, as_ada, factor)
}

#[test]
fn a_factor_is_in_force_only_after_a_code_has_confirmed_it() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Viewer);
    let (_, as_root) = account(&mut scenario, "root", Role::Administrator);
    let confirm = |factor| Confirm { account: ada, factor, step: 7, recovery: codes() };
    let first = begin(&mut scenario, ada, as_ada);
    assert_eq!(queries::in_force(&scenario.rows, ada).expect("memory"), None);
    let second = begin(&mut scenario, ada, as_ada);
    let displaced = scenario.send(as_ada, &confirm(first));
    assert!(matches!(displaced, Err(Refusal::NotFound { .. })), "{displaced:?}");
    let foreign = scenario.send(as_root, &confirm(second));
    assert!(matches!(foreign, Err(Refusal::Forbidden { .. })), "{foreign:?}");
    scenario.send(as_ada, &confirm(second)).expect("it was begun");
    let present = queries::in_force(&scenario.rows, ada).expect("memory").expect("in force");
    assert_eq!((present.factor, present.last_step, present.recovery.len()), (second, 7, 10));
    let secret = scenario.vault.open(&present.secret).expect("memory");
    assert_eq!(secret.as_deref(), Some(SECRET));
    let again = scenario.send(as_ada, &Begin { account: ada, secret: FactorSecret("X".into()) });
    assert!(matches!(again, Err(Refusal::Conflict { rule: "second_factor_exists", .. })));
    let again = scenario.send(as_ada, &confirm(second));
    assert!(matches!(again, Err(Refusal::Conflict { rule: "second_factor_exists", .. })));
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn no_time_step_is_accepted_twice_and_none_before_an_accepted_one() {
    let mut scenario = Scenario::default();
    let (ada, as_ada, factor) = enrolled(&mut scenario);
    let mut used = |step| scenario.send(Actor::System, &UseCode { account: ada, factor, step });
    for (step, expected) in
        [(99, false), (100, false), (101, true), (101, false), (103, true), (102, false)]
    {
        let result = used(step);
        assert_eq!(result.is_ok(), expected, "{step}");
        assert!(expected || matches!(result, Err(Refusal::Conflict { rule: "code_used", .. })));
    }
    let foreign = SecondFactorId::new(uuid::Uuid::nil());
    let other = UseCode { account: ada, factor: foreign, step: 200 };
    assert!(matches!(scenario.send(Actor::System, &other), Err(Refusal::NotFound { .. })));
    let own = scenario.send(as_ada, &UseCode { account: ada, factor, step: 200 });
    assert!(matches!(own, Err(Refusal::Forbidden { .. })), "only after a comparison: {own:?}");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn each_recovery_code_is_accepted_once() {
    let mut scenario = Scenario::default();
    let (ada, _, _) = enrolled(&mut scenario);
    for index in 0..10 {
        let code = UseRecoveryCode { account: ada, code: KeyDigest([index; 32]) };
        scenario.send(Actor::System, &code).expect("not used");
        let again = scenario.send(Actor::System, &code);
        assert!(matches!(again, Err(Refusal::NotFound { .. })), "{again:?}");
    }
    let present = queries::in_force(&scenario.rows, ada).expect("memory").expect("in force");
    assert_eq!(present.recovery.len(), 0);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_factor_is_removed_by_its_owner_or_an_administrator_and_can_be_made_again() {
    let mut scenario = Scenario::default();
    let (ada, as_ada, _) = enrolled(&mut scenario);
    let (_, as_bob) = account(&mut scenario, "bob", Role::Moderator);
    let (_, as_root) = account(&mut scenario, "root", Role::Administrator);
    let remove = Remove { account: ada };
    let foreign = scenario.send(as_bob, &remove);
    assert!(matches!(foreign, Err(Refusal::Forbidden { .. })), "{foreign:?}");
    scenario.send(as_ada, &remove).expect("her own");
    let none = scenario.send(as_ada, &remove);
    assert!(matches!(none, Err(Refusal::NotFound { .. })), "{none:?}");
    let factor = begin(&mut scenario, ada, as_ada);
    let confirm = Confirm { account: ada, factor, step: 5, recovery: codes() };
    scenario.send(as_ada, &confirm).expect("it was begun");
    scenario.send(as_root, &remove).expect("an administrator");
    assert_eq!(queries::in_force(&scenario.rows, ada).expect("memory"), None);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn nothing_is_left_of_the_factors_of_an_erased_account() {
    let mut scenario = Scenario::default();
    let (ada, as_ada, _) = enrolled(&mut scenario);
    let (bob, as_bob) = account(&mut scenario, "bob", Role::Viewer);
    begin(&mut scenario, bob, as_bob);
    for (id, actor) in [(ada, as_ada), (bob, as_bob)] {
        scenario.send(actor, &Erase { account: id }).expect("their own");
        scenario.vault.erase(id);
    }
    for table in super::FEATURE.tables {
        assert_eq!(scenario.rows.rows(table).count(), 0, "{table}");
    }
    assert_eq!(scenario.rebuilt(), scenario.rows);
    let log = serde_json::to_string(&scenario.log).expect("events are JSON");
    assert!(!log.contains(SECRET), "the secret is sealed: {log}");
}
