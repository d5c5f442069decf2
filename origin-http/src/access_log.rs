//! The access log: a line for each response, when its last byte has been sent or it has been
//! aborted.
//!
//! Combined Log Format (Apache HTTP Server, mod_log_config) or JSON lines. Clients' text is
//! escaped, so that a line cannot be forged, and secrets in an address are masked. Nothing waits
//! for the log: lines go to a thread through a bounded queue, and lines that do not fit are
//! counted.

mod line;
mod writer;

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, header, request::Parts};
use http_server::Finish;
use media_core::ChannelName;

use crate::{config::Config, metrics::Metrics, resource::UNKNOWN};

use self::{line::Record, writer::Writer};

pub use self::line::Format;
pub(crate) use self::line::Masked;

/// Maximum number of logged bytes of an address, of a header field and of a method, because a
/// client could fill the disk with longer ones.
const MAX_TARGET: usize = 2_048;
const MAX_FIELD: usize = 1_024;
const MAX_METHOD: usize = 32;
/// nginx' status for a client that closed the connection before its response.
const GONE: u16 = 499;

/// The log. Cheap to clone; all clones are one log. Dropping the last one waits a moment for queued
/// lines.
#[derive(Clone)]
pub struct AccessLog(Arc<Writer>);

impl AccessLog {
    /// Opens the file of `http.access_log`, or stdout for `-`, and starts the writing thread;
    /// `None` if the log is disabled.
    ///
    /// # Errors
    /// The file cannot be opened or created (with mode 0640, in an existing directory), or the
    /// thread cannot be started.
    pub fn open(config: &Config, metrics: &Metrics) -> io::Result<Option<Self>> {
        // The file is opened here, not by the thread, so that a wrong path stops the daemon's start
        // with its reason.
        let path = match config.access_log.as_str() {
            "" => return Ok(None),
            "-" => None,
            path => Some(PathBuf::from(path)),
        };
        let writer = Writer::start(path, config.access_log_format, metrics.unlogged.clone())?;
        Ok(Some(Self(Arc::new(writer))))
    }

    /// Reopens the file by its name, after it was moved away; if that fails, writing continues to
    /// the old one, and the failure is logged once. Returns at once. Does nothing for stdout.
    pub fn reopen(&self) {
        self.0.reopen();
    }

    /// Records the arrival of a request. Its line has the status 499 unless [`Entry::responded`]
    /// follows.
    pub(crate) fn begin(&self, head: &Parts, peer: SocketAddr) -> Entry {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let headers = &head.headers;
        // The texts are cut here, so that a waiting request holds no more of its head than its line
        // needs.
        let record = Record {
            at: SystemTime::now(),
            peer,
            method: cut(head.method.as_str().as_bytes(), MAX_METHOD),
            target: cut(Masked(target).to_string().as_bytes(), MAX_TARGET),
            version: head.version,
            status: GONE,
            sent: 0,
            duration: Duration::ZERO,
            // The address of another page may have secrets too, for example a session's token.
            referer: field(headers, &header::REFERER).map(|referer| {
                let referer = String::from_utf8_lossy(referer);
                cut(Masked(&referer).to_string().as_bytes(), MAX_FIELD)
            }),
            user_agent: field(headers, &header::USER_AGENT).map(|agent| cut(agent, MAX_FIELD)),
            kind: UNKNOWN.name,
            channel: None,
            held: Duration::ZERO,
        };
        Entry { begun: Instant::now(), record: Some(Box::new(record)), writer: Arc::clone(&self.0) }
    }
}

/// A request whose line is written when this is dropped: after the last byte of the response, or
/// when the response or the request is aborted.
pub(crate) struct Entry {
    /// The arrival of the request's head, on the monotonic clock.
    begun: Instant,
    /// Present until it is dropped.
    record: Option<Box<Record>>,
    /// The log that gets the line.
    writer: Arc<Writer>,
}

impl Entry {
    /// Records the start of the response, after the request was `held` for media that did not
    /// exist. `channel`: the one that the request concerns.
    pub(crate) fn responded(
        &mut self,
        kind: &'static str,
        status: u16,
        channel: Option<ChannelName>,
        held: Duration,
    ) {
        if let Some(record) = &mut self.record {
            (record.kind, record.status) = (kind, status);
            (record.channel, record.held) = (channel, held);
        }
    }
}

impl Finish for Entry {
    fn finish(mut self: Box<Self>, sent_bytes: u64) {
        if let Some(record) = &mut self.record {
            record.sent = sent_bytes;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // The time includes the delivery of the body: a slow client shows in the log.
        if let Some(mut record) = self.record.take() {
            record.duration = self.begun.elapsed();
            self.writer.write(record);
        }
    }
}

/// The first value of a field.
fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(|value| value.as_bytes())
}

/// The first `max` bytes.
fn cut(text: &[u8], max: usize) -> Box<[u8]> {
    text[..text.len().min(max)].into()
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
