//! The health of the platform: its database and its followers.

use std::time::Duration;

use crate::{
    Platform,
    health::{Check, Finding},
    store::Condition,
};

/// Time that opening may take, in which an old process hands over, or a large database is checked.
const OPENING: Duration = Duration::from_secs(60);
/// Events behind which a follower is late.
const LATE: u64 = 10_000;
/// Failures of one effect after which its follower is shown. A first failure may be a moment's.
const FAILURES: u64 = 3;

/// Whether the database is open and can be written. Without it publishers with stored keys are
/// refused and the API does not work, so that a database that cannot be read is a failure. One that
/// cannot be written stops changes alone.
#[derive(Debug, Clone)]
pub struct DatabaseHealth(pub Platform);

impl Check for DatabaseHealth {
    fn name(&self) -> &'static str {
        "database"
    }

    fn check(&self) -> Finding {
        let Some(store) = self.0.ready() else {
            return match self.0.opening() {
                None => Finding::Failed("the database is closed".into()),
                Some(since) if since > OPENING => {
                    Finding::Failed("the database cannot be opened: see the log".into())
                }
                Some(_) => Finding::Degraded("the database is being opened".into()),
            };
        };
        match store.condition() {
            Condition::Closed => {
                Finding::Failed("the database cannot be read, because its disk fails".into())
            }
            Condition::NotWritable { cause } => {
                Finding::Degraded(format!("changes are refused, reads go on: {cause}"))
            }
            Condition::Sound if store.has_failed_to_rebuild() => {
                let features = store.rebuilding().join(", ");
                Finding::Degraded(format!("tables cannot be built again: {features}"))
            }
            Condition::Sound => match store.rebuilding().as_slice() {
                [] => Finding::Ok,
                features => {
                    let features = features.join(", ");
                    Finding::Degraded(format!("tables are being built again: {features}"))
                }
            },
        }
    }
}

/// Whether the side effects of events happen.
#[derive(Debug, Clone)]
pub struct FollowersHealth(pub Platform);

impl Check for FollowersHealth {
    fn name(&self) -> &'static str {
        "followers"
    }

    fn check(&self) -> Finding {
        // A database that is not open is the finding of another check.
        let Some(store) = self.0.ready() else { return Finding::Ok };
        let troubled = store.followers().into_iter().filter_map(|follower| {
            let name = &follower.name;
            if follower.failing >= FAILURES {
                return Some(format!("{name} has failed {} times in a row", follower.failing));
            }
            (follower.lag >= LATE).then(|| format!("{name} is {} events behind", follower.lag))
        });
        let troubled = troubled.collect::<Vec<_>>();
        match troubled.is_empty() {
            true => Finding::Ok,
            false => Finding::Degraded(troubled.join("; ")),
        }
    }
}
