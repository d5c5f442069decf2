//! HTTP/1.1 as players and caches speak it: one plain request after the other, each answered from memory. The first that is not plain ends
//! this, and the connection goes on in hyper's machine, which gets it with all that was read.
//!
//! What waits here is small, since thousands wait for one part: no buffer, no timer for its wait, and when its part comes it looks at nothing
//! else before its answer is written. RFC 9112; heads are `head`'s.

mod head;

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
use http::{HeaderValue, Method, Response, header};
use http_body::Body as _;
use net_core::Usage;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{coop::consume_budget, unconstrained},
    time::{Instant, Sleep, sleep_until},
};

use self::head::{Framing, Head};
use crate::{
    answering::Answering,
    body::{Body, Data},
    config::ms,
    connection, date,
    metrics::Reason,
    socket::Socket,
};

/// What one read may bring.
const READ: usize = 16 << 10;
/// An answer that is no longer is written in one piece: going through a list of pieces takes the kernel longer than the copy.
const SMALL: usize = 4 << 10;
/// Pieces of one write.
const PIECES: usize = 64;
const CRLF: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

thread_local! {
    /// What is read and what is written pass through here: connections that wait hold no buffers, and this is in the processor's cache.
    static READING: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
    static WRITING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection between requests.
struct Connection<'a, S> {
    socket: Socket<S>,
    /// What has been read, and not yet taken as a request.
    input: BytesMut,
    alarm: Alarm,
    context: &'a connection::Context,
    usage: &'a Arc<Usage>,
}

/// Serves plain requests of `peer`, over TLS if `secure`; `alt_svc` stands in each answer. What is left when one comes that is not plain: for another machine.
///
/// # Errors
/// The connection is lost, or its peer did not keep to the limits.
pub(crate) async fn serve<S>(
    socket: Socket<S>,
    peer: SocketAddr,
    secure: bool,
    alt_svc: Option<&HeaderValue>,
    context: &connection::Context,
    usage: &Arc<Usage>,
) -> io::Result<Option<Socket<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        socket,
        input: BytesMut::new(),
        alarm: Alarm::new(),
        context,
        usage,
    };
    // Each wakes this task when it is told; whether it was, is asked where it matters.
    let mut drain = pin!(context.drain.triggered());
    poll_fn(|cx| Poll::Ready((drain.as_mut().poll(cx).is_ready(), usage.poll_closed(cx).is_ready()))).await;
    loop {
        let (answering, to_head) = match connection.request().await? {
            // Its place was given to another while it was idle.
            Some(Head::Plain(_)) if !usage.begin() => break,
            Some(Head::Plain(request)) => {
                let to_head = request.method() == Method::HEAD;
                // Early data or not: a plain request reads.
                (context.answer(request, peer, secure, false), to_head)
            }
            Some(Head::Other) => {
                let Connection { socket, input, .. } = connection;
                return Ok(Some(socket.after(input.freeze())));
            }
            None => break,
        };
        let (rest, last) = connection.answer(answering, to_head, alt_svc).await?;
        if let Some(mut rest) = rest {
            poll_fn(|cx| rest.poll(&mut connection, cx)).await?;
        }
        if last {
            break;
        }
        // Who asks ahead for much is answered in turns with others.
        consume_budget().await;
        connection.alarm.quiet_since = Instant::now();
        usage.end(connection.alarm.quiet_since);
    }
    poll_fn(|cx| match Pin::new(&mut connection.socket).poll_shutdown(cx) {
        // A peer that does not take the farewell is not waited for when another needs the place.
        Poll::Pending if usage.is_closed() => Poll::Ready(Ok(())),
        shutdown => shutdown,
    })
    .await?;
    Ok(None)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// The next request, or what is none that is read here; `None` if the peer has no more, or too long no other.
    async fn request(&mut self) -> io::Result<Option<Head>> {
        let mut seen = 0;
        let mut begun = None;
        poll_fn(|cx| {
            loop {
                if self.input.len() > seen {
                    let config = &self.context.config;
                    let max_bytes = usize::try_from(config.max_header_bytes).unwrap_or(usize::MAX);
                    let max_lines = usize::try_from(config.max_headers).unwrap_or(usize::MAX);
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

    /// Answers a request: what is left to write of it, and whether the connection ends then.
    async fn answer(
        &mut self,
        mut answering: Answering<'_>,
        to_head: bool,
        alt_svc: Option<&HeaderValue>,
    ) -> io::Result<(Option<Answer>, bool)> {
        let context = self.context;
        poll_fn(|cx| {
            let Poll::Ready(mut response) = Pin::new(&mut answering).poll(cx) else {
                return self.poll_gone(cx).map(Err);
            };
            if let Some(alt_svc) = alt_svc {
                response.headers_mut().insert(header::ALT_SVC, alt_svc.clone());
            }
            let last = response.headers().contains_key(header::CONNECTION)
                || context.retire.is_triggered()
                || context.drain.is_triggered();
            let rest = Answer::begin(response, to_head, last, &mut self.socket, cx)?;
            Poll::Ready(Ok((rest, last)))
        })
        .await
    }

    /// Whether it has been waited for long enough for a head's rest, that began to come then, or for another request.
    fn poll_limits(&mut self, begun: Option<Instant>, cx: &mut Context<'_>) -> Poll<io::Result<Option<Head>>> {
        if self.usage.is_closed() {
            return Poll::Ready(Ok(None));
        }
        let config = &self.context.config;
        let Some(begun) = begun else {
            if self.context.drain.is_triggered() {
                return Poll::Ready(Ok(None));
            }
            let until = self.alarm.quiet_since + ms(config.idle_ms);
            return self.alarm.poll(until, cx).map(|()| Ok(None));
        };
        ready!(self.alarm.poll(begun + ms(config.header_ms), cx));
        self.context.router.metrics().refuse(Reason::Header);
        let why = "a request's head took too long";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    /// Reads what is there; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READING.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            self.input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Reads ahead while an answer is waited for: ready if the peer has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // Who sends so much ahead is answered first.
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

/// An answer on its way.
struct Answer {
    body: Body,
    framing: Framing,
    /// Its head, or a chunk's; then bytes of the body, and what ends a chunk.
    front: Vec<u8>,
    written: usize,
    data: Option<Data>,
    back: &'static [u8],
    /// Nothing follows what is here.
    ends: bool,
}

impl Answer {
    /// Writes what is small and there at once; what is left.
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
            let mut framing = date::with(|date| head::write(output, &response, to_head, last, date));
            let mut body = match framing {
                Framing::Bodiless => Body::empty(),
                Framing::Length(_) | Framing::Chunked => response.into_body(),
            };
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

    /// Writes all that there is and comes; ready when the socket has taken it.
    fn poll<S>(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            if !self.ends && self.data.is_none() && self.back.is_empty() {
                let came = self.poll_body(cx)?;
                if came.is_pending() && self.is_written() {
                    // The rest is awaited: a peer that has gone must not be served for ever.
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
            // Cut short, so that it does not pass for the whole.
            Some(Err(err)) => return Poll::Ready(Err(io::Error::other(err))),
            None => return Poll::Ready(self.end()),
        };
        if let Ok(data) = frame.into_data()
            && data.has_remaining()
        {
            self.framing.count(data.remaining())?;
            if self.framing == Framing::Chunked {
                self.front
                    .extend_from_slice(format!("{:x}\r\n", data.remaining()).as_bytes());
                self.back = CRLF;
            }
            self.data = Some(data);
        }
        if self.body.is_end_stream() && self.framing != Framing::Chunked {
            return Poll::Ready(self.end());
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> io::Result<()> {
        self.ends = true;
        if self.framing == Framing::Chunked {
            self.back = LAST_CHUNK;
        }
        self.framing.end()
    }

    fn is_written(&self) -> bool {
        self.written == self.front.len() && self.data.is_none() && self.back.is_empty()
    }

    fn poll_write<S>(&mut self, socket: &mut Socket<S>, cx: &mut Context<'_>) -> Poll<io::Result<()>>
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
        // Of more pieces than that the rest comes first.
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

    /// So many bytes have been written.
    fn advance(&mut self, mut count: usize) {
        let of_front = count.min(self.front.len() - self.written);
        self.written += of_front;
        count -= of_front;
        if self.written == self.front.len() {
            // A head's memory is not held while more is awaited.
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

/// One timer for all limits of a connection. It is left as it is when what it was for is over, and asked only where it may have rung: most
/// connections never touch it again.
#[derive(Debug)]
struct Alarm {
    /// Since when there has been no request.
    quiet_since: Instant,
    rings: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn new() -> Self {
        Self {
            quiet_since: Instant::now(),
            rings: None,
            sleep: None,
        }
    }

    /// Ready at `until`. The task that asks first is the one that is woken.
    fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            if until <= now {
                return Poll::Ready(());
            }
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
            // A task that has used up its turn would not be heard, and never ask again.
            let rang = Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx);
            self.rings = Some(until);
            ready!(rang);
        }
    }
}
