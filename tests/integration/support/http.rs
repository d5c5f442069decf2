//! An HTTP/1.1 client without abstractions: one connection for each request, and the unmodified
//! response (RFC 9112).

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Time limit of a read, above the longest hold of a blocking request (three target durations).
const READ_LIMIT: Duration = Duration::from_secs(30);

/// A whole response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// `max-age` of its Cache-Control, in seconds.
    #[track_caller]
    pub(crate) fn max_age(&self) -> u64 {
        let field = self.header("cache-control").expect("Cache-Control");
        let age = field
            .split(',')
            .map(str::trim)
            .find_map(|directive| directive.strip_prefix("max-age="));
        age.unwrap_or_else(|| panic!("no max-age in {field}")).parse().expect("seconds")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A response whose body is still being received.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    socket: BufReader<TcpStream>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Length(usize),
    Chunked,
    UntilClose,
    Done,
}

pub(crate) fn get(addr: SocketAddr, target: &str) -> Response {
    request(addr, "GET", target, &[])
}

pub(crate) fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Response {
    Exchange::open(addr, method, target, headers).finish()
}

/// Writes `bytes` as they are and returns all received bytes until the peer closes or nothing
/// arrives for `limit`.
pub(crate) fn raw(addr: SocketAddr, bytes: &[u8], limit: Duration) -> Vec<u8> {
    let mut socket = TcpStream::connect(addr).expect("the listener accepts");
    socket.set_read_timeout(Some(limit)).expect("a socket takes a limit");
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer
}

impl Exchange {
    #[track_caller]
    pub(crate) fn open(
        addr: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        Self::send(addr, method, target, headers, &[])
    }

    /// The same with a body, whose length is one of the headers.
    #[track_caller]
    pub(crate) fn send(
        addr: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Self {
        let mut socket = TcpStream::connect(addr).expect("the listener accepts");
        socket.set_read_timeout(Some(READ_LIMIT)).expect("a socket takes a limit");
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let request = [head.as_bytes(), body].concat();
        socket.write_all(&request).expect("the request is taken");

        let mut socket = BufReader::new(socket);
        let status_line = line(&mut socket, target);
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("{method} {target}: status line {status_line:?}"));
        let mut fields = Vec::new();
        loop {
            let field = line(&mut socket, target);
            if field.is_empty() {
                break;
            }
            let (name, value) =
                field.split_once(':').unwrap_or_else(|| panic!("{target}: header {field:?}"));
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let body = if method == "HEAD" || status == 204 || status == 304 {
            Body::Done
        } else if header(&fields, "transfer-encoding") == Some("chunked") {
            assert_eq!(header(&fields, "content-length"), None, "{target}: RFC 9112 6.2: not both");
            Body::Chunked
        } else if let Some(length) = header(&fields, "content-length") {
            Body::Length(length.parse().expect("a length"))
        } else {
            Body::UntilClose
        };
        Self { status, headers: fields, socket, body }
    }

    /// The next piece of the body as received; `None` at its end.
    #[track_caller]
    pub(crate) fn piece(&mut self) -> Option<Vec<u8>> {
        match self.body {
            Body::Done => None,
            Body::Chunked => {
                let size = line(&mut self.socket, "chunk size");
                let size = usize::from_str_radix(size.split(';').next().unwrap_or(""), 16)
                    .expect("a chunk size");
                let mut piece = vec![0; size];
                self.socket.read_exact(&mut piece).expect("the whole chunk");
                assert_eq!(line(&mut self.socket, "chunk end"), "");
                if size == 0 {
                    self.body = Body::Done;
                    return None;
                }
                Some(piece)
            }
            Body::Length(0) => {
                self.body = Body::Done;
                None
            }
            Body::Length(left) => {
                let mut piece = vec![0; left.min(64 * 1024)];
                let read = self.socket.read(&mut piece).expect("the body");
                assert!(read > 0, "the body ended {left} bytes early");
                piece.truncate(read);
                self.body = Body::Length(left - read);
                Some(piece)
            }
            Body::UntilClose => {
                let mut rest = Vec::new();
                self.socket.read_to_end(&mut rest).expect("the body");
                self.body = Body::Done;
                Some(rest)
            }
        }
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> Response {
        let mut body = Vec::new();
        while let Some(piece) = self.piece() {
            body.extend(piece);
        }
        Response { status: self.status, headers: self.headers, body }
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(have, _)| have.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn line(socket: &mut BufReader<TcpStream>, what: &str) -> String {
    let mut line = Vec::new();
    socket.read_until(b'\n', &mut line).unwrap_or_else(|err| panic!("{what}: {err}"));
    assert!(
        line.ends_with(b"\r\n"),
        "{what}: a line ends in CRLF, got {:?}",
        String::from_utf8_lossy(&line)
    );
    line.truncate(line.len() - 2);
    String::from_utf8(line).expect("text")
}
