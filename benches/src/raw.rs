//! The least that a server can do: one thread over epoll that reads a request's head, looks at nothing in it, and writes one answer from
//! memory. HTTP/1.1 without pipelining; RFC 9112. [`write`] answers at once, [`park`] when it is told to.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::Failure;

const LISTENER: Token = Token(usize::MAX);
/// A head of ours is far shorter.
const HEAD_BYTES: usize = 4_096;

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    /// How much of the answer is still to be written.
    left: usize,
    /// The head has been read and not been answered.
    asked: bool,
}

/// Answers every request at once with `answer`, head and body, until it is ended; `listening` is told the address.
///
/// # Errors
/// There is no port.
pub fn write(answer: &[u8], listening: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    run(answer, listening, true)
}

/// Holds requests until one for `/go` comes, which is not answered: then all are answered with `answer`, in the order of their connections.
///
/// # Errors
/// There is no port.
pub fn park(answer: &[u8], listening: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    run(answer, listening, false)
}

fn run(answer: &[u8], listening: impl FnOnce(SocketAddr), at_once: bool) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    listening(listener.local_addr()?);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut head = [0; HEAD_BYTES];
    loop {
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
                    let place = connections
                        .iter()
                        .position(Option::is_none)
                        .unwrap_or(connections.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut socket, Token(place), both)?;
                    let connection = Connection {
                        socket,
                        left: 0,
                        asked: false,
                    };
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
    /// Does what can be done now; `false` when the connection has ended.
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
                // A head comes in one piece on loopback; what does not is half a head, and its rest ends it as well.
                Ok(read) if !head[..read].ends_with(b"\r\n\r\n") => {}
                Ok(read) => {
                    self.asked = true;
                    if at_once {
                        self.begin(answer);
                        if !self.flush(answer) {
                            return false;
                        }
                    }
                    // Less than there was room for: there is no more, and epoll tells of what comes.
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

    fn begin(&mut self, answer: &[u8]) {
        (self.left, self.asked) = (answer.len(), false);
    }

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

/// An answer of these bytes with the head that players need least.
pub fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
