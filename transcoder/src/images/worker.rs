//! The process that decodes one picture and encodes it again. It is confined before it reads the
//! first byte, and ends with the picture.
//!
//! Standard input is the picture up to its end. Standard output is, for each size, four bytes of
//! length, big-endian, and a JPEG without metadata.

use std::{
    io::{self, Read as _, Write as _},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_video::{VideoFrameExt as _, VideoFrameRef, VideoInfo};

use super::{
    MAX_BYTES, Size,
    header::{Header, Kind},
    raster::{Raster, Rgb, Samples, scale},
};
use crate::{
    Error,
    confine::{Limits, confine},
    elements,
    worker::chain,
};

/// Memory limit of the process in bytes: a progressive JPEG of the largest size takes some 300 MiB.
const MEMORY_BYTES: u64 = 640 << 20;
/// Time limit of a step of the pipeline. The daemon ends the process a little later.
const LIMIT: Duration = Duration::from_secs(8);
/// JPEG quality, out of 100.
const QUALITY: i32 = 88;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The machine or the installation is at fault.
    #[error(transparent)]
    Ours(#[from] Error),
    /// The picture is at fault. The reason is for its sender.
    #[error("{0}")]
    Picture(String),
}

impl From<gst::glib::BoolError> for WorkerError {
    fn from(error: gst::glib::BoolError) -> Self {
        Self::Ours(error.into())
    }
}

impl From<gst::StateChangeError> for WorkerError {
    fn from(error: gst::StateChangeError) -> Self {
        Self::Ours(error.into())
    }
}

/// Confines this process, reads a picture from standard input, and writes it in these sizes to
/// standard output.
///
/// # Errors
/// [`WorkerError`].
pub fn run(sizes: &[Size], nice: u8) -> Result<(), WorkerError> {
    gst::init().map_err(Error::Init)?;
    let missing = elements::load_for_images();
    if !missing.is_empty() {
        return Err(Error::Missing(missing).into());
    }
    let nice = i32::from(nice);
    let read = elements::folders();
    confine(&Limits { memory_bytes: MEMORY_BYTES, nice, read, ..Limits::default() })
        .map_err(Error::from)?;
    let mut picture = Vec::new();
    let most = MAX_BYTES as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut picture).map_err(Error::Socket)?;
    let header = Header::parse(&picture).map_err(|err| WorkerError::Picture(err.to_string()))?;
    let results = convert(header, picture.into(), sizes)?;
    let mut out = io::stdout().lock();
    for jpeg in results {
        let length = u32::try_from(jpeg.len()).unwrap_or(u32::MAX).to_be_bytes();
        out.write_all(&length).and_then(|()| out.write_all(&jpeg)).map_err(Error::Socket)?;
    }
    Ok(out.flush().map_err(Error::Socket)?)
}

/// The picture in these sizes, as JPEG. The largest should be first.
fn convert(header: Header, picture: Bytes, sizes: &[Size]) -> Result<Vec<Bytes>, WorkerError> {
    let decoded = decode(header.kind, picture)?;
    let damaged = || WorkerError::Picture("the picture cannot be decoded".to_owned());
    let info = decoded.caps().and_then(|caps| VideoInfo::from_caps(caps).ok());
    let info = info.ok_or_else(damaged)?;
    let buffer = decoded.buffer().ok_or_else(damaged)?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|_| damaged())?;
    // The decoder must agree with the header, whose size was judged.
    if (frame.width(), frame.height()) != (header.width, header.height) {
        return Err(damaged());
    }
    let size = |side: u32| usize::try_from(side).unwrap_or_default();
    let raster = Raster {
        bytes: frame.plane_data(0).map_err(|_| damaged())?,
        stride: usize::try_from(frame.plane_stride()[0]).map_err(|_| damaged())?,
        width: size(frame.width()),
        height: size(frame.height()),
        orientation: header.orientation,
    };
    let mut results = Vec::with_capacity(sizes.len());
    let mut largest: Option<Rgb> = None;
    for wanted in sizes {
        let (width, height) = (usize::from(wanted.width), usize::from(wanted.height));
        // Of the same shape as the one before, and so much cheaper to read.
        let scaled = match &largest {
            Some(before) if fits(before, width, height) => scale(before, width, height),
            _ => scale(&raster, width, height),
        };
        results.push(encode(&scaled)?);
        if largest.is_none() {
            largest = Some(scaled);
        }
    }
    Ok(results)
}

/// Whether a picture has the shape of a size, and is no smaller.
fn fits(picture: &Rgb, width: usize, height: usize) -> bool {
    let (full_width, full_height) = picture.size();
    full_width * height == full_height * width && full_width >= width
}

/// Decodes the first picture of a file, to red, green, blue and opacity.
fn decode(kind: Kind, picture: Bytes) -> Result<gst::Sample, WorkerError> {
    let (media_type, decoder) = match kind {
        Kind::Jpeg => ("image/jpeg", "jpegdec"),
        Kind::Png => ("image/png", "pngdec"),
        Kind::WebP => ("image/webp", "webpdec"),
    };
    let raw = gst::Caps::builder("video/x-raw").field("format", "RGBA").build();
    let decoder = gst::ElementFactory::make(decoder).build()?;
    let sample = pass(&gst::Caps::new_empty_simple(media_type), picture, raw, Some(decoder), None)?;
    sample.ok_or_else(|| WorkerError::Picture("the picture cannot be decoded".to_owned()))
}

/// Encodes a picture as JPEG.
fn encode(picture: &Rgb) -> Result<Bytes, WorkerError> {
    let side = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
    let info = VideoInfo::builder(
        gstreamer_video::VideoFormat::Rgb,
        u32::try_from(picture.width).unwrap_or_default(),
        u32::try_from(picture.height).unwrap_or_default(),
    );
    let info = info.fps(gst::Fraction::new(1, 1)).build()?;
    // Rows of a raw picture begin at multiples of four bytes.
    let stride = usize::try_from(info.stride()[0]).unwrap_or_default();
    let rows = picture.bytes.chunks(3 * picture.width);
    let bytes = rows.flat_map(|row| {
        let gap = stride.saturating_sub(row.len());
        row.iter().copied().chain(std::iter::repeat_n(0, gap))
    });
    let bytes = bytes.collect::<Vec<u8>>();
    let sized = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", side(picture.width))
        .field("height", side(picture.height))
        // Full range, BT.601 matrix (JFIF).
        .field("colorimetry", "1:4:0:0")
        .build();
    let encoder = gst::ElementFactory::make("jpegenc").property("quality", QUALITY).build()?;
    let sample = pass(&info.to_caps()?, bytes.into(), sized, None, Some(encoder))?;
    let jpeg = sample.and_then(|sample| sample.buffer_owned());
    let jpeg = jpeg.ok_or_else(|| Error::Element {
        element: "jpegenc".to_owned(),
        message: "no picture".to_owned(),
    })?;
    Ok(chain::bytes(jpeg)?)
}

/// Sends one buffer through a pipeline. Returns the first buffer behind it; `None` if an element
/// failed, or there was none in time.
///
/// ```text
/// appsrc ! [first] ! videoconvert ! raw ! [last] ! appsink
/// ```
fn pass(
    caps: &gst::Caps,
    bytes: Bytes,
    raw: gst::Caps,
    first: Option<gst::Element>,
    last: Option<gst::Element>,
) -> Result<Option<gst::Sample>, WorkerError> {
    let pipeline = gst::Pipeline::new();
    let source = chain::source(caps, 1);
    let convert = gst::ElementFactory::make("videoconvert").build()?;
    let raw = chain::filter(raw)?;
    let sink = chain::sink(1);
    let all = [Some(source.clone().upcast()), first, Some(convert), Some(raw), last];
    let mut all = all.into_iter().flatten().collect::<Vec<gst::Element>>();
    all.push(sink.clone().upcast());
    pipeline.set_state(gst::State::Playing)?;
    chain::add(&pipeline, &all.iter().collect::<Vec<_>>())?;
    let mut buffer = gst::Buffer::from_slice(bytes);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::ZERO);
    }
    // An element that refuses it has failed, which shows below.
    let _ = chain::push(&source, buffer).and_then(|()| chain::finish(&source));
    let (begun, bus) = (Instant::now(), pipeline.bus());
    let mut sample = None;
    while sample.is_none() && begun.elapsed() < LIMIT {
        sample = sink.try_pull_sample(gst::ClockTime::from_mseconds(50));
        let has_failed =
            bus.as_ref().is_some_and(|bus| bus.pop_filtered(&[gst::MessageType::Error]).is_some());
        if sample.is_none() && (has_failed || sink.is_eos()) {
            break;
        }
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(sample)
}
