//! Tests whether a video encoder works on this machine, and how fast: encodes a second of moving
//! pictures. For a separate process, because a driver may crash.

use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};
use gstreamer_video::{
    VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry, VideoTransferFunction,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    confine::confine,
    elements,
    protocol::{Encoder, Tuning},
    worker::{self, chain, encoder},
};

/// Memory limit of the trial's process, in bytes.
const MEMORY_BYTES: u64 = 1 << 30;
/// Width of the pictures in luma samples; 640x360 are 920 macroblocks.
const WIDTH: u32 = 640;
/// Height of the pictures in luma samples.
const HEIGHT: u32 = 360;
/// Bit rate of the trial in bits a second.
const BITRATE_BPS: u32 = 1_000_000;
/// Pictures a second of the source.
const FRAME_RATE: u32 = 30;
/// Number of encoded pictures: 1.3 s of the source.
const PICTURES: u64 = 40;
/// Pictures for which key frames are requested.
const KEYS: [u64; 3] = [0, 13, 30];
/// Number of different pictures; they are repeated in both directions.
const TEXTURES: u64 = 10;
/// Time limit, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// The result of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Whether it is installed, accepts pictures, and outputs key frames as requested.
    pub works: bool,
    /// Macroblocks that it encodes in a second of one core, or in a second of a device. 0 if it
    /// does not work.
    pub macroblocks_per_s: f64,
}

impl Trial {
    /// The result as one line of JSON.
    pub fn to_json(self) -> String {
        // All fields can be serialised: a rate that is not a number becomes null.
        serde_json::to_string(&self).unwrap_or_default()
    }
}

/// Encodes with `encoder`, x264 with `preset`, in this process, which is confined as a worker is,
/// so that the result also applies there.
///
/// # Errors
/// [`Error::Init`], [`Error::Confine`]. A failing encoder is no error: the result is that it does
/// not work.
pub fn run(encoder: Encoder, preset: &str) -> Result<Trial, Error> {
    gst::init().map_err(Error::Init)?;
    if !elements::load_encoder(encoder) {
        return Ok(Trial { works: false, macroblocks_per_s: 0.0 });
    }
    confine(&worker::limits(encoder, MEMORY_BYTES))?;
    Ok(judge(encoder, preset))
}

/// Makes the pictures before the measurement, and treats each error as a failed trial.
fn judge(encoder: Encoder, preset: &str) -> Trial {
    let pictures: Vec<_> =
        (0..TEXTURES).map(|number| gst::Memory::from_slice(picture(number))).collect();
    let speed = attempt(encoder, preset, &pictures).ok().flatten();
    Trial { works: speed.is_some(), macroblocks_per_s: speed.unwrap_or(0.0) }
}

/// Macroblocks a second, if the encoder outputs all pictures, with key frames as requested.
fn attempt(encoder: Encoder, preset: &str, pictures: &[gst::Memory]) -> Result<Option<f64>, Error> {
    let settings = encoder::Settings {
        encoder,
        preset: preset.into(),
        tuning: Tuning::Latency,
        width: WIDTH,
        height: HEIGHT,
        frame_rate: f64::from(FRAME_RATE),
        bitrate_bps: BITRATE_BPS,
        level: 31,
        threads: 1,
        colorimetry: VideoColorimetry::new(
            VideoColorRange::Range16_235,
            VideoColorMatrix::Bt709,
            VideoTransferFunction::Bt709,
            VideoColorPrimaries::Bt709,
        ),
    };
    let source = chain::source(&settings.picture()?.to_caps()?, PICTURES);
    let sink = chain::sink(0);
    let mut elements: Vec<gst::Element> = vec![source.clone().upcast()];
    elements.extend(settings.elements()?);
    elements.push(sink.clone().upcast());
    let pipeline = gst::Pipeline::new();
    chain::add(&pipeline, &elements.iter().collect::<Vec<_>>())?;

    let (started, cpu) = (Instant::now(), cpu_time());
    pipeline.set_state(gst::State::Playing)?;
    // The source holds all of them, so it never waits for a slow encoder.
    let there_and_back = pictures.iter().chain(pictures.iter().rev()).cycle();
    for (number, memory) in (0..PICTURES).zip(there_and_back) {
        let mut buffer = gst::Buffer::new();
        let buffer_ref = buffer.get_mut().ok_or(Error::Scale)?;
        buffer_ref.append_memory(memory.clone());
        buffer_ref.set_pts(gst::ClockTime::SECOND * number / u64::from(FRAME_RATE));
        // The first picture is a key frame without a request.
        if number > 0 && KEYS.contains(&number) {
            source.send_event(encoder::key_frame());
        }
        chain::push(&source, buffer)?;
    }
    chain::finish(&source)?;
    let mut keys = Vec::new();
    let mut units = 0;
    // The end of the stream or the limit ends the loop. In both cases too few units fail the trial.
    while let Some(left) = LIMIT.checked_sub(started.elapsed()) {
        let left = gst::ClockTime::try_from(left).unwrap_or(gst::ClockTime::ZERO);
        let Some(sample) = sink.try_pull_sample(left) else {
            break;
        };
        // A key frame without parameter sets cannot start a segment, so it does not count as one.
        let has_record = chain::record(&sample).is_some();
        let key = |buffer: &gst::BufferRef| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if has_record && sample.buffer().is_some_and(key) {
            keys.push(units);
        }
        units += 1;
    }
    // In software the processor time counts, because other processes may delay the trial. A device
    // works beside the processor, so its trial is measured in real time.
    let took = match encoder {
        Encoder::X264 | Encoder::OpenH264 => cpu_time().saturating_sub(cpu),
        Encoder::Nvenc | Encoder::Va => started.elapsed(),
    };
    pipeline.set_state(gst::State::Null)?;
    let macroblocks = f64::from(WIDTH.div_ceil(16) * HEIGHT.div_ceil(16)) * PICTURES as f64;
    let works = units == PICTURES && keys == KEYS;
    Ok(works.then(|| macroblocks / took.as_secs_f64().max(0.001)))
}

/// Processor time of the process.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// An I420 picture with drifting bright areas and some grain: about as difficult to encode as film.
fn picture(number: u64) -> Vec<u8> {
    let mut samples = Vec::with_capacity((WIDTH * HEIGHT * 3 / 2) as usize);
    let shift = number as f64;
    for (plane, scale) in [(0, 1), (1, 2), (2, 2)] {
        for y in 0..HEIGHT / scale {
            for x in 0..WIDTH / scale {
                // Chroma has half the resolution, so its coordinates are doubled: both planes show
                // the same scene.
                let (u, v) =
                    (f64::from(x * scale) + 2.3 * shift, f64::from(y * scale) + 0.9 * shift);
                let hills =
                    (u / 37.0 + (v / 53.0).sin() * 2.0).sin() + (v / 23.0 - (u / 71.0).cos()).cos();
                let edges = if (u / 90.0 + v / 140.0).sin() > 0.3 { 25.0 } else { 0.0 };
                samples.push(if plane == 0 {
                    level(110.0 + 35.0 * hills + edges + grain(u, v))
                } else {
                    level(128.0 + 14.0 * hills)
                });
            }
        }
    }
    samples
}

/// Noise that moves with the picture.
fn grain(u: f64, v: f64) -> f64 {
    let cell = (u.floor() * 12.9898 + v.floor() * 78.233).sin() * 43_758.547;
    (cell - cell.floor() - 0.5) * 10.0
}

/// A sample value in the limited range of video (ITU-R BT.709).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
fn level(value: f64) -> u8 {
    value.clamp(16.0, 235.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_encoders_pass_the_trial_with_forced_key_frames() {
        gst::init().unwrap();
        for encoder in [Encoder::X264, Encoder::OpenH264] {
            let trial = judge(encoder, "superfast");
            assert!(trial.works && trial.macroblocks_per_s > 10_000.0, "{encoder:?} {trial:?}");
        }
    }
}
