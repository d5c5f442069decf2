//! Claims on a name: takeovers, kicks and limits.

use super::*;

#[test]
fn a_claimed_name_is_refused_until_its_claim_is_dropped() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    assert_eq!(hub.claim(name()).unwrap_err(), Error::Busy { name: name() });
    drop(claim);
    hub.claim(name()).unwrap();
}

#[test]
fn the_hub_refuses_channels_over_its_limit() {
    let hub = hub();
    let claims: Vec<_> =
        (0..3).map(|n| hub.claim(format!("c{n}").parse().unwrap()).unwrap()).collect();
    assert_eq!(hub.claim(name()).unwrap_err(), Error::TooManyBroadcasts { limit: 3 });
    drop(claims);
    assert!(hub.0.channels.is_empty());
}

#[test]
fn a_kick_ends_the_broadcast_and_revokes_the_claim() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    let revoked = claim.revoked();
    let producer = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH).unwrap();
    assert!(hub.kick(&name()));
    assert_eq!(revoked.cause(), Some(&Cause::Operator));
    assert!(revoked.is_revoked());
    let unit = AccessUnit {
        dts: MediaSpan::ZERO,
        pts: MediaSpan::ZERO,
        key: true,
        independent: true,
        arrived: start(),
        payload: Bytes::new(),
    };
    assert_eq!(producer.push(FIRST, unit), Err(Refused::Ended));
    drop(producer);
    assert!(hub.0.channels.is_empty());
    assert!(!hub.kick(&name()));
}

/// A claim on the name at `now`, from a publisher that reports its activity.
fn active(hub: &Hub, now: Instant) -> Result<Claim, Error> {
    hub.claim_active(name(), now)
}

#[test]
fn a_silent_publisher_is_replaced_at_once_and_an_active_one_is_not() {
    let (hub, begun) = (hub(), start());
    let first = active(&hub, begun).unwrap();
    first.hold().touch(begun + Duration::from_millis(500));
    let early = begun + Duration::from_millis(500) + TAKEOVER - Duration::from_millis(1);
    assert_eq!(active(&hub, early).unwrap_err(), Error::Busy { name: name() });
    assert_eq!(first.revoked().cause(), None);
    let second = active(&hub, early + Duration::from_millis(1)).unwrap();
    assert_eq!(first.revoked().cause(), Some(&Cause::TakenOver));
    drop(first); // does not free the name
    assert_eq!(hub.claim(name()).unwrap_err(), Error::Busy { name: name() });
    drop(second);
    hub.claim(name()).unwrap();
}

#[test]
fn a_publisher_that_does_not_report_activity_is_never_replaced() {
    let (hub, begun) = (hub(), start());
    let _claim = hub.claim(name()).unwrap();
    let later = begun + Duration::from_secs(3_600);
    assert_eq!(active(&hub, later).unwrap_err(), Error::Busy { name: name() });
}

#[test]
fn after_a_takeover_the_broadcast_continues_and_the_old_publisher_has_no_effect() {
    let (hub, begun) = (hub(), start());
    let (tracks, utc) = (vec![video(), audio(hex!("1190"))], SystemTime::UNIX_EPOCH + T * 1_000);
    let old = active(&hub, begun).unwrap().start(tracks.clone(), begun, utc).unwrap();
    let old = Source { producer: old, start: begun };
    old.run(0..4_000);
    let id = old.producer.broadcast().id();
    let mut frames = old.producer.broadcast().subscribe();
    let now = begun + Duration::from_secs(6);
    let claim = active(&hub, now).unwrap();
    // The old publisher is active again before the new one has started, but too late.
    assert_eq!(old.push(0, 6_000, true), Err(Refused::Superseded));
    let broadcast = Arc::clone(old.producer.broadcast());
    assert_eq!(broadcast.presence(), Presence::Away(Some(now)));
    let new = Source { producer: claim.start(tracks, now, utc).unwrap(), start: now };
    assert_eq!((new.producer.broadcast().id(), broadcast.presence()), (id, Presence::Live));
    new.run(0..2_000);
    let before = drain(&mut frames).len();
    assert!(before > 0);
    assert_eq!(old.push(0, 6_040, true), Err(Refused::Superseded));
    old.producer.configure(SECOND, &audio(hex!("1188")).1).unwrap();
    assert!(old.producer.end().is_some());
    assert!(drain(&mut frames).is_empty());
    assert_eq!(broadcast.presence(), Presence::Live);
    new.run(2_000..2_100);
    assert_eq!(hub.broadcast(&name()).unwrap().id(), id);
    new.producer.leave(now + Duration::from_secs(3));
    assert!(matches!(broadcast.presence(), Presence::Away(_)));
}

#[test]
fn a_broadcast_ends_10_s_after_a_takeover_that_never_started() {
    let (hub, begun) = (hub(), start());
    let claim = active(&hub, begun).unwrap();
    let old = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    let now = begun + Duration::from_secs(5);
    drop(active(&hub, now).unwrap());
    hub.advance(now + Duration::from_millis(9_900));
    assert!(hub.broadcast(&name()).is_some());
    hub.advance(now + Duration::from_secs(10));
    assert!(hub.0.channels.is_empty() && hub.broadcasts().is_empty());
    drop(old);
}

#[test]
fn a_kick_between_claim_and_start_removes_the_channel() {
    for waiting in [false, true] {
        let (hub, begun) = (hub(), start());
        if waiting {
            let source = Source::new(&hub, begun);
            source.producer.leave(begun);
            assert!(hub.broadcast(&name()).is_some());
        }
        let claim = active(&hub, begun).unwrap();
        assert!(hub.kick(&name()));
        assert!(hub.broadcasts().is_empty(), "what waited under the name has ended");
        let hold = claim.hold().clone();
        let started = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH);
        assert_eq!(started.map(|_| ()), Err(Error::Revoked));
        assert_eq!(hold.revocation().cause(), Some(&Cause::Operator));
        assert!(hub.0.channels.is_empty() && hub.broadcasts().is_empty());
    }
}

#[test]
fn a_kick_between_two_broadcasts_of_a_publisher_removes_the_channel() {
    let (hub, begun) = (hub(), start());
    let claim = active(&hub, begun).unwrap();
    let producer = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    let claim = producer.end().unwrap();
    assert!(hub.kick(&name()));
    let started = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH);
    assert_eq!(started.map(|_| ()), Err(Error::Revoked));
    assert!(hub.0.channels.is_empty());
}

#[test]
fn a_claim_that_was_taken_over_does_not_start_and_a_kick_frees_the_name_at_once() {
    let (hub, begun) = (hub(), start());
    let old = active(&hub, begun).unwrap();
    let new = active(&hub, begun + TAKEOVER).unwrap();
    let started = old.start(vec![video()], begun, SystemTime::UNIX_EPOCH);
    assert_eq!(started.map(|_| ()), Err(Error::Revoked));
    // A kick revokes the present publisher; its name is free for the next one at once, although it
    // has not left yet.
    assert!(hub.kick(&name()));
    assert_eq!(new.revoked().cause(), Some(&Cause::Operator));
    let next = active(&hub, begun + TAKEOVER).unwrap();
    drop(new);
    let producer = next.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(producer.broadcast().presence(), Presence::Live);
}

#[test]
fn a_closed_hub_refuses_and_revokes_claims() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    hub.close();
    assert_eq!(claim.revoked().cause(), Some(&Cause::Operator));
    assert_eq!(hub.claim(name()).unwrap_err(), Error::Closed);
    assert_eq!(active(&hub, start()).unwrap_err(), Error::Closed);
    let started = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH);
    assert_eq!(started.map(|_| ()), Err(Error::Revoked));
    assert!(hub.0.channels.is_empty());
}
