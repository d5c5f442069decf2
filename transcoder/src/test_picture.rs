//! The built-in test picture: a moving ball under two clocks and a tone that ticks each second,
//! encoded and published over RTMP like any publisher's. For a separate process, because it
//! initialises GStreamer.

use std::{
    io::{self, BufRead},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Instant, SystemTime},
};

use gstreamer::{self as gst, prelude::*};

use crate::{Error, elements, overlay};

/// Pictures a second.
const FPS: i32 = 30;
/// Pictures from one key frame to the next: two seconds.
const GROUP: u32 = 60;
/// Bit rate of the video in kbit/s.
const VIDEO_KBPS: u32 = 1_000;
/// Bit rate of the audio in bits a second.
const AUDIO_BPS: i32 = 96_000;
/// Sampling rate of the audio.
const AUDIO_HZ: i32 = 48_000;
/// Interval at which the loop checks whether it should end.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Time limit for the end of the stream to reach the server.
const END_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);
/// Maximum length of an address.
const MAX_ADDRESS_BYTES: u64 = 1024;

/// Publishes the test picture to `address` until the pipeline fails or the process is ended.
///
/// # Errors
/// Why the pipeline does not run, or stopped.
pub fn push(address: &str) -> Result<(), Error> {
    run(address, &AtomicBool::new(false))
}

/// Reads the address from the first line of standard input, since it contains a stream key, and
/// publishes the test picture there until the input closes, which happens when the parent process
/// ends.
///
/// # Errors
/// As [`push`], and [`Error::NoAddress`].
pub fn push_for_parent() -> Result<(), Error> {
    let mut address = String::new();
    let read = io::Read::take(io::stdin().lock(), MAX_ADDRESS_BYTES).read_line(&mut address);
    let address = address.trim();
    if read.is_err() || address.is_empty() {
        return Err(Error::NoAddress);
    }
    let orphaned = Arc::new(AtomicBool::new(false));
    let watch = Arc::clone(&orphaned);
    // Standard input blocks, so a separate thread waits for its end. It ends with the process.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        watch.store(true, Ordering::Relaxed);
    });
    run(address, &orphaned)
}

/// Runs the pipeline until it fails or `stop` is set.
fn run(address: &str, stop: &AtomicBool) -> Result<(), Error> {
    let missing = elements::missing()?;
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    let pipeline = pipeline(address)?;
    pipeline.set_state(gst::State::Playing)?;
    let ended = watch(&pipeline, stop);
    // Stopped also after a failure, because elements must not be dropped while they play. The first
    // error is the more precise one.
    let stopped = pipeline.set_state(gst::State::Null);
    ended?;
    stopped?;
    Ok(())
}

/// From source to sink:
///
/// ```text
/// videotestsrc ! I420 768x432 30/1 [clocks drawn] ! queue ! x264enc ! avc, main ! flvmux
/// audiotestsrc ! audioconvert ! 48 kHz stereo ! queue ! avenc_aac ! flvmux
/// flvmux ! rtmp2sink
/// ```
fn pipeline(address: &str) -> Result<gst::Pipeline, Error> {
    let make = |factory: &'static str| gst::ElementFactory::make(factory);
    let filter = |caps: gst::Caps| make("capsfilter").property("caps", caps).build();

    let picture = make("videotestsrc")
        .property("is-live", true)
        .property_from_str("pattern", "ball")
        .build()?;
    let (width, height) = (as_i32(overlay::WIDTH), as_i32(overlay::HEIGHT));
    let raw_video = filter(
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width)
            .field("height", height)
            .field("framerate", gst::Fraction::new(FPS, 1))
            .build(),
    )?;
    // Queues decouple the two branches: `flvmux` waits for the branch that is behind.
    let video_queue = make("queue").build()?;
    // Key frames every two seconds and no others, so that segments have a regular length.
    let video_encoder = make("x264enc")
        .property_from_str("tune", "zerolatency")
        .property_from_str("speed-preset", "veryfast")
        .property("key-int-max", GROUP)
        .property("bitrate", VIDEO_KBPS)
        .property("threads", 1_u32)
        .property("option-string", "scenecut=0")
        .build()?;
    let avc = filter(
        gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("profile", "main")
            .build(),
    )?;

    let tone = make("audiotestsrc")
        .property("is-live", true)
        .property_from_str("wave", "ticks")
        .property("freq", 880.0)
        .property("volume", 0.4)
        .build()?;
    let convert = make("audioconvert").build()?;
    let raw_audio = filter(
        gst::Caps::builder("audio/x-raw").field("rate", AUDIO_HZ).field("channels", 2).build(),
    )?;
    let audio_queue = make("queue").build()?;
    let audio_encoder = make("avenc_aac").property("bitrate", AUDIO_BPS).build()?;

    let mux = make("flvmux").property("streamable", true).build()?;
    let sink = make("rtmp2sink")
        .property("location", address)
        .property("async-connect", false)
        // The sink does not wait for timestamps, because the sources keep the pace.
        .property("sync", false)
        .build()?;

    let pipeline = gst::Pipeline::new();
    let video = [&picture, &raw_video, &video_queue, &video_encoder, &avc];
    let audio = [&tone, &convert, &raw_audio, &audio_queue, &audio_encoder];
    pipeline.add_many(video.into_iter().chain(audio).chain([&mux, &sink]))?;
    gst::Element::link_many(video)?;
    gst::Element::link_many(audio)?;
    avc.link_pads(None, &mux, Some("video"))?;
    audio_encoder.link_pads(None, &mux, Some("audio"))?;
    mux.link(&sink)?;

    // A live source releases a picture at its own time, so its clocks are drawn then.
    if let Some(pad) = raw_video.static_pad("src") {
        pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
            // A panic here would abort the process through a foreign stack.
            let _ = catch_unwind(AssertUnwindSafe(|| draw_clocks(info)));
            gst::PadProbeReturn::Ok
        });
    }
    Ok(pipeline)
}

/// Draws the present time into the buffer of a probe.
fn draw_clocks(info: &mut gst::PadProbeInfo<'_>) {
    let Some(buffer) = info.buffer_mut() else { return };
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if let Ok(mut picture) = buffer.make_mut().map_writable() {
        overlay::draw(&mut picture, since_epoch);
    }
}

/// Waits until an element fails, or the end of the stream has passed through.
fn watch(pipeline: &gst::Pipeline, stop: &AtomicBool) -> Result<(), Error> {
    let Some(bus) = pipeline.bus() else { return Ok(()) };
    // After `stop` the end of the stream is sent through the pipeline, so that the server gets a
    // regular end of the publication. A server that does not read cannot delay the end beyond the
    // limit.
    let mut ending = None;
    loop {
        let message =
            bus.timed_pop_filtered(TICK, &[gst::MessageType::Error, gst::MessageType::Eos]);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => return Ok(()),
            Some(gst::MessageView::Error(failed)) => {
                let element =
                    failed.src().map_or_else(|| "pipeline".into(), |src| src.name().to_string());
                return Err(Error::Element { element, message: failed.error().to_string() });
            }
            _ => {}
        }
        match ending {
            None if stop.load(Ordering::Relaxed) => {
                pipeline.send_event(gst::event::Eos::new());
                ending = Some(Instant::now() + END_LIMIT);
            }
            Some(limit) if Instant::now() >= limit => return Ok(()),
            _ => {}
        }
    }
}

/// A size as GStreamer's caps have it.
fn as_i32(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
