//! Many publishers on one thread: each message of a stream is sent when it is due, with one write.
//! Nothing is serialised or copied for it, so that the load costs little compared with its target.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure, client,
    stream::{FPS, GROUP, Kind, Noise, PERIOD},
    wire::Wire,
};

/// Running publishers.
#[derive(Debug)]
pub struct Load {
    /// The messages of a period, shared by all publishers.
    wire: Arc<Wire>,
    /// By index, which reports contain.
    publishers: Vec<Publisher>,
    /// The next due time of each.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
}

/// The connection of one publisher, and its position in the stream.
#[derive(Debug)]
struct Publisher {
    /// Its connection, on which `publish` was accepted.
    socket: TcpStream,
    /// When its stream begins.
    start: Instant,
    /// Index of its next message in the period.
    next: usize,
    /// Complete periods so far.
    periods: u32,
    /// Pictures sent so far.
    pictures: u64,
}

/// A video message immediately before its write, so that no effect can precede the report of it.
#[derive(Debug, Clone, Copy)]
pub struct Picture {
    /// Index of its publisher.
    pub publisher: usize,
    /// The picture's number in its stream, from 0.
    pub number: u64,
    /// The present time.
    pub sent: Instant,
}

impl Load {
    /// Publishers of these stream keys on `server`, which begin to send within the next 2 s, at
    /// different times.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub fn publish<'a>(
        server: SocketAddr,
        keys: impl IntoIterator<Item = &'a str>,
        wire: Arc<Wire>,
    ) -> Result<Self, Failure> {
        let sockets: Result<Vec<_>, _> =
            keys.into_iter().map(|key| client::publish(server, key)).collect();
        Self::over(sockets?, wire)
    }

    /// The same over existing connections, for a server that only reads bytes.
    ///
    /// # Errors
    /// A connection was closed.
    pub fn over(sockets: Vec<TcpStream>, wire: Arc<Wire>) -> Result<Self, Failure> {
        let now = Instant::now();
        // Starts are spread over a group, so that the key frames of the publishers do not coincide.
        let group_us = GROUP * 1_000_000 / FPS;
        let mut noise = Noise(0x2545_f491_4f6c_dd1d);
        let (mut publishers, mut due) = (Vec::new(), BinaryHeap::new());
        for (index, mut socket) in sockets.into_iter().enumerate() {
            socket.set_write_timeout(Some(Duration::from_secs(10)))?;
            socket.write_all(&wire.preamble)?;
            let start = now + Duration::from_micros(noise.below(group_us));
            due.push(Reverse((start, index)));
            publishers.push(Publisher { socket, start, next: 0, periods: 0, pictures: 0 });
        }
        Ok(Self { wire, publishers, due })
    }

    /// Sends until `end`; `sent` is called for each picture.
    ///
    /// # Errors
    /// A server has closed the connection, or has accepted nothing for 10 s.
    pub fn run(&mut self, end: Instant, mut sent: impl FnMut(Picture)) -> Result<(), Failure> {
        while let Some(&Reverse((at, index))) = self.due.peek() {
            if at >= end {
                thread::sleep(end.saturating_duration_since(Instant::now()));
                break;
            }
            let now = Instant::now();
            // The loop sleeps until the earliest message of all. A late one is sent at once, and
            // the next due time does not change.
            if at > now {
                thread::sleep(at - now);
                continue;
            }
            self.due.pop();
            let publisher = &mut self.publishers[index];
            let message = &self.wire.messages[publisher.next];
            if message.kind == Kind::Video {
                sent(Picture { publisher: index, number: publisher.pictures, sent: now });
                publisher.pictures += 1;
            }
            let written = publisher.socket.write_all(&self.wire.bytes[message.range.clone()]);
            written.map_err(|err| format!("publisher {index}: {err}"))?;
            publisher.next += 1;
            if publisher.next == self.wire.messages.len() {
                publisher.next = 0;
                publisher.periods += 1;
            }
            // Computed from the start of the stream, so that rounding does not add up.
            let at = PERIOD * publisher.periods + self.wire.messages[publisher.next].at;
            self.due.push(Reverse((publisher.start + at, index)));
        }
        Ok(())
    }
}
