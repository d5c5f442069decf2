//! The writer's side: publishes the log, in order, many events at a time.

use std::{
    collections::{BTreeSet, VecDeque},
    future::{Future, IntoFuture as _},
    pin::Pin,
    time::Duration,
};

use async_nats::jetstream::{context::PublishError, message::PublishMessage, publish::PublishAck};
use control_domain::Envelope;
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use super::{
    error::Error,
    keys::{JWKS, Keys},
    link::{Link, MAX_ACKS, Use},
    persons,
    shared::Shared,
    stream::Events,
    subject,
};
use crate::store::{Store, erased_person};

/// Events that are read at once.
const PAGE: usize = 256;
/// Events without an acknowledgement at which no more are published.
const WINDOW: usize = 512;
/// The media type of an event (CloudEvents 1.0, JSON format, 3).
const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";
/// Interval at which the public keys of access tokens are compared with those in the bucket.
const TOKEN_KEYS: Duration = Duration::from_secs(60);

const _: () = assert!(WINDOW + PAGE <= MAX_ACKS);

/// An event that was sent.
struct Sent {
    sequence: u64,
    ack: Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>,
}

/// Publishes until the database closes, which the caller waits for, or until a fault.
///
/// # Errors
/// [`Error`].
pub(super) async fn publish(shared: &Shared, store: &Store, link: &Link) -> Result<(), Error> {
    let connected = link.begin().await;
    let events = Events::open_or_make(link.jetstream(), &shared.settings).await?;
    let last = position(&events, store).await?;
    let keys = Keys::open_or_make(link.jetstream(), &shared.settings).await?;
    let mut publisher = Publisher {
        shared,
        store,
        link,
        connected,
        events,
        keys,
        sent: last,
        in_flight: VecDeque::new(),
        token_keys: None,
    };
    publisher.complete_keys().await?;
    shared.status.resumed(last, store.sequence());
    info!(stream = publisher.events.name(), sequence = last, "events go to the bus");
    publisher.run().await
}

/// The last event that is in the stream.
async fn position(events: &Events, store: &Store) -> Result<u64, Error> {
    let state = events.state().await?;
    let (last, own) = (state.last_sequence, store.sequence());
    if last == 0 {
        return Ok(0);
    }
    let stream = || events.name().to_owned();
    if last > own {
        return Err(Error::Ahead { stream: stream(), last, own });
    }
    if state.messages == 0 {
        return Err(Error::Emptied { stream: stream(), last });
    }
    events.compare(last, store).await?;
    Ok(last)
}

struct Publisher<'a> {
    shared: &'a Shared,
    store: &'a Store,
    link: &'a Link,
    connected: Use,
    events: Events,
    keys: Keys,
    /// The last event that was sent.
    sent: u64,
    in_flight: VecDeque<Sent>,
    /// The public keys of access tokens in the bucket.
    token_keys: Option<Vec<u8>>,
}

impl Publisher<'_> {
    /// Fills the bucket with the keys of all events that are in the stream, if it lacks them.
    async fn complete_keys(&mut self) -> Result<(), Error> {
        if self.keys.is_complete(self.store.vault()).await? {
            return Ok(());
        }
        let mut after = 0;
        while after < self.sent {
            let page = self.store.events(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let mut persons = BTreeSet::new();
            page.iter().for_each(|(_, envelope)| persons::add(envelope, &mut persons));
            self.keys.put(&persons, self.store.vault()).await?;
        }
        self.keys.complete(self.store.vault()).await
    }

    async fn run(&mut self) -> Result<(), Error> {
        let mut committed = self.store.watch();
        let mut look = interval(TOKEN_KEYS);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            committed.mark_unchanged();
            if self.in_flight.len() < WINDOW {
                let page = self.store.stored_events(self.sent, PAGE)?;
                if !page.is_empty() {
                    self.send_all(page).await?;
                    continue;
                }
            }
            if let Some(first) = self.in_flight.pop_front() {
                self.settle(first).await?;
                continue;
            }
            let connected = self.connected.clone();
            let wait = async {
                tokio::select! {
                    changed = committed.changed() => changed.is_err(),
                    _ = look.tick() => false,
                }
            };
            if connected.unless_lost(wait).await? {
                // The database is closed.
                return Ok(());
            }
            self.put_token_keys().await?;
        }
    }

    /// Sends a page of events, after the keys that they need.
    async fn send_all(&mut self, page: Vec<(u64, Vec<u8>)>) -> Result<(), Error> {
        let mut events = Vec::with_capacity(page.len());
        let (mut persons, mut erased) = (BTreeSet::new(), Vec::new());
        for (sequence, json) in page {
            let envelope = serde_json::from_slice::<Envelope>(&json);
            let envelope = envelope.map_err(|error| Error::NotAnEvent { sequence, error })?;
            persons::add(&envelope, &mut persons);
            erased.extend(erased_person(&envelope)?);
            events.push((sequence, json, envelope));
        }
        let (vault, connected) = (self.store.vault(), self.connected.clone());
        connected.unless_lost(self.keys.put(&persons, vault)).await??;
        for person in erased {
            connected.unless_lost(self.keys.erase(person)).await??;
        }
        for (sequence, json, envelope) in events {
            let subject = subject::of(&self.shared.settings.prefix, &envelope.kind);
            let message = PublishMessage::build()
                .payload(json.into())
                .header("Content-Type", MEDIA_TYPE)
                .message_id(envelope.id.to_string())
                .expected_stream(self.events.name())
                .expected_last_sequence(sequence - 1);
            let sent = connected.unless_lost(self.link.jetstream().send_publish(subject, message));
            let ack = sent.await?.map_err(|error| Error::Refused { sequence, error })?;
            self.in_flight.push_back(Sent { sequence, ack: ack.into_future() });
            self.sent = sequence;
        }
        Ok(())
    }

    /// Waits for the acknowledgement of an event. If it is refused, so are all behind it.
    async fn settle(&mut self, sent: Sent) -> Result<(), Error> {
        let sequence = sent.sequence;
        let ack = self.connected.unless_lost(sent.ack).await?;
        let ack = ack.map_err(|error| Error::Refused { sequence, error })?;
        if ack.sequence != sequence {
            return Err(Error::OtherSequence { expected: sequence, found: ack.sequence });
        }
        self.shared.status.published(sequence);
        Ok(())
    }

    /// Stores the public keys of access tokens for replicas, if they have changed.
    async fn put_token_keys(&mut self) -> Result<(), Error> {
        let Some(keys) = self.shared.token_keys() else { return Ok(()) };
        if self.token_keys.as_ref() != Some(&keys) {
            self.keys.put_named(JWKS, &keys, self.store.vault()).await?;
            self.token_keys = Some(keys);
        }
        Ok(())
    }
}
