//! `Sf-Sequence`: the response to a change has the sequence of its last event, and a read that
//! sends it back sees the change. It matters where reads are served by another node than changes.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::HeaderName;
use tokio::time::timeout;

use crate::{
    Platform,
    problem::{Kind, Problem},
};

/// The header.
pub(crate) const SEQUENCE: HeaderName = HeaderName::from_static("sf-sequence");
/// How long a read waits for a sequence.
const WAIT: Duration = Duration::from_secs(5);
/// Retry-After of a read that has waited in vain.
const RETRY_AFTER_S: u64 = 1;

/// A layer that lets a request with `Sf-Sequence` wait until the tables hold that event.
pub(crate) async fn wait(
    State(platform): State<Platform>,
    request: Request,
    next: Next,
) -> Response {
    let Some(value) = request.headers().get(SEQUENCE) else {
        return next.run(request).await;
    };
    let wanted = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    match wanted {
        None => Problem::new(Kind::InvalidRequest, "Sf-Sequence is a number").into_response(),
        Some(wanted) => match reached(&platform, wanted).await {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        },
    }
}

/// Waits until the tables hold the event with this sequence.
async fn reached(platform: &Platform, wanted: u64) -> Result<(), Problem> {
    // Only the receiver is kept during the wait, so that the database can close.
    let mut sequences = platform.store().await?.watch();
    let reached = sequences.wait_for(|sequence| *sequence >= wanted);
    match timeout(WAIT, reached).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            let words = "this event is not here yet: repeat the request";
            Err(Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S))
        }
    }
}
