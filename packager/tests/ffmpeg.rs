//! Headers and chunks of real access units, read by ffprobe and decoded by ffmpeg, against the
//! source they were taken from.
//!
//! The source is FLV, which is what RTMP carries: configuration records and access units as MP4
//! stores them.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
    time::SystemTime,
};

use bytes::{Buf, Bytes};
use media_core::codec::{Config, aac, avc};
use packager::{Reference, Sample, fragment, silent_frame};

/// Runs `program` with `input`, and returns its output. It must succeed and write no errors.
fn run(program: &str, arguments: &str, input: &Bytes) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(["-v", "error"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("{program}: {err}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.clone();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program} {arguments}");
    output.stdout
}

/// The payload of one FLV tag and its time in milliseconds.
struct Tag {
    kind: u8,
    ms: i64,
    data: Bytes,
}

/// Three seconds of picture and tone, with B-frames and more than one group.
fn source() -> Bytes {
    let flv = run(
        "ffmpeg",
        "-nostdin -f lavfi -i testsrc2=size=320x180:rate=30000/1001:duration=3 \
         -f lavfi -i sine=sample_rate=44100:duration=3 \
         -c:v libx264 -preset veryfast -bf 2 -g 30 -pix_fmt yuv420p -vf setsar=4/3 -c:a aac -ac 2 \
         -flvflags no_duration_filesize -f flv pipe:1",
        &Bytes::new(),
    );
    flv.into()
}

fn tags(mut flv: Bytes) -> Vec<Tag> {
    flv.advance(9 + 4); // header, size of no tag
    let mut tags = Vec::new();
    while !flv.is_empty() {
        let kind = flv.get_u8();
        let len = flv.get_uint(3);
        let ms = flv.get_uint(3) | u64::from(flv.get_u8()) << 24;
        flv.advance(3); // stream id
        let data = flv.split_to(usize::try_from(len).unwrap());
        flv.advance(4); // size of this tag
        tags.push(Tag { kind, ms: i64::try_from(ms).unwrap(), data });
    }
    tags
}

/// A file of the header and of chunks of `per_chunk` samples, the first decoded at `start`.
fn file(config: &Config, start: u64, samples: &[Sample], per_chunk: usize) -> Bytes {
    let mut file = fragment::header(config, config.timescale()).to_vec();
    let mut decode_time = start;
    for (sequence, samples) in (1..).zip(samples.chunks(per_chunk)) {
        let reference = Reference { utc: SystemTime::now(), media_time: decode_time };
        file.extend(
            fragment::chunk(sequence, decode_time, samples, samples[0].key, Some(reference))
                .to_bytes(),
        );
        decode_time += samples.iter().map(|sample| u64::from(sample.duration)).sum::<u64>();
    }
    file.into()
}

/// Presentation time, size and whether it is a key frame, of each packet in the order of the file.
fn packets(file: &Bytes, stream: &str) -> Vec<(i64, usize, bool)> {
    let entries = format!(
        "-select_streams {stream} -show_entries packet=pts,size,flags -of csv=p=0 -i pipe:0"
    );
    let lines = String::from_utf8(run("ffprobe", &entries, file)).unwrap();
    let packet = |line: &str| {
        let mut fields = line.split(',');
        let (pts, size, flags) = (fields.next()?, fields.next()?, fields.next()?);
        Some((pts.parse().ok()?, size.parse().ok()?, flags.starts_with('K')))
    };
    lines.lines().map(|line| packet(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// The hash of each decoded frame.
fn frames(file: &Bytes, stream: &str) -> Vec<String> {
    let decode = format!("-i pipe:0 -map 0:{stream} -vsync passthrough -f framemd5 pipe:1");
    let lines = String::from_utf8(run("ffmpeg", &decode, file)).unwrap();
    let hash = |line: &str| line.rsplit(',').next().map(|hash| hash.trim().to_owned());
    lines.lines().filter(|line| !line.starts_with('#')).filter_map(hash).collect()
}

#[test]
fn packaged_video_with_reordered_frames_keeps_all_times_and_pictures() {
    let source = source();
    let tags: Vec<_> = tags(source.clone()).into_iter().filter(|tag| tag.kind == 9).collect();
    let record = tags.iter().find(|tag| tag.data[1] == 0).unwrap().data.slice(5..);
    let config = Config::Avc(avc::Config::parse(&record).unwrap());

    let units: Vec<_> = tags.iter().filter(|tag| tag.data[1] == 1).collect();
    let pts = |tag: &Tag| (tag.ms + i64::try_from((&tag.data[2..5]).get_uint(3)).unwrap()) * 90;
    let reordering = pts(units[0]) - units[0].ms * 90;
    // As sent, all offsets are positive. As a segment is written, its first frame is shown when it
    // is decoded, and some that follow are shown earlier than decoded.
    for shift in [0, reordering] {
        let decode = |tag: &Tag| tag.ms * 90 + shift;
        let sample = |at: usize| {
            let next = units.get(at + 1).map_or(decode(units[at]) + 3_003, |next| decode(next));
            Sample {
                duration: u32::try_from(next - decode(units[at])).unwrap(),
                composition: i32::try_from(pts(units[at]) - decode(units[at])).unwrap(),
                key: units[at].data[0] >> 4 == 1,
                head: Bytes::new(),
                payload: units[at].data.slice(5..),
            }
        };
        let samples: Vec<_> = (0..units.len()).map(sample).collect();
        let file = file(&config, u64::try_from(decode(units[0])).unwrap(), &samples, 5);

        // To all presentation times ffmpeg adds the value that makes the least offset zero
        // (`dts_shift` in its mov.c).
        let least = samples.iter().map(|sample| i64::from(sample.composition)).min().unwrap();
        assert_eq!(least < 0, shift > 0);
        let sent = packets(&source, "v").into_iter();
        let sent: Vec<_> =
            sent.map(|(ms, size, key)| (ms * 90 - least.min(0), size, key)).collect();
        assert_eq!((sent.len(), sent.iter().filter(|(.., key)| *key).count()), (90, 3));
        assert_eq!(packets(&file, "v"), sent);
        assert_eq!(frames(&file, "v"), frames(&source, "v"));
        let shape = run(
            "ffprobe",
            "-show_entries stream=width,height,sample_aspect_ratio -of csv=p=0 -i pipe:0",
            &file,
        );
        assert_eq!(String::from_utf8(shape).unwrap().trim(), "320,180,4:3");
    }
}

#[test]
fn packaged_audio_is_contiguous_and_decodes_to_the_same_samples() {
    let source = source();
    let tags: Vec<_> = tags(source.clone()).into_iter().filter(|tag| tag.kind == 8).collect();
    let record = tags.iter().find(|tag| tag.data[1] == 0).unwrap().data.slice(2..);
    let config = Config::Aac(aac::Config::parse(&record).unwrap());

    let units = tags.iter().filter(|tag| tag.data[1] == 1);
    let sample = |tag: &Tag| Sample {
        duration: 1_024,
        composition: 0,
        key: true,
        head: Bytes::new(),
        payload: tag.data.slice(2..),
    };
    let samples: Vec<_> = units.map(sample).collect();
    let file = file(&config, 441_000, &samples, 9);

    let sizes = samples.iter().map(|sample| sample.payload.len());
    let expected: Vec<_> = (0..)
        .map(|n| 441_000 + 1_024 * n)
        .zip(sizes)
        .map(|(pts, size)| (pts, size, true))
        .collect();
    assert_eq!(packets(&file, "a"), expected);
    assert_eq!(frames(&file, "a"), frames(&source, "a"));
}

/// Decoded samples of 16 bits, all channels.
fn decoded(file: &Bytes) -> Vec<i16> {
    let bytes = run("ffmpeg", "-i pipe:0 -f s16le pipe:1", file);
    bytes.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
}

#[test]
fn silence_decodes_to_zeros_in_all_channel_layouts() {
    // AudioSpecificConfig: object type 2; 44.1, 48 and 24 kHz; channel configurations 1 to 7;
    // frameLengthFlag.
    let plain = [
        (0x1208, 1),
        (0x1210, 2),
        (0x1198, 3),
        (0x11a0, 4),
        (0x11a8, 5),
        (0x11b0, 6),
        (0x11b8, 8),
        (0x1310, 2),
        (0x1194, 2),
    ];
    let plain =
        plain.map(|(record, channels): (u16, usize)| (record.to_be_bytes().to_vec(), channels, 1));
    // SBR over 24 kHz to 48 kHz in stereo; PS over mono. Each doubles the samples.
    let doubled = [(vec![0x2b, 0x11, 0x88, 0x00], 2, 2), (vec![0xeb, 0x09, 0x88, 0x00], 2, 2)];
    for (record, channels, factor) in plain.into_iter().chain(doubled) {
        let config = aac::Config::parse(&record).unwrap();
        let payload = silent_frame(&config).unwrap();
        let sample = Sample {
            duration: config.frame_samples,
            composition: 0,
            key: true,
            head: Bytes::new(),
            payload,
        };
        let per_channel = config.frame_samples as usize * factor;
        let decoded = decoded(&file(&Config::Aac(config), 0, &vec![sample; 20], 5));
        assert_eq!(decoded.len(), 20 * per_channel * channels, "{record:02x?}");
        assert!(decoded.iter().all(|&sample| sample == 0), "{record:02x?}");
    }
}

#[test]
fn silence_between_units_of_another_encoder_decodes() {
    let tags: Vec<_> = tags(source()).into_iter().filter(|tag| tag.kind == 8).collect();
    let config = aac::Config::parse(&tags[0].data[2..]).unwrap();
    let silence = silent_frame(&config).unwrap();
    let sample = |payload| Sample {
        duration: 1_024,
        composition: 0,
        key: true,
        head: Bytes::new(),
        payload,
    };
    let tone = |from: usize| tags[from..][..20].iter().map(|tag| sample(tag.data.slice(2..)));
    let samples: Vec<_> =
        tone(10).chain(std::iter::repeat_n(sample(silence), 20)).chain(tone(50)).collect();
    let decoded = decoded(&file(&Config::Aac(config), 0, &samples, 10));
    assert_eq!(decoded.len(), 60 * 1_024 * 2);
    let loudest = |units: std::ops::Range<usize>| {
        decoded[units.start * 2_048..units.end * 2_048].iter().map(|s| s.unsigned_abs()).max()
    };
    assert!(loudest(5..20) > Some(1_000));
    assert_eq!(loudest(21..40), Some(0)); // the unit before it fades into the first
    assert!(loudest(45..60) > Some(1_000));
}
