//! The bytes of an object, complete or in progress: one writer, any number of readers, each at its
//! own pace.
//!
//! Bytes are stored in blocks of the object and shared as slices of them, so that a reader copies
//! nothing. A piece costs memory besides its bytes, so small portions are joined until there are
//! [`SEALED`] bytes. A reader that follows closely copies them meanwhile.

use std::{
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use net_core::Rope;

use super::budget::{Budget, Charge};

/// The maximum growth of an object's memory at once, so that an origin that announces much and
/// sends little costs little.
pub(super) const BLOCK: usize = 256 << 10;
/// The minimum growth if the length is not announced.
const SMALL_BLOCK: usize = 4 << 10;
/// Number of bytes that make a piece. Fewer suffice at the end of the block or the object.
const SEALED: usize = 1 << 10;
/// Memory of a piece besides its bytes: its handles in the list and in the rope, and the owner that
/// holds the charge.
const PIECE: u64 = 256;

/// An object's bytes.
#[derive(Debug)]
pub(super) struct Content {
    /// The length, if the origin announced it.
    length: Option<u64>,
    /// The lock is held for the copy of one portion, or to take one.
    state: Mutex<State>,
    /// The memory of its bytes; released when the object and all readers are gone.
    charge: Arc<Charge>,
}

/// The bytes that have arrived, and the readers that wait for more.
#[derive(Debug, Default)]
struct State {
    /// Sealed bytes.
    pieces: Vec<Bytes>,
    /// The bytes after them; the spare capacity is the rest of the current block.
    open: BytesMut,
    /// Total number of bytes.
    len: u64,
    /// `None` while it is being written.
    end: Option<End>,
    /// Readers that wait for more, and the number of times that all were woken: an index is valid
    /// until the next time.
    wakers: Vec<Option<Waker>>,
    round: u64,
}

/// How it ended.
#[derive(Debug, Clone)]
enum End {
    /// Complete: all pieces.
    Whole(Rope),
    /// The writer stopped before the announced length, or failed.
    Short,
}

/// Bytes that are charged as long as anybody holds them.
struct Charged {
    bytes: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Content {
    /// Content that will be written.
    pub(super) fn coming(length: Option<u64>, budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { length, state: Mutex::default(), charge: Arc::new(budget.charge(0)) })
    }

    /// Complete content.
    pub(super) fn whole(bytes: Bytes, budget: &Arc<Budget>) -> Arc<Self> {
        let content = Self::coming(Some(bytes.len() as u64), budget);
        content.charge.add(bytes.len() as u64);
        {
            let mut state = content.state();
            state.len = bytes.len() as u64;
            state.end = Some(End::Whole(Rope::from(content.charged(bytes))));
        }
        content
    }

    /// All bytes, if the content is complete.
    pub(super) fn rope(&self) -> Option<Rope> {
        match &self.state().end {
            Some(End::Whole(rope)) => Some(rope.clone()),
            _ => None,
        }
    }

    /// Whether the writer stopped before the end.
    pub(super) fn is_short(&self) -> bool {
        matches!(self.state().end, Some(End::Short))
    }

    /// The length, if known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length.or_else(|| self.rope().map(|rope| rope.len() as u64))
    }

    /// The charged budget.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        self.charge.budget()
    }

    /// The same bytes, whose charge lasts as long as any slice of them.
    fn charged(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Charged { bytes, _charge: Arc::clone(&self.charge) })
    }

    /// Makes a piece of the open bytes, if there are any.
    fn seal(&self, state: &mut State) {
        if !state.open.is_empty() {
            self.charge.add(PIECE);
            let piece = state.open.split().freeze();
            state.pieces.push(self.charged(piece));
        }
    }

    /// The size of the next block after `here` bytes: the announced rest, but at most [`BLOCK`];
    /// without an announcement, as much as has arrived.
    fn block_for(&self, here: usize, len: u64) -> usize {
        let least = here.min(BLOCK);
        // The announced rest, so that one block suffices for a small object; without a length the
        // block grows with the object.
        match self.length {
            Some(length) => usize::try_from(length.saturating_sub(len))
                .unwrap_or(usize::MAX)
                .clamp(least, BLOCK),
            None => least.max(SMALL_BLOCK),
        }
    }

    /// The locked state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the waiting readers.
    fn change(&self, change: impl FnOnce(&mut State)) {
        // Readers are woken without the lock, because each takes it at once.
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            state.round += 1;
            mem::take(&mut state.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl State {
    /// Bytes left in the current block.
    fn room(&self) -> usize {
        self.open.capacity() - self.open.len()
    }
}

/// Writes an object's bytes as they arrive. Dropping it before the end leaves the object short.
#[derive(Debug)]
pub(super) struct Writer {
    content: Arc<Content>,
    /// It was finished.
    done: bool,
}

impl Writer {
    /// The only writer of `content`.
    pub(super) fn new(content: Arc<Content>) -> Self {
        Self { content, done: false }
    }

    /// Bytes written.
    pub(super) fn len(&self) -> u64 {
        self.content.state().len
    }

    /// Additional memory that `more` bytes, at most [`BLOCK`], would need.
    pub(super) fn needs(&self, more: usize) -> u64 {
        let state = self.content.state();
        // The estimate is an upper bound, so that `push` never exceeds the room that was made.
        match more.saturating_sub(state.room()) {
            0 => PIECE,
            rest => self.content.block_for(rest, state.len) as u64 + 2 * PIECE,
        }
    }

    /// Appends bytes: the only copy of an object. The caller has made room for [`Self::needs`].
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        let content = &*self.content;
        content.change(|state| {
            while !bytes.is_empty() {
                // A full block is sealed, whatever its size, because the next bytes are in other
                // memory.
                if state.room() == 0 {
                    content.seal(state);
                    state.open = BytesMut::with_capacity(content.block_for(bytes.len(), state.len));
                    content.charge.add(state.open.capacity() as u64);
                }
                let (now, later) = bytes.split_at(bytes.len().min(state.room()));
                state.open.extend_from_slice(now);
                state.len += now.len() as u64;
                bytes = later;
            }
            // The last bytes are sealed at once: they complete the object, and no more will follow.
            if state.open.len() >= SEALED || content.length == Some(state.len) {
                content.seal(state);
            }
        });
    }

    /// Ends the content. Returns whether its length is as announced.
    pub(super) fn finish(mut self) -> bool {
        self.done = true;
        let content = &*self.content;
        let mut right = true;
        content.change(|state| {
            right = content.length.is_none_or(|length| length == state.len);
            content.seal(state);
            state.end = Some(match right {
                true => End::Whole(Rope::new(state.pieces.iter().cloned())),
                false => End::Short,
            });
        });
        right
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            self.content.change(|state| state.end = Some(End::Short));
        }
    }
}

/// Reads an object, or a range of one whose length is known, while it is being written.
#[derive(Debug)]
pub(super) struct Reader {
    /// The object.
    content: Arc<Content>,
    /// The index of the next piece, and the number of bytes before it.
    piece: usize,
    before: u64,
    /// The next wanted byte, and the end of the wanted range.
    at: u64,
    to: Option<u64>,
    /// Where its waker is, if it waits.
    waiting: Option<Registration>,
}

/// The place of a reader's waker in the list of the content.
#[derive(Debug, Clone, Copy)]
struct Registration {
    /// All wakers are taken in each round, so `index` is valid only in this one.
    round: u64,
    index: usize,
}

impl Reader {
    /// Reads everything.
    pub(super) fn new(content: Arc<Content>) -> Self {
        let to = content.length;
        Self { content, piece: 0, before: 0, at: 0, to, waiting: None }
    }

    /// Reads `len` bytes from `start`, which will exist.
    pub(super) fn of_range(content: Arc<Content>, start: u64, len: u64) -> Self {
        let mut reader = Self::new(content);
        (reader.at, reader.to) = (start, Some(start + len));
        reader
    }

    /// Number of bytes that it still wants, if its end is known.
    fn left(&self) -> Option<u64> {
        self.to.map(|to| to.saturating_sub(self.at))
    }

    /// The next wanted bytes, if available.
    fn next(&mut self, state: &State) -> Option<Bytes> {
        // Sealed pieces are shared. Only bytes that are not sealed yet are copied, below.
        while let Some(piece) = state.pieces.get(self.piece) {
            let wanted = self.within(piece.len());
            if self.at + wanted.len() as u64 >= self.before + piece.len() as u64 {
                self.piece += 1;
                self.before += piece.len() as u64;
            }
            if !wanted.is_empty() {
                self.at += wanted.len() as u64;
                return Some(piece.slice(wanted));
            }
        }
        let wanted = self.within(state.open.len());
        self.at += wanted.len() as u64;
        (!wanted.is_empty()).then(|| Bytes::copy_from_slice(&state.open[wanted]))
    }

    /// The wanted range among the `len` bytes from `before` on.
    fn within(&self, len: usize) -> std::ops::Range<usize> {
        let within =
            |at: u64| usize::try_from(at.saturating_sub(self.before)).map_or(len, |at| at.min(len));
        within(self.at)..within(self.to.unwrap_or(u64::MAX)).max(within(self.at))
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left() == Some(0) {
            return Poll::Ready(None);
        }
        let content = Arc::clone(&this.content);
        let mut state = content.state();
        if let Some(bytes) = this.next(&state) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        // The end counts only after all bytes are read.
        match &state.end {
            Some(End::Whole(_)) => Poll::Ready(None),
            Some(End::Short) => Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the origin's response is truncated",
            )))),
            None => {
                // A waker that is registered in this round is replaced, so that a reader that is
                // polled often does not fill the list.
                let round = state.round;
                match this.waiting.filter(|waiting| waiting.round == round) {
                    Some(waiting) => state.wakers[waiting.index] = Some(cx.waker().clone()),
                    None => {
                        let index = state.wakers.len();
                        this.waiting = Some(Registration { round, index });
                        state.wakers.push(Some(cx.waker().clone()));
                    }
                }
                Poll::Pending
            }
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
        // A reader that left must not be woken; its entry in the list stays until the next round.
        if let Some(waiting) = self.waiting {
            let mut state = self.content.state();
            if state.round == waiting.round
                && let Some(waker) = state.wakers.get_mut(waiting.index)
            {
                *waker = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use prometheus_client::metrics::gauge::Gauge;

    use super::{super::budget::Claim, *};

    fn budget() -> Arc<Budget> {
        Budget::new(1 << 20, Gauge::default())
    }

    async fn read(reader: Reader) -> Bytes {
        reader.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn readers_get_bytes_as_they_arrive() {
        let content = Content::coming(Some(10), &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        let mut early = Reader::new(Arc::clone(&content));
        let late = tokio::spawn(read(Reader::new(Arc::clone(&content))));
        tokio::task::yield_now().await;
        writer.push(b"01234");
        let frame = early.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, "01234");
        assert!(content.rope().is_none());
        writer.push(b"56789");
        assert_eq!(read(early).await, "56789");
        assert!(writer.finish());
        assert_eq!(late.await.unwrap(), "0123456789");
        assert_eq!(content.rope().unwrap().to_bytes(), "0123456789");
    }

    #[tokio::test]
    async fn a_range_of_an_incomplete_object_has_its_bytes() {
        for (start, len, expected) in
            [(0, 10, "0123456789"), (3, 4, "3456"), (5, 1, "5"), (9, 1, "9")]
        {
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
    async fn a_truncated_object_is_an_error_for_its_readers() {
        let content = Content::coming(None, &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        writer.push(b"some");
        let reading = tokio::spawn(Reader::new(Arc::clone(&content)).collect());
        tokio::task::yield_now().await;
        drop(writer);
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(content.is_short());
        // Fewer bytes than announced, too:
        let content = Content::coming(Some(10), &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        writer.push(b"some");
        assert!(!writer.finish() && content.is_short());
    }

    #[tokio::test]
    async fn memory_is_charged_as_bytes_arrive_and_released_by_the_last_reader() {
        let (block, piece) = (BLOCK as i64, PIECE as i64);
        let gauge = Gauge::<i64>::default();
        let budget = Budget::new(1 << 20, gauge.clone());
        let content = Content::coming(Some(1 << 40), &budget);
        let mut writer = Writer::new(Arc::clone(&content));
        assert_eq!(writer.needs(1), BLOCK as u64 + 2 * PIECE);
        writer.push(b"x");
        assert_eq!(writer.needs(BLOCK - 1), PIECE);
        assert_eq!(gauge.get(), block);
        writer.push(&[0; BLOCK - 1]);
        assert_eq!(gauge.get(), block + piece);
        let reader = Reader::new(Arc::clone(&content));
        drop((writer, content));
        assert!(budget.is_short_of((1 << 20) - BLOCK as u64, Claim::Text));
        drop(reader);
        assert_eq!(gauge.get(), 0);
        // Without an announcement, as much as has arrived.
        let content = Content::coming(None, &budget);
        let mut writer = Writer::new(content);
        writer.push(&[0; 10_000]);
        assert_eq!(gauge.get(), 10_000 + piece);
        writer.push(&[0; 100]);
        assert_eq!(gauge.get(), 10_000 + piece + SMALL_BLOCK as i64);
    }

    #[tokio::test]
    async fn bytes_that_arrive_singly_use_little_extra_memory_and_reach_readers_at_once() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        for length in [None, Some(bytes.len() as u64)] {
            let gauge = Gauge::<i64>::default();
            let budget = Budget::new(1 << 20, gauge.clone());
            let content = Content::coming(length, &budget);
            let mut writer = Writer::new(Arc::clone(&content));
            let mut near = Reader::new(Arc::clone(&content));
            let mut range = Reader::of_range(Arc::clone(&content), 1_500, 90_000);
            let (mut followed, mut ranged) = (Vec::new(), Vec::new());
            for byte in &bytes {
                writer.push(&[*byte]);
                let frame = near.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(frame.len(), 1);
                followed.extend_from_slice(&frame);
                if followed.len() % 700 == 0 && (1_501..91_000).contains(&followed.len()) {
                    let frame = range.frame().await.unwrap().unwrap();
                    ranged.extend_from_slice(&frame.into_data().unwrap());
                }
            }
            assert!(writer.finish());
            let most = bytes.len() + bytes.len() / 3 + SMALL_BLOCK;
            assert!(gauge.get() <= most as i64, "{} for {}", gauge.get(), bytes.len());
            assert!(
                content.state().pieces.len()
                    <= bytes.len() / SEALED + bytes.len() / SMALL_BLOCK + 1
            );
            assert_eq!(followed, bytes);
            ranged.extend_from_slice(&read(range).await);
            assert_eq!(ranged, bytes[1_500..91_500]);
            assert_eq!(read(Reader::new(Arc::clone(&content))).await, bytes);
            assert_eq!(content.rope().unwrap().to_bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn a_large_portion_is_shared_between_readers_without_a_copy() {
        let content = Content::coming(None, &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        let mut readers = [0, 1].map(|_| Reader::new(Arc::clone(&content)));
        writer.push(&[1; SEALED]);
        let mut starts = Vec::new();
        for reader in &mut readers {
            let frame = reader.frame().await.unwrap().unwrap().into_data().unwrap();
            starts.push(frame.as_ptr());
        }
        assert_eq!(starts[0], starts[1]);
        assert_eq!(content.state().pieces[0].as_ptr(), starts[0]);
    }

    #[tokio::test]
    async fn dropped_readers_leave_no_waker_behind() {
        let content = Content::coming(None, &budget());
        let mut writer = Writer::new(Arc::clone(&content));
        let waker = Waker::noop();
        for _ in 0..100 {
            let mut reader = Reader::new(Arc::clone(&content));
            for _ in 0..3 {
                assert!(
                    Pin::new(&mut reader).poll_frame(&mut Context::from_waker(waker)).is_pending()
                );
            }
        }
        assert_eq!(content.state().wakers.iter().flatten().count(), 0);
        assert_eq!(content.state().wakers.len(), 100);
        writer.push(b"x");
        assert_eq!(content.state().wakers.len(), 0);
    }
}
