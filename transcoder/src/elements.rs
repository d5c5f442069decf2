//! The GStreamer elements that workers are built of, and whether they are installed. Looking initialises GStreamer, so the daemon asks a
//! child process.

use gstreamer as gst;

use crate::Error;

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

/// The Debian packages that have them all.
pub const PACKAGES: &str = "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
                            gstreamer1.0-plugins-ugly gstreamer1.0-libav";

/// Which of the elements that workers need are not installed.
///
/// # Errors
/// [`Error::Init`].
pub fn missing() -> Result<Vec<&'static str>, Error> {
    gst::init().map_err(Error::Init)?;
    Ok(TEST_PICTURE
        .into_iter()
        .filter(|name| gst::ElementFactory::find(name).is_none())
        .collect())
}
