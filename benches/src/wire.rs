//! A stream as RTMP chunks, serialised once. After the preamble only format 1 headers follow, whose
//! times are differences, so that the same bytes are valid for every period and every publisher.
//! RTMP 5.3.1.

use std::{ops::Range, time::Duration};

use bytes::BufMut;

use crate::stream::{Kind, PERIOD, Stream, Tag};

/// One message in [`Wire::bytes`].
#[derive(Debug, Clone)]
pub struct Message {
    /// Its due time after the period's start.
    pub at: Duration,
    /// Its track.
    pub kind: Kind,
    /// Its chunks.
    pub range: Range<usize>,
}

/// A period of a stream in chunks.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Bytes sent once before the first period: the chunk size and both sequence headers, on
    /// message stream 1.
    pub preamble: Vec<u8>,
    /// The period.
    pub bytes: Vec<u8>,
    /// Its messages in order.
    pub messages: Vec<Message>,
}

/// Message types (RTMP 1.0 5.4.1, 7.1.4, 7.1.5).
pub(crate) const VIDEO: u8 = 9;
/// An audio message, an FLV tag body.
pub(crate) const AUDIO: u8 = 8;
/// Changes the size of the sender's chunks.
pub(crate) const SET_CHUNK_SIZE: u8 = 1;
/// Chunk streams of control messages, audio and video, as in librtmp.
pub(crate) const CONTROL_CSID: u8 = 2;
/// The chunk stream of audio.
pub(crate) const AUDIO_CSID: u8 = 4;
/// The chunk stream of video.
pub(crate) const VIDEO_CSID: u8 = 6;

impl Wire {
    /// `stream` in chunks of `chunk_bytes`.
    pub fn new(stream: &Stream, chunk_bytes: u32) -> Self {
        let size = chunk_bytes as usize;
        let period_ms = u32::try_from(PERIOD.as_millis()).unwrap_or(u32::MAX);
        // A header contains the timestamp of its track's last frame in a period, so that the first
        // frame's difference is always correct.
        let last =
            |kind| stream.tags.iter().rfind(|tag| tag.kind == kind).map_or(0, |tag| tag.stamp_ms);
        let (mut video, mut audio) = (last(Kind::Video), last(Kind::Audio));
        let mut preamble = Vec::new();
        full(&mut preamble, CONTROL_CSID, SET_CHUNK_SIZE, 0, 0, &chunk_bytes.to_be_bytes(), 128);
        full(&mut preamble, VIDEO_CSID, VIDEO, 1, video, &stream.headers[0], size);
        full(&mut preamble, AUDIO_CSID, AUDIO, 1, audio, &stream.headers[1], size);
        let (mut bytes, mut messages) = (Vec::new(), Vec::new());
        for tag in &stream.tags {
            let before = match tag.kind {
                Kind::Video => &mut video,
                Kind::Audio => &mut audio,
            };
            // Modulo the period: the first frame's difference is taken from the last one of the
            // period before.
            let step = (tag.stamp_ms + period_ms - *before) % period_ms;
            *before = tag.stamp_ms;
            let start = bytes.len();
            message(&mut bytes, tag, step, size);
            messages.push(Message { at: tag.at, kind: tag.kind, range: start..bytes.len() });
        }
        Self { preamble, bytes, messages }
    }
}

/// A message with a format 1 header: time as a difference, the message stream as before.
fn message(out: &mut Vec<u8>, tag: &Tag, step_ms: u32, size: usize) {
    let (csid, kind) = match tag.kind {
        Kind::Video => (VIDEO_CSID, VIDEO),
        Kind::Audio => (AUDIO_CSID, AUDIO),
    };
    out.put_u8(0x40 | csid);
    out.put_uint(step_ms.into(), 3);
    out.put_uint(tag.body.len() as u64, 3);
    out.put_u8(kind);
    chunks(out, csid, &tag.body, size);
}

/// Appends a message with a format 0 header. `stamp_ms` is below 2^24 - 1.
pub(crate) fn full(
    out: &mut Vec<u8>,
    csid: u8,
    kind: u8,
    stream: u32,
    stamp_ms: u32,
    body: &[u8],
    size: usize,
) {
    out.put_u8(csid);
    out.put_uint(stamp_ms.into(), 3);
    out.put_uint(body.len() as u64, 3);
    out.put_u8(kind);
    // The message stream is the only little-endian field (RTMP 1.0 5.3.1.2.5).
    out.put_u32_le(stream);
    chunks(out, csid, body, size);
}

/// Appends a message body in chunks of `size`. Each chunk but the first has a format 3 header.
fn chunks(out: &mut Vec<u8>, csid: u8, body: &[u8], size: usize) {
    for (n, chunk) in body.chunks(size).enumerate() {
        if n > 0 {
            out.put_u8(0xc0 | csid);
        }
        out.put_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use ingest_rtmp::chunk::{Limits, Reader};

    use super::*;
    use crate::stream::BITRATE_BPS;

    #[test]
    fn stream_periods_are_contiguous_and_every_message_is_read_back() {
        let stream = Stream::new(BITRATE_BPS);
        for size in [128, 4096, 65_536] {
            let wire = Wire::new(&stream, size);
            let all = [&wire.preamble[..], &wire.bytes, &wire.bytes].concat();
            let limits = Limits { message_bytes: 1 << 20, ..Limits::SETUP };
            let (mut reader, mut rest) = (Reader::new(limits), &all[..]);
            for header in &stream.headers {
                assert_eq!(reader.read(&mut rest).unwrap().unwrap().payload, header);
            }
            for period in 1..=2 {
                for tag in &stream.tags {
                    let message = reader.read(&mut rest).unwrap().unwrap();
                    assert_eq!(message.timestamp, period * 8_000 + tag.stamp_ms);
                    assert_eq!(message.payload, tag.body);
                }
            }
            assert!(rest.is_empty());
        }
    }
}
