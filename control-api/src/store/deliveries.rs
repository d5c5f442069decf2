//! How far each webhook is, and its last deliveries: what happens too often to be kept for ever as
//! events. It is in a file of its own, `webhooks.redb`, bounded for each webhook, and is neither
//! folded nor rebuilt: without the file, events that wait for a second attempt are not delivered.
//!
//! All calls block for the disk.

use std::{fmt, path::Path};

use control_domain::{
    Fault, Time,
    id::{EventId, WebhookId},
};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _, Table,
    TableDefinition,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    database::{self, fault},
    open_error::OpenError,
};

/// The file, in the platform's folder.
const FILE: &str = "webhooks.redb";
/// Memory for pages of the file.
const CACHE_BYTES: usize = 4 << 20;
/// Deliveries that are kept of each webhook.
pub const KEPT: usize = 100;

type Id = [u8; 16];
/// How far a webhook is, in JSON.
const PROGRESS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("progress");
/// The deliveries of a webhook, in JSON. Identifiers of events sort by time.
const DELIVERIES: TableDefinition<'_, (Id, Id), &[u8]> = TableDefinition::new("deliveries");

/// How far a webhook is that has something to deliver, or whose last delivery has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The sequence of the first event that is neither delivered nor passed over; `None` if there
    /// is none.
    pub next: Option<u64>,
    /// Attempts to deliver it that have failed.
    pub attempts: u32,
    /// When it is tried next.
    pub at: Time,
    /// The first failure since the last success.
    pub failing_since: Option<Time>,
}

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// The receiver has accepted it.
    Delivered,
    /// It is tried again.
    Waiting,
    /// It is not tried again.
    Failed,
}

/// The delivery of an event to a webhook, with its last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The type of the event.
    pub kind: String,
    /// The sequence of the event; `None` for a test.
    pub sequence: Option<u64>,
    /// Its state.
    pub state: DeliveryState,
    /// The number of attempts.
    pub attempts: u32,
    /// The time of the first attempt.
    pub first: Time,
    /// The time of the last attempt.
    pub last: Time,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: u64,
    /// The status of the response.
    pub status: Option<u16>,
    /// Why there was no response.
    pub error: Option<String>,
    /// The time of the next attempt.
    pub next: Option<Time>,
}

/// The open file.
pub struct Deliveries {
    database: Database,
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deliveries")
    }
}

impl Deliveries {
    /// Opens the file in the platform's folder, or makes it.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::InUse`] while another process has it open.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let database = database::open(&folder.join(FILE), CACHE_BYTES)?;
        let deliveries = Self { database };
        // Reads need tables.
        deliveries.write(true, |_| Ok(()))?;
        Ok(deliveries)
    }

    /// How far each webhook is.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn progress(&self) -> Result<Vec<(WebhookId, Progress)>, Fault> {
        let table = self.read()?.open_table(PROGRESS).map_err(fault)?;
        let mut all = Vec::new();
        for row in table.range::<Id>(..).map_err(fault)? {
            let (id, progress) = row.map_err(fault)?;
            all.push((webhook(id.value()), parse(progress.value())?));
        }
        Ok(all)
    }

    /// The last deliveries of a webhook, the newest event first.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn of(&self, webhook: WebhookId) -> Result<Vec<(EventId, Delivery)>, Fault> {
        let table = self.read()?.open_table(DELIVERIES).map_err(fault)?;
        let mut found = Vec::new();
        for row in table.range(all_of(webhook)).map_err(fault)?.rev() {
            let (id, delivery) = row.map_err(fault)?;
            let event = EventId::new(uuid::Uuid::from_bytes(id.value().1));
            found.push((event, parse(delivery.value())?));
        }
        Ok(found)
    }

    /// One delivery.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn one(&self, webhook: WebhookId, event: EventId) -> Result<Option<Delivery>, Fault> {
        let table = self.read()?.open_table(DELIVERIES).map_err(fault)?;
        let row = table.get(key(webhook, event)).map_err(fault)?;
        row.map(|row| parse(row.value())).transpose()
    }

    /// Changes rows in one commit. `is_durable`: it is on the disk when this returns; otherwise
    /// only after the next durable commit.
    ///
    /// # Errors
    /// [`Fault::Storage`]; then nothing has changed.
    pub fn write(
        &self,
        is_durable: bool,
        change: impl FnOnce(&mut Rows<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut transaction = self.database.begin_write().map_err(fault)?;
        let durability = if is_durable { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability).map_err(fault)?;
        {
            let progress = transaction.open_table(PROGRESS).map_err(fault)?;
            let deliveries = transaction.open_table(DELIVERIES).map_err(fault)?;
            change(&mut Rows { progress, deliveries })?;
        }
        transaction.commit().map_err(fault)
    }

    fn read(&self) -> Result<ReadTransaction, Fault> {
        self.database.begin_read().map_err(fault)
    }
}

/// The rows in a write transaction. There is one at a time.
pub struct Rows<'a> {
    progress: Table<'a, Id, &'static [u8]>,
    deliveries: Table<'a, (Id, Id), &'static [u8]>,
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rows")
    }
}

impl Rows<'_> {
    /// Sets how far a webhook is; `None` if it waits for events.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn set_progress(
        &mut self,
        webhook: WebhookId,
        progress: Option<Progress>,
    ) -> Result<(), Fault> {
        let id = webhook.uuid().into_bytes();
        match progress {
            Some(progress) => {
                self.progress.insert(id, &*json(&progress)?).map_err(fault)?;
            }
            None => {
                self.progress.remove(id).map_err(fault)?;
            }
        }
        Ok(())
    }

    /// Sets a delivery. The oldest one of the webhook is forgotten if there are more than [`KEPT`].
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn set_delivery(
        &mut self,
        webhook: WebhookId,
        event: EventId,
        delivery: &Delivery,
    ) -> Result<(), Fault> {
        self.deliveries.insert(key(webhook, event), &*json(delivery)?).map_err(fault)?;
        let mut oldest = None;
        let mut count = 0;
        for row in self.deliveries.range(all_of(webhook)).map_err(fault)? {
            let (id, _) = row.map_err(fault)?;
            oldest = oldest.or(Some(id.value()));
            count += 1;
        }
        if let Some(oldest) = oldest.filter(|_| count > KEPT) {
            self.deliveries.remove(oldest).map_err(fault)?;
        }
        Ok(())
    }

    /// Forgets a webhook and its deliveries.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn forget(&mut self, webhook: WebhookId) -> Result<(), Fault> {
        self.set_progress(webhook, None)?;
        self.deliveries.retain_in(all_of(webhook), |_, _| false).map_err(fault)
    }
}

fn key(webhook: WebhookId, event: EventId) -> (Id, Id) {
    (webhook.uuid().into_bytes(), event.uuid().into_bytes())
}

fn all_of(webhook: WebhookId) -> std::ops::RangeInclusive<(Id, Id)> {
    let webhook = webhook.uuid().into_bytes();
    (webhook, [0; 16])..=(webhook, [0xFF; 16])
}

fn webhook(id: Id) -> WebhookId {
    WebhookId::new(uuid::Uuid::from_bytes(id))
}

fn json(row: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(row).map_err(|error| Fault::Storage(error.into()))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| Fault::Storage(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(state: DeliveryState) -> Delivery {
        Delivery {
            kind: "streamforge.channel.created.v1".to_owned(),
            sequence: Some(1),
            state,
            attempts: 1,
            first: Time::from_millis(1),
            last: Time::from_millis(1),
            duration_ms: 2,
            status: Some(200),
            error: None,
            next: None,
        }
    }

    #[test]
    fn the_last_deliveries_of_each_webhook_are_kept_and_progress_is_there_after_a_restart() {
        let name = format!("streamforge-deliveries-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let [one, other] = [1, 2].map(|n| WebhookId::new(uuid::Uuid::from_u128(n)));
        let event = |n: usize| EventId::new(uuid::Uuid::from_u128(n as u128));
        let at = Time::from_millis(5);
        let progress = Progress { next: Some(7), attempts: 1, at, failing_since: Some(at) };
        {
            let file = Deliveries::open(&folder).expect("the folder can be written");
            assert!(matches!(Deliveries::open(&folder), Err(OpenError::InUse { .. })));
            let row = delivery(DeliveryState::Delivered);
            file.write(false, |rows| rows.set_delivery(other, event(1), &row)).expect("a disk");
            for n in 0..KEPT + 3 {
                file.write(false, |rows| rows.set_delivery(one, event(n), &row)).expect("a disk");
            }
            file.write(true, |rows| rows.set_progress(one, Some(progress))).expect("a disk");
        }
        let file = Deliveries::open(&folder).expect("nobody has it");
        let kept = file.of(one).expect("a disk");
        assert_eq!(kept.len(), KEPT);
        assert_eq!((kept[0].0, kept[KEPT - 1].0), (event(KEPT + 2), event(3)));
        assert_eq!(file.progress().expect("a disk"), [(one, progress)]);
        assert_eq!(file.one(one, event(2)).expect("a disk"), None);
        file.write(true, |rows| rows.forget(one)).expect("a disk");
        assert_eq!(file.of(one).expect("a disk"), []);
        assert_eq!(file.progress().expect("a disk"), []);
        assert_eq!(file.of(other).expect("a disk").len(), 1);
        drop(file);
        std::fs::remove_dir_all(&folder).expect("it was made here");
    }
}
