use super::*;

fn places(max: usize, max_per_address: usize) -> Arc<Places> {
    let config = Config {
        max_connections: max,
        max_connections_per_address: max_per_address,
        ..Config::default()
    };
    Places::new(&config)
}

/// Takes places at instants that follow one another.
struct Bench {
    places: Arc<Places>,
    metrics: Metrics,
    now: Instant,
}

impl Bench {
    fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            places: places(max, max_per_address),
            metrics: Metrics::default(),
            now: Instant::now(),
        }
    }

    fn take(&mut self, last: u8) -> Result<Place, Limit> {
        self.now += Duration::from_millis(1);
        self.places
            .take(IpAddr::from([192, 0, 2, last]), self.now, &self.metrics)
    }

    /// That the sums are those of the connections that there are.
    fn assert_sums(&self, open: usize, closing: usize) {
        let table = self.places.table();
        assert_eq!((table.open, table.closing), (open, closing));
        assert_eq!(table.hosts.values().map(|host| host.open).sum::<usize>(), open);
        assert_eq!(
            table.hosts.values().map(|host| host.idle.len()).sum::<usize>(),
            table.idle.len()
        );
    }
}

fn evicted(places: &[Place]) -> Vec<bool> {
    places.iter().map(|place| place.evicted.is_cancelled()).collect()
}

#[test]
fn one_ipv6_host_has_a_64_and_ipv4_hosts_behind_an_ipv6_listener_are_told_apart() {
    let [a, b, c] = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|ip| host(ip.parse().unwrap()));
    assert!(a == b && a != c);
    let [a, b, c] = ["::ffff:192.0.2.1", "::ffff:192.0.2.2", "192.0.2.1"].map(|ip| host(ip.parse().unwrap()));
    assert!(a != b && a == c);
}

#[test]
fn when_connections_run_out_the_one_that_was_idle_longest_is_closed() {
    let mut bench = Bench::new(3, 3);
    let mut places: Vec<_> = (1..=3).map(|host| bench.take(host).unwrap()).collect();
    places[0].set_active(); // publishes
    places.push(bench.take(4).unwrap());
    assert_eq!(evicted(&places), [false, true, false, false]);
    bench.assert_sums(3, 1);
    // What is told to close has no place to give back.
    places[1].set_active();
    places[1].set_idle(bench.now);
    drop(places.remove(1));
    bench.assert_sums(3, 0);
    drop(places);
    bench.assert_sums(0, 0);
    assert_eq!(bench.metrics.connections.get(), 0);
}

#[test]
fn publishers_are_never_closed_and_where_no_connection_is_idle_the_new_one_is_refused() {
    let mut bench = Bench::new(2, 2);
    let mut places: Vec<_> = (1..=2).map(|host| bench.take(host).unwrap()).collect();
    places.iter_mut().for_each(Place::set_active);
    assert_eq!(bench.take(3).unwrap_err(), Limit::All);
    // It has stopped, but the connection stays.
    places[0].stop(bench.now);
    let _new = bench.take(3).unwrap();
    assert_eq!(evicted(&places), [true, false]);
}

#[test]
fn at_the_limit_of_its_address_an_address_loses_its_own() {
    let mut bench = Bench::new(100, 2);
    let other = bench.take(1).unwrap();
    let mut places: Vec<_> = (0..2).map(|_| bench.take(2).unwrap()).collect();
    places.push(bench.take(2).unwrap());
    assert_eq!(evicted(&places), [true, false, false]);
    assert!(!other.evicted.is_cancelled());
    places[1..].iter_mut().for_each(Place::set_active);
    assert_eq!(bench.take(2).unwrap_err(), Limit::Address);
}

#[test]
fn a_crowd_from_twelve_addresses_displaces_itself_and_a_publisher_always_gets_in() {
    let mut bench = Bench::new(64, 32);
    let mut publisher = bench.take(200).unwrap();
    publisher.set_active();
    let (mut crowd, mut slow): (Vec<Place>, Option<Place>) = (Vec::new(), None);
    for round in 0..1_000 {
        crowd.push(bench.take(1 + (round % 12) as u8).unwrap());
        crowd.retain(|place| !place.evicted.is_cancelled());
        if round == 500 {
            slow = Some(bench.take(100).unwrap()); // has not asked for anything yet
        }
    }
    assert!(!publisher.evicted.is_cancelled());
    assert!(
        !slow.unwrap().evicted.is_cancelled(),
        "the crowd's own connections went first"
    );
    // New addresses find the places that are kept for them.
    let newcomers: Vec<_> = (101..=104).map(|host| bench.take(host).unwrap()).collect();
    assert_eq!(evicted(&newcomers), [false; 4]);
}

#[test]
fn the_last_places_are_for_addresses_that_have_none() {
    let mut bench = Bench::new(32, 32);
    let mut places: Vec<_> = (0..30).map(|_| bench.take(1).unwrap()).collect();
    places.iter_mut().for_each(Place::set_active);
    assert_eq!(bench.take(1).unwrap_err(), Limit::All);
    let _newcomers: Vec<_> = (2..=3).map(|host| bench.take(host).unwrap()).collect();
    let _fourth = bench.take(4).expect("an idle one gives way");
    bench.assert_sums(32, 1);
}

#[test]
fn players_leave_room_for_publishers_and_one_that_takes_nothing_is_idle() {
    let mut bench = Bench::new(32, 32);
    let mut players: Vec<_> = (0..30).map(|host| bench.take(host).unwrap()).collect();
    assert!(players.iter_mut().all(Place::play));
    assert!(players[0].play(), "it is one already");
    let mut another = bench.take(40).unwrap();
    assert!(!another.play());
    another.set_active(); // as a publisher it may stay
    let mut publisher = bench.take(41).unwrap();
    publisher.set_active();
    assert_eq!(bench.take(42).unwrap_err(), Limit::All);
    players[7].set_idle(bench.now);
    let mut third = bench.take(42).unwrap();
    assert!(players[7].evicted.is_cancelled());
    third.set_active();
    assert!(third.play(), "the place of a player was given back");
    drop(players);
    bench.assert_sums(3, 0);
    assert_eq!(bench.places.table().players, 1);
    third.stop(bench.now);
    assert_eq!(bench.places.table().players, 0);
}

#[test]
fn where_many_are_closing_the_next_must_wait() {
    let mut bench = Bench::new(10, 10);
    let mut closing: Vec<_> = (0..10 + MAX_CLOSING).map(|_| bench.take(1).unwrap()).collect();
    assert_eq!(bench.take(1).unwrap_err(), Limit::Address);
    closing.remove(0);
    assert!(bench.take(1).is_ok());
}

#[test]
fn the_log_has_one_line_a_minute_about_a_limit_with_the_sums() {
    let (mut table, now) = (Table::default(), Instant::now());
    let first = table.notice(Limit::All, now, true).unwrap();
    assert_eq!((first.closed, first.refused), (1, 0));
    assert!((0..100).all(|_| table.notice(Limit::All, now, false).is_none()));
    assert!(table.notice(Limit::Address, now, true).is_some());
    let next = table.notice(Limit::All, now + LOG_INTERVAL, true).unwrap();
    assert_eq!((next.closed, next.refused), (1, 100));
}
