//! A minimal server: one thread over epoll that reads a request's head without parsing it, and
//! writes one response from memory. HTTP/1.1 without pipelining; RFC 9112. [`write`] responds at
//! once, [`park`] at a trigger.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::Failure;

/// The token of the listener; connections have their index.
const LISTENER: Token = Token(usize::MAX);
/// Maximum size of a head; ours are far shorter.
const HEAD_BYTES: usize = 4_096;

/// A client's connection.
#[derive(Debug)]
struct Connection {
    /// The connection, not blocking.
    socket: TcpStream,
    /// Bytes of the response that are still to be written.
    left: usize,
    /// Whether a head has been read without a response yet.
    asked: bool,
}

/// Responds to every request at once with `answer`, head and body, until it is ended; `listening`
/// gets the address.
///
/// # Errors
/// There is no free port.
pub fn write(answer: &[u8], listening: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    run(answer, listening, true)
}

/// Holds requests until one for `/go` arrives, which gets no response itself: then all get
/// `answer`, in the order of their connections.
///
/// # Errors
/// There is no free port.
pub fn park(answer: &[u8], listening: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    run(answer, listening, false)
}

/// Runs the loop: responds at once, or at `/go`.
fn run(answer: &[u8], listening: impl FnOnce(SocketAddr), at_once: bool) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    listening(listener.local_addr()?);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut head = [0; HEAD_BYTES];
    loop {
        // A signal, for example of a profiler, interrupts the wait.
        if let Err(err) = poll.poll(&mut events, None) {
            if err.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(err.into());
        }
        let mut go = false;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    let place =
                        connections.iter().position(Option::is_none).unwrap_or(connections.len());
                    // mio's epoll is edge-triggered, so both interests are registered once and
                    // never changed.
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut socket, Token(place), both)?;
                    let connection = Connection { socket, left: 0, asked: false };
                    match connections.get_mut(place) {
                        Some(free) => *free = Some(connection),
                        None => connections.push(Some(connection)),
                    }
                }
                continue;
            }
            let Some(place) = connections.get_mut(event.token().0) else {
                continue;
            };
            let Some(connection) = place else { continue };
            if !connection.ready(answer, &mut head, at_once, &mut go) {
                *place = None;
            }
        }
        // In one pass over all connections, which is the least that any server needs.
        if go {
            for place in &mut connections {
                let Some(connection) = place.as_mut().filter(|connection| connection.asked) else {
                    continue;
                };
                connection.begin(answer);
                if !connection.flush(answer) {
                    *place = None;
                }
            }
        }
    }
}

impl Connection {
    /// Does all work that does not block. Returns `false` when the connection has ended.
    fn ready(&mut self, answer: &[u8], head: &mut [u8], at_once: bool, go: &mut bool) -> bool {
        if self.left > 0 && !self.flush(answer) {
            return false;
        }
        while self.left == 0 {
            match self.socket.read(head) {
                Ok(0) => return false,
                Ok(read) if head[..read].starts_with(b"GET /go") => {
                    *go = true;
                    return true;
                }
                // A head arrives in one piece on loopback; otherwise its last piece ends it as
                // well.
                Ok(read) if !head[..read].ends_with(b"\r\n\r\n") => {}
                Ok(read) => {
                    self.asked = true;
                    if at_once {
                        self.begin(answer);
                        if !self.flush(answer) {
                            return false;
                        }
                    }
                    // The read did not fill the buffer, so there is no more, and epoll reports
                    // further bytes.
                    if read < head.len() {
                        return true;
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return true,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// The response is to be written from its start.
    fn begin(&mut self, answer: &[u8]) {
        (self.left, self.asked) = (answer.len(), false);
    }

    /// Writes as much as the socket accepts. Returns `false` when the connection has ended.
    fn flush(&mut self, answer: &[u8]) -> bool {
        while self.left > 0 {
            match self.socket.write(&answer[answer.len() - self.left..]) {
                Ok(written) => self.left -= written,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return true,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// A response with these bytes and the minimal head for players.
pub fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
