use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Wake, Waker},
    time::Duration,
};

use proptest::prelude::*;

use super::*;

/// A limit with a clock that advances by a millisecond at each step.
struct Stage {
    limit: Arc<ConnectionLimit>,
    now: Instant,
}

impl Stage {
    fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            limit: ConnectionLimit::new("connections", max, max_per_address, Arc::new(())),
            now: Instant::now(),
        }
    }

    fn step(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }

    fn admit(&mut self, last: u8) -> Result<Permit, Limit> {
        let (address, now) = (IpAddr::from([192, 0, 2, last]), self.step());
        self.limit.try_admit(Some(address), now)
    }

    fn exchange(&mut self, permit: &Permit) {
        assert!(permit.usage().begin());
        permit.usage().end(self.step());
    }
}

fn closed<const N: usize>(permits: [&Permit; N]) -> [bool; N] {
    permits.map(|permit| permit.usage().is_closed())
}

#[test]
fn a_new_address_displaces_the_connection_that_has_been_idle_longest() {
    let mut stage = Stage::new(3, 3);
    let [a, b, c] = [1, 2, 3].map(|last| stage.admit(last).unwrap());
    stage.exchange(&a);
    let d = stage.admit(4).unwrap();
    assert_eq!(closed([&a, &b, &c, &d]), [false, true, false, false]);
    drop(b);
    stage.exchange(&c);
    let e = stage.admit(5).unwrap();
    assert_eq!(closed([&a, &c, &d, &e]), [true, false, false, false]);
    assert_eq!(stage.limit.open(), 3);
}

#[test]
fn an_address_with_idle_connections_displaces_its_own_first() {
    let mut stage = Stage::new(3, 3);
    let [a, b, c] = [1, 2, 2].map(|last| stage.admit(last).unwrap());
    let d = stage.admit(2).unwrap();
    assert_eq!(closed([&a, &b, &c, &d]), [false, true, false, false]);
    // Those of address 2 are active now: another is displaced.
    assert!(c.usage().begin() && d.usage().begin());
    let e = stage.admit(2).unwrap();
    assert_eq!(closed([&a, &c, &d, &e]), [true, false, false, false]);
}

#[test]
fn a_connection_with_an_exchange_in_progress_is_never_displaced() {
    let mut stage = Stage::new(2, 2);
    let [a, b] = [1, 2].map(|last| stage.admit(last).unwrap());
    assert!(a.usage().begin() && a.usage().begin() && b.usage().begin());
    assert_eq!(stage.admit(3).unwrap_err(), Limit::Total);
    a.usage().end(stage.step());
    assert_eq!(stage.admit(3).unwrap_err(), Limit::Total);
    // A connection found active is found again when it is idle.
    a.usage().end(stage.step());
    let c = stage.admit(3).unwrap();
    assert_eq!(closed([&a, &b, &c]), [true, false, false]);
    assert!(!a.usage().begin(), "its place is another's");
    b.usage().end(stage.step());
}

#[test]
fn dropping_an_exchange_makes_its_connection_idle() {
    let mut stage = Stage::new(1, 1);
    let a = stage.admit(1).unwrap();
    let in_flight = a.usage().exchange().unwrap();
    assert!(stage.admit(2).is_err());
    drop(in_flight);
    assert!(stage.admit(2).is_ok() && a.usage().is_closed());
}

#[test]
fn at_the_limit_of_an_address_only_its_own_connections_are_displaced() {
    let mut stage = Stage::new(100, 2);
    let [other, a, b] = [1, 2, 2].map(|last| stage.admit(last).unwrap());
    let c = stage.admit(2).unwrap();
    assert_eq!(closed([&other, &a, &b, &c]), [false, true, false, false]);
    assert!(b.usage().begin() && c.usage().begin());
    assert_eq!(stage.admit(2).unwrap_err(), Limit::Address);
}

#[test]
fn the_last_permits_are_reserved_for_addresses_without_connections() {
    let mut stage = Stage::new(2 * RESERVE, 100);
    let active = |stage: &mut Stage, last| {
        let permit = stage.admit(last)?;
        assert!(permit.usage().begin());
        Ok::<_, Limit>(permit)
    };
    let _many: Vec<_> = (0..2 * RESERVE - 2).map(|_| active(&mut stage, 1).unwrap()).collect();
    assert_eq!(active(&mut stage, 1).unwrap_err(), Limit::Total);
    let _b = active(&mut stage, 2).unwrap();
    assert_eq!(active(&mut stage, 2).unwrap_err(), Limit::Total);
    let _c = active(&mut stage, 3).unwrap();
    assert_eq!(active(&mut stage, 4).unwrap_err(), Limit::Total);
}

#[test]
fn idle_connections_of_a_few_addresses_do_not_block_new_addresses() {
    let mut stage = Stage::new(10_000, 1_000);
    let mut crowd = Vec::new();
    for n in 0..10_000_u32 {
        crowd.push(stage.admit((n % 12) as u8).unwrap());
        if n % 200 == 0 {
            crowd.retain(|permit| !permit.usage().is_closed());
        }
    }
    let mut newcomers = Vec::new();
    for last in 100..200 {
        let permit = stage.admit(last).unwrap();
        assert!(permit.usage().begin());
        newcomers.push(permit);
        // The crowd returns all the time, and displaces itself; those that are to close do so soon.
        let last = last % 12;
        crowd.push(stage.admit(last).unwrap());
        crowd.retain(|permit| !permit.usage().is_closed());
    }
    assert!(newcomers.iter().all(|permit| !permit.usage().is_closed()));
    assert_eq!(stage.limit.open(), crowd.len() + newcomers.len());
}

#[test]
fn displaced_connections_that_do_not_close_are_bounded() {
    let mut stage = Stage::new(2_000, 2_000);
    let _crowd: Vec<_> = (0..2_000 - 2_000 / RESERVE).map(|_| stage.admit(1).unwrap()).collect();
    let more: Vec<_> = (0..2 * MAX_CLOSING).filter_map(|_| stage.admit(1).ok()).collect();
    assert_eq!(more.len(), MAX_CLOSING);
}

#[tokio::test(start_paused = true)]
async fn admission_waits_for_a_closing_connection_when_many_are_closing() {
    let stage = Stage::new(100, 10);
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    let admit = || stage.limit.admit(address, CLOSING_WAIT);
    let mut closing = Vec::new();
    for _ in 0..MAX_CLOSING + 10 {
        closing.push(admit().await.unwrap());
    }
    let begun = Instant::now();
    assert_eq!(admit().await.unwrap_err(), Limit::Address);
    assert!((CLOSING_WAIT..2 * CLOSING_WAIT).contains(&begun.elapsed()));
    let (admitted, ()) = tokio::join!(admit(), async { drop(closing.remove(0)) });
    admitted.unwrap();
    assert!((CLOSING_WAIT..2 * CLOSING_WAIT).contains(&begun.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn with_patience_admission_waits_for_a_released_permit_or_a_long_idle_connection() {
    let (patience, wait) = (Duration::from_secs(1), Duration::from_secs(5));
    let limit =
        ConnectionLimit::with_patience("handshakes", 2 * RESERVE, 2, patience, Arc::new(()));
    let admit = |last| limit.admit(Some(IpAddr::from([192, 0, 2, last])), wait);
    let begun = Instant::now();
    let first = admit(1).await.unwrap();
    tokio::time::advance(patience / 4).await;
    let second = admit(1).await.unwrap();
    let (third, ()) = tokio::join!(admit(1), async { drop(second) });
    assert_eq!(begun.elapsed(), patience / 4);
    // Others do not wait for that address.
    let _other = admit(2).await.unwrap();
    let _fourth = admit(1).await.unwrap();
    assert!((patience..wait).contains(&begun.elapsed()));
    assert!(first.usage().is_closed() && !third.unwrap().usage().is_closed());
}

#[test]
fn an_unvalidated_address_has_no_limit_of_its_own_and_is_displaced_by_age() {
    let mut stage = Stage::new(2, 1);
    let mut admit = |address: Option<[u8; 4]>| {
        let now = stage.step();
        stage.limit.try_admit(address.map(IpAddr::from), now)
    };
    let [a, b] = [None, None].map(|address| admit(address).unwrap());
    let _c = admit(Some([192, 0, 2, 1])).unwrap();
    assert_eq!(closed([&a, &b]), [true, false]);
}

#[test]
fn freeing_descriptors_closes_some_idle_connections_and_no_active_one() {
    for (max, freed) in [(64, 1), (1_000, 15), (10_000, MAX_DESCRIPTORS)] {
        let mut stage = Stage::new(max, 100);
        let permits: Vec<_> = (0..40).map(|last| stage.admit(last).unwrap()).collect();
        assert!(permits[0].usage().begin());
        stage.limit.free_descriptors();
        let closed = permits.iter().filter(|permit| permit.usage().is_closed());
        assert!(closed.count() == freed && !permits[0].usage().is_closed());
    }
}

#[test]
fn closed_connections_leave_no_entries_in_the_table() {
    let mut stage = Stage::new(4, 4);
    let mut permits: Vec<_> = (0..12).map(|last| stage.admit(last % 3).unwrap()).collect();
    let late = permits.pop().unwrap();
    let usage = Arc::clone(late.usage());
    assert!(usage.begin());
    assert!(stage.admit(9).is_ok());
    permits.clear();
    assert!(stage.admit(3).is_ok() && stage.admit(3).is_ok() && stage.admit(3).is_ok());
    drop(late);
    // A response may be cancelled after its connection has gone.
    usage.end(stage.step());
    let table = stage.limit.shared.table();
    assert_eq!((table.open, table.closing, table.hosts.len()), (0, 0, 0));
    assert_eq!((table.by_age.len(), table.by_host.len()), (0, 0));
}

#[test]
fn the_task_of_a_displaced_connection_is_woken() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut stage = Stage::new(1, 1);
    let permit = stage.admit(1).unwrap();
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(permit.usage().poll_closed(&mut cx).is_pending());
    let _other = stage.admit(2).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(permit.usage().poll_closed(&mut cx).is_ready());
}

/// A connection as the policy describes it.
struct Modelled {
    host: u8,
    exchanges: u32,
    idle_since: u64,
    permit: Permit,
}

#[derive(Debug, Clone)]
enum Step {
    Come(u8),
    Begin(prop::sample::Index),
    End(prop::sample::Index),
    Go(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8).prop_map(Step::Come),
        3 => any::<prop::sample::Index>().prop_map(Step::Begin),
        3 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => any::<prop::sample::Index>().prop_map(Step::Go),
    ]
}

proptest! {
    #[test]
    fn arbitrary_events_match_the_policys_model(steps in prop::collection::vec(step(), 1..200)) {
        const MAX: usize = 2 * RESERVE;
        const MAX_PER_ADDRESS: usize = 12;
        let (mut stage, mut open) = (Stage::new(MAX, MAX_PER_ADDRESS), Vec::<Modelled>::new());
        for (time, step) in (1_u64..).zip(steps) {
            match step {
                Step::Come(host) => {
                    let here = open.iter().filter(|one| one.host == host).count();
                    let reserved = if here == 0 { 0 } else { 2 };
                    let idlest = |own: bool| {
                        let idle = open.iter().enumerate().filter(|(_, one)| {
                            one.exchanges == 0 && (!own || one.host == host)
                        });
                        idle.min_by_key(|(_, one)| one.idle_since).map(|(index, _)| index)
                    };
                    let expected = if here >= MAX_PER_ADDRESS {
                        idlest(true).map(Some).ok_or(Limit::Address)
                    } else if open.len() + reserved >= MAX {
                        idlest(true).or_else(|| idlest(false)).map(Some).ok_or(Limit::Total)
                    } else {
                        Ok(None)
                    };
                    let admitted = stage.admit(host);
                    let displaced = open.iter().position(|one| one.permit.usage().is_closed());
                    let permit = match (admitted, expected) {
                        (Ok(permit), Ok(expected)) => {
                            prop_assert_eq!(displaced, expected);
                            permit
                        }
                        (Err(reason), Err(expected)) => {
                            prop_assert_eq!(reason, expected);
                            continue;
                        }
                        (admitted, expected) => panic!("{admitted:?}, not {expected:?}"),
                    };
                    if let Some(displaced) = displaced {
                        open.remove(displaced);
                    }
                    open.push(Modelled { host, exchanges: 0, idle_since: time, permit });
                }
                Step::Begin(index) if !open.is_empty() => {
                    let one = index.get_mut(&mut open);
                    prop_assert!(one.permit.usage().begin());
                    one.exchanges += 1;
                    stage.step();
                }
                Step::End(index) if !open.is_empty() => {
                    let (one, now) = (index.get_mut(&mut open), stage.step());
                    if one.exchanges > 0 {
                        one.exchanges -= 1;
                        one.idle_since = time;
                        one.permit.usage().end(now);
                    }
                }
                Step::Go(index) if !open.is_empty() => {
                    open.remove(index.index(open.len()));
                    stage.step();
                }
                _ => {
                    stage.step();
                }
            }
            prop_assert_eq!(stage.limit.open(), open.len());
        }
    }
}
