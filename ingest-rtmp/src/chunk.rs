//! Reads messages from chunks: the bounded reader for untrusted bytes. Pure: bytes in, messages
//! out. `session` interprets messages; only set chunk size, abort and aggregate, which concern
//! framing, are handled here.
//!
//! RTMP 1.0 (Adobe, 2012) section 5.3 (chunking), 5.4.1 (set chunk size), 5.4.2 (abort), 7.1.6
//! (aggregate).
//!
//! Every payload is copied once, into an allocation of its own and of its exact size. A slice of
//! the receive buffer would save that copy (some 4 ms of CPU for a stream-minute of 2.5 Mbit/s),
//! but every frame would then keep its read buffer alive: the live window would hold more slack
//! than media, and no buffer could be reused.
//!
//! Nothing is allocated for a declared length alone. A message starts with the largest of the bytes
//! that have arrived, 16 KiB, and twice the largest message that this connection has completed, but
//! never more than its declared length; then the allocation doubles. So an honest stream allocates
//! its payload bytes once after its first key frame, and a peer makes us hold at most about twice
//! the bytes that it has sent.
//!
//! Tolerated: a header of format 0 to 2 inside a message if it repeats the message's length and
//! type (rml_rtmp sends them); a missing extended timestamp on format 3 chunks (old encoders;
//! ffmpeg and librtmp send it, as 5.3.1.3 demands); format 1 as the first header of a chunk stream:
//! message stream 0, its delta counted from 0 (librtmp sends pings and acknowledgements so).

use bytes::{Buf, Bytes};

use crate::Error;

/// Limits on the memory that a peer can make the reader hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Number of chunk streams with state.
    pub chunk_streams: usize,
    /// Largest message, in bytes. Unfinished messages together may hold twice as much.
    pub message_bytes: u32,
}

impl Limits {
    /// Before a peer may publish, when it sends only commands.
    pub const SETUP: Self = Self { chunk_streams: 64, message_bytes: 64 << 10 };
}

/// Chunk size until the peer announces another (RTMP 5.4.1).
const DEFAULT_CHUNK_BYTES: u32 = 128;
/// Maximum allocation for an unfinished message before the connection has completed a larger one.
const FIRST_ALLOCATION: usize = 16 << 10;
/// The largest chunk size that can be announced (RTMP 5.4.1: 31 bits). A lower limit is not needed,
/// because a chunk is read in pieces, into a message that is limited.
const MAX_CHUNK_BYTES: u32 = 0x7fff_ffff;
/// A timestamp field of this value is followed by an extended one (RTMP 5.3.1.3).
const EXTENDED: u32 = 0x00ff_ffff;

/// Message type id of Set Chunk Size (RTMP 5.4.1).
const SET_CHUNK_SIZE: u8 = 1;
/// Message type id of Abort (RTMP 5.4.2).
const ABORT: u8 = 2;
/// Message type id of an aggregate (RTMP 7.1.6).
const AGGREGATE: u8 = 22;
/// Bytes in front of a sub-message of an aggregate: an FLV tag header.
const TAG_HEADER: usize = 11;
/// Bytes after a sub-message of an aggregate: the back pointer.
const BACK_POINTER: usize = 4;

/// One RTMP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds, modulo 2^32; any origin.
    pub timestamp: u32,
    /// Message type id (RTMP 5.4, 7.1).
    pub kind: u8,
    /// Message stream id; 0 for the connection itself.
    pub stream_id: u32,
    /// The body, alone in its allocation.
    pub payload: Bytes,
}

/// Reads messages from a peer's chunks.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    /// The peer's chunk size in bytes, which holds for all of its chunk streams (RTMP 5.4.1).
    chunk_bytes: u32,
    /// Chunk streams in the order of their first chunk, at most [`Limits::chunk_streams`].
    streams: Vec<ChunkStream>,
    /// The last index found in `streams`, because chunks of one message are usually consecutive.
    last: usize,
    /// The chunk whose payload is arriving.
    body: Option<Body>,
    /// Bytes allocated for unfinished messages.
    held: usize,
    /// The largest completed message in bytes, as evidence of the peer's message sizes.
    largest: usize,
    /// The aggregate message whose sub-messages are returned one at a time.
    aggregate: Option<Aggregate>,
}

/// The payload of a chunk.
#[derive(Debug, Clone, Copy)]
struct Body {
    /// Index of its chunk stream in [`Reader::streams`].
    stream: usize,
    /// Missing bytes.
    left: usize,
}

/// A chunk stream: the header that later chunks abbreviate, and the message in assembly.
#[derive(Debug)]
struct ChunkStream {
    /// Chunk stream id, 2 to 65 599.
    csid: u32,
    /// The header of the open message, or else of the last one.
    header: Header,
    /// The bytes of the unfinished message, if one is open.
    partial: Option<Vec<u8>>,
}

/// The message header after the last chunk that had one.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Timestamp of the message in milliseconds, modulo 2^32.
    timestamp: u32,
    /// The last timestamp field, extended or not: the delta of a format 3 chunk that starts a
    /// message.
    field: u32,
    /// Whether `field` was an extended timestamp, which chunks of format 3 then repeat.
    extended: bool,
    /// Length of the message in bytes, 24 bits.
    len: u32,
    kind: u8,
    stream_id: u32,
}

impl Reader {
    /// A reader at the start of a connection, after the handshake.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            streams: Vec::new(),
            last: 0,
            body: None,
            held: 0,
            largest: 0,
            aggregate: None,
        }
    }

    /// Changes the largest accepted message, in bytes.
    pub fn set_message_bytes(&mut self, max: u32) {
        self.limits.message_bytes = max;
    }

    /// Whether [`Reader::read`] has a message without more input: the next one of an aggregate.
    pub fn has_message(&self) -> bool {
        self.aggregate.is_some()
    }

    /// Consumes bytes from the front of `input` until a message is complete. Returns `None` when
    /// `input` is used up, except for an incomplete header (at most 18 bytes).
    ///
    /// # Errors
    /// Framing that violates the standard or [`Limits`]. The reader must not be used afterwards.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        loop {
            if let Some(aggregate) = &mut self.aggregate {
                if let Some(message) = aggregate.next()? {
                    return Ok(Some(message));
                }
                self.aggregate = None;
            }
            // A chunk's payload may arrive in several reads: the open one is continued, or another
            // chunk begins.
            let Body { stream: index, left } = match self.body.take() {
                Some(body) => body,
                None => match self.start_chunk(input)? {
                    Some(body) => body,
                    None => return Ok(None),
                },
            };
            let (now, later) = input.split_at(left.min(input.len()));
            *input = later;
            // The chunk is incomplete: its bytes so far are kept, and the rest is awaited.
            if now.len() < left {
                self.append(index, now)?;
                self.body = Some(Body { stream: index, left: left - now.len() });
                return Ok(None);
            }
            if let Some(message) = self.finish_chunk(index, now)?
                && let Some(message) = self.unframe(message)?
            {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a chunk's header and opens its message if it is the first chunk. Returns `None` if the
    /// header is incomplete; `input` is then unchanged.
    fn start_chunk(&mut self, input: &mut &[u8]) -> Result<Option<Body>, Error> {
        let mut rest = *input;
        let Some(BasicHeader { format, csid }) = basic_header(&mut rest) else {
            return Ok(None);
        };
        let found = self.find(csid);
        let previous = found.map(|index| self.streams[index].header);
        // Formats 2 and 3 take the length and type from the previous header.
        if format > 1 && previous.is_none() {
            return Err(Error::NoHeaderBefore { csid, format });
        }
        let continues = found.is_some_and(|index| self.streams[index].partial.is_some());
        let Some(header) = message_header(&mut rest, format, previous, continues) else {
            return Ok(None);
        };
        // Checked before anything is stored for the message.
        if header.len > self.limits.message_bytes {
            return Err(Error::MessageTooLarge {
                csid,
                len: header.len,
                max: self.limits.message_bytes,
            });
        }
        *input = rest;
        let index = match found {
            Some(index) => index,
            // A peer could open 65 599 chunk streams, each with a partial message.
            None if self.streams.len() >= self.limits.chunk_streams => {
                return Err(Error::TooManyChunkStreams { max: self.limits.chunk_streams });
            }
            None => {
                self.streams.push(ChunkStream { csid, header, partial: None });
                self.streams.len() - 1
            }
        };
        self.last = index;
        let stream = &mut self.streams[index];
        match &stream.partial {
            // Some encoders repeat the header within a message. That is harmless if it describes
            // the same message; otherwise the message is lost.
            Some(partial)
                if format < 3
                    && (header.len, header.kind) != (stream.header.len, stream.header.kind) =>
            {
                let (len, got) = (stream.header.len, partial.len());
                return Err(Error::MessageInterrupted { csid, len, got, other: header.len });
            }
            Some(_) => {}
            None => {
                stream.header = header;
                stream.partial = Some(Vec::new());
            }
        }
        let got = stream.partial.as_ref().map_or(0, Vec::len);
        let left = (stream.header.len as usize - got).min(self.chunk_bytes as usize);
        Ok(Some(Body { stream: index, left }))
    }

    /// Index of a chunk stream in `streams`; `None` before its first chunk.
    fn find(&self, csid: u32) -> Option<usize> {
        match self.streams.get(self.last) {
            Some(stream) if stream.csid == csid => Some(self.last),
            _ => self.streams.iter().position(|stream| stream.csid == csid),
        }
    }

    /// Adds `bytes` to an open message.
    ///
    /// # Errors
    /// [`Error::TooMuchUnfinished`]: the messages in assembly exceed their common limit.
    fn append(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let stream = &mut self.streams[index];
        let len = stream.header.len as usize;
        let Some(partial) = &mut stream.partial else {
            return Ok(());
        };
        let needed = partial.len() + bytes.len();
        // The allocation follows the bytes that have arrived, not the declared length alone.
        // Otherwise a peer could declare large messages, send little, and hold our memory.
        if needed > partial.capacity() {
            let credit = FIRST_ALLOCATION.max(2 * self.largest);
            let capacity = needed.max(2 * partial.capacity()).max(credit).min(len);
            let held = self.held - partial.capacity() + capacity;
            let max = 2 * self.limits.message_bytes as usize;
            // Each chunk stream may have an unfinished message, so their sum is limited too.
            if held > max {
                return Err(Error::TooMuchUnfinished { held, max });
            }
            self.held -= partial.capacity();
            partial.reserve_exact(capacity - partial.len());
            self.held += partial.capacity();
        }
        partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends the last bytes of a chunk. Returns the message if they complete it.
    fn finish_chunk(&mut self, index: usize, bytes: &[u8]) -> Result<Option<Message>, Error> {
        let stream = &mut self.streams[index];
        let header = stream.header;
        let got = stream.partial.as_ref().map_or(0, Vec::len);
        if got + bytes.len() < header.len as usize {
            self.append(index, bytes)?;
            return Ok(None);
        }
        // A message of one chunk is copied once, from the input. A longer one has been assembled in
        // an allocation that now has exactly its length.
        let payload = if got == 0 {
            stream.partial = None;
            Bytes::copy_from_slice(bytes)
        } else {
            self.append(index, bytes)?;
            let partial = self.streams[index].partial.take().unwrap_or_default();
            self.held -= partial.capacity();
            Bytes::from(partial)
        };
        self.largest = self.largest.max(payload.len());
        Ok(Some(Message {
            timestamp: header.timestamp,
            kind: header.kind,
            stream_id: header.stream_id,
            payload,
        }))
    }

    /// Handles messages about framing; all others pass.
    fn unframe(&mut self, message: Message) -> Result<Option<Message>, Error> {
        match message.kind {
            SET_CHUNK_SIZE => {
                let size = first_u32(&message)?;
                // The highest bit must be zero (RTMP 5.4.1), and chunks of no bytes would never
                // complete a message.
                if size == 0 || size > MAX_CHUNK_BYTES {
                    return Err(Error::BadChunkSize { size, max: MAX_CHUNK_BYTES });
                }
                self.chunk_bytes = size;
                Ok(None)
            }
            ABORT => {
                let csid = first_u32(&message)?;
                // An abort of a message that is not open is tolerated: it has no effect.
                if let Some(index) = self.find(csid)
                    && let Some(partial) = self.streams[index].partial.take()
                {
                    self.held -= partial.capacity();
                }
                Ok(None)
            }
            AGGREGATE => {
                self.aggregate = Some(Aggregate { message, offset: None });
                Ok(None)
            }
            _ => Ok(Some(message)),
        }
    }
}

/// An aggregate message that is being split (RTMP 7.1.6). Its payload shrinks from the front.
#[derive(Debug)]
struct Aggregate {
    message: Message,
    /// Added to each sub-message's timestamp: the aggregate's own timestamp minus the first
    /// sub-message's.
    offset: Option<u32>,
}

impl Aggregate {
    /// The next sub-message; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Truncated`]: the rest is shorter than a tag with its payload.
    fn next(&mut self) -> Result<Option<Message>, Error> {
        let rest = &mut self.message.payload;
        let truncated = Error::Truncated { kind: AGGREGATE, len: rest.len() };
        if rest.is_empty() {
            return Ok(None);
        }
        let Some((tag, _)) = rest.split_first_chunk::<TAG_HEADER>() else {
            return Err(truncated);
        };
        let kind = tag[0];
        let len = u24(tag[1], tag[2], tag[3]) as usize;
        // The fourth byte of an FLV timestamp is the most significant.
        let timestamp = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]);
        if rest.len() < TAG_HEADER + len {
            return Err(truncated);
        }
        let offset = *self.offset.get_or_insert(self.message.timestamp.wrapping_sub(timestamp));
        rest.advance(TAG_HEADER);
        // Copied, because the hub may hold one frame long after the others, and counts only its
        // bytes.
        let payload = Bytes::copy_from_slice(&rest[..len]);
        rest.advance(len);
        // Some peers omit the last back pointer.
        rest.advance(BACK_POINTER.min(rest.len()));
        let timestamp = timestamp.wrapping_add(offset);
        // An aggregate in an aggregate, and framing messages inside one, do not exist: they are
        // ignored as unknown types.
        Ok(Some(Message { timestamp, kind, stream_id: self.message.stream_id, payload }))
    }
}

/// The basic header of a chunk (RTMP 5.3.1.1).
struct BasicHeader {
    /// The form of the message header that follows, 0 to 3.
    format: u8,
    /// Chunk stream id, 2 to 65 599.
    csid: u32,
}

/// Takes a basic header; `None` if it is incomplete.
fn basic_header(rest: &mut &[u8]) -> Option<BasicHeader> {
    let [first] = take(rest)?;
    // 0 and 1 are no ids: they mark the two longer forms.
    let csid = match first & 0x3f {
        0 => {
            let [id] = take(rest)?;
            64 + u32::from(id)
        }
        1 => {
            let [low, high] = take(rest)?;
            64 + u32::from(low) + 256 * u32::from(high)
        }
        id => u32::from(id),
    };
    Some(BasicHeader { format: first >> 6, csid })
}

/// The header after this chunk (RTMP 5.3.1.2, 5.3.1.3); `None` if it is incomplete.
fn message_header(
    rest: &mut &[u8],
    format: u8,
    previous: Option<Header>,
    continues: bool,
) -> Option<Header> {
    let previous = previous.unwrap_or(Header {
        timestamp: 0,
        field: 0,
        extended: false,
        len: 0,
        kind: 0,
        stream_id: 0,
    });
    let mut header = previous;
    if format == 3 {
        // Present if the last header of formats 0 to 2 had one. Some peers omit it: then these
        // bytes are payload.
        if previous.extended && u32::from_be_bytes(*rest.first_chunk()?) == previous.field {
            *rest = &rest[4..];
        }
    } else {
        // Formats 0, 1 and 2 have 11, 7 and 3 bytes. Fields that a shorter format omits keep the
        // values of the previous header (RTMP 5.3.1.2).
        let [a, b, c] = take(rest)?;
        header.field = u24(a, b, c);
        if format < 2 {
            let [a, b, c, kind] = take(rest)?;
            header.len = u24(a, b, c);
            header.kind = kind;
        }
        if format == 0 {
            header.stream_id = u32::from_le_bytes(take(rest)?);
        }
        header.extended = header.field == EXTENDED;
        if header.extended {
            header.field = u32::from_be_bytes(take(rest)?);
        }
    }
    // The timestamp belongs to the message, so a chunk that continues one does not advance it.
    // Formats 1 to 3 state a delta; a format 3 chunk that starts a message repeats the last field,
    // even an absolute one (RTMP 5.3.1.2.4).
    if !continues {
        header.timestamp =
            if format == 0 { header.field } else { previous.timestamp.wrapping_add(header.field) };
    }
    Some(header)
}

/// Takes `N` bytes from the front of `rest`; `None`, and nothing is taken, if there are fewer.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, later) = rest.split_first_chunk::<N>()?;
    *rest = later;
    Some(*taken)
}

/// A big-endian integer of 24 bits.
fn u24(a: u8, b: u8, c: u8) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// The number at the start of a control message.
///
/// # Errors
/// [`Error::Truncated`]: the message has fewer than four bytes.
pub(crate) fn first_u32(message: &Message) -> Result<u32, Error> {
    match message.payload.first_chunk() {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
        None => Err(Error::Truncated { kind: message.kind, len: message.payload.len() }),
    }
}

#[cfg(test)]
mod tests;
