//! The output: a queue of byte strings, with control messages and media framed into chunks. Pure;
//! `connection` writes the queue.
//!
//! Control messages are rml_rtmp's, serialised by its `ChunkSerializer`, each with a full header.
//! Media are framed here, so that a frame's payload is queued as slices of its memory: a header, a
//! slice, a header, a slice.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rml_rtmp::{
    chunk_io::ChunkSerializer,
    messages::{MessagePayload, RtmpMessage},
    time::RtmpTimestamp,
};

use crate::{
    Error,
    amf0::{self, Value},
};

/// The chunk size that we announce: most frames fit into one chunk.
pub(crate) const CHUNK_BYTES: u32 = 65_536;
/// Chunk stream of audio. The serialiser uses 2 (control), 3 (data) and 6 (commands).
const AUDIO_CSID: u8 = 4;
/// Chunk stream of video.
const VIDEO_CSID: u8 = 5;
/// Size of an allocation for headers of media messages, each of some 20 bytes.
const HEADER_BLOCK: usize = 2_048;
/// The largest length of a message, which has 24 bits (RTMP 5.3.1.2.1).
const MAX_MESSAGE_BYTES: usize = 0x00ff_ffff;
/// Most bytes of a header: 12, an extended timestamp of 4, and a tag of 5; rounded up.
const LONGEST_HEADER: usize = 32;

/// Message type ids.
pub(crate) mod kind {
    pub(crate) const USER_CONTROL: u8 = 4;
    pub(crate) const WINDOW: u8 = 5;
    pub(crate) const AUDIO: u8 = 8;
    pub(crate) const VIDEO: u8 = 9;
    pub(crate) const DATA_AMF3: u8 = 15;
    pub(crate) const COMMAND_AMF3: u8 = 17;
    pub(crate) const DATA: u8 = 18;
    pub(crate) const COMMAND: u8 = 20;
}

/// The queue of bytes to a peer. Its user bounds it: control responses are at most a few times the
/// input that caused them, and media are only queued while it is short.
pub struct Transmit {
    /// Frames control messages, commands and data.
    serializer: ChunkSerializer,
    /// Byte strings in the order of sending.
    queue: VecDeque<Bytes>,
    /// Number of bytes in `queue`.
    bytes: usize,
    /// Memory for headers of media, which are split off one by one.
    headers: BytesMut,
    /// Our chunk size in bytes: 128 until [`Transmit::announce_chunk_size`] (RTMP 5.4.1).
    chunk_bytes: usize,
}

impl std::fmt::Debug for Transmit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transmit").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Transmit {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self {
            serializer: ChunkSerializer::new(),
            queue: VecDeque::new(),
            bytes: 0,
            headers: BytesMut::new(),
            chunk_bytes: 128,
        }
    }

    /// Bytes queued.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Fills `slices` with the front of the queue. Returns the number of slices.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// Removes `count` written bytes.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(first) = self.queue.front_mut() {
            if count < first.len() {
                first.advance(count);
                break;
            }
            count -= first.len();
            self.queue.pop_front();
        }
    }

    /// Queues raw bytes, for the handshake.
    pub(crate) fn raw(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Queues a control message.
    ///
    /// # Errors
    /// Only if it could not be framed, which no input causes.
    pub(crate) fn control(&mut self, message: RtmpMessage) -> Result<(), Error> {
        let payload = MessagePayload::from_rtmp_message(message, RtmpTimestamp::new(0), 0)?;
        self.serialize(&payload)
    }

    /// Announces [`CHUNK_BYTES`], and uses it from then on.
    ///
    /// # Errors
    /// As [`Transmit::control`].
    pub(crate) fn announce_chunk_size(&mut self) -> Result<(), Error> {
        let packet = self.serializer.set_max_chunk_size(CHUNK_BYTES, RtmpTimestamp::new(0))?;
        self.raw(packet.bytes);
        self.chunk_bytes = CHUNK_BYTES as usize;
        Ok(())
    }

    /// Queues a command.
    ///
    /// # Errors
    /// As [`Transmit::control`].
    pub(crate) fn command(&mut self, stream_id: u32, values: &[Value]) -> Result<(), Error> {
        self.values(kind::COMMAND, stream_id, values)
    }

    /// Queues a data message.
    ///
    /// # Errors
    /// As [`Transmit::control`].
    pub(crate) fn data(&mut self, stream_id: u32, values: &[Value]) -> Result<(), Error> {
        self.values(kind::DATA, stream_id, values)
    }

    /// Queues a message of AMF0 values.
    fn values(
        &mut self,
        type_id: u8,
        message_stream_id: u32,
        values: &[Value],
    ) -> Result<(), Error> {
        let mut body = Vec::new();
        amf0::write(values, &mut body);
        self.serialize(&MessagePayload {
            timestamp: RtmpTimestamp::new(0),
            type_id,
            message_stream_id,
            data: body.into(),
        })
    }

    /// Queues a message that rml_rtmp frames.
    fn serialize(&mut self, payload: &MessagePayload) -> Result<(), Error> {
        // Full headers only, because the serialiser's compression would depend on earlier messages.
        let packet = self.serializer.serialize(payload, true, false)?;
        self.raw(packet.bytes);
        Ok(())
    }

    /// Queues an audio or video message whose body is `tag` (at most 5 bytes) and `payload`. The
    /// payload is not copied. Returns `false` if it is too large for a message, and left out.
    pub(crate) fn media(
        &mut self,
        kind: u8,
        stream_id: u32,
        timestamp: u32,
        tag: &[u8],
        payload: &Bytes,
    ) -> bool {
        // A full header, format 0, for each message: a few bytes more, but no state of earlier
        // messages. Audio and video have chunk streams of their own, as in other implementations.
        let csid = if kind == kind::VIDEO { VIDEO_CSID } else { AUDIO_CSID };
        let extended = timestamp >= 0x00ff_ffff;
        // A picture that grew beyond a message's length as its start codes were replaced is left
        // out: a length that is cut off would make the player lose the stream (RTMP 5.3.1.2.1).
        let len = tag.len() + payload.len();
        if len > MAX_MESSAGE_BYTES {
            return false;
        }
        self.headers.put_u8(csid);
        self.headers.put_uint(u64::from(timestamp.min(0x00ff_ffff)), 3);
        self.headers.put_uint(len as u64, 3);
        self.headers.put_u8(kind);
        self.headers.put_u32_le(stream_id);
        if extended {
            self.headers.put_u32(timestamp);
        }
        self.headers.put_slice(tag);
        // The first chunk holds the tag too. Each further chunk has a header of format 3, which
        // repeats an extended timestamp (RTMP 5.3.1.3).
        let mut room = self.chunk_bytes - tag.len();
        let mut rest = payload.clone();
        // Each turn queues a header and a slice of the payload, which shares the frame's memory.
        loop {
            let header = self.headers.split().freeze();
            self.raw(header);
            self.raw(rest.split_to(room.min(rest.len())));
            if rest.is_empty() {
                break;
            }
            self.reserve_header();
            self.headers.put_u8(0xc0 | csid);
            if extended {
                self.headers.put_u32(timestamp);
            }
            room = self.chunk_bytes;
        }
        self.reserve_header();
        true
    }

    /// Makes room for the next header. Many headers share an allocation, which lives as long as the
    /// last of them is queued.
    fn reserve_header(&mut self) {
        if self.headers.capacity() < LONGEST_HEADER {
            self.headers.reserve(HEADER_BLOCK);
        }
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::chunk::{Limits, Reader};

    fn written(transmit: &Transmit) -> Vec<u8> {
        transmit.queue.iter().flatten().copied().collect()
    }

    #[test]
    fn a_video_message_byte_for_byte() {
        let mut transmit = Transmit::new();
        transmit.media(
            kind::VIDEO,
            1,
            40,
            &hex!("17 01 000000"),
            &Bytes::from_static(&hex!("00000001 65")),
        );
        assert_eq!(
            written(&transmit),
            // csid 5, 40 ms, 10 bytes, video, stream 1
            hex!("05 000028 00000a 09 01000000 17 01 000000 00000001 65")
        );
    }

    #[test]
    fn a_long_message_with_an_extended_timestamp_is_sent_without_a_copy() {
        let mut transmit = Transmit::new();
        transmit.announce_chunk_size().unwrap();
        let payload = Bytes::from((0..=u8::MAX).cycle().take(200_000).collect::<Vec<_>>());
        transmit.media(kind::VIDEO, 1, 0x0100_0000, &[0x17, 1, 0, 0, 0], &payload);
        let range = payload.as_ptr_range();
        let shared =
            transmit.queue.iter().filter(|bytes| range.contains(&bytes.as_ptr())).map(Bytes::len);
        assert_eq!(shared.sum::<usize>(), 200_000);

        let bytes = written(&transmit);
        assert_eq!(bytes.len(), transmit.len());
        let mut reader = Reader::new(Limits { message_bytes: 1 << 20, ..Limits::SETUP });
        let mut input = &bytes[..];
        let message = reader.read(&mut input).unwrap().unwrap();
        assert_eq!((message.timestamp, message.kind, message.stream_id), (0x0100_0000, 9, 1));
        assert_eq!(message.payload[5..], payload[..]);
        assert!(input.is_empty());
    }

    #[test]
    fn a_message_over_24_bits_of_length_is_dropped() {
        let (mut transmit, tag) = (Transmit::new(), [0x17, 1, 0, 0, 0]);
        let payload = Bytes::from(vec![0; MAX_MESSAGE_BYTES - tag.len() + 1]);
        transmit.media(kind::VIDEO, 1, 40, &tag, &payload);
        assert!(transmit.is_empty());
        transmit.media(kind::VIDEO, 1, 40, &tag, &payload.slice(1..));
        assert_eq!(written(&transmit)[4..7], hex!("ffffff"));
    }

    #[test]
    fn written_bytes_are_removed_from_the_queue() {
        let mut transmit = Transmit::new();
        transmit.raw(Bytes::from_static(b"abc"));
        transmit.raw(Bytes::from_static(b"defg"));
        transmit.advance(5);
        assert_eq!((transmit.len(), &written(&transmit)[..]), (2, &b"fg"[..]));
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
        assert_eq!(transmit.slices(&mut slices), 1);
        transmit.advance(2);
        assert!(transmit.is_empty() && transmit.queue.is_empty());
    }
}
