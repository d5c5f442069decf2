use super::{commands::*, queries, tables::MAX_OF_AN_ACCOUNT};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::{
        accounts::commands::{Add, Erase, PasswordHash},
        stream_keys::events::KeyDigest,
    },
    id::AccountId,
    scenario::Scenario,
    scope::Scope,
    time::Time,
};

fn person(scenario: &mut Scenario, name: &str, role: Role) -> (AccountId, Actor) {
    let add = Add {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: PasswordHash("$argon2id$".to_owned()),
        role,
    };
    let id = scenario.send(Actor::System, &add).expect("nobody has this name");
    (id, Actor::Person { id, role })
}

fn add(account: AccountId, n: u8) -> AddKey {
    AddKey {
        account,
        name: format!("Ada's key {n}").parse().expect("a name"),
        digest: KeyDigest([n; 32]),
        scopes: [Scope::Read].into_iter().collect(),
        expires: None,
    }
}

/// Long after all that happens in these tests.
const LATER: Time = Time::from_millis(1_900_000_000_000);

fn owner(scenario: &Scenario, n: u8, now: Time) -> Option<AccountId> {
    let found = queries::in_force(&scenario.rows, &[n; 32], now).expect("memory");
    found.map(|(_, key, _)| key.account)
}

#[test]
fn a_key_is_in_force_until_it_expires_or_is_revoked_or_its_account_is_erased() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = person(&mut scenario, "ada", Role::Viewer);
    let first = scenario.send(as_ada, &add(ada, 1)).expect("her own");
    scenario.send(as_ada, &add(ada, 2)).expect("her own");
    let ends = AddKey { expires: Some(LATER), ..add(ada, 3) };
    scenario.send(as_ada, &ends).expect("her own");
    let before = Time::from_millis(LATER.as_millis() - 1);
    assert_eq!((owner(&scenario, 3, before), owner(&scenario, 3, LATER)), (Some(ada), None));
    scenario.send(as_ada, &RevokeKey { key: first }).expect("her own");
    assert_eq!((owner(&scenario, 1, LATER), owner(&scenario, 2, LATER)), (None, Some(ada)));
    assert_eq!(scenario.rebuilt(), scenario.rows);
    scenario.send(as_ada, &Erase { account: ada }).expect("her own");
    scenario.vault.erase(ada);
    assert_eq!(owner(&scenario, 2, LATER), None);
    assert_eq!(scenario.rebuilt(), scenario.rows);
    let log = serde_json::to_string(&scenario.log).expect("events are JSON");
    assert!(!log.contains("Ada"), "{log}");
}

#[test]
fn nobody_adds_a_key_for_somebody_else_and_only_administrators_revoke_one() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = person(&mut scenario, "ada", Role::Viewer);
    let (_, as_root) = person(&mut scenario, "root", Role::Administrator);
    let (_, as_bob) = person(&mut scenario, "bob", Role::Moderator);
    for actor in [as_root, as_bob, Actor::System] {
        let refused = scenario.send(actor, &add(ada, 1));
        assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    }
    let key = scenario.send(as_ada, &add(ada, 1)).expect("her own");
    let refused = scenario.send(as_bob, &RevokeKey { key });
    assert!(matches!(refused, Err(Refusal::NotFound { .. })), "{refused:?}");
    scenario.send(as_root, &RevokeKey { key }).expect("an administrator");
}

#[test]
fn a_key_adds_and_revokes_no_keys_whatever_its_scopes() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = person(&mut scenario, "ada", Role::Administrator);
    let key = scenario.send(as_ada, &add(ada, 1)).expect("her own");
    let scopes = Scope::ALL.into_iter().collect();
    let program = Actor::Key { key, id: ada, role: Role::Administrator, scopes };
    let refused = scenario.send(program, &add(ada, 2));
    assert!(matches!(refused, Err(Refusal::Scope { scope: None, .. })), "{refused:?}");
    let refused = scenario.send(program, &RevokeKey { key });
    assert!(matches!(refused, Err(Refusal::Scope { scope: None, .. })), "{refused:?}");
}

#[test]
fn keys_have_a_scope_different_names_and_a_limited_number() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = person(&mut scenario, "ada", Role::Viewer);
    let rule = |refused: Result<_, Refusal>| match refused {
        Err(Refusal::Conflict { rule, .. }) => rule,
        other => panic!("{other:?}"),
    };
    let none = AddKey { scopes: Default::default(), ..add(ada, 1) };
    assert_eq!(rule(scenario.send(as_ada, &none)), "no_scopes");
    let past = AddKey { expires: Some(Time::from_millis(1)), ..add(ada, 1) };
    assert_eq!(rule(scenario.send(as_ada, &past)), "expired");
    for n in 0..u8::try_from(MAX_OF_AN_ACCOUNT).expect("a small number") {
        scenario.send(as_ada, &add(ada, n)).expect("below the limit");
        if n == 0 {
            assert_eq!(rule(scenario.send(as_ada, &add(ada, 0))), "name_taken");
        }
    }
    let refused = scenario.send(as_ada, &add(ada, 200));
    assert!(matches!(refused, Err(Refusal::Limit { limit: 50, .. })), "{refused:?}");
}
