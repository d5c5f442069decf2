//! Our own RTMP client, for behaviour that no real client has: it writes any chunks that a test
//! needs.

use socket2::{Domain, Socket, Type};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// Message types (RTMP 1.0, 7.1 and 5.4).
pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const COMMAND: u8 = 20;

/// An AMF0 value, for the types that commands need.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Amf {
    Number(f64),
    Boolean(bool),
    String(String),
    Object(Vec<(String, Amf)>),
    Null,
}

impl Amf {
    pub(crate) fn string(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let write_text = |out: &mut Vec<u8>, text: &str| {
            out.extend(u16::try_from(text.len()).expect("a short string").to_be_bytes());
            out.extend(text.as_bytes());
        };
        match self {
            Self::Number(number) => {
                out.push(0);
                out.extend(number.to_be_bytes());
            }
            Self::Boolean(value) => out.extend([1, u8::from(*value)]),
            Self::String(text) => {
                out.push(2);
                write_text(out, text);
            }
            Self::Object(properties) => {
                out.push(3);
                for (name, value) in properties {
                    write_text(out, name);
                    value.write(out);
                }
                out.extend([0, 0, 9]);
            }
            Self::Null => out.push(5),
        }
    }

    fn parse(bytes: &mut &[u8]) -> Self {
        let mut take = |count: usize| {
            let (taken, rest) = bytes.split_at(count);
            *bytes = rest;
            taken
        };
        match take(1)[0] {
            0 => Self::Number(f64::from_be_bytes(take(8).try_into().expect("eight bytes"))),
            1 => Self::Boolean(take(1)[0] != 0),
            2 => Self::String(text(bytes)),
            marker @ (3 | 8) => {
                if marker == 8 {
                    take(4);
                }
                let mut properties = Vec::new();
                loop {
                    let name = text(bytes);
                    if name.is_empty() {
                        assert_eq!(bytes[0], 9, "the end of an object");
                        *bytes = &bytes[1..];
                        return Self::Object(properties);
                    }
                    properties.push((name, Self::parse(bytes)));
                }
            }
            5 | 6 => Self::Null,
            marker => panic!("AMF0 marker {marker}"),
        }
    }

    fn property(&self, wanted: &str) -> Option<&str> {
        let Self::Object(properties) = self else { return None };
        properties.iter().find_map(|(name, value)| match value {
            Self::String(text) if name == wanted => Some(text.as_str()),
            _ => None,
        })
    }
}

fn text(bytes: &mut &[u8]) -> String {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let text = String::from_utf8_lossy(&bytes[2..2 + length]).into_owned();
    *bytes = &bytes[2 + length..];
    text
}

/// The values of a command, serialised in order.
pub(crate) fn amf(values: &[Amf]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        value.write(&mut out);
    }
    out
}

/// The refusal of the server: the `code` and `description` of its `onStatus` or `_error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) description: String,
}

/// One connection after the handshake.
#[derive(Debug)]
pub(crate) struct Client {
    socket: TcpStream,
    out_chunk_size: usize,
    in_chunk_size: usize,
    partial: BTreeMap<u32, Partial>,
}

/// The state of a chunk stream of the server.
#[derive(Debug, Default, Clone)]
struct Partial {
    length: usize,
    kind: u8,
    extended: bool,
    payload: Vec<u8>,
}

impl Client {
    /// Connects and performs the simple handshake (5.2).
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::shake_hands(TcpStream::connect(addr).expect("the listener accepts"))
    }

    /// The same, with a connection that buffers a few kilobytes. The small segments are for the
    /// server's side: the kernel sizes a send buffer in segments, and those of the loopback
    /// interface have 64 KiB.
    pub(crate) fn connect_with_small_buffers(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        socket.set_tcp_mss(536).expect("a socket takes a segment size");
        socket.set_recv_buffer_size(4096).expect("a socket takes a buffer size");
        socket.connect(&addr.into()).expect("the listener accepts");
        Self::shake_hands(socket.into())
    }

    fn shake_hands(mut socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a limit");
        socket.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket takes a limit");
        let mut c0_c1 = vec![3];
        c0_c1.extend([0; 1536]);
        socket.write_all(&c0_c1).expect("C0 and C1 are taken");
        let mut s0_s1_s2 = vec![0; 1 + 2 * 1536];
        socket.read_exact(&mut s0_s1_s2).expect("S0, S1 and S2 come");
        assert_eq!(s0_s1_s2[0], 3, "RTMP version");
        socket.write_all(&s0_s1_s2[1..1537]).expect("C2 is taken");
        Self { socket, out_chunk_size: 128, in_chunk_size: 128, partial: BTreeMap::new() }
    }

    /// `connect`, `createStream`, `publish`. Returns the result of the last.
    pub(crate) fn publish(addr: SocketAddr, app: &str, key: &str) -> Result<Self, Refusal> {
        Self::publish_with(addr, app, key, &[])
    }

    /// The same, with more properties of `connect`.
    pub(crate) fn publish_with(
        addr: SocketAddr,
        app: &str,
        key: &str,
        properties: &[(&str, Amf)],
    ) -> Result<Self, Refusal> {
        let mut client = Self::connect(addr);
        client.open_with(app, properties)?;
        client.command(
            1,
            &[
                Amf::string("publish"),
                Amf::Number(3.0),
                Amf::Null,
                Amf::string(key),
                Amf::string("live"),
            ],
        );
        client.answer("onStatus")?;
        client.set_chunk_size(4096);
        Ok(client)
    }

    /// `connect` and `createStream`.
    pub(crate) fn open(&mut self, app: &str) -> Result<(), Refusal> {
        self.open_with(app, &[])
    }

    fn open_with(&mut self, app: &str, properties: &[(&str, Amf)]) -> Result<(), Refusal> {
        let mut object = vec![("app".to_owned(), Amf::string(app))];
        object.extend(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.command(0, &[Amf::string("connect"), Amf::Number(1.0), Amf::Object(object)]);
        self.answer("_result")?;
        self.command(0, &[Amf::string("createStream"), Amf::Number(2.0), Amf::Null]);
        self.answer("_result")
    }

    pub(crate) fn set_chunk_size(&mut self, size: u32) {
        self.message(2, SET_CHUNK_SIZE, 0, 0, &size.to_be_bytes()).expect("the message is taken");
        self.out_chunk_size = size as usize;
    }

    pub(crate) fn command(&mut self, stream: u32, values: &[Amf]) {
        self.message(3, COMMAND, stream, 0, &amf(values)).expect("the message is taken");
    }

    /// Sends one tag of an FLV file with the caller's timestamp.
    pub(crate) fn tag(&mut self, tag: &Tag, timestamp: u32) -> io::Result<()> {
        let chunk_stream = if tag.kind == VIDEO { 6 } else { 4 };
        self.message(chunk_stream, tag.kind, 1, timestamp, &tag.payload)
    }

    /// Sends one message: a type 0 chunk, then type 3 (5.3.1).
    pub(crate) fn message(
        &mut self,
        chunk_stream: u8,
        kind: u8,
        stream: u32,
        timestamp: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        let chunks = chunks(chunk_stream, kind, stream, timestamp, payload, self.out_chunk_size);
        self.socket.write_all(&chunks.concat())
    }

    /// Ends the connection without an RTMP message.
    pub(crate) fn shutdown(self, how: Shutdown) {
        let _ = self.socket.shutdown(how);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Whether the server closes the connection within `limit`; its remaining output is discarded.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.socket.set_read_timeout(Some(limit)).expect("a socket takes a limit");
        let mut sink = [0; 4096];
        loop {
            match self.socket.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(err) => {
                    return !matches!(
                        err.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }

    /// Waits for a command of this name; an `_error`, or an `onStatus` of level `error`, is a
    /// refusal.
    fn answer(&mut self, wanted: &str) -> Result<(), Refusal> {
        loop {
            let Ok((kind, payload)) = self.read_message() else {
                return Err(Refusal {
                    code: String::new(),
                    description: "connection closed".to_owned(),
                });
            };
            if kind != COMMAND {
                continue;
            }
            let mut rest = &payload[..];
            let Amf::String(name) = Amf::parse(&mut rest) else {
                panic!("a command starts with its name")
            };
            let mut values = Vec::new();
            while !rest.is_empty() {
                values.push(Amf::parse(&mut rest));
            }
            let property = |name: &str| values.iter().find_map(|value| value.property(name));
            if name == "_error" || property("level") == Some("error") {
                let owned = |name: &str| property(name).unwrap_or_default().to_owned();
                return Err(Refusal { code: owned("code"), description: owned("description") });
            }
            if name == wanted {
                return Ok(());
            }
        }
    }

    /// A duplicate of the connection, to read while this one writes.
    pub(crate) fn reader(&mut self) -> Self {
        Self {
            socket: self.socket.try_clone().expect("a descriptor"),
            out_chunk_size: self.out_chunk_size,
            in_chunk_size: self.in_chunk_size,
            partial: std::mem::take(&mut self.partial),
        }
    }

    /// Waits for an `onStatus` with this code. Returns its level, or `None` if the connection ends
    /// or is silent for `limit`.
    pub(crate) fn status(&mut self, code: &str, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("a socket takes a limit");
        loop {
            let (kind, payload) = self.read_message().ok()?;
            let mut rest = &payload[..];
            while kind == COMMAND && !rest.is_empty() {
                let value = Amf::parse(&mut rest);
                if value.property("code") == Some(code) {
                    return value.property("level").map(str::to_owned);
                }
            }
        }
    }

    fn read_message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let [first] = self.take()?;
            let chunk_stream = match first & 0x3f {
                0 => u32::from(self.take::<1>()?[0]) + 64,
                1 => u32::from(u16::from_le_bytes(self.take()?)) + 64,
                id => u32::from(id),
            };
            let mut stream = self.partial.remove(&chunk_stream).unwrap_or_default();
            let format = first >> 6;
            if format < 3 {
                let [a, b, c] = self.take()?;
                stream.extended = [a, b, c] == [0xff; 3];
            }
            if format < 2 {
                let [a, b, c] = self.take()?;
                stream.length = u32::from_be_bytes([0, a, b, c]) as usize;
                stream.kind = self.take::<1>()?[0];
            }
            if format == 0 {
                self.take::<4>()?;
            }
            if stream.extended {
                self.take::<4>()?;
            }
            let mut piece = vec![0; (stream.length - stream.payload.len()).min(self.in_chunk_size)];
            self.socket.read_exact(&mut piece)?;
            stream.payload.extend(piece);
            let whole = (stream.payload.len() == stream.length)
                .then(|| std::mem::take(&mut stream.payload));
            let kind = stream.kind;
            self.partial.insert(chunk_stream, stream);
            match whole {
                Some(payload) if kind == SET_CHUNK_SIZE => {
                    self.in_chunk_size =
                        u32::from_be_bytes(payload[..4].try_into().expect("four bytes")) as usize;
                }
                Some(payload) => return Ok((kind, payload)),
                None => {}
            }
        }
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The chunks of one message, each with its header.
pub(crate) fn chunks(
    id: u8,
    kind: u8,
    stream: u32,
    timestamp: u32,
    payload: &[u8],
    size: usize,
) -> Vec<Vec<u8>> {
    let extended = timestamp >= 0xff_ffff;
    let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let mut chunks = Vec::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        let mut chunk = Vec::new();
        if index == 0 {
            chunk.push(id);
            chunk.extend(&timestamp.min(0xff_ffff).to_be_bytes()[1..]);
            chunk.extend(&u32::try_from(payload.len()).expect("a message fits").to_be_bytes()[1..]);
            chunk.push(kind);
            chunk.extend(stream.to_le_bytes());
        } else {
            chunk.push(0xc0 | id);
        }
        if extended {
            chunk.extend(timestamp.to_be_bytes());
        }
        chunk.extend(piece);
        chunks.push(chunk);
    }
    chunks
}

/// One tag of an FLV file: an RTMP message's type, timestamp in milliseconds and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
}

impl Tag {
    /// Whether it is a sequence header, which a decoder needs before the first access unit.
    pub(crate) fn is_header(&self) -> bool {
        matches!(self.kind, AUDIO | VIDEO) && self.payload.get(1) == Some(&0)
    }

    /// Whether it is an access unit of video.
    pub(crate) fn is_picture(&self) -> bool {
        self.kind == VIDEO && self.payload.get(1) == Some(&1)
    }

    /// Whether it is a video key frame.
    pub(crate) fn is_key(&self) -> bool {
        self.kind == VIDEO && self.payload.first() == Some(&0x17) && self.payload.get(1) == Some(&1)
    }
}

/// The tags of an FLV file.
pub(crate) fn tags(flv: &Path) -> Vec<Tag> {
    let file = fs::read(flv).expect("the file is there");
    let mut rest = &file[13..];
    let mut tags = Vec::new();
    while rest.len() >= 15 {
        let size = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let timestamp = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
        tags.push(Tag { kind: rest[0], timestamp, payload: rest[11..11 + size].to_vec() });
        rest = &rest[11 + size + 4..];
    }
    tags
}
