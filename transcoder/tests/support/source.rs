//! Sources, encoded once by ffmpeg and stored in target/test-media under a name derived from the
//! recipe.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use bytes::Bytes;
use media_core::MediaTime;
use transcoder::protocol::{Media, Order};

/// Increased when sources are made in another way, so that old files are not reused.
const EDITION: u32 = 1;

/// The encoding parameters: a test picture that changes with each frame, H.264 in FLV.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) size: (u32, u32),
    /// Frames a second, as a fraction.
    pub(crate) fps: (u32, u32),
    pub(crate) pictures: u32,
    /// Pictures in a group.
    pub(crate) group: u32,
    pub(crate) b_frames: u32,
    /// A filter after the test picture.
    pub(crate) filter: &'static str,
    /// Further options of the encoder.
    pub(crate) options: &'static [&'static str],
}

/// The source of most tests.
pub(crate) const PLAIN: Recipe = Recipe {
    size: (320, 180),
    fps: (30, 1),
    pictures: 90,
    group: 30,
    b_frames: 0,
    filter: "null",
    options: &[],
};

/// An encoded source.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// `avcC`.
    pub(crate) record: Vec<u8>,
    /// In order of decoding.
    pub(crate) units: Vec<Unit>,
}

/// One access unit; 90 kHz ticks.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) key: bool,
    pub(crate) dts: i64,
    pub(crate) pts: i64,
    pub(crate) payload: Bytes,
}

impl Unit {
    pub(crate) fn order(&self, mark: Option<i64>) -> Order {
        Order::Unit {
            media: Media::Video,
            key: self.key,
            dts: MediaTime::from_ticks(self.dts),
            pts: MediaTime::from_ticks(self.pts),
            mark: mark.map(MediaTime::from_ticks),
            payload: self.payload.clone(),
        }
    }
}

impl Recipe {
    pub(crate) fn frame_rate(&self) -> f64 {
        f64::from(self.fps.0) / f64::from(self.fps.1)
    }

    /// Encodes the source, unless its file exists. Times start at `first`, on the exact grid of the
    /// frame rate.
    pub(crate) fn source(&self, first: i64) -> Source {
        let mut source = parse(&fs::read(self.flv()).expect("a file"));
        // FLV has milliseconds, which suffice to identify the picture.
        let grid = |ms: i64| {
            let number = (ms as f64 * self.frame_rate() / 1_000.0).round() as i64;
            first + number * 90_000 * i64::from(self.fps.1) / i64::from(self.fps.0)
        };
        for unit in &mut source.units {
            (unit.dts, unit.pts) = (grid(unit.dts), grid(unit.pts));
        }
        source
    }

    /// The file of the source.
    pub(crate) fn flv(&self) -> PathBuf {
        let (width, height) = self.size;
        let (num, den) = self.fps;
        let mut name = format!(
            "worker-e{EDITION}-{width}x{height}-{num}-{den}-n{}-g{}",
            self.pictures, self.group
        );
        name += &format!("-b{}-{}{}", self.b_frames, self.filter, self.options.concat());
        name.retain(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
        made(&name, "flv", |path| {
            let picture =
                format!("testsrc2=size={width}x{height}:rate={num}/{den},{}", self.filter);
            let mut ffmpeg = synthesise(&picture);
            ffmpeg.args([
                "-frames:v",
                &self.pictures.to_string(),
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
            ]);
            ffmpeg.args(["-pix_fmt", "yuv420p", "-crf", "23", "-sc_threshold", "0"]);
            ffmpeg.args(["-bf", &self.b_frames.to_string(), "-g", &self.group.to_string()]);
            ffmpeg.args(["-keyint_min", &self.group.to_string()]);
            ffmpeg.args(self.options).args(["-f", "flv"]).arg(path);
            let status = ffmpeg.status().expect("ffmpeg");
            assert!(status.success(), "ffmpeg: {status}");
        })
    }
}

/// An ffmpeg command that reads the output of its filter `source`.
pub(crate) fn synthesise(source: &str) -> Command {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]);
    ffmpeg.args(["-f", "lavfi", "-i", source]);
    ffmpeg
}

/// The file with this name, made if it does not exist. It is made under another name first, so that
/// an interrupted run leaves no incomplete file.
pub(crate) fn made(name: &str, extension: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-media");
    let path = directory.join(format!("{name}.{extension}"));
    let _one_at_a_time = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !path.exists() {
        fs::create_dir_all(&directory).expect("a directory under target/");
        let unfinished = path.with_extension(format!("{}.{extension}", std::process::id()));
        make(&unfinished);
        fs::rename(&unfinished, &path).expect("the same directory");
    }
    path
}

/// The video of an FLV file, times in milliseconds.
fn parse(flv: &[u8]) -> Source {
    let (mut record, mut units) = (Vec::new(), Vec::new());
    // The header, and the size field before the first tag.
    let mut rest = &flv[13..];
    while rest.len() >= 15 {
        let number =
            |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | i64::from(byte));
        let len = number(&rest[1..4]) as usize;
        let dts = number(&rest[4..7]) | i64::from(rest[7]) << 24;
        let (kind, tag) = (rest[0], &rest[11..11 + len]);
        rest = &rest[11 + len + 4..];
        match (kind, tag) {
            (9, [0x17, 0, _, _, _, avcc @ ..]) => record = avcc.to_vec(),
            (9, [flags, 1, a, b, c, payload @ ..]) => {
                let shift = number(&[*a, *b, *c]);
                let shift = if shift >= 1 << 23 { shift - (1 << 24) } else { shift };
                units.push(Unit {
                    key: flags >> 4 == 1,
                    dts,
                    pts: dts + shift,
                    payload: Bytes::copy_from_slice(payload),
                });
            }
            _ => {}
        }
    }
    assert!(!record.is_empty() && !units.is_empty(), "an FLV file with H.264");
    Source { record, units }
}
