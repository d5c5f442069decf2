//! Publishers that violate the rules of time and configuration, each on a separate thread, until
//! they are stopped. A server that enforces its limits serves others beside them without any
//! effect. RTMP 1.0 5.3.1; Adobe FLV 10.1 E.4.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    client,
    stream::{AAC, AVC},
    wire::{AUDIO, AUDIO_CSID, CONTROL_CSID, SET_CHUNK_SIZE, VIDEO, VIDEO_CSID, full},
};

/// One chunk for each message.
const CHUNK_BYTES: u32 = 1 << 20;
/// Wait of a disconnected publisher before it reconnects.
const PAUSE: Duration = Duration::from_millis(500);
/// Timestamps have 24 bits here: a publisher that reaches the last one begins again with another
/// connection.
const LAST_STAMP_MS: u64 = (1 << 24) - 2;
/// Frames of a flood before a publisher pauses for [`REST`], so that the test does not only fill
/// the sockets' buffers.
const BURST: u64 = 20_000;
/// Pause of a flood after each [`BURST`].
const REST: Duration = Duration::from_secs(5);

/// A violated rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Each audio unit's timestamp is 3 s after the previous one, while video stands still.
    LeapingAudio,
    /// Pictures of 100 kB with equal timestamps, some 20 MB a second.
    StandingStamps,
    /// A different video configuration before each picture.
    AlternatingConfigurations,
    /// A file sent faster than real time.
    FasterThanReal,
    /// Video with presentation timestamps in decoding order, with a reordering depth of five
    /// pictures.
    PresentationStamps,
    /// Audio timestamps in samples instead of milliseconds.
    SampleStamps,
    /// A picture every 2.5 s.
    Slides,
    /// Timestamps that jump by an hour back and forth each second.
    Jumps,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LeapingAudio,
        Self::StandingStamps,
        Self::AlternatingConfigurations,
        Self::FasterThanReal,
        Self::PresentationStamps,
        Self::SampleStamps,
        Self::Slides,
        Self::Jumps,
    ];

    /// The channel of its publisher.
    pub fn channel(self) -> &'static str {
        match self {
            Self::LeapingAudio => "bad-leaping-audio",
            Self::StandingStamps => "bad-standing-stamps",
            Self::AlternatingConfigurations => "bad-configurations",
            Self::FasterThanReal => "bad-faster",
            Self::PresentationStamps => "bad-presentation-stamps",
            Self::SampleStamps => "bad-sample-stamps",
            Self::Slides => "bad-slides",
            Self::Jumps => "bad-jumps",
        }
    }
}

/// Running publishers, one for each [`Fault`]. Dropping it stops them.
#[derive(Debug)]
pub struct Crowd {
    /// Set when the publishers must end.
    stop: Arc<AtomicBool>,
    /// Bytes accepted by the server, of all publishers.
    sent: Arc<AtomicU64>,
    /// A thread for each publisher, joined when this is dropped.
    threads: Vec<thread::JoinHandle<()>>,
}

impl Crowd {
    /// Publishes with every fault at once to `server`.
    pub fn publish(server: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = Fault::ALL.map(|fault| {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || publish(server, fault, &stop, &sent))
        });
        Self { stop, sent, threads: threads.into() }
    }

    /// Bytes that the server has accepted.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Publishes repeatedly, because a server may disconnect a bad publisher, and encoders then
/// reconnect.
fn publish(server: SocketAddr, fault: Fault, stop: &AtomicBool, sent: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        // The server may refuse or close the connection.
        if let Ok(socket) = client::publish(server, fault.channel()) {
            let _ = Bad::new(socket, stop, sent).and_then(|mut bad| bad.run(fault));
        }
        thread::sleep(PAUSE);
    }
}

/// One connection of a bad publisher.
struct Bad<'a> {
    /// The connection, after `publish` was accepted.
    socket: TcpStream,
    /// Checked before each write.
    stop: &'a AtomicBool,
    /// Shared count of accepted bytes.
    sent: &'a AtomicU64,
    /// When the connection was made: after 600 s it is made again.
    start: Instant,
}

impl<'a> Bad<'a> {
    /// Sends the chunk size and both configurations, as a correct publisher does.
    ///
    /// # Errors
    /// The server has closed the connection.
    fn new(socket: TcpStream, stop: &'a AtomicBool, sent: &'a AtomicU64) -> std::io::Result<Self> {
        // Short time limits, so that a server that does not read cannot delay the end of the test.
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut bad = Self { socket, stop, sent, start: Instant::now() };
        let mut out = Vec::new();
        // The message that changes the chunk size still has chunks of 128 bytes (RTMP 1.0 5.4.1).
        full(&mut out, CONTROL_CSID, SET_CHUNK_SIZE, 0, 0, &CHUNK_BYTES.to_be_bytes(), 128);
        configure(&mut out, 0, 0);
        message(&mut out, AUDIO, 0, &[&[0xaf, 0], AAC].concat());
        bad.write(&out)?;
        Ok(bad)
    }

    /// Sends until the server closes the connection, the timestamps are used up, or it is stopped.
    ///
    /// # Errors
    /// The server has closed the connection, 600 s have passed, or it is stopped.
    fn run(&mut self, fault: Fault) -> std::io::Result<()> {
        // Three correct seconds first, so that the server has segments and a clock that the fault
        // disturbs.
        if matches!(fault, Fault::LeapingAudio | Fault::AlternatingConfigurations) {
            self.pace(75, |out, n| ordinary(out, n, n * 40))?;
        }
        // Floods are as fast as the server accepts; the other faults are paced, because their rate
        // is part of the fault.
        match fault {
            Fault::LeapingAudio => self.flood(|out, n| audio(out, 3_000 + n * 3_000)),
            Fault::StandingStamps => self.pace_by(Duration::from_millis(5), u64::MAX, |out, n| {
                video(out, 1_000, n % 50 == 0, 0, 100_000);
            }),
            Fault::AlternatingConfigurations => self.flood(|out, n| {
                configure(out, 3_000 + n, 1 + u8::try_from(n % 2).unwrap_or(0));
                video(out, 3_000 + n, true, 0, 30);
            }),
            Fault::FasterThanReal => {
                self.pace_by(Duration::from_micros(200), u64::MAX, |out, n| {
                    ordinary(out, n, n * 40);
                })
            }
            Fault::PresentationStamps => self.pace(u64::MAX, |out, n| {
                /// Presentation order of nine pictures that are sent in decoding order: a pyramid
                /// of B pictures.
                const ORDER: [u64; 9] = [0, 8, 4, 2, 1, 3, 6, 5, 7];
                let place = usize::try_from(n % 9).unwrap_or(0);
                let shown = n / 9 * 9 + ORDER[place];
                video(out, 1_000 + shown * 40, n % 90 == 0, 0, 2_000);
                audio(out, 1_000 + n * 40);
            }),
            Fault::SampleStamps => self.pace(u64::MAX, |out, n| {
                video(out, 1_000 + n * 40, n % 50 == 0, 0, 2_000);
                audio(out, 1_000 + n * 1_024);
            }),
            Fault::Slides => self.pace_by(Duration::from_millis(2_500), u64::MAX, |out, n| {
                video(out, n * 2_500, true, 0, 2_000);
            }),
            Fault::Jumps => self.pace(u64::MAX, |out, n| {
                // Each second, after 25 frames, the time jumps forward by an hour or back.
                let hour = if n / 25 % 2 == 1 { 3_600_000 } else { 0 };
                ordinary(out, n, n * 40 + hour);
            }),
        }
    }

    /// As fast as the server accepts, with pauses.
    fn flood(&mut self, mut make: impl FnMut(&mut Vec<u8>, u64)) -> std::io::Result<()> {
        let mut out = Vec::new();
        // Messages are collected to about 60 kB, so that system calls do not limit the rate.
        for n in 0.. {
            make(&mut out, n);
            if out.len() > 60_000 || n % BURST == BURST - 1 {
                self.write(&out)?;
                out.clear();
            }
            if n % BURST == BURST - 1 {
                self.rest()?;
            }
        }
        Ok(())
    }

    /// Sends `count` messages at 25 a second.
    fn pace(&mut self, count: u64, make: impl FnMut(&mut Vec<u8>, u64)) -> std::io::Result<()> {
        self.pace_by(Duration::from_millis(40), count, make)
    }

    /// Sends `count` messages, one for each `step`.
    fn pace_by(
        &mut self,
        step: Duration,
        count: u64,
        mut make: impl FnMut(&mut Vec<u8>, u64),
    ) -> std::io::Result<()> {
        let start = Instant::now();
        for n in 0..count {
            // From the start, not from the previous message, so that delays do not add up.
            let due = start
                + Duration::from_nanos(
                    u64::try_from(step.as_nanos()).unwrap_or(0).saturating_mul(n),
                );
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut out = Vec::new();
            make(&mut out, n);
            self.write(&out)?;
        }
        Ok(())
    }

    /// Pauses for [`REST`], or until it is stopped or the server closes the connection.
    fn rest(&mut self) -> std::io::Result<()> {
        let until = Instant::now() + REST;
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
            self.check()?;
        }
        Ok(())
    }

    /// Writes all of `bytes`, however slowly the server reads.
    ///
    /// # Errors
    /// As [`Bad::check`], or the connection is lost.
    fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            self.check()?;
            // The write timeout returns to the loop, which then checks for the stop.
            match self.socket.write(bytes) {
                Ok(written) => {
                    self.sent.fetch_add(written as u64, Ordering::Relaxed);
                    bytes = &bytes[written..];
                }
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Checks that nobody has stopped it, timestamps are left, and the server has not closed the
    /// connection.
    ///
    /// # Errors
    /// `Interrupted` if it is stopped or 600 s have passed; `ConnectionAborted` if the server has
    /// closed.
    fn check(&mut self) -> std::io::Result<()> {
        let over = self.start.elapsed() > Duration::from_secs(600);
        if over || self.stop.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        // The server's messages are read and discarded, since a full receive buffer would stop it.
        // The end of the stream shows that it has disconnected this publisher.
        self.socket.set_nonblocking(true)?;
        let read = self.socket.read(&mut [0; 4096]);
        self.socket.set_nonblocking(false)?;
        match read {
            Ok(0) => Err(ErrorKind::ConnectionAborted.into()),
            Err(err) if err.kind() != ErrorKind::WouldBlock => Err(err),
            _ => Ok(()),
        }
    }
}

/// Appends a message with a format 0 header, on message stream 1.
fn message(out: &mut Vec<u8>, kind: u8, stamp_ms: u64, body: &[u8]) {
    let csid = if kind == VIDEO { VIDEO_CSID } else { AUDIO_CSID };
    // A value beyond the last timestamp wraps, which is a jump back like any other.
    let stamp_ms = u32::try_from(stamp_ms % LAST_STAMP_MS).unwrap_or(0);
    full(out, csid, kind, 1, stamp_ms, body, CHUNK_BYTES as usize);
}

/// A video configuration; each `variant` differs in an unused parameter set.
fn configure(out: &mut Vec<u8>, stamp_ms: u64, variant: u8) {
    // Eight bytes up to the sequence parameter set, whose length is 0x19; the picture parameter set
    // is replaced.
    let sps = 8 + 0x19;
    let pps: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 1 + variant];
    let record =
        [&[0x17, 0, 0, 0, 0], &AVC[..sps], &[1, 0, 7], pps, &[0xfd, 0xf8, 0xf8, 0]].concat();
    message(out, VIDEO, stamp_ms, &record);
}

/// A picture of 25 a second and the audio beside it.
fn ordinary(out: &mut Vec<u8>, n: u64, stamp_ms: u64) {
    video(out, stamp_ms, n.is_multiple_of(25), 0, 2_000);
    audio(out, stamp_ms);
}

/// A picture of `size` bytes as an FLV tag with one NAL unit. The content after the slice header's
/// start is not decodable.
fn video(out: &mut Vec<u8>, stamp_ms: u64, key: bool, composition_ms: u8, size: usize) {
    let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, composition_ms];
    body.extend(u32::try_from(size).unwrap_or(0).to_be_bytes());
    body.extend(if key { [0x65, 0x88] } else { [0x41, 0x9a] });
    body.resize(9 + size, 0x80);
    message(out, VIDEO, stamp_ms, &body);
}

/// A silent AAC frame of stereo.
fn audio(out: &mut Vec<u8>, stamp_ms: u64) {
    message(out, AUDIO, stamp_ms, b"\xaf\x01\x21\x10\x04\x60\x8c\x1c");
}
