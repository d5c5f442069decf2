//! Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07): a POST that a client repeats,
//! because it does not know whether the first one arrived, has an effect once and the same response
//! each time.
//!
//! The response of the first request is recorded under the actor and the key. A repetition gets it
//! with the header `Idempotency-Replayed: true`; another request under the same key is a 422; one
//! that begins before the first one has its response gets a 409. A route that may fail after it has
//! changed something must be safe by itself: responses of 5xx, 408 and 429 are not recorded, so
//! that the client can try again.
//!
//! A request with a key runs to its end although its client leaves: the client is the one that will
//! repeat it.

mod memory;
mod recorded;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use net_core::Host;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, warn};

pub use self::{
    memory::Memory,
    recorded::{Actor, Entry, Fingerprint, Key, Pending, RecordError, Recorded},
};
use crate::{
    caller::{Account, Caller},
    content,
    problem::{Kind, Problem},
    request_id::RequestId,
};

/// The header of requests.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks a response that was recorded before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Maximum length of a key in bytes.
const MAX_KEY_BYTES: usize = 128;
/// Maximum size of a recorded body. A larger response is not recorded.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// Maximum number of requests with a key that are in progress.
const MAX_IN_PROGRESS: usize = 1_024;
/// Time after which a request is dropped that its client may have left.
const LIMIT: Duration = Duration::from_secs(60);
/// Seconds after which a client may ask for the response of the first request.
const RETRY_AFTER_S: u64 = 1;
/// The headers that are recorded. Others belong to one response only.
const KEPT: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::SET_COOKIE,
    header::LOCATION,
    header::ETAG,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("sf-sequence"),
];

/// The state of the middleware [`once`]. Clones share it.
#[derive(Clone)]
pub struct Idempotency {
    recorded: Arc<dyn Recorded>,
    /// The requests in progress and their fingerprints.
    in_progress: Arc<Mutex<HashMap<Key, Fingerprint>>>,
    /// Their tasks.
    tasks: TaskTracker,
    /// Whether a POST must have a key.
    required: bool,
}

impl Idempotency {
    /// Records responses in `recorded`.
    pub fn new(recorded: Arc<dyn Recorded>) -> Self {
        let (in_progress, tasks) = (Arc::default(), TaskTracker::new());
        Self { recorded, in_progress, tasks, required: false }
    }

    /// The same, for routes where a POST without a key is a 400.
    #[must_use]
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Waits for the requests in progress, at the shutdown.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Claims a key for one request.
    ///
    /// # Errors
    /// 409 or 422 while another request has it; 503 if too many are in progress.
    fn claim(&self, key: &Key, fingerprint: Fingerprint) -> Result<Claim, Problem> {
        let mut in_progress = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        match in_progress.get(key) {
            Some(first) if *first != fingerprint => return Err(reused()),
            Some(_) => {
                let words = "the first request with this Idempotency-Key has no response yet";
                let problem = Problem::new(Kind::RequestInProgress, words);
                return Err(problem.retry_after(RETRY_AFTER_S));
            }
            None => {}
        }
        if in_progress.len() >= MAX_IN_PROGRESS {
            let words = "too many requests with an Idempotency-Key are in progress";
            return Err(Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S));
        }
        in_progress.insert(key.clone(), fingerprint);
        Ok(Claim { in_progress: Arc::clone(&self.in_progress), key: key.clone() })
    }

    /// Runs a request, and records its response.
    async fn run(
        self,
        claim: Claim,
        fingerprint: Fingerprint,
        request: Request,
        next: Next,
    ) -> Response {
        let recorded = self.recorded.get(&claim.key).await;
        match recorded {
            Ok(Some(entry)) if entry.fingerprint == fingerprint => return replay(entry),
            Ok(Some(_)) => return reused().into_response(),
            Ok(None) => {}
            Err(err) => {
                warn!(%err, "request refused");
                let words = "it is not known whether this request was made before";
                let problem = Problem::new(Kind::Unavailable, words);
                return problem.retry_after(RETRY_AFTER_S).into_response();
            }
        }
        let Ok(response) = timeout(LIMIT, next.run(request)).await else {
            let words = "there was no response within the time limit";
            return Problem::new(Kind::TimedOut, words).into_response();
        };
        if !is_final(response.status()) {
            return response;
        }
        self.record(&claim.key, fingerprint, response).await
    }

    /// Records a response, and returns it.
    async fn record(&self, key: &Key, fingerprint: Fingerprint, response: Response) -> Response {
        let (head, body) = response.into_parts();
        // A larger body is passed on as it is, and so is one of unknown size.
        let size = http_body::Body::size_hint(&body).upper();
        if size.is_none_or(|size| size > MAX_RESPONSE_BYTES as u64) {
            warn!("response too large to be recorded for its Idempotency-Key");
            return Response::from_parts(head, body);
        }
        let Ok(body) = to_bytes(body, MAX_RESPONSE_BYTES).await else {
            let words = "the response could not be completed";
            return Problem::new(Kind::Internal, words).into_response();
        };
        let headers = head.headers.iter().filter(|(name, _)| KEPT.contains(name));
        let entry = Entry {
            fingerprint,
            status: head.status,
            headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: body.clone(),
        };
        if let Err(err) = self.recorded.insert(key.clone(), entry).await {
            warn!(%err, "response not recorded");
        }
        Response::from_parts(head, body.into())
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("required", &self.required).finish_non_exhaustive()
    }
}

/// A key in use by one request; dropping it releases the key.
struct Claim {
    in_progress: Arc<Mutex<HashMap<Key, Fingerprint>>>,
    key: Key,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Middleware: a POST with an Idempotency-Key has its effect once. It belongs behind the check of
/// the credentials, which determines the actor, and the permissions are checked behind it.
pub async fn once(State(state): State<Idempotency>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let key = match key(&request) {
        Ok(Some(key)) => key,
        Ok(None) if state.required => {
            let words = "this route needs an Idempotency-Key, for example a new UUID";
            return Problem::new(Kind::InvalidIdempotencyKey, words).into_response();
        }
        Ok(None) => return next.run(request).await,
        Err(problem) => return problem.into_response(),
    };
    match begin(&state, key, request).await {
        Ok((claim, fingerprint, request)) => {
            let served = state.clone().run(claim, fingerprint, request, next);
            let served = served.instrument(Span::current());
            let task = match RequestId::current() {
                Some(id) => state.tasks.spawn(id.scope(served)),
                None => state.tasks.spawn(served),
            };
            task.await.unwrap_or_else(|_| {
                Problem::new(Kind::Internal, "the request failed").into_response()
            })
        }
        Err(problem) => problem.into_response(),
    }
}

/// Reads the body, and claims the key.
async fn begin(
    state: &Idempotency,
    key: Key,
    request: Request,
) -> Result<(Claim, Fingerprint, Request), Problem> {
    let (head, body) = request.into_parts();
    let body = content::bytes(Request::from_parts(head.clone(), body), &()).await?;
    let mut hash = Sha256::new();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let media_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    for part in [head.method.as_str().as_bytes(), target.as_bytes(), media_type, &body] {
        // With the length, so that two parts cannot be shifted.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let fingerprint = Fingerprint(hash.finalize().into());
    let claim = state.claim(&key, fingerprint)?;
    Ok((claim, fingerprint, Request::from_parts(head, Body::from(body))))
}

/// The key of a request.
///
/// # Errors
/// 400 if it is malformed, or there is more than one.
fn key(request: &Request) -> Result<Option<Key>, Problem> {
    let mut lines = request.headers().get_all(HEADER).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    // A string of RFC 9651 is in quotes; many clients omit them.
    let text = line.to_str().ok().map(|text| {
        let text = text.trim_ascii();
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
    });
    let is_valid = |text: &&str| {
        (1..=MAX_KEY_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte))
    };
    match (text.filter(is_valid), lines.next()) {
        (Some(text), None) => Ok(Some(Key { actor: actor(request), text: text.into() })),
        _ => {
            let words = "send one Idempotency-Key of 1 to 128 letters, digits and .:_-";
            Err(Problem::new(Kind::InvalidIdempotencyKey, words))
        }
    }
}

/// The sender of a request.
fn actor(request: &Request) -> Actor {
    match request.extensions().get() {
        Some(Account(id)) => Actor::Account(*id),
        None => {
            let address = request.extensions().get().map(|caller: &Caller| caller.address);
            Actor::Address(Host::of(address.unwrap_or(IpAddr::from([0, 0, 0, 0]))))
        }
    }
}

/// Whether a repetition would have the same response. Others are for the moment only.
fn is_final(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// The response of a repetition.
fn replay(entry: Entry) -> Response {
    let mut response = Response::new(Body::from(entry.body));
    *response.status_mut() = entry.status;
    *response.headers_mut() = entry.headers;
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The problem of another request under the same key.
fn reused() -> Problem {
    let words = "this Idempotency-Key was used for another request: use a new key";
    Problem::new(Kind::IdempotencyKeyReused, words)
}

#[cfg(test)]
mod tests;
