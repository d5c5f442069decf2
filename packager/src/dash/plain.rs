//! `plain.mpd`: DASH for players that know nothing of low latency. A SegmentTimeline of the whole segments that playlists list, under
//! the same ids and numbers as `manifest.mpd` (ISO/IEC 23009-1 5.3.9.6).

use std::fmt::{Result, Write};

use super::{
    Period,
    mpd::{self, Form, Head, Set, Shown},
};
use crate::{Presentation, Segment, Track};

/// The whole text.
pub(crate) fn render(presentation: &Presentation) -> String {
    let segment = presentation.segment;
    let head = Head {
        profiles: "urn:mpeg:dash:profile:isoff-live:2011",
        min_buffer: segment,
        delay: 3 * segment,
    };
    mpd::render(presentation, &head, &Plain)
}

struct Plain;

impl Form for Plain {
    fn describe(&self, _: &mut String, _: &Presentation) -> Result {
        Ok(())
    }

    /// Those of which every track of the source lists a segment.
    fn shows(&self, presentation: &Presentation, period: &Period) -> bool {
        let shown = Shown::new(presentation, period);
        let mut source = presentation.tracks.iter().filter(|track| !track.rendition);
        source.all(|track| listed(&shown, track).next().is_some())
    }

    fn has(&self, shown: &Shown<'_>, track: &Track) -> bool {
        listed(shown, track).next().is_some()
    }

    fn describe_set(&self, _: &mut String, _: &Set<'_>) -> Result {
        Ok(())
    }

    fn template(&self, out: &mut String, shown: &Shown<'_>, track: &Track) -> Result {
        let mut segments = listed(shown, track).peekable();
        let first = segments.peek().map_or(shown.period.first, |first| first.msn);
        write!(out, " startNumber=\"{first}\">\n    <SegmentTimeline>\n")?;
        let mut expected = None;
        while let Some(Segment { start, duration, .. }) = segments.next() {
            out.push_str("     <S");
            if expected != Some(*start) {
                write!(out, " t=\"{start}\"")?;
            }
            let mut end = start + duration;
            let mut repeat = 0;
            while segments
                .next_if(|next| next.start == end && next.duration == *duration)
                .is_some()
            {
                end += duration;
                repeat += 1;
            }
            write!(out, " d=\"{duration}\"")?;
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

/// The segments of the Period that the track's playlist lists, the first row of them without a gap: numbers are counted from the first,
/// and nothing can be left out between. A Period ends where a rendition's gap has begun, so that little is lost by that.
fn listed<'a>(shown: &Shown<'_>, track: &'a Track) -> impl Iterator<Item = &'a Segment> {
    track
        .listed()
        .iter()
        .map(|segment| &**segment)
        .filter(|segment| shown.has(segment.msn))
        .skip_while(|segment| segment.gap)
        .take_while(|segment| !segment.gap)
}
