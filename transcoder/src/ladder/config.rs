//! The settings of the ladder.

use std::{num::NonZero, thread};

use crate::{
    plan::{self, Rung},
    protocol::{Encoder, Tuning},
};

/// Settings of the ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Renditions of the video; those at or above a source's height are left out.
    pub rungs: Vec<Rung>,
    /// Bit rate of an audio rendition in kbit/s; 0 for none.
    pub audio_kbps: u32,
    /// The encoder to use; `None` for the first that works.
    pub encoder: Option<Encoder>,
    /// x264's preset.
    pub preset: String,
    /// The encoders' objective.
    pub tuning: Tuning,
    /// Maximum share of all processor cores that encoders may reserve, in percent.
    pub cpu_percent: u32,
    /// Whether renditions are stopped when encoders fall behind.
    pub shedding: bool,
    /// Private memory of each worker, in bytes.
    pub memory_bytes: u64,
    /// Niceness of workers, 0 to 19.
    pub nice: u8,
}

impl Config {
    /// Number of channels of 1080p at 30 frames a second for which encoders have capacity, if one
    /// core does `macroblocks_per_s`.
    pub fn channels(&self, encoder: Encoder, macroblocks_per_s: f64) -> f64 {
        /// Macroblocks a second, aspect ratio and lines of 1080p30.
        const SAMPLE: (f64, f64, f64) = (120.0 * 68.0 * 30.0, 16.0 / 9.0, 1_080.0);
        let (decoded, aspect, lines) = SAMPLE;
        // As `plan::renditions`, but with whole macroblocks not rounded up: the result is an
        // estimate.
        let below =
            self.rungs.iter().map(|rung| f64::from(rung.height)).filter(|height| *height < lines);
        let encoded: f64 = below.map(|height| height * height * aspect / 256.0 * 30.0).sum();
        self.share(encoder) * macroblocks_per_s / (decoded * plan::DECODING + encoded)
    }

    /// The encoders to test, the preferred one first.
    pub fn candidates(&self) -> Vec<Encoder> {
        self.encoder.map_or(Encoder::ALL.into(), |wanted| vec![wanted])
    }

    /// Processor cores that encoders may reserve, or the share of the device.
    pub(super) fn share(&self, encoder: Encoder) -> f64 {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        // A device is measured as a whole, so it counts as one core.
        let cores = if encoder.is_hardware() { 1 } else { cores };
        cores as f64 * f64::from(self.cpu_percent) / 100.0
    }
}
