//! The work on one webhook: finds the next event that it wants, and delivers it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use control_domain::{
    Actor, Envelope, Fault, Time, Vault as _,
    features::webhooks::{commands::GiveUp, events::Cause, queries::Webhook, url::WebhookUrl},
    id::WebhookId,
};
use http::StatusCode;
use tracing::{Instrument as _, Span, warn};

use super::{
    client::{Failure, Signed},
    follower::{begins, find, may_read},
    lines::Failed,
    shared::{Shared, keep},
    signature::sign,
};
use crate::{
    store::{Deliveries, Delivery, DeliveryRows, DeliveryState, Store},
    traces,
};

/// Events that are examined at once.
const PAGE: usize = 256;
/// Delay after a fault of the database.
const RETRY: Duration = Duration::from_secs(1);
/// The status of a receiver that wants nothing any more (RFC 9110 15.5.11).
const GONE: u16 = 410;

/// One step of one webhook.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) file: Arc<Deliveries>,
    pub(super) webhook: WebhookId,
}

/// The end of the work, also by a panic.
struct Finish<'a>(&'a Shared, WebhookId);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.lines().finish(self.1);
        self.0.wake.notify_one();
    }
}

/// The result of a request.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) result: Result<u16, Failure>,
    pub(super) duration_ms: u64,
}

impl Attempt {
    /// Whether the receiver has accepted the event.
    pub(super) fn is_success(&self) -> bool {
        matches!(self.result, Ok(200..=299))
    }

    /// The delivery after this attempt. `before` is the delivery before it.
    pub(super) fn delivery(
        &self,
        envelope: &Envelope,
        sequence: Option<u64>,
        before: Option<Delivery>,
        now: Time,
    ) -> Delivery {
        let state =
            if self.is_success() { DeliveryState::Delivered } else { DeliveryState::Failed };
        Delivery {
            kind: envelope.kind.clone(),
            sequence,
            state,
            attempts: before.as_ref().map_or(0, |before| before.attempts).saturating_add(1),
            first: before.map_or(now, |before| before.first),
            last: now,
            duration_ms: self.duration_ms,
            status: self.result.as_ref().ok().copied(),
            error: self.result.as_ref().err().map(Failure::to_string),
            next: None,
        }
    }
}

impl Worker {
    /// Examines some events, and delivers at most one.
    ///
    /// # Errors
    /// A [`Fault`] of the file of deliveries. After a fault of the platform's database it is tried
    /// again.
    pub(super) async fn step(self) -> Result<(), Fault> {
        let _finish = Finish(&self.shared, self.webhook);
        let found = match self.next() {
            Ok(found) => found,
            Err(fault) => {
                warn!(webhook = %self.webhook, %fault, "the next event cannot be read yet");
                tokio::time::sleep(RETRY).await;
                return Ok(());
            }
        };
        match found {
            Some((webhook, sequence, envelope)) => {
                self.deliver(&webhook, sequence, &envelope).await
            }
            None => self.shared.keep(&self.file, false, vec![self.webhook]).await,
        }
    }

    /// The next event that the webhook wants, among some. Passes over those before it.
    fn next(&self) -> Result<Option<(Webhook, u64, Envelope)>, Fault> {
        let (id, shared) = (self.webhook, &*self.shared);
        let webhook = find(&self.store, id)?.filter(|webhook| webhook.disabled.is_none());
        let Some(webhook) = webhook else {
            shared.lines().set(id, None, 0, shared.clock.now());
            return Ok(None);
        };
        let Some(position) = shared.lines().position(id) else { return Ok(None) };
        let seen = shared.lines().seen();
        let page = self.store.events(position.next.saturating_sub(1), PAGE)?;
        let mut through = position.next.saturating_sub(1);
        for (sequence, envelope) in page {
            if sequence > seen {
                break;
            }
            if self.wants(&webhook, &envelope)? {
                if sequence > position.next {
                    shared.lines().pass(id, sequence - 1, shared.clock.now());
                }
                return Ok(Some((webhook, sequence, envelope)));
            }
            through = sequence;
        }
        shared.lines().pass(id, through, shared.clock.now());
        Ok(None)
    }

    /// Whether an event is to be delivered now.
    fn wants(&self, webhook: &Webhook, envelope: &Envelope) -> Result<bool, Fault> {
        if webhook.since > envelope.time
            || !webhook.types.includes(&envelope.kind)
            || begins(self.webhook, envelope)
        {
            return Ok(false);
        }
        let may_read = self.store.read(|rows| may_read(rows, webhook.owner, envelope))??;
        // After a crash some events are offered again.
        let is_done = |delivery: Delivery| delivery.state == DeliveryState::Delivered;
        Ok(may_read && !self.file.one(self.webhook, envelope.id)?.is_some_and(is_done))
    }

    async fn deliver(
        &self,
        webhook: &Webhook,
        sequence: u64,
        envelope: &Envelope,
    ) -> Result<(), Fault> {
        let (id, shared) = (self.webhook, &self.shared);
        let begun = shared.clock.now();
        let before = self.file.one(id, envelope.id)?;
        let attempt = shared.attempt(shared.prepare(&self.store, webhook, envelope)).await;
        let now = shared.clock.now();
        let mut delivery = attempt.delivery(envelope, Some(sequence), before, now);
        let mut cause = None;
        if attempt.is_success() {
            shared.lines().succeed(id, sequence, now);
        } else {
            let failed = shared.lines().fail(id, sequence, begun, now);
            if let Some(Failed { next: Some(next), .. }) = failed {
                delivery.state = DeliveryState::Waiting;
                delivery.next = Some(next);
            }
            cause = match (&attempt.result, failed) {
                (Ok(GONE), _) => Some(Cause::Gone),
                (_, Some(Failed { is_over: true, .. })) => Some(Cause::Failing),
                _ => None,
            };
        }
        if let Some(cause) = cause {
            self.give_up(cause, &mut delivery).await;
        }
        let event = envelope.id;
        let record = move |rows: &mut DeliveryRows<'_>, shared: &Shared| {
            // The webhook may be gone meanwhile.
            if shared.lines().contains(id) || delivery.state != DeliveryState::Waiting {
                rows.set_delivery(id, event, &delivery)?;
            }
            keep(rows, shared, &[id])
        };
        shared.write(&self.file, false, record).await
    }

    /// Takes the webhook out of use.
    async fn give_up(&self, cause: Cause, delivery: &mut Delivery) {
        let id = self.webhook;
        match self.store.send(Actor::System, GiveUp { webhook: id, cause }).await {
            Ok(_) => {
                warn!(webhook = %id, ?cause, "a webhook is disabled");
                self.shared.metrics.disabled.inc();
                self.shared.lines().set(id, None, 0, self.shared.clock.now());
                delivery.state = DeliveryState::Failed;
                delivery.next = None;
            }
            // It is tried again after the next attempt.
            Err(error) => warn!(webhook = %id, %error, "a webhook cannot be disabled yet"),
        }
    }
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    url: WebhookUrl,
    signed: Signed,
    body: Bytes,
}

/// Adds the result of a delivery to its span.
fn trace(span: &Span, sent: &Result<u16, Failure>) {
    match sent {
        Ok(status) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            traces::respond(span, status, !status.is_success());
        }
        Err(failure) => traces::fail(span, failure.label()),
    }
}

impl Shared {
    /// Signs an event for a webhook.
    ///
    /// # Errors
    /// A [`Failure`] that is none of the receiver.
    pub(super) fn prepare(
        &self,
        store: &Store,
        webhook: &Webhook,
        envelope: &Envelope,
    ) -> Result<Prepared, Failure> {
        let now = self.clock.now();
        let url = webhook.url.parse::<WebhookUrl>().map_err(|_| Failure::Address)?;
        let body = serde_json::to_vec(envelope).map_err(|_| Failure::Address)?;
        let previous = webhook.previous.as_ref().filter(|(_, until)| now < *until);
        let sealed = [Some(&webhook.secret), previous.map(|(secret, _)| secret)];
        let mut secrets = Vec::new();
        for sealed in sealed.into_iter().flatten() {
            secrets.extend(store.vault().open(sealed).map_err(|_| Failure::Secret)?);
        }
        if secrets.is_empty() {
            return Err(Failure::Secret);
        }
        let (id, timestamp) = (envelope.id.to_string(), now.as_millis() / 1_000);
        let signature = sign(&secrets, &id, timestamp, &body);
        let signed = Signed { id, timestamp, signature };
        Ok(Prepared { url, signed, body: Bytes::from(body) })
    }

    /// Sends a request once. The database is not used meanwhile.
    pub(super) async fn attempt(&self, prepared: Result<Prepared, Failure>) -> Attempt {
        let begun = Instant::now();
        let result = match prepared {
            Ok(Prepared { url, signed, body }) => {
                let span = traces::delivery(&signed.id);
                let sent = self.client.post(&url, &signed, body).instrument(span.clone()).await;
                trace(&span, &sent);
                sent
            }
            Err(failure) => Err(failure),
        };
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.metrics.count(result.as_ref().ok().copied(), duration_ms);
        Attempt { result, duration_ms }
    }
}
