//! An answer of an origin in memory, whole or still coming: one writer, any number of readers, each at its own pace, none with a copy.

use std::{
    io, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use packager::Rope;
use prometheus_client::metrics::gauge::Gauge;

use super::freshness::Freshness;

/// What an object costs beside its bytes: its headers, its places in tables.
pub(super) const OVERHEAD: u64 = 1 << 10;
/// What an object's memory grows by at most, so that an origin that announces much and sends little costs little.
const BLOCK: usize = 256 << 10;
/// What is passed on of an origin's headers; the rest is between it and us.
const KEPT: [header::HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CACHE_CONTROL,
    header::ETAG,
    header::VARY,
    header::ACCEPT_RANGES,
    header::DATE,
    header::RETRY_AFTER,
    header::HeaderName::from_static("priority"),
];

/// An answer and how long it may be used.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) status: StatusCode,
    /// Those that are passed on.
    pub(super) headers: HeaderMap,
    pub(super) freshness: Freshness,
    pub(super) content: Arc<Content>,
    /// Asked for since the cache last looked.
    pub(super) used: AtomicBool,
}

/// An object's bytes.
#[derive(Debug)]
pub(super) struct Content {
    /// How many there will be, if the origin said so.
    length: Option<u64>,
    state: Mutex<State>,
    charge: Arc<Charge>,
}

#[derive(Debug, Default)]
struct State {
    pieces: Vec<Bytes>,
    len: u64,
    end: Option<End>,
    /// Readers that wait for more, and how often all were woken: a place is its owner's until then.
    wakers: Vec<Option<Waker>>,
    round: u64,
}

#[derive(Debug, Clone)]
enum End {
    Whole(Rope),
    Short,
}

/// What memory is wanted for. Viewers who read slowly hold what they read: some is kept from what is large, lest they keep the rest away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// A playlist, a manifest, a picture, or why there is nothing: all of the memory.
    Text,
    /// A part or a CMAF header: all but a sixteenth.
    Small,
    /// A segment: all but an eighth.
    Large,
}

/// Memory that objects may take, together.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
    gauge: Gauge,
}

/// What one object has taken of it; given back when the last of its bytes has been sent to whom it was meant for.
#[derive(Debug)]
struct Charge {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

/// Bytes that are charged for as long as anybody has them.
struct Charged {
    bytes: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Budget {
    pub(super) fn new(limit: u64, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            gauge,
        })
    }

    /// Whether so many more would be too many for such a claim.
    pub(super) fn is_short_of(&self, bytes: u64, claim: Claim) -> bool {
        let reserve = match claim {
            Claim::Text => 0,
            Claim::Small => self.limit / 16,
            Claim::Large => self.limit / 8,
        };
        self.used.load(Ordering::Relaxed).saturating_add(bytes) > self.limit - reserve
    }

    fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give(*self.bytes.get_mut());
    }
}

impl Object {
    /// An answer whose bytes are in `content`, or will be.
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, freshness: Freshness, content: Arc<Content>) -> Self {
        let mut kept = HeaderMap::with_capacity(KEPT.len());
        for name in KEPT {
            for value in headers.get_all(&name) {
                kept.append(name.clone(), value.clone());
            }
        }
        Self {
            status,
            headers: kept,
            freshness,
            content,
            used: AtomicBool::new(false),
        }
    }

    /// Whether it may be about the request rather than about what was requested: nobody else is answered so. Origins know of a request what
    /// it asks for and by whom it was passed on.
    pub(super) fn is_of_one_request(&self) -> bool {
        is_of_one_request(self.status)
    }

    /// The same bytes, which the origin has said are still right (RFC 9111 4.3.4).
    pub(super) fn renewed(&self, headers: &HeaderMap, freshness: Freshness) -> Self {
        let mut renewed = Self::new(self.status, headers, freshness, Arc::clone(&self.content));
        for name in self.headers.keys().filter(|name| !headers.contains_key(*name)) {
            for value in self.headers.get_all(name) {
                renewed.headers.append(name, value.clone());
            }
        }
        renewed
    }
}

/// See [`Object::is_of_one_request`].
pub(super) fn is_of_one_request(status: StatusCode) -> bool {
    let of_what = matches!(status.as_u16(), 400 | 404 | 410 | 416);
    (status.is_client_error() && !of_what) || status == StatusCode::LOOP_DETECTED
}

impl Content {
    /// Bytes to come.
    pub(super) fn coming(length: Option<u64>, budget: &Arc<Budget>) -> Arc<Self> {
        budget.take(OVERHEAD);
        Arc::new(Self {
            length,
            state: Mutex::default(),
            charge: Arc::new(Charge {
                budget: Arc::clone(budget),
                bytes: AtomicU64::new(OVERHEAD),
            }),
        })
    }

    /// Bytes that are there.
    pub(super) fn whole(bytes: Bytes, budget: &Arc<Budget>) -> Arc<Self> {
        let content = Self::coming(Some(bytes.len() as u64), budget);
        content.charge(bytes.len() as u64);
        {
            let mut state = content.state();
            state.len = bytes.len() as u64;
            state.end = Some(End::Whole(Rope::from(content.charged(bytes))));
        }
        content
    }

    /// All of it, if all is there.
    pub(super) fn rope(&self) -> Option<Rope> {
        match &self.state().end {
            Some(End::Whole(rope)) => Some(rope.clone()),
            _ => None,
        }
    }

    /// Whether it ended before its end.
    pub(super) fn is_short(&self) -> bool {
        matches!(self.state().end, Some(End::Short))
    }

    /// Its length, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length.or_else(|| self.rope().map(|rope| rope.len() as u64))
    }

    fn charge(&self, bytes: u64) {
        self.charge.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.charge.budget.take(bytes);
    }

    fn charged(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Charged {
            bytes,
            _charge: Arc::clone(&self.charge),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what there is, and wakes those who wait for that.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            state.round += 1;
            mem::take(&mut state.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Writes an object's bytes as they come. Dropped before its end, it leaves the object short.
#[derive(Debug)]
pub(super) struct Writer {
    content: Arc<Content>,
    /// Memory of this object alone, so that it takes what it is long, not what the connection's buffers are.
    block: BytesMut,
    done: bool,
}

impl Writer {
    pub(super) fn new(content: Arc<Content>) -> Self {
        Self {
            content,
            block: BytesMut::new(),
            done: false,
        }
    }

    /// Bytes written.
    pub(super) fn len(&self) -> u64 {
        self.content.state().len
    }

    /// Bytes of memory that `more` bytes would take beyond what is taken.
    pub(super) fn needs(&self, more: usize) -> u64 {
        match more.saturating_sub(self.block.capacity()) {
            0 => 0,
            rest => self.block_for(rest) as u64,
        }
    }

    /// Appends what came. The one copy that an object costs.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        let mut pieces = Vec::with_capacity(2);
        let whole = bytes.len() as u64;
        while !bytes.is_empty() {
            if self.block.capacity() == 0 {
                let size = self.block_for(bytes.len());
                self.block = BytesMut::with_capacity(size);
                self.content.charge(self.block.capacity() as u64);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.block.capacity()));
            self.block.extend_from_slice(now);
            pieces.push(self.content.charged(self.block.split().freeze()));
            bytes = later;
        }
        self.content.change(|state| {
            state.pieces.append(&mut pieces);
            state.len += whole;
        });
    }

    /// All has come, unless the origin had announced something else.
    pub(super) fn finish(mut self) -> bool {
        self.done = true;
        let length = self.content.length;
        let mut right = true;
        self.content.change(|state| {
            right = length.is_none_or(|length| length == state.len);
            state.end = Some(match right {
                true => End::Whole(Rope::new(state.pieces.iter().cloned())),
                false => End::Short,
            });
        });
        right
    }

    /// As much as is announced, but no more than a block; of what is not, what is there.
    fn block_for(&self, here: usize) -> usize {
        let left = self
            .content
            .length
            .map_or(0, |length| length.saturating_sub(self.len()));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        left.clamp(here.min(BLOCK), BLOCK)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            self.content.change(|state| state.end = Some(End::Short));
        }
    }
}

/// Reads an object, or a range of one whose length is known, while it comes.
#[derive(Debug)]
pub(super) struct Reader {
    content: Arc<Content>,
    /// The next piece, and how much of the object lies before it.
    piece: usize,
    before: u64,
    /// What is wanted.
    from: u64,
    to: Option<u64>,
    /// Where its waker is.
    place: Option<(u64, usize)>,
}

impl Reader {
    /// All of it.
    pub(super) fn new(content: Arc<Content>) -> Self {
        let to = content.length;
        Self {
            content,
            piece: 0,
            before: 0,
            from: 0,
            to,
            place: None,
        }
    }

    /// `len` bytes from `start`, which there will be.
    pub(super) fn of_range(content: Arc<Content>, start: u64, len: u64) -> Self {
        let mut reader = Self::new(content);
        (reader.from, reader.to) = (start, Some(start + len));
        reader
    }

    fn left(&self) -> Option<u64> {
        self.to.map(|to| to.saturating_sub(self.from.max(self.before)))
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let content = Arc::clone(&this.content);
        let mut state = content.state();
        loop {
            if this.left() == Some(0) {
                return Poll::Ready(None);
            }
            if let Some(piece) = state.pieces.get(this.piece) {
                let start = this.before;
                let end = start + piece.len() as u64;
                this.piece += 1;
                this.before = end;
                let (from, to) = (this.from.max(start), this.to.unwrap_or(end).min(end));
                if from < to {
                    let within = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                    return Poll::Ready(Some(Ok(Frame::data(piece.slice(within(from)..within(to))))));
                }
                continue;
            }
            return match &state.end {
                Some(End::Whole(_)) => Poll::Ready(None),
                Some(End::Short) => Poll::Ready(Some(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the origin's answer ended before its end",
                )))),
                None => {
                    let round = state.round;
                    match this.place.filter(|place| place.0 == round) {
                        Some((_, index)) => state.wakers[index] = Some(cx.waker().clone()),
                        None => {
                            this.place = Some((round, state.wakers.len()));
                            state.wakers.push(Some(cx.waker().clone()));
                        }
                    }
                    Poll::Pending
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((round, index)) = self.place {
            let mut state = self.content.state();
            if state.round == round
                && let Some(waker) = state.wakers.get_mut(index)
            {
                *waker = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn budget() -> Arc<Budget> {
        Budget::new(1 << 20, Gauge::default())
    }

    async fn read(reader: Reader) -> Bytes {
        reader.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn readers_get_what_comes_as_it_comes_from_the_same_memory() {
        let content = Content::coming(Some(10), &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        let mut readers = [0, 1].map(|_| Reader::new(Arc::clone(&content)));
        let late = tokio::spawn(read(Reader::new(Arc::clone(&content))));
        tokio::task::yield_now().await;
        writer.push(b"01234");
        let [one, other] = &mut readers;
        let [one, other] = [one, other].map(|reader| reader.frame());
        let (one, other) = (one.await.unwrap().unwrap(), other.await.unwrap().unwrap());
        let (one, other) = (one.into_data().unwrap(), other.into_data().unwrap());
        assert_eq!(one, "01234");
        assert_eq!(one.as_ptr(), other.as_ptr());
        assert!(content.rope().is_none());
        writer.push(b"56789");
        assert!(writer.finish());
        assert_eq!(late.await.unwrap(), "0123456789");
        assert_eq!(content.rope().unwrap().pieces().next().unwrap().as_ptr(), one.as_ptr());
    }

    #[tokio::test]
    async fn a_range_of_what_still_comes_is_its_bytes() {
        for (start, len, expected) in [(0, 10, "0123456789"), (3, 4, "3456"), (5, 1, "5"), (9, 1, "9")] {
            let content = Content::coming(Some(10), &budget());
            let mut writer = Writer::new(Arc::clone(&content));
            let reader = Reader::of_range(Arc::clone(&content), start, len);
            assert_eq!(reader.size_hint().exact(), Some(len));
            let reading = tokio::spawn(read(reader));
            for piece in [&b"012"[..], b"34", b"5678", b"9"] {
                tokio::task::yield_now().await;
                writer.push(piece);
            }
            assert_eq!(reading.await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_ends_before_its_end_is_an_error_to_its_readers() {
        let content = Content::coming(None, &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        writer.push(b"some");
        let reading = tokio::spawn(Reader::new(Arc::clone(&content)).collect());
        tokio::task::yield_now().await;
        drop(writer);
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(content.is_short());
        // Fewer bytes than were announced, too:
        let content = Content::coming(Some(10), &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        writer.push(b"some");
        assert!(!writer.finish() && content.is_short());
    }

    #[tokio::test]
    async fn memory_is_taken_as_it_is_needed_and_given_back_by_the_last_reader() {
        let gauge = Gauge::<i64>::default();
        let budget = Budget::new(1 << 20, gauge.clone());
        let content = Content::coming(Some(1 << 40), &budget);
        let mut writer = Writer::new(Arc::clone(&content));
        assert_eq!(writer.needs(1), BLOCK as u64);
        writer.push(b"x");
        assert_eq!(writer.needs(BLOCK - 1), 0);
        assert_eq!(gauge.get(), (BLOCK as i64) + 1_024);
        let reader = Reader::new(Arc::clone(&content));
        drop((writer, content));
        assert!(budget.is_short_of((1 << 20) - 1_000, Claim::Text));
        drop(reader);
        assert_eq!(gauge.get(), 0);
        // What is not announced takes what is there.
        let content = Content::coming(None, &budget);
        let mut writer = Writer::new(content);
        writer.push(&[0; 1_000]);
        assert_eq!(gauge.get(), 1_024 + 1_000);
    }

    #[tokio::test]
    async fn readers_that_leave_and_come_leave_no_waker_behind() {
        let content = Content::coming(None, &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        let waker = Waker::noop();
        for _ in 0..100 {
            let mut reader = Reader::new(Arc::clone(&content));
            for _ in 0..3 {
                assert!(
                    Pin::new(&mut reader)
                        .poll_frame(&mut Context::from_waker(waker))
                        .is_pending()
                );
            }
        }
        assert_eq!(content.state().wakers.iter().flatten().count(), 0);
        assert_eq!(content.state().wakers.len(), 100);
        writer.push(b"x");
        assert_eq!(content.state().wakers.len(), 0);
    }
}
