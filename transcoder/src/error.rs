//! Why a pipeline does not run.

/// Errors of a worker's pipeline. They end the worker; its supervisor starts another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// GStreamer does not start.
    #[error("GStreamer does not start: {0}")]
    Init(#[source] gstreamer::glib::Error),
    /// Elements are not installed.
    #[error("GStreamer elements missing: {}; install {}", .0.join(", "), crate::packages::PACKAGES)]
    Missing(Vec<&'static str>),
    /// The pipeline cannot be put together or started.
    #[error("the pipeline does not start: {0}")]
    Build(#[from] gstreamer::glib::BoolError),
    /// It does not change to playing.
    #[error("the pipeline does not play: {0}")]
    Play(#[from] gstreamer::StateChangeError),
    /// An element failed.
    #[error("{element}: {message}")]
    Element {
        /// The element.
        element: String,
        /// Its message.
        message: String,
    },
    /// The socket to the daemon fails.
    #[error("the socket to the daemon: {0}")]
    Socket(#[source] std::io::Error),
    /// The daemon sent an invalid order.
    #[error("the daemon sent {0}")]
    Malformed(#[from] crate::protocol::Malformed),
    /// The first order was not a job, or a later one was.
    #[error("the first order, and no other, must be a job")]
    NoJob,
    /// A buffer was refused, because the element has stopped and reported the reason.
    #[error("the element refuses buffers: {0}")]
    Flow(#[source] gstreamer::FlowError),
    /// The decoder accepts units and outputs no pictures.
    #[error("the decoder made no picture of {units} units")]
    NoPictures {
        /// Number of units since the last picture.
        units: u64,
    },
    /// The job's audio has an invalid configuration.
    #[error("the job's audio: {0}")]
    AudioConfig(#[source] media_core::Error),
    /// The process cannot be confined.
    #[error("the worker is not confined: {0}")]
    Confine(#[from] crate::confine::Error),
    /// A picture's planes do not match its caps.
    #[error("a picture does not match its caps")]
    Scale,
    /// An encoder output a unit without a time.
    #[error("an encoder output a unit without a time")]
    Unstamped,
    /// A thread does not start.
    #[error("a thread does not start: {0}")]
    Thread(#[source] std::io::Error),
    /// A thread panicked; its message is on stderr.
    #[error("the thread {0} panicked")]
    Panicked(String),
    /// The receiving thread has ended, and reported the reason.
    #[error("a receiving thread has ended")]
    Stopped,
    /// Standard input ended before the address.
    #[error("no address on the first line of standard input")]
    NoAddress,
}
