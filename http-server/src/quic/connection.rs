//! One QUIC connection: its handshake, its requests, its limits, and its end.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
    pin::pin,
    sync::{Arc, Mutex},
    task::{self, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h3::{
    error::{Code, ConnectionError},
    server::RequestResolver,
};
use net_core::{ConnectionLimit, Counted, Limit, Permit, limit::CLOSING_WAIT};
use prometheus_client::metrics::gauge::Gauge;
use quinn::{Incoming, ZeroRttAccepted};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at},
};
use tracing::{Instrument, Span, debug};

use crate::{
    Config,
    activity::Deliveries,
    context::Context,
    metrics::{Metrics, Reason},
    service::Service,
};

use super::{
    exchanges::Exchanges,
    request::Requests,
    send_order::{PROBE, Turns},
    settings::SEND_WINDOW,
    transport::{self, wire},
    unidirectional, varint,
};

/// Time limit for the last data of a connection that closes to make room for another one, and for a
/// GOAWAY to a peer that permits no further stream.
const GRACE: Duration = Duration::from_millis(500);
/// A stream type without a meaning, which peers ignore (RFC 9114 6.2.3: 0x1f * N + 0x21).
const RESERVED: u64 = 0x21;

/// The permits with which a connection begins.
pub(super) struct Permits {
    /// The permit among incomplete handshakes.
    pub(super) handshake: Permit,
    /// The permit among all connections, if the peer's address is validated.
    pub(super) admitted: Option<CountedPermit>,
    /// The limit of all connections, for a peer that has no permit of it yet.
    pub(super) limit: Arc<ConnectionLimit>,
    /// Limits the connections that wait for their last data after they have returned their permit.
    pub(super) goaways: Arc<Semaphore>,
}

/// A permit among all connections of HTTP.
pub(super) struct CountedPermit {
    permit: Permit,
    _counted: Counted<Gauge>,
}

impl CountedPermit {
    /// Admits a connection of `address`, after an idle one has closed for it if the limit is
    /// reached. Waits for at most [`CLOSING_WAIT`].
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) async fn admit(
        limit: &Arc<ConnectionLimit>,
        address: IpAddr,
        metrics: &Metrics,
    ) -> Result<Self, Limit> {
        Ok(Self {
            permit: limit.admit(Some(address), CLOSING_WAIT).await?,
            _counted: Counted::new(metrics.connections.clone()),
        })
    }
}

impl Permits {
    /// Ready when the connection is to close for another.
    fn poll_closed(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        poll_closed(Some(&self.handshake), self.admitted.as_ref(), cx)
    }
}

/// Ready if one of the permits is withdrawn.
fn poll_closed(
    handshake: Option<&Permit>,
    admitted: Option<&CountedPermit>,
    cx: &mut task::Context<'_>,
) -> Poll<()> {
    let mut permits = handshake.into_iter().chain(admitted.map(|admitted| &admitted.permit));
    match permits.any(|permit| permit.usage().poll_closed(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }
}

/// Serves one connection to its end, from its first datagram on.
///
/// The client's unidirectional streams are read in a task of their own, its requests in this one. A
/// handshake that exceeds `Config::first_byte`, and a connection that is withdrawn from its limit,
/// are closed.
pub(super) async fn serve<S: Service>(
    incoming: Incoming,
    peer: SocketAddr,
    permits: Permits,
    context: Arc<Context<S>>,
) {
    let opened = tokio::select! {
        opened = open(incoming, &context) => opened,
        () = poll_fn(|cx| permits.poll_closed(cx)) => {
            return debug!("closed during its handshake: connection limit reached");
        }
    };
    let Some((quic, established, mut h3)) = opened else {
        return;
    };
    let usage = permits.admitted.as_ref().map(|admitted| Arc::clone(admitted.permit.usage()));
    let (watched, metrics) = (h3.inner.conn.watched(), context.metrics.clone());
    let others = unidirectional::read(quic.clone(), watched, metrics);
    context.tasks.spawn(others.instrument(Span::current()));
    let requests = Arc::new(Requests {
        context,
        quic,
        activity: Arc::default(),
        exchanges: Exchanges::new(usage),
        turns: Turns::default(),
        done: Notify::default(),
        finished: Mutex::default(),
    });
    let connection = Connection {
        h3,
        requests,
        admitted: permits.admitted,
        stage: Stage::Serving,
        last: None,
        busy: Inspected { begun: 0, at: Instant::now() },
    };
    connection.run(established, permits.handshake, &permits.limit, &permits.goaways, peer).await;
}

/// A connection on which requests may arrive; ready when the handshake is complete; and h3's reader
/// of requests.
type Opened =
    (quinn::Connection, ZeroRttAccepted, h3::server::Connection<transport::Connection, Bytes>);

/// Performs the handshake until requests may arrive: with early data before its end. `None` if it
/// failed; the reason is counted and logged.
///
/// Source: RFC 9001 4.6 (0-RTT), RFC 9114 3.2 and 6.2.1 (control stream).
async fn open<S>(incoming: Incoming, context: &Context<S>) -> Option<Opened> {
    let metrics = &context.metrics;
    let mut connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(err) => {
            metrics.refuse(Reason::Handshake);
            debug!(%err, "quic connection refused");
            return None;
        }
    };
    let limit = Instant::now() + context.config.first_byte;
    // A client's first message may take several datagrams, and its transport parameters are known
    // when all have arrived. A task that opens a stream earlier is not woken when streams become
    // available.
    match timeout_at(limit, connecting.handshake_data()).await {
        Ok(Ok(_)) => {}
        Ok(Err(err)) => {
            metrics.refuse(Reason::Handshake);
            debug!(%err, "quic handshake failed");
            return None;
        }
        Err(_) => {
            metrics.refuse(Reason::FirstByte);
            debug!("quic handshake timed out");
            return None;
        }
    }
    // Data before the end of the handshake are early data (RFC 8446 2.3).
    let (quic, established) = connecting.into_0rtt().ok()?;
    // GREASE (RFC 9114 7.2.8) is off: it would only cost bytes.
    let max_section = u64::from(context.config.max_header_bytes);
    let opening = async {
        let connection = transport::Connection::open(quic.clone(), max_section).await.ok()?;
        let mut builder = h3::server::builder();
        builder.max_field_section_size(max_section).send_grease(false);
        builder.build::<_, Bytes>(connection).await.ok()
    };
    match timeout_at(limit, opening).await {
        Ok(Some(h3)) => Some((quic, established, h3)),
        Ok(None) => {
            metrics.refuse(Reason::Handshake);
            debug!("http/3 connection not opened");
            None
        }
        Err(_) => {
            metrics.refuse(Reason::FirstByte);
            quic.close(wire(Code::H3_GENERAL_PROTOCOL_ERROR.value()), b"quic handshake timed out");
            debug!("quic handshake timed out");
            None
        }
    }
}

/// A connection whose streams are open. Its loop accepts requests and applies its limits; the
/// requests themselves run in `requests`.
struct Connection<S> {
    h3: h3::server::Connection<transport::Connection, Bytes>,
    requests: Arc<Requests<S>>,
    admitted: Option<CountedPermit>,
    /// The way to its end.
    stage: Stage,
    /// The stream of the last accepted request.
    last: Option<u64>,
    /// The last inspection that found it busy.
    busy: Inspected,
}

/// An inspection of a connection.
struct Inspected {
    /// The number of requests begun by then.
    begun: u64,
    /// Its time.
    at: Instant,
}

/// The end of the loop of a connection.
enum End {
    /// The connection is closed already.
    Lost,
    /// It closes when the peer has received the data sent.
    Leave,
    /// It closes at once, with a code and a reason.
    Close(Code, &'static [u8]),
}

/// The result of h3's reader of requests.
type Accepted = Result<Option<RequestResolver<transport::Connection, Bytes>>, ConnectionError>;

/// The result of [`admission`].
type Admission = Result<Option<CountedPermit>, (Code, &'static [u8])>;

/// The steps of a graceful shutdown (RFC 9114 5.2). Each begins when the peer has received the
/// GOAWAY of the step before, however long it takes to read it: a peer that knows of no GOAWAY
/// takes the end of the connection for the failure of a request that it has just sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Requests are accepted, and no GOAWAY was sent.
    Serving,
    /// The peer has been asked to reconnect elsewhere. Requests are still accepted.
    Announced,
    /// Requests from this stream on are rejected. The connection closes when all others are
    /// complete and the peer has received their responses and the GOAWAY.
    Last(u64),
}

impl<S: Service> Connection<S> {
    /// Serves requests until the peer leaves, a limit is exceeded, or the connection is to end.
    ///
    /// `established` is ready when the handshake is complete; `handshake` is the permit that ends
    /// then. `peer` is the address at the start, without an IPv4-mapped form.
    async fn run(
        mut self,
        established: ZeroRttAccepted,
        handshake: Permit,
        limit: &Arc<ConnectionLimit>,
        goaways: &Semaphore,
        peer: SocketAddr,
    ) {
        let requests = Arc::clone(&self.requests);
        let (context, quic, activity) = (&requests.context, &requests.quic, &requests.activity);
        let write = context.config.write;
        let limit = self.admitted.is_none().then_some(limit);
        let mut admission = pin!(admission(established, limit, peer, context));
        let mut handshake = Some(handshake);
        let mut look = interval_at(Instant::now() + write, write);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Polled for the first time when the announcement has been sent.
        let mut announced = pin!(async {
            tokio::select! {
                () = received(quic) => {}
                () = patience(context) => {}
            }
        });
        // Kept across iterations of the loop: beginning to wait takes a lock, and each request
        // takes an iteration.
        let mut retired = pin!(retired(context));
        let end = loop {
            if matches!(self.stage, Stage::Last(_)) && !activity.is_busy() {
                break End::Leave;
            }
            // In the order of urgency (`biased`): requests that h3 has read precede new
            // streams, and both before the limits, so that a busy connection is not closed as idle.
            // An arm that is not chosen loses nothing; the chosen one is carried out to its end.
            let flow = tokio::select! {
                biased;
                request = self.h3.accept() => self.begin(request).await,
                stream = quic.accept_bi() => self.bring(stream),
                admission = &mut admission, if handshake.is_some() => {
                    handshake = None;
                    self.admit(admission)
                }
                () = poll_fn(|cx| poll_closed(handshake.as_ref(), self.admitted.as_ref(), cx)) => {
                    return self.make_room(handshake, goaways).await;
                }
                // A peer whose handshake is incomplete would take the announcement for a failure.
                () = &mut retired, if self.stage == Stage::Serving && handshake.is_none() => {
                    self.announce().await;
                    ControlFlow::Continue(())
                }
                () = &mut announced, if self.stage == Stage::Announced => {
                    self.take_no_more().await;
                    ControlFlow::Continue(())
                }
                () = requests.done.notified(), if matches!(self.stage, Stage::Last(_)) => {
                    ControlFlow::Continue(())
                }
                now = look.tick() => self.inspect(now).await,
            };
            if let ControlFlow::Break(end) = flow {
                break end;
            }
        };
        match end {
            End::Lost => {}
            End::Leave => self.leave(patience(context)).await,
            End::Close(code, reason) => self.close(code, reason),
        }
    }

    /// Begins to respond to a request that h3 has read.
    async fn begin(&mut self, request: Accepted) -> ControlFlow<End> {
        let context = &self.requests.context;
        match request {
            Ok(Some(request)) => {
                let Some(exchange) = self.h3.inner.conn.taken() else {
                    return ControlFlow::Continue(());
                };
                self.last = Some(exchange.id());
                // Most responses are formed at once from memory and need no task, and the responses
                // to all that arrived together leave together. The limit of streams bounds their
                // number.
                let mut response = Box::pin(Arc::clone(&self.requests).respond(request, exchange));
                let polled = poll_fn(|cx| Poll::Ready(response.as_mut().poll(cx))).await;
                if polled.is_pending() {
                    context.tasks.spawn(response.instrument(Span::current()));
                }
                ControlFlow::Continue(())
            }
            // h3 ends here after a GOAWAY of the peer, which it does not read: a client may still
            // send requests.
            Ok(None) => ControlFlow::Break(End::Leave),
            Err(err) => {
                if matches!(err, ConnectionError::Local { .. }) {
                    context.metrics.refuse(Reason::Malformed);
                }
                debug!(%err, "connection closed");
                ControlFlow::Break(End::Lost)
            }
        }
    }

    /// Passes a new stream of the peer to h3, or rejects it after the last request.
    fn bring(
        &mut self,
        stream: Result<(quinn::SendStream, quinn::RecvStream), quinn::ConnectionError>,
    ) -> ControlFlow<End> {
        match (stream, self.stage) {
            (Ok((send, recv)), Stage::Last(limit)) if u64::from(send.id()) >= limit => {
                reject(send, recv);
            }
            (Ok((send, recv)), _) => self.h3.inner.conn.bring_request(send, recv),
            (Err(err), _) => {
                debug!(%err, "connection ended");
                return ControlFlow::Break(End::Lost);
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes the result of [`admission`].
    fn admit(&mut self, admission: Admission) -> ControlFlow<End> {
        match admission {
            Ok(Some(admitted)) => {
                self.requests.exchanges.admit(admitted.permit.usage());
                self.admitted = Some(admitted);
            }
            Ok(None) => {}
            Err((code, reason)) => return ControlFlow::Break(End::Close(code, reason)),
        }
        ControlFlow::Continue(())
    }

    /// Closes the connection for another one. `handshake` is present until the handshake is
    /// complete.
    async fn make_room(mut self, handshake: Option<Permit>, goaways: &Semaphore) {
        debug!("closed while idle: connection limit reached");
        // The peer may be slow, and no other connection waits for it.
        let is_established = handshake.is_none();
        drop((handshake, self.admitted.take()));
        let Ok(_goaway) = goaways.try_acquire() else {
            return self.close(Code::H3_NO_ERROR, b"goodbye");
        };
        // Requests in transit may be repeated elsewhere.
        if is_established {
            self.take_no_more().await;
        }
        self.leave(sleep(GRACE)).await;
    }

    /// Inspects the connection at an interval of `Config::write`: closes it if its peer accepts no
    /// bytes, and announces its end if it is idle.
    async fn inspect(&mut self, now: Instant) -> ControlFlow<End> {
        let Requests { context, activity, .. } = &*self.requests;
        let deliveries = activity.inspect(context.config.write);
        if deliveries == Deliveries::Stalled {
            context.metrics.refuse(Reason::Write);
            return ControlFlow::Break(End::Close(
                Code::H3_EXCESSIVE_LOAD,
                b"the peer accepts no bytes",
            ));
        }
        // Idle: no response is sent, no request is open, and none has begun since the last
        // inspection.
        let quiet = deliveries == Deliveries::None
            && !activity.is_busy()
            && activity.begun() == self.busy.begun;
        if !quiet {
            self.busy = Inspected { begun: activity.begun(), at: now };
        } else if now.duration_since(self.busy.at) >= context.config.idle
            && self.stage == Stage::Serving
        {
            self.announce().await;
        }
        ControlFlow::Continue(())
    }

    /// Asks the peer to reconnect elsewhere. Requests in transit are still accepted: the first
    /// GOAWAY names the last possible stream (RFC 9114 5.2). A connection without a request gets
    /// only the last one, because h3 cannot announce another: a request in transit is rejected,
    /// and the client may repeat it.
    async fn announce(&mut self) {
        match self.last {
            Some(_) => {
                self.stage = Stage::Announced;
                self.go_away(usize::MAX).await;
            }
            None => self.take_no_more().await,
        }
    }

    /// Announces the last accepted request (RFC 9114 5.2).
    async fn take_no_more(&mut self) {
        // The stream after the last accepted one; 0 if there was none.
        self.stage = Stage::Last(self.last.map_or(0, |last| last + 4));
        self.go_away(1).await;
    }

    /// Sends GOAWAY with the stream that is `ahead` of the last one that h3 has accepted, or with
    /// the last possible stream.
    async fn go_away(&mut self, ahead: usize) {
        let quic = self.requests.quic.clone();
        // It does not wait behind media that fill the send window.
        quic.set_send_window(SEND_WINDOW + 2 * PROBE);
        // A failure shows when the connection ends. A peer whose own window is full is not waited
        // for, because it may send requests meanwhile.
        let _ = timeout(GRACE, self.h3.shutdown(ahead)).await;
        quic.set_send_window(SEND_WINDOW);
    }

    /// Closes the connection when the peer has received the data sent, or when `limit` is ready.
    /// Until then, new requests are rejected.
    async fn leave(self, limit: impl Future<Output = ()>) {
        tokio::select! {
            () = delivered(&self.requests) => {}
            () = limit => {}
        }
        self.close(Code::H3_NO_ERROR, b"goodbye");
    }

    /// Closes the connection at once. Data that have not arrived are lost.
    fn close(self, code: Code, reason: &[u8]) {
        self.requests.quic.close(wire(code.value()), reason);
    }
}

/// Waits until a peer has had enough time to receive the data sent: `Config::write`. During a stop
/// of the server it is a quarter of `Config::drain`, because the peer may have disappeared.
async fn patience<S>(context: &Context<S>) {
    let Config { write, drain, .. } = context.config;
    tokio::select! {
        () = sleep(write) => {}
        () = async {
            context.drain.triggered().await;
            sleep(drain / 4).await;
        } => {}
    }
}

/// Waits for the end of the handshake, which validates the peer's address, and then for a permit of
/// `limit`, which is `None` if the connection has one.
///
/// # Errors
/// The code and the reason with which the connection closes.
async fn admission<S>(
    established: ZeroRttAccepted,
    limit: Option<&Arc<ConnectionLimit>>,
    peer: SocketAddr,
    context: &Context<S>,
) -> Admission {
    if timeout(context.config.first_byte, established).await.is_err() {
        context.metrics.refuse(Reason::FirstByte);
        return Err((Code::H3_GENERAL_PROTOCOL_ERROR, b"quic handshake timed out"));
    }
    let Some(limit) = limit else { return Ok(None) };
    let admitted = CountedPermit::admit(limit, peer.ip(), &context.metrics).await;
    admitted.map(Some).map_err(|_| (Code::H3_EXCESSIVE_LOAD, &b"too many connections"[..]))
}

/// Rejects a request before any of it is processed. The client may safely repeat it elsewhere (RFC
/// 9114 4.1.1).
fn reject(mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
    // The stream may have ended.
    let rejected = wire(Code::H3_REQUEST_REJECTED.value());
    let _ = (recv.stop(rejected), send.reset(rejected));
}

/// Rejects requests until the peer has received all responses, the last GOAWAY and the
/// rejections, or until the connection is lost.
async fn delivered<S: Service>(requests: &Requests<S>) {
    let quic = &requests.quic;
    loop {
        let mut has_rejected = false;
        let mut received = pin!(async {
            requests.arrived().await;
            received(quic).await;
        });
        loop {
            tokio::select! {
                biased;
                request = quic.accept_bi() => match request {
                    Ok((send, recv)) => {
                        has_rejected = true;
                        reject(send, recv);
                    }
                    Err(_) => return,
                },
                () = &mut received => break,
            }
        }
        if !has_rejected {
            return;
        }
    }
}

/// Waits until the peer has received the bytes sent before, or the connection is lost.
///
/// quinn reports only that the end of a stream was acknowledged, and a control stream has none (RFC
/// 9114 6.2.1). So a stream without a meaning is sent after the bytes. QUIC implementations
/// acknowledge a packet when they have processed it, and its predecessors unless they were lost.
async fn received(quic: &quinn::Connection) {
    let Ok(Ok(mut stream)) = timeout(GRACE, quic.open_uni()).await else { return };
    let mut kind = BytesMut::new();
    varint::write(RESERVED, &mut kind);
    // A peer that refuses the stream has received it, too.
    if stream.write_all(&kind).await.is_ok() && stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}

/// Waits for the first of retirement and shutdown.
async fn retired<S>(context: &Context<S>) {
    tokio::select! {
        () = context.retire.triggered() => {}
        () = context.drain.triggered() => {}
    }
}
