//! One rendition of the video: pictures in, access units out, on two threads. One scales and feeds the encoder, one takes what it gives.

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

use super::{OFF, Shared, chain, encoder, pace::Pace, scaler::Scaler};
use crate::{Error, protocol::Report};

/// Pictures that wait for the scaler. They are the decoder's: more of them is memory, fewer is waiting for each other.
const MAX_WAITING: usize = 2;
/// Scaled pictures that wait for the encoder.
const MAX_SCALED: u64 = 2;
/// Pictures that the encoder may keep, beyond which it would wait for itself: its look-ahead and what it reorders.
const MAX_KEPT: u32 = 24;
/// Units that wait for the socket.
const MAX_UNITS: u32 = 4;

/// A decoded picture, shared by all renditions.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub(super) frame: Arc<VideoFrame<Readable>>,
    /// In the broadcast's ticks.
    pub(super) pts: i64,
    /// It is to be a key frame.
    pub(super) marked: bool,
}

/// A rendition that is made.
#[derive(Debug)]
pub(super) struct Rendition {
    pictures: SyncSender<Picture>,
    threads: Vec<JoinHandle<()>>,
    elements: Vec<gst::Element>,
}

impl Rendition {
    /// Starts its encoder and its threads; `from` says whether pictures that wait are still wanted.
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
        let mut take = Take {
            shared: Arc::clone(shared),
            rendition: index,
            record: Bytes::new(),
        };
        let threads = vec![
            shared.spawn(format!("scale {index}"), move || feed.run(&waiting))?,
            shared.spawn(format!("encoded {index}"), move || take.run(&sink))?,
        ];
        Ok(Self {
            pictures,
            threads,
            elements,
        })
    }

    /// Hands over a picture, when there is room.
    ///
    /// # Errors
    /// [`Error::Stopped`]: its thread has ended, and said why.
    pub(super) fn push(&self, picture: Picture) -> Result<(), Error> {
        self.pictures.send(picture).map_err(|_| Error::Stopped)
    }

    /// Waits until all that is in it has come out.
    ///
    /// # Errors
    /// [`Error::Play`]: its elements do not stop.
    pub(super) fn finish(self, shared: &Shared) -> Result<(), Error> {
        drop(self.pictures);
        for thread in self.threads {
            // It has said why, if it failed.
            let _ = thread.join();
        }
        chain::remove(&shared.pipeline, &self.elements)
    }
}

/// Scales, and feeds the encoder.
struct Feed {
    shared: Arc<Shared>,
    info: VideoInfo,
    pool: gst::BufferPool,
    scaler: Scaler,
    source: AppSrc,
    pace: Pace,
    from: Arc<AtomicU64>,
}

impl Feed {
    fn run(&mut self, pictures: &Receiver<Picture>) -> Result<(), Error> {
        let mut first = true;
        for picture in pictures {
            if self.from.load(Ordering::Relaxed) == OFF {
                continue;
            }
            let scaled = self.scaled(&picture)?;
            // The first is one by itself.
            if picture.marked && !first {
                // Takes its place before the picture in the queue of the source.
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

    fn scaled(&mut self, picture: &Picture) -> Result<gst::Buffer, Error> {
        let frame = &picture.frame;
        let mut buffer = if (frame.width(), frame.height()) == (self.info.width(), self.info.height()) {
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
        buffer_ref.set_dts(None);
        buffer_ref.set_duration(None);
        Ok(buffer)
    }
}

/// Takes what the encoder gives.
struct Take {
    shared: Arc<Shared>,
    rendition: u8,
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
            let pts = self.shared.clock.ticks(sample.segment(), buffer.pts());
            let pts = pts.ok_or(Error::Unstamped)?;
            let dts = self.shared.clock.ticks(sample.segment(), buffer.dts()).unwrap_or(pts);
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

/// Scaled pictures, used again and again.
fn pool(info: &VideoInfo, threads: u32) -> Result<gst::BufferPool, Error> {
    let pool = gstreamer_video::VideoBufferPool::new();
    let mut config = pool.config();
    let size = u32::try_from(info.size()).map_err(|_| Error::Scale)?;
    // The source of the encoder bounds what waits; this is for what the encoder keeps.
    config.set_params(Some(&info.to_caps()?), size, 0, MAX_KEPT + 2 * threads);
    pool.set_config(config)?;
    pool.set_active(true)?;
    Ok(pool.upcast())
}
