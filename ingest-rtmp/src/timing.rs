//! A publisher's clock as seen by the hub: when its connection may be read again, and log messages
//! about corrected timestamps. The hub decides; this module only counts and logs.

use std::time::{Duration, Instant};

use media_core::{
    BroadcastId, TrackIndex,
    broadcast::{Notice, Pushed, TrackNotice},
};
use tracing::{info, warn};

use crate::{advice::Advice, burst::Burst, metrics::Metrics};

/// Minimum time between two lines of a kind for a publisher.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Duration of pacing after which a publisher gets advice, because its rate is too high and it is
/// not a burst.
const PACED: Duration = Duration::from_secs(60);
/// Longest pause in pacing that counts as continuous. A publisher that could be read for longer is
/// no faster than real time: a relay of HLS sends a segment at once, and then nothing until the
/// wall clock has caught up.
const PAUSE: Duration = Duration::from_secs(1);

/// The pacing of one publisher, and the limits of its log messages.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// Time until which the publisher is not read.
    resume_at: Option<Instant>,
    /// The publisher's pacing without a long pause.
    paced: Option<Span>,
    /// Distinguishes a burst at the start from a fast source.
    pub(crate) burst: Burst,
    /// Frames are dropped at present because of a burst.
    drops_burst: bool,
    /// Limits of the lines about frames dropped after an outage, and about the corrections of the
    /// hub.
    left_out: Limit,
    jumped: Limit,
    late: Limit,
    retimed: Limit,
}

/// A time from a start to a present end.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Its first wait.
    since: Instant,
    /// The end of its last wait, which may be in the future.
    until: Instant,
}

/// Limits log lines of one kind.
#[derive(Debug, Default)]
struct Limit {
    /// Time of the last line.
    logged: Option<Instant>,
    /// Occurrences since the last line.
    count: u64,
}

impl Limit {
    /// Counts an occurrence. Returns the number since the last line, if another line is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < LOG_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Timing {
    /// Time until which the publisher should not be read, because it leads the wall clock.
    pub(crate) fn resume_at(&self, now: Instant) -> Option<Instant> {
        self.resume_at.filter(|at| *at > now)
    }

    /// The advice for an encoder that has been paced for long.
    pub(crate) fn advice(&self) -> Option<Advice> {
        let Span { since, until } = self.paced?;
        (until.saturating_duration_since(since) >= PACED).then_some(Advice::Paced)
    }

    /// Records that the publisher's lead is a burst: its next media are dropped.
    pub(crate) fn note_burst(&mut self, broadcast: BroadcastId) {
        self.drops_burst = true;
        info!(
            %broadcast,
            "the publisher began with a burst, as relays do: its media are dropped up to those of \
             the present"
        );
    }

    /// Records a frame that was dropped because of an earlier outage, or a burst.
    pub(crate) fn note_left_out(&mut self, broadcast: BroadcastId, now: Instant) {
        // The start of the burst was logged; its frames are dropped as intended.
        if self.drops_burst {
            return;
        }
        if let Some(frames) = self.left_out.count(now) {
            warn!(
                %broadcast, frames,
                "frames dropped after an outage, to stay near real time: check the publisher's \
                 uplink"
            );
        }
    }

    /// Records that the publisher is not read until `resume_at`, if present.
    fn pace(&mut self, resume_at: Option<Instant>, metrics: &Metrics, now: Instant) {
        self.resume_at = resume_at.filter(|at| *at > now);
        // A source in real time is paced now and then too, for example when it sends whole
        // segments, so only pacing without a long pause counts.
        self.paced.take_if(|span| now.saturating_duration_since(span.until) > PAUSE);
        if let Some(at) = self.resume_at {
            // Frames of one read report the same wait again.
            let counted = self.paced.map_or(now, |span| span.until.max(now));
            metrics.paced.inc_by(at.saturating_duration_since(counted).as_secs_f64());
            let Span { since, until } = self.paced.unwrap_or(Span { since: now, until: at });
            self.paced = Some(Span { since, until: until.max(at) });
        }
    }

    /// Records an accepted frame; `track` is the index of its track.
    pub(crate) fn note(
        &mut self,
        pushed: Pushed,
        track: impl FnOnce(TrackIndex) -> &'static str,
        broadcast: BroadcastId,
        metrics: &Metrics,
        now: Instant,
    ) {
        self.drops_burst = false;
        self.burst.note_frame(pushed.resume_at.is_some(), now);
        self.pace(pushed.resume_at, metrics, now);
        let Some(TrackNotice { track: index, notice }) = pushed.notice else {
            return;
        };
        metrics.correct_clock(notice);
        // Each kind has a limit of its own, so that a frequent one does not hide a rare one.
        let limit = match notice {
            Notice::Jumped => &mut self.jumped,
            Notice::Late => &mut self.late,
            Notice::Retimed => &mut self.retimed,
        };
        let Some(times) = limit.count(now) else { return };
        let track = track(index);
        // A jump is common and harmless, for example when a relay changes its source; the other two
        // show a fault at the publisher.
        match notice {
            Notice::Jumped => {
                info!(%broadcast, track, times, "timestamps jumped: the track continues at the \
                                                 wall clock")
            }
            Notice::Late => warn!(
                %broadcast, track, times,
                "frames arrive more than 5 s late: the publisher continues at the wall clock after \
                 a gap; check its uplink and bit rate"
            ),
            Notice::Retimed => warn!(
                %broadcast, track, times,
                "timestamps do not follow a clock: frames are timed by arrival; check the \
                 encoder's time base"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paced_time_is_counted_and_a_minute_of_pacing_causes_advice_until_it_stops() {
        let (start, metrics, mut timing) = (Instant::now(), Metrics::default(), Timing::default());
        let ms = |ms| start + Duration::from_millis(ms);
        // A clock that is 1 % fast: 0.4 ms of waiting after each frame.
        for n in 0..=1_500 {
            assert_eq!(timing.advice(), None, "{n}");
            let at = ms(n * 40) + Duration::from_micros(400);
            timing.pace(Some(at), &metrics, ms(n * 40));
            timing.pace(Some(at), &metrics, ms(n * 40));
        }
        assert_eq!(timing.advice(), Some(Advice::Paced));
        let paced = metrics.paced.get();
        assert!((paced - 1_501.0 * 0.0004).abs() < 1e-6, "{paced}");
        timing.pace(None, &metrics, ms(60_900));
        assert_eq!(timing.advice(), Some(Advice::Paced));
        timing.pace(None, &metrics, ms(61_100));
        assert_eq!(timing.advice(), None);
    }

    #[test]
    fn a_relay_that_sends_six_seconds_every_six_seconds_gets_no_advice() {
        let (start, metrics, mut timing) = (Instant::now(), Metrics::default(), Timing::default());
        for second in 0..120u32 {
            let now = start + Duration::from_secs(second.into());
            // It is paced until its segment leads by 2.5 s.
            let leads = second % 6 < 3;
            timing.pace(leads.then(|| now + Duration::from_secs(1)), &metrics, now);
            assert_eq!(timing.advice(), None, "{second}");
        }
    }

    #[test]
    fn a_correction_is_logged_once_a_minute_with_its_count() {
        let (now, mut limit) = (Instant::now(), Limit::default());
        assert_eq!(limit.count(now), Some(1));
        assert_eq!(limit.count(now + Duration::from_secs(1)), None);
        assert_eq!(limit.count(now + Duration::from_secs(59)), None);
        assert_eq!(limit.count(now + Duration::from_secs(60)), Some(3));
    }
}
