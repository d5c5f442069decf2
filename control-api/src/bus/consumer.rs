//! The replica's side: takes the events of the stream, in order, and folds them as the writer does.
//! The log of the replica is the cursor, because its sequences are those of the stream.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::{
    Message,
    consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull},
};
use control_domain::Envelope;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;

use super::{
    error::Error,
    keys::{JWKS, Keys},
    link::{Link, Use},
    persons,
    shared::Shared,
    stream::{Events, message_id},
};
use crate::store::{CopiedEvent, Store};

/// Messages that wait in memory at most, and their bytes.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 16 << 20;
/// Events that one commit holds at most.
const PAGE: usize = 1024;
/// Length of a request for messages.
const EXPIRES: Duration = Duration::from_secs(30);
/// Interval of signs of life, of which two may be missing.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time after which the server forgets this consumer.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Interval at which the length of the stream and the keys of access tokens are read.
const LOOK: Duration = Duration::from_secs(10);

/// Takes events until a fault.
///
/// # Errors
/// [`Error`].
pub(super) async fn consume(shared: &Shared, store: &Store, link: &Link) -> Result<(), Error> {
    let connected = link.begin().await;
    let events = Events::open(link.jetstream(), &shared.settings).await?;
    let keys = Keys::open(link.jetstream(), &shared.settings).await?;
    if !keys.is_complete(store.vault()).await? {
        let bucket = format!("{}_keys", shared.settings.stream);
        return Err(Error::NotFilled { bucket });
    }
    let last = check(&events, store).await?;
    shared.status.resumed(store.sequence(), last);
    info!(stream = events.name(), sequence = store.sequence(), "events come from the bus");
    let mut consumer = Consumer { shared, store, connected, events, keys };
    consumer.learn_token_keys().await?;
    consumer.run().await
}

/// Checks that the stream continues the log of this replica. Returns its last sequence.
async fn check(events: &Events, store: &Store) -> Result<u64, Error> {
    let (state, own) = (events.state().await?, store.sequence());
    let (first, last) = (state.first_sequence, state.last_sequence);
    if last < own {
        return Err(Error::Short { last, own });
    }
    // Of a stream without messages the first is the next one.
    if last > own && first > own + 1 {
        let stream = events.name().to_owned();
        return Err(Error::Trimmed { stream, first, wanted: own + 1 });
    }
    if own > 0 && first <= own {
        events.compare(own, store).await?;
    }
    Ok(last)
}

struct Consumer<'a> {
    shared: &'a Shared,
    store: &'a Store,
    connected: Use,
    events: Events,
    keys: Keys,
}

impl Consumer<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        let asked = "asking for events";
        let config = pull::Config {
            description: Some("A replica of streamforge".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.store.sequence() + 1,
            },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = self.events.stream().create_consumer(config).await;
        let consumer = consumer.map_err(|err| Error::request(asked)(err.into()))?;
        let stream = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(BATCH_BYTES)
            .expires(EXPIRES)
            .heartbeat(HEARTBEAT);
        let messages = stream.messages().await;
        let mut messages = messages.map_err(|err| Error::request(asked)(err.into()))?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset_at(Instant::now() + LOOK);
        let connected = self.connected.clone();
        loop {
            let next = async {
                tokio::select! {
                    message = messages.next() => Some(message),
                    _ = look.tick() => None,
                }
            };
            let Some(first) = connected.unless_lost(next).await? else {
                self.look().await?;
                continue;
            };
            let received = |message: Option<Result<Message, _>>| match message {
                Some(Ok(message)) => Ok(message),
                Some(Err(err)) => Err(Error::request(asked)(Box::new(err))),
                None => Err(Error::Lost),
            };
            let mut page = vec![received(first)?];
            while page.len() < PAGE
                && let Some(next) = messages.next().now_or_never()
            {
                page.push(received(next)?);
            }
            self.take(page).await?;
        }
    }

    /// Appends and folds events, after the keys that they need.
    async fn take(&mut self, page: Vec<Message>) -> Result<(), Error> {
        let after = self.store.sequence();
        let mut last = after;
        let mut pending = 0;
        let mut persons = BTreeSet::new();
        let mut copied = Vec::with_capacity(page.len());
        for message in page {
            let about = message.info().map_err(Error::request("reading a message"))?;
            let sequence = about.stream_sequence;
            if sequence != last + 1 {
                return Err(Error::Hole { after: last, found: sequence });
            }
            (last, pending) = (sequence, about.pending);
            let envelope = serde_json::from_slice::<Envelope>(&message.payload);
            let envelope = envelope.map_err(|error| Error::NotAnEvent { sequence, error })?;
            let id = message.headers.as_ref().and_then(message_id);
            if id != Some(&envelope.id.to_string()) {
                return Err(Error::Identifier(sequence));
            }
            persons::add(&envelope, &mut persons);
            copied.push(CopiedEvent { json: message.message.payload, envelope });
        }
        let mut missing = Vec::new();
        for person in persons {
            if self.store.vault().stored_key(person)?.is_none() {
                missing.push(person);
            }
        }
        if !missing.is_empty() {
            let keys = self.connected.unless_lost(self.keys.get(&missing)).await??;
            self.store.vault().copy_keys(keys)?;
        }
        let count = copied.len();
        self.store.copy(after, copied).await?;
        self.shared.status.consumed(count, last, last + pending);
        Ok(())
    }

    /// Reads the length of the stream, and the keys of access tokens.
    async fn look(&mut self) -> Result<(), Error> {
        let state = self.connected.unless_lost(self.events.state()).await??;
        self.shared.status.seen(state.last_sequence);
        self.learn_token_keys().await
    }

    async fn learn_token_keys(&mut self) -> Result<(), Error> {
        if let Some(keys) = self.keys.named(JWKS, self.store.vault()).await? {
            self.shared.learn_token_keys(&keys);
        }
        Ok(())
    }
}
