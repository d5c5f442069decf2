use http::{HeaderMap, StatusCode};
use prometheus_client::metrics::gauge::Gauge;

use super::*;
use crate::edge::{
    content::{Content, Reader},
    freshness::Freshness,
    object::OVERHEAD,
};

/// The memory of an object of a thousand bytes.
const OBJECT: u64 = 1_000 + OVERHEAD;

fn key(n: usize) -> Key {
    Key { target: format!("/{n}").into(), gzip: false, under_token: false }
}

fn put(
    cache: &Arc<Cache>,
    budget: &Arc<Budget>,
    n: usize,
    bytes: usize,
    lifetime_s: u64,
) -> Arc<Object> {
    let Found::Nothing(start, ..) = cache.find(&key(n), None, Instant::now()) else {
        panic!("it is there")
    };
    assert!(cache.make_room(bytes as u64 + OVERHEAD, Claim::Text));
    let freshness =
        Freshness::kept(Duration::ZERO, Duration::from_secs(lifetime_s), Instant::now());
    let content = Content::whole(vec![0; bytes].into(), budget);
    let object = Arc::new(Object::new(StatusCode::OK, &HeaderMap::new(), freshness, content));
    start.landing.land(Ok(Arc::clone(&object)));
    object
}

fn is_here(cache: &Arc<Cache>, n: usize) -> bool {
    matches!(cache.find(&key(n), None, Instant::now()), Found::Here(..))
}

#[tokio::test(start_paused = true)]
async fn unrequested_objects_are_evicted_first_and_objects_with_readers_stay() {
    let budget = Budget::new(10 * OBJECT, Gauge::default());
    let cache = Cache::new(Arc::clone(&budget), Quota::new(100, 100));
    for n in 0..9 {
        put(&cache, &budget, n, 1_000, 100);
    }
    let Found::Here(read, _) = cache.find(&key(0), None, Instant::now()) else { panic!() };
    let reader = Reader::new(Arc::clone(&read.content));
    drop(read);
    assert!(is_here(&cache, 1));
    for n in 20..29 {
        put(&cache, &budget, n, 1_000, 100);
        assert!(is_here(&cache, 1));
    }
    assert!(is_here(&cache, 0));
    assert!((2..9).all(|n| !is_here(&cache, n)));
    drop(reader);
}

#[tokio::test(start_paused = true)]
async fn objects_with_readers_are_evicted_when_the_readers_are_dropped() {
    let budget = Budget::new(10 * OBJECT, Gauge::default());
    let cache = Cache::new(Arc::clone(&budget), Quota::new(100, 100));
    let objects: Vec<_> = (0..9).map(|n| put(&cache, &budget, n, 1_000, 100)).collect();
    let readers: Vec<_> =
        objects.iter().map(|object| Reader::new(Arc::clone(&object.content))).collect();
    drop(objects);
    for _ in 0..9 {
        assert!(!cache.make_room(8 * OBJECT, Claim::Text));
    }
    drop(readers);
    assert!(cache.make_room(8 * OBJECT, Claim::Text));
}

#[tokio::test(start_paused = true)]
async fn objects_that_are_too_stale_to_be_used_are_removed() {
    let budget = Budget::new(1 << 30, Gauge::default());
    let cache = Cache::new(Arc::clone(&budget), Quota::new(100, 100));
    for n in 0..1_000 {
        put(&cache, &budget, n, 10, 1);
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    // Seven lifetimes are 70 of them.
    assert!(cache.len() <= 71, "{}", cache.len());
    assert!(cache.fading().len() <= 71, "{}", cache.fading().len());
    assert!(cache.clock().objects.len() <= LEAST_PRUNED, "{}", cache.clock().objects.len());
}

#[tokio::test(start_paused = true)]
async fn index_entries_of_evicted_objects_are_pruned() {
    let budget = Budget::new(20 * OBJECT, Gauge::default());
    let cache = Cache::new(Arc::clone(&budget), Quota::new(100, 100));
    for n in 0..5_000 {
        put(&cache, &budget, n, 1_000, 100);
    }
    assert!(cache.len() <= 20);
    assert!(cache.clock().objects.len() <= LEAST_PRUNED);
    assert!(cache.fading().len() <= 2 * LEAST_PRUNED, "{}", cache.fading().len());
}

#[tokio::test(start_paused = true)]
async fn one_request_fetches_and_others_wait_until_it_has_landed_or_is_dropped() {
    let budget = Budget::new(1 << 30, Gauge::default());
    let cache = Cache::new(Arc::clone(&budget), Quota::new(2, 2));
    let find = |n| cache.find(&key(n), None, Instant::now());
    let Found::Nothing(start, _flight, _first) = find(1) else { panic!() };
    let Found::Under(flight, awaited, _) = find(1) else { panic!() };
    let Found::Nothing(other, _, _second) = find(2) else { panic!() };
    assert!(matches!(find(3), Found::Full));
    drop(other);
    assert!(matches!(find(3), Found::Nothing(..)));
    drop(start);
    assert_eq!(flight.landed().await.unwrap_err(), Failure::Unreachable);
    drop(awaited);
    assert_eq!(cache.len(), 0);
}
