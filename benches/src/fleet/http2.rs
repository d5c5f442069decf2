//! Many requests on one connection; frames are parsed only far enough to detect the end of a
//! response. Sent header blocks do not use the dynamic table; of received ones only the status is
//! read, which is first (RFC 9113 8.3.2). RFC 9113, RFC 7541.

use std::net::SocketAddr;

use crate::Failure;

/// Frame types (RFC 9113 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Flags of frames (RFC 9113 6).
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Length of a frame header (RFC 9113 4.1).
const FRAME_HEAD_BYTES: usize = 9;
/// SETTINGS_ENABLE_PUSH, SETTINGS_INITIAL_WINDOW_SIZE.
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// Flow control window of a stream in bytes: larger than any body here, so it is never renewed.
const STREAM_WINDOW: u32 = 16 << 20;
/// Renewed when half of it is used.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// `:status: 200` of the static table.
const STATUS_200: u8 = 0x88;

/// The connection preface, our settings, and a window that never limits.
pub(super) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut settings = Vec::new();
    for (name, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, STREAM_WINDOW)] {
        settings.extend(name.to_be_bytes());
        settings.extend(value.to_be_bytes());
    }
    frame(&mut bytes, SETTINGS, 0, 0, &settings);
    // The initial window is 65 535.
    frame(&mut bytes, WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW - 65_535).to_be_bytes());
    bytes
}

/// Appends a frame. Our frames are shorter than the initial limit of 16 384 bytes.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// The length of a string that is not compressed (RFC 7541 5.1, a prefix of 7 bits).
fn length(out: &mut Vec<u8>, mut length: usize) {
    if length < 0x7f {
        out.push(u8::try_from(length).unwrap_or(0));
        return;
    }
    out.push(0x7f);
    length -= 0x7f;
    while length >= 0x80 {
        out.push(0x80 | u8::try_from(length & 0x7f).unwrap_or(0));
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or(0));
}

/// The first field's byte, after possible changes of the dynamic table's size (RFC 7541 6.3).
fn status(mut block: &[u8]) -> Option<u8> {
    while let [first, rest @ ..] = block {
        if first & 0xe0 != 0x20 {
            return Some(*first);
        }
        // An integer of more than one byte continues as long as the highest bit is set (RFC 7541
        // 5.1).
        let more = match first & 0x1f == 0x1f {
            true => rest.iter().position(|byte| byte & 0x80 == 0)? + 1,
            false => 0,
        };
        block = &rest[more..];
    }
    None
}

/// The received part of a connection.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The beginning of an incomplete frame.
    bytes: Vec<u8>,
    /// Frames to send: acknowledgements and window updates.
    reply: Vec<u8>,
    /// Number of opened streams.
    begun: u32,
    /// Used part of [`CONNECTION_WINDOW`] since its last renewal.
    used: u32,
    /// All bodies since the last call of `take_body`.
    body: Vec<u8>,
}

impl Reader {
    /// `requests` requests for `path`, with END_STREAM.
    pub(super) fn requests(&mut self, server: SocketAddr, path: &str, requests: usize) -> Vec<u8> {
        // `:method: GET` and `:scheme: http` of the static table; `:path` and `:authority` as
        // literals without indexing, their names of the static table; `accept-encoding: gzip,
        // deflate` of it.
        let mut block = vec![0x82, 0x86];
        for (name, value) in [(0x04, path), (0x01, &server.to_string())] {
            block.push(name);
            length(&mut block, value.len());
            block.extend(value.as_bytes());
        }
        block.push(0x90);
        self.body.clear();
        let mut bytes = Vec::new();
        for _ in 0..requests {
            // Streams of clients have odd numbers (RFC 9113 5.1.1).
            let stream = self.begun * 2 + 1;
            self.begun += 1;
            frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, stream, &block);
        }
        bytes
    }

    /// The bytes to send in response to those that were read.
    pub(super) fn reply(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.reply)
    }

    /// The bodies since the last request, concatenated.
    pub(super) fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// Takes received bytes. Returns the number of responses that they complete.
    ///
    /// # Errors
    /// A response is not 200, or the server has reset a stream or ends the connection.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<usize, Failure> {
        self.bytes.extend_from_slice(input);
        let bytes = std::mem::take(&mut self.bytes);
        let (mut rest, mut answers) = (&bytes[..], 0);
        while let [l2, l1, l0, kind, flags, _, _, _, _, ..] = *rest {
            let length = u32::from_be_bytes([0, l2, l1, l0]) as usize;
            let Some(payload) = rest.get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + length) else {
                break;
            };
            rest = &rest[FRAME_HEAD_BYTES + length..];
            answers += self.take(kind, flags, payload)?;
        }
        self.bytes = rest.to_vec();
        Ok(answers)
    }

    /// Handles one frame. Returns 1 if it ends a response.
    fn take(&mut self, kind: u8, flags: u8, payload: &[u8]) -> Result<usize, Failure> {
        // A server that limits requests would reset streams or end the connection, which spoils the
        // measurement.
        match kind {
            SETTINGS if flags & ACK == 0 => frame(&mut self.reply, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.reply, PING, ACK, 0, payload),
            RST_STREAM | GOAWAY => {
                return Err(format!("frame {kind} of the server: {payload:?}").into());
            }
            HEADERS if status(payload) != Some(STATUS_200) => {
                return Err(format!("an answer is not 200: {payload:02x?}").into());
            }
            DATA => {
                self.used += u32::try_from(payload.len())?;
                if self.used > CONNECTION_WINDOW / 2 {
                    frame(&mut self.reply, WINDOW_UPDATE, 0, 0, &self.used.to_be_bytes());
                    self.used = 0;
                }
                self.body.extend(payload);
            }
            _ => {}
        }
        Ok(usize::from(matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http2_responses_are_counted_for_bytewise_input_and_an_error_status_is_an_error() {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        for stream in [1, 3] {
            frame(&mut bytes, HEADERS, END_HEADERS, stream, &[0x3f, 0xe1, 0x1f, STATUS_200]);
            frame(&mut bytes, DATA, 0, stream, b"ab");
            frame(&mut bytes, DATA, END_STREAM, stream, b"");
        }
        let mut reader = Reader::default();
        let answers: usize = bytes.iter().map(|byte| reader.read(&[*byte]).unwrap()).sum();
        assert_eq!((answers, &reader.take_body()[..]), (2, &b"abab"[..]));
        let mut ack = Vec::new();
        frame(&mut ack, SETTINGS, ACK, 0, &[]);
        assert_eq!(reader.reply(), ack);
        let mut refused = Vec::new();
        // `:status: 404` of the static table.
        frame(&mut refused, HEADERS, END_HEADERS | END_STREAM, 5, &[0x8d]);
        assert!(reader.read(&refused).is_err());
    }
}
