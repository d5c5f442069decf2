//! The video encoders and their settings: key frames only on request, and a constant rate over a
//! second.

use gstreamer::{self as gst, prelude::*};
use gstreamer_video::{self as gst_video, VideoColorimetry};

use super::chain;
use crate::{
    Error,
    protocol::{Encoder, Tuning},
};

/// No automatic key frames: `X264_KEYINT_MAX_INFINITE`.
const NEVER: u32 = 1 << 30;

/// The maximum of `x264enc`.
const MAX_KBPS: u32 = 2_000 * 1_024;

/// The settings of one encoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The element to use.
    pub(crate) encoder: Encoder,
    /// x264's preset; the other encoders have none.
    pub(crate) preset: String,
    /// Whether pictures may be reordered.
    pub(crate) tuning: Tuning,
    /// Width of its input in luma samples; even.
    pub(crate) width: u32,
    /// Height of its input in luma samples; even.
    pub(crate) height: u32,
    /// Of its input.
    pub(crate) frame_rate: f64,
    /// Bits a second: the mean, and the maximum over a second.
    pub(crate) bitrate_bps: u32,
    /// H.264 level times ten. Only x264 is set to it.
    pub(crate) level: u8,
    /// Threads of an encoder in software.
    pub(crate) threads: u32,
    /// Written into the stream, equal to the source's.
    pub(crate) colorimetry: VideoColorimetry,
}

impl Settings {
    /// The format of its input.
    ///
    /// # Errors
    /// [`Error::Build`]: an invalid size.
    pub(crate) fn picture(&self) -> Result<gst_video::VideoInfo, Error> {
        let info =
            gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, self.width, self.height)
                .fps(fraction(self.frame_rate))
                .par(gst::Fraction::new(1, 1))
                .interlace_mode(gst_video::VideoInterlaceMode::Progressive)
                .colorimetry(&self.colorimetry)
                .build()?;
        Ok(info)
    }

    /// The encoder and the elements that convert its output to access units with length prefixes,
    /// linked in this order.
    ///
    /// # Errors
    /// [`Error::Build`]: the element is not installed.
    pub(crate) fn elements(&self) -> Result<Vec<gst::Element>, Error> {
        let (encoder, parse) = match self.encoder {
            Encoder::X264 => (self.x264()?, false),
            Encoder::OpenH264 => (self.openh264()?, true),
            Encoder::Nvenc => (self.nvenc()?, false),
            Encoder::Va => (self.va()?, true),
        };
        let mut elements = vec![encoder];
        if parse {
            // The encoder writes start codes.
            let parse = gst::ElementFactory::make("h264parse").build()?;
            elements.extend([self.filter("byte-stream")?, parse]);
        }
        elements.push(self.filter("avc")?);
        Ok(elements)
    }

    /// Caps that fix the stream format, and with it the profile.
    fn filter(&self, format: &str) -> Result<gst::Element, Error> {
        // Constrained baseline is the profile that each version of OpenH264 encodes.
        let profile = match self.encoder {
            Encoder::OpenH264 => "constrained-baseline",
            Encoder::X264 | Encoder::Nvenc | Encoder::Va => "high",
        };
        let mut caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", format)
            .field("alignment", "au")
            .field("profile", profile);
        // Only x264 is restricted to the planned level; the other encoders choose theirs.
        if self.encoder == Encoder::X264 {
            caps = caps.field("level", level(self.level));
        }
        chain::filter(caps.build())
    }

    /// x264: no scene cuts, since key frames elsewhere than at marks would start no segment.
    fn x264(&self) -> Result<gst::Element, Error> {
        let make = gst::ElementFactory::make("x264enc")
            .property_from_str("speed-preset", &self.preset)
            .property("bitrate", kbps(self.bitrate_bps))
            // In milliseconds: the rate is constant over one second.
            .property("vbv-buf-capacity", 1_000_u32)
            .property("key-int-max", NEVER)
            .property("threads", self.threads)
            .property("aud", false)
            .property("option-string", "scenecut=0:open-gop=0");
        // A fixed pattern of B pictures and a short look-ahead bound the delay.
        let make = match self.tuning {
            Tuning::Latency => make.property_from_str("tune", "zerolatency"),
            Tuning::Quality => make
                .property("bframes", 2_u32)
                .property("b-adapt", false)
                .property("rc-lookahead", 10_i32)
                .property("sync-lookahead", 0_i32),
        };
        Ok(make.build()?)
    }

    /// OpenH264: no skipped pictures, because each one would be a hole in the rendition.
    fn openh264(&self) -> Result<gst::Element, Error> {
        let element = gst::ElementFactory::make("openh264enc")
            .property("bitrate", self.bitrate_bps)
            .property("max-bitrate", self.bitrate_bps)
            .property_from_str("rate-control", "bitrate")
            .property_from_str("complexity", "low")
            .property("gop-size", NEVER)
            .property("enable-frame-skip", false)
            .property("multi-thread", self.threads)
            .build()?;
        Ok(element)
    }

    /// NVENC: a group of infinite length, key frames on request.
    fn nvenc(&self) -> Result<gst::Element, Error> {
        let element = gst::ElementFactory::make("nvh264enc")
            .property("bitrate", kbps(self.bitrate_bps))
            .property("max-bitrate", kbps(self.bitrate_bps))
            .property("vbv-buffer-size", kbps(self.bitrate_bps))
            .property_from_str("rc-mode", "cbr")
            .property("gop-size", -1_i32)
            .property("bframes", if self.tuning == Tuning::Quality { 2_u32 } else { 0 })
            .property("zerolatency", self.tuning == Tuning::Latency)
            .property("aud", false)
            .build()?;
        Ok(element)
    }

    /// VA-API, by the element for this machine.
    fn va(&self) -> Result<gst::Element, Error> {
        let name = va_name().ok_or_else(|| gst::glib::bool_error!("no H.264 encoder of VA-API"))?;
        let element = gst::ElementFactory::make(name)
            .property("bitrate", kbps(self.bitrate_bps))
            .property("cpb-size", kbps(self.bitrate_bps))
            .property_from_str("rate-control", "cbr")
            // The maximum; the daemon's marks are more frequent.
            .property("key-int-max", 1_024_u32)
            .property("b-frames", if self.tuning == Tuning::Quality { 2_u32 } else { 0 })
            .property("aud", false)
            .build()?;
        Ok(element)
    }
}

/// Corrects a running encoder whose pictures are `times` as frequent as in its settings, because it
/// allots bits by the picture. Encoders without such a property are unchanged.
pub(crate) fn set_pace(element: &gst::Element, settings: &Settings, times: f64) {
    if settings.encoder != Encoder::X264 {
        return;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
    let scaled = |value: f64, most: u32| value.round().clamp(1.0, f64::from(most)) as u32;
    // A buffer of a second, as before. The encoder applies both properties when the second is set.
    element.set_property("vbv-buf-capacity", scaled(1_000.0 * times, 10_000));
    element
        .set_property("bitrate", scaled(f64::from(kbps(settings.bitrate_bps)) / times, MAX_KBPS));
}

/// The VA-API element for this machine's driver, which registers only supported ones.
pub(crate) fn va_name() -> Option<&'static str> {
    ["vah264enc", "vah264lpenc"].into_iter().find(|name| gst::ElementFactory::find(name).is_some())
}

/// An event that requests a key frame for the next picture.
pub(crate) fn key_frame() -> gst::Event {
    gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build()
}

/// Bits a second as kbit/s, at least 1, because encoders refuse 0 or take it as a default.
fn kbps(bitrate_bps: u32) -> u32 {
    (bitrate_bps / 1_000).max(1)
}

/// `31` as `3.1`, `40` as `4`.
fn level(tenths: u8) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}

/// The rate as encoders expect it: exactly 30000/1001 where it matches, otherwise in thousandths.
fn fraction(frame_rate: f64) -> gst::Fraction {
    #[expect(clippy::cast_possible_truncation, reason = "a rate is at most some hundreds")]
    let whole = |rate: f64| rate.clamp(1.0, 1_000_000.0).round() as i32;
    // Rates such as 29.97 are rounded in sources; the exact fraction avoids drift.
    let film = whole(frame_rate * 1.001);
    if (frame_rate * 1.001 - f64::from(film)).abs() < 0.005
        && (frame_rate - frame_rate.round()).abs() > 0.01
    {
        return gst::Fraction::new(film * 1_000, 1_001);
    }
    gst::Fraction::new(whole(frame_rate * 1_000.0), 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_rates_are_converted_to_their_standard_fractions() {
        for (rate, (num, den)) in [
            (25.0, (25, 1)),
            (29.97, (30_000, 1_001)),
            (30_000.0 / 1_001.0, (30_000, 1_001)),
            (30.0, (30, 1)),
            (59.94, (60_000, 1_001)),
            (23.976, (24_000, 1_001)),
            (12.5, (25, 2)),
            (24.99, (2_499, 100)),
        ] {
            assert_eq!(fraction(rate), gst::Fraction::new(num, den), "{rate}");
        }
        assert_eq!(level(31), "3.1");
        assert_eq!(level(40), "4");
    }
}
