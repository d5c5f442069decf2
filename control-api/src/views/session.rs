//! A session: one viewer of one presentation, until it has got no media for [`ENDS_AFTER_MS`]. The
//! rule for views is here. Pure: the time is an argument.
//!
//! # The rule
//!
//! - **Watch time** is media time that was delivered to the end of a segment or part, each
//!   millisecond of the presentation once: media that are sent again, and renditions beside each
//!   other, add nothing. Of a live broadcast no more counts than the time that has passed since the
//!   session's first media, because nobody can watch faster; players of a video load ahead, so that
//!   its media count when they are delivered.
//! - **A view** is a session with 10 s of watch time, or with half of a video that is shorter than
//!   20 s. A session is one view at most.
//!
//! Nothing that a client says counts: neither requests of playlists nor reports.

use super::{coverage::Coverage, delivered::Presentation};

/// The time without media after which a session has ended, in milliseconds.
pub(super) const ENDS_AFTER_MS: u64 = 120_000;
/// The watch time of a view, in milliseconds.
pub(super) const VIEW_MS: u64 = 10_000;

/// One viewer of one presentation.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// When its first media were delivered. Times are milliseconds of a monotonic clock.
    began_ms: u64,
    /// When its last media were delivered.
    last_ms: u64,
    /// The watch time of a view of its presentation.
    view_ms: u64,
    is_live: bool,
    is_view: bool,
    /// Over all tracks.
    all: Progress,
    video: Progress,
    audio: Progress,
    /// Whether the player has reported that it was starting, and whether that is over.
    startup: Startup,
}

/// How far the start of playback is, by the player's reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Startup {
    Unknown,
    Starting,
    Over,
}

/// The effect of delivered media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Credit {
    /// More watch time.
    pub(super) watched_ms: u64,
    /// More watch time of the media's own kind, video or audio.
    pub(super) of_kind_ms: u64,
    /// The session has become a view.
    pub(super) is_view: bool,
}

/// Media time that was delivered, and its part that counts.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    coverage: Coverage,
    counted_ms: u64,
}

impl Progress {
    /// Adds media. Returns the watch time that they add; `limit` bounds all of it.
    fn add(&mut self, start: u64, end: u64, limit: u64) -> u64 {
        self.coverage.add(start, end);
        let counted = self.coverage.total_ms().min(limit).max(self.counted_ms);
        let more = counted - self.counted_ms;
        self.counted_ms = counted;
        more
    }
}

impl Session {
    /// A session that begins with media of this presentation.
    pub(super) fn begin(presentation: &Presentation<'_>, now_ms: u64) -> Self {
        let (is_live, view_ms) = match *presentation {
            Presentation::Broadcast { .. } => (true, VIEW_MS),
            Presentation::Video { duration_ms, .. } => (false, VIEW_MS.min(duration_ms / 2).max(1)),
        };
        Self {
            began_ms: now_ms,
            last_ms: now_ms,
            view_ms,
            is_live,
            is_view: false,
            all: Progress::default(),
            video: Progress::default(),
            audio: Progress::default(),
            startup: Startup::Unknown,
        }
    }

    /// Media were delivered.
    pub(super) fn deliver(
        &mut self,
        is_video: bool,
        start_ms: u64,
        duration_ms: u64,
        now_ms: u64,
    ) -> Credit {
        self.last_ms = self.last_ms.max(now_ms);
        let end_ms = start_ms.saturating_add(duration_ms);
        let limit = match self.is_live {
            true => self.last_ms.saturating_sub(self.began_ms),
            false => u64::MAX,
        };
        let kind = if is_video { &mut self.video } else { &mut self.audio };
        let of_kind_ms = kind.add(start_ms, end_ms, limit);
        let watched_ms = self.all.add(start_ms, end_ms, limit);
        let is_view = !self.is_view && self.all.counted_ms >= self.view_ms;
        self.is_view |= is_view;
        Credit { watched_ms, of_kind_ms, is_view }
    }

    /// The player has reported whether it is starting. Returns the time from the session's first
    /// media to the first request in which it was not any more, once, if it has reported both.
    pub(super) fn report_start(&mut self, is_starting: bool, now_ms: u64) -> Option<u64> {
        match (self.startup, is_starting) {
            (Startup::Unknown, true) => self.startup = Startup::Starting,
            (Startup::Unknown, false) => self.startup = Startup::Over,
            (Startup::Starting, false) => {
                self.startup = Startup::Over;
                return Some(now_ms.saturating_sub(self.began_ms));
            }
            (Startup::Starting, true) | (Startup::Over, _) => {}
        }
        None
    }

    /// The player has reported the time to its first picture. Returns whether it counts: once.
    pub(super) fn report_delay(&mut self) -> bool {
        let is_new = self.startup != Startup::Over;
        self.startup = Startup::Over;
        is_new
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_ms) >= ENDS_AFTER_MS
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use control_domain::id::VideoId;
    use media_core::{BroadcastId, ChannelName};
    use proptest::prelude::*;

    use super::*;

    fn live() -> Session {
        let channel: ChannelName = "demo".parse().unwrap();
        let id = BroadcastId::new(SystemTime::UNIX_EPOCH);
        Session::begin(&Presentation::Broadcast { id, channel: &channel }, 0)
    }

    fn video(duration_ms: u64) -> Session {
        let id = VideoId::new(uuid::Uuid::nil());
        Session::begin(&Presentation::Video { id, duration_ms }, 0)
    }

    /// Segments of two seconds of video and audio, as they are made. Returns the sum of all
    /// credits.
    fn watch(session: &mut Session, segments: u64) -> (u64, u64) {
        let (mut watched, mut views) = (0, 0);
        for n in 0..segments {
            for is_video in [true, false] {
                let credit = session.deliver(is_video, 2_000 * n, 2_000, 2_000 * n);
                watched += credit.watched_ms;
                views += u64::from(credit.is_view);
            }
        }
        (watched, views)
    }

    #[test]
    fn ten_seconds_of_a_broadcast_are_one_view() {
        assert_eq!(watch(&mut live(), 5), (8_000, 0), "8 s have passed since the first media");
        assert_eq!(watch(&mut live(), 6), (10_000, 1));
        assert_eq!(watch(&mut live(), 1_000), (1_998_000, 1));
    }

    #[test]
    fn nobody_watches_faster_than_the_time() {
        let mut session = live();
        let first = (0..30).map(|n| session.deliver(true, 2_000 * n, 2_000, 100));
        assert_eq!(first.map(|credit| credit.watched_ms).sum::<u64>(), 100);
        // The media count when enough time has passed, and there is a sign of life.
        let credit = session.deliver(true, 60_000, 2_000, 20_000);
        assert_eq!((credit.watched_ms, credit.is_view), (19_900, true));
    }

    #[test]
    fn media_that_are_sent_again_add_nothing() {
        let mut session = live();
        let again = (0..100).map(|n| session.deliver(true, 0, 2_000, 1_000 * n));
        let again = again.collect::<Vec<_>>();
        assert_eq!(again.iter().map(|credit| credit.watched_ms).sum::<u64>(), 2_000);
        assert!(again.iter().all(|credit| !credit.is_view));
        // A range has no duration.
        assert_eq!(session.deliver(true, 2_000, 0, 200_000), Credit::default());
    }

    #[test]
    fn another_rendition_of_the_same_time_adds_nothing() {
        let mut session = live();
        session.deliver(true, 0, 2_000, 0);
        let credit = session.deliver(true, 0, 2_000, 60_000);
        assert_eq!(credit, Credit { watched_ms: 2_000, of_kind_ms: 2_000, is_view: false });
        let credit = session.deliver(false, 0, 2_000, 60_000);
        assert_eq!(credit, Credit { watched_ms: 0, of_kind_ms: 2_000, is_view: false });
    }

    #[test]
    fn half_of_a_short_video_is_a_view_and_ten_seconds_of_a_longer_one() {
        let mut short = video(4_000);
        assert!(!short.deliver(true, 0, 1_999, 0).is_view);
        assert!(short.deliver(true, 1_999, 1, 0).is_view);
        let mut long = video(3_600_000);
        assert!(!long.deliver(true, 0, 9_999, 0).is_view);
        assert!(long.deliver(false, 9_999, 1, 0).is_view);
        assert!(!long.deliver(true, 10_000, 60_000, 0).is_view, "it is one already");
        // A video whose duration is not known is no view before it has media.
        assert!(!video(0).deliver(true, 0, 0, 0).is_view);
    }

    #[test]
    fn a_session_ends_two_minutes_after_its_last_media() {
        let mut session = live();
        session.deliver(true, 0, 2_000, 5_000);
        assert!(!session.has_ended(5_000 + ENDS_AFTER_MS - 1));
        assert!(session.has_ended(5_000 + ENDS_AFTER_MS));
    }

    #[test]
    fn the_start_of_playback_is_reported_once() {
        let mut session = live();
        assert_eq!(session.report_start(true, 0), None);
        assert_eq!(session.report_start(true, 300), None);
        assert_eq!(session.report_start(false, 700), Some(700));
        assert_eq!(session.report_start(true, 800), None, "it has rebuffered");
        assert_eq!(session.report_start(false, 900), None);
        assert!(!session.report_delay());
        let mut joined = live();
        assert_eq!(joined.report_start(false, 100), None, "its start was not seen");
        let mut version_two = live();
        assert!(version_two.report_delay() && !version_two.report_delay());
    }

    proptest! {
        #[test]
        fn watch_time_is_at_most_the_time_and_the_delivered_media(
            steps in proptest::collection::vec(
                (any::<bool>(), 0u64..60_000, 0u64..5_000, 0u64..3_000), 0..60,
            ),
        ) {
            let (mut session, mut now, mut media, mut watched) = (live(), 0, 0, 0);
            let mut views = 0;
            for (is_video, start, duration, wait) in steps {
                now += wait;
                let credit = session.deliver(is_video, start, duration, now);
                media += duration;
                watched += credit.watched_ms;
                views += u64::from(credit.is_view);
                prop_assert!(watched <= now && watched <= media);
                prop_assert!(credit.of_kind_ms <= duration.max(now));
                prop_assert_eq!(views == 1, watched >= VIEW_MS);
            }
        }
    }
}
