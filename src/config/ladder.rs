//! The operator's settings of the ladder.

use std::time::Duration;

use net_core::config;
use serde::Deserialize;
use transcoder::{
    ladder, plan,
    protocol::{Encoder, Tuning},
};

use super::{error::Error, within::Within};

/// x264's presets.
static PRESETS: [&str; 10] = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
];
/// Maximum number of rungs: a broadcast has 16 tracks, including the source, its audio and a
/// stand-in.
const MAX_RUNGS: usize = 10;

/// The renditions of every source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ladder {
    pub(crate) enabled: bool,
    stand_in: bool,
    rungs: Vec<Rung>,
    audio_kbps: Within<0, 512>,
    encoder: Choice,
    preset: String,
    tuning: Tuning,
    cpu_percent: Within<1, 1_000>,
    shedding: bool,
    worker_memory_mb: Within<128, 65_536>,
    nice: Within<0, 19>,
    poster_s: Within<1, 600>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rung {
    height: Within<64, 4_320>,
    video_kbps: Within<50, 100_000>,
}

/// The encoder to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    /// The first one that works.
    #[default]
    Auto,
    Nvenc,
    Va,
    X264,
    OpenH264,
}

impl Default for Ladder {
    fn default() -> Self {
        let rung = |height, video_kbps| Rung {
            height: Within::new(height),
            video_kbps: Within::new(video_kbps),
        };
        Self {
            enabled: true,
            stand_in: false,
            rungs: vec![rung(720, 2_800), rung(480, 1_400), rung(360, 700)],
            audio_kbps: Within::new(0),
            encoder: Choice::Auto,
            preset: "veryfast".into(),
            tuning: Tuning::Latency,
            cpu_percent: Within::new(80),
            shedding: true,
            worker_memory_mb: Within::new(1_024),
            nice: Within::new(10),
            poster_s: Within::new(5),
        }
    }
}

impl Ladder {
    /// Whether anything is encoded: rungs, or a stand-in for a source in which players cannot
    /// start.
    pub(crate) fn encodes(&self) -> bool {
        self.enabled || self.stand_in
    }

    /// Encodes nothing.
    pub(crate) fn disable(&mut self) {
        (self.enabled, self.stand_in) = (false, false);
    }

    /// Settings of the transcoder. Without `enabled` there are no rungs, only stand-ins.
    pub(crate) fn transcoder(&self) -> ladder::Config {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let rung = |rung: &Rung| plan::Rung {
            height: number(rung.height.get()),
            video_kbps: number(rung.video_kbps.get()),
        };
        ladder::Config {
            rungs: self.rungs.iter().filter(|_| self.enabled).map(rung).collect(),
            audio_kbps: if self.enabled { number(self.audio_kbps.get()) } else { 0 },
            encoder: match self.encoder {
                Choice::Auto => None,
                Choice::Nvenc => Some(Encoder::Nvenc),
                Choice::Va => Some(Encoder::Va),
                Choice::X264 => Some(Encoder::X264),
                Choice::OpenH264 => Some(Encoder::OpenH264),
            },
            preset: self.preset.clone(),
            tuning: self.tuning,
            cpu_percent: number(self.cpu_percent.get()),
            shedding: self.shedding,
            memory_bytes: self.worker_memory_mb.get() << 20,
            nice: self.nice(),
        }
    }

    /// Niceness of workers.
    pub(crate) fn nice(&self) -> u8 {
        u8::try_from(self.nice.get()).unwrap_or(u8::MAX)
    }

    /// Time for which a poster is fresh.
    pub(crate) fn poster(&self) -> Duration {
        Duration::from_secs(self.poster_s.get())
    }

    /// Checks the constraints that no single value can violate.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.rungs.len() > MAX_RUNGS {
            let (key, count, max) = ("ladder.rungs", self.rungs.len(), MAX_RUNGS);
            return Err(config::Error::TooManyEntries { key, count, max }.into());
        }
        let mut heights: Vec<_> = self.rungs.iter().map(|rung| rung.height.get()).collect();
        heights.sort_unstable();
        // A rendition is named by its height, so two of one height would be one track.
        if let Some(pair) = heights.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::SameHeight { height: pair[0] });
        }
        if let Some(&height) = heights.iter().find(|height| *height % 2 == 1) {
            return Err(Error::OddHeight { height });
        }
        if !PRESETS.contains(&self.preset.as_str()) {
            return Err(Error::Preset { preset: self.preset.clone(), presets: &PRESETS });
        }
        let kbps = self.audio_kbps.get();
        if kbps > 0 && kbps < 16 {
            return Err(Error::AudioRate { kbps });
        }
        Ok(())
    }
}
