//! A reader over one keep-alive connection of HTTP/1.1: GET, a body of known length, gzip where
//! offered. RFC 9112.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;

use crate::Failure;

/// The connection.
#[derive(Debug)]
pub struct Reader {
    /// For the `Host` field.
    server: SocketAddr,
    /// The connection; bytes after a response stay in the buffer.
    socket: BufReader<TcpStream>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// Arrival of its last byte, before decoding.
    pub arrived: Instant,
}

impl Reader {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn connect(server: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(server)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { server, socket: BufReader::with_capacity(64 << 10, socket) })
    }

    /// Requests `path` and waits for the whole response.
    ///
    /// # Errors
    /// The connection was closed, 20 s have passed, or the response is not supported.
    pub fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        self.exchange("GET", path, "Accept-Encoding: gzip\r\n", "")
    }

    /// Sends a request with these header fields, each ended by CRLF, and waits for the whole
    /// response.
    ///
    /// # Errors
    /// See [`Reader::get`].
    pub fn exchange(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
    ) -> Result<Answer, Failure> {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{fields}{length}\r\n{body}",
            self.server
        );
        self.socket.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.socket.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| format!("{path}: no status in {line:?}"))?;
        // Only two fields matter. An empty line, which has no colon, ends the head.
        let (mut length, mut gzip) = (None, false);
        loop {
            line.clear();
            self.socket.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse::<u32>().ok(),
                "content-encoding" => gzip = value == "gzip",
                _ => {}
            }
        }
        // Chunked bodies are not supported: the daemon's responses to these requests have a length.
        let length = length.ok_or_else(|| format!("{path}: {status} without a length"))?;
        let mut body = vec![0; length as usize];
        self.socket.read_exact(&mut body)?;
        // Before decoding, which is not the server's time.
        let arrived = Instant::now();
        if gzip {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
            body = plain;
        }
        Ok(Answer { status, body, arrived })
    }
}
