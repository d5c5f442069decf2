//! The problems of commands and queries.

use control_domain::{Fault, Refusal};
use tracing::error;

use crate::{
    problem::{Kind, Problem},
    store::SendError,
};

/// Retry-After of a command that was not committed.
const RETRY_AFTER_S: u64 = 1;
/// Retry-After while tables are built again, which takes seconds for a million events.
const REBUILDING_S: u64 = 5;

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::Fault(fault) => return fault.into(),
            Refusal::SignIn => Kind::Unauthenticated,
            Refusal::Forbidden { .. } => Kind::Forbidden,
            Refusal::Scope { .. } => Kind::InsufficientScope,
            Refusal::NotFound { .. } => Kind::NotFound,
            Refusal::Changed { .. } => Kind::PreconditionFailed,
            Refusal::Conflict { .. } | Refusal::Limit { .. } => Kind::Conflict,
        };
        let problem = Self::new(kind, refusal.to_string());
        match refusal {
            Refusal::Conflict { rule, .. } => problem.of_rule(rule),
            Refusal::Limit { .. } => problem.of_rule("limit_reached"),
            _ => problem,
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        if let Fault::Rebuilding { .. } = fault {
            return Self::new(Kind::Unavailable, fault.to_string()).retry_after(REBUILDING_S);
        }
        // Its words may name a file or a table, which is for the operator.
        error!(%fault, "a request failed");
        Self::new(Kind::Internal, "the database cannot be read; the daemon's log has the reason")
    }
}

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        let words = match error {
            SendError::Refused(refusal) => return refusal.into(),
            SendError::Panicked => {
                let words = "the command failed by a fault of the daemon";
                return Self::new(Kind::Internal, words);
            }
            // Logged by the thread that writes.
            SendError::NotCommitted(_) => "the database could not write: nothing has changed",
            SendError::Replica => {
                let words = "this node is a replica: send changes to the writer";
                return Self::new(Kind::Replica, words);
            }
            SendError::Closed => "the database is closed: repeat the request",
        };
        Self::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http::{StatusCode, header::RETRY_AFTER};

    use super::*;

    #[test]
    fn requests_of_a_feature_whose_tables_are_built_again_are_to_be_repeated() {
        let fault = || Fault::Rebuilding { feature: "channels" };
        let refused = SendError::Refused(Refusal::Fault(fault()));
        for problem in [Problem::from(fault()), Problem::from(refused)] {
            let response = problem.into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], "5");
        }
    }
}
