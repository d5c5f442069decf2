//! Filters the frames of a request before h3 reads them (RFC 9114 7.1). h3 buffers a frame until it
//! is complete, whatever its length and type. So a frame that is too long is refused here, and a
//! frame of unknown type is skipped as it arrives (RFC 9114 9).
//!
//! A request's field section is also checked here, where its bytes are at hand
//! ([`field_section`](super::field_section)).

use bytes::{Buf, Bytes, BytesMut};

use super::{field_section, varint};

/// Frame types (RFC 9114 11.2.1).
const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
/// The last of the types that HTTP/2 had; all lower types are known or forbidden (RFC 9114 7.2.8,
/// 11.2.1).
const CONTINUATION: u64 = 0x9;
const MAX_PUSH_ID: u64 = 0xd;
/// Limit in bytes of a frame that h3 refuses on a request stream.
const MAX_OTHER: u64 = 4 << 10;

/// The reason why a stream is not read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A frame exceeds its limit.
    TooLong,
    /// The request is malformed (RFC 9114 4.1.2).
    Malformed,
    /// The stream ended within a frame.
    Cut,
}

/// The frames of one stream.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Limit of an encoded field section in bytes.
    max_section: u64,
    state: State,
    /// A field section has arrived: the next one is a trailer.
    begun: bool,
}

/// The position in the stream.
#[derive(Debug)]
enum State {
    /// Before or within a frame's type and length.
    Head(Vec<u8>),
    /// Within a field section: the bytes of its frame that have arrived, and the length of the
    /// whole frame.
    Section(BytesMut, usize),
    /// Within a frame that is handed on as it arrives; bytes left.
    Passing(u64),
    /// Within a frame that is skipped; bytes left.
    Skipping(u64),
}

impl Frames {
    /// The frames of a request, whose encoded field section has `max_section` bytes at most.
    pub(crate) fn new(max_section: u64) -> Self {
        Self { max_section, state: State::Head(Vec::new()), begun: false }
    }

    /// Takes the next bytes to hand on from `input`, never an empty piece; `None` when `input` is
    /// used up. A field section is handed on when it is complete, all other bytes as they arrive.
    ///
    /// # Errors
    /// The stream must not be read further.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, Refusal> {
        while input.has_remaining() {
            match &mut self.state {
                State::Passing(left) | State::Skipping(left) if *left == 0 => {
                    self.state = State::Head(Vec::new())
                }
                State::Skipping(left) => {
                    let count = within(*left, input.len());
                    input.advance(count);
                    *left -= count as u64;
                }
                State::Passing(left) => {
                    let count = within(*left, input.len());
                    *left -= count as u64;
                    return Ok(Some(input.split_to(count)));
                }
                State::Section(collected, whole) => {
                    let count = input.len().min(*whole - collected.len());
                    collected.extend_from_slice(&input.split_to(count));
                    if collected.len() == *whole {
                        let frame = collected.split().freeze();
                        self.state = State::Head(Vec::new());
                        return self.section(frame).map(Some);
                    }
                }
                // Most frames' types and lengths arrive in one piece. Those that do not continue
                // byte by byte in the branch below.
                State::Head(partial) if partial.is_empty() => match varint::read_pair(input) {
                    Some((kind, length, len)) => {
                        let whole = len as u64 + length;
                        // The usual case: the whole frame has arrived, and is not copied.
                        if kind == HEADERS
                            && whole <= input.len() as u64
                            && length <= self.max_section
                        {
                            let frame = input.split_to(within(whole, input.len()));
                            return self.section(frame).map(Some);
                        }
                        let head = input.split_to(len);
                        if let Some(head) = self.enter(kind, length, head)? {
                            return Ok(Some(head));
                        }
                    }
                    None => partial.extend_from_slice(&input.split_off(0)),
                },
                State::Head(partial) => {
                    partial.push(input.get_u8());
                    if let Some((kind, length, _)) = varint::read_pair(partial) {
                        let head = Bytes::from(std::mem::take(partial));
                        if let Some(head) = self.enter(kind, length, head)? {
                            return Ok(Some(head));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Checks that the stream may end here. h3 does not detect that a frame handed on as it arrives
    /// is incomplete.
    ///
    /// # Errors
    /// [`Refusal::Cut`]: a frame is incomplete (RFC 9114 7.1).
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        match self.state {
            State::Passing(left) if left > 0 => Err(Refusal::Cut),
            State::Section(..) => Err(Refusal::Cut),
            State::Head(ref partial) if !partial.is_empty() => Err(Refusal::Cut),
            _ => Ok(()),
        }
    }

    /// Begins a frame whose type and length are in `head`. Returns the bytes to hand on now.
    ///
    /// # Errors
    /// [`Refusal::TooLong`]: its length exceeds the limit of its type. Nothing of its content is
    /// held.
    fn enter(&mut self, kind: u64, length: u64, head: Bytes) -> Result<Option<Bytes>, Refusal> {
        // DATA frames have no limit here: they are handed on as they arrive, and the service limits
        // the body.
        let max = match kind {
            DATA => u64::MAX,
            HEADERS => self.max_section,
            // h3 refuses these frames itself; only their length is limited here.
            ..=CONTINUATION | MAX_PUSH_ID => MAX_OTHER,
            _ => {
                self.state = State::Skipping(length);
                return Ok(None);
            }
        };
        if length > max {
            return Err(Refusal::TooLong);
        }
        if kind == HEADERS {
            let whole = within(head.len() as u64 + length, usize::MAX);
            let mut collected = BytesMut::with_capacity(whole);
            collected.extend_from_slice(&head);
            if length == 0 {
                return self.section(collected.freeze()).map(Some);
            }
            self.state = State::Section(collected, whole);
            return Ok(None);
        }
        self.state = State::Passing(length);
        Ok(Some(head))
    }

    /// Checks a complete HEADERS frame and returns it: the first is the request's, the next its
    /// trailer.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]: its pseudo-header fields are not permitted there.
    fn section(&mut self, frame: Bytes) -> Result<Bytes, Refusal> {
        let fields = varint::read_pair(&frame).map_or(&[][..], |(_, _, len)| &frame[len..]);
        let fine = match std::mem::replace(&mut self.begun, true) {
            false => field_section::is_request(fields),
            true => field_section::is_trailer(fields),
        };
        if fine { Ok(frame) } else { Err(Refusal::Malformed) }
    }
}

/// The smaller of the two.
fn within(left: u64, available: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(available)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::pass;

    /// `GET /` of the authority `a`, with the static table.
    const SECTION: &[u8] = b"\x00\x00\xd1\xd7\xc1\x50\x01a";

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        varint::write(kind, &mut frame);
        varint::write(payload.len() as u64, &mut frame);
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn request_frames_in_pieces_of_any_size_are_passed_on_without_unknown_frames() {
        let unknown = frame(0x21, &[7; 300]);
        let mut expected = [frame(HEADERS, SECTION), frame(DATA, b"body")].concat();
        let sent = [&unknown, &expected[..], &unknown].concat();
        for size in [1, 2, 3, 7, sent.len()] {
            assert_eq!(pass(&mut Frames::new(64), &sent, size).unwrap(), expected, "{size}");
        }
        expected.truncate(expected.len() - 1);
        for size in [1, expected.len()] {
            assert_eq!(pass(&mut Frames::new(64), &expected, size), Err(Refusal::Cut));
        }
    }

    #[test]
    fn a_frame_is_refused_when_its_header_declares_too_many_bytes() {
        let mut bomb = Vec::new();
        varint::write(HEADERS, &mut bomb);
        varint::write(65, &mut bomb);
        assert_eq!(pass(&mut Frames::new(64), &bomb, 1), Err(Refusal::TooLong));
        let mut settings = vec![4];
        varint::write(MAX_OTHER + 1, &mut settings);
        assert_eq!(pass(&mut Frames::new(64), &settings, 9), Err(Refusal::TooLong));
    }

    #[test]
    fn ignored_frames_of_any_length_are_skipped_without_buffering() {
        let mut frames = Frames::new(64);
        let mut begin = Vec::new();
        varint::write(0xf_0700, &mut begin);
        varint::write(1 << 40, &mut begin);
        assert_eq!(pass(&mut frames, &begin, 100).unwrap(), b"");
        for _ in 0..1_000 {
            assert_eq!(pass(&mut frames, &[1; 1_000], 1_000).unwrap(), b"");
        }
        assert!(matches!(frames.state, State::Skipping(left) if left == (1 << 40) - 1_000_000));
    }
}
