//! AAC input for a worker, and the decoding of its AAC output.

use std::{fs, process::Command};

use bytes::Bytes;

use super::source::{made, synthesise};

/// Samples of one unit.
pub(crate) const UNIT: usize = 1_024;

/// Encoded sound.
#[derive(Debug, Clone)]
pub(crate) struct Sound {
    /// `AudioSpecificConfig`.
    pub(crate) record: Vec<u8>,
    pub(crate) units: Vec<Bytes>,
}

/// A tone that rises for two seconds, stereo, at `hz` samples a second.
pub(crate) fn rising_tone(hz: u32) -> Sound {
    let path = made(&format!("worker-tone-{hz}"), "flv", |path| {
        let tone = format!(
            "aevalsrc='sin(600*t*t+300*t)*(0.4+0.2*sin(9*t))|sin(500*t*t+200*t)*0.5':s={hz}:d=2"
        );
        let mut ffmpeg = synthesise(&tone);
        let status = ffmpeg
            .args(["-c:a", "aac", "-b:a", "160k", "-f", "flv"])
            .arg(path)
            .status()
            .expect("ffmpeg");
        assert!(status.success(), "ffmpeg: {status}");
    });
    let flv = fs::read(path).expect("a file");
    let (mut record, mut units) = (Vec::new(), Vec::new());
    let mut rest = &flv[13..];
    while rest.len() >= 15 {
        let len = rest[1..4].iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
        let (kind, tag) = (rest[0], &rest[11..11 + len]);
        rest = &rest[11 + len + 4..];
        match (kind, tag) {
            (8, [_, 0, config @ ..]) => record = config.to_vec(),
            (8, [_, 1, payload @ ..]) => units.push(Bytes::copy_from_slice(payload)),
            _ => {}
        }
    }
    Sound { record, units }
}

/// The left channel, decoded by ffmpeg: each unit yields [`UNIT`] samples.
pub(crate) fn decoded(record: &[u8], units: &[Bytes], name: &str) -> Vec<f32> {
    // Object type, rate and channels in ADTS form (ISO/IEC 14496-3 1.A.2.2.1).
    let (object, rate) = (record[0] >> 3, (record[0] & 7) << 1 | record[1] >> 7);
    let channels = record[1] >> 3 & 15;
    let mut stream = Vec::new();
    for unit in units {
        let len = unit.len() + 7;
        stream.extend([0xff, 0xf1, (object - 1) << 6 | rate << 2 | channels >> 2]);
        stream.extend([
            (channels & 3) << 6 | (len >> 11) as u8,
            (len >> 3) as u8,
            (len << 5) as u8 | 0x1f,
            0xfc,
        ]);
        stream.extend_from_slice(unit);
    }
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{name}-{}.aac", std::process::id()));
    fs::write(&path, stream).expect("a file");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-i"]).arg(&path);
    let output = ffmpeg.args(["-f", "f32le", "-"]).output().expect("ffmpeg");
    fs::remove_file(&path).expect("the file");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let channels = usize::from(channels);
    let samples = output.stdout.chunks_exact(4 * channels);
    samples.map(|sample| f32::from_le_bytes([sample[0], sample[1], sample[2], sample[3]])).collect()
}

/// The shift of `one` that makes it most similar to `other`, and that similarity: 1 is equal.
pub(crate) fn shift(one: &[f32], other: &[f32]) -> (i32, f32) {
    let most = 2 * UNIT;
    let middle = &one[most..one.len().min(other.len()) - most];
    let like = |shift: i32| {
        let other = &other[(most as i32 + shift) as usize..][..middle.len()];
        let product =
            |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        product(middle, other) / (product(middle, middle) * product(other, other)).sqrt()
    };
    let shifts = -(most as i32)..=most as i32;
    shifts
        .map(|shift| (shift, like(shift)))
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .expect("some")
}
