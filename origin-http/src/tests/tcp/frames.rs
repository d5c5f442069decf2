//! HTTP/2 for tests (RFC 9113 4, 6; RFC 7541 6): frames as bytes, including those that no client
//! library would send.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::LONG;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The error code of GOAWAY or RST_STREAM.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub(super) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A setting of SETTINGS.
pub(super) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A header block of a GET with these additional fields.
pub(super) fn block(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x87]; // :method: GET, :scheme: https
    block.push(0x04); // :path, as it is
    text(&mut block, path);
    block.push(0x01); // :authority
    text(&mut block, "origin");
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn text(block: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127, "one byte of length");
    block.push(u8::try_from(text.len()).unwrap());
    block.extend(text.as_bytes());
}

pub(super) fn request_frame(stream: u32, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(path, fields))
}

/// A peer that sends frames without checks.
pub(super) struct Raw<S> {
    pub(super) socket: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Begins a connection. The windows are so large that they never matter, unless `window` is
    /// given.
    pub(super) async fn begin(socket: S, window: Option<u32>) -> Self {
        let mut raw = Self { socket };
        let initial = setting(4, window.unwrap_or(1 << 30));
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &initial)].concat();
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        bytes.extend(frame(SETTINGS, 1, 0, &[]));
        raw.send(&bytes).await;
        raw
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        // A server that has closed has sent the reason before.
        let _ = self.socket.write_all(bytes).await;
        let _ = self.socket.flush().await;
    }

    /// The next frame; `None` when the connection is closed.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, rest @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.socket.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes(rest);
            Some(Frame { kind, flags, stream, payload })
        };
        tokio::time::timeout(LONG, read).await.expect("a frame in time")
    }

    /// The next frame of a stream.
    pub(super) async fn next_of(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.stream == stream {
                return frame;
            }
        }
    }

    /// Waits for the end of the connection. Returns the code of the last GOAWAY.
    pub(super) async fn ended(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }
}
