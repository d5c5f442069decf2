//! One fetch: requests the object from the origins in order until one has it, and reads the
//! response into memory as it arrives. Shared by all requests for the object.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Version,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG,
        IF_NONE_MATCH, TRANSFER_ENCODING, USER_AGENT, VIA,
    },
    response,
};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{
    Edge,
    budget::Claim,
    cache::{Failure, Landing, Start},
    content::{BLOCK, Content, Writer},
    disk::Disk,
    freshness::Freshness,
    hops::{self, Hops},
    key::Wanted,
    object::{OVERHEAD, Object},
    origins::Turn,
    upstream::{self, Response},
};
use crate::resource::Fetch;

/// The largest body of an error in bytes.
const REFUSAL: u64 = 64 << 10;
/// The largest playlist, manifest or picture in bytes.
const TEXT: u64 = 16 << 20;
/// Time limit for one body, at any rate.
const WHOLE: Duration = Duration::from_secs(120);
/// Objects that are fresh for longer than this are stored on disk.
const LASTING: Duration = Duration::from_secs(3600);

/// The result of the requests to the origins.
enum Fetched {
    /// It has the object, or confirms that ours is still valid.
    Object(Box<Response>, Turn),
    /// It does not have it: a complete error.
    Error(Arc<Object>),
}

/// Why a response of an origin is unusable, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
enum Fault {
    #[error("neither the object nor an error")]
    Status,
    #[error("both Transfer-Encoding and Content-Length")]
    TwoLengths,
    #[error("a transfer coding other than chunked")]
    TransferCoding,
    #[error("a content coding that was not requested")]
    ContentCoding,
    #[error("larger than the limit")]
    TooLarge,
    #[error("not complete in time")]
    TooSlow,
    #[error("no further bytes arrived")]
    Stalled,
    #[error("the connection was lost")]
    Lost,
    #[error("its length is not its Content-Length")]
    Length,
    #[error("no memory for it")]
    Memory,
}

impl Edge {
    /// Performs a fetch. A fetch without waiting requests is aborted while its response has not
    /// begun.
    pub(super) async fn fetch(self: Arc<Self>, wanted: Wanted, hops: Hops, start: Start) {
        let Start { landing, abandoned, previous } = start;
        if wanted.fetch == Fetch::Lasting
            && let Some(disk) = &self.disk
            && let Some(object) = self.on_disk(disk, &wanted).await
        {
            return landing.land(Ok(object));
        }
        // An abandoned fetch drops its landing, which ends the flight as failed, and its request,
        // which resets the stream or closes the connection.
        let begun = tokio::select! {
            begun = self.request_in_order(&wanted, &hops, previous.as_ref()) => begun,
            () = abandoned.cancelled() => return,
        };
        match begun {
            Ok(Fetched::Object(response, turn)) => {
                self.take(&wanted, *response, turn, previous, landing).await
            }
            Ok(Fetched::Error(error)) => landing.land(Ok(error)),
            Err(failure) => landing.land(Err(failure)),
        }
    }

    /// The object from the disk cache. Its memory is charged while the file is read, and then as
    /// content.
    async fn on_disk(&self, disk: &Disk, wanted: &Wanted) -> Option<Arc<Object>> {
        let bytes = disk.find(&wanted.key.target)?;
        if !self.cache.make_room(bytes + OVERHEAD, wanted.claim) {
            return None;
        }
        let reading = self.budget.charge(bytes);
        let file = disk.read(&wanted.key.target).await?;
        drop(reading);
        let freshness = Freshness::kept(file.age, file.lifetime, Instant::now());
        let content = Content::whole(file.body, &self.budget);
        Some(Arc::new(Object::new(StatusCode::OK, &file.headers, freshness, content)))
    }

    /// Requests the object from the origins in order. If none has it, returns the most relevant
    /// result: a refusal, before a fault.
    async fn request_in_order(
        &self,
        wanted: &Wanted,
        hops: &Hops,
        previous: Option<&Arc<Object>>,
    ) -> Result<Fetched, Failure> {
        // The loop collects three kinds of results for the case that no origin has the object: `no`
        // (404 or 410), `fault` (another error response) and `failure` (no usable response).
        let home = self.origins.home(&wanted.scope);
        let (mut no, mut fault) = (None, None);
        let mut failure = None;
        let mut home_failed = false;
        for origin in self.origins.order(&wanted.scope) {
            let is_home = home.as_ref().is_some_and(|home| Arc::ptr_eq(home, &origin));
            // A skipped origin counts as unreachable: its channels must not appear to be gone.
            let Some(turn) = self.origins.turn(&origin, Instant::now()) else {
                home_failed |= is_home;
                failure = failure.max(Some(Failure::Unreachable));
                continue;
            };
            let response = match origin.upstream.send(self.request(wanted, hops, previous)).await {
                Ok(response) => response,
                Err(err) => {
                    debug!(target = %wanted.key.target, %err, "origin failed");
                    home_failed |=
                        is_home && !origin.local && !matches!(err, upstream::Error::Busy);
                    failure = failure.max(Some(failed(wanted, turn, &err)));
                    continue;
                }
            };
            let status = response.message.status();
            // Success ends the loop, so that its result is reported later, by `take`. Any other
            // response shows already that the origin works.
            match status {
                StatusCode::OK => return Ok(Fetched::Object(response.into(), turn)),
                StatusCode::NOT_MODIFIED if previous.is_some() => {
                    return Ok(Fetched::Object(response.into(), turn));
                }
                _ => turn.responded(),
            }
            // After 404, 410 and errors of the server the next origin gets the request; any other
            // client error concerns the request itself.
            match self.error(wanted, response).await {
                Ok(error) if status == StatusCode::NOT_FOUND || status == StatusCode::GONE => {
                    no.get_or_insert(error);
                }
                Ok(error) if status.is_client_error() => return Ok(Fetched::Error(error)),
                Ok(error) => {
                    home_failed |= is_home;
                    fault.get_or_insert(error);
                }
                Err(why) => failure = failure.max(Some(why)),
            }
        }
        // A channel of a failing origin is not gone because others never had it.
        let error = if home_failed { fault } else { no.or(fault) };
        error.map(Fetched::Error).ok_or(failure.unwrap_or(Failure::Unreachable))
    }

    /// The request to an origin: path and query of the key, nothing of the viewer's own fields but
    /// its playback token. With a previous object it is conditional (RFC 9111 4.3.1).
    fn request(
        &self,
        wanted: &Wanted,
        hops: &Hops,
        previous: Option<&Arc<Object>>,
    ) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        // It was a valid path when it arrived.
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
        if let Some(token) = &wanted.authorization {
            headers.insert(AUTHORIZATION, token.clone());
        }
        hops.forward(&self.identity, headers);
        if let Some(tag) = previous.and_then(|object| object.headers.get(ETAG)) {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        request
    }

    /// Reads an error response completely. Its lifetime is limited ([`Freshness::of_error`]).
    ///
    /// # Errors
    /// It is neither the object nor an error, too large, too slow, or there is no memory for it.
    async fn error(&self, wanted: &Wanted, response: Response) -> Result<Arc<Object>, Failure> {
        let received = Instant::now();
        let status = response.message.status();
        let unusable = |fault: Fault| {
            debug!(target = %wanted.key.target, %status, %fault, "unusable response from an origin");
            Failure::Invalid
        };
        if !status.is_client_error() && !status.is_server_error() {
            return Err(unusable(Fault::Status));
        }
        let length = length_of(&response).map_err(unusable)?;
        let (mut head, body) = response.message.into_parts();
        let freshness =
            Freshness::of_error(status, &head.headers, received, wanted.fetch == Fetch::Reload);
        head.headers.insert(CACHE_CONTROL, freshness.error_control());
        self.sign(&mut head);
        if !self.cache.make_room(Object::cost(&head.headers), Claim::Text) {
            return Err(Failure::Busy);
        }
        let content = Content::coming(length, &self.budget);
        let error = Arc::new(Object::new(status, &head.headers, freshness, Arc::clone(&content)));
        match timeout(self.stall, self.read(body, Writer::new(content), REFUSAL, Claim::Text)).await
        {
            Ok(Ok(())) => Ok(error),
            Ok(Err(fault)) => Err(unusable(fault)),
            Err(_) => Err(unusable(Fault::TooSlow)),
        }
    }

    /// Reads the response with the object as it arrives. `landing` is ended as soon as its head is
    /// known to be usable, so that viewers read along.
    async fn take(
        &self,
        wanted: &Wanted,
        response: Response,
        turn: Turn,
        previous: Option<Arc<Object>>,
        landing: Landing,
    ) {
        // The turn is reported before the body is read: the origin has responded, whatever follows.
        let origin = Arc::clone(&turn.origin);
        turn.responded();
        self.origins.found(&wanted.scope, &origin);
        let received = Instant::now();
        let length = self.length_of_object(wanted, &response);
        let Response { message, permits: _permits, .. } = response;
        let (mut head, body) = message.into_parts();
        self.sign(&mut head);
        let mut freshness = Freshness::new(StatusCode::OK, &head.headers, received);
        // A response is refused before any of it is stored.
        let length = match length {
            Ok(length) => length,
            Err(fault) => {
                debug!(target = %wanted.key.target, %fault, "unusable response from an origin");
                return landing.land(Err(Failure::Invalid));
            }
        };
        if !self.cache.make_room(length.unwrap_or(0) + Object::cost(&head.headers), wanted.claim) {
            return landing.land(Err(Failure::Busy));
        }
        if head.status == StatusCode::NOT_MODIFIED {
            let renewed =
                previous.map(|previous| Arc::new(previous.renewed(&head.headers, freshness)));
            return landing.land(renewed.ok_or(Failure::Invalid));
        }
        // If only the end of the connection ends the body, a truncated one is not detected.
        freshness.storable &=
            length.is_some() || head.version == Version::HTTP_2 || is_chunked(&head.headers);
        let content = Content::coming(length, &self.budget);
        let writer = Writer::new(Arc::clone(&content));
        let object = Arc::new(Object::new(head.status, &head.headers, freshness, content));
        landing.land(Ok(Arc::clone(&object)));
        // From here on it is read to its end even without waiting requests: little of it is left,
        // and others will request it.
        let read = timeout(WHOLE, self.read(body, writer, self.most(wanted), wanted.claim)).await;
        // A truncated object is removed. Viewers that read it get an error, so that they do not
        // take it for complete.
        match read {
            Ok(Ok(())) => {
                let lasting =
                    freshness.storable && freshness.immutable && freshness.lifetime() > LASTING;
                if wanted.fetch == Fetch::Lasting
                    && lasting
                    && let Some(disk) = &self.disk
                {
                    disk.write(&wanted.key.target, &object, freshness.age(Instant::now()));
                }
            }
            Ok(Err(fault)) => self.broke_off(wanted, &object, fault),
            Err(_) => self.broke_off(wanted, &object, Fault::TooSlow),
        }
    }

    /// The announced length of an object, if its response is usable.
    ///
    /// # Errors
    /// The framing is ambiguous, the content coding was not requested, or the object is too large.
    fn length_of_object(&self, wanted: &Wanted, response: &Response) -> Result<Option<u64>, Fault> {
        if response.message.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let length = length_of(response)?;
        let coded = response.message.headers().get(CONTENT_ENCODING);
        match length {
            _ if coded.is_some_and(|coding| coding != "identity") && !wanted.key.gzip => {
                Err(Fault::ContentCoding)
            }
            Some(length) if length > self.most(wanted) => Err(Fault::TooLarge),
            length => Ok(length),
        }
    }

    /// The largest body of an object in bytes.
    fn most(&self, wanted: &Wanted) -> u64 {
        // Texts and pictures have a lower limit than media: no valid one is longer.
        match wanted.fetch {
            Fetch::Now | Fetch::Reload => self.object_bytes.min(TEXT),
            Fetch::Part | Fetch::Lasting => self.object_bytes,
        }
    }

    /// Adds this edge to the intermediaries of a response (RFC 9110 7.6.3).
    fn sign(&self, head: &mut response::Parts) {
        head.headers.append(VIA, hops::via(head.version, &self.identity));
    }

    /// Reads a body into `writer`, at most `most` bytes. Memory is reserved before each portion.
    ///
    /// # Errors
    /// The content stays short then.
    async fn read(
        &self,
        mut body: Incoming,
        mut writer: Writer,
        most: u64,
        claim: Claim,
    ) -> Result<(), Fault> {
        loop {
            let frame = timeout(self.stall, body.frame()).await.map_err(|_| Fault::Stalled)?;
            // The end of the body. Only the comparison with the announced length shows whether it
            // is complete.
            let Some(frame) = frame else {
                return if writer.finish() { Ok(()) } else { Err(Fault::Length) };
            };
            let Ok(bytes) = frame.map_err(|_| Fault::Lost)?.into_data() else {
                continue; // Trailers.
            };
            self.metrics.fetched.inc_by(bytes.len() as u64);
            if writer.len() + bytes.len() as u64 > most {
                return Err(Fault::TooLarge);
            }
            // Room is made block by block, so that an object takes no more memory than has arrived.
            for bytes in bytes.chunks(BLOCK) {
                if !self.cache.make_room(writer.needs(bytes.len()), claim) {
                    return Err(Fault::Memory);
                }
                writer.push(bytes);
            }
        }
    }

    /// Removes an object whose transfer has failed.
    fn broke_off(&self, wanted: &Wanted, object: &Arc<Object>, fault: Fault) {
        debug!(target = %wanted.key.target, %fault, "origin response truncated");
        self.cache.forget(&wanted.key, object);
    }
}

/// Records a failure of the origin of `turn`, and maps it to the viewer's error.
fn failed(wanted: &Wanted, turn: Turn, err: &upstream::Error) -> Failure {
    use upstream::Error;
    let now = Instant::now();
    // A local origin is a process of this daemon: only a missing listener is its end. A remote one
    // that cannot be reached is skipped for a while; one that was reached and did not respond only
    // if that repeats.
    match err {
        Error::Busy => Failure::Busy,
        Error::Absent(_) if turn.origin.local => {
            turn.failed(err, now);
            Failure::Gone
        }
        // The process is alive while it listens, even if one connection failed.
        Error::TimedOut(_) if turn.origin.local => Failure::TimedOut,
        _ if turn.origin.local => Failure::Busy,
        Error::Absent(_) | Error::Unreachable(_) => {
            turn.failed(err, now);
            Failure::Unreachable
        }
        Error::Broken(_) => {
            turn.failed_to_respond(&wanted.key.target, err, now);
            Failure::Unreachable
        }
        Error::TimedOut(_) => {
            turn.failed_to_respond(&wanted.key.target, err, now);
            Failure::TimedOut
        }
        Error::Malformed(_) => {
            turn.responded();
            Failure::Invalid
        }
    }
}

/// The announced length of a response (RFC 9112 6.3).
///
/// # Errors
/// Its framing is ambiguous: another parser may have found another end. Its connection is closed.
fn length_of(response: &Response) -> Result<Option<u64>, Fault> {
    let headers = response.message.headers();
    let length = headers.get(CONTENT_LENGTH);
    // hyper has chosen one end already. A connection whose messages could end elsewhere must not be
    // used again (RFC 9112 6.3, 11.2).
    let framed = match headers.contains_key(TRANSFER_ENCODING) {
        true if length.is_some() => Err(Fault::TwoLengths),
        true if !is_chunked(headers) => Err(Fault::TransferCoding),
        _ => Ok(()),
    };
    framed.inspect_err(|_| response.close())?;
    Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
}

/// Whether chunked is the only transfer coding.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}
