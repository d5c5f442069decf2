//! One healthy broadcast that the tests of a file share: the daemon and a publisher that no test may harm.

use super::{
    daemon::{Daemon, Settings},
    follow,
    media::Recipe,
    process::Process,
    publisher,
};
use std::{
    ops::Deref,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

/// A daemon with a live channel `beside`.
#[derive(Debug)]
pub(crate) struct Live {
    daemon: Daemon,
    publisher: Mutex<Process>,
}

/// Where a file keeps its [`Live`] between its tests.
pub(crate) type Shared = Mutex<Weak<Live>>;

impl Live {
    /// The one in `shared`, or a new one when none of the tests holds it any more.
    pub(crate) fn get(shared: &Shared, settings: &Settings, recipe: &Recipe) -> Arc<Self> {
        let mut shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(live) = shared.upgrade() {
            return live;
        }
        let daemon = Daemon::start(settings);
        let publisher = Mutex::new(publisher::ffmpeg(recipe, &daemon.rtmp_url("beside")));
        daemon.wait_until_live("beside");
        let live = Arc::new(Self { daemon, publisher });
        *shared = Arc::downgrade(&live);
        live
    }

    /// Asserts that the broadcast goes on: its next two segments come, whole, with nothing missing in what is listed.
    #[track_caller]
    pub(crate) fn assert_unharmed(&self) {
        for track in ["v0", "a0"] {
            let path = format!("/live/beside/{track}.m3u8");
            let now = follow::read(self.http, &path).next_msn();
            let seen = follow::follow(self.http, &path, Duration::from_secs(20), |media| {
                media.next_msn() >= now + 2
            });
            for (segment, _) in &seen.segments {
                assert!(!segment.gap && !segment.discontinuity, "{segment:?}");
            }
        }
        let mut publisher = self.publisher.lock().expect("nobody panics while holding it");
        assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
        assert_eq!(self.complaints(), Vec::<String>::new());
    }
}

impl Deref for Live {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}
