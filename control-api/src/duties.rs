//! The platform's own duties, which no request asks for: the categories with which it begins, the
//! publication of videos at their time, and the deletion of channels and videos whose owner or
//! channel is gone.
//!
//! One task looks for work after each commit, and when the next video is due. A pass sends at most
//! one command of each kind, which is bounded itself, and passes are at least [`BETWEEN`] apart, so
//! that other commands do not wait long.

use std::time::{Duration, SystemTime};

use control_domain::{
    Actor, Command, Fault, Time,
    features::{categories, channels, videos},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    Platform, Store,
    store::{Receipt, SendError},
};

/// Least time between two passes.
const BETWEEN: Duration = Duration::from_millis(10);
/// Time until a pass is repeated after a fault.
const RETRY: Duration = Duration::from_secs(5);
/// Longest wait: the wall clock may be set, and does not advance the timer.
const LONGEST: Duration = Duration::from_secs(60);

/// Why a pass did not end.
#[derive(Debug, thiserror::Error)]
enum PassError {
    /// The tables cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A command was not carried out.
    #[error(transparent)]
    Command(#[from] SendError),
}

/// When there is work again, the soonest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// There is more at once.
    Now,
    /// At this time, or after a commit.
    At(Time),
    /// After a commit.
    Commit,
}

/// Does the duties until `stop`, or until the database is closed.
pub async fn run(platform: Platform, stop: CancellationToken) {
    let closed = platform.closed();
    tokio::select! {
        () = stop.cancelled() => {}
        () = closed => {}
        () = work(&platform) => {}
    }
}

/// Does the duties without an end.
async fn work(platform: &Platform) {
    let (mut is_new, mut is_failing) = (true, false);
    loop {
        // Waits while another process holds the database, and fails only if it is not open then.
        let Ok(store) = platform.store().await else {
            sleep(RETRY).await;
            continue;
        };
        // Before the tables are read, so that no commit is missed.
        let mut sequences = store.watch();
        sequences.mark_unchanged();
        let passed = pass(&store, &mut is_new).await;
        // The database is not used during the wait, so that it can close.
        drop(store);
        match passed {
            Ok(next) => {
                if std::mem::take(&mut is_failing) {
                    info!("the platform's duties are done again");
                }
                sleep(BETWEEN).await;
                wait(next, sequences).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    error!(%error, "the platform's duties fail: trying again");
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// Waits until there may be work.
async fn wait(next: Next, mut sequences: watch::Receiver<u64>) {
    let longest = match next {
        Next::Now => return,
        Next::At(time) => until(time, SystemTime::now().into()),
        Next::Commit => LONGEST,
    };
    match timeout(longest, sequences.changed()).await {
        Ok(Ok(())) | Err(_) => {}
        // The database closes, which ends the task.
        Ok(Err(_)) => sleep(RETRY).await,
    }
}

/// The wait for a time.
fn until(time: Time, now: Time) -> Duration {
    Duration::from_millis(time.as_millis().saturating_sub(now.as_millis())).min(LONGEST)
}

/// Does the work that there is, or a part of it. A duty that fails does not keep the others from
/// being done. `is_new`: whether the platform may have no categories yet.
async fn pass(store: &Store, is_new: &mut bool) -> Result<Next, PassError> {
    let begun = begin(store, is_new).await;
    let orphans = delete_orphans(store).await;
    let due = publish_due(store).await;
    begun?;
    Ok(orphans?.min(due?))
}

/// Makes the categories with which a platform begins.
async fn begin(store: &Store, is_new: &mut bool) -> Result<(), PassError> {
    if *is_new && store.read(categories::queries::is_new)?? {
        send(store, categories::commands::MakeStartSet).await?;
        info!("the platform has the categories with which it begins");
    }
    *is_new = false;
    Ok(())
}

/// Deletes channels of erased accounts, then videos of deleted channels.
async fn delete_orphans(store: &Store) -> Result<Next, PassError> {
    // Channels first, because their videos are orphans only then.
    if !store.read(|rows| channels::queries::orphans(rows, 1))??.is_empty() {
        send(store, channels::commands::DeleteOrphans).await?;
        return Ok(Next::Now);
    }
    if !store.read(|rows| videos::queries::orphans(rows, 1))??.is_empty() {
        send(store, videos::commands::DeleteOrphans).await?;
        return Ok(Next::Now);
    }
    Ok(Next::Commit)
}

/// Publishes the videos that are due.
async fn publish_due(store: &Store) -> Result<Next, PassError> {
    match store.read(videos::queries::next_due)?? {
        Some(time) if time <= SystemTime::now().into() => {
            send(store, videos::commands::PublishDue).await?;
            Ok(Next::Now)
        }
        Some(time) => Ok(Next::At(time)),
        None => Ok(Next::Commit),
    }
}

async fn send<C>(store: &Store, command: C) -> Result<Receipt<C::Done>, SendError>
where
    C: Command + 'static,
    C::Done: 'static,
{
    store.send(Actor::System, command).await
}

#[cfg(test)]
mod tests;
