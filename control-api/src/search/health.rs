//! The health of the search.

use std::time::Duration;

use super::service::{Search, State};
use crate::health::{Check, Finding};

/// Events behind which the search is late.
const LATE: u64 = 10_000;
/// Time that opening the index may take; building a large one takes longer, and is shown.
const OPENING: Duration = Duration::from_secs(10);

/// Whether searches are answered, and know of the last events. Everything else works without them.
#[derive(Debug, Clone)]
pub struct SearchHealth(pub Search);

impl Check for SearchHealth {
    fn name(&self) -> &'static str {
        "search"
    }

    fn check(&self) -> Finding {
        // A database that is not open is the finding of another check.
        if self.0.0.platform.ready().is_none() {
            return Finding::Ok;
        }
        match &*self.0.0.state.borrow() {
            State::Open(_) => match self.0.lag() {
                lag if lag >= LATE => {
                    Finding::Degraded(format!("the search is {lag} events behind"))
                }
                _ => Finding::Ok,
            },
            State::Opening(since) if since.elapsed() < OPENING => Finding::Ok,
            State::Opening(_) => Finding::Degraded("the index of the search is being built".into()),
            State::Failing(cause) => Finding::Degraded(format!("searches are refused: {cause}")),
        }
    }
}
