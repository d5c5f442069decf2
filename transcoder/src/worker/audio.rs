//! Encodes the source's AAC at another bit rate. Each unit of the source yields the number of
//! samples in its configuration, or silence if the decoder rejects it, so that the encoder's output
//! can be mapped to the source's times by counting, whatever its delay.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};
use media_core::{MediaTime, codec::aac};

use super::{chain, shared::Shared};
use crate::{Error, protocol::Report};

/// Buffers between two steps.
const MAX_BUFFERS: u32 = 4;
/// More units than any decoder, and more blocks than any encoder, holds.
const MAX_OWED: usize = 64;
/// Samples of each channel in a unit of the encoder. Its first unit precedes the first sample of
/// its input.
const FRAME_SAMPLES: u64 = 1_024;
/// Size of a 32-bit float.
const SAMPLE_BYTES: u64 = 4;

/// The input, and the threads behind it.
pub(super) type Started = (Audio, [JoinHandle<()>; 2]);

/// The input.
pub(super) struct Audio {
    /// The decoder's input.
    units: AppSrc,
    owed: Arc<Owed>,
    config: aac::Config,
    /// The number of the next unit.
    next: u64,
}

impl Audio {
    /// Starts decoder, encoder and the threads behind them, if the job has an audio rendition.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Thread`]; [`Error::AudioConfig`]: its configuration is invalid.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Option<Started>, Error> {
        let (Some(record), Some(rendition)) = (&shared.job.audio, &shared.job.audio_rendition)
        else {
            return Ok(None);
        };
        let config = aac::Config::parse(record).map_err(Error::AudioConfig)?;
        let (units, decoded) = add_decoder(&shared.pipeline, &config)?;
        let (samples, encoded) = add_encoder(&shared.pipeline, rendition.bitrate_bps)?;
        let owed = Arc::<Owed>::default();
        let mut filler =
            Filler { owed: Arc::clone(&owed), config: config.clone(), samples, blocks: None };
        let taker = Taker {
            shared: Arc::clone(shared),
            owed: Arc::clone(&owed),
            index: u8::try_from(shared.job.renditions.len()).map_err(|_| Error::Stopped)?,
        };
        let threads = [
            shared.spawn("audio".into(), move || filler.run(&decoded))?,
            shared.spawn("encoded audio".into(), move || taker.run(&encoded))?,
        ];
        let audio = Self { units, owed, config, next: 0 };
        Ok(Some((audio, threads)))
    }

    /// Passes a unit to the decoder, waiting for room.
    ///
    /// # Errors
    /// [`Error::Flow`].
    pub(super) fn push(&mut self, pts: MediaTime, payload: Bytes) -> Result<(), Error> {
        // Units are identified by number, not by time, because decoders smooth times.
        let mut buffer = gst::Buffer::from_slice(payload);
        let buffer_ref = buffer.get_mut().ok_or(Error::Scale)?;
        buffer_ref.set_pts(time_of(&self.config, self.next));
        self.owed.enter(self.next, pts);
        self.next += 1;
        chain::push(&self.units, buffer)
    }

    /// Ends the input.
    ///
    /// # Errors
    /// [`Error::Flow`].
    pub(super) fn finish(&self) -> Result<(), Error> {
        chain::finish(&self.units)
    }
}

/// Units and blocks that the decoder and the encoder have accepted and not yet output.
#[derive(Debug, Default)]
struct Owed {
    state: Mutex<State>,
}

/// The two queues, under one lock.
#[derive(Debug, Default)]
struct State {
    /// Units in the decoder, in order of their numbers.
    units: VecDeque<Unit>,
    /// Blocks in the encoder, in order of their samples.
    blocks: VecDeque<Block>,
}

/// A unit in the decoder.
#[derive(Debug, Clone, Copy)]
struct Unit {
    number: u64,
    /// Presentation time.
    pts: MediaTime,
}

/// A block in the encoder: the samples of one unit.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Number of its first sample.
    start: u64,
    /// Presentation time.
    pts: MediaTime,
}

impl Owed {
    /// Records a unit that goes into the decoder.
    fn enter(&self, number: u64, pts: MediaTime) {
        push(&mut self.lock().units, Unit { number, pts });
    }

    /// The next unit up to `number`: all of them are returned, decoded or not.
    fn unit(&self, number: u64) -> Option<Unit> {
        let units = &mut self.lock().units;
        let due = units.front().is_some_and(|unit| unit.number <= number);
        if due { units.pop_front() } else { None }
    }

    /// Records a block that goes into the encoder.
    fn encode(&self, start: u64, pts: MediaTime) {
        push(&mut self.lock().blocks, Block { start, pts });
    }

    /// The time of the sample with this number.
    fn time_of(&self, sample: u64, rate: u64) -> Option<MediaTime> {
        let blocks = &mut self.lock().blocks;
        // Times are requested in increasing order, so blocks before the one with this sample are
        // not needed any more.
        while blocks.get(1).is_some_and(|next| next.start <= sample) {
            blocks.pop_front();
        }
        let &Block { start, pts } = blocks.front()?;
        let since = sample.checked_sub(start)? * 90_000 / rate.max(1);
        pts.ticks().checked_add(i64::try_from(since).ok()?).map(MediaTime::from_ticks)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends an item. The oldest one is dropped at the limit, so that a faulty element cannot make
/// the queue grow.
fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MAX_OWED {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// The format of the decoder's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Samples a second.
    rate: u64,
    /// Samples of one channel in a block, which is the output for one unit.
    samples: u64,
    /// Bytes of a block.
    bytes: usize,
}

/// Passes samples from the decoder to the encoder, a block for each unit.
struct Filler {
    owed: Arc<Owed>,
    config: aac::Config,
    samples: AppSrc,
    /// The blocks, once the format of the first one is known.
    blocks: Option<Blocks>,
}

/// The blocks that went into the encoder.
struct Blocks {
    /// The format of the first one. It is fixed: if a decoder changes its format, its output is
    /// replaced by silence.
    shape: Shape,
    /// Number of blocks so far, which gives the next one its time.
    count: u64,
}

impl Filler {
    fn run(&mut self, decoded: &AppSink) -> Result<(), Error> {
        while let Ok(sample) = decoded.pull_sample() {
            let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps()) else {
                continue;
            };
            let Some(pts) = buffer.pts() else { continue };
            let number = self.number(pts);
            // The encoder gets the format of the first decoded block, which is not always that of
            // the configuration: with SBR the rate is doubled.
            if self.blocks.is_none() {
                self.blocks = shape(&self.config, caps).map(|shape| Blocks { shape, count: 0 });
                self.samples.set_caps(Some(&caps.to_owned()));
            }
            // Units that were lost before it.
            while let Some(before) = number.checked_sub(1)
                && let Some(Unit { pts, .. }) = self.owed.unit(before)
            {
                self.block(pts, None)?;
            }
            if let Some(Unit { pts, .. }) = self.owed.unit(number) {
                self.block(pts, Some(buffer))?;
            }
        }
        // The decoder has ended: the units that it still owes will not follow.
        while let Some(Unit { pts, .. }) = self.owed.unit(u64::MAX) {
            self.block(pts, None)?;
        }
        chain::finish(&self.samples)
    }

    /// The number of the unit to which a buffer at `pts` belongs.
    fn number(&self, pts: gst::ClockTime) -> u64 {
        let samples = u128::from(pts.nseconds()) * u128::from(self.config.timescale.hz());
        let unit = u128::from(self.config.frame_samples.max(1)) * 1_000_000_000;
        u64::try_from((samples + unit / 2) / unit).unwrap_or(u64::MAX)
    }

    /// Passes the samples of one unit to the encoder, or silence without a buffer.
    fn block(&mut self, pts: MediaTime, buffer: Option<gst::Buffer>) -> Result<(), Error> {
        // Silence is skipped while the format is unknown.
        let Some(Blocks { shape, count }) = &mut self.blocks else {
            return Ok(());
        };
        // A block of another size would shift the times of all later ones, so silence takes its
        // place.
        let mut buffer = match buffer.filter(|buffer| buffer.size() == shape.bytes) {
            Some(buffer) => buffer,
            None => gst::Buffer::from_mut_slice(vec![0; shape.bytes]),
        };
        let start = *count * shape.samples;
        *count += 1;
        let buffer_ref = buffer.make_mut();
        buffer_ref.set_pts(time(start, shape.rate));
        buffer_ref.set_duration(time(shape.samples, shape.rate));
        // A decoder marks the buffer after an error. The marks are removed, because the blocks
        // continue without a hole.
        buffer_ref.unset_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::RESYNC);
        self.owed.encode(start, pts);
        chain::push(&self.samples, buffer)
    }
}

/// Reads the encoder's output.
struct Taker {
    shared: Arc<Shared>,
    owed: Arc<Owed>,
    /// Index of the audio rendition in reports.
    index: u8,
}

impl Taker {
    fn run(&self, encoded: &AppSink) -> Result<(), Error> {
        // The configuration that was reported last, its sampling rate, and the number of units so
        // far.
        let (mut sent, mut rate, mut frames) = (Bytes::new(), 0, 0_u64);
        while let Ok(sample) = encoded.pull_sample() {
            let rendition = self.index;
            if let Some(record) = chain::record(&sample).filter(|record| *record != sent) {
                let config = aac::Config::parse(&record).map_err(Error::AudioConfig)?;
                rate = u64::from(config.timescale.hz());
                sent = record.clone();
                self.shared.reports.send(&Report::Config { rendition, record })?;
            }
            frames += 1;
            // The first unit precedes the input.
            let (Some(before), Some(buffer)) = (frames.checked_sub(2), sample.buffer_owned())
            else {
                continue;
            };
            let Some(pts) = self.owed.time_of(before * FRAME_SAMPLES, rate) else {
                continue;
            };
            self.shared.reports.send(&Report::Unit {
                rendition,
                key: true,
                dts: pts,
                pts,
                payload: chain::bytes(buffer)?,
            })?;
        }
        Ok(())
    }
}

/// From source to sink:
///
/// ```text
/// appsrc ! avdec_aac ! audioconvert ! interleaved floats ! appsink
/// ```
fn add_decoder(pipeline: &gst::Pipeline, config: &aac::Config) -> Result<(AppSrc, AppSink), Error> {
    let caps = gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4)
        .field("stream-format", "raw")
        .field("framed", true)
        .field("rate", i32::try_from(config.timescale.hz()).unwrap_or(i32::MAX))
        .field("channels", i32::from(config.channels.max(1)))
        .field("codec_data", gst::Buffer::from_slice(config.record.clone()))
        .build();
    let source = chain::source(&caps, u64::from(MAX_BUFFERS));
    let decoder = gst::ElementFactory::make("avdec_aac").build()?;
    let convert = gst::ElementFactory::make("audioconvert").build()?;
    let floats = chain::filter(
        gst::Caps::builder("audio/x-raw")
            .field("format", "F32LE")
            .field("layout", "interleaved")
            .build(),
    )?;
    let sink = chain::sink(MAX_BUFFERS);
    chain::add(pipeline, &[source.upcast_ref(), &decoder, &convert, &floats, sink.upcast_ref()])?;
    Ok((source, sink))
}

/// From source to sink:
///
/// ```text
/// appsrc ! audioconvert ! avenc_aac ! appsink
/// ```
fn add_encoder(pipeline: &gst::Pipeline, bitrate_bps: u32) -> Result<(AppSrc, AppSink), Error> {
    let source = chain::source(&gst::Caps::new_empty_simple("audio/x-raw"), u64::from(MAX_BUFFERS));
    let convert = gst::ElementFactory::make("audioconvert").build()?;
    let encoder = gst::ElementFactory::make("avenc_aac")
        .property("bitrate", i32::try_from(bitrate_bps).unwrap_or(i32::MAX))
        // The default, `twoloop`, is 5 to 8 dB noisier on film music at 64 to 128 kbit/s, and fails
        // at pure tones.
        .property_from_str("aac-coder", "fast")
        .build()?;
    let raw =
        chain::filter(gst::Caps::builder("audio/mpeg").field("stream-format", "raw").build())?;
    let sink = chain::sink(MAX_BUFFERS);
    chain::add(pipeline, &[source.upcast_ref(), &convert, &encoder, &raw, sink.upcast_ref()])?;
    Ok((source, sink))
}

/// The format of blocks with these caps. With SBR there are twice the samples that the core coder
/// counts.
fn shape(config: &aac::Config, caps: &gst::CapsRef) -> Option<Shape> {
    let structure = caps.structure(0)?;
    // A caps field that is missing or negative leaves the format unknown.
    let field = |name| u64::try_from(structure.get::<i32>(name).ok()?).ok();
    let (rate, channels) = (field("rate")?, field("channels")?);
    let samples = u64::from(config.frame_samples) * rate / u64::from(config.timescale.hz().max(1));
    Some(Shape { rate, samples, bytes: usize::try_from(samples * channels * SAMPLE_BYTES).ok()? })
}

/// The start of the unit with this number, if the first unit starts at zero.
fn time_of(config: &aac::Config, number: u64) -> Option<gst::ClockTime> {
    time(number.checked_mul(u64::from(config.frame_samples))?, u64::from(config.timescale.hz()))
}

/// The time of a number of samples; `None` if it is too large.
fn time(samples: u64, rate: u64) -> Option<gst::ClockTime> {
    gst::ClockTime::SECOND.mul_div_round(samples, rate)
}
