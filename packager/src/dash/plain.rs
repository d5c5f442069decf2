//! `plain.mpd`: DASH for players without low latency. A SegmentTimeline of the whole segments that
//! playlists list, under the same ids and numbers as `manifest.mpd` (ISO/IEC 23009-1 5.3.9.6).

use std::{
    fmt::{Result, Write},
    sync::Arc,
};

use media_core::TrackIndex;

use super::mpd::{self, Clock, Form, Head, Set, Shown};
use crate::{Period, Presentation, Segment, Track};

/// The whole text. `site`: the address of the clock, see [`mpd::Clock`].
pub(crate) fn render(presentation: &Presentation, site: Option<&str>) -> String {
    let segment = presentation.segment;
    let head = Head {
        profiles: "urn:mpeg:dash:profile:isoff-live:2011",
        min_buffer: segment,
        delay: mpd::whole_segments_delay(presentation, 3),
        clock: Clock::at(site),
    };
    mpd::render(presentation, &head, &Plain)
}

struct Plain;

impl Form for Plain {
    fn describe(&self, _: &mut String, _: &Presentation) -> Result {
        Ok(())
    }

    /// Periods of which each track of the source lists a segment, and each rendition has its first
    /// segment: the Representations of a published Period never change.
    fn shows(&self, presentation: &Presentation, period: &Period) -> bool {
        let shown = Shown::new(presentation, period);
        // A published Period gains no Representation, so it waits until all of its tracks have
        // reached it. Of the source it also needs a listed segment.
        let is_known = |(index, track): (usize, &Arc<Track>)| match track.rendition {
            _ if period.init(TrackIndex::new(index)).is_none() => true,
            true => track.segments.last().map_or(0, |newest| newest.msn) >= period.first,
            false => listed(&shown, track).next().is_some(),
        };
        presentation.tracks.iter().enumerate().all(is_known)
    }

    /// Whether the track's first segment in the Period is complete, or is not held any more, and a
    /// segment is listed. A track without one is in the next Period.
    fn has(&self, shown: &Shown<'_>, track: &Track) -> bool {
        let begins = track.segment(shown.period.first).is_none_or(|first| !first.gap);
        begins && listed(shown, track).next().is_some()
    }

    fn describe_set(&self, _: &mut String, _: &Set<'_>) -> Result {
        Ok(())
    }

    fn template(&self, out: &mut String, shown: &Shown<'_>, track: &Track) -> Result {
        let mut segments = listed(shown, track).peekable();
        let first = segments.peek().map_or(shown.period.first, |first| first.msn);
        write!(out, " startNumber=\"{first}\">\n    <SegmentTimeline>\n")?;
        // `t` is written where a segment does not start at the end of the one before it; equal
        // durations in a row are one element with `r`.
        let mut expected = None;
        while let Some(&Segment { start, duration, .. }) = segments.next() {
            out.push_str("     <S");
            if expected != Some(start) {
                write!(out, " t=\"{}\"", start.get())?;
            }
            let mut end = start + duration;
            let mut repeat = 0;
            while segments.next_if(|next| next.start == end && next.duration == duration).is_some()
            {
                end += duration;
                repeat += 1;
            }
            write!(out, " d=\"{}\"", duration.get())?;
            if repeat > 0 {
                write!(out, " r=\"{repeat}\"")?;
            }
            out.push_str("/>\n");
            expected = Some(end);
        }
        out.push_str("    </SegmentTimeline>\n   </SegmentTemplate>\n");
        Ok(())
    }
}

/// The segments of the Period that the track's playlist lists, without gaps at its start and up to
/// the next gap, because numbers are counted from the first and none can be left out. The next
/// Period begins after a rendition's gap. Once it is published, players know that these segments
/// have ended.
fn listed<'a>(shown: &Shown<'_>, track: &'a Track) -> impl Iterator<Item = &'a Segment> {
    let all = track.listed();
    let oldest = all.first().map_or(0, |oldest| oldest.msn);
    // Numbers have no holes: a Period's are found without going through those of all others.
    let before = shown.period.first.saturating_sub(oldest);
    all.skip(usize::try_from(before).unwrap_or(usize::MAX))
        .map(|segment| &**segment)
        .take_while(|segment| shown.has(segment.msn))
        .skip_while(|segment| segment.gap)
        .take_while(|segment| !segment.gap)
}
