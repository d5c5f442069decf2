//! The cost of a ladder, side by side: the worker of the release daemon, and one ffmpeg with the
//! same rungs, encoder, preset and settings. CPU seconds are the kernel's; SSIM compares each rung
//! with the source, scaled to the same size by a third scaler.
//!
//! `--footage FILE --rungs 720,480,360 --preset veryfast --rounds 3 --ffmpeg PROGRAM`. The footage
//! is converted to 1080p30 and 20 s, and encoded, once. Rounds alternate; the minimum of each
//! counts, because other work on the machine only adds. With `--paced 1` units are sent in real
//! time, and the result is the time for which the worker keeps each.

use std::{
    collections::HashMap,
    env, fs,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use benches::{Failure, process::option};
use bytes::Bytes;
use media_core::{MediaSpan, MediaTime};
use transcoder::protocol::{
    Encoder, Job, LENGTH_BYTES, Media, Order, Report, Tuning, VideoRendition, parse_length,
};

/// Length of the footage in seconds.
const SECONDS: f64 = 20.0;
/// Frames a second of the footage.
const FRAME_RATE: u32 = 30;
/// A mark every two seconds.
const MARKS: MediaSpan = MediaSpan::from_millis(2_000);
/// Width, height and kbit/s for each height.
const RUNGS: [(u32, u32, u32); 5] =
    [(1920, 1080, 5_000), (1280, 720, 2_800), (854, 480, 1_400), (640, 360, 700), (426, 240, 400)];

fn main() -> Result<(), Failure> {
    let footage: PathBuf = option("--footage", "target/bench-media/bigbuckbunny.mp4".into())?;
    let rungs: String = option("--rungs", "720,480,360".into())?;
    let preset: String = option("--preset", "veryfast".into())?;
    let rounds: u32 = option("--rounds", 3)?;
    let ffmpeg: PathBuf = option("--ffmpeg", "ffmpeg".into())?;
    let rungs: Vec<_> = RUNGS
        .into_iter()
        .filter(|rung| rungs.split(',').any(|height| height == rung.1.to_string()))
        .collect();
    let source = source(&footage, &ffmpeg)?;
    let out = PathBuf::from("target/bench-media/out");
    fs::create_dir_all(&out)?;

    if option("--paced", 0)? == 1 {
        worker(&source, &rungs, &preset, &out, true)?;
        return Ok(());
    }
    // The minimum of all rounds, because other work on the machine only adds CPU time.
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    for round in 1..=rounds {
        let (one, other) = (
            worker(&source, &rungs, &preset, &out, false)?,
            beside(&source, &rungs, &preset, &out, &ffmpeg)?,
        );
        println!("round {round}: worker {one:.3}, ffmpeg {other:.3} CPU s a media second");
        (ours, theirs) = (ours.min(one), theirs.min(other));
    }
    println!("least: worker {ours:.3}, ffmpeg {theirs:.3}, ratio {:.3}", ours / theirs);
    for (index, rung) in rungs.iter().enumerate() {
        let measure =
            |who| measured(&out.join(format!("{who}-{index}.h264")), &source, rung, &ffmpeg);
        let ((one, one_kbps), (other, other_kbps)) = (measure("worker")?, measure("ffmpeg")?);
        println!(
            "{}p: SSIM worker {one:.5} ({one_kbps:.0} kbit/s), ffmpeg {other:.5} ({other_kbps:.0} \
             kbit/s), {:+.5}",
            rung.1,
            one - other
        );
    }
    Ok(())
}

/// CPU seconds of this process' children that have ended (proc(5): cutime, cstime, in hundredths).
fn children_cpu_s() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields =
        stat.rsplit_once(") ").map_or("", |(_, after)| after).split(' ').skip(16 - 3).take(2);
    Ok(fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

/// The footage as 1080p30 of [`SECONDS`], as sent by an encoder: FLV with H.264, groups of 2 s, two
/// B-frames.
///
/// # Errors
/// ffmpeg is not installed, or cannot read the footage.
fn source(footage: &Path, ffmpeg: &Path) -> Result<PathBuf, Failure> {
    let path = footage.with_extension("1080p30.flv");
    if path.exists() {
        return Ok(path);
    }
    // A run that is interrupted leaves no file with the final name.
    let unfinished = footage.with_extension("unfinished.flv");
    let mut command = quiet(ffmpeg);
    command.args(["-stream_loop", "-1", "-i"]).arg(footage);
    command.args([
        "-t",
        &SECONDS.to_string(),
        "-an",
        "-vf",
        "fps=30,scale=1920:1080:flags=lanczos,format=yuv420p",
    ]);
    command.args([
        "-c:v", "libx264", "-preset", "veryfast", "-b:v", "6M", "-maxrate", "6M", "-bufsize", "6M",
    ]);
    command.args(["-g", "60", "-sc_threshold", "0", "-bf", "2", "-f", "flv"]);
    succeed(command.arg(&unfinished))?;
    fs::rename(unfinished, &path)?;
    Ok(path)
}

/// An ffmpeg that prints only errors and overwrites its output.
fn quiet(ffmpeg: &Path) -> Command {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]);
    command
}

/// Runs a command. It fails if its exit status is not 0.
fn succeed(command: &mut Command) -> Result<(), Failure> {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("{command:?}: {status}").into()),
    }
}

/// CPU seconds of the worker for each media second. Its rungs are written to `out`.
///
/// # Errors
/// The worker does not start, failed, or sent an invalid report.
fn worker(
    source: &Path,
    rungs: &[(u32, u32, u32)],
    preset: &str,
    out: &Path,
    paced: bool,
) -> Result<f64, Failure> {
    let (record, units) = parse(&fs::read(source)?)?;
    let rendition = |&(width, height, kbps): &(u32, u32, u32)| VideoRendition {
        width,
        height,
        bitrate_bps: kbps * 1_000,
        halve_rate: false,
        // Enough for 1080p30, the largest rung.
        level: 40,
        threads: 1,
    };
    let job = Job {
        video: record,
        audio: None,
        frame_rate: f64::from(FRAME_RATE),
        renditions: rungs.iter().map(rendition).collect(),
        audio_rendition: None,
        encoder: Encoder::X264,
        preset: preset.into(),
        tuning: Tuning::Latency,
        // No posters: ffmpeg makes none either.
        picture_ms: 0,
        picture_size: (640, 360),
        memory_bytes: 1 << 30,
        nice: 10,
    };
    let before = children_cpu_s()?;
    let (socket, theirs) = UnixStream::pair()?;
    let mut child = Command::new(env::current_exe()?.with_file_name("streamforge"))
        .arg("transcode-worker")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let mut writer = socket.try_clone()?;
    let sent = Arc::<Mutex<HashMap<MediaTime, Instant>>>::default();
    let (sending, mut kept) = (Arc::clone(&sent), vec![Vec::new(); rungs.len()]);
    // Orders are written on a separate thread: the worker reports while it reads, and would block
    // if nobody read its reports.
    let writing = thread::spawn(move || {
        let orders = [Order::Job(Box::new(job))].into_iter().chain(units).chain([Order::End]);
        let start = Instant::now();
        for order in orders {
            if let Order::Unit { dts, pts, .. } = &order {
                if paced {
                    let due = (*dts - MediaTime::ZERO).duration();
                    thread::sleep((start + due).saturating_duration_since(Instant::now()));
                }
                sending.lock().unwrap_or_else(PoisonError::into_inner).insert(*pts, Instant::now());
            }
            let message = order.write();
            writer.write_all(&message.head)?;
            writer.write_all(&message.payload)?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut files = Vec::new();
    for index in 0..rungs.len() {
        files.push(fs::File::create(out.join(format!("worker-{index}.h264")))?);
    }
    let mut socket = std::io::BufReader::with_capacity(1 << 16, socket);
    // The reports end with the worker's process.
    while let Some(report) = next(&mut socket)? {
        match report {
            Report::Config { rendition, record } => {
                files[usize::from(rendition)].write_all(&headers(&record))?
            }
            Report::Unit { rendition, pts, payload, .. } => {
                // Units are matched by presentation time, which a rendition keeps.
                let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).get(&pts).copied();
                kept[usize::from(rendition)].extend(sent.map(|sent| sent.elapsed()));
                files[usize::from(rendition)].write_all(&start_codes(&payload)?)?;
            }
            Report::Log { level, text } => println!("worker: {level:?}: {text}"),
            Report::Picture { .. } | Report::Stats(_) => {}
        }
    }
    writing.join().map_err(|_| "the thread that writes panicked")??;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the worker: {status}").into());
    }
    // Only in real time: otherwise units wait in queues for most of the time.
    for (rung, kept) in rungs.iter().zip(&mut kept).filter(|_| paced) {
        kept.sort_unstable();
        let part = |per_mille: usize| {
            kept.get(kept.len() * per_mille / 1_000).copied().unwrap_or_default()
        };
        println!(
            "{}p: p50 {:.1?}, p99 {:.1?}, most {:.1?}",
            rung.1,
            part(500),
            part(990),
            part(999)
        );
    }
    Ok((children_cpu_s()? - before) / SECONDS)
}

/// The next report; `None` when the worker has closed the socket.
///
/// # Errors
/// The socket failed, or the message is invalid.
fn next(socket: &mut impl Read) -> Result<Option<Report>, Failure> {
    let mut prefix = [0; LENGTH_BYTES];
    match socket.read_exact(&mut prefix) {
        Err(err) if err.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut message = vec![0; parse_length(prefix)?];
    socket.read_exact(&mut message)?;
    Ok(Some(Report::parse(message.into())?))
}

/// The same with one ffmpeg, whose default scaler is bicubic.
fn beside(
    source: &Path,
    rungs: &[(u32, u32, u32)],
    preset: &str,
    out: &Path,
    ffmpeg: &Path,
) -> Result<f64, Failure> {
    let mut command = quiet(ffmpeg);
    command.args(["-threads", "1", "-i"]).arg(source);
    // The settings correspond to those of the worker: one thread, a buffer of one second, and IDR
    // pictures only where they are forced.
    for (index, (width, height, kbps)) in rungs.iter().enumerate() {
        if *height != 1080 {
            command.args(["-vf", &format!("scale={width}:{height}")]);
        }
        command.args([
            "-c:v",
            "libx264",
            "-preset",
            preset,
            "-tune",
            "zerolatency",
            "-threads",
            "1",
            "-profile:v",
            "high",
        ]);
        let (rate, keys) =
            (format!("{kbps}k"), format!("expr:gte(t,n_forced*{})", MARKS.duration().as_secs()));
        command.args([
            "-b:v",
            &rate,
            "-maxrate",
            &rate,
            "-bufsize",
            &rate,
            "-force_key_frames",
            &keys,
        ]);
        command.args(["-g", "99999", "-sc_threshold", "0", "-forced-idr", "1", "-aud", "0"]);
        command.args(["-f", "h264"]).arg(out.join(format!("ffmpeg-{index}.h264")));
    }
    let before = children_cpu_s()?;
    succeed(&mut command)?;
    Ok((children_cpu_s()? - before) / SECONDS)
}

/// SSIM of a rung compared with the source, scaled by lanczos, and its rate in kbit/s.
///
/// # Errors
/// ffmpeg cannot decode the rung, or prints no SSIM.
fn measured(
    rung: &Path,
    source: &Path,
    (width, height, _): &(u32, u32, u32),
    ffmpeg: &Path,
) -> Result<(f64, f64), Failure> {
    let mut command = Command::new(ffmpeg);
    command
        .args(["-hide_banner", "-nostdin", "-r", &FRAME_RATE.to_string(), "-i"])
        .arg(rung)
        .arg("-i")
        .arg(source);
    let graph = format!(
        "[1]settb=1/30,setpts=N,scale={width}:{height}:flags=lanczos+accurate_rnd[r];\
         [0]settb=1/30,setpts=N[d];[d][r]ssim"
    );
    let output = command.args(["-lavfi", &graph, "-f", "null", "-"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let ssim =
        text.rsplit_once("All:").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    let kbps = fs::metadata(rung)?.len() as f64 * 8.0 / 1_000.0 / SECONDS;
    ssim.map(|ssim| (ssim, kbps)).ok_or_else(|| format!("no SSIM: {text}").into())
}

/// `avcC` and the units of an FLV file's video, with marks.
///
/// # Errors
/// The file is not FLV, or ends within a tag.
fn parse(flv: &[u8]) -> Result<(Vec<u8>, Vec<Order>), Failure> {
    let (mut record, mut units, mut marks) = (Vec::new(), Vec::new(), MediaTime::ZERO);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | i64::from(byte));
    // After the FLV header of 9 bytes and the first PreviousTagSize (Adobe FLV 10.1 E.2, E.3).
    let mut rest = flv.get(13..).ok_or("no FLV file")?;
    while let Some((head, body)) = rest.split_at_checked(11) {
        // The timestamp's upper 8 bits follow its lower 24 (E.4.1).
        let dts = number(&head[4..7]) | i64::from(head[7]) << 24;
        let (tag, after) =
            body.split_at_checked(usize::try_from(number(&head[1..4]))?).ok_or("a torn tag")?;
        // PreviousTagSize.
        rest = after.get(4..).unwrap_or_default();
        match (head[0], tag) {
            (9, [0x17, 0, _, _, _, avcc @ ..]) => record = avcc.to_vec(),
            (9, [flags, 1, a, b, c, payload @ ..]) => {
                let at = |ms| MediaTime::ZERO + MediaSpan::from_millis(ms);
                let pts = at(dts + number(&[*a, *b, *c]));
                let key = flags >> 4 == 1;
                // At most one mark a second, at key frames: the footage has one each two seconds.
                let due = key && pts >= marks;
                marks = if due { pts + MARKS / 2 } else { marks };
                units.push(Order::Unit {
                    media: Media::Video,
                    key,
                    dts: at(dts),
                    pts,
                    mark: due.then_some(pts),
                    payload: Bytes::copy_from_slice(payload),
                });
            }
            _ => {}
        }
    }
    Ok((record, units))
}

/// The parameter sets of an `avcC` with one of each, with start codes.
fn headers(record: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    // After the fixed fields and the number of sequence parameter sets (ISO/IEC 14496-15
    // 5.3.3.1.2).
    let mut rest = record.get(6..).unwrap_or_default();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (set, tail) = tail.split_at(usize::from(u16::from_be_bytes(*len)).min(tail.len()));
        stream.extend([0, 0, 0, 1]);
        stream.extend_from_slice(set);
        // The count of picture parameter sets follows the sequence parameter set.
        rest = tail
            .get(usize::from(set.first().is_some_and(|nal| nal & 31 == 7))..)
            .unwrap_or_default();
    }
    stream
}

/// A unit with start codes instead of length prefixes of 4 bytes (ITU-T H.264 Annex B).
fn start_codes(unit: &[u8]) -> Result<Vec<u8>, Failure> {
    let (mut stream, mut rest) = (Vec::with_capacity(unit.len()), unit);
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (nal, tail) = tail
            .split_at_checked(usize::try_from(u32::from_be_bytes(*len))?)
            .ok_or("a torn unit")?;
        stream.extend([0, 0, 0, 1]);
        stream.extend_from_slice(nal);
        rest = tail;
    }
    Ok(stream)
}
