//! `/api/v1/events`: the events of the platform as server-sent events (HTML Living Standard 9.2). A
//! client that was away resumes behind the last event that it has seen.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use control_domain::{Actor, Envelope, Fault, feature, features};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::error;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Platform,
    authentication::Sender,
    platform::OpenStream,
    problem::{Kind, Problem, problems},
};

/// Readers at the same time.
const MAX_READERS: usize = 1_000;
/// Events that are read at once.
const PAGE: usize = 256;
/// Interval of comments while there are no events, so that proxies keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest filter of types, in characters.
const MAX_TYPES: usize = 1_000;
/// Retry-After if there are too many readers.
const RETRY_AFTER_S: u64 = 10;
/// The header with which a browser resumes.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The state of the route.
#[derive(Clone)]
struct Readers {
    platform: Platform,
    permits: Arc<Semaphore>,
}

/// The routes.
pub(super) fn routes(platform: Platform) -> OpenApiRouter<Platform> {
    let permits = Arc::new(Semaphore::new(MAX_READERS));
    OpenApiRouter::new().routes(routes!(follow_events)).with_state(Readers { platform, permits })
}

/// The events to send.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// The sequence behind which the events begin; 0 for all. Default: only new events. The header
    /// Last-Event-ID, which browsers send when they connect again, has precedence.
    after: Option<u64>,
    /// The types to send, separated by commas; `*` at the end of one stands for any text. Default:
    /// all.
    #[param(max_length = 1000, example = "streamforge.channel.*,streamforge.video.published.v1")]
    types: Option<String>,
}

problems!(
    /// Problems of [`follow_events`].
    EventsProblems: InvalidRequest, InvalidToken, PreconditionFailed
);

/// Follow events
///
/// The events that the sender may see, as server-sent events: `id` is the sequence, `event` the
/// type, `data` the event in a CloudEvents envelope. The response does not end; a client that has
/// lost the connection sends the last `id` as Last-Event-ID and misses nothing.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    params(
        Filter,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` that was seen")
    ),
    responses(
        (
            status = OK,
            description = "The events",
            body = String,
            content_type = "text/event-stream"
        ),
        EventsProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn follow_events(
    State(readers): State<Readers>,
    Sender(actor): Sender,
    headers: HeaderMap,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let invalid = |words: &str| Problem::new(Kind::InvalidRequest, words.to_owned());
    let Query(filter) = filter.map_err(|err| invalid(&err.body_text()))?;
    let types = Types::of(filter.types.as_deref())?;
    let resumed = match headers.get(LAST_EVENT_ID) {
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            Some(id.ok_or_else(|| invalid("Last-Event-ID is the `id` of an event: a number"))?)
        }
        None => filter.after,
    };
    let permit = Arc::clone(&readers.permits).try_acquire_owned().map_err(|_| {
        let words = "too many clients follow events: repeat the request later";
        Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
    })?;
    let last = readers.platform.store().await?.sequence();
    let after = resumed.unwrap_or(last);
    if after > last {
        return Err(invalid("there is no event with this id yet"));
    }
    let _open = readers.platform.count_event_stream();
    let reader = Reader { platform: readers.platform, actor, types, after, _permit: permit, _open };
    Ok(Sse::new(reader.events()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One client that follows events.
struct Reader {
    platform: Platform,
    actor: Actor,
    types: Types,
    /// The sequence of the last event that was considered.
    after: u64,
    /// Its place among the readers.
    _permit: OwnedSemaphorePermit,
    /// Counts it.
    _open: OpenStream,
}

impl Reader {
    /// The events until the platform ends all long responses, or the database cannot be read.
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let ending = self.platform.ending();
        stream::unfold((self, VecDeque::new()), move |(mut reader, mut page)| {
            let ending = ending.clone();
            async move {
                while page.is_empty() {
                    let next = tokio::select! {
                        next = reader.next() => next,
                        () = ending.cancelled() => return None,
                    };
                    // After a fault the client connects again, and resumes.
                    page = next.inspect_err(|fault| error!(%fault, "events not read")).ok()?;
                }
                page.pop_front().map(|event| (Ok(event), (reader, page)))
            }
        })
    }

    /// The next events that the actor may see; waits for a commit if there are none. The database
    /// is not used during the wait.
    async fn next(&mut self) -> Result<VecDeque<Event>, Fault> {
        let Some(mut sequences) = self.platform.ready().map(|store| store.watch()) else {
            // Closed: `ending` ends the stream.
            return std::future::pending().await;
        };
        let after = self.after;
        let _ = sequences.wait_for(|sequence| *sequence > after).await;
        let Some(store) = self.platform.ready() else { return Ok(VecDeque::new()) };
        let page = store.events(after, PAGE)?;
        let mut events = VecDeque::new();
        for (sequence, envelope) in page {
            self.after = sequence;
            let is_wanted = self.types.include(&envelope.kind);
            if is_wanted && self.may_read(&store, &envelope)? {
                events.push_back(event(sequence, &envelope));
            }
        }
        Ok(events)
    }

    fn may_read(&self, store: &crate::Store, envelope: &Envelope) -> Result<bool, Fault> {
        store.read(|rows| feature::may_read(features::ALL, rows, &self.actor, envelope))?
    }
}

/// An event as it is sent.
fn event(sequence: u64, envelope: &Envelope) -> Event {
    let data = serde_json::to_string(envelope).unwrap_or_default();
    Event::default().id(sequence.to_string()).event(&envelope.kind).data(data)
}

/// A filter of types.
struct Types(Vec<Pattern>);

/// A type, or the beginning of types.
enum Pattern {
    Exact(String),
    Beginning(String),
}

impl Types {
    /// Parses a list.
    ///
    /// # Errors
    /// 400 if it is too long.
    fn of(list: Option<&str>) -> Result<Self, Problem> {
        let list = list.unwrap_or("*");
        if list.len() > MAX_TYPES {
            let words = format!("types has more than {MAX_TYPES} bytes");
            return Err(Problem::new(Kind::InvalidRequest, words));
        }
        let pattern = |text: &str| match text.trim().strip_suffix('*') {
            Some(beginning) => Pattern::Beginning(beginning.to_owned()),
            None => Pattern::Exact(text.trim().to_owned()),
        };
        Ok(Self(list.split(',').map(pattern).collect()))
    }

    fn include(&self, kind: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(exact) => kind == exact,
            Pattern::Beginning(beginning) => kind.starts_with(beginning.as_str()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_types_or_their_beginnings() {
        let types = |list| Types::of(list).expect("it is short");
        let channel = "streamforge.channel.created.v1";
        assert!(types(None).include(channel));
        assert!(types(Some("streamforge.video.*, streamforge.channel.*")).include(channel));
        assert!(types(Some(channel)).include(channel));
        assert!(!types(Some("streamforge.channel")).include(channel));
        assert!(!types(Some("")).include(channel));
        assert!(Types::of(Some(&"x".repeat(MAX_TYPES + 1))).is_err());
    }
}
