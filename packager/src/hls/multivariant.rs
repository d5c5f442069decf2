//! `master.m3u8`: the multivariant playlist. RFC 8216bis 4.4.6.

use std::fmt::Write;

use media_core::codec::{Config, avc};

use super::VERSION;
use crate::{Presentation, Track};

/// The GROUP-ID of all audio renditions.
const AUDIO: &str = "audio";

/// The whole playlist. Without video each audio track is a variant of its own and there is no group.
pub(crate) fn render(presentation: &Presentation) -> String {
    let (video, audio): (Vec<_>, Vec<_>) = presentation.tracks.iter().partition(|track| track.config.is_video());
    let mut out = String::with_capacity(256 * (presentation.tracks.len() + 1));
    // Writing to a String does not fail.
    let _ = write!(out, "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n");
    if video.is_empty() {
        for track in audio {
            let _ = stream_inf(&mut out, track, &[]);
        }
        return out;
    }
    for (index, track) in audio.iter().enumerate() {
        let _ = media(&mut out, track, index == 0);
    }
    for track in video {
        let _ = stream_inf(&mut out, track, &audio);
    }
    out
}

/// EXT-X-MEDIA (4.4.6.1). Tracks do not say their language, so the name is the track's.
fn media(out: &mut String, track: &Track, default: bool) -> std::fmt::Result {
    let (name, default) = (&track.name, if default { "YES" } else { "NO" });
    write!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO}\",NAME=\"{name}\",DEFAULT={default},AUTOSELECT=YES"
    )?;
    if let Config::Aac(aac) = &*track.config
        && aac.channels > 0
    {
        write!(out, ",CHANNELS=\"{}\"", aac.channels)?;
    }
    writeln!(out, ",URI=\"{name}.m3u8\"")
}

/// EXT-X-STREAM-INF (4.4.6.2) and its address. The rates are those of the track with the dearest of `audio`.
fn stream_inf(out: &mut String, track: &Track, audio: &[&std::sync::Arc<Track>]) -> std::fmt::Result {
    let with_audio = |rate: fn(&Track) -> u64| rate(track) + audio.iter().map(|audio| rate(audio)).max().unwrap_or(0);
    let peak = with_audio(|track| track.peak_bps);
    let average = with_audio(|track| track.average_bps);
    write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{}",
        track.config.codec_string()
    )?;
    for (index, other) in audio.iter().enumerate() {
        let codec = other.config.codec_string();
        if audio[..index]
            .iter()
            .all(|earlier| earlier.config.codec_string() != codec)
        {
            write!(out, ",{codec}")?;
        }
    }
    out.push('"');
    if let Config::Avc(avc) = &*track.config {
        let (width, height) = display_size(avc);
        write!(out, ",RESOLUTION={width}x{height}")?;
    }
    if let Some(rate) = track.frame_rate {
        write!(out, ",FRAME-RATE={rate:.3}")?;
    }
    if !audio.is_empty() {
        write!(out, ",AUDIO=\"{AUDIO}\"")?;
    }
    write!(out, "\n{}.m3u8\n", track.name)
}

/// The size a picture is to be shown at: its lines as coded, and as wide as its samples' shape makes it.
fn display_size(avc: &avc::Config) -> (u64, u64) {
    let (w, h) = (u64::from(avc.sample_aspect.0), u64::from(avc.sample_aspect.1).max(1));
    ((u64::from(avc.width) * w + h / 2) / h, u64::from(avc.height))
}
