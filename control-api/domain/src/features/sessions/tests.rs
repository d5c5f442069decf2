use std::time::Duration;

use super::{
    commands::*,
    events::{Ended, Event, Reason},
    queries,
    tables::{LIFE, MAX_OF_AN_ACCOUNT},
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::accounts::{
        self,
        commands::{Add, Erase, PasswordHash},
    },
    id::{AccountId, SessionId},
    scenario::Scenario,
    time::Time,
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

fn start(scenario: &mut Scenario, account: AccountId) -> SessionId {
    let device = "Firefox of Ada".parse().expect("a name");
    scenario.send(Actor::System, &Start { account, device, password: None }).expect("it exists")
}

fn sessions(scenario: &Scenario, account: AccountId) -> Vec<SessionId> {
    let all = queries::of_account(&scenario.rows, account).expect("memory");
    all.into_iter().map(|(id, _)| id).collect()
}

fn end(session: SessionId) -> End {
    End { session, reason: Reason::Revoked }
}

#[test]
fn a_session_ends_once_and_only_its_owner_and_administrators_end_it() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Viewer);
    let (_, as_bob) = account(&mut scenario, "bob", Role::Moderator);
    let (_, as_root) = account(&mut scenario, "root", Role::Administrator);
    let (first, second) = (start(&mut scenario, ada), start(&mut scenario, ada));
    for actor in [as_bob, Actor::Anonymous] {
        let refused = scenario.send(actor, &end(first));
        assert!(matches!(refused, Err(Refusal::NotFound { .. })), "{refused:?}");
    }
    scenario.send(as_ada, &end(first)).expect("the owner");
    let again = scenario.send(as_ada, &end(first));
    assert!(matches!(again, Err(Refusal::NotFound { .. })), "{again:?}");
    assert_eq!(sessions(&scenario, ada), [second]);
    scenario.send(as_root, &end(second)).expect("an administrator");
    assert_eq!(sessions(&scenario, ada), []);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn nobody_starts_a_session_but_the_daemon_after_it_has_checked_credentials() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Administrator);
    let device = "a".parse().expect("a name");
    let refused = scenario.send(as_ada, &Start { account: ada, device, password: None });
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
}

#[test]
fn another_password_ends_all_sessions_but_the_one_that_set_it() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Viewer);
    let (bob, as_bob) = account(&mut scenario, "bob", Role::Viewer);
    let (first, own, third) =
        (start(&mut scenario, ada), start(&mut scenario, ada), start(&mut scenario, ada));
    let foreign = start(&mut scenario, bob);
    let password = PasswordHash("$argon2id$another".to_owned());
    let change = ChangePassword { account: ada, password, except: Some(own) };
    let refused = scenario.send(as_bob, &change);
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    scenario.take_events::<Event>();
    assert_eq!(scenario.send(as_ada, &change).expect("her own"), [first, third]);
    let events = scenario.take_events::<Event>();
    let ended = |session| Event::Ended(Ended { session, reason: Reason::PasswordChanged });
    assert_eq!(events, [ended(first), ended(third)]);
    assert_eq!((sessions(&scenario, ada), sessions(&scenario, bob)), (vec![own], vec![foreign]));
    // A sign-in that has compared the old password comes too late.
    let device = "a".parse().expect("a name");
    let old = Some(PasswordHash("$argon2id$".to_owned()));
    let late = scenario.send(Actor::System, &Start { account: ada, device, password: old });
    assert!(matches!(late, Err(Refusal::Conflict { rule: "password_changed", .. })), "{late:?}");
    let present = accounts::queries::present(&scenario.rows, ada).expect("it exists");
    assert_eq!(
        present.open(&scenario.vault).expect("memory").expect("not erased").password,
        "$argon2id$another"
    );
}

#[test]
fn the_number_of_sessions_is_limited_and_the_oldest_gives_way() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Viewer);
    let all = (0..MAX_OF_AN_ACCOUNT + 2).map(|_| start(&mut scenario, ada)).collect::<Vec<_>>();
    assert_eq!(sessions(&scenario, ada), all[2..]);
    let others = EndOthers { account: ada, except: Some(all[9]), reason: Reason::Revoked };
    let ended = scenario.send(as_ada, &others).expect("her own");
    assert_eq!(ended.len(), MAX_OF_AN_ACCOUNT - 1);
    assert_eq!(sessions(&scenario, ada), [all[9]]);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_session_is_in_force_until_it_ends_or_is_too_old_or_its_account_is_erased() {
    let mut scenario = Scenario::default();
    let (ada, as_ada) = account(&mut scenario, "ada", Role::Creator);
    let session = start(&mut scenario, ada);
    let began = queries::session(&scenario.rows, session).expect("it exists").started;
    let role = |scenario: &Scenario, now: Time| {
        let found = queries::in_force(&scenario.rows, session, now).expect("memory");
        found.map(|(_, account)| account.role)
    };
    assert_eq!(role(&scenario, began), Some(Role::Creator));
    let last = began.after(LIFE - Duration::from_millis(1));
    assert_eq!(
        (role(&scenario, last), role(&scenario, began.after(LIFE))),
        (Some(Role::Creator), None)
    );
    scenario.send(as_ada, &Erase { account: ada }).expect("her own");
    scenario.vault.erase(ada);
    assert_eq!(role(&scenario, began), None);
    assert_eq!(sessions(&scenario, ada), []);
    assert_eq!(scenario.rebuilt(), scenario.rows);
    let log = serde_json::to_string(&scenario.log).expect("events are JSON");
    assert!(!log.contains("Firefox"), "the device is personal: {log}");
}
