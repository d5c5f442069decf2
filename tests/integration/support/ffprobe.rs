//! ffprobe and ffmpeg as readers: the result of a second implementation for our bytes.

use super::media;
use serde_json::Value;
use std::{ffi::OsStr, path::Path, process::Command};

/// One access unit as ffprobe's demuxer reports it; times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) dts: f64,
    pub(crate) pts: f64,
    pub(crate) key: bool,
    pub(crate) size: u64,
    /// Of the payload.
    pub(crate) hash: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
}

/// All access units of a file, in its order.
///
/// # Panics
/// If ffprobe reports an error.
#[track_caller]
pub(crate) fn packets(file: &Path) -> Vec<Packet> {
    let entries = "packet=codec_type,dts_time,pts_time,flags,size,data_hash";
    let options =
        ["-show_packets", "-show_data_hash", "md5", "-show_entries", entries, "-of", "json"];
    let report = ffprobe(options, file.as_os_str());
    let packets = report.get("packets").and_then(Value::as_array).expect("packets");
    packets.iter().map(packet).collect()
}

fn packet(value: &Value) -> Packet {
    let text = |name: &str| {
        value.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {value}"))
    };
    let number = |name: &str| text(name).parse().expect("a number");
    let kind = match text("codec_type") {
        "video" => Kind::Video,
        "audio" => Kind::Audio,
        other => panic!("a packet of {other}"),
    };
    Packet {
        kind,
        dts: number("dts_time"),
        pts: number("pts_time"),
        key: text("flags").starts_with('K'),
        size: text("size").parse().expect("a number"),
        hash: text("data_hash").to_owned(),
    }
}

/// The streams of an address or a file: one object each, as printed by ffprobe.
///
/// # Panics
/// If ffprobe's error log is not empty.
#[track_caller]
pub(crate) fn streams(input: impl AsRef<OsStr>) -> Vec<Value> {
    let report = ffprobe(["-show_streams", "-of", "json"], input.as_ref());
    report.get("streams").and_then(Value::as_array).expect("streams").clone()
}

#[track_caller]
fn ffprobe<'a>(options: impl IntoIterator<Item = &'a str>, input: &OsStr) -> Value {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60", "ffprobe", "-hide_banner", "-v", "error"]);
    let output = command.args(options).arg(input).output().expect("ffprobe");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "ffprobe {input:?}: {}: {complaints}",
        output.status
    );
    serde_json::from_slice(&output.stdout).expect("JSON from ffprobe")
}

/// Asserts that ffmpeg decodes an address or a file completely without an error.
#[track_caller]
pub(crate) fn assert_decodes(input: impl AsRef<OsStr>) {
    decode(input.as_ref(), &["-f", "null", "-"]);
}

/// Decodes an address or a file with ffmpeg, up to `pictures` of it, and returns the numbers in the
/// pictures in display order.
///
/// # Panics
/// If ffmpeg's error log is not empty, or a picture's number cannot be read.
#[track_caller]
pub(crate) fn numbers(input: impl AsRef<OsStr>, pictures: Option<u32>) -> Vec<u32> {
    let limit = pictures.map(|pictures| pictures.to_string());
    let mut outputs = vec![
        "-map",
        "0:v:0",
        "-fps_mode",
        "passthrough",
        "-vf",
        "crop=iw:trunc(ih/16):0:0,scale=32:1:flags=area",
        "-pix_fmt",
        "gray",
    ];
    if let Some(limit) = &limit {
        outputs.extend(["-frames:v", limit]);
    }
    outputs.extend(["-f", "rawvideo", "pipe:1", "-map", "0:a?"]);
    if let Some(limit) = &limit {
        outputs.extend(["-frames:a", limit]);
    }
    outputs.extend(["-f", "null", "-"]);
    let strips = decode(input.as_ref(), &outputs);
    let read =
        |strip: &[u8]| media::number_of(strip).unwrap_or_else(|| panic!("no number in {strip:?}"));
    strips.chunks_exact(32).map(read).collect()
}

/// ffmpeg's standard output for `input`.
#[track_caller]
fn decode(input: &OsStr, outputs: &[&str]) -> Vec<u8> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", "ffmpeg", "-hide_banner", "-nostdin"]);
    command.args(["-v", "error", "-xerror", "-i"]).arg(input).args(outputs);
    let output = command.output().expect("ffmpeg");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "ffmpeg {input:?}: {}: {complaints}",
        output.status
    );
    output.stdout
}
