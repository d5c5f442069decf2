//! Thousands of requests held open by one thread over epoll, at a low cost compared with the
//! server's: a request is one write of bytes that are made once, and a response is parsed only far
//! enough to detect its end and status 200. HTTP/1.1 with a connection for each request, or HTTP/2
//! by prior knowledge with many requests on each. RFC 9112, RFC 9113, RFC 7541.
//!
//! Connections use many addresses of 127.0.0.0/8, since servers limit the connections of one
//! address.

mod http1;
mod http2;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::Failure;

/// Number of connections from each address.
const PER_ADDRESS: usize = 500;

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// One request at a time.
    Http1,
    /// Several concurrent requests.
    Http2 {
        /// The number of them on one connection.
        streams: usize,
    },
}

/// Connections to one server.
#[derive(Debug)]
pub struct Fleet {
    /// The server's address, also for `Host` and `:authority`.
    server: SocketAddr,
    /// The protocol of all connections.
    protocol: Protocol,
    /// epoll, with the index of the connection as the token.
    poll: Poll,
    /// Reused for each poll.
    events: Events,
    /// All connections, by index.
    connections: Vec<Connection>,
    /// Buffer of one read, shared by all connections.
    input: Vec<u8>,
}

/// A connection: received bytes that are not parsed yet, and the number of expected responses.
#[derive(Debug)]
struct Connection {
    /// The connection. Writes are expected to fit into its send buffer.
    socket: TcpStream,
    /// The bytes of responses that are not complete.
    state: State,
    /// Requests without a response.
    awaited: usize,
}

/// The parser of a connection.
#[derive(Debug)]
enum State {
    Http1(http1::Reader),
    Http2(http2::Reader),
}

impl Fleet {
    /// Opens connections for `requests` concurrent requests.
    ///
    /// # Errors
    /// The server cannot be reached, or descriptors have run out (`ulimit -n`).
    pub fn open(server: SocketAddr, protocol: Protocol, requests: usize) -> Result<Self, Failure> {
        let count = match protocol {
            Protocol::Http1 => requests,
            Protocol::Http2 { streams } => requests / streams,
        };
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            // [`PER_ADDRESS`] connections from each address, from 127.0.0.2 on.
            let from = Ipv4Addr::from(
                u32::from(Ipv4Addr::new(127, 0, 0, 2)) + u32::try_from(index / PER_ADDRESS)?,
            );
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            // Connected while it blocks, so that a refusal is reported with its connection.
            let connected = socket.connect_timeout(&server.into(), Duration::from_secs(10));
            connected.map_err(|err| format!("connection {index} of {count}: {err}"))?;
            socket.set_tcp_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket.into());
            poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
            let state = match protocol {
                Protocol::Http1 => State::Http1(http1::Reader::default()),
                Protocol::Http2 { .. } => {
                    socket.write_all(&http2::preface())?;
                    State::Http2(http2::Reader::default())
                }
            };
            connections.push(Connection { socket, state, awaited: 0 });
        }
        Ok(Self {
            server,
            protocol,
            poll,
            events: Events::with_capacity(1_024),
            connections,
            input: vec![0; 64 << 10],
        })
    }

    /// Requests `path` on all connections.
    ///
    /// # Errors
    /// A connection was closed.
    pub fn ask_all(&mut self, path: &str) -> Result<(), Failure> {
        for index in 0..self.connections.len() {
            let requests = match self.protocol {
                Protocol::Http1 => 1,
                Protocol::Http2 { streams } => streams,
            };
            self.ask(index, path, requests)?;
        }
        Ok(())
    }

    /// Asks for `path` once, on the first connection, and waits for its body, encoded as it is.
    ///
    /// # Errors
    /// See [`Fleet::wait`]; or the answer is not 200.
    pub fn ask_one(&mut self, path: &str, wait: Duration) -> Result<Vec<u8>, Failure> {
        self.ask(0, path, 1)?;
        self.wait(wait)?;
        Ok(self.first_body())
    }

    /// The bodies of the last responses on the first connection, concatenated.
    pub fn first_body(&mut self) -> Vec<u8> {
        match &mut self.connections[0].state {
            State::Http1(reader) => reader.take_body(),
            State::Http2(reader) => reader.take_body(),
        }
    }

    /// Writes `requests` requests for `path` on one connection.
    ///
    /// # Errors
    /// The connection was closed, or its send buffer is full.
    fn ask(&mut self, index: usize, path: &str, requests: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let bytes = match &mut connection.state {
            State::Http1(_) => http1::request(self.server, path),
            State::Http2(reader) => reader.requests(self.server, path, requests),
        };
        connection.awaited += requests;
        // The requests of a connection are some kilobytes, which its send buffer holds.
        let written = connection.socket.write_all(&bytes);
        written.map_err(|err| format!("request on connection {index}: {err}").into())
    }

    /// Reads until every request has its response. Returns their arrival times, in order. From the
    /// first response on it does not sleep, because waking this thread costs a considerable part of
    /// a response on the same machine, which a remote viewer would not cost.
    ///
    /// # Errors
    /// A response is not 200, a connection was closed, or `wait` has passed.
    pub fn wait(&mut self, wait: Duration) -> Result<Vec<Instant>, Failure> {
        let begin = Instant::now();
        let mut awaited: usize = self.connections.iter().map(|connection| connection.awaited).sum();
        let mut arrived = Vec::with_capacity(awaited);
        while awaited > 0 {
            let left = wait.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(
                    format!("{awaited} answers have not come in {} s", wait.as_secs()).into()
                );
            }
            // The first response ends the sleep; the documentation of this function has the reason.
            let sleep = if arrived.is_empty() { left } else { Duration::ZERO };
            match self.poll.poll(&mut self.events, Some(sleep)) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &self.events {
                let index = event.token().0;
                let connection = &mut self.connections[index];
                let answers = connection.read(&mut self.input);
                let answers = answers.map_err(|err| format!("connection {index}: {err}"))?;
                if answers > 0 {
                    // One time for all responses of a read: they arrived together.
                    let now = Instant::now();
                    arrived.extend(std::iter::repeat_n(now, answers));
                    awaited -= answers;
                }
            }
        }
        Ok(arrived)
    }
}

impl Connection {
    /// Reads the available bytes. Returns the number of completed responses.
    ///
    /// # Errors
    /// The connection was closed, or a response is not 200 or was not requested.
    fn read(&mut self, input: &mut [u8]) -> Result<usize, Failure> {
        let mut answers = 0;
        loop {
            let read = match self.socket.read(input) {
                Ok(0) => return Err("closed by the server".into()),
                Ok(read) => read,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err.into()),
            };
            answers += match &mut self.state {
                State::Http1(reader) => reader.read(&input[..read])?,
                State::Http2(reader) => {
                    let answers = reader.read(&input[..read])?;
                    // Acknowledgements of settings and pings, and window updates.
                    let reply = reader.reply();
                    if !reply.is_empty() {
                        self.socket.write_all(&reply)?;
                    }
                    answers
                }
            };
            // epoll reports bytes that arrive after a read that did not fill the buffer.
            if read < input.len() {
                break;
            }
        }
        let awaited = self.awaited.checked_sub(answers);
        // A surplus response would shift all later times.
        self.awaited = awaited.ok_or("an answer that nobody has asked for")?;
        Ok(answers)
    }
}
