//! Pictures of the source as JPEG: the newest decoded one, at intervals.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video::VideoFrameExt;
use media_core::{MediaSpan, MediaTime};

use super::{chain, rendition, shared::Shared};
use crate::{Error, protocol::Report};

/// JPEG quality, out of 100: no visible artefacts in a poster.
const QUALITY: i32 = 80;

/// The queue to the thread that encodes pictures.
pub(super) struct Pictures {
    pictures: SyncSender<rendition::Picture>,
    /// Media time between two pictures.
    every: MediaSpan,
    /// Presentation time of the last encoded picture.
    last: Option<MediaTime>,
}

impl Pictures {
    /// Starts the encoder and its thread, if the job has pictures.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Thread`].
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Option<(Self, JoinHandle<()>)>, Error> {
        if shared.job.picture_ms == 0 {
            return Ok(None);
        }
        let (source, sink) = add(&shared.pipeline, shared.job.picture_size)?;
        // One waiting picture at the most: posters must not delay the renditions or hold the
        // decoder's buffers.
        let (pictures, waiting) = sync_channel(1);
        let maker = Maker { shared: Arc::clone(shared), source, sink };
        let thread = shared.spawn("picture".into(), move || maker.run(&waiting))?;
        let every = MediaSpan::from_millis(i64::from(shared.job.picture_ms));
        let pictures = Self { pictures, every, last: None };
        Ok(Some((pictures, thread)))
    }

    /// Offers a decoded picture, which is encoded if one is due. Never waits.
    ///
    /// # Errors
    /// [`Error::Stopped`]: the thread has ended, and reported the reason.
    pub(super) fn offer(&mut self, picture: &rendition::Picture) -> Result<(), Error> {
        // Also due if time has decreased.
        let due = self.last.is_none_or(|last| !(last..last + self.every).contains(&picture.pts));
        if !due {
            return Ok(());
        }
        match self.pictures.try_send(picture.clone()) {
            Ok(()) => self.last = Some(picture.pts),
            // The thread is still encoding the previous one, so the next picture is used.
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return Err(Error::Stopped),
        }
        Ok(())
    }
}

/// Encodes one picture at a time.
struct Maker {
    shared: Arc<Shared>,
    source: AppSrc,
    sink: AppSink,
}

impl Maker {
    fn run(&self, pictures: &Receiver<rendition::Picture>) -> Result<(), Error> {
        for picture in pictures {
            let mut buffer = picture.frame.buffer().copy();
            buffer.get_mut().ok_or(Error::Scale)?.set_pts(self.shared.clock.time(picture.pts));
            // The format is the decoded picture's, which may change within a stream.
            self.source.set_caps(Some(&picture.frame.info().to_caps()?));
            chain::push(&self.source, buffer)?;
            let Ok(sample) = self.sink.pull_sample() else { break };
            let Some(jpeg) = sample.buffer_owned() else { continue };
            self.shared
                .reports
                .send(&Report::Picture { pts: picture.pts, jpeg: chain::bytes(jpeg)? })?;
        }
        chain::finish(&self.source)
    }
}

/// From source to sink:
///
/// ```text
/// appsrc ! videoconvertscale ! full-range BT.601, as JPEG has it, of this size ! jpegenc ! appsink
/// ```
fn add(pipeline: &gst::Pipeline, (width, height): (u32, u32)) -> Result<(AppSrc, AppSink), Error> {
    let source = chain::source(&gst::Caps::new_empty_simple("video/x-raw"), 1);
    let scale = gst::ElementFactory::make("videoconvertscale")
        .property("add-borders", false)
        .property_from_str("method", "lanczos")
        .build()?;
    let sized = chain::filter(
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", i32::try_from(width).unwrap_or(i32::MAX))
            .field("height", i32::try_from(height).unwrap_or(i32::MAX))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            // Full range, BT.601 matrix; the transfer function and the primaries are unspecified
            // (JFIF).
            .field("colorimetry", "1:4:0:0")
            .build(),
    )?;
    let encoder = gst::ElementFactory::make("jpegenc").property("quality", QUALITY).build()?;
    let sink = chain::sink(1);
    chain::add(pipeline, &[source.upcast_ref(), &scale, &sized, &encoder, sink.upcast_ref()])?;
    Ok((source, sink))
}
