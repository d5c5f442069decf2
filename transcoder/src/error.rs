//! Why a pipeline does not run.

/// Errors of a worker's pipeline. They end the worker; its supervisor starts another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// GStreamer does not start.
    #[error("GStreamer does not start: {0}")]
    Init(#[source] gstreamer::glib::Error),
    /// Elements are not installed.
    #[error("GStreamer elements missing: {}; install {}", .0.join(", "), crate::elements::PACKAGES)]
    Missing(Vec<&'static str>),
    /// The pipeline cannot be put together or started.
    #[error("the pipeline does not start: {0}")]
    Build(#[from] gstreamer::glib::BoolError),
    /// It does not change to playing.
    #[error("the pipeline does not play: {0}")]
    Play(#[from] gstreamer::StateChangeError),
    /// An element gave up.
    #[error("{element}: {message}")]
    Element {
        /// Which.
        element: String,
        /// What it said.
        message: String,
    },
    /// Nothing was read where the address to push to was expected.
    #[error("no address on the first line of standard input")]
    NoAddress,
}
