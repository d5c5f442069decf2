//! The record of deliveries for the API, and deliveries on request.

use std::sync::Arc;

use control_domain::{
    Envelope,
    actor::ActorId,
    event::NewEvent,
    features::webhooks::queries::Webhook,
    id::{EventId, WebhookId},
};
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;
use tracing::error;

use super::{Webhooks, attempt::Prepared, client::Failure, follower::may_read, shared::Shared};
use crate::{
    problem::{Kind, Problem},
    store::{Deliveries, Delivery, DeliveryRows, DeliveryState},
};

/// The type of a test.
const TEST: &str = "streamforge.webhook.test";
/// Retry-After if there are too many requests, or the file is not open yet.
const RETRY_AFTER_S: u64 = 2;

impl Webhooks {
    /// The last deliveries of a webhook, the newest event first: at most
    /// [`KEPT`](crate::store::KEPT_DELIVERIES).
    ///
    /// # Errors
    /// 503 if the file is not open in this process, 500 if it cannot be read.
    pub async fn deliveries(
        &self,
        webhook: WebhookId,
    ) -> Result<Vec<(EventId, Delivery)>, Problem> {
        let file = self.file()?;
        let reading = spawn_blocking(move || file.of(webhook));
        Ok(reading.await.map_err(|_| broken())??)
    }

    /// Sends a test event now, and waits for the response.
    ///
    /// # Errors
    /// 503 if there are too many such requests, or the database is not open.
    pub async fn test(
        &self,
        id: WebhookId,
        webhook: &Webhook,
    ) -> Result<(EventId, Delivery), Problem> {
        let data = RawValue::from_string("{}".to_owned()).map_err(|_| broken())?;
        let event = NewEvent { kind: TEST, subject: id.to_string(), data, authority: None };
        let event_id = EventId::new(uuid::Uuid::now_v7());
        let envelope = event.sealed_in(event_id, self.0.clock.now(), ActorId::System);
        let store = self.0.platform.store().await?;
        let prepared = self.0.prepare(&store, webhook, &envelope);
        drop(store);
        self.send(id, None, &envelope, prepared).await
    }

    /// Delivers an event again now, and waits for the response.
    ///
    /// # Errors
    /// 404 if the webhook has no such delivery; those of [`Webhooks::test`].
    pub async fn replay(
        &self,
        id: WebhookId,
        webhook: &Webhook,
        event: EventId,
    ) -> Result<(EventId, Delivery), Problem> {
        let unknown = || Problem::new(Kind::NotFound, "there is no such delivery");
        let file = self.file()?;
        let reading = spawn_blocking(move || file.one(id, event));
        let delivery = reading.await.map_err(|_| broken())??.ok_or_else(unknown)?;
        let Some(sequence) = delivery.sequence else { return self.test(id, webhook).await };
        let store = self.0.platform.store().await?;
        let found = store.events(sequence.saturating_sub(1), 1)?;
        let (_, envelope) =
            found.into_iter().find(|(_, found)| found.id == event).ok_or_else(unknown)?;
        // The owner may have seen it then, and not now.
        if !store.read(|rows| may_read(rows, webhook.owner, &envelope))?? {
            return Err(unknown());
        }
        let prepared = self.0.prepare(&store, webhook, &envelope);
        drop(store);
        self.send(id, Some(sequence), &envelope, prepared).await
    }

    /// Sends an event now. The database is not used meanwhile, so that it can close.
    async fn send(
        &self,
        id: WebhookId,
        sequence: Option<u64>,
        envelope: &Envelope,
        prepared: Result<Prepared, Failure>,
    ) -> Result<(EventId, Delivery), Problem> {
        let shared = &self.0;
        let _permit = shared.by_hand.try_acquire().map_err(|_| {
            let words = "too many deliveries are asked for: repeat the request later";
            Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
        })?;
        let (file, event) = (self.file()?, envelope.id);
        let attempt = shared.attempt(prepared).await;
        let before = file.one(id, event)?;
        let waits = before.as_ref().and_then(|before| before.next);
        let mut delivery = attempt.delivery(envelope, sequence, before, shared.clock.now());
        if attempt.is_success() {
            // The receiver is there: what waits for it is delivered now.
            shared.lines().hurry(id, shared.clock.now());
            shared.wake.notify_one();
        } else if let Some(next) = waits {
            delivery.state = DeliveryState::Waiting;
            delivery.next = Some(next);
        }
        let row = delivery.clone();
        let record =
            move |rows: &mut DeliveryRows<'_>, _: &Shared| rows.set_delivery(id, event, &row);
        shared.write(&file, false, record).await?;
        Ok((event, delivery))
    }

    fn file(&self) -> Result<Arc<Deliveries>, Problem> {
        self.0.file.load_full().ok_or_else(|| {
            let words = "deliveries have not begun in this process: repeat the request";
            Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
        })
    }
}

fn broken() -> Problem {
    error!("a request about deliveries failed by a fault of the daemon");
    Problem::new(Kind::Internal, "the request failed by a fault of the daemon")
}
