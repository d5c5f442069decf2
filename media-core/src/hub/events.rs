//! The broadcasts of a hub as they begin and end. A reader compares the live broadcasts with those
//! that it knows, so a slow reader needs no queue: it only misses broadcasts that have begun and
//! ended between two reads.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use super::announced::Announced;
use crate::Broadcast;

/// A change of a hub's broadcasts.
#[derive(Debug, Clone)]
pub enum Event {
    /// The broadcast has begun.
    Began(Arc<Broadcast>),
    /// The broadcast, which began before, is no longer in the hub, because it has ended.
    Ended(Arc<Broadcast>),
}

/// The broadcasts that begin and end.
#[derive(Debug)]
pub struct Events {
    announced: Arc<Announced>,
    /// Those that have begun and not ended for this reader, by their serial numbers.
    known: BTreeMap<u64, Arc<Broadcast>>,
    /// The highest serial number so far.
    seen: u64,
}

impl Events {
    pub(super) fn new(announced: Arc<Announced>) -> Self {
        Self { announced, known: BTreeMap::new(), seen: 0 }
    }

    /// Waits for the next change. A broadcast that has begun and ended since the last call is left
    /// out. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        let announced = Arc::clone(&self.announced);
        loop {
            // Registered before the list is read, so that no change between the two is missed.
            let mut changed = pin!(announced.changed.notified());
            changed.as_mut().enable();
            if let Some(event) = self.try_next() {
                return event;
            }
            changed.await;
        }
    }

    /// Waits for the next broadcast that begins. Cancel-safe.
    pub async fn began(&mut self) -> Arc<Broadcast> {
        loop {
            if let Event::Began(broadcast) = self.next().await {
                return broadcast;
            }
        }
    }

    /// The next change, if there is one: first the broadcasts that have ended, so that of two
    /// broadcasts of a channel the first ends before the second begins.
    fn try_next(&mut self) -> Option<Event> {
        let announced = self.announced.lock();
        let live = &announced.live;
        if let Some(ended) = self.known.keys().find(|serial| !live.contains_key(serial)).copied() {
            return self.known.remove(&ended).map(Event::Ended);
        }
        let (serial, begun) = live.range(self.seen + 1..).next()?;
        self.seen = *serial;
        self.known.insert(*serial, Arc::clone(begun));
        Some(Event::Began(Arc::clone(begun)))
    }
}
