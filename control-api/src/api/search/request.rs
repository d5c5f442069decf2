//! What all requests to the search have: their words, and the event that they wait for.

use http::HeaderMap;

use crate::{
    Search,
    problem::{Kind, Problem},
    search::{Asked, MAX_CHARS},
    sequence,
};

/// Hits that are looked at beyond those of the page, in case that some are not shown.
pub(super) const RESERVE: usize = 50;

/// The words of a query.
///
/// # Errors
/// 400 if it is empty or too long.
pub(super) fn asked(q: &str) -> Result<Asked, Problem> {
    let length = q.chars().take(MAX_CHARS + 1).count();
    if !(1..=MAX_CHARS).contains(&length) {
        let words = format!("q must have 1 to {MAX_CHARS} characters");
        return Err(Problem::new(Kind::InvalidRequest, words));
    }
    Ok(Asked::parse(q))
}

/// Waits until the index knows of the event that the sender names. The tables have it already.
pub(super) async fn wait(search: &Search, headers: &HeaderMap) -> Result<(), Problem> {
    let wanted =
        headers.get(sequence::SEQUENCE).and_then(|value| value.to_str().ok()?.parse().ok());
    match wanted {
        Some(wanted) => search.reached(wanted).await,
        None => Ok(()),
    }
}
