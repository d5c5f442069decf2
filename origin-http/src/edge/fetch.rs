//! One fetch: asks one origin after the other until one has an answer, and reads it into memory as it comes. Shared by all who want it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, IF_NONE_MATCH, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{
    Edge,
    cache::{Failure, Landing, Start},
    disk::Disk,
    freshness::Freshness,
    key::{Kind, Wanted},
    object::{Claim, Content, OVERHEAD, Object, Writer},
    origins::Turn,
    upstream::{self, Answer},
};

/// RFC 8586: who passes on a request says so, and finds out when it comes back.
pub(super) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// The largest body that says what is wrong.
const REFUSAL: usize = 64 << 10;
/// The largest playlist or manifest.
const TEXT: u64 = 16 << 20;
/// The longest that one body may take, however steadily it comes.
const WHOLE: Duration = Duration::from_secs(120);
/// What is fresh for longer than this from the start is worth a file.
const LASTING: Duration = Duration::from_secs(3600);

/// What an origin said.
enum Said {
    /// It has it, or knows that what we have is right, or why nobody will have it.
    This(Answer, Turn),
    /// It does not have it. Another may.
    Not(Refusal),
}

/// An answer that says no, whole.
struct Refusal {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    received: Instant,
}

impl Edge {
    /// Does a fetch to its end. What nobody waits for any more is given up while its answer has not begun.
    pub(super) async fn fetch(self: Arc<Self>, wanted: Wanted, passed_by: Vec<HeaderValue>, start: Start) {
        let Start {
            landing,
            abandoned,
            previous,
        } = start;
        if wanted.kind == Kind::Lasting
            && let Some(disk) = &self.disk
            && let Some(object) = self.on_disk(disk, &wanted).await
        {
            return landing.land(Ok(object));
        }
        let begun = tokio::select! {
            begun = self.ask(&wanted, passed_by, previous.as_ref()) => begun,
            () = abandoned.cancelled() => return,
        };
        match begun {
            Ok(Said::This(answer, turn)) => self.take(&wanted, answer, turn, previous, landing).await,
            Ok(Said::Not(refusal)) => {
                let Refusal {
                    status,
                    headers,
                    body,
                    received,
                } = refusal;
                let freshness = Freshness::new(status, &headers, received);
                landing.land(match self.cache.make_room(body.len() as u64 + OVERHEAD, Claim::Text) {
                    true => Ok(Arc::new(Object::new(
                        status,
                        &headers,
                        freshness,
                        Content::whole(body, &self.budget),
                    ))),
                    false => Err(Failure::Busy),
                });
            }
            Err(failure) => landing.land(Err(failure)),
        }
    }

    async fn on_disk(&self, disk: &Disk, wanted: &Wanted) -> Option<Arc<Object>> {
        let file = disk.read(&wanted.key.target).await?;
        if !self.cache.make_room(file.body.len() as u64 + OVERHEAD, wanted.claim) {
            return None;
        }
        let freshness = Freshness::kept(file.age, file.lifetime, Instant::now());
        let content = Content::whole(file.body, &self.budget);
        Some(Arc::new(Object::new(StatusCode::OK, &file.headers, freshness, content)))
    }

    /// Asks one origin after the other. If none has it, the best that was said: a no, before a fault.
    async fn ask(
        &self,
        wanted: &Wanted,
        passed_by: Vec<HeaderValue>,
        previous: Option<&Arc<Object>>,
    ) -> Result<Said, Failure> {
        let home = self.origins.home(&wanted.scope);
        let (mut no, mut fault) = (None, None);
        let mut failure = None;
        let mut home_failed = false;
        for origin in self.origins.order(&wanted.scope) {
            let is_home = home.as_ref().is_some_and(|home| Arc::ptr_eq(home, &origin));
            let Some(turn) = self.origins.turn(&origin, Instant::now()) else {
                home_failed |= is_home;
                failure = failure.or(Some(Failure::Unreachable));
                continue;
            };
            let answer = match origin.upstream.send(self.request(wanted, &passed_by, previous)).await {
                Ok(answer) => answer,
                Err(upstream::Error::Busy) => {
                    failure = Some(Failure::Busy);
                    continue;
                }
                Err(err) => {
                    debug!(target = %wanted.key.target, %err, "origin failed");
                    if origin.local && !matches!(err, upstream::Error::Absent(_)) {
                        // It lives while somebody listens there, whatever became of one connection.
                        failure = Some(match err {
                            upstream::Error::TimedOut(_) => Failure::TimedOut,
                            _ => Failure::Busy,
                        });
                        continue;
                    }
                    match &err {
                        _ if origin.local => failure = failure.or(Some(Failure::Gone)),
                        upstream::Error::TimedOut(_) => failure = Some(Failure::TimedOut),
                        _ => {
                            failure = failure
                                .filter(|known| *known != Failure::Gone)
                                .or(Some(Failure::Unreachable))
                        }
                    }
                    turn.failed(&err, Instant::now());
                    home_failed |= is_home && !origin.local;
                    continue;
                }
            };
            let status = answer.response.status();
            match status {
                StatusCode::OK => return Ok(Said::This(answer, turn)),
                StatusCode::NOT_MODIFIED if previous.is_some() => return Ok(Said::This(answer, turn)),
                _ => {}
            }
            turn.answered();
            match self.refusal(answer).await {
                Some(refusal) if status == StatusCode::NOT_FOUND || status == StatusCode::GONE => {
                    no.get_or_insert(refusal);
                }
                Some(refusal) if status.is_client_error() => return Ok(Said::Not(refusal)),
                Some(refusal) if status.is_server_error() => {
                    home_failed |= is_home;
                    fault.get_or_insert(refusal);
                }
                _ => debug!(target = %wanted.key.target, %status, "origin gave an answer that is of no use"),
            }
        }
        // A channel that was at an origin which fails is not gone because others never had it.
        let said = if home_failed { fault } else { no.or(fault) };
        said.map(Said::Not).ok_or(failure.unwrap_or(Failure::Unreachable))
    }

    fn request(
        &self,
        wanted: &Wanted,
        passed_by: &[HeaderValue],
        previous: Option<&Arc<Object>>,
    ) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        // It was a path when it came here.
        if let Ok(target) = wanted.key.target.parse() {
            *request.uri_mut() = target;
        }
        let headers = request.headers_mut();
        let coding = if wanted.key.gzip { "gzip" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("streamforge/", env!("CARGO_PKG_VERSION"))),
        );
        for passed in passed_by {
            headers.append(CDN_LOOP, passed.clone());
        }
        headers.append(CDN_LOOP, self.identity.clone());
        if let Some(tag) = previous.and_then(|object| object.headers.get(ETAG)) {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        request
    }

    /// Reads an answer that says no.
    async fn refusal(&self, answer: Answer) -> Option<Refusal> {
        let received = Instant::now();
        let (head, body) = answer.response.into_parts();
        let body = timeout(self.stall, Limited::new(body, REFUSAL).collect())
            .await
            .ok()?
            .ok()?;
        let body = body.to_bytes();
        self.metrics.fetched.inc_by(body.len() as u64);
        Some(Refusal {
            status: head.status,
            headers: head.headers,
            body: Bytes::copy_from_slice(&body),
            received,
        })
    }

    /// Takes an answer that is one, as it comes.
    async fn take(&self, wanted: &Wanted, answer: Answer, turn: Turn, previous: Option<Arc<Object>>, landing: Landing) {
        let origin = Arc::clone(&turn.origin);
        turn.answered();
        self.origins.found(&wanted.scope, &origin);
        let received = Instant::now();
        let Answer {
            response,
            places: _places,
        } = answer;
        let (head, body) = response.into_parts();
        let freshness = Freshness::new(StatusCode::OK, &head.headers, received);
        if head.status == StatusCode::NOT_MODIFIED {
            let renewed = previous.map(|previous| Arc::new(previous.renewed(&head.headers, freshness)));
            return landing.land(renewed.ok_or(Failure::Unreachable));
        }
        let length = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let most = match wanted.kind {
            Kind::Now | Kind::Reload => self.object_bytes.min(TEXT),
            Kind::Part | Kind::Lasting => self.object_bytes,
        };
        let coded = head
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        if length.is_some_and(|length| length > most) || (coded && !wanted.key.gzip) {
            debug!(target = %wanted.key.target, ?length, coded, "origin gave an answer that is of no use");
            return landing.land(Err(Failure::Unreachable));
        }
        if !self
            .cache
            .make_room(length.unwrap_or(0).saturating_add(OVERHEAD), wanted.claim)
        {
            return landing.land(Err(Failure::Busy));
        }
        let content = Content::coming(length, &self.budget);
        let writer = Writer::new(Arc::clone(&content));
        let object = Arc::new(Object::new(head.status, &head.headers, freshness, content));
        landing.land(Ok(Arc::clone(&object)));
        // From here it is read to its end, whoever waits: little of it is left, and others will ask for it.
        let read = timeout(WHOLE, self.read(body, writer, most, wanted.claim)).await;
        match read {
            Ok(Ok(())) => {
                let lasting = freshness.storable && freshness.immutable && freshness.lifetime() > LASTING;
                if wanted.kind == Kind::Lasting
                    && lasting
                    && let Some(disk) = &self.disk
                {
                    disk.write(&wanted.key.target, &object, freshness.age(Instant::now()));
                }
            }
            Ok(Err(why)) => self.broke_off(wanted, &object, why),
            Err(_) => self.broke_off(wanted, &object, "it took too long"),
        }
    }

    async fn read(&self, mut body: Incoming, mut writer: Writer, most: u64, claim: Claim) -> Result<(), &'static str> {
        loop {
            let frame = timeout(self.stall, body.frame())
                .await
                .map_err(|_| "nothing of it came any more")?;
            let Some(frame) = frame else {
                return if writer.finish() {
                    Ok(())
                } else {
                    Err("it is not as long as it was announced")
                };
            };
            let Ok(bytes) = frame.map_err(|_| "the connection broke")?.into_data() else {
                continue; // Trailers.
            };
            self.metrics.fetched.inc_by(bytes.len() as u64);
            if writer.len() + bytes.len() as u64 > most {
                return Err("it is too large");
            }
            if !self.cache.make_room(writer.needs(bytes.len()), claim) {
                return Err("there is no memory for it");
            }
            writer.push(&bytes);
        }
    }

    fn broke_off(&self, wanted: &Wanted, object: &Arc<Object>, why: &'static str) {
        debug!(target = %wanted.key.target, why, "an origin's answer broke off");
        self.cache.forget(&wanted.key, object);
    }
}
