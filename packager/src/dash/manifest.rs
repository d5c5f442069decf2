//! `manifest.mpd`: DASH with low latency. DASH-IF IOP, low latency: segments by number and nominal
//! duration, each available from its first chunk on (availabilityTimeOffset,
//! availabilityTimeComplete), so that a player never waits for the manifest.

use std::{
    fmt::{Result, Write},
    time::Duration,
};

use media_core::{MediaTime, Ticks};

use super::mpd::{self, Clock, Form, Head, Set, Shown};
use crate::{
    Period, Presentation, Track,
    stamp::{Seconds, Utc},
};

const PROFILES: &str =
    "urn:mpeg:dash:profile:isoff-live:2011,http://www.dashif.org/guidelines/low-latency-live-v5";
/// The least target latency, however short parts are: a player's clock and scheduling need as much.
const MIN_TARGET: Duration = Duration::from_secs(1);
/// The usual delay of a rendition's parts behind the source's: a player at the target latency must
/// not run out of media when it switches.
const BEHIND: Duration = Duration::from_millis(600);

/// The whole text. `site`: the address of the clock, see [`mpd::Clock`].
pub(crate) fn render(presentation: &Presentation, site: Option<&str>) -> String {
    let head = Head {
        profiles: PROFILES,
        min_buffer: presentation.part_hold_back,
        // For players that do not know Latency@target, and take whole segments. With less than two
        // segments video.js starts after 5 to 13 s. A third would only delay Shaka, which starts at
        // this delay.
        delay: delay(presentation).max(mpd::whole_segments_delay(presentation, 2)),
        clock: Clock::at(site),
    };
    mpd::render(presentation, &head, &LowLatency(&head.clock))
}

struct LowLatency<'a>(&'a Clock<'a>);

impl Form for LowLatency<'_> {
    fn describe(&self, out: &mut String, presentation: &Presentation) -> Result {
        if presentation.ended {
            return Ok(());
        }
        let target = delay(presentation);
        // dash.js seeks to the target from beyond the maximum. A viewer who seeks back within the
        // window, or falls behind while the publisher is away, stays there.
        let (min, max) = (presentation.part_hold_back, target + presentation.window);
        write!(
            out,
            "<ServiceDescription id=\"1\">\n \
             <Latency referenceId=\"1\" target=\"{}\" min=\"{}\" max=\"{}\"/>\n \
             <PlaybackRate min=\"0.96\" max=\"1.04\"/>\n</ServiceDescription>\n",
            target.as_millis(),
            min.as_millis(),
            max.as_millis(),
        )
    }

    /// Periods that still have a listed segment, or will have one.
    fn shows(&self, presentation: &Presentation, period: &Period) -> bool {
        let Some(track) = presentation.tracks.first() else {
            return false;
        };
        let oldest = track.listed().first().or(track.open.as_ref()).map_or(0, |oldest| oldest.msn);
        Shown::new(presentation, period).published.is_none_or(|last| last.msn >= oldest)
    }

    fn has(&self, _: &Shown<'_>, _: &Track) -> bool {
        true
    }

    /// The wall clock at the Period's start, and the longest distance between the starts of chunks.
    fn describe_set(&self, out: &mut String, set: &Set<'_>) -> Result {
        let Set { id, shown, first, .. } = set;
        let clock = self.0;
        let timescale = first.timescale();
        let (start, anchor) = (shown.first.start, shown.presentation.anchor_utc);
        write!(
            out,
            "  <ProducerReferenceTime id=\"{id}\" inband=\"true\" type=\"captured\" \
             wallClockTime=\"{}\" presentationTime=\"{}\">\n   \
             <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"{clock}\"/>\n  \
             </ProducerReferenceTime>\n",
            Utc(anchor + (start - MediaTime::ZERO).duration()),
            Ticks::of(start, timescale).get(),
        )?;
        let sap = if first.config.is_video() { 0 } else { 1 };
        let distance = Ticks::from_duration(first.part_target, timescale).get();
        writeln!(out, "  <Resync type=\"{sap}\" dT=\"{distance}\"/>")
    }

    fn template(&self, out: &mut String, shown: &Shown<'_>, track: &Track) -> Result {
        let (period, timescale) = (shown.period, track.timescale());
        let duration = Ticks::from_span(period.nominal, timescale);
        let duration = duration.max(Ticks::ONE);
        write!(out, " startNumber=\"{}\"", shown.first.msn)?;
        if let Some(last) = shown.published {
            write!(out, " endNumber=\"{}\"", last.msn)?;
        }
        write!(out, " duration=\"{}\"", duration.get())?;
        // A segment is available as soon as its first chunk, a part, is complete.
        let offset = duration - Ticks::from_duration(track.part_target, timescale);
        if offset > Ticks::ZERO && !shown.presentation.ended {
            let offset = Seconds::at(offset, timescale);
            write!(out, " availabilityTimeOffset=\"{offset}\" availabilityTimeComplete=\"false\"")?;
        }
        out.push_str("/>\n");
        Ok(())
    }
}

/// Latency@target; while the publisher is away, longer by the time without media.
fn delay(presentation: &Presentation) -> Duration {
    target(presentation) + mpd::away(presentation)
}

/// Latency@target: the time to make a part, the hold back of HLS players, and the delay of the
/// ladder.
fn target(presentation: &Presentation) -> Duration {
    let target = (presentation.part_hold_back + presentation.part).max(MIN_TARGET);
    let rendered = presentation.tracks.iter().any(|track| track.rendition);
    target + if rendered { BEHIND } else { Duration::ZERO }
}
