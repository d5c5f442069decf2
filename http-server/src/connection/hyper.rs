//! HTTP/1 and HTTP/2 by hyper: everything but the plain requests that `h1` serves.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    task::{self, Poll, ready},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use net_core::{Counted, InFlight};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug, level_filters::LevelFilter};

use super::{session::Session, unsent::Unsent};
use crate::{
    activity::{Activity, Deliveries},
    body::Body,
    cork::Uncork,
    metrics::{Metrics, Reason},
    pending,
    schedule::Schedule,
    service::{PendingResponse, Refusal, Service},
    socket::{Protocol, Socket},
    upgrade::{self, Offer, Upgraded},
    yield_once::YieldOnce,
};

/// Flow-control windows in bytes, of a stream and of a connection (RFC 9113 6.9). Requests are
/// short.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes that HTTP/2 buffers for one stream beyond its peer's window.
const SEND_BUFFER: usize = 1 << 20;
/// Limits of streams that a peer has reset before they were processed, and of streams that this
/// server has reset for their errors. Beyond them the connection ends: rapid reset
/// (CVE-2023-44487), and provoked resets (CVE-2025-8671).
const MAX_RESETS: usize = 20;
const MAX_ERRORS: usize = 256;
/// Interval of pings to silent HTTP/2 peers.
const PING: Duration = Duration::from_secs(20);
/// The time without an event on a connection after which its client is not expected to send a
/// request, and the most of these times that are waited for.
const LULL: Duration = Duration::from_millis(50);
const LULLS: u32 = 40;
/// Number of inspections of an HTTP/1 connection during the time for which it may be without a
/// request.
const LOOKS: u32 = 4;
/// The minimum buffer that hyper needs for HTTP/1; also the limit of one read.
const BUFFER: usize = 64 << 10;

/// Serves HTTP/1 or HTTP/2 with hyper until the connection ends.
///
/// `flusher` sends the bytes that the socket holds back. Malformed requests are counted; all other
/// errors end the connection and are logged for debugging only, because any peer can cause them.
pub(super) async fn serve<S, T>(socket: Socket<T>, mut flusher: impl Uncork, session: Session<S>)
where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Arc::new(Requests {
        session,
        activity: Arc::new(Activity::default()),
        schedule: Arc::<Schedule>::default(),
        upgraded: Mutex::default(),
    });
    let Session { context, usage, protocol, .. } = &requests.session;
    let (config, metrics) = (&context.config, &context.metrics);
    let mut unsent = Unsent::new(usage);
    let mut flush = |cx: &mut task::Context<'_>| {
        let flushed = flusher.poll(cx);
        unsent.set(flushed.is_pending());
        requests.schedule.round(flushed.is_ready());
        flushed
    };
    let service = service_fn(|request| Arc::clone(&requests).respond(request));
    let ended = match protocol {
        Protocol::Http1 => {
            let activity = &requests.activity;
            let socket = TokioIo::new(socket.limit_header(config.header, activity, metrics));
            let mut builder = http1::Builder::new();
            builder
                // hyper would use a timer for each head. Here the socket has a timer for a slow
                // head, and the connection is inspected at intervals.
                .header_read_timeout(None)
                .max_headers(config.headers())
                .max_header_size(config.header_bytes())
                .max_buf_size(BUFFER.max(config.header_bytes()));
            let mut connection = builder.serve_connection(socket, service);
            let ended = requests.run(Pin::new(&mut connection), &mut flush).await;
            let upgraded = requests.upgraded().take().filter(|_| ended.is_ok());
            if let Some(upgraded) = upgraded {
                let http1::Parts { io, read_buf, .. } = connection.into_parts();
                let socket = io.into_inner().after_last_head(read_buf);
                upgraded.serve(Upgraded::new(socket, context), metrics, flush).await;
            }
            ended
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(Spawn(context.tasks.clone()));
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_concurrent_streams(config.max_streams)
                .max_header_list_size(config.max_header_bytes)
                .max_pending_accept_reset_streams(MAX_RESETS)
                .max_local_error_reset_streams(MAX_ERRORS)
                .max_send_buf_size(SEND_BUFFER)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PING);
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            requests.run(pin!(connection), flush).await
        }
    };
    if let Err(err) = ended {
        if err.is_parse() {
            metrics.refuse(Reason::Malformed);
        }
        debug!(%err, "connection closed");
    }
}

/// Produces the responses of one connection.
struct Requests<S> {
    session: Session<S>,
    activity: Arc<Activity>,
    schedule: Arc<Schedule>,
    /// The upgrade that the last response has accepted: HTTP/1 only.
    upgraded: Mutex<Option<Accepted>>,
}

/// An accepted upgrade, with the exchange that keeps the connection from being closed as idle.
struct Accepted {
    serve: upgrade::Serve,
    _in_flight: InFlight,
}

/// The result of the last inspection of a connection.
#[derive(Default)]
struct Quiet {
    /// Number of requests begun.
    begun: u64,
    /// The first of the inspections in a row that found it idle.
    since: Option<Instant>,
}

impl<S: Service> Requests<S> {
    /// Drives a connection, ends it at shutdown, and inspects it at intervals. The inspection
    /// detects a connection without a request, and, in protocols whose responses do not wait for
    /// each other, a response that is not accepted.
    ///
    /// `flush` sends the bytes that the protocol has written; `connection` is polled before it.
    ///
    /// # Errors
    /// Those of hyper. A lost socket is not an error here: it is logged for debugging.
    async fn run<C>(
        &self,
        mut connection: Pin<&mut C>,
        mut flush: impl FnMut(&mut task::Context<'_>) -> Poll<io::Result<()>>,
    ) -> Result<(), C::Error>
    where
        C: GracefulConnection,
    {
        let Session { context, usage, protocol, .. } = &self.session;
        let (write, idle) = (context.config.write, context.config.idle);
        // HTTP/1 is inspected for idleness only, so a fraction of that time suffices. HTTP/2 is
        // also inspected for stalled streams, whose limit is `write`.
        let pace = match protocol {
            Protocol::Http1 => idle / LOOKS,
            Protocol::Http2 => write,
        };
        let mut look = interval_at(Instant::now() + pace, pace);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        // HTTP/1 announces it in its next response.
        let mut retired = *protocol == Protocol::Http1;
        let mut quiet = Quiet::default();
        let mut yielding = YieldOnce::default();
        let mut closed = pin!(usage.closed());
        let mut lull = pin!(self.lull_in_retirement());
        loop {
            tokio::select! {
                // Bytes that the protocol has written are sent when it has done all that it can for
                // now.
                ended = poll_fn(|cx| {
                    // While more responses are being formed, they are corked.
                    if *protocol == Protocol::Http2 && self.activity.is_busy() {
                        ready!(yielding.poll(cx));
                    }
                    match (connection.as_mut().poll(cx), flush(cx)) {
                        (Poll::Pending, Poll::Ready(Err(err))) => {
                            debug!(%err, "connection lost");
                            Poll::Ready(Ok(()))
                        }
                        (ended, _) => ended,
                    }
                }) => return ended,
                () = &mut closed => {
                    debug!("closed while idle: connection limit reached");
                    return close(connection, flush).await;
                }
                () = context.drain.triggered(), if !draining => {
                    draining = true;
                    self.end(connection.as_mut());
                }
                () = &mut lull, if !retired => {
                    retired = true;
                    self.end(connection.as_mut());
                }
                now = look.tick() => match self.inspect(pace, now, &mut quiet) {
                    ControlFlow::Break(()) => return Ok(()),
                    ControlFlow::Continue(Some(since)) if now.duration_since(since) >= idle => {
                        draining = true;
                        self.end(connection.as_mut());
                    }
                    ControlFlow::Continue(_) => {}
                }
            }
        }
    }

    /// Waits until the peer is asked to reconnect elsewhere, and then for a moment at which it is
    /// not about to send a request: it has just begun none, and has just received no response that
    /// it may follow with one.
    ///
    /// Chromium fails a request with ERR_FAILED, and does not repeat it, if GOAWAY arrives after it
    /// has chosen the connection and before it has opened the stream
    /// (`SpdySession::TryCreateStream`). Players then lose a part.
    async fn lull_in_retirement(&self) {
        self.session.context.retire.triggered().await;
        let mut before = self.activity.events();
        for _ in 0..LULLS {
            sleep(LULL).await;
            let now = self.activity.events();
            if now == before {
                break;
            }
            before = now;
        }
    }

    /// Inspects the connection after another `pace`. Returns the time since which it is idle, if it
    /// is; `Break` if it ends because its peer accepts no bytes.
    fn inspect(
        &self,
        pace: Duration,
        now: Instant,
        quiet: &mut Quiet,
    ) -> ControlFlow<(), Option<Instant>> {
        let (Session { context, protocol, .. }, activity) = (&self.session, &self.activity);
        let deliveries = activity.inspect(pace);
        // HTTP/1 has one response at a time, which the socket's limit covers.
        if deliveries == Deliveries::Stalled && *protocol == Protocol::Http2 {
            context.metrics.refuse(Reason::Write);
            return ControlFlow::Break(());
        }
        // The connection is idle if it sends nothing, has no request, and has had none since the
        // last inspection: a short request may begin and end between two inspections.
        let is_quiet = deliveries == Deliveries::None
            && !activity.is_busy()
            && activity.begun() == quiet.begun;
        quiet.begun = activity.begun();
        quiet.since = is_quiet.then(|| quiet.since.unwrap_or(now));
        ControlFlow::Continue(quiet.since)
    }

    /// Ends the connection after the responses to its requests. One that was upgraded ends by
    /// itself when the response is sent; hyper would take it for complete before.
    fn end<C: GracefulConnection>(&self, connection: Pin<&mut C>) {
        if self.upgraded().is_none() {
            connection.graceful_shutdown();
        }
    }

    /// The accepted upgrade. The lock is held to set or take it.
    fn upgraded(&self) -> MutexGuard<'_, Option<Accepted>> {
        self.upgraded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forms the response to one request. It is called for each request; in HTTP/2, concurrently.
    async fn respond(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let _busy = self.activity.begin();
        let Session { context, usage, peer, protocol, early } = &self.session;
        let secure = early.is_some();
        let early = early.as_ref().is_some_and(|early| early.load(Ordering::Acquire));
        let client = context.client(*peer, secure, early);
        let offer = match protocol {
            // hyper's own offer is never fulfilled. A request that may be a replay changes nothing.
            Protocol::Http1 => request
                .extensions_mut()
                .remove::<OnUpgrade>()
                .filter(|_| !early && !context.drain.is_triggered())
                .and_then(|_| Offer::to(&mut request)),
            Protocol::Http2 => None,
        };
        let mut pending = pending::begin(context, request, client);
        // A connection with incomplete requests only counts as idle.
        poll_fn(|cx| pending.poll_request_end(cx)).await;
        let Some(in_flight) = usage.exchange() else {
            // The connection ends before this can be sent.
            let refusal = Refusal { status: StatusCode::SERVICE_UNAVAILABLE, reason: "closing" };
            return Ok(pending::refuse(context, refusal, client));
        };
        let mut response = pending.await;
        if let Some(serve) = offer.and_then(|offer| offer.accepted(&response)) {
            *self.upgraded() = Some(Accepted { serve, _in_flight: in_flight });
            return Ok(response);
        }
        response.body_mut().hold(in_flight);
        self.activity.watch(response.body_mut());
        // In HTTP/2 the responses of a connection share it, so their order is chosen here. In
        // HTTP/1 there is only one at a time.
        match protocol {
            Protocol::Http2 => {
                response.body_mut().schedule(&self.schedule);
            }
            // The next request reaches another process. Closing between requests could cross one in
            // transit.
            Protocol::Http1 if context.retire.is_triggered() => {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Protocol::Http1 => {}
        }
        Ok(response)
    }
}

/// Closes an idle connection for another. Its last bytes are not waited for if the peer does not
/// accept them.
async fn close<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    mut flush: impl FnMut(&mut task::Context<'_>) -> Poll<io::Result<()>>,
) -> Result<(), C::Error> {
    connection.as_mut().graceful_shutdown();
    poll_fn(|cx| match (connection.as_mut().poll(cx), flush(cx)) {
        (Poll::Ready(ended), _) => Poll::Ready(ended),
        (Poll::Pending, _) => Poll::Ready(Ok(())),
    })
    .await
}

impl Accepted {
    /// Serves the connection until the service ends it, or the connection is lost. `flush` sends
    /// the bytes that TLS holds back.
    async fn serve(
        self,
        stream: Upgraded,
        metrics: &Metrics,
        mut flush: impl FnMut(&mut task::Context<'_>) -> Poll<io::Result<()>>,
    ) {
        let _counted = Counted::new(metrics.upgraded.clone());
        let mut serving = (self.serve)(stream);
        poll_fn(|cx| match (serving.as_mut().poll(cx), flush(cx)) {
            (Poll::Pending, Poll::Ready(Err(err))) => {
                debug!(%err, "connection lost");
                Poll::Ready(())
            }
            (ended, _) => ended,
        })
        .await;
        // A service that does not shut the connection down has bytes to send over TLS. A plain
        // socket that it still holds would not wake this task.
        drop(serving);
        let _ = poll_fn(flush).await;
    }
}

/// Runs HTTP/2 streams in the task tracker that is waited for at shutdown.
#[derive(Clone)]
struct Spawn(TaskTracker);

impl<F> Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        // Each request is a task. Without a reader of the log, no span is created.
        if LevelFilter::current() < LevelFilter::DEBUG {
            self.0.spawn(stream);
        } else {
            self.0.spawn(stream.instrument(Span::current()));
        }
    }
}
