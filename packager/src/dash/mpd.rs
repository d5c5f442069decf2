//! The parts common to both manifests: MPD, Period, AdaptationSet and Representation. ISO/IEC
//! 23009-1 5.3.
//!
//! After the end the type is `static` (DASH-IF IOP, end of live content): Shaka goes on to numbers
//! after the last in a `dynamic` one that has ended. It then begins with the oldest segment that is
//! listed.

use std::{
    fmt::{Display, Result, Write},
    sync::Arc,
    time::Duration,
};

use media_core::{
    MediaSpan, MediaTime, Ticks, Timescale, TrackIndex,
    codec::{Config, avc},
};

use crate::{
    LastSegment, Period, Presentation, Segment, Track,
    stamp::{Millis, Seconds, Utc},
};

/// Attributes of the MPD element that differ between the forms.
pub(super) struct Head<'a> {
    pub(super) profiles: &'static str,
    /// MPD@minBufferTime.
    pub(super) min_buffer: Duration,
    /// MPD@suggestedPresentationDelay.
    pub(super) delay: Duration,
    pub(super) clock: Clock<'a>,
}

/// The address of the clock, `/time`. It is absolute if the site's address is known, because
/// rx-player, GStreamer and ExoPlayer do not resolve a relative one.
#[derive(Clone, Copy)]
pub(super) struct Clock<'a>(Option<&'a str>);

impl<'a> Clock<'a> {
    /// `site`: scheme and authority, and a path prefix if there is one, without a slash at its end.
    pub(super) fn at(site: Option<&'a str>) -> Self {
        Self(site)
    }

    /// The clocks that a manifest lists, most useful first.
    ///
    /// rx-player and GStreamer use the first, ExoPlayer the last, and it knows no `http-head`;
    /// dash.js and Shaka try each in order. So the absolute address is first and last, and the
    /// relative one between them serves the others where a proxy makes the absolute one wrong.
    fn all(self) -> impl Iterator<Item = Self> {
        let absolute = self.0.map(|_| self);
        absolute.into_iter().chain([Clock(None)]).chain(absolute)
    }
}

impl Display for Clock<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> Result {
        write!(f, "{}/time", self.0.unwrap_or("../.."))
    }
}

/// The parts of a manifest that differ between the forms.
pub(super) trait Form {
    /// ServiceDescription and the like, before the first Period.
    fn describe(&self, out: &mut String, presentation: &Presentation) -> Result;
    /// Whether it lists `period`.
    fn shows(&self, presentation: &Presentation, period: &Period) -> bool;
    /// Whether the track has segments in that Period that can be listed.
    fn has(&self, shown: &Shown<'_>, track: &Track) -> bool;
    /// Descriptors of an AdaptationSet that this form alone has.
    fn describe_set(&self, out: &mut String, set: &Set<'_>) -> Result;
    /// Attributes of SegmentTemplate beyond what all have, and its content with the closing tag.
    fn template(&self, out: &mut String, period: &Shown<'_>, track: &Track) -> Result;
}

/// A Period of a manifest.
pub(super) struct Shown<'a> {
    pub(super) presentation: &'a Presentation,
    pub(super) period: &'a Period,
    /// Its first segment; after the end, the first that is listed.
    pub(super) first: FirstSegment,
    /// Its last segment, also when the broadcast has ended in it.
    pub(super) last: Option<LastSegment>,
    /// The same, as the manifest publishes it: see [`published`].
    pub(super) published: Option<LastSegment>,
}

/// The first segment of a Period.
#[derive(Clone, Copy)]
pub(super) struct FirstSegment {
    /// Its number.
    pub(super) msn: u64,
    /// Where it starts.
    pub(super) start: MediaTime,
}

/// A track of an AdaptationSet.
struct Member<'a> {
    /// Its index in the presentation.
    index: TrackIndex,
    track: &'a Track,
}

/// An AdaptationSet of a Period: its id, the same in all of them, and the first of its tracks.
pub(super) struct Set<'a> {
    pub(super) id: usize,
    /// A player should choose another set if there is one.
    pub(super) second: bool,
    pub(super) shown: &'a Shown<'a>,
    pub(super) first: &'a Track,
}

/// The whole text.
pub(super) fn render(presentation: &Presentation, head: &Head<'_>, form: &impl Form) -> String {
    let mut out =
        String::with_capacity(1024 + presentation.periods.len() * presentation.tracks.len() * 1280);
    // Writing to a String does not fail.
    let _ = write(&mut out, presentation, head, form);
    out
}

fn write(
    out: &mut String,
    presentation: &Presentation,
    head: &Head<'_>,
    form: &impl Form,
) -> Result {
    let shown: Vec<_> = presentation
        .periods
        .iter()
        .filter(|period| form.shows(presentation, period))
        .map(|period| Shown::new(presentation, period))
        .collect();
    open(out, presentation, head, shown.last())?;
    form.describe(out, presentation)?;
    for (index, period) in shown.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &shown[before]);
        write_period(out, period, before, form)?;
    }
    for clock in head.clock.all() {
        writeln!(
            out,
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"{clock}\"/>"
        )?;
    }
    out.push_str("</MPD>\n");
    Ok(())
}

fn open(
    out: &mut String,
    presentation: &Presentation,
    head: &Head<'_>,
    newest: Option<&Shown<'_>>,
) -> Result {
    let master = presentation.tracks.first();
    let edge = master
        .and_then(|track| track.segments.last().map(|last| last.end().duration(track.timescale())));
    write!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"{}\" type=\"{}\" \
         availabilityStartTime=\"{}\" publishTime=\"{}\"",
        head.profiles,
        if presentation.ended { "static" } else { "dynamic" },
        Utc(presentation.anchor_utc),
        Utc(presentation.anchor_utc + edge.unwrap_or_default()),
    )?;
    // A static MPD states its duration in place of the attributes of a live one.
    if presentation.ended {
        if let Some(last) = newest.and_then(|newest| newest.published) {
            write!(out, " mediaPresentationDuration=\"PT{}S\"", at(last.end))?;
        }
        return writeln!(out, " minBufferTime=\"PT{}S\">", Millis(head.min_buffer));
    }
    write!(out, " minimumUpdatePeriod=\"PT{}S\"", Millis(presentation.segment))?;
    writeln!(
        out,
        " minBufferTime=\"PT{}S\" timeShiftBufferDepth=\"PT{}S\" \
         suggestedPresentationDelay=\"PT{}S\">",
        Millis(head.min_buffer),
        // Not more than the media so far, because ffmpeg subtracts it from publishTime and does not
        // check for the start of the broadcast.
        Millis(edge.unwrap_or_default().min(presentation.window)),
        Millis(head.delay),
    )
}

fn write_period(
    out: &mut String,
    shown: &Shown<'_>,
    before: Option<&Shown<'_>>,
    form: &impl Form,
) -> Result {
    let period = shown.period;
    let start = at(shown.first.start);
    write!(out, "<Period id=\"{}\" start=\"PT{start}S\"", period.first)?;
    if let Some(last) = shown.published {
        write!(out, " duration=\"PT{}S\"", at(last.end).since(start))?;
    }
    out.push_str(">\n");
    // Continuity is stated only with a Period that this manifest lists.
    let continues = period
        .continues
        .filter(|continues| before.is_some_and(|before| before.period.first == *continues));
    let had = before.map(|before| sets(before, form)).unwrap_or_default();
    for (set, tracks) in sets(shown, form) {
        let continues = continues.filter(|_| had.iter().any(|(before, _)| before.id == set.id));
        write_set(out, &set, &tracks, continues, form)?;
    }
    out.push_str("</Period>\n");
    Ok(())
}

/// The AdaptationSets of a Period, each with its tracks.
///
/// Renditions of the same pictures are one set. No browser can start in a source whose segments
/// start without a key frame, so it is listed only where there is no rendition (Shaka ignores
/// selectionPriority). Each audio track is a set of its own: renditions of the same sound too,
/// whose access units are not those of the source, so that segments overlap by a fraction of an
/// access unit. The id 1 is that of video, even if there is none, so that an id means the same in
/// every Period of every broadcast.
fn sets<'a>(shown: &'a Shown<'a>, form: &impl Form) -> Vec<(Set<'a>, Vec<Member<'a>>)> {
    let (video, audio): (Vec<_>, Vec<_>) = shown
        .presentation
        .tracks
        .iter()
        .enumerate()
        .map(|(index, track)| Member { index: TrackIndex::new(index), track })
        .partition(|member| member.track.config.is_video());
    let is_there = |member: &Member<'a>| {
        shown.period.init(member.index).is_some() && form.has(shown, member.track)
    };
    let mut video: Vec<_> = video.into_iter().filter(is_there).collect();
    if shown.period.gridded && video.iter().any(|member| member.track.rendition) {
        video.retain(|member| member.track.rendition);
    }
    let audio = audio.into_iter().enumerate();
    let audio =
        audio.filter(|(_, member)| is_there(member)).map(|(n, member)| (n + 2, vec![member]));
    let all = [(1, video)].into_iter().chain(audio);
    all.filter_map(|(id, tracks)| {
        let first = tracks.first()?.track;
        let second = !first.config.is_video() && first.rendition;
        Some((Set { id, second, shown, first }, tracks))
    })
    .collect()
}

fn write_set(
    out: &mut String,
    set: &Set<'_>,
    tracks: &[Member<'_>],
    continues: Option<u64>,
    form: &impl Form,
) -> Result {
    let kind = if set.first.config.is_video() { "video" } else { "audio" };
    write!(
        out,
        " <AdaptationSet id=\"{}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\" \
         segmentAlignment=\"true\"",
        set.id
    )?;
    if set.second {
        out.push_str(" selectionPriority=\"0\"");
    }
    if tracks.iter().all(|member| starts_with_key_frames(set.shown, member.track)) {
        out.push_str(" startWithSAP=\"1\"");
    }
    out.push_str(">\n");
    if let Some(before) = continues {
        let scheme = "urn:mpeg:dash:period-continuity:2015";
        writeln!(out, "  <SupplementalProperty schemeIdUri=\"{scheme}\" value=\"{before}\"/>")?;
    }
    form.describe_set(out, set)?;
    out.push_str("  <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"main\"/>\n");
    for member in tracks {
        write_representation(out, set.shown, member, form)?;
    }
    out.push_str(" </AdaptationSet>\n");
    Ok(())
}

/// Representation@bandwidth is the highest rate of a segment: a player with that bandwidth never
/// waits (5.3.5.2).
fn write_representation(
    out: &mut String,
    shown: &Shown<'_>,
    member: &Member<'_>,
    form: &impl Form,
) -> Result {
    let &Member { index, track } = member;
    let (period, name) = (shown.period, &track.name);
    let number = period.init(index).unwrap_or(0);
    let config = track.init(number).map_or(&track.config, |init| &init.config);
    let bandwidth = track.peak_bps.max(1);
    write!(
        out,
        "  <Representation id=\"{name}\" bandwidth=\"{bandwidth}\" codecs=\"{}\"",
        config.codec_string()
    )?;
    match &**config {
        Config::Avc(avc) => {
            write!(out, " width=\"{}\" height=\"{}\"", avc.width, avc.height)?;
            let avc::SampleAspect { width, height } = avc.sample_aspect;
            write!(out, " sar=\"{width}:{height}\"")?;
            if let Some(rate) = track.frame_rate {
                write!(out, " frameRate=\"{}\"", Ratio::of(rate))?;
            }
            out.push_str(">\n");
        }
        Config::Aac(aac) => {
            writeln!(out, " audioSamplingRate=\"{}\">", aac.timescale.hz())?;
            if aac.channels > 0 {
                // ISO/IEC 23091-3: up to 6 the configuration is the number of channels; 7.1 is 12,
                // the usual layout of home theatres.
                let layout = if aac.channels == 8 { 12 } else { aac.channels };
                let scheme = "urn:mpeg:mpegB:cicp:ChannelConfiguration";
                writeln!(
                    out,
                    "   <AudioChannelConfiguration schemeIdUri=\"{scheme}\" value=\"{layout}\"/>"
                )?;
            }
        }
    }
    let base = Base(shown.presentation);
    let timescale = track.timescale();
    // Media keep the times of the broadcast's timeline. The offset maps the Period's start to 0
    // (5.3.9.2).
    let offset = Ticks::of(shown.first.start, timescale).get();
    write!(
        out,
        "   <SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{offset}\" \
         initialization=\"{base}/$RepresentationID$/init.{number}.mp4\" \
         media=\"{base}/$RepresentationID$/$Number$.m4s\"",
        timescale.hz(),
    )?;
    form.template(out, shown, track)?;
    out.push_str("  </Representation>\n");
    Ok(())
}

impl<'a> Shown<'a> {
    pub(super) fn new(presentation: &'a Presentation, period: &'a Period) -> Self {
        let (last, published) = (last(presentation, period), published(presentation, period));
        let first = first(presentation, period);
        Self { presentation, period, first, last, published }
    }

    /// Whether it has the segment `msn`.
    pub(super) fn has(&self, msn: u64) -> bool {
        msn >= self.period.first && self.last.is_none_or(|last| msn <= last.msn)
    }
}

/// A time on the broadcast's timeline.
pub(super) fn at(time: MediaTime) -> Seconds {
    Seconds::at(Ticks::of(time, Timescale::VIDEO), Timescale::VIDEO)
}

/// Where a Period begins. After the end that is its first listed segment, where new viewers begin;
/// before the end, a Period's start never changes.
fn first(presentation: &Presentation, period: &Period) -> FirstSegment {
    let whole = FirstSegment { msn: period.first, start: period.start };
    let Some(master) = presentation.tracks.first().filter(|_| presentation.ended) else {
        return whole;
    };
    let source = presentation.tracks.iter().filter(|track| !track.rendition);
    // New viewers begin where each track of the source has a listed segment.
    let listed = source.filter_map(|track| Some(track.listed().first()?.msn)).max();
    let first = listed.unwrap_or(0).max(period.first);
    let segment = master.segment(first).filter(|_| first > period.first);
    segment.map_or(whole, |segment| FirstSegment {
        msn: first,
        start: segment.start.media_time(master.timescale()),
    })
}

/// The end of a Period; of the newest one, when the broadcast has ended, that is the broadcast's.
fn last(presentation: &Presentation, period: &Period) -> Option<LastSegment> {
    // Only the newest Period may lack its end, and it ends with the broadcast.
    let newest = || presentation.tracks.first()?.segments.last();
    let ended = || {
        newest()
            .filter(|_| presentation.ended)
            .map(|newest| LastSegment { msn: newest.msn, end: presentation.end.max(period.start) })
    };
    period.last.or_else(ended)
}

/// The delay with which a player still has media: the time that the publisher has been away when
/// the gap segment at the edge ends. A player that starts after the end of the media waits there,
/// although the next Period will start elsewhere (dash.js waits forever).
pub(super) fn away(presentation: &Presentation) -> Duration {
    // If the newest Period has ended and no other has begun, the publisher has been away since
    // then.
    let since = presentation.periods.last().and_then(|newest| newest.last);
    let master = presentation.tracks.first();
    let open = master.and_then(|track| Some((track.timescale(), track.open.as_ref()?)));
    let Some((since, (timescale, open))) = since.zip(open) else {
        return Duration::ZERO;
    };
    let until = open.start.duration(timescale) + presentation.segment;
    // Further back nothing is listed.
    let most = presentation.window.saturating_sub(3 * presentation.segment);
    until.saturating_sub((since.end - MediaTime::ZERO).duration()).min(most)
}

/// MPD@suggestedPresentationDelay for players that take whole segments: `segments` of them, or back
/// to the last media while the publisher is away.
pub(super) fn whole_segments_delay(presentation: &Presentation, segments: u32) -> Duration {
    let nominal = presentation.periods.last().map_or(MediaSpan::ZERO, |newest| newest.nominal);
    let segment = nominal.duration().max(presentation.segment);
    (segments * segment).max(away(presentation) + presentation.segment)
}

/// The end of a Period as the manifest publishes it: `None` until another Period begins. A player
/// at the end of the only Period assumes that the broadcast is over (dash.js stops). So while the
/// publisher is away, players go on to numbers without media.
fn published(presentation: &Presentation, period: &Period) -> Option<LastSegment> {
    let newest = presentation.periods.last().is_none_or(|newest| newest.first == period.first);
    let last = last(presentation, period)?;
    match (newest, presentation.ended) {
        (true, true) => {
            let end = last.end.max(end_of_media(presentation, last.msn));
            Some(LastSegment { end, ..last })
        }
        (true, false) => None,
        (false, _) => Some(last),
    }
}

/// A time just after the end of segment `msn` in the track in which it ends last: the next whole
/// millisecond, and one more. The last Period has to end there: if dash.js finds the position at
/// the Period's end before the element has fired `ended`, it pauses and never ends. The element
/// cuts its own duration to its last media.
fn end_of_media(presentation: &Presentation, msn: u64) -> MediaTime {
    let tracks = presentation.tracks.iter();
    let ends =
        tracks.filter_map(|track| Some(track.segment(msn)?.end().duration(track.timescale())));
    let millis = ends.max().unwrap_or_default().as_nanos().div_ceil(1_000_000) + 1;
    let millis = Duration::from_millis(millis.try_into().unwrap_or(u64::MAX));
    MediaTime::ZERO + MediaSpan::from_duration(millis)
}

/// startWithSAP must hold for all segments of the track. Only a gridded source has segments that do
/// not start with a key frame.
fn starts_with_key_frames(shown: &Shown<'_>, track: &Track) -> bool {
    let starts = |segment: &Arc<Segment>| segment.independent || segment.gap;
    let mut open = track.open.iter().filter(|open| shown.has(open.msn));
    // The usual case needs no search: all complete segments start with a key frame.
    if track.dependent == 0 {
        return open.all(starts);
    }
    let oldest = track.segments.first().map_or(0, |oldest| oldest.msn);
    let before = shown.period.first.saturating_sub(oldest);
    let segments = track.segments.iter().skip(usize::try_from(before).unwrap_or(usize::MAX));
    segments.take_while(|segment| shown.has(segment.msn)).chain(open).all(starts)
}

/// The address of the media, relative to a manifest.
struct Base<'a>(&'a Presentation);

impl Display for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> Result {
        write!(f, "../../media/{}", self.0.broadcast)
    }
}

/// FrameRateType (5.3.7.3): a whole number or a fraction.
struct Ratio(u64, u64);

impl Ratio {
    /// `rate` as a whole number, as one of the 1001 kind, or to the thousandth.
    fn of(rate: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "float to integer casts saturate"
        )]
        let round = |value: f64| value.round() as u64;
        let near = |value: f64| (value - value.round()).abs() < 0.002 && value >= 0.5;
        // Whole rates are tried first, then those of NTSC; others are written to the thousandth.
        if near(rate) {
            Self(round(rate), 1)
        } else if near(rate * 1.001) {
            Self(round(rate * 1.001) * 1000, 1001)
        } else {
            Self(round(rate * 1000.0), 1000)
        }
    }
}

impl Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> Result {
        match self.1 {
            1 => write!(f, "{}", self.0),
            divisor => write!(f, "{}/{divisor}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_rates_are_whole_numbers_or_fractions() {
        let cases =
            [(30.0, "30"), (25.0, "25"), (29.97, "30000/1001"), (30_000.0 / 1001.0, "30000/1001")];
        let more =
            [(23.976, "24000/1001"), (59.94, "60000/1001"), (12.5, "12500/1000"), (29.999_7, "30")];
        for (rate, text) in cases.into_iter().chain(more) {
            assert_eq!(Ratio::of(rate).to_string(), text);
        }
    }
}
