//! Real clients that publish: ffmpeg, GStreamer and librtmp. All send pre-encoded media in real
//! time.

use super::{
    media::{self, Recipe},
    process::Process,
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// ffmpeg sends the recipe's access units as they are.
pub(crate) fn ffmpeg(recipe: &Recipe, url: &str) -> Process {
    ffmpeg_file(&recipe.flv(), &[], url)
}

/// ffmpeg sends the first `seconds` of the recipe.
pub(crate) fn ffmpeg_for(recipe: &Recipe, seconds: u32, url: &str) -> Process {
    ffmpeg_file(&recipe.flv(), &["-t", &seconds.to_string()], url)
}

/// ffmpeg sends a file as it is; `options` are those of the output.
pub(crate) fn ffmpeg_file(file: &Path, options: &[&str], url: &str) -> Process {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-re", "-i"]).arg(file);
    command.args(["-c", "copy"]).args(options).args(["-f", "flv", url]);
    Process::run("ffmpeg", command)
}

/// GStreamer's rtmp2sink sends the recipe's access units as they are.
pub(crate) fn gstreamer(recipe: &Recipe, url: &str) -> Process {
    let mut description = vec![
        "filesrc".to_owned(),
        format!("location={}", recipe.mp4().display()),
        "!".to_owned(),
        "qtdemux".to_owned(),
        "name=demux".to_owned(),
    ];
    let mut say = |words: &str| description.extend(words.split(' ').map(str::to_owned));
    say("flvmux name=mux streamable=true ! rtmp2sink sync=true async-connect=false");
    say(&format!("location={url}"));
    if recipe.fps.is_some() {
        say("demux.video_0 ! queue ! h264parse ! mux.video");
    }
    if recipe.audio_hz.is_some() {
        say("demux.audio_0 ! queue ! aacparse ! mux.audio");
    }
    Process::spawn("gst-launch-1.0", ["-q".to_owned()].into_iter().chain(description))
}

/// librtmp sends the recipe's access units as they are, through a small program, because Debian's
/// rtmpdump only receives.
pub(crate) fn librtmp(recipe: &Recipe, url: &str) -> Process {
    let mut command = Command::new(librtmp_program());
    command.arg(recipe.flv()).arg(url);
    Process::run("librtmp", command)
}

/// Compiled once for each text of the program.
fn librtmp_program() -> PathBuf {
    const SOURCE: &str = include_str!("librtmp_publish.c");
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    media::made(&format!("librtmp-publish-{:016x}", hasher.finish()), "bin", |path| {
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-x", "c", "-", "-lrtmp", "-o"]).arg(path).stdin(Stdio::piped());
        let mut cc = cc.spawn().expect("cc; `make test` installs what is needed");
        let mut stdin = cc.stdin.take().expect("stdin is piped");
        stdin.write_all(SOURCE.as_bytes()).expect("cc reads its input");
        drop(stdin);
        let status = cc.wait().expect("cc");
        assert!(status.success(), "cc with librtmp: {status}; `make test` installs what is needed");
    })
}
