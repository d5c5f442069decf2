//! The worker's end of the socket: reports out, orders in. Blocking, from separate threads.

use std::{
    io::{self, IoSlice, Read, Write},
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    Error,
    protocol::{LENGTH_BYTES, Level, Order, Report, Written, parse_length},
};

/// Time limit for the daemon to read. The daemon never waits, so after this time it has ended, or
/// is suspended.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// Reads orders.
#[derive(Debug)]
pub(super) struct Orders {
    socket: io::BufReader<UnixStream>,
}

impl Orders {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket: io::BufReader::with_capacity(64 << 10, socket) }
    }

    /// The next order; also [`Order::End`] if the daemon has closed its side.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Malformed`].
    pub(super) fn next(&mut self) -> Result<Order, Error> {
        let mut prefix = [0; LENGTH_BYTES];
        match self.socket.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(Order::End),
            Err(err) => return Err(Error::Socket(err)),
        }
        let len = parse_length(prefix)?;
        // The daemon is trusted, so its length is allocated at once.
        let mut message = Vec::with_capacity(len);
        let read = Read::take(&mut self.socket, len as u64)
            .read_to_end(&mut message)
            .map_err(Error::Socket)?;
        // The daemon ended within a message: it needs no more reports.
        if read < len {
            return Ok(Order::End);
        }
        Ok(Order::parse(message.into())?)
    }
}

/// Writes whole reports, from any thread.
#[derive(Debug)]
pub(super) struct Reports {
    /// `None` after an incomplete report, because nothing may follow it.
    socket: Mutex<Option<UnixStream>>,
}

impl Reports {
    pub(super) fn new(socket: UnixStream) -> Result<Self, Error> {
        socket.set_write_timeout(Some(WRITE_LIMIT)).map_err(Error::Socket)?;
        Ok(Self { socket: Mutex::new(Some(socket)) })
    }

    /// Writes a report. The payload is not copied.
    ///
    /// # Errors
    /// [`Error::Socket`]: the daemon does not read, or has ended.
    pub(super) fn send(&self, report: &Report) -> Result<(), Error> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match &mut *socket {
            Some(socket) => write(socket, &report.write()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        // Part of the report may have been written, and the daemon could not parse anything after
        // it.
        written.map_err(|err| {
            *socket = None;
            Error::Socket(err)
        })
    }

    /// Reports a message for the daemon's log.
    ///
    /// # Errors
    /// As [`Reports::send`].
    pub(super) fn log(&self, level: Level, text: impl Into<String>) -> Result<(), Error> {
        let text = text.into();
        self.send(&Report::Log { level, text })
    }
}

/// Writes head and payload without joining them.
fn write(socket: &mut UnixStream, Written { head, payload }: &Written) -> io::Result<()> {
    let mut parts = [IoSlice::new(head), IoSlice::new(payload)];
    // A socket may accept a part of both slices, so the rest is written until nothing is left.
    let mut rest = &mut parts[..];
    while rest.iter().any(|part| !part.is_empty()) {
        match socket.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
