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
    /// The socket to the daemon fails.
    #[error("the socket to the daemon: {0}")]
    Socket(#[source] std::io::Error),
    /// The daemon sent what is no order.
    #[error("the daemon sent {0}")]
    Malformed(#[from] crate::protocol::Malformed),
    /// The first order was no job, or a later one was.
    #[error("a job was expected first, and once")]
    NoJob,
    /// A buffer is not taken: the element has stopped, and said why.
    #[error("nothing flows: {0}")]
    Flow(#[source] gstreamer::FlowError),
    /// The decoder takes units and gives no pictures.
    #[error("no picture came of {units} units")]
    NoPictures {
        /// As many as went in since the last picture.
        units: u64,
    },
    /// The job's audio has a configuration that is none.
    #[error("the job's audio: {0}")]
    AudioConfig(#[source] media_core::Error),
    /// The process cannot be confined.
    #[error("the worker is not confined: {0}")]
    Confine(#[from] crate::confine::Error),
    /// A picture's planes are not what its caps say.
    #[error("a picture is not what it is said to be")]
    Scale,
    /// An encoder gave a unit without a time.
    #[error("an encoder gave a unit without a time")]
    Unstamped,
    /// A thread does not start.
    #[error("a thread does not start: {0}")]
    Thread(#[source] std::io::Error),
    /// A thread panicked; what it said is on stderr.
    #[error("the thread {0} panicked")]
    Panicked(String),
    /// The thread that was to take this has ended, and said why.
    #[error("a thread that is waited for has ended")]
    Stopped,
    /// Nothing was read where the address to push to was expected.
    #[error("no address on the first line of standard input")]
    NoAddress,
}
