//! One TCP connection: protocol detection, the implementation of its protocol, its limits, and its
//! end.
//!
//! `h1` serves plain requests of HTTP/1.1. hyper parses all others; a request with an ambiguous
//! reading is refused there or by the router.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_server::{cork::Cork, yield_once::YieldOnce};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use net_core::{Shutdown, Usage};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug, level_filters::LevelFilter};

use crate::{
    activity::{Activity, Deliveries},
    answer::{self, Lifetime},
    answering::Answering,
    body::{Body, BoxError},
    config::{Config, ms},
    h1,
    metrics::Reason,
    router::{Asker, Router},
    schedule::Schedule,
    socket::{Prefix, Protocol, Socket},
    tls,
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
/// Number of inspections of an HTTP/1 connection during the time for which it may be without a
/// request.
const LOOKS: u32 = 4;
/// The minimum buffer that hyper needs for HTTP/1; also the limit of one read.
const BUFFER: usize = 64 << 10;

/// The state that connections share.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) router: Arc<Router>,
    pub(crate) config: Config,
    /// Whether the peers are processes of this daemon.
    pub(crate) ours: bool,
    /// The tasks of HTTP/2 streams.
    pub(crate) tasks: TaskTracker,
    /// Asks peers to reconnect elsewhere, and serves them until they leave.
    pub(crate) retire: Shutdown,
    /// Finishes the requests in progress.
    pub(crate) drain: Shutdown,
    /// The address of HTTP/3 (RFC 7838), for responses over TLS.
    pub(crate) alt_svc: Option<HeaderValue>,
}

impl Context {
    /// The router's response to a request of `peer`, over TLS if `secure`. `early`: it arrived
    /// before the handshake was complete.
    pub(crate) fn answer<B>(&self, request: Request<B>, peer: SocketAddr, secure: bool, early: bool) -> Answering<'_>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let ours = self.ours;
        let asker = Asker {
            peer,
            ours,
            secure,
            early,
        };
        self.router.respond(request, asker)
    }
}

/// Serves one connection to its end, over TLS if there is a `tls`. `usage` counts its exchanges,
/// and may end it while it is idle.
pub(crate) async fn serve<S>(
    mut socket: S,
    peer: SocketAddr,
    tls: Option<tls::Acceptor>,
    context: Arc<Context>,
    usage: Arc<Usage>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (config, metrics) = (&context.config, context.router.metrics());
    let first_byte = ms(config.first_byte_ms);
    let write = ms(config.write_ms);
    if let Some(tls) = tls {
        // The limit of writes applies below TLS, where the socket's progress is visible.
        let socket = Socket::new(socket).limit_write(write, metrics);
        let accepted = tokio::select! {
            accepted = timeout(first_byte, Box::pin(tls.accept(socket))) => accepted,
            () = context.drain.triggered() => return,
            () = usage.closed() => return debug!("closed during its handshake: connection limit reached"),
        };
        match accepted {
            Ok(Ok((stream, protocol))) => {
                let (early, mut flusher) = (stream.early(), stream.flusher());
                let via = Via::Tls { early };
                speak(
                    Socket::new(stream),
                    move |cx| flusher.poll(cx),
                    peer,
                    protocol,
                    via,
                    context,
                    usage,
                )
                .await;
            }
            Ok(Err(err)) => {
                metrics.refuse(Reason::Handshake);
                debug!(%err, "tls handshake failed");
            }
            Err(_) => {
                metrics.refuse(Reason::FirstByte);
                debug!("tls handshake timed out");
            }
        }
        return;
    }
    let mut prefix = Prefix::default();
    let first = tokio::select! {
        first = timeout(first_byte, prefix.fill(&mut socket)) => first,
        () = context.drain.triggered() => return,
        () = usage.closed() => return debug!("closed before its first byte: connection limit reached"),
    };
    match first {
        Ok(Ok(Some(protocol))) => {
            // The first bytes have been read to detect the protocol: they are read again.
            let socket = Socket::new(socket).after(prefix.read()).limit_write(write, metrics);
            match protocol {
                Protocol::Http1 => {
                    let full = socket.full();
                    // HTTP/1 writes to the socket directly, so a flush only waits until the socket
                    // accepts more.
                    let flush = move |_: &mut task::Context<'_>| match full.load(Ordering::Relaxed) {
                        true => Poll::Pending,
                        false => Poll::Ready(Ok(())),
                    };
                    speak(socket, flush, peer, protocol, Via::Plain, context, usage).await;
                }
                Protocol::Http2 => {
                    let cork = Cork::new(socket);
                    let mut flusher = cork.flusher();
                    let flush = move |cx: &mut task::Context<'_>| flusher.poll(cx);
                    speak(Socket::new(cork), flush, peer, protocol, Via::Plain, context, usage).await;
                }
            }
        }
        Ok(Ok(None)) => {}
        Ok(Err(err)) => debug!(%err, "connection lost"),
        Err(_) => {
            metrics.refuse(Reason::FirstByte);
            debug!("no first byte in time");
        }
    }
}

/// Written bytes that the peer has not accepted; they count as an exchange of the connection.
struct Unsent<'a> {
    usage: &'a Arc<Usage>,
    is_begun: bool,
}

impl<'a> Unsent<'a> {
    fn new(usage: &'a Arc<Usage>) -> Self {
        Self { usage, is_begun: false }
    }

    /// Sets whether there are such bytes.
    fn set(&mut self, some: bool) {
        if some == self.is_begun {
            return;
        }
        self.is_begun = some && self.usage.begin();
        if !some {
            self.usage.end(Instant::now());
        }
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// The transport of requests.
#[derive(Debug)]
enum Via {
    /// TCP without TLS.
    Plain,
    /// TLS; `early` is true until the handshake is complete.
    Tls { early: Arc<AtomicBool> },
}

/// Serves HTTP on a connection whose protocol is known. `flush` sends the bytes that the socket has
/// gathered, and is pending until they are sent.
///
/// Each protocol's future is in a separate allocation: a task that waits for a part holds no memory
/// for TLS or HTTP/2, and thousands are woken at once.
async fn speak<S>(
    socket: Socket<S>,
    mut flush: impl FnMut(&mut task::Context<'_>) -> Poll<io::Result<()>>,
    peer: SocketAddr,
    protocol: Protocol,
    via: Via,
    context: Arc<Context>,
    usage: Arc<Usage>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = match protocol {
        Protocol::Http1 => {
            let alt_svc = context.alt_svc.as_ref().filter(|_| matches!(via, Via::Tls { .. }));
            let secure = matches!(via, Via::Tls { .. });
            let mut plain = Box::pin(h1::serve(socket, peer, secure, alt_svc, &context, &usage));
            let mut unsent = Unsent::new(&usage);
            let ended = poll_fn(|cx| {
                let ended = plain.as_mut().poll(cx);
                let flushed = flush(cx);
                unsent.set(flushed.is_pending());
                match flushed {
                    Poll::Ready(Err(err)) if ended.is_pending() => Poll::Ready(Err(err)),
                    _ => ended,
                }
            });
            match ended.await {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(err) => {
                    debug!(%err, "connection closed");
                    return;
                }
            }
        }
        Protocol::Http2 => socket,
    };
    Box::pin(speak_all(socket, flush, peer, protocol, via, context, usage)).await;
}

/// Serves HTTP/1 or HTTP/2 with hyper.
async fn speak_all<S>(
    socket: Socket<S>,
    mut flush: impl FnMut(&mut task::Context<'_>) -> Poll<io::Result<()>>,
    peer: SocketAddr,
    protocol: Protocol,
    via: Via,
    context: Arc<Context>,
    usage: Arc<Usage>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (config, metrics) = (&context.config, context.router.metrics());
    let activity = Arc::new(Activity::default());
    let schedule = Arc::<Schedule>::default();
    let mut unsent = Unsent::new(&usage);
    let flush = |cx: &mut task::Context<'_>| {
        let flushed = flush(cx);
        unsent.set(flushed.is_pending());
        schedule.round(flushed.is_ready());
        flushed
    };
    let requests = Arc::new(Requests {
        context: Arc::clone(&context),
        activity: Arc::clone(&activity),
        schedule: Arc::clone(&schedule),
        usage: Arc::clone(&usage),
        peer,
        protocol,
        via,
    });
    let service = service_fn(|request| Arc::clone(&requests).answer(request));
    let ended = match protocol {
        Protocol::Http1 => {
            let socket = TokioIo::new(socket.limit_header(ms(config.header_ms), &activity, metrics));
            let max_header_bytes = usize::try_from(config.max_header_bytes).unwrap_or(usize::MAX);
            let mut builder = http1::Builder::new();
            builder
                // hyper would use a timer for each head. Here the socket has a timer for a slow
                // head, and the connection is inspected at intervals.
                .header_read_timeout(None)
                .max_headers(usize::try_from(config.max_headers).unwrap_or(usize::MAX))
                .max_header_size(max_header_bytes)
                .max_buf_size(BUFFER.max(max_header_bytes));
            run(
                builder.serve_connection(socket, service),
                flush,
                &context,
                &activity,
                &usage,
                protocol,
            )
            .await
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
            run(
                builder.serve_connection(TokioIo::new(socket), service),
                flush,
                &context,
                &activity,
                &usage,
                protocol,
            )
            .await
        }
    };
    if let Err(err) = ended {
        if err.is_parse() {
            metrics.refuse(Reason::Malformed);
        }
        debug!(%err, "connection closed");
    }
}

/// Drives a connection, ends it at shutdown, and inspects it at intervals. The inspection detects a
/// connection without a request, and, in protocols whose responses do not wait for each other, a
/// response that is not accepted.
async fn run<C>(
    connection: C,
    mut flush: impl FnMut(&mut task::Context<'_>) -> Poll<io::Result<()>>,
    context: &Context,
    activity: &Activity,
    usage: &Usage,
    protocol: Protocol,
) -> Result<(), C::Error>
where
    C: GracefulConnection,
{
    let (write, idle) = (ms(context.config.write_ms), ms(context.config.idle_ms));
    let mut connection = pin!(connection);
    let pace = match protocol {
        Protocol::Http1 => idle / LOOKS,
        Protocol::Http2 => write,
    };
    let mut look = interval_at(Instant::now() + pace, pace);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draining = false;
    // HTTP/1 announces it in its next response.
    let mut retired = protocol == Protocol::Http1;
    let mut begun = 0;
    let mut quiet_since = None;
    let mut yielding = YieldOnce::default();
    let mut closed = pin!(usage.closed());
    loop {
        tokio::select! {
            // Bytes that the protocol has written are sent when it has done all that it can for
            // now.
            ended = poll_fn(|cx| {
                // While more responses are being made, they are gathered.
                if protocol == Protocol::Http2 && activity.is_busy() {
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
                connection.as_mut().graceful_shutdown();
                // The last bytes are not waited for if the peer does not accept them.
                return poll_fn(|cx| match (connection.as_mut().poll(cx), flush(cx)) {
                    (Poll::Ready(ended), _) => Poll::Ready(ended),
                    (Poll::Pending, _) => Poll::Ready(Ok(())),
                })
                .await;
            }
            () = context.drain.triggered(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = context.retire.triggered(), if !retired => {
                retired = true;
                connection.as_mut().graceful_shutdown();
            }
            now = look.tick() => {
                let deliveries = activity.inspect(pace);
                // HTTP/1 has one response at a time, which the socket's limit covers.
                if deliveries == Deliveries::Stalled && protocol == Protocol::Http2 {
                    context.router.metrics().refuse(Reason::Write);
                    return Ok(());
                }
                let quiet = deliveries == Deliveries::None && !activity.is_busy() && activity.begun() == begun;
                begun = activity.begun();
                quiet_since = quiet.then(|| quiet_since.unwrap_or(now));
                if quiet_since.is_some_and(|since| now.duration_since(since) >= idle) {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Produces the responses of one connection.
struct Requests {
    context: Arc<Context>,
    activity: Arc<Activity>,
    schedule: Arc<Schedule>,
    usage: Arc<Usage>,
    peer: SocketAddr,
    protocol: Protocol,
    via: Via,
}

impl Requests {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let _busy = self.activity.begin();
        let early = matches!(&self.via, Via::Tls { early } if early.load(Ordering::Acquire));
        let secure = matches!(self.via, Via::Tls { .. });
        let mut answering = self.context.answer(request, self.peer, secure, early);
        // A connection with incomplete requests only counts as idle.
        answering.whole().await;
        let Some(in_flight) = self.usage.exchange() else {
            // The connection ends before this can be sent.
            return Ok(answer::refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "closing\n",
                Lifetime::NoStore,
            ));
        };
        let mut response = answering.await;
        response.body_mut().hold(in_flight);
        self.activity.watch(response.body_mut());
        match self.protocol {
            Protocol::Http2 => {
                response.body_mut().schedule(&self.schedule);
            }
            // The next request reaches another process. Closing between requests could cross one in
            // transit.
            Protocol::Http1 if self.context.retire.is_triggered() => {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Protocol::Http1 => {}
        }
        if let Some(alt_svc) = &self.context.alt_svc
            && let Via::Tls { .. } = self.via
        {
            response.headers_mut().insert(header::ALT_SVC, alt_svc.clone());
        }
        Ok(response)
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
