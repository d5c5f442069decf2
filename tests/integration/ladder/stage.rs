//! Shared by the tests of the ladder: daemons with one, a few at a time, and the followed
//! renditions of a broadcast.

use crate::support::{
    Workdir,
    daemon::{Daemon, Entry, Settings},
    ffprobe,
    follow::{self, Followed},
    fragment::{self, Chunk},
    http,
    machine::{self, Share},
    playlist::resolve,
    proc, wait_for,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    ops::{Deref, DerefMut},
    path::PathBuf,
    thread,
    time::Duration,
};

/// The renditions of [`RUNGS`] and their source.
pub(crate) const VIDEO: [&str; 3] = ["v0", "v240", "v144"];
/// Two rungs that this machine can encode several times over. All are admitted, and none is
/// stopped.
pub(crate) const RUNGS: &str = "rungs = [{ height = 240, video_kbps = 400 }, \
                                { height = 144, video_kbps = 200 }]\n\
                                preset = \"superfast\"\ncpu_percent = 100\nshedding = false\n";

/// A daemon with a ladder. Only a few run at once, and tests wait for their turn.
#[derive(Debug)]
pub(crate) struct Stage {
    daemon: Daemon,
    _share: Share,
}

impl Stage {
    /// With [`RUNGS`].
    pub(crate) fn start() -> Self {
        Self::with(&Settings { ladder: RUNGS.into(), ..lasting() })
    }

    pub(crate) fn with(settings: &Settings) -> Self {
        Self::on(machine::ENCODER, settings)
    }

    /// For tests that start one worker after the other.
    pub(crate) fn busy(settings: &Settings) -> Self {
        Self::on(machine::CORE, settings)
    }

    fn on(share: u32, settings: &Settings) -> Self {
        let share = Share::take(share);
        Self { daemon: Daemon::start(settings), _share: share }
    }
}

impl Deref for Stage {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl Stage {
    /// The processes that make renditions or pictures.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let is_worker =
            |pid: &u32| proc::command_line(*pid).iter().any(|word| word == "transcode-worker");
        proc::children(self.process.id()).into_iter().filter(is_worker).collect()
    }

    /// The only worker, once there is one that is not in `gone`.
    #[track_caller]
    pub(crate) fn worker(&self, gone: &[u32]) -> u32 {
        wait_for("worker", Duration::from_secs(20), || {
            self.workers().into_iter().find(|pid| !gone.contains(pid))
        })
    }

    /// The state of a channel's rendition in `/api/v1/streams`.
    #[track_caller]
    pub(crate) fn state(&self, channel: &str, rendition: &str) -> String {
        let streams = self.streams();
        let streams = streams.get("streams").expect("a list");
        let of_channel =
            |stream: &&Value| stream.get("channel").and_then(Value::as_str) == Some(channel);
        let stream = streams.as_array().and_then(|streams| streams.iter().find(of_channel));
        let renditions =
            stream.and_then(|stream| stream.get("renditions")).and_then(Value::as_array);
        let of_track =
            |entry: &&Value| entry.get("track").and_then(Value::as_str) == Some(rendition);
        let entry = renditions.and_then(|renditions| renditions.iter().find(of_track));
        let state = entry.and_then(|entry| entry.get("state")).and_then(Value::as_str);
        state.unwrap_or_else(|| panic!("no {rendition} in {streams}")).to_owned()
    }

    /// The value of a metric, by its name with its labels; 0 if it is missing.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = http::get(self.admin, "/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Lines of the log with this message about this rendition.
    pub(crate) fn count_log_lines_of(&self, rendition: &str, message: &str) -> usize {
        let entries = self.process.lines();
        let entries = entries.iter().filter_map(|line| Entry::parse(line));
        entries
            .filter(|entry| {
                entry.message() == message && entry.field("rendition") == Some(rendition)
            })
            .count()
    }
}

/// Settings that hold all published media to be read afterwards, and end the broadcast soon after
/// its publisher has left.
pub(crate) fn lasting() -> Settings {
    Settings { window_s: 120, reconnect_s: 3, ..Settings::default() }
}

/// One rendition from its first segment to the end of the broadcast, or to the end of following.
#[derive(Debug)]
pub(crate) struct Rendition {
    pub(crate) name: String,
    pub(crate) followed: Followed,
    /// Complete segments by number.
    pub(crate) segments: BTreeMap<u64, Cut>,
}

/// A segment, from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Its earliest presentation time and its duration in ticks; `None` for a gap, which has no
    /// bytes.
    pub(crate) span: Option<(i64, u64)>,
    pub(crate) discontinuity: bool,
    /// Presentation times of its frames, in order of presentation.
    pub(crate) times: Vec<i64>,
    /// Whether it starts with an IDR picture; audio does not.
    pub(crate) starts_with_idr: bool,
}

impl Rendition {
    fn of(name: &str, followed: Followed) -> Self {
        let segments = followed
            .segments
            .iter()
            .map(|(segment, bytes)| {
                let chunks = if segment.gap { Vec::new() } else { fragment::chunks(bytes) };
                let video = &followed.header.handler == b"vide";
                (segment.msn, Cut::of(segment.discontinuity, &chunks, video))
            })
            .collect();
        Self { name: name.to_owned(), followed, segments }
    }

    /// Presentation times of all its frames.
    pub(crate) fn times(&self) -> Vec<i64> {
        self.segments.values().flat_map(|cut| &cut.times).copied().collect()
    }

    /// Presentation times of the frames of all listed parts, including those of segments that are
    /// gaps as a whole.
    pub(crate) fn times_in_parts(&self) -> Vec<i64> {
        let parts = self.followed.parts.iter().filter(|part| !part.part.gap);
        let mut times: Vec<i64> = parts
            .flat_map(|part| Cut::of(false, &fragment::chunks(&part.bytes), false).times)
            .collect();
        times.sort_unstable();
        times
    }

    /// Numbers of its gaps.
    pub(crate) fn gaps(&self) -> Vec<u64> {
        let gaps = self.segments.iter().filter(|(_, cut)| cut.span.is_none());
        gaps.map(|(msn, _)| *msn).collect()
    }

    /// Width and height of the displayed pictures of each segment, from a decoder, in the order of
    /// the segments.
    #[track_caller]
    pub(crate) fn shown_sizes(&self, daemon: &Daemon, channel: &str) -> Vec<(u64, u64)> {
        let base = format!("/live/{channel}/{}.m3u8", self.name);
        let mut known: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let media = self.followed.segments.iter().filter(|(segment, _)| !segment.gap);
        media
            .map(|(segment, bytes)| {
                let map = segment.map.clone().expect("a map");
                let size = || {
                    let init = daemon.get(&resolve(&base, &map)).body;
                    shown_size(&File::of([&init, bytes]))
                };
                *known.entry(map.clone()).or_insert_with(size)
            })
            .collect()
    }

    /// Its first header and all segments.
    pub(crate) fn file(&self) -> File {
        let segments = self.followed.segments.iter().map(|(_, bytes)| bytes);
        File::of([&self.followed.init].into_iter().chain(segments))
    }

    /// The numbers in its pictures in display order, of the segments with this header.
    #[track_caller]
    pub(crate) fn numbers(&self) -> Vec<u32> {
        ffprobe::numbers(self.file().path(), None)
    }
}

/// A file for other programs to read.
#[derive(Debug)]
pub(crate) struct File(Workdir);

impl File {
    pub(crate) fn of<'a>(pieces: impl IntoIterator<Item = &'a Vec<u8>>) -> Self {
        let file = Self(Workdir::new("media"));
        let bytes: Vec<u8> = pieces.into_iter().flatten().copied().collect();
        fs::write(file.path(), bytes).expect("a file under target/");
        file
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("media.mp4")
    }
}

/// Width and height of a file's pictures in square samples.
#[track_caller]
fn shown_size(file: &File) -> (u64, u64) {
    let stream = &ffprobe::streams(file.path())[0];
    let side = |name: &str| stream.get(name).and_then(Value::as_u64).expect("a side");
    let aspect = stream.get("sample_aspect_ratio").and_then(Value::as_str).unwrap_or("1:1");
    let (w, h) = aspect.split_once(':').expect("a ratio");
    let [w, h] = [w, h].map(|number| number.parse::<u64>().expect("a number"));
    (side("width") * w / h, side("height"))
}

impl Cut {
    fn of(discontinuity: bool, chunks: &[Chunk], video: bool) -> Self {
        let mut times = Vec::new();
        let mut idr = None;
        let mut duration = 0;
        for chunk in chunks {
            let mut dts = i64::try_from(chunk.decode_time).expect("less than 2^63 ticks");
            for sample in &chunk.samples {
                idr.get_or_insert_with(|| video && is_idr(&sample.payload));
                times.push(dts + i64::from(sample.composition_offset));
                dts += i64::from(sample.duration);
                duration += u64::from(sample.duration);
            }
        }
        times.sort_unstable();
        Self {
            span: times.first().map(|first| (*first, duration)),
            discontinuity,
            times,
            starts_with_idr: idr == Some(true),
        }
    }
}

/// Whether the first slice of an access unit is of an IDR picture (ISO/IEC 14496-10 table 7-1), in
/// units of four length bytes.
fn is_idr(unit: &[u8]) -> bool {
    let mut rest = unit;
    while rest.len() > 4 {
        let (length, after) = rest.split_at(4);
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        match after[0] & 0x1f {
            1..=4 => return false,
            5 => return true,
            _ => rest = &after[length..],
        }
    }
    false
}

/// Follows renditions of `channel` to the end of the broadcast.
#[track_caller]
pub(crate) fn follow_to_the_end(
    daemon: &Daemon,
    channel: &str,
    names: &[&str],
    limit: Duration,
) -> Vec<Rendition> {
    daemon.wait_until_live(channel);
    thread::scope(|scope| {
        let followers: Vec<_> = names
            .iter()
            .map(|name| {
                let path = format!("/live/{channel}/{name}.m3u8");
                let follower =
                    scope.spawn(move || follow::follow_any(daemon.http, &path, limit, |_| false));
                (*name, follower)
            })
            .collect();
        followers
            .into_iter()
            .map(|(name, follower)| {
                let followed = follower
                    .join()
                    .unwrap_or_else(|_| panic!("{name} of {channel} cannot be followed"));
                Rendition::of(name, followed)
            })
            .collect()
    })
}

/// Asserts that segments of one number have equal starts and durations in all renditions, and that
/// all have the same numbers.
#[track_caller]
pub(crate) fn assert_in_step(renditions: &[Rendition]) {
    let source = &renditions[0];
    for rung in &renditions[1..] {
        assert_eq!(
            rung.followed.header.timescale, source.followed.header.timescale,
            "one clock for all"
        );
        let numbers =
            |rendition: &Rendition| rendition.segments.keys().copied().collect::<Vec<_>>();
        assert_eq!(numbers(rung), numbers(source), "{}", rung.name);
        for (msn, of_source) in &source.segments {
            let of_rung = &rung.segments[msn];
            assert_eq!(
                of_rung.discontinuity, of_source.discontinuity,
                "{}: discontinuity before segment {msn}",
                rung.name
            );
            let listed = |rendition: &Rendition| {
                let segments = &rendition.followed.segments;
                let segment = segments.iter().find(|(segment, _)| segment.msn == *msn);
                segment.map(|(segment, _)| (segment.duration, segment.date_time.clone()))
            };
            assert_eq!(listed(rung), listed(source), "{}: segment {msn} as listed", rung.name);
            if let (Some(have), Some(want)) = (of_rung.span, of_source.span) {
                assert_eq!(have, want, "{}: start and duration of segment {msn}", rung.name);
            }
        }
    }
}

/// Asserts that a rendition has exactly the source's gaps, and the source's frames, each or every
/// second one.
#[track_caller]
pub(crate) fn assert_frames(rung: &Rendition, source: &Rendition, every: usize) {
    assert_eq!(rung.gaps(), source.gaps(), "{} misses what the source misses", rung.name);
    assert_frames_of_whole(rung, source, every);
}

/// Asserts that each segment of a rendition, except gaps, starts with an IDR picture and has the
/// source's frames at their times, each or every second one.
#[track_caller]
pub(crate) fn assert_frames_of_whole(rung: &Rendition, source: &Rendition, every: usize) {
    for (msn, have) in rung.segments.iter().filter(|(_, cut)| cut.span.is_some()) {
        let cut = &source.segments[msn];
        assert!(have.starts_with_idr, "{}: segment {msn} starts with an IDR", rung.name);
        let want: Vec<i64> = cut.times.iter().copied().step_by(every).collect();
        assert_eq!(have.times, want, "{}: frames of segment {msn}", rung.name);
    }
}
