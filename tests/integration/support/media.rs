//! Media to publish: encoded once, stored in target/test-media under a name derived from the
//! recipe.
//!
//! Every picture differs from the others and has its number as 32 equally wide blocks over the full
//! width at the top, 1/16 of the height: white is 1, the most significant bit is first.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

/// Increased when media are made in another way, so that old files are not reused.
const EDITION: u32 = 1;

/// The encoding parameters. Video is H.264 without scene cuts; audio is AAC-LC, stereo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Recipe {
    pub(crate) seconds: u32,
    /// Frames a second, as a fraction; `None` for audio alone.
    pub(crate) fps: Option<(u32, u32)>,
    /// Frames in a group; 0 for two seconds' worth.
    pub(crate) group: u32,
    pub(crate) b_frames: u32,
    /// Groups after the first start at recovery points; only with B-frames.
    pub(crate) open_groups: bool,
    /// Width and height as coded; even.
    pub(crate) size: (usize, usize),
    /// The shape of a sample, width to height.
    pub(crate) sample_aspect: (u32, u32),
    /// Samples a second; `None` for video alone.
    pub(crate) audio_hz: Option<u32>,
}

/// The media of most tests: 25 frames a second, 48 kHz.
pub(crate) const PLAIN: Recipe = Recipe {
    seconds: 100,
    fps: Some((25, 1)),
    group: 0,
    b_frames: 0,
    open_groups: false,
    size: (640, 360),
    sample_aspect: (1, 1),
    audio_hz: Some(48_000),
};

impl Recipe {
    fn name(&self) -> String {
        let fps = self.fps.map_or("none".to_owned(), |(num, den)| format!("{num}-{den}"));
        let audio = self.audio_hz.map_or("none".to_owned(), |hz| hz.to_string());
        // Default values are not part of the name.
        let mut shape = String::new();
        if self.size != PLAIN.size {
            shape += &format!("-{}x{}", self.size.0, self.size.1);
        }
        if self.sample_aspect != PLAIN.sample_aspect {
            shape += &format!("-sar{}-{}", self.sample_aspect.0, self.sample_aspect.1);
        }
        if self.open_groups {
            shape += "-open";
        }
        format!(
            "e{EDITION}-{}s-v{fps}-g{}-b{}-a{audio}{shape}",
            self.seconds, self.group, self.b_frames
        )
    }

    /// As FLV: an encoder's messages, with millisecond timestamps that start at zero.
    pub(crate) fn flv(&self) -> PathBuf {
        made(&self.name(), "flv", |path| self.encode(path, None))
    }

    /// The same, with an H.264 level above the one for its size.
    pub(crate) fn flv_of_level(&self, level: &str) -> PathBuf {
        made(&format!("{}-level{level}", self.name()), "flv", |path| {
            self.encode(path, Some(level));
        })
    }

    /// The same access units in a progressive MP4.
    pub(crate) fn mp4(&self) -> PathBuf {
        let flv = self.flv();
        made(&self.name(), "mp4", |path| {
            let mut ffmpeg = ffmpeg();
            ffmpeg
                .arg("-i")
                .arg(&flv)
                .args(["-c", "copy", "-movflags", "+faststart", "-f", "mp4"])
                .arg(path);
            let status = ffmpeg.status().expect("ffmpeg");
            assert!(status.success(), "ffmpeg: {status}");
        })
    }

    fn encode(&self, path: &Path, level: Option<&str>) {
        let mut ffmpeg = ffmpeg();
        if let Some((num, den)) = self.fps {
            let size = format!("{}x{}", self.size.0, self.size.1);
            ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "gray", "-s", &size]);
            ffmpeg.args(["-r", &format!("{num}/{den}"), "-i", "pipe:0"]);
        }
        if let Some(hz) = self.audio_hz {
            let tone = format!("sine=frequency=440:sample_rate={hz}:duration={}", self.seconds);
            ffmpeg.args(["-f", "lavfi", "-i", &tone, "-c:a", "aac", "-b:a", "96k", "-ac", "2"]);
        }
        if let Some((num, den)) = self.fps {
            let group = if self.group > 0 { self.group } else { (2 * num).div_ceil(den) };
            ffmpeg.args([
                "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-b:v", "800k",
            ]);
            ffmpeg.args(["-maxrate", "1000k", "-bufsize", "1000k", "-sc_threshold", "0"]);
            ffmpeg.args(["-bf", &self.b_frames.to_string()]);
            ffmpeg.args(["-g", &group.to_string(), "-keyint_min", &group.to_string()]);
            if self.open_groups {
                ffmpeg.args(["-x264-params", "open-gop=1"]);
            }
            if self.size != PLAIN.size {
                // The same level as all others, so that the codec strings are equal.
                ffmpeg.args(["-level", level.unwrap_or("3")]);
            }
            let (w, h) = self.sample_aspect;
            if w != h {
                ffmpeg.args(["-vf", &format!("setsar={w}/{h}")]);
            }
        }
        let mut child =
            ffmpeg.args(["-f", "flv"]).arg(path).stdin(Stdio::piped()).spawn().expect("ffmpeg");
        let mut pictures = BufWriter::new(child.stdin.take().expect("stdin is piped"));
        if let Some((num, den)) = self.fps {
            for number in 0..(self.seconds * num).div_ceil(den) {
                pictures.write_all(&picture(number, self.size)).expect("ffmpeg takes pictures");
            }
        }
        drop(pictures);
        let status = child.wait().expect("ffmpeg");
        assert!(status.success(), "ffmpeg: {status}");
    }
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]);
    command
}

/// The file of this name in target/test-media, made if it does not exist. It is written under a
/// different name first, so that an interrupted run leaves no incomplete file.
pub(crate) fn made(name: &str, extension: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-media");
    let path = directory.join(name).with_extension(extension);
    let _one_at_a_time = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !path.exists() {
        fs::create_dir_all(&directory).expect("a directory under target/");
        let unfinished = path.with_extension(format!("{}.{extension}", std::process::id()));
        make(&unfinished);
        fs::rename(&unfinished, &path).expect("the same directory");
    }
    path
}

/// One grey picture of this width and height: the strip with `number`, below it a texture that
/// scrolls and a bar that moves.
#[expect(clippy::cast_possible_truncation, reason = "a texture: any byte will do")]
fn picture(number: u32, (width, height): (usize, usize)) -> Vec<u8> {
    let mut pixels = vec![0; width * height];
    let shift = number as usize;
    for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
        if y < height / 16 {
            for (x, pixel) in row.iter_mut().enumerate() {
                let bit = 31 - x * 32 / width;
                *pixel = if number >> bit & 1 == 1 { 235 } else { 16 };
            }
            continue;
        }
        for (x, pixel) in row.iter_mut().enumerate() {
            let (u, v) = ((x + 2 * shift) / 8, (y + shift) / 8);
            *pixel = 48 + (((u * 37) ^ (v * 101)) as u8 & 0x5f);
        }
        let bar = shift * 6 % width;
        row[bar..(bar + 24).min(width)].fill(230);
    }
    pixels
}

/// The number that [`picture`] drew, from the strip scaled to 32 grey pixels; `None` where one is
/// neither black nor white.
pub(crate) fn number_of(strip: &[u8]) -> Option<u32> {
    strip.iter().try_fold(0, |number, &luma| match luma {
        0..80 => Some(number << 1),
        176.. => Some(number << 1 | 1),
        _ => None,
    })
}
