//! Offers each event of the log to the webhooks that want it. It delivers nothing itself, so that
//! no webhook delays another.

use std::sync::Arc;

use control_domain::{
    Envelope, Fault, Rows, feature,
    features::{
        self, accounts,
        webhooks::{
            events::{CREATED, ENABLED},
            queries::{self, Webhook},
        },
    },
    id::WebhookId,
};

use super::shared::{Shared, keep};
use crate::store::{Begin, Deliveries, DeliveryRows, FollowError, Follower, Store};

/// The beginning of the types of a webhook's own events.
const OWN: &str = "streamforge.webhook.";
/// Events after which the cursor is moved. After a crash so many are offered again; those that were
/// delivered are recognized by the record of deliveries.
const MOVED_AFTER: u64 = 64;
/// The same for a follower that is so far behind.
const FAR_BEHIND: u64 = 4096;

/// The follower.
pub(super) struct Offers<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) store: &'a Store,
    pub(super) file: &'a Arc<Deliveries>,
}

impl Follower for Offers<'_> {
    fn name(&self) -> &str {
        "webhooks"
    }

    /// With the first event, because a webhook may be made before this runs for the first time.
    /// Events from before a webhook was made are passed over.
    fn begin(&self) -> Begin {
        Begin::First
    }

    fn follows(&self, _: &str) -> bool {
        true
    }

    fn moved_after(&self) -> u64 {
        // The whole log is read the first time.
        let lag = self.store.sequence().saturating_sub(self.shared.lines().offered());
        if lag > FAR_BEHIND { FAR_BEHIND } else { MOVED_AFTER }
    }

    async fn handle(&self, sequence: u64, envelope: &Envelope) -> Result<(), FollowError> {
        let again = |fault: Fault| FollowError::Again(fault.into());
        let (changed, gone) = self.reread(sequence, envelope).map_err(again)?;
        if !changed.is_empty() {
            let forget = move |rows: &mut DeliveryRows<'_>, shared: &Shared| {
                gone.iter().try_for_each(|id| rows.forget(*id))?;
                keep(rows, shared, &changed)
            };
            self.shared.write(self.file, true, forget).await.map_err(again)?;
            self.shared.wake.notify_one();
        }
        let wanting = self.shared.lines().wanting(&envelope.kind, envelope.time);
        if wanting.is_empty() {
            self.shared.lines().offer(sequence, &[], self.shared.clock.now());
            return Ok(());
        }
        // One snapshot for all of them.
        let readers = |rows: &dyn Rows| -> Result<Vec<WebhookId>, Fault> {
            let mut found = Vec::new();
            for (id, owner) in wanting {
                if !begins(id, envelope) && may_read(rows, owner, envelope)? {
                    found.push(id);
                }
            }
            Ok(found)
        };
        let readers = self.store.read(readers).and_then(|found| found).map_err(again)?;
        let begun = self.shared.lines().offer(sequence, &readers, self.shared.clock.now());
        if !begun.is_empty() {
            // Durable before the cursor moves: otherwise a crash would lose the event.
            self.shared.keep(self.file, true, begun).await.map_err(again)?;
            self.shared.wake.notify_one();
        }
        Ok(())
    }
}

impl Offers<'_> {
    /// Reads the webhooks again that an event may have changed. Returns them, and those that are
    /// gone.
    fn reread(
        &self,
        sequence: u64,
        envelope: &Envelope,
    ) -> Result<(Vec<WebhookId>, Vec<WebhookId>), Fault> {
        let changed: Vec<WebhookId> = if envelope.kind.starts_with(OWN) {
            envelope.subject.parse().into_iter().collect()
        } else if envelope.kind == accounts::events::ERASED {
            let owner = envelope.subject.parse();
            owner.map(|owner| self.shared.lines().of_owner(owner)).unwrap_or_default()
        } else {
            Vec::new()
        };
        let mut gone = Vec::new();
        for id in &changed {
            // The row as it is now, which may be newer than the event.
            let webhook = find(self.store, *id)?;
            gone.extend(webhook.is_none().then_some(*id));
            let now = self.shared.clock.now();
            self.shared.lines().set(*id, webhook.as_ref(), sequence, now);
        }
        Ok((changed, gone))
    }
}

/// A webhook as it is now.
pub(super) fn find(store: &Store, id: WebhookId) -> Result<Option<Webhook>, Fault> {
    match store.read(|rows| queries::webhook(rows, id))? {
        Ok(webhook) => Ok(Some(webhook)),
        Err(control_domain::Refusal::Fault(fault)) => Err(fault),
        Err(_) => Ok(None),
    }
}

/// Whether a webhook begins with this event, which it does not get itself.
pub(super) fn begins(id: WebhookId, envelope: &Envelope) -> bool {
    [CREATED, ENABLED].contains(&&*envelope.kind) && envelope.subject.parse() == Ok(id)
}

/// Whether the owner of a webhook may see an event, as the tables are now.
pub(super) fn may_read(
    rows: &dyn Rows,
    owner: Option<control_domain::id::AccountId>,
    envelope: &Envelope,
) -> Result<bool, Fault> {
    match queries::reader(rows, owner)? {
        Some(actor) => feature::may_read(features::ALL, rows, &actor, envelope),
        None => Ok(false),
    }
}
