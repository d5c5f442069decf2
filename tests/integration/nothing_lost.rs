//! Everything that is published can be read: each access unit once, in order, at its time, by every
//! protocol and format.

use crate::support::{
    Workdir,
    daemon::{Daemon, Settings},
    dash,
    ffprobe::{self, Kind, Packet},
    follow::{self, Followed},
    fragment::{self, Chunk},
    http,
    media::{PLAIN, Recipe},
    publisher,
};
use std::{fs, sync::LazyLock, thread, time::Duration};

/// One broadcast, read in every way while it was live and afterwards.
struct Push {
    sent: Vec<Packet>,
    video: Track,
    audio: Track,
}

/// One track, read by a low-latency HLS client and by the two manifests.
struct Track {
    kind: Kind,
    hls: Followed,
    /// Whole segments as listed by `plain.mpd` and by `manifest.mpd`.
    timeline: Vec<Vec<u8>>,
    numbered: Vec<Vec<u8>>,
}

impl Push {
    fn of(recipe: Recipe, seconds: u32) -> Self {
        // The window holds the whole broadcast, so that it can be read completely afterwards.
        let settings = Settings { window_s: 120, reconnect_s: 3, ..Settings::default() };
        let daemon = Daemon::start(&settings);
        let workdir = Workdir::new("push");
        let source = recipe.flv();
        let file = workdir.path().join("sent.flv");
        let mut cut = std::process::Command::new("ffmpeg");
        cut.args(["-v", "error", "-nostdin", "-i"]).arg(&source).args([
            "-t",
            &seconds.to_string(),
            "-c",
            "copy",
        ]);
        assert!(cut.arg(&file).status().expect("ffmpeg").success());
        let sent = ffprobe::packets(&file);

        let mut publisher = publisher::ffmpeg_file(&file, &[], &daemon.rtmp_url("all"));
        daemon.wait_until_live("all");
        let limit = Duration::from_secs(u64::from(seconds) + 60);
        let (video, audio) = thread::scope(|scope| {
            let follow = |track: &str| {
                follow::follow(daemon.http, &format!("/live/all/{track}.m3u8"), limit, |_| false)
            };
            let video = scope.spawn(move || follow("v0"));
            let audio = scope.spawn(move || follow("a0"));
            (video.join().expect("v0 can be followed"), audio.join().expect("a0 can be followed"))
        });
        let status = publisher.wait(Duration::from_secs(10));
        assert!(status.success(), "{status}: {}", publisher.stderr());

        let track = |hls: Followed, kind: Kind| {
            let wanted = if kind == Kind::Video { "video" } else { "audio" };
            let segments = |representations: Vec<dash::Representation>| {
                let ours = representations
                    .into_iter()
                    .filter(|representation| representation.content_type == wanted);
                let fetched =
                    ours.flat_map(|representation| representation.segments).map(|segment| {
                        let response = daemon.get(&segment.path);
                        assert_eq!(response.status, 200, "{}: {}", segment.path, response.text());
                        response.body
                    });
                fetched.collect()
            };
            let manifest = |name: &str| {
                let path = format!("/live/all/{name}");
                let text = daemon.get(&path).text();
                (path, text)
            };
            let (path, text) = manifest("plain.mpd");
            let timeline = segments(dash::timeline(&path, &text));
            let (path, text) = manifest("manifest.mpd");
            let exists = |path: &str| http::request(daemon.http, "HEAD", path, &[]).status == 200;
            let numbered = segments(dash::numbered(&path, &text, 1000, exists));
            Track { kind, hls, timeline, numbered }
        };
        let (video, audio) = (track(video, Kind::Video), track(audio, Kind::Audio));
        Self { sent, video, audio }
    }

    fn tracks(&self) -> [&Track; 2] {
        [&self.video, &self.audio]
    }

    /// The access units of one kind, from the first picture on: a broadcast with video starts with
    /// one.
    fn sent(&self, kind: Kind) -> Vec<&Packet> {
        let first =
            self.sent.iter().find(|packet| packet.kind == Kind::Video).expect("a picture").pts;
        self.sent.iter().filter(|packet| packet.kind == kind && packet.pts >= first).collect()
    }

    /// The access units of a track in a file made of its header and `pieces`, as parsed by ffprobe.
    fn received<'a>(
        &self,
        track: &Track,
        way: &str,
        pieces: impl IntoIterator<Item = &'a Vec<u8>>,
    ) -> Vec<Packet> {
        let directory = Workdir::new("received");
        let path = directory.path().join(format!("{:?}-{way}.mp4", track.kind));
        fs::write(&path, track.file(pieces)).expect("a file under target/");
        ffprobe::packets(&path)
    }

    /// Asserts that `received` equals the published units: every payload once and in order, every
    /// unit at its time.
    #[track_caller]
    fn assert_all_of(&self, track: &Track, way: &str, received: &[Packet]) {
        let sent = self.sent(track.kind);
        // Where video lasts longer than audio, silent units fill the rest: all equal, and none was
        // published.
        let (received, silence) = received.split_at(received.len().min(sent.len()));
        let alike = silence.iter().all(|unit| {
            unit.hash == silence[0].hash && sent.iter().all(|sent| sent.hash != unit.hash)
        });
        assert!(
            silence.len() <= 3 && alike && (silence.is_empty() || track.kind == Kind::Audio),
            "{way}: {silence:?}"
        );
        let hashes = |packets: &mut dyn Iterator<Item = &Packet>| {
            packets.map(|p| p.hash.clone()).collect::<Vec<_>>()
        };
        let (want, have) = (hashes(&mut sent.iter().copied()), hashes(&mut received.iter()));
        let first = want.iter().zip(&have).position(|(want, have)| want != have);
        assert!(
            want == have,
            "{:?} by {way}: {} access units of {}, the first that differs is {first:?}",
            track.kind,
            have.len(),
            want.len()
        );
        // Timestamps are whole milliseconds and are mapped to the track's own clock: audio as sums
        // of durations, within 1024 ticks.
        let tolerance = if track.kind == Kind::Video { 0.0015 } else { 0.022 };
        let shift = received[0].pts - sent[0].pts;
        for (sent, received) in sent.iter().zip(received) {
            let moved = received.pts - sent.pts - shift;
            assert!(
                moved.abs() <= tolerance,
                "{:?} by {way}: {moved} s off at {}",
                track.kind,
                sent.pts
            );
            assert_eq!(received.key, sent.key, "{:?} by {way} at {}", track.kind, sent.pts);
        }
    }
}

impl Track {
    /// Its header and `pieces`: a file.
    fn file<'a>(&self, pieces: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
        pieces.into_iter().fold(self.hls.init.clone(), |mut file, piece| {
            file.extend(piece);
            file
        })
    }

    /// All parts except gaps, as chunks.
    fn chunks(&self) -> Vec<Chunk> {
        let bytes = self.hls.parts.iter().filter(|part| !part.part.gap).map(|part| &part.bytes);
        bytes.flat_map(|bytes| fragment::chunks(bytes)).collect()
    }

    fn seconds(&self, ticks: i64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "minutes of ticks")]
        let ticks = ticks as f64;
        ticks / f64::from(self.hls.header.timescale)
    }
}

/// 60 s at 25 frames a second, read once for all the tests below.
static MINUTE: LazyLock<Push> = LazyLock::new(|| Push::of(PLAIN, 60));

#[test]
fn each_access_unit_is_in_the_hls_segments_once_and_in_order() {
    for track in MINUTE.tracks() {
        let pieces = track.hls.segments.iter().map(|(_, bytes)| bytes);
        MINUTE.assert_all_of(track, "segments", &MINUTE.received(track, "segments", pieces));
    }
}

#[test]
fn each_access_unit_is_in_the_hls_parts_once_and_in_order() {
    for track in MINUTE.tracks() {
        let pieces = track.hls.parts.iter().map(|part| &part.bytes);
        MINUTE.assert_all_of(track, "parts", &MINUTE.received(track, "parts", pieces));
    }
}

#[test]
fn each_access_unit_is_in_the_dash_timeline_once_and_in_order() {
    for track in MINUTE.tracks() {
        MINUTE.assert_all_of(
            track,
            "timeline",
            &MINUTE.received(track, "timeline", &track.timeline),
        );
    }
}

#[test]
fn each_access_unit_is_in_the_numbered_dash_segments_once_and_in_order() {
    for track in MINUTE.tracks() {
        MINUTE.assert_all_of(
            track,
            "numbered",
            &MINUTE.received(track, "numbered", &track.numbered),
        );
    }
}

#[test]
fn each_picture_is_decoded_once_and_in_order() {
    let pieces = MINUTE.video.hls.segments.iter().map(|(_, bytes)| bytes);
    let directory = Workdir::new("decoded");
    let path = directory.path().join("video.mp4");
    fs::write(&path, MINUTE.video.file(pieces)).expect("a file under target/");
    let numbers = ffprobe::numbers(&path, None);
    let sent = u32::try_from(MINUTE.sent(Kind::Video).len()).expect("a minute of pictures");
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

#[test]
fn decode_times_are_contiguous() {
    for track in MINUTE.tracks() {
        for pair in track.chunks().windows(2) {
            assert_eq!(
                pair[0].end(),
                pair[1].decode_time,
                "{:?}, after fragment {}",
                track.kind,
                pair[0].sequence
            );
            assert!(pair[0].sequence < pair[1].sequence, "mfhd sequence numbers rise");
        }
    }
}

#[test]
fn parts_and_their_segment_hold_the_same_samples() {
    for track in MINUTE.tracks() {
        for (segment, bytes) in track.hls.segments.iter().filter(|(segment, _)| !segment.gap) {
            let parts = track.hls.parts.iter().filter(|part| part.msn == segment.msn);
            let of_parts: Vec<_> = parts
                .flat_map(|part| fragment::chunks(&part.bytes))
                .flat_map(|chunk| chunk.samples)
                .collect();
            // The oldest segments' parts were removed from the playlist before it was first read.
            if !of_parts.is_empty() {
                let whole: Vec<_> =
                    fragment::chunks(bytes).into_iter().flat_map(|chunk| chunk.samples).collect();
                assert!(of_parts == whole, "{:?} segment {}", track.kind, segment.msn);
            }
        }
    }
}

#[test]
fn the_start_offset_between_audio_and_video_is_preserved() {
    let start =
        |kind| MINUTE.sent(kind).iter().map(|packet| packet.pts).fold(f64::INFINITY, f64::min);
    let sent = start(Kind::Video) - start(Kind::Audio);
    let first = |track: &Track| track.seconds(track.chunks()[0].earliest());
    let received = first(&MINUTE.video) - first(&MINUTE.audio);
    assert!((received - sent).abs() <= 0.025, "sent {sent} s apart, received {received} s apart");
}

#[test]
fn b_frames_at_29_97_hz_with_44_1_khz_audio_lose_no_access_unit() {
    let push = Push::of(
        Recipe {
            fps: Some((30_000, 1001)),
            b_frames: 2,
            audio_hz: Some(44_100),
            seconds: 20,
            ..PLAIN
        },
        20,
    );
    for track in push.tracks() {
        let pieces = track.hls.parts.iter().map(|part| &part.bytes);
        push.assert_all_of(track, "parts", &push.received(track, "parts", pieces));
    }
    // The first presentation time is the first decode time where a segment starts with an IDR: no
    // edit list is needed.
    let segments = push.video.hls.segments.iter().filter(|(segment, _)| !segment.gap);
    for (segment, bytes) in segments {
        let first = &fragment::chunks(bytes)[0];
        assert_eq!(
            i64::try_from(first.decode_time),
            Ok(first.earliest()),
            "segment {}",
            segment.msn
        );
    }
    assert!(!push.video.hls.header.has_edit_list && !push.audio.hls.header.has_edit_list);
}

#[test]
fn at_60_frames_a_second_no_access_unit_is_lost() {
    let push = Push::of(Recipe { fps: Some((60, 1)), seconds: 20, ..PLAIN }, 20);
    for track in push.tracks() {
        let pieces = track.hls.parts.iter().map(|part| &part.bytes);
        push.assert_all_of(track, "parts", &push.received(track, "parts", pieces));
    }
}
