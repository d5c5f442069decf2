//! The state that a worker's threads share.

use std::{
    sync::{
        Arc,
        atomic::AtomicU64,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use gstreamer as gst;

use super::{clock::Clock, owed::Owed, socket::Reports};
use crate::{Error, protocol::Job};

/// In place of a mark's number: the rendition is not made.
pub(super) const OFF: u64 = u64::MAX;

/// State shared by the threads.
pub(super) struct Shared {
    /// The daemon's order.
    pub(super) job: Job,
    /// From the job, or a likely value.
    pub(super) frame_rate: f64,
    /// Holds the elements of all chains, so that one bus has all messages.
    pub(super) pipeline: gst::Pipeline,
    /// Converts the broadcast's ticks.
    pub(super) clock: Clock,
    /// Units that the video decoder has not output.
    pub(super) owed: Owed,
    /// The socket to the daemon.
    pub(super) reports: Reports,
    /// For each rendition, the number of the mark from which it is made; 0 for the first picture
    /// on, [`OFF`] for not at all.
    pub(super) from: Vec<Arc<AtomicU64>>,
    /// The results of threads, for the main thread.
    ends: SyncSender<Result<(), Error>>,
}

impl Shared {
    /// Of this job. The receiver gets the results of threads.
    pub(super) fn new(job: Job, reports: Reports) -> (Arc<Self>, Receiver<Result<(), Error>>) {
        let (ends, ended) = sync_channel(16);
        let shared = Self {
            // A declared rate outside of this range is an error in the source; `pace` measures the
            // true one.
            frame_rate: Some(job.frame_rate)
                .filter(|rate| (1.0..=300.0).contains(rate))
                .unwrap_or(30.0),
            pipeline: gst::Pipeline::new(),
            clock: Clock::default(),
            owed: Owed::default(),
            reports,
            from: job.renditions.iter().map(|_| Arc::default()).collect(),
            job,
            ends,
        };
        (Arc::new(shared), ended)
    }

    /// Runs `body` on a thread with this name. Its result, also a panic, is reported to the main
    /// thread.
    pub(super) fn spawn(
        &self,
        name: String,
        body: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        // Reports the result when it is dropped, which also happens if `body` panics.
        struct Ending {
            name: String,
            ends: SyncSender<Result<(), Error>>,
            result: Option<Result<(), Error>>,
        }
        impl Drop for Ending {
            fn drop(&mut self) {
                let panicked = || Err(Error::Panicked(std::mem::take(&mut self.name)));
                let result = self.result.take().unwrap_or_else(panicked);
                let _ = self.ends.send(result);
            }
        }
        let mut ending = Ending { name: name.clone(), ends: self.ends.clone(), result: None };
        let run = move || {
            ending.result = Some(body());
            drop(ending);
        };
        thread::Builder::new().name(name).spawn(run).map_err(Error::Thread)
    }
}
