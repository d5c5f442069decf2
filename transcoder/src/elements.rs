//! The GStreamer elements of workers, and whether they are installed. The check initialises
//! GStreamer, so the daemon runs it in a child process.

use std::{env, path::PathBuf};

use gstreamer::{self as gst, prelude::*};

pub use crate::packages::PACKAGES;
use crate::{
    Error,
    protocol::{Encoder, Job},
    worker::encoder,
};

/// Elements of the test picture.
pub(crate) const TEST_PICTURE: [&str; 9] = [
    "videotestsrc",
    "capsfilter",
    "x264enc",
    "queue",
    "audiotestsrc",
    "audioconvert",
    "avenc_aac",
    "flvmux",
    "rtmp2sink",
];

/// Elements of every worker of the ladder; the encoder is added by choice.
pub(crate) const LADDER: [&str; 9] = [
    "appsrc",
    "avdec_h264",
    "deinterlace",
    "videoconvert",
    "capsfilter",
    "appsink",
    "h264parse",
    "videoconvertscale",
    "jpegenc",
];
/// Elements that encode AAC again.
pub(crate) const AUDIO: [&str; 3] = ["avdec_aac", "audioconvert", "avenc_aac"];

/// Elements that decode and encode uploaded pictures.
pub(crate) const IMAGES: [&str; 8] =
    ["appsrc", "jpegdec", "pngdec", "webpdec", "videoconvert", "capsfilter", "jpegenc", "appsink"];

/// The elements of workers that are not installed.
///
/// # Errors
/// [`Error::Init`].
pub fn missing() -> Result<Vec<&'static str>, Error> {
    gst::init().map_err(Error::Init)?;
    let mut names: Vec<_> =
        TEST_PICTURE.into_iter().chain(LADDER).chain(AUDIO).chain(IMAGES).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| gst::ElementFactory::find(name).is_none());
    Ok(names)
}

/// Loads the elements for `job` before the process confines itself. Returns the missing ones.
pub(crate) fn load_for(job: &Job) -> Vec<&'static str> {
    // A worker that only makes posters needs no video encoder.
    let encoder = (!job.renditions.is_empty()).then(|| element(job.encoder));
    let audio = AUDIO.into_iter().filter(|_| job.audio_rendition.is_some());
    let names = LADDER.into_iter().chain(encoder).chain(audio);
    names.filter(|name| load(name).is_none()).collect()
}

/// Loads the elements for uploaded pictures before the process confines itself. Returns the missing
/// ones.
pub(crate) fn load_for_images() -> Vec<&'static str> {
    IMAGES.into_iter().filter(|name| load(name).is_none()).collect()
}

/// Loads the elements for the trial of an encoder. Returns whether all are installed.
pub(crate) fn load_encoder(encoder: Encoder) -> bool {
    ["appsrc", "capsfilter", "appsink", "h264parse", element(encoder)]
        .into_iter()
        .all(|name| load(name).is_some())
}

/// The GStreamer element of an encoder. For VA-API, a name that is reported as missing if the
/// driver registers none.
fn element(encoder: Encoder) -> &'static str {
    match encoder {
        Encoder::X264 => "x264enc",
        Encoder::OpenH264 => "openh264enc",
        Encoder::Nvenc => "nvh264enc",
        Encoder::Va => encoder::va_name().unwrap_or("vah264enc"),
    }
}

/// Folders of plugins besides the system's: a confined process must be able to read them.
pub(crate) fn folders() -> Vec<PathBuf> {
    let variables =
        ["GST_PLUGIN_PATH", "GST_PLUGIN_PATH_1_0", "GST_PLUGIN_SYSTEM_PATH", "LD_LIBRARY_PATH"];
    let values = variables.into_iter().filter_map(env::var_os);
    values.flat_map(|value| env::split_paths(&value).collect::<Vec<_>>()).collect()
}

/// Loads the plugin of an element, as a confined process could not open it later.
fn load(name: &str) -> Option<gst::ElementFactory> {
    gst::ElementFactory::find(name)?.load().ok()
}
