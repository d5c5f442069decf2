//! One rendition of the video: pictures in, access units out, on two threads. One scales and feeds
//! the encoder, the other reads its output.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video::{VideoFrame, VideoFrameExt, VideoFrameRef, VideoInfo, video_frame::Readable};
use media_core::MediaTime;

use super::{
    chain, encoder,
    pace::Pace,
    scaler::Scaler,
    shared::{OFF, Shared},
};
use crate::{Error, protocol::Report};

/// Pictures that wait for the scaler. They are the decoder's: more of them cost memory, fewer make
/// the threads wait for each other.
const MAX_WAITING: usize = 2;
/// Scaled pictures that wait for the encoder.
const MAX_SCALED: u64 = 2;
/// Maximum number of pictures that the encoder holds, for its look-ahead and reordering; with fewer
/// buffers it would block itself.
const MAX_KEPT: u32 = 24;
/// Units that wait for the socket.
const MAX_UNITS: u32 = 4;

/// A decoded picture, shared by all renditions.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    /// The decoder's buffer, mapped for reading.
    pub(super) frame: Arc<VideoFrame<Readable>>,
    /// Presentation time on the broadcast's timeline.
    pub(super) pts: MediaTime,
    /// Whether it becomes a key frame.
    pub(super) marked: bool,
}

/// A running rendition.
#[derive(Debug)]
pub(super) struct Rendition {
    /// The queue to the scaling thread. Dropping it ends the rendition.
    pictures: SyncSender<Picture>,
    /// The scaling thread and the one that reads units.
    threads: Vec<JoinHandle<()>>,
    /// The elements in the worker's pipeline, from source to sink.
    elements: Vec<gst::Element>,
}

impl Rendition {
    /// Starts its encoder and its threads; `from` controls whether waiting pictures are still
    /// wanted.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Thread`].
    pub(super) fn start(
        shared: &Arc<Shared>,
        index: u8,
        settings: &encoder::Settings,
        from: &Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let info = settings.picture()?;
        let source = chain::source(&info.to_caps()?, MAX_SCALED);
        let sink = chain::sink(MAX_UNITS);
        let mut elements = vec![source.clone().upcast()];
        let encoder = settings.elements()?;
        let pace = Pace::new(settings, encoder.first().cloned());
        elements.extend(encoder);
        elements.push(sink.clone().upcast());
        chain::add(&shared.pipeline, &elements.iter().collect::<Vec<_>>())?;

        let (pictures, waiting) = sync_channel(MAX_WAITING);
        let mut feed = Feed {
            shared: Arc::clone(shared),
            pool: pool(&info, settings.threads)?,
            info,
            scaler: Scaler::default(),
            source,
            pace,
            from: Arc::clone(from),
        };
        let mut take = Take { shared: Arc::clone(shared), rendition: index, record: Bytes::new() };
        let threads = vec![
            shared.spawn(format!("scale {index}"), move || feed.run(&waiting))?,
            shared.spawn(format!("encoded {index}"), move || take.run(&sink))?,
        ];
        Ok(Self { pictures, threads, elements })
    }

    /// Passes a picture, waiting for room.
    ///
    /// # Errors
    /// [`Error::Stopped`]: its thread has ended, and reported the reason.
    pub(super) fn push(&self, picture: Picture) -> Result<(), Error> {
        self.pictures.send(picture).map_err(|_| Error::Stopped)
    }

    /// Waits until it has output everything that it holds.
    ///
    /// # Errors
    /// [`Error::Play`]: its elements do not stop.
    pub(super) fn finish(self, shared: &Shared) -> Result<(), Error> {
        drop(self.pictures);
        for thread in self.threads {
            // It has reported the reason, if it failed.
            let _ = thread.join();
        }
        chain::remove(&shared.pipeline, &self.elements)
    }
}

/// Scales, and feeds the encoder.
struct Feed {
    shared: Arc<Shared>,
    /// The format of scaled pictures.
    info: VideoInfo,
    /// Buffers for scaled pictures, reused when the encoder releases them.
    pool: gst::BufferPool,
    scaler: Scaler,
    source: AppSrc,
    /// Corrects the encoder's frame rate.
    pace: Pace,
    /// [`OFF`] when the pictures in the queue are not wanted any more.
    from: Arc<AtomicU64>,
}

impl Feed {
    fn run(&mut self, pictures: &Receiver<Picture>) -> Result<(), Error> {
        let mut first = true;
        for picture in pictures {
            // A rendition that is shed drops its waiting pictures, so that the encoders of the
            // others get the processor at once.
            if self.from.load(Ordering::Relaxed) == OFF {
                continue;
            }
            let scaled = self.scaled(&picture)?;
            // The first picture is always a key frame.
            if picture.marked && !first {
                // The event is placed before the picture in the queue of the source.
                self.source.send_event(encoder::key_frame());
            }
            first = false;
            self.pace.push(picture.pts, picture.marked);
            chain::push(&self.source, scaled)?;
        }
        chain::finish(&self.source)?;
        let _ = self.pool.set_active(false);
        Ok(())
    }

    /// The picture in this rendition's size, with its presentation time only.
    fn scaled(&mut self, picture: &Picture) -> Result<gst::Buffer, Error> {
        let frame = &picture.frame;
        // A stand-in has the source's size, so the decoder's memory is shared instead of copied.
        let mut buffer =
            if (frame.width(), frame.height()) == (self.info.width(), self.info.height()) {
                frame.buffer().copy()
            } else {
                self.pool.acquire_buffer(None).map_err(Error::Flow)?
            };
        let buffer_ref = buffer.get_mut().ok_or(Error::Scale)?;
        if (frame.width(), frame.height()) != (self.info.width(), self.info.height()) {
            let mut scaled = VideoFrameRef::from_buffer_ref_writable(buffer_ref, &self.info)?;
            self.scaler.scale(frame, &mut scaled)?;
        }
        let buffer_ref = buffer.get_mut().ok_or(Error::Scale)?;
        buffer_ref.set_pts(self.shared.clock.time(picture.pts));
        // Decode times and durations of the source do not apply: the encoder sets its own order.
        buffer_ref.set_dts(None);
        buffer_ref.set_duration(None);
        Ok(buffer)
    }
}

/// Reads the encoder's output.
struct Take {
    shared: Arc<Shared>,
    /// Index of the rendition in reports.
    rendition: u8,
    /// The configuration that was reported last.
    record: Bytes,
}

impl Take {
    fn run(&mut self, sink: &AppSink) -> Result<(), Error> {
        // It ends with the end of the stream.
        while let Ok(sample) = sink.pull_sample() {
            if let Some(record) = chain::record(&sample).filter(|record| *record != self.record) {
                self.record = record.clone();
                let rendition = self.rendition;
                self.shared.reports.send(&Report::Config { rendition, record })?;
            }
            let Some(buffer) = sample.buffer_owned() else { continue };
            let pts = self.shared.clock.media_time(sample.segment(), buffer.pts());
            let pts = pts.ok_or(Error::Unstamped)?;
            // Encoders without reordering may set no decode time.
            let dts = self.shared.clock.media_time(sample.segment(), buffer.dts()).unwrap_or(pts);
            self.shared.reports.send(&Report::Unit {
                rendition: self.rendition,
                key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                dts,
                pts,
                payload: chain::bytes(buffer)?,
            })?;
        }
        Ok(())
    }
}

/// A pool of reused scaled pictures.
fn pool(info: &VideoInfo, threads: u32) -> Result<gst::BufferPool, Error> {
    let pool = gstreamer_video::VideoBufferPool::new();
    let mut config = pool.config();
    let size = u32::try_from(info.size()).map_err(|_| Error::Scale)?;
    // The encoder's source limits the waiting pictures; this limit is for the pictures that the
    // encoder holds.
    config.set_params(Some(&info.to_caps()?), size, 0, MAX_KEPT + 2 * threads);
    pool.set_config(config)?;
    pool.set_active(true)?;
    Ok(pool.upcast())
}
