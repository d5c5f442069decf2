//! Our own publisher: sends the tags of a test unchanged, in real time.

use super::rtmp::{Client, Tag};
use std::{
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A running publisher. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Push {
    stop: Arc<AtomicBool>,
    pusher: Option<JoinHandle<()>>,
}

impl Push {
    /// Sends `tags` to `channel`, each when its timestamp is due, and closes the connection after
    /// the last.
    ///
    /// # Panics
    /// If the daemon refuses it; a connection that ends early panics in [`Push::finish`].
    #[track_caller]
    pub(crate) fn start(rtmp: SocketAddr, channel: &str, tags: Vec<Tag>) -> Self {
        Self::edited(rtmp, channel, tags, |tag| vec![tag])
    }

    /// The same, with each tag changed by `edit` when it is due.
    #[track_caller]
    pub(crate) fn edited(
        rtmp: SocketAddr,
        channel: &str,
        tags: Vec<Tag>,
        mut edit: impl FnMut(Tag) -> Vec<Tag> + Send + 'static,
    ) -> Self {
        let mut client = Client::publish(rtmp, "live", channel).expect("the name is free");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pusher = thread::spawn(move || {
            let start = Instant::now();
            for tag in tags {
                let due = Duration::from_millis(u64::from(tag.timestamp));
                while let Some(left) =
                    due.checked_sub(start.elapsed()).filter(|left| !left.is_zero())
                {
                    if stopped.load(Ordering::Relaxed) {
                        return client.shutdown(Shutdown::Both);
                    }
                    thread::sleep(left.min(Duration::from_millis(50)));
                }
                for tag in edit(tag) {
                    client.tag(&tag, tag.timestamp).expect("the server reads");
                }
            }
            // Bytes in transit still arrive; a reset would discard them.
            client.shutdown(Shutdown::Write);
        });
        Self { stop, pusher: Some(pusher) }
    }

    /// Waits until all is sent.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let pusher = self.pusher.take().expect("it is joined once");
        pusher.join().expect("the daemon takes all of it");
    }

    /// Ends the connection at once.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pusher) = self.pusher.take() {
            let _ = pusher.join();
        }
    }
}

/// The tags before `seconds`.
pub(crate) fn first(tags: &[Tag], seconds: u32) -> Vec<Tag> {
    tags.iter().filter(|tag| tag.timestamp < seconds * 1000).cloned().collect()
}
