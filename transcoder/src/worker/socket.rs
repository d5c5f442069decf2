//! The worker's end of the socket: reports out, orders in. Blocking, from threads of their own.

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

/// How long the daemon may take to read something. It never waits for anything, so it is gone, or it is stopped.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// Reads orders.
#[derive(Debug)]
pub(super) struct Orders {
    socket: io::BufReader<UnixStream>,
}

impl Orders {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket: io::BufReader::with_capacity(64 << 10, socket),
        }
    }

    /// The next order; [`Order::End`] as well where the daemon has closed its side.
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
        let mut message = Vec::with_capacity(len);
        let read = Read::take(&mut self.socket, len as u64)
            .read_to_end(&mut message)
            .map_err(Error::Socket)?;
        if read < len {
            return Ok(Order::End);
        }
        Ok(Order::parse(message.into())?)
    }
}

/// Writes reports, whole, from any thread.
#[derive(Debug)]
pub(super) struct Reports {
    /// None when a report has not been written whole: nothing may follow it.
    socket: Mutex<Option<UnixStream>>,
}

impl Reports {
    pub(super) fn new(socket: UnixStream) -> Result<Self, Error> {
        socket.set_write_timeout(Some(WRITE_LIMIT)).map_err(Error::Socket)?;
        Ok(Self {
            socket: Mutex::new(Some(socket)),
        })
    }

    /// Writes one. The payload is not copied.
    ///
    /// # Errors
    /// [`Error::Socket`]: the daemon does not read, or is gone.
    pub(super) fn send(&self, report: &Report) -> Result<(), Error> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match &mut *socket {
            Some(socket) => write(socket, &report.write()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|err| {
            *socket = None;
            Error::Socket(err)
        })
    }

    /// Something for the daemon's log.
    ///
    /// # Errors
    /// As [`Reports::send`].
    pub(super) fn log(&self, level: Level, text: impl Into<String>) -> Result<(), Error> {
        let text = text.into();
        self.send(&Report::Log { level, text })
    }
}

fn write(socket: &mut UnixStream, Written { head, payload }: &Written) -> io::Result<()> {
    let mut parts = [IoSlice::new(head), IoSlice::new(payload)];
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
