//! `{track}.m3u8`: the media playlist of a track, whole or as a delta update. RFC 8216bis 4.4.2 to
//! 4.4.5, 6.2.5.1.
//!
//! A segment's lines depend on nothing but the segment, the init segment before it and whether its
//! parts are still listed: so a delta update is the full playlist with lines left out, and the
//! EXT-X-MAP that applies to its first segment put in. Its cost does not depend on the number of
//! segments skipped.

use std::fmt::{Result, Write};

use media_core::{Ticks, Timescale, settings::Latency};

use crate::{
    Part, Presentation, Segment, Skip, Track,
    stamp::{Millis, Seconds, Utc},
};

/// EXT-X-VERSION of every playlist: EXT-X-SKIP requires 9 (RFC 8216bis 8).
pub(super) const VERSION: u8 = 9;
/// EXT-X-VERSION of a delta update that may leave out date ranges.
const VERSION_V2: u8 = 10;
/// Target durations from the playlist's end within which parts are listed (4.4.4.9).
const PARTS_REACH: u64 = 3;
/// CAN-SKIP-UNTIL in target durations: the least that is allowed (4.4.3.8).
const SKIP_UNTIL: u64 = 6;

/// The playlist of `track`. `None`: `skip` is a delta update, and there is none, because it is not
/// offered, would leave nothing out, or the broadcast has ended.
pub(crate) fn render(presentation: &Presentation, track: &Track, skip: Skip) -> Option<String> {
    let playlist = Playlist::new(presentation, track);
    let skipped = if skip == Skip::No { 0 } else { playlist.skippable() };
    if skip != Skip::No && skipped == 0 {
        return None;
    }
    let mut out = String::with_capacity(
        1024 + 256 * (track.listed().len() - skipped) + 128 * playlist.parts(),
    );
    // Writing to a String does not fail.
    let _ = playlist.write(&mut out, skip, skipped);
    Some(out)
}

/// Whether a delta update of `track` would leave anything out.
pub(crate) fn skips(presentation: &Presentation, track: &Track) -> bool {
    Playlist::new(presentation, track).skippable() > 0
}

struct Playlist<'a> {
    presentation: &'a Presentation,
    track: &'a Track,
    timescale: Timescale,
    /// `../../media/{broadcast}/{track}/`
    base: String,
    /// The end of the newest part.
    end: Ticks,
}

impl<'a> Playlist<'a> {
    fn new(presentation: &'a Presentation, track: &'a Track) -> Self {
        let listed = track.listed().newest().or(track.segments.last());
        let newest = track.open.as_ref().or(listed);
        Self {
            presentation,
            track,
            timescale: track.timescale(),
            base: format!("../../media/{}/{}/", presentation.broadcast, track.name),
            end: newest.map_or(Ticks::ZERO, |newest| newest.end()),
        }
    }

    fn write(&self, out: &mut String, skip: Skip, skipped: usize) -> Result {
        let listed = self.track.listed();
        self.header(out, if skip == Skip::V2 { VERSION_V2 } else { VERSION })?;
        if skipped > 0 {
            write!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
            // Required in a response to `v2`; there are no date ranges that could have been
            // removed.
            out.push_str(if skip == Skip::V2 {
                ",RECENTLY-REMOVED-DATERANGES=\"\"\n"
            } else {
                "\n"
            });
        }
        // EXT-X-MAP is written again where a delta update begins: a player that did not keep the
        // skipped one (Shaka 5.2) could read nothing up to the next.
        let mut init = None;
        // The newest segment may be listed by its parts alone: its EXTINF follows with the next
        // part.
        let is_withheld = self.is_low_latency() && self.track.withholds_newest();
        let whole = listed.len() - usize::from(is_withheld);
        for (index, segment) in listed.enumerate().skip(skipped) {
            self.introduce(out, segment, &mut init)?;
            if self.lists_parts(segment) {
                self.part_lines(out, segment, segment.gap)?;
            } else if segment.gap {
                out.push_str("#EXT-X-GAP\n");
            }
            if index >= whole {
                continue;
            }
            let duration = self.at(segment.end()).since(self.at(segment.start));
            writeln!(out, "#EXTINF:{duration},\n{}{}.m4s", self.base, segment.msn)?;
        }
        // Nothing follows, so there is no open segment, hint or report.
        if self.presentation.ended {
            out.push_str("#EXT-X-ENDLIST\n");
            return Ok(());
        }
        if !self.is_low_latency() {
            return self.rendition_reports(out);
        }
        if let Some(open) = self.track.open.as_ref().filter(|open| !open.parts.is_empty()) {
            self.introduce(out, open, &mut init)?;
            self.part_lines(out, open, !self.is_away(open))?;
        }
        self.preload_hint(out, init)?;
        self.rendition_reports(out)
    }

    fn header(&self, out: &mut String, version: u8) -> Result {
        let Presentation { target_duration_s, part_hold_back, .. } = *self.presentation;
        let (track, listed) = (self.track, self.track.listed());
        let first = listed.first().or(track.open.as_ref());
        // The number of an empty list is that after the last segment, because numbers never go
        // back.
        let msn = first.map_or_else(
            || track.segments.last().map_or(0, |last| last.msn + 1),
            |first| first.msn,
        );
        write!(
            out,
            "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target_duration_s}\n"
        )?;
        let open = track.open.as_ref();
        // The tag must be true of all segments of the playlist (RFC 8216bis 4.4.2.1).
        if track.dependent == 0 && open.is_none_or(|open| open.independent || open.gap) {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        let (hold_back, part_hold_back) = (3 * target_duration_s, Millis(part_hold_back));
        out.push_str("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES");
        if self.is_low_latency() {
            write!(out, ",PART-HOLD-BACK={part_hold_back}")?;
        }
        write!(out, ",HOLD-BACK={hold_back}.0")?;
        if self.offers_skip() {
            write!(out, ",CAN-SKIP-UNTIL={}.0", SKIP_UNTIL * target_duration_s)?;
        }
        if self.is_low_latency() {
            write!(out, "\n#EXT-X-PART-INF:PART-TARGET={}", Millis(track.part_target))?;
        }
        write!(
            out,
            "\n#EXT-X-MEDIA-SEQUENCE:{msn}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
            track.discontinuity_sequence
        )
    }

    /// Lines before a segment's first part: tags that apply from there on, and the wall clock.
    fn introduce(&self, out: &mut String, segment: &Segment, init: &mut Option<u32>) -> Result {
        if segment.discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if segment.discontinuity || *init != Some(segment.init) {
            writeln!(out, "#EXT-X-MAP:URI=\"{}init.{}.mp4\"", self.base, segment.init)?;
            *init = Some(segment.init);
        }
        let utc = self.presentation.anchor_utc + segment.start.duration(self.timescale);
        writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", Utc(utc))
    }

    /// `gap`: EXT-X-GAP follows the first part that is one (4.4.4.7).
    fn part_lines(&self, out: &mut String, segment: &Segment, mut gap: bool) -> Result {
        // Durations are differences of rounded times, so that those of the parts add up to EXTINF.
        let mut place = segment.start;
        let mut start = self.at(place);
        for (index, part) in segment.parts.iter().enumerate() {
            let Part { duration, .. } = **part;
            place += duration;
            let end = self.at(place);
            let duration = end.since(start);
            write!(
                out,
                "#EXT-X-PART:DURATION={duration},URI=\"{}{}.{index}.m4s\"",
                self.base, segment.msn
            )?;
            out.push_str(if part.independent { ",INDEPENDENT=YES" } else { "" });
            out.push_str(if part.gap { ",GAP=YES\n" } else { "\n" });
            if part.gap && std::mem::take(&mut gap) {
                out.push_str("#EXT-X-GAP\n");
            }
            start = end;
        }
        Ok(())
    }

    /// Whether the source itself has no media there. No rendition has any then either, and
    /// EXT-X-GAP would make players look for one, although the source may return at any moment.
    fn is_away(&self, segment: &Segment) -> bool {
        let source = self.presentation.tracks.first();
        source.and_then(|source| source.segment(segment.msn)).is_some_and(|source| source.gap)
    }

    /// EXT-X-PRELOAD-HINT (4.4.5.3): the next part, and the init segment that it needs if that is
    /// another. A part closes when the frame after it has arrived, so the next part always belongs
    /// to the open segment. Nothing is hinted in a gap.
    fn preload_hint(&self, out: &mut String, init: Option<u32>) -> Result {
        // The hint must name a part that will exist: there is none in a gap, and none is known
        // before the first segment.
        let (msn, part) = match (&self.track.open, self.track.segments.last()) {
            (Some(open), _) if open.gap || open.parts.last().is_some_and(|part| part.gap) => {
                return Ok(());
            }
            (None, Some(last)) if last.gap => return Ok(()),
            (Some(open), _) => {
                if open.parts.is_empty() && init.is_some_and(|init| init != open.init) {
                    writeln!(
                        out,
                        "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"{}init.{}.mp4\"",
                        self.base, open.init
                    )?;
                }
                (open.msn, open.parts.len())
            }
            (None, Some(last)) => (last.msn + 1, 0),
            (None, None) => return Ok(()),
        };
        writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{}{msn}.{part}.m4s\"", self.base)
    }

    /// EXT-X-RENDITION-REPORT (4.4.5.4): the newest part of every other track, or its newest
    /// segment if no parts are listed.
    fn rendition_reports(&self, out: &mut String) -> Result {
        for other in self.presentation.tracks.iter().filter(|other| other.name != self.track.name) {
            if !self.is_low_latency() {
                let Some(newest) = other.listed().newest() else { continue };
                let (name, msn) = (&other.name, newest.msn);
                writeln!(out, "#EXT-X-RENDITION-REPORT:URI=\"{name}.m3u8\",LAST-MSN={msn}")?;
                continue;
            }
            // An open segment without a part is not listed, so the report names the one before it.
            let open = other.open.as_ref().filter(|open| !open.parts.is_empty());
            let Some(newest) = open.or(other.segments.last()) else {
                continue;
            };
            let (msn, part) = (newest.msn, newest.parts.len().saturating_sub(1));
            writeln!(
                out,
                "#EXT-X-RENDITION-REPORT:URI=\"{}.m3u8\",LAST-MSN={msn},LAST-PART={part}",
                other.name
            )?;
        }
        Ok(())
    }

    /// Whether delta updates can ever leave anything out; the same for a broadcast's whole life.
    fn offers_skip(&self) -> bool {
        self.presentation.window.as_secs() > SKIP_UNTIL * self.presentation.target_duration_s
    }

    /// How many of the listed segments lie before the skip boundary.
    fn skippable(&self) -> usize {
        if self.presentation.ended || !self.offers_skip() {
            return 0;
        }
        // Segments that end before the skip boundary are skipped (RFC 8216bis 4.4.3.8).
        let boundary = self.before_end(SKIP_UNTIL);
        let before = self.track.segments.partition_point(|segment| segment.end() < boundary);
        before.saturating_sub(self.track.listed_from)
    }

    /// A list that has ended has no parts. Otherwise hls.js would finish a track only once the
    /// middle of its last listed part is in the element's buffer, which ends with the shortest
    /// track, and it does not load a short last part (docs/decisions/0020).
    fn lists_parts(&self, segment: &Segment) -> bool {
        self.is_low_latency()
            && !self.presentation.ended
            && segment.end() > self.before_end(PARTS_REACH)
    }

    /// Whether parts are listed at all.
    fn is_low_latency(&self) -> bool {
        self.presentation.latency == Latency::Low
    }

    /// How many part lines there will be.
    fn parts(&self) -> usize {
        let complete = self.track.listed().rev().take_while(|segment| self.lists_parts(segment));
        complete.chain(&self.track.open).map(|segment| segment.parts.len()).sum()
    }

    fn before_end(&self, target_durations: u64) -> Ticks {
        let seconds = i64::try_from(target_durations * self.presentation.target_duration_s)
            .unwrap_or(i64::MAX);
        self.end - Ticks::from(self.timescale.hz()) * seconds
    }

    fn at(&self, place: Ticks) -> Seconds {
        Seconds::at(place, self.timescale)
    }
}
