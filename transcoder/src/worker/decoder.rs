//! Decodes the source's units to pictures: 8 bit 4:2:0, progressive, in order of presentation.

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};

use super::chain;
use crate::Error;

/// Number of units in front of the decoder. Further ones wait in the socket.
const MAX_UNITS: u64 = 4;
/// Number of pictures behind it.
const MAX_PICTURES: u32 = 2;
/// Macroblocks a second that one thread can decode: 1080p60.
const ONE_THREAD: f64 = 120.0 * 68.0 * 60.0;

/// Adds to `pipeline`, from source to sink:
///
/// ```text
/// appsrc ! avdec_h264 ! deinterlace ! videoconvert ! I420 ! appsink
/// ```
///
/// # Errors
/// [`Error::Build`], [`Error::Play`].
pub(super) fn add(
    pipeline: &gst::Pipeline,
    record: &[u8],
    frame_rate: f64,
) -> Result<(AppSrc, AppSink), Error> {
    let make = |factory: &'static str| gst::ElementFactory::make(factory);
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(Bytes::copy_from_slice(record)))
        .build();
    let units = chain::source(&caps, MAX_UNITS);
    let decoder =
        make("avdec_h264").property("max-threads", threads(record, frame_rate)).build()?;
    // One picture for each interlaced picture, not one for each field; progressive pictures are not
    // changed. The methods that use neighbouring pictures hold one back and lose it at the end.
    let deinterlace = make("deinterlace")
        .property_from_str("mode", "auto")
        .property_from_str("fields", "top")
        .property_from_str("locking", "none")
        .property_from_str("method", "linear")
        .build()?;
    let convert = make("videoconvert").build()?;
    let raw = chain::filter(gst::Caps::builder("video/x-raw").field("format", "I420").build())?;
    let pictures = chain::sink(MAX_PICTURES);
    let elements =
        [units.upcast_ref(), &decoder, &deinterlace, &convert, &raw, pictures.upcast_ref()];
    chain::add(pipeline, &elements)?;
    Ok((units, pictures))
}

/// Number of decoder threads. Each thread that decodes pictures in parallel holds one back, so
/// there is only one if that is enough.
fn threads(record: &[u8], frame_rate: f64) -> i32 {
    let macroblocks = media_core::codec::avc::Config::parse(record).map_or(0.0, |config| {
        f64::from(config.width.div_ceil(16)) * f64::from(config.height.div_ceil(16))
    });
    if macroblocks * frame_rate <= ONE_THREAD { 1 } else { 2 }
}
