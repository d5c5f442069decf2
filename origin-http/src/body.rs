//! The one body that all protocols send: nothing, a text, a rope of media, a segment that still grows, or what the API says.
//!
//! What is complete is one frame: its pieces go to the socket in one vectored write, never joined, whatever their number.

use std::{
    error::Error as StdError,
    fmt,
    io::IoSlice,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use packager::{Follow, Rope};

use crate::{access_log::Entry, urgency::Rank};

/// What a body of the API may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An answer's body.
#[derive(Debug, Default)]
pub struct Body {
    content: Content,
    delivery: Option<Arc<Delivery>>,
    rank: Rank,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Whole(Chunk),
    Growing(Follow),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

/// One frame's bytes, on their way to a socket.
#[derive(Debug)]
pub struct Data {
    chunk: Chunk,
    delivery: Option<Arc<Delivery>>,
}

#[derive(Debug)]
enum Chunk {
    Bytes(Bytes),
    Rope(Rope),
}

/// How far an answer has come, where the protocol itself does not tell: an HTTP/2 stream may stall while its connection goes on.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Bytes handed to the protocol and not yet sent.
    waiting: AtomicUsize,
    /// Bytes sent.
    sent: AtomicU64,
    /// Who wants to know when it is over.
    entry: Option<Entry>,
}

impl Delivery {
    /// Bytes sent so far, if others wait to be.
    pub(crate) fn stalled_at(&self) -> Option<u64> {
        (self.waiting.load(Ordering::Relaxed) > 0).then(|| self.sent.load(Ordering::Relaxed))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.sent(*self.sent.get_mut());
        }
    }
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A segment from its first part to its last, as they come.
    pub fn growing(follow: Follow) -> Self {
        Self {
            content: Content::Growing(follow),
            ..Self::default()
        }
    }

    /// Any other body, such as the API's.
    pub fn boxed<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            content: Content::Boxed(body.map_err(Into::into).boxed_unsync()),
            ..Self::default()
        }
    }

    /// Its length, if known before it is sent.
    pub fn len(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// Whether it is known to have no bytes (left).
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// How far it comes, from now on.
    pub(crate) fn delivery(&mut self) -> &Arc<Delivery> {
        self.delivery.get_or_insert_default()
    }

    /// Completes `entry` when all of it has been sent, or it is given up.
    pub(crate) fn log(&mut self, entry: Entry) {
        let mut delivery = Delivery::default();
        delivery.entry = Some(entry);
        self.delivery = Some(Arc::new(delivery));
    }

    /// Its place among the bodies of its connection.
    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    pub(crate) fn set_rank(&mut self, rank: Rank) {
        self.rank = rank;
    }

    fn data(&self, chunk: Chunk) -> Data {
        if let Some(delivery) = &self.delivery {
            delivery.waiting.fetch_add(chunk.remaining(), Ordering::Relaxed);
        }
        Data {
            chunk,
            delivery: self.delivery.clone(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            content: Content::Whole(Chunk::Bytes(bytes)),
            ..Self::default()
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<Rope> for Body {
    fn from(rope: Rope) -> Self {
        Self {
            content: Content::Whole(Chunk::Rope(rope)),
            ..Self::default()
        }
    }
}

impl HttpBody for Body {
    type Data = Data;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Data>, BoxError>>> {
        let chunk = match &mut self.content {
            Content::Empty => None,
            Content::Whole(_) => match mem::take(&mut self.content) {
                Content::Whole(chunk) if chunk.has_remaining() => Some(chunk),
                _ => None,
            },
            Content::Growing(follow) => loop {
                match ready!(follow.poll_next(cx)) {
                    // An empty chunk would end a chunked body (RFC 9112 7.1).
                    Some(Ok(rope)) if rope.is_empty() => {}
                    Some(Ok(rope)) => break Some(Chunk::Rope(rope)),
                    // The connection ends short: what was sent must not pass for the whole.
                    Some(Err(gone)) => {
                        self.content = Content::Empty;
                        return Poll::Ready(Some(Err(gone.into())));
                    }
                    None => break None,
                }
            },
            Content::Boxed(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                None => None,
                Some(Err(err)) => return Poll::Ready(Some(Err(err))),
                Some(Ok(frame)) => {
                    let frame = frame.map_data(|bytes| self.data(Chunk::Bytes(bytes)));
                    return Poll::Ready(Some(Ok(frame)));
                }
            },
        };
        if chunk.is_none() {
            self.content = Content::Empty;
        }
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(self.data(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(chunk) => !chunk.has_remaining(),
            Content::Growing(_) => false,
            Content::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(chunk) => SizeHint::with_exact(chunk.remaining() as u64),
            Content::Growing(_) => SizeHint::default(),
            Content::Boxed(body) => body.size_hint(),
        }
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
            delivery.waiting.fetch_sub(count, Ordering::Relaxed);
            delivery.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if let Some(delivery) = &self.delivery {
            delivery.waiting.fetch_sub(self.chunk.remaining(), Ordering::Relaxed);
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
