//! HTTP/1.1 for players and caches: plain requests one after the other, each served from memory.
//! The first request that is not plain ends this; the connection continues in hyper, with all bytes
//! read so far.
//!
//! A waiting connection is small, because thousands wait for one part: it holds no buffer and no
//! timer for its wait, and when its part appears, the response is written before anything else is
//! checked. RFC 9112; heads are in `head`.

pub(crate) mod head;

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use http::{Method, Response, header};
use http_body::Body as _;
use net_core::Usage;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{coop::consume_budget, unconstrained},
    time::{Instant, Sleep, sleep_until},
};

use self::head::{Framing, Head};
use crate::{
    body::{Body, Data},
    context,
    metrics::Reason,
    pending::{self, Pending},
    service::Service,
    socket::Socket,
};

/// Limit of one read in bytes.
const READ: usize = 16 << 10;
/// A response up to this size in bytes, head included, is written as one piece: the kernel needs
/// more time for a list of pieces than the copy takes.
const SMALL: usize = 4 << 10;
/// Limit of pieces in one vectored write.
const PIECES: usize = 64;
/// The end of a chunk's data, and the last chunk with an empty trailer section (RFC 9112 7.1).
const CRLF: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

thread_local! {
    /// Shared buffers for reading and writing: waiting connections hold none, and these stay in the
    /// processor's cache.
    static READING: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
    static WRITING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection between requests.
struct Connection<'a, S, T> {
    socket: Socket<T>,
    /// Bytes read and not yet taken as a request.
    input: BytesMut,
    /// The timer of its limits.
    alarm: Alarm,
    context: &'a context::Context<S>,
    usage: &'a Arc<Usage>,
}

/// Serves plain requests of `peer`, over TLS if `secure`. Returns the socket at the first
/// request that is not plain: hyper reads it, and all later ones. `None`: the connection has ended.
///
/// Responses are written in the order of the requests (RFC 9112 9.3.2). The connection ends after a
/// response with `Connection: close`, after `Config::idle` without a request, at shutdown, and if
/// `usage` closes it while it is idle.
///
/// # Errors
/// The connection is lost, or its peer exceeded a limit.
pub(crate) async fn serve<S, T>(
    socket: Socket<T>,
    peer: SocketAddr,
    secure: bool,
    context: &context::Context<S>,
    usage: &Arc<Usage>,
) -> io::Result<Option<Socket<T>>>
where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection =
        Connection { socket, input: BytesMut::new(), alarm: Alarm::new(), context, usage };
    // Each wakes this task when it is triggered; its state is checked where it matters.
    let mut drain = pin!(context.drain.triggered());
    poll_fn(|cx| {
        Poll::Ready((drain.as_mut().poll(cx).is_ready(), usage.poll_closed(cx).is_ready()))
    })
    .await;
    loop {
        let (pending, to_head) = match connection.request().await? {
            // The connection was closed for another while it was idle.
            Some(Head::Plain(_)) if !usage.begin() => break,
            Some(Head::Plain(request)) => {
                let to_head = request.method() == Method::HEAD;
                // A plain request is safe, so early data needs no special treatment.
                (pending::begin(context, request, context.client(peer, secure, false)), to_head)
            }
            Some(Head::Other) => {
                let Connection { socket, input, .. } = connection;
                return Ok(Some(socket.after(input.freeze())));
            }
            None => break,
        };
        let (rest, last) = connection.respond(pending, to_head).await?;
        if let Some(mut rest) = rest {
            poll_fn(|cx| rest.poll(&mut connection, cx)).await?;
        }
        if last {
            break;
        }
        // A peer with many pipelined requests takes turns with others.
        consume_budget().await;
        connection.alarm.quiet_since = Instant::now();
        usage.end(connection.alarm.quiet_since);
    }
    poll_fn(|cx| match Pin::new(&mut connection.socket).poll_shutdown(cx) {
        // If another connection needs the permit, the last bytes are not waited for.
        Poll::Pending if usage.is_closed() => Poll::Ready(Ok(())),
        shutdown => shutdown,
    })
    .await?;
    Ok(None)
}

impl<S: Service, T: AsyncRead + AsyncWrite + Unpin> Connection<'_, S, T> {
    /// The next plain request, or [`Head::Other`] if the next bytes are not one. `None` if the peer
    /// has closed, or if no request has begun when the connection is to end.
    ///
    /// # Errors
    /// The connection is lost, or a head is incomplete after `Config::header`.
    async fn request(&mut self) -> io::Result<Option<Head>> {
        let mut seen = 0;
        let mut begun = None;
        poll_fn(|cx| {
            loop {
                // Only new bytes are examined: a peer that sends a head byte by byte costs no more
                // than one that sends it at once.
                if self.input.len() > seen {
                    let config = &self.context.config;
                    let (max_bytes, max_lines) = (config.header_bytes(), config.headers());
                    if let Some(found) = head::take(&mut self.input, seen, max_bytes, max_lines) {
                        if self.input.is_empty() {
                            self.input = BytesMut::new();
                        }
                        return Poll::Ready(Ok(Some(found)));
                    }
                    seen = self.input.len();
                    begun.get_or_insert_with(Instant::now);
                }
                match self.poll_read(cx)? {
                    Poll::Ready(0) => return Poll::Ready(Ok(None)),
                    Poll::Ready(_) => {}
                    Poll::Pending => return self.poll_limits(begun, cx),
                }
            }
        })
        .await
    }

    /// Produces a response, and writes what the socket accepts of it at once. Returns the rest, and
    /// whether the connection ends after it.
    ///
    /// # Errors
    /// The connection is lost, also while the response is awaited: the request is then cancelled.
    async fn respond(
        &mut self,
        mut pending: Pending<'_, S>,
        to_head: bool,
    ) -> io::Result<(Option<Outgoing>, bool)> {
        let context = self.context;
        poll_fn(|cx| {
            let Poll::Ready(response) = Pin::new(&mut pending).poll(cx) else {
                return self.poll_gone(cx).map(Err);
            };
            // The service sets `Connection` only to close. At `retire` and `drain` the next request
            // should reach another process.
            let last = response.headers().contains_key(header::CONNECTION)
                || context.retire.is_triggered()
                || context.drain.is_triggered();
            let rest = Outgoing::begin(response, to_head, last, &mut self.socket, cx)?;
            Poll::Ready(Ok((rest, last)))
        })
        .await
    }

    /// Checks the time limits: `Config::header` for the rest of a head whose first byte arrived at
    /// `begun`, or `Config::idle` for the wait for another request.
    fn poll_limits(
        &mut self,
        begun: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Head>>> {
        if self.usage.is_closed() {
            return Poll::Ready(Ok(None));
        }
        let config = &self.context.config;
        let Some(begun) = begun else {
            if self.context.drain.is_triggered() {
                return Poll::Ready(Ok(None));
            }
            let until = self.alarm.quiet_since + config.idle;
            return self.alarm.poll(until, cx).map(|()| Ok(None));
        };
        // An incomplete head is not a request in progress, so shutdown does not extend its time.
        ready!(self.alarm.poll(begun + config.header, cx));
        self.context.metrics.refuse(Reason::Header);
        let why = "a request's head took too long";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    /// Reads the available bytes; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READING.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            self.input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Reads ahead during the wait for a response. Ready if the peer has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // A peer that has sent this many bytes ahead is served first.
        while self.input.len() < READ {
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(err) => return Poll::Ready(err),
            }
        }
        Poll::Pending
    }
}

/// A response being sent: `front`, then `data`, then `back`, in one vectored write where possible.
/// Chunks of a chunked body take the three in turn.
struct Outgoing {
    body: Body,
    framing: Framing,
    /// The response's head with the first bytes of the body, or the size line of a chunk.
    front: Vec<u8>,
    /// Bytes of `front` that the socket has accepted.
    written: usize,
    /// The body's bytes after `front`, not copied.
    data: Option<Data>,
    /// The rest of the end of a chunk, or of the last chunk.
    back: &'static [u8],
    /// No bytes of the response follow those that are here.
    ends: bool,
}

impl Outgoing {
    /// Writes the head with small, available content at once. Returns the rest, or `None` if all
    /// was written.
    ///
    /// # Errors
    /// The socket's, the body's, or a body whose length is not the stated one.
    fn begin<S>(
        response: Response<Body>,
        to_head: bool,
        last: bool,
        socket: &mut Socket<S>,
        cx: &mut Context<'_>,
    ) -> io::Result<Option<Self>>
    where
        S: AsyncWrite + Unpin,
    {
        WRITING.with_borrow_mut(|output| {
            output.clear();
            let mut framing = head::write(output, &response, to_head, last);
            let mut body = match framing {
                Framing::Bodiless => Body::empty(),
                Framing::Length(_) | Framing::Chunked => response.into_body(),
            };
            // Most responses are playlists, or whole parts that fit beside their head: they are
            // copied, so that one write sends them and nothing is allocated.
            let room = SMALL.saturating_sub(output.len()) as u64;
            if body.len().is_some_and(|len| (1..=room).contains(&len))
                && let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(cx)
                && let Ok(mut data) = frame.map_err(io::Error::other)?.into_data()
            {
                framing.count(data.remaining())?;
                while data.has_remaining() {
                    output.extend_from_slice(data.chunk());
                    data.advance(data.chunk().len());
                }
            }
            // A response that continues is not written here: `poll` sends its head with the first
            // bytes of its body in one vectored write.
            let ends = framing != Framing::Chunked && body.is_end_stream();
            let mut written = 0;
            if ends {
                framing.end()?;
            }
            if ends && let Poll::Ready(count) = Pin::new(socket).poll_write(cx, output) {
                written = count?;
                if written == output.len() {
                    return Ok(None);
                }
            }
            Ok(Some(Self {
                body,
                framing,
                front: output[written..].to_vec(),
                written: 0,
                data: None,
                back: b"",
                ends,
            }))
        })
    }

    /// Writes all available bytes and those that follow. Ready when the socket has accepted them.
    fn poll<S, T>(
        &mut self,
        connection: &mut Connection<'_, S, T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        S: Service,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            // The body is polled when its previous bytes were accepted, so that at most one of its
            // frames is held.
            if !self.ends && self.data.is_none() && self.back.is_empty() {
                let polled = self.poll_body(cx)?;
                if polled.is_pending() && self.is_written() {
                    // More content is awaited. A peer that has gone must not be served for ever.
                    return connection.poll_gone(cx).map(Err);
                }
            }
            if self.is_written() {
                if self.ends {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            ready!(self.poll_write(&mut connection.socket, cx))?;
        }
    }

    /// Takes the body's next bytes, or its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            // Cut, so that the peer does not take the body for complete.
            Some(Err(err)) => return Poll::Ready(Err(io::Error::other(err))),
            None => return Poll::Ready(self.end()),
        };
        // Trailers are dropped: no client of a plain request has asked for them with TE (RFC 9110
        // 6.5.1). An empty chunk would end the body.
        if let Ok(data) = frame.into_data()
            && data.has_remaining()
        {
            self.framing.count(data.remaining())?;
            if self.framing == Framing::Chunked {
                self.front.extend_from_slice(format!("{:x}\r\n", data.remaining()).as_bytes());
                self.back = CRLF;
            }
            self.data = Some(data);
        }
        if self.body.is_end_stream() && self.framing != Framing::Chunked {
            return Poll::Ready(self.end());
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the body. Chunked: the last chunk follows.
    ///
    /// # Errors
    /// The body is shorter than its stated length.
    fn end(&mut self) -> io::Result<()> {
        self.ends = true;
        if self.framing == Framing::Chunked {
            self.back = LAST_CHUNK;
        }
        self.framing.end()
    }

    /// Whether the socket has accepted all bytes that are here.
    fn is_written(&self) -> bool {
        self.written == self.front.len() && self.data.is_none() && self.back.is_empty()
    }

    /// Writes as many of the bytes as the socket accepts in one call; there must be some.
    fn poll_write<S>(
        &mut self,
        socket: &mut Socket<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let (mut count, mut here) = (0, 0);
        let front = self.front.get(self.written..).unwrap_or_default();
        if !front.is_empty() {
            pieces[0] = IoSlice::new(front);
            count = 1;
        }
        if let Some(data) = &self.data {
            let more = data.chunks_vectored(&mut pieces[count..PIECES - 1]);
            here = pieces[count..count + more].iter().map(|piece| piece.len()).sum();
            count += more;
        }
        // If there are more pieces than one write can have, the rest goes first.
        if !self.back.is_empty() && self.data.as_ref().map_or(0, Buf::remaining) == here {
            pieces[count] = IoSlice::new(self.back);
            count += 1;
        }
        let wrote = Pin::new(socket).poll_write_vectored(cx, &pieces[..count]);
        match ready!(wrote)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => {
                self.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Accounts for `count` written bytes, in the order `front`, `data`, `back`.
    fn advance(&mut self, mut count: usize) {
        let of_front = count.min(self.front.len() - self.written);
        self.written += of_front;
        count -= of_front;
        if self.written == self.front.len() {
            // The memory of a head is not held while more content is awaited.
            self.front = Vec::new();
            self.written = 0;
        }
        if let Some(data) = &mut self.data {
            let of_data = count.min(data.remaining());
            data.advance(of_data);
            count -= of_data;
            if !data.has_remaining() {
                self.data = None;
            }
        }
        self.back = self.back.get(count..).unwrap_or_default();
    }
}

/// One timer for all limits of a connection. It is not reset when its purpose is over, and is
/// checked only when it may have expired: most connections never touch it again.
#[derive(Debug)]
struct Alarm {
    /// The time since when there has been no request.
    quiet_since: Instant,
    /// The time at which `sleep` wakes the task, if that time is known to be in the future.
    rings: Option<Instant>,
    /// Created at the first wait: a connection that always has requests needs no timer.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn new() -> Self {
        Self { quiet_since: Instant::now(), rings: None, sleep: None }
    }

    /// Ready at `until`. The task that polls first is the one that is woken.
    fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            if until <= now {
                return Poll::Ready(());
            }
            // A timer that expires before `until` wakes the task in time to be set again. Most
            // limits move later with each request, so that this saves a reset for each.
            if self.rings.is_some_and(|rings| now < rings && rings <= until) {
                return Poll::Pending;
            }
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    sleep.as_mut().reset(until);
                    sleep
                }
                None => self.sleep.insert(Box::pin(sleep_until(until))),
            };
            // Without `unconstrained`, a task that has used up its budget would never register its
            // waker.
            let rang = Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx);
            self.rings = Some(until);
            ready!(rang);
        }
    }
}
