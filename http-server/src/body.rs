//! The body type of all protocols: empty, bytes, a rope, content that still grows, or any other
//! body.
//!
//! Complete content is one frame: its pieces go to the socket in one vectored write and are never
//! joined, whatever their number.

use std::{
    error::Error as StdError,
    fmt,
    io::IoSlice,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use net_core::{InFlight, Rope};

use crate::{
    arrival::{Arrival, Observer},
    delivery::{Delivery, Finish},
    priority::Rank,
    schedule::{self, Schedule, Turn},
};

/// The error of any body.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of a response, the same type in all protocols.
///
/// HTTP/1.1 and HTTP/3 take frames of any size. In HTTP/2 the body takes turns with the others of
/// its connection (`schedule`), and hands over at most what its turn permits.
#[derive(Debug, Default)]
pub struct Body {
    /// Content that has not been taken for a frame.
    content: Content,
    /// Content that is available and waits for its turn.
    staged: Option<Chunk>,
    /// Its progress. `None` if nothing observes it, so that most bodies need no allocation.
    delivery: Option<Arc<Delivery>>,
    /// Its membership in the schedule of its connection, for HTTP/2.
    turn: Option<Turn>,
    /// Its place among the bodies of its connection.
    rank: Rank,
    /// Learns whether it was sent to its end.
    observer: Observer,
}

/// The source of a body's frames.
#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Whole(Chunk),
    Growing(Box<dyn Growing>),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

/// Content whose end is not known yet, for example a part that is listed before its last frame has
/// arrived.
pub trait Growing: Send {
    /// The bytes that were added since the last call; `None` at the end. An empty rope is skipped.
    ///
    /// # Errors
    /// The rest is lost: the connection ends, so that its peer does not take the body for complete.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rope, BoxError>>>;
}

/// The bytes of one frame. Its drop counts the bytes that were not sent as taken back.
#[derive(Debug)]
pub struct Data {
    chunk: Chunk,
    delivery: Option<Arc<Delivery>>,
    /// Of the body, if this is its last frame.
    observer: Observer,
}

/// Consecutive bytes: one piece, or pieces that are sent without being joined.
#[derive(Debug)]
enum Chunk {
    Bytes(Bytes),
    Rope(Rope),
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Content that is sent as it appears.
    pub fn growing(growing: impl Growing + 'static) -> Self {
        Self { content: Content::Growing(Box::new(growing)), ..Self::default() }
    }

    /// Any other body. Its trailers are passed on.
    pub fn boxed<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { content: Content::Boxed(body.map_err(Into::into).boxed_unsync()), ..Self::default() }
    }

    /// The number of bytes left, if it is known before they are sent.
    pub fn len(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// Whether it is known to have no bytes left.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Drops all bytes that have not been handed over, as for HEAD.
    pub(crate) fn clear(&mut self) {
        self.content = Content::Empty;
        self.staged = None;
        self.observer = Observer::default();
    }

    /// Its progress from now on.
    pub(crate) fn delivery(&mut self) -> &Arc<Delivery> {
        self.delivery.get_or_insert_default()
    }

    /// Ends `in_flight` when the body has been sent or is dropped.
    pub(crate) fn hold(&mut self, in_flight: InFlight) {
        self.delivery().hold(in_flight);
    }

    /// Calls `finish` when the body has been sent or is dropped. Must be called before the body is
    /// given to a connection, because it replaces the record of its progress.
    pub fn on_finish(&mut self, finish: Box<dyn Finish>) {
        self.delivery = Some(Arc::new(Delivery::watched(finish)));
    }

    /// Notifies `arrival` when the body has been sent to its end, or is dropped.
    pub fn on_arrival(&mut self, arrival: Box<dyn Arrival>) {
        self.observer = Observer::new(arrival);
    }

    /// Its rank among the bodies of its connection.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Sets the rank; otherwise it is that of a request without a Priority field.
    pub fn set_rank(&mut self, rank: Rank) {
        self.rank = rank;
    }

    /// From now on it takes turns with the others of its connection, if it is larger than a frame
    /// or of unknown length.
    pub(crate) fn schedule(&mut self, schedule: &Arc<Schedule>) {
        // A body of one frame is written in one turn anyway: it would wait without a benefit for
        // the others.
        if self.len().is_none_or(|len| len > schedule::FRAME) {
            let rank = self.rank;
            self.turn = Some(schedule.join(rank, self.delivery()));
        }
    }

    /// Records that there are no bytes to hand over: none at all if it has `ended`, otherwise none
    /// at present. In both cases its turn passes to the next body.
    fn rest(&mut self, ended: bool) {
        if let Some(delivery) = &self.delivery {
            delivery.set_dry(true);
            match &self.turn {
                Some(_) if ended => self.turn = None,
                Some(turn) => turn.rest(delivery),
                None => {}
            }
        }
    }

    /// Counts `chunk` as handed over to the protocol.
    fn data(&self, chunk: Chunk) -> Data {
        if let Some(delivery) = &self.delivery {
            delivery.hand_over(chunk.remaining());
        }
        Data { chunk, delivery: self.delivery.clone(), observer: Observer::default() }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { content: Content::Whole(Chunk::Bytes(bytes)), ..Self::default() }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<Rope> for Body {
    fn from(rope: Rope) -> Self {
        Self { content: Content::Whole(Chunk::Rope(rope)), ..Self::default() }
    }
}

impl HttpBody for Body {
    type Data = Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BoxError>>> {
        // Content is fetched before the turn is awaited: a body without bytes must not
        // keep other bodies waiting.
        let this = &mut *self;
        if this.staged.is_none() {
            // Each way without bytes passes the turn on, so that a body that waits for media, fails
            // or ends never blocks the others.
            match this.content.poll_next(cx) {
                Poll::Pending => {
                    this.rest(false);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) => this.staged = Some(chunk),
                    // Trailers are not scheduled.
                    Err(frame) => {
                        return Poll::Ready(Some(Ok(frame.map_data(|chunk| this.data(chunk)))));
                    }
                },
                Poll::Ready(Some(Err(err))) => {
                    this.rest(true);
                    return Poll::Ready(Some(Err(err)));
                }
                Poll::Ready(None) => {
                    this.rest(true);
                    this.observer.finish(true);
                    return Poll::Ready(None);
                }
            }
            if let Some(delivery) = &this.delivery {
                delivery.set_dry(false);
            }
        }
        // In HTTP/2 a body waits for its turn, and hands over no more than the turn permits.
        let most = match (&this.turn, &this.delivery) {
            (Some(turn), Some(delivery)) => ready!(turn.poll(cx, delivery)),
            _ => usize::MAX,
        };
        // A piece larger than the turn is divided; the rest stays staged for the next turn.
        let chunk = match &mut this.staged {
            Some(staged) if staged.remaining() > most => Some(staged.split_to(most)),
            staged => staged.take(),
        };
        let mut data = chunk.map(|chunk| this.data(chunk));
        if this.is_end_stream() {
            // The last frame knows whether all of it was sent.
            if let Some(data) = &mut data {
                data.observer = mem::take(&mut this.observer);
            }
            this.rest(true);
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    // Staged bytes count as content: hyper would otherwise set END_STREAM before them.
    fn is_end_stream(&self) -> bool {
        self.staged.is_none()
            && match &self.content {
                Content::Empty => true,
                Content::Whole(chunk) => !chunk.has_remaining(),
                Content::Growing(_) => false,
                Content::Boxed(body) => body.is_end_stream(),
            }
    }

    // Staged bytes were taken out of the content, which no longer counts them.
    fn size_hint(&self) -> SizeHint {
        let staged = self.staged.as_ref().map_or(0, |chunk| chunk.remaining() as u64);
        match &self.content {
            Content::Empty => SizeHint::with_exact(staged),
            Content::Whole(chunk) => SizeHint::with_exact(staged + chunk.remaining() as u64),
            Content::Growing(_) => SizeHint::default(),
            Content::Boxed(body) if staged == 0 => body.size_hint(),
            Content::Boxed(_) => SizeHint::default(),
        }
    }
}

impl Content {
    /// The next frame, never empty. Complete content is one frame, whatever its size.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, BoxError>>> {
        // Taking the content leaves `Empty`, so that a later poll reports the end instead of
        // repeating bytes.
        let chunk = match self {
            Self::Empty => None,
            Self::Whole(_) => match mem::take(self) {
                Self::Whole(chunk) if chunk.has_remaining() => Some(chunk),
                _ => None,
            },
            Self::Growing(growing) => loop {
                match ready!(growing.poll_next(cx)) {
                    // An empty chunk would end a chunked body (RFC 9112 7.1).
                    Some(Ok(rope)) if rope.is_empty() => {}
                    Some(Ok(rope)) => break Some(Chunk::Rope(rope)),
                    Some(Err(lost)) => {
                        *self = Self::Empty;
                        return Poll::Ready(Some(Err(lost)));
                    }
                    None => break None,
                }
            },
            Self::Boxed(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                None => None,
                Some(Err(err)) => return Poll::Ready(Some(Err(err))),
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame.map_data(Chunk::Bytes)))),
            },
        };
        if chunk.is_none() {
            *self = Self::Empty;
        }
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Whole(chunk) => f.debug_tuple("Whole").field(&chunk.remaining()).finish(),
            Self::Growing(_) => f.write_str("Growing"),
            Self::Boxed(_) => f.write_str("Boxed"),
        }
    }
}

impl Data {
    /// Its pieces, shared: no byte is copied.
    pub fn pieces(&self) -> Vec<Bytes> {
        match &self.chunk {
            Chunk::Bytes(bytes) => vec![bytes.clone()],
            Chunk::Rope(rope) => rope.pieces().collect(),
        }
    }
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        self.chunk.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.chunk.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.chunk.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.chunk.advance(count);
        if let Some(delivery) = &self.delivery {
            delivery.send(count);
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if let Some(delivery) = &self.delivery {
            delivery.take_back(self.chunk.remaining());
        }
        self.observer.finish(!self.chunk.has_remaining());
    }
}

impl Chunk {
    /// Removes and returns its first `len` bytes.
    fn split_to(&mut self, len: usize) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.split_to(len)),
            Self::Rope(rope) => {
                let first = rope.slice(0, len);
                rope.advance(len);
                Self::Rope(first)
            }
        }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::Rope(rope) => rope.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::Rope(rope) => rope.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::Rope(rope) => rope.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Rope(rope) => rope.advance(count),
        }
    }
}
