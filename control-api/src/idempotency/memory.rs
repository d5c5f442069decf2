//! The record of idempotent requests in memory: lost at a restart, bounded in number, size and age.

use std::{
    collections::{HashMap, VecDeque},
    future::ready,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::recorded::{Entry, Key, Pending, Recorded};

/// Time for which a response is kept.
const AGE: Duration = Duration::from_secs(86_400);
/// Maximum number of responses.
const MAX_ENTRIES: usize = 10_000;
/// Maximum size of all responses in bytes.
const MAX_BYTES: usize = 16 << 20;
/// The size of an entry besides its key, headers and body, approximately.
const OVERHEAD: usize = 256;

/// The record. The oldest responses give way to new ones.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// The keys in the order of their age, with the time of the record and the size.
    order: VecDeque<(Key, Instant, usize)>,
    bytes: usize,
}

impl Entries {
    /// Removes responses that are too old, and the oldest beyond the bounds.
    fn trim(&mut self, now: Instant) {
        while let Some((_, since, _)) = self.order.front() {
            let beyond = self.order.len() > MAX_ENTRIES || self.bytes > MAX_BYTES;
            if !beyond && now.duration_since(*since) < AGE {
                break;
            }
            if let Some((key, _, size)) = self.order.pop_front() {
                self.bytes -= size;
                self.by_key.remove(&key);
            }
        }
    }

    fn insert(&mut self, key: Key, entry: Entry, now: Instant) {
        let headers: usize =
            entry.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let size = OVERHEAD + 2 * key.text.len() + headers + entry.body.len();
        // A key is recorded once: it is claimed while its request is in progress.
        if self.by_key.insert(key.clone(), entry).is_none() {
            self.order.push_back((key, now, size));
            self.bytes += size;
        }
        self.trim(now);
    }
}

impl Recorded for Memory {
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Entry>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.trim(Instant::now());
        let entry = entries.by_key.get(key).cloned();
        Box::pin(ready(Ok(entry)))
    }

    fn insert(&self, key: Key, entry: Entry) -> Pending<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry, Instant::now());
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use uuid::Uuid;

    use super::{
        super::recorded::{Actor, Fingerprint},
        *,
    };

    fn key(number: usize) -> Key {
        Key { actor: Actor::Account(Uuid::nil()), text: number.to_string().into() }
    }

    fn entry(bytes: usize) -> Entry {
        Entry {
            fingerprint: Fingerprint([0; 32]),
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![0; bytes]),
        }
    }

    async fn has(memory: &Memory, number: usize) -> bool {
        memory.get(&key(number)).await.unwrap().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn responses_are_kept_for_a_day() {
        let memory = Memory::default();
        memory.insert(key(1), entry(1)).await.unwrap();
        tokio::time::advance(AGE - Duration::from_secs(1)).await;
        memory.insert(key(2), entry(1)).await.unwrap();
        assert!(has(&memory, 1).await && has(&memory, 2).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!has(&memory, 1).await && has(&memory, 2).await);
        let other = Key { actor: Actor::Account(Uuid::max()), ..key(2) };
        let found = memory.get(&other).await.unwrap();
        assert_eq!(found, None, "another actor has other keys");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_responses_give_way_at_the_bounds_of_number_and_size() {
        let memory = Memory::default();
        for number in 0..MAX_ENTRIES + 10 {
            memory.insert(key(number), entry(1)).await.unwrap();
        }
        assert!(!has(&memory, 9).await && has(&memory, 10).await);
        for number in 0..1_000 {
            memory.insert(key(100_000 + number), entry(64 << 10)).await.unwrap();
        }
        let entries = memory.0.lock().unwrap();
        assert!(entries.bytes <= MAX_BYTES && entries.bytes > MAX_BYTES - (65 << 10));
        assert_eq!(entries.by_key.len(), entries.order.len());
        assert!(entries.by_key.contains_key(&key(100_999)));
    }
}
