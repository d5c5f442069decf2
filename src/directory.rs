//! The platform as ingest and playback see it: the rights of stored stream keys, the settings of
//! channels, and the private ones. It is kept in memory, follows the events of the database, and
//! never blocks a request.

mod metrics;
mod owned;
mod rights;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use control_api::{KeyDigest, Platform, Store};
use control_domain::{
    Envelope, Fault, Rows,
    event::Events as _,
    features::{
        accounts::events as accounts,
        channels::{
            events::{self as channels, Visibility as ChannelVisibility},
            queries,
            tables::{CHANNELS, Channel},
        },
        stream_keys::{self, events as keys},
    },
    id::ChannelId,
    rows::Order,
};
use dashmap::DashMap;
use ingest_rtmp::{Grant, Lease};
use media_core::ChannelName;
use origin_http::playback::Visibility;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

pub(crate) use owned::Owned;
use rights::{Right, Rights};

/// Rows and events that are read at once.
const PAGE: usize = 256;
/// Time until the database is read again after a fault.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// The rights and the private channels. Clones share them.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Shared>);

struct Shared {
    platform: Platform,
    /// The rights of publishers that use a stored key now.
    rights: Rights,
    /// The channels that need a playback token.
    private: DashMap<ChannelName, ()>,
    /// The last event that it has seen.
    seen: AtomicU64,
    /// Faults since the last success.
    faults: AtomicU64,
    /// Rights that were withdrawn.
    withdrawn: Counter,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("private", &self.0.private.len()).finish_non_exhaustive()
    }
}

/// Why a stored key cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// The database is not open in this process.
    #[error("the database is not open")]
    Closed,
    /// The database cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The names of private channels by their identifiers, as they are now.
type Private = HashMap<ChannelId, ChannelName>;

impl Directory {
    /// A directory without entries, until [`Directory::follow`] runs.
    pub(crate) fn new(platform: Platform) -> Self {
        Self(Arc::new(Shared {
            platform,
            rights: Rights::default(),
            private: DashMap::new(),
            seen: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            withdrawn: Counter::default(),
        }))
    }

    /// The right that a stored key grants; `None` if no key has this text.
    ///
    /// # Errors
    /// [`LookupError`].
    pub(crate) async fn grant(&self, key: &str) -> Result<Option<Grant>, LookupError> {
        let digest = KeyDigest::of(key).bytes();
        let store = self.0.platform.store().await.map_err(|_| LookupError::Closed)?;
        let find = || store.read(|rows| stream_keys::queries::right(rows, &digest))?;
        let Some((id, channel)) = find()? else { return Ok(None) };
        let Some(row) = store.read(|rows| stream_keys::queries::key(rows, id).ok())? else {
            return Ok(None);
        };
        let Ok(name) = channel.name.parse::<ChannelName>() else { return Ok(None) };
        let settings = store.read(|rows| queries::settings(rows, row.channel))??;
        let settings = owned::of_broadcasts(&settings);
        let about = Right { key: id, channel: row.channel, owner: channel.owner };
        let (withdrawn, held) = self.0.rights.hold(about);
        // Read again: an event between the first look and the entry has withdrawn nothing.
        if find()?.is_none() {
            return Ok(None);
        }
        Ok(Some(Grant { settings, withdrawn, lease: Lease::new(held), ..Grant::from(name) }))
    }

    /// The channel of an account with a name, in any case; `None` if no account has it.
    ///
    /// # Errors
    /// [`LookupError`].
    pub(crate) async fn owned(&self, name: &str) -> Result<Option<Owned>, LookupError> {
        let Ok(name) = name.parse() else { return Ok(None) };
        let store = self.0.platform.store().await.map_err(|_| LookupError::Closed)?;
        Ok(store.read(|rows| owned::find(rows, &name))??)
    }

    /// Withdraws the rights that concern a key, a channel or an account. Their publishers are
    /// disconnected. Returns the number of rights.
    pub(crate) fn withdraw(&self, subject: Uuid) -> usize {
        let count = self.0.rights.withdraw(|right| right.concerns(subject));
        if count > 0 {
            self.0.withdrawn.inc_by(count as u64);
            info!(%subject, publishers = count, "right to publish withdrawn");
        }
        count
    }

    /// Reads the private channels, then follows the events until `stop`, or until the database is
    /// closed. `withdrawn` gets the subject of each event that ends rights, for another process.
    pub(crate) async fn follow(self, stop: CancellationToken, withdrawn: mpsc::Sender<Uuid>) {
        let mut private = Private::new();
        let mut seen = None;
        let closed = self.0.platform.closed();
        tokio::pin!(closed);
        loop {
            let step = async {
                match self.step(&mut private, &mut seen, &withdrawn).await {
                    Ok(()) => self.0.faults.store(0, Ordering::Relaxed),
                    Err(LookupError::Closed) => tokio::time::sleep(RETRY).await,
                    Err(LookupError::Fault(fault)) => {
                        self.0.faults.fetch_add(1, Ordering::Relaxed);
                        error!(%fault, "the database cannot be followed: trying again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut closed => {
                    // A draining process keeps what it knows.
                    stop.cancelled().await;
                    return;
                }
                () = step => {}
            }
        }
    }

    /// Reads all private channels at first, later the events that were not `seen`; waits for the
    /// next commit if there are none.
    async fn step(
        &self,
        private: &mut Private,
        seen: &mut Option<u64>,
        withdrawn: &mpsc::Sender<Uuid>,
    ) -> Result<(), LookupError> {
        let Some(after) = *seen else {
            let store = self.0.platform.store().await.map_err(|_| LookupError::Closed)?;
            // Before the rows: an event that is seen twice has the same effect.
            let sequence = store.sequence();
            self.load(&store, private)?;
            *seen = Some(sequence);
            self.0.seen.store(sequence, Ordering::Relaxed);
            return Ok(());
        };
        let (events, mut sequences) = {
            let store = self.0.platform.store().await.map_err(|_| LookupError::Closed)?;
            let events = store.events(after, PAGE)?;
            for (_, envelope) in &events {
                self.apply(&store, private, envelope)?;
            }
            (events, store.watch())
        };
        for (sequence, envelope) in &events {
            if let Some(subject) = ends_rights(envelope) {
                self.withdraw(subject);
                // The receiver lives as long as this task.
                let _ = withdrawn.send(subject).await;
            }
            *seen = Some(*sequence);
            self.0.seen.store(*sequence, Ordering::Relaxed);
        }
        if events.is_empty() {
            // The database is not used during the wait, so that it can close.
            let _ = sequences.wait_for(|sequence| *sequence > after).await;
        }
        Ok(())
    }

    /// Reads all channels.
    fn load(&self, store: &Store, private: &mut Private) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let page =
                store.read(|rows| CHANNELS.page(rows, &(), after.as_ref(), Order::Up, PAGE))??;
            for (id, channel) in &page {
                self.set(private, *id, Some(channel));
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(*last),
                _ => return Ok(()),
            }
        }
    }

    /// Applies an event to the private channels.
    fn apply(
        &self,
        store: &Store,
        private: &mut Private,
        envelope: &Envelope,
    ) -> Result<(), Fault> {
        let reread = |id: ChannelId| store.read(|rows: &dyn Rows| CHANNELS.get(rows, &id))?;
        if channels::Event::TYPES.iter().any(|kind| kind.name == envelope.kind) {
            // The row as it is now, which may be newer than the event: the next ones repeat it.
            if let Ok(id) = envelope.subject.parse() {
                self.set(private, id, reread(id)?.as_ref());
            }
        } else if envelope.kind == accounts::ERASED {
            // The channels of the account are gone, and their rows do not name it any more.
            for id in private.keys().copied().collect::<Vec<_>>() {
                self.set(private, id, reread(id)?.as_ref());
            }
        }
        Ok(())
    }

    /// Notes the visibility of one channel; `None` if it is gone.
    fn set(&self, private: &mut Private, id: ChannelId, channel: Option<&Channel>) {
        let needs_token = |channel: &&Channel| {
            matches!(channel.visibility, ChannelVisibility::Private | ChannelVisibility::Members)
        };
        let name = channel.filter(needs_token).and_then(|channel| {
            let name = channel.name.parse::<ChannelName>();
            name.inspect_err(|err| warn!(%err, %id, "channel without a valid name")).ok()
        });
        let before = match &name {
            Some(name) => private.insert(id, name.clone()),
            None => private.remove(&id),
        };
        if before == name {
            return;
        }
        // The new name first, so that there is no moment without protection.
        if let Some(name) = name {
            self.0.private.insert(name, ());
        }
        if let Some(before) = before {
            self.0.private.remove(&before);
        }
    }
}

/// The subject of an event after which rights to publish end.
fn ends_rights(envelope: &Envelope) -> Option<Uuid> {
    let ends = [keys::REVOKED, channels::DELETED, accounts::ERASED].contains(&&*envelope.kind);
    ends.then(|| envelope.subject.parse().ok()).flatten()
}

impl Visibility for Directory {
    fn is_private(&self, channel: &ChannelName) -> bool {
        self.0.private.contains_key(channel)
    }
}

#[cfg(test)]
mod tests;
