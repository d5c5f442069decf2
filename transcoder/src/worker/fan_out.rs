//! Passes each decoded picture to each running rendition.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gstreamer as gst;
use gstreamer_app::AppSink;
use gstreamer_video::{VideoFrame, VideoFrameExt, VideoInfo};

use super::{
    encoder,
    picture::Pictures,
    rendition::{Picture, Rendition},
    shared::{OFF, Shared},
};
use crate::{Error, protocol::VideoRendition};

/// Reads the decoder's output, and waits for the slowest rendition: it drops nothing.
pub(super) struct FanOut {
    shared: Arc<Shared>,
    /// A lane for each rendition of the job, running or not.
    lanes: Vec<Lane>,
    /// The encoder of posters, if the job has them.
    pictures: Option<Pictures>,
}

impl FanOut {
    pub(super) fn new(shared: &Arc<Shared>, pictures: Option<Pictures>) -> Self {
        let lanes = shared.job.renditions.iter().zip(&shared.from).enumerate();
        let lanes = lanes.map(|(index, (rendition, from))| Lane {
            index,
            rendition: rendition.clone(),
            from: Arc::clone(from),
            made: None,
            left_out: true,
        });
        Self { lanes: lanes.collect(), shared: Arc::clone(shared), pictures }
    }

    /// Runs until the decoder's end, and then until the end of each rendition.
    ///
    /// # Errors
    /// The failure after which no rendition can be made.
    pub(super) fn run(&mut self, decoded: &AppSink) -> Result<(), Error> {
        while let Ok(sample) = decoded.pull_sample() {
            self.push(&sample)?;
        }
        self.shared.owed.finish();
        for lane in &mut self.lanes {
            lane.stop(&self.shared)?;
        }
        Ok(())
    }

    fn push(&mut self, sample: &gst::Sample) -> Result<(), Error> {
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps()) else {
            return Ok(());
        };
        let Some(pts) = self.shared.clock.media_time(sample.segment(), buffer.pts()) else {
            return Ok(());
        };
        // Pictures without a unit are dropped: a rendition has at most one for each unit of the
        // source, and the daemon checks that.
        let Some(due) = self.shared.owed.leave(pts) else {
            return Ok(());
        };
        let info = VideoInfo::from_caps(caps)?;
        // Mapped once and shared, so that the renditions read the same memory.
        let frame = VideoFrame::from_buffer_readable(buffer, &info).map_err(|_| Error::Scale)?;
        let picture = Picture { frame: Arc::new(frame), pts, marked: due.mark.is_some() };
        if let Some(pictures) = &mut self.pictures {
            pictures.offer(&picture)?;
        }
        for lane in &mut self.lanes {
            lane.push(&self.shared, &picture, due.mark)?;
        }
        Ok(())
    }
}

/// The queue of pictures to one rendition.
struct Lane {
    /// Index of the rendition in the job.
    index: usize,
    rendition: VideoRendition,
    /// The number of the mark from which it is made; 0 for the first picture on, [`OFF`] for not at
    /// all.
    from: Arc<AtomicU64>,
    /// Encoder and threads, while it is made.
    made: Option<Rendition>,
    /// Whether the last picture was dropped, for half the rate.
    left_out: bool,
}

impl Lane {
    fn push(
        &mut self,
        shared: &Arc<Shared>,
        picture: &Picture,
        mark: Option<u64>,
    ) -> Result<(), Error> {
        let from = self.from.load(Ordering::Relaxed);
        // Its encoder is released, because it holds memory and threads.
        if from == OFF {
            return self.stop(shared);
        }
        // A rendition starts at a mark, where segments start.
        if self.made.is_none() {
            if mark.unwrap_or(0) < from {
                return Ok(());
            }
            self.made = Some(self.start(shared, picture)?);
            self.left_out = true;
        }
        // With half the rate every second picture is dropped, but never a marked one: every
        // rendition needs it as a key frame.
        self.left_out = self.rendition.halve_rate && !self.left_out && !picture.marked;
        match &self.made {
            Some(made) if !self.left_out => made.push(picture.clone()),
            _ => Ok(()),
        }
    }

    /// Starts the encoder. Colorimetry is the decoded picture's, so that the rendition has the
    /// source's colours.
    fn start(&self, shared: &Arc<Shared>, picture: &Picture) -> Result<Rendition, Error> {
        let (job, rendition) = (&shared.job, &self.rendition);
        let settings = encoder::Settings {
            encoder: job.encoder,
            preset: job.preset.clone(),
            tuning: job.tuning,
            width: rendition.width,
            height: rendition.height,
            frame_rate: if rendition.halve_rate {
                shared.frame_rate / 2.0
            } else {
                shared.frame_rate
            },
            bitrate_bps: rendition.bitrate_bps,
            level: rendition.level,
            threads: rendition.threads.max(1),
            colorimetry: picture.frame.info().colorimetry(),
        };
        let index = u8::try_from(self.index).map_err(|_| Error::Stopped)?;
        Rendition::start(shared, index, &settings, &self.from)
    }

    /// Ends the encoder, waiting for its last units. Does nothing if it is not running.
    fn stop(&mut self, shared: &Shared) -> Result<(), Error> {
        match self.made.take() {
            Some(made) => made.finish(shared),
            None => Ok(()),
        }
    }
}
