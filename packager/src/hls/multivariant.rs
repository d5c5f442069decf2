//! `master.m3u8`: the multivariant playlist. RFC 8216bis 4.4.6.

use std::fmt::Write;

use media_core::{
    TrackName,
    codec::{Config, avc},
};

use super::media::VERSION;
use crate::{Presentation, Track};

/// The GROUP-ID of the source's audio.
const AUDIO: &str = "audio";
/// The GROUP-ID of audio made of it for small variants.
const AUDIO_LOW: &str = "audio-low";
/// A rendition with a lower average bit rate than this is listed with the smaller audio, so that
/// audio is a small share of its rate.
const LOW_BPS: u64 = 1_000_000;

/// Audio tracks of which a player needs one.
struct Group<'a> {
    id: &'static str,
    tracks: Vec<&'a Track>,
}

/// The whole playlist: the source, then the renditions by bit rate. Without video each audio track
/// is a variant of its own and there is no group.
///
/// Players read it once, so a track that is missing at the moment is listed; one that was missing
/// all the time is not. A source whose segments start without a key frame is left out where there
/// is anything else, because no player could switch to it.
pub(crate) fn render(presentation: &Presentation) -> String {
    let tracks = presentation.tracks.iter().map(|track| &**track);
    let (mut video, audio): (Vec<_>, Vec<_>) = tracks.partition(|track| track.config.is_video());
    let mut out = String::with_capacity(256 * (presentation.tracks.len() + 1));
    // Writing to a String does not fail.
    let _ = write!(out, "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n");
    if video.is_empty() {
        for track in audio {
            let _ = stream_inf(&mut out, track, None);
        }
        return out;
    }
    // Renditions without media are left out, unless the source has none either.
    if video.iter().any(|track| !track.rendition && !is_void(track)) {
        video.retain(|track| !track.rendition || !is_void(track));
    }
    // Players cannot switch to a source that starts without key frames.
    if video.iter().any(|track| track.rendition) {
        video.retain(|track| track.rendition || !track.gridded);
    }
    video.sort_by_key(|track| (track.rendition, std::cmp::Reverse(track.peak_bps)));
    let (low, usual): (Vec<_>, Vec<_>) = audio.into_iter().partition(|track| track.rendition);
    // The smaller audio is a group only if some variant is small enough to go with it.
    let is_small = |track: &Track| track.rendition && track.average_bps < LOW_BPS;
    let name = usual.first().map(|track| &track.name);
    let usual = (!usual.is_empty()).then_some(Group { id: AUDIO, tracks: usual });
    let low = (!low.is_empty() && video.iter().any(|track| is_small(track)))
        .then_some(Group { id: AUDIO_LOW, tracks: low });
    for group in usual.iter().chain(&low) {
        for (index, track) in group.tracks.iter().enumerate() {
            // The same sound has the same name.
            let name = name.filter(|_| index == 0).unwrap_or(&track.name);
            let _ = media(&mut out, group.id, name, track, index == 0);
        }
    }
    for track in video {
        let group = low.as_ref().filter(|_| is_small(track)).or(usual.as_ref());
        let _ = stream_inf(&mut out, track, group);
    }
    out
}

/// The track has no media as far back as its playlist reaches. Some players give up at such a
/// playlist (Shaka), none can play it.
fn is_void(track: &Track) -> bool {
    let mut parts = track.listed().chain(&track.open).flat_map(|segment| &segment.parts);
    parts.all(|part| part.gap)
}

/// EXT-X-MEDIA (4.4.6.1). The language of a track is not known, so the name is the track's.
fn media(
    out: &mut String,
    group: &str,
    name: &TrackName,
    track: &Track,
    default: bool,
) -> std::fmt::Result {
    let default = if default { "YES" } else { "NO" };
    write!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{name}\",DEFAULT={default},\
         AUTOSELECT=YES"
    )?;
    if let Config::Aac(aac) = &*track.config
        && aac.channels > 0
    {
        write!(out, ",CHANNELS=\"{}\"", aac.channels)?;
    }
    writeln!(out, ",URI=\"{}.m3u8\"", track.name)
}

/// EXT-X-STREAM-INF (4.4.6.2) and its address. The rates are those of the track and of the group's
/// audio with the highest rate, added.
fn stream_inf(out: &mut String, track: &Track, group: Option<&Group<'_>>) -> std::fmt::Result {
    let audio = group.map_or(&[][..], |group| &group.tracks);
    let with_audio = |rate: fn(&Track) -> u64| {
        rate(track) + audio.iter().map(|audio| rate(audio)).max().unwrap_or(0)
    };
    let peak = with_audio(|track| track.peak_bps);
    let average = with_audio(|track| track.average_bps);
    write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{}",
        track.codec_string()
    )?;
    for (index, other) in audio.iter().enumerate() {
        let codec = other.codec_string();
        if audio[..index].iter().all(|earlier| earlier.codec_string() != codec) {
            write!(out, ",{codec}")?;
        }
    }
    out.push('"');
    if let Config::Avc(avc) = &*track.config {
        let Resolution { width, height } = Resolution::of(avc);
        write!(out, ",RESOLUTION={width}x{height}")?;
    }
    if let Some(rate) = track.frame_rate {
        write!(out, ",FRAME-RATE={rate:.3}")?;
    }
    // Otherwise players look for captions in the media: Shaka fetches the open segment for that,
    // and fails while there is no other. If one variant has NONE all must.
    out.push_str(",CLOSED-CAPTIONS=NONE");
    if let Some(group) = group {
        write!(out, ",AUDIO=\"{}\"", group.id)?;
    }
    write!(out, "\n{}.m3u8\n", track.name)
}

/// The size at which a picture is shown, in square pixels: its lines as coded, and as wide as the
/// shape of its samples makes it.
struct Resolution {
    width: u64,
    height: u64,
}

impl Resolution {
    fn of(avc: &avc::Config) -> Self {
        let aspect = avc.sample_aspect;
        let (w, h) = (u64::from(aspect.width), u64::from(aspect.height).max(1));
        Self { width: (u64::from(avc.width) * w + h / 2) / h, height: u64::from(avc.height) }
    }
}
