//! The ladder's worker: a separate process that makes renditions of one source. Access units arrive
//! on a socket, GStreamer decodes and encodes them, and access units leave on the same socket.
//!
//! The code between the decoder and the encoders is ours, on our own threads, joined by bounded
//! queues that block. The daemon sees a full socket and sheds; the worker drops nothing. If any
//! thread fails, the process ends.
//!
//! ```text
//!                                        +-> scale 0 -> encoder -> encoded 0 -+
//! socket -> orders -> decoder -> fan out +-> scale 1 -> encoder -> encoded 1 -+-> socket
//! ```

mod audio;
pub(crate) mod chain;
mod clock;
mod decoder;
pub(crate) mod encoder;
mod fan_out;
mod owed;
mod pace;
mod picture;
mod plane;
mod rendition;
mod scaler;
mod shared;
mod socket;
mod stats;

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSrc;
use media_core::{MediaSpan, MediaTime};

use self::{
    audio::Audio,
    fan_out::FanOut,
    owed::Silence,
    picture::Pictures,
    shared::{OFF, Shared},
    socket::{Orders, Reports},
    stats::Meter,
};
use crate::{
    Error,
    confine::{Limits, confine},
    elements,
    protocol::{Encoder, Level, Media, Order},
};

/// Interval at which the bus is checked.
const TICK: Duration = Duration::from_millis(100);
/// Interval at which stats are sent.
const FIGURES_SPAN: Duration = Duration::from_secs(1);
/// Time limit for GStreamer to stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Media time without a picture after which, together with [`SILENT_UNITS`], the decoder has
/// failed: 5 s.
const SILENT: MediaSpan = MediaSpan::from_millis(5_000);
/// Number of units that a decoder may hold.
const SILENT_UNITS: u64 = 40;
/// Number of units without a picture after which the decoder has failed, whatever their times.
const MOST_SILENT_UNITS: u64 = 1_000;
/// Maximum number of GStreamer warnings reported in each [`WARNINGS_SPAN`].
const MAX_WARNINGS: u32 = 5;
/// The time for which [`MAX_WARNINGS`] is counted.
const WARNINGS_SPAN: Duration = Duration::from_secs(10);

/// Executes the orders on standard input, which is one end of a stream socket, and reports on the
/// same socket. Returns when the daemon has sent the last order and everything is reported, or when
/// the daemon has ended.
///
/// # Errors
/// Why the worker cannot continue. The daemon got the reason, if it still reads.
pub fn run_for_parent() -> Result<(), Error> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(Error::Socket)?);
    let mut orders = Orders::new(socket.try_clone().map_err(Error::Socket)?);
    let reports = Reports::new(socket)?;
    let job = match orders.next()? {
        Order::Job(job) => *job,
        Order::End => return Ok(()),
        Order::Unit { .. } | Order::Make { .. } => return Err(Error::NoJob),
    };
    gst::init().map_err(Error::Init)?;
    // The job decides which elements are loaded: a confined process cannot open plugins any more.
    let missing = elements::load_for(&job);
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    let meter = Meter::open();
    // The last step before untrusted bytes: plugins are loaded, and no other thread runs yet.
    let limits = Limits { nice: job.nice.into(), ..limits(job.encoder, job.memory_bytes) };
    let confinement = confine(&limits)?;
    reports.log(Level::Debug, confinement.to_string())?;
    if let Some(warning) = confinement.warning() {
        reports.log(Level::Warn, warning)?;
    }
    let (shared, ends) = Shared::new(job, reports);
    let ended = run(&shared, orders, &ends, &meter);
    // The daemon closes its end when it replaces this worker. That is no failure, and no reason can
    // be reported.
    let ended = match ended {
        Err(Error::Socket(err)) if gone(&err) => Ok(()),
        ended => ended,
    };
    if let Err(err) = &ended {
        let _ = shared.reports.log(Level::Warn, err.to_string());
    }
    stop(&shared);
    ended
}

/// The limits of a worker with this encoder.
pub(crate) fn limits(encoder: Encoder, memory_bytes: u64) -> Limits {
    Limits {
        memory_bytes,
        gpu: encoder.is_hardware(),
        read: elements::folders(),
        ..Limits::default()
    }
}

/// Starts the threads, then watches them and the bus until the end or the first failure.
fn run(
    shared: &Arc<Shared>,
    orders: Orders,
    ends: &Receiver<Result<(), Error>>,
    meter: &Meter,
) -> Result<(), Error> {
    let job = &shared.job;
    let (units, pictures) = decoder::add(&shared.pipeline, &job.video, shared.frame_rate)?;
    shared.pipeline.set_state(gst::State::Playing)?;
    let mut threads = Vec::new();
    // Each `start` returns its thread beside the queue to it; the threads are collected to notice
    // their end.
    let poster = Pictures::start(shared)?.map(|(poster, thread)| {
        threads.push(thread);
        poster
    });
    let audio = Audio::start(shared)?.map(|(audio, both)| {
        threads.extend(both);
        audio
    });
    let mut fan_out = FanOut::new(shared, poster);
    threads.push(shared.spawn("fan out".into(), move || fan_out.run(&pictures))?);
    // The reader starts last: no unit arrives before there is a thread that takes its pictures.
    let mut reader = Reader { shared: Arc::clone(shared), orders, units, audio };
    threads.push(shared.spawn("orders".into(), move || reader.run())?);
    let mut watch = Watch::new(shared);
    loop {
        match ends.recv_timeout(TICK) {
            // The bus has the more precise reason for a stopped flow.
            Ok(Err(err)) => return watch.look().and(Err(err)),
            Ok(Ok(())) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        watch.look()?;
        watch.report_stats(meter)?;
        // Each thread has returned, so the last report has been written.
        if threads.iter().all(JoinHandle::is_finished) {
            // The results of the last threads, and the messages on the bus meanwhile.
            ends.try_iter().collect::<Result<(), Error>>()?;
            return watch.look();
        }
    }
}

/// Reads orders, and feeds the decoder.
struct Reader {
    shared: Arc<Shared>,
    orders: Orders,
    units: AppSrc,
    audio: Option<Audio>,
}

impl Reader {
    fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.orders.next()? {
                Order::Job(_) => return Err(Error::NoJob),
                Order::Unit { media: Media::Video, key, dts, pts, mark, payload } => {
                    self.unit(key, dts, pts, mark, payload)?
                }
                // Units of audio are ignored without an audio rendition.
                Order::Unit { media: Media::Audio, pts, payload, .. } => {
                    if let Some(audio) = &mut self.audio {
                        audio.push(pts, payload)?;
                    }
                }
                Order::Make { rendition, on } => {
                    let next = self.shared.owed.next_mark();
                    if let Some(from) = self.shared.from.get(usize::from(rendition)) {
                        let was = from.load(Ordering::Relaxed);
                        // An order that changes nothing must not postpone a rendition that already
                        // waits for its mark.
                        if on != (was != OFF) {
                            from.store(if on { next } else { OFF }, Ordering::Relaxed);
                        }
                    }
                }
                Order::End => break,
            }
        }
        if let Some(audio) = &self.audio {
            audio.finish()?;
        }
        chain::finish(&self.units)
    }

    /// Feeds one unit of the video, waiting for room.
    fn unit(
        &self,
        key: bool,
        dts: MediaTime,
        pts: MediaTime,
        mark: Option<MediaTime>,
        payload: bytes::Bytes,
    ) -> Result<(), Error> {
        let clock = &self.shared.clock;
        // A time that GStreamer cannot represent is the source's fault. The unit counts as broken,
        // and the worker continues.
        let (Some(decoded), Some(shown)) = (clock.time(dts), clock.time(pts)) else {
            self.shared.owed.refuse();
            return Ok(());
        };
        let mut buffer = gst::Buffer::from_slice(payload);
        let buffer_ref = buffer.get_mut().ok_or(Error::Scale)?;
        buffer_ref.set_dts(decoded);
        buffer_ref.set_pts(shown);
        if !key {
            buffer_ref.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        let Silence { span, units } = self.shared.owed.enter(dts, pts, mark);
        // Units alone prove little: a decoder may hold many of them. So media time must have passed
        // too, unless times stand still.
        if units > MOST_SILENT_UNITS || units > SILENT_UNITS && span > SILENT {
            return Err(Error::NoPictures { units });
        }
        chain::push(&self.units, buffer)
    }
}

/// Reads GStreamer's messages, and reports the stats of the process.
struct Watch<'a> {
    shared: &'a Shared,
    bus: Option<gst::Bus>,
    /// Time of the last stats.
    reported: Instant,
    warnings: u32,
    warnings_since: Instant,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared) -> Self {
        let now = Instant::now();
        Self { shared, bus: shared.pipeline.bus(), reported: now, warnings: 0, warnings_since: now }
    }

    /// Handles the messages on the bus.
    fn look(&mut self) -> Result<(), Error> {
        while let Some(message) = self.bus.as_ref().and_then(gst::Bus::pop) {
            let element =
                || message.src().map_or_else(|| "pipeline".into(), |src| src.name().to_string());
            // An error ends the worker, because elements do not continue after one. Warnings are
            // only reported, because decoders issue them for damaged sources.
            match message.view() {
                gst::MessageView::Error(failed) => {
                    return Err(Error::Element {
                        element: element(),
                        message: failed.error().to_string(),
                    });
                }
                gst::MessageView::Warning(warning) => {
                    self.warn(&format!("{}: {}", element(), warning.error()))?
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reports a warning of GStreamer, within [`MAX_WARNINGS`].
    fn warn(&mut self, text: &str) -> Result<(), Error> {
        if self.warnings_since.elapsed() >= WARNINGS_SPAN {
            self.warnings_since = Instant::now();
            self.warnings = 0;
        }
        self.warnings += 1;
        if self.warnings > MAX_WARNINGS {
            return Ok(());
        }
        self.shared.reports.log(Level::Warn, text)
    }

    /// Reports the stats, at most once in each [`FIGURES_SPAN`].
    fn report_stats(&mut self, meter: &Meter) -> Result<(), Error> {
        if self.reported.elapsed() < FIGURES_SPAN {
            return Ok(());
        }
        self.reported = Instant::now();
        self.shared.reports.send(&meter.read(self.shared.owed.counts()))
    }
}

/// Whether the daemon has closed its end of the socket.
fn gone(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Ends GStreamer's threads, within a time limit, so that the process does not end while they run.
fn stop(shared: &Arc<Shared>) {
    let (stopped, wait) = sync_channel::<()>(1);
    let pipeline = shared.pipeline.clone();
    let stopping = thread::Builder::new().name("stop".into()).spawn(move || {
        // On a separate thread, because an element that is stuck blocks this call.
        let _ = pipeline.set_state(gst::State::Null);
        let _ = stopped.send(());
    });
    if stopping.is_ok() {
        let _ = wait.recv_timeout(STOP_LIMIT);
    }
}
