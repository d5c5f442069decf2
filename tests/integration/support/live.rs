//! One healthy broadcast that the tests of a file share: the daemon and a publisher that no test
//! may harm.

use super::{
    daemon::{Daemon, Settings},
    follow,
    media::{PLAIN, Recipe},
    playlist::{Media, resolve},
    process::Process,
    publisher,
};
use std::{
    ops::Deref,
    sync::{Arc, Mutex, Weak},
    thread,
    time::{Duration, Instant},
};

pub(crate) const MASTER: &str = "/live/beside/master.m3u8";
pub(crate) const VIDEO: &str = "/live/beside/v0.m3u8";
pub(crate) const AUDIO: &str = "/live/beside/a0.m3u8";
pub(crate) const MANIFEST: &str = "/live/beside/manifest.mpd";
pub(crate) const PLAIN_MANIFEST: &str = "/live/beside/plain.mpd";

/// A daemon with a live channel `beside`.
#[derive(Debug)]
pub(crate) struct Live {
    daemon: Daemon,
    publisher: Mutex<Process>,
    started: Instant,
}

/// Storage for a file's [`Live`] between its tests.
pub(crate) type Shared = Mutex<Weak<Live>>;

impl Live {
    /// The one in `shared`, or a new one if no test holds it any more or its media will not last
    /// for another test.
    pub(crate) fn get(shared: &Shared, settings: &Settings, recipe: &Recipe) -> Arc<Self> {
        let mut shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(live) =
            shared.upgrade().filter(|live| live.started.elapsed() < Duration::from_secs(45))
        {
            return live;
        }
        let (daemon, started) = (Daemon::start(settings), Instant::now());
        let publisher = Mutex::new(publisher::ffmpeg(recipe, &daemon.rtmp_url("beside")));
        daemon.wait_until_live("beside");
        let live = Arc::new(Self { daemon, publisher, started });
        *shared = Arc::downgrade(&live);
        live
    }

    /// With segments of one second: TARGETDURATION is 2 s, and a delta update is due after 12 s.
    pub(crate) fn with_short_segments(shared: &Shared) -> Arc<Self> {
        let settings = Settings { segment_ms: 1000, ..Settings::default() };
        Self::get(shared, &settings, &Recipe { group: 25, ..PLAIN })
    }

    /// The media playlist at `path`, which must follow the rules.
    #[track_caller]
    pub(crate) fn media(&self, path: &str) -> Media {
        follow::read(self.http, path)
    }

    /// The addresses of the newest complete video segment, of a part of it, and of its header.
    #[track_caller]
    pub(crate) fn newest(&self) -> [String; 3] {
        let media = self.media(VIDEO);
        let segment = media.segments.last().expect("a segment");
        let map = segment.map.as_ref().expect("a map");
        [&segment.uri, &segment.parts[0].uri, map].map(|uri| resolve(VIDEO, uri))
    }

    /// Asserts that the broadcast continues: its next two segments follow, whole, with nothing
    /// missing in the list.
    #[track_caller]
    pub(crate) fn assert_unharmed(&self) {
        thread::scope(|scope| {
            for path in [VIDEO, AUDIO] {
                scope.spawn(move || {
                    let now = self.media(path).next_msn();
                    let seen = follow::follow(self.http, path, Duration::from_secs(20), |media| {
                        media.next_msn() >= now + 2
                    });
                    for (segment, _) in &seen.segments {
                        assert!(!segment.gap && !segment.discontinuity, "{segment:?}");
                    }
                });
            }
        });
        let (running, said) = {
            let mut publisher = self.publisher.lock().expect("nobody panics while holding it");
            (publisher.is_running(), publisher.stderr())
        };
        assert!(running, "the publisher ended:\n{said}");
        assert_eq!(self.complaints(), Vec::<String>::new());
    }
}

impl Deref for Live {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}
