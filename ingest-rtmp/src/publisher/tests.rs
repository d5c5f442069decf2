mod advice;
mod configuration;
mod frames;
mod returns;
mod settling;

use hex_literal::hex;
use media_core::{
    Anchor, Hub, TrackIndex,
    broadcast::{Broadcast, Event, Presence},
};
use proptest::prelude::*;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::*;
use crate::{
    amf0::object,
    testing::{
        AVC, AVC_OTHER_STRING, AVC_SAME_STRING, IDR, SLICE, audio_config, audio_frame, hub,
        video_config, video_frame,
    },
};

const IDLE: Duration = Duration::from_secs(10);

struct Feed {
    hub: Hub,
    publisher: Publisher,
    metrics: Metrics,
    start: Instant,
}

impl Feed {
    fn new() -> Self {
        Self::on(hub())
    }

    fn on(hub: Hub) -> Self {
        let (metrics, start) = (Metrics::default(), Instant::now());
        let publisher = Publisher::new(hub.claim(name()).unwrap(), metrics.clone(), IDLE, start);
        Self { hub, publisher, metrics, start }
    }

    /// Metadata have named only video, and its configuration has arrived.
    fn of_video() -> Self {
        Self::of_video_on(hub())
    }

    fn of_video_on(hub: Hub) -> Self {
        let mut feed = Self::on(hub);
        let metadata = object([("videocodecid", 7.0.into())]);
        feed.publisher.metadata(&metadata, feed.start).unwrap();
        feed.video(0, video_config(AVC)).unwrap();
        feed
    }

    /// Sends a message, and a second one that completes its picture.
    fn video(&mut self, ms: u32, body: Bytes) -> Result<(), Refusal> {
        let now = self.start + Duration::from_millis(u64::from(ms) % 100_000);
        self.publisher.video(ms, body, now)?;
        self.publisher.finish_picture(now)
    }

    fn audio(&mut self, ms: u32, body: Bytes) -> Result<(), Refusal> {
        self.publisher.audio(ms, body, self.start + Duration::from_millis(u64::from(ms) % 100_000))
    }

    fn live(&self) -> Option<Arc<Broadcast>> {
        self.hub.broadcast(&name())
    }

    fn codecs(&self) -> Vec<String> {
        self.live()
            .unwrap()
            .tracks()
            .iter()
            .map(|track| format!("{} {}", track.name, track.config.codec_string()))
            .collect()
    }

    /// The frames in the hub: track, milliseconds since the first, key.
    fn frames(&self) -> Vec<(usize, i64, bool)> {
        let mut consumer = self.live().unwrap().subscribe_from_oldest();
        let mut first = None;
        std::iter::from_fn(|| consumer.try_next())
            .filter_map(|event| match event {
                Event::Frame { track, frame } => {
                    let hz = consumer_hz(&self.live().unwrap(), track);
                    let ms = frame.dts.get() * 1_000 / hz;
                    Some((track.get(), ms - *first.get_or_insert(ms), frame.key))
                }
                _ => None,
            })
            .collect()
    }
}

fn consumer_hz(broadcast: &Broadcast, track: TrackIndex) -> i64 {
    broadcast.tracks()[track.get()].config.timescale().hz().into()
}

fn name() -> media_core::ChannelName {
    "demo".parse().unwrap()
}

/// An ADTS frame of 44.1 kHz, stereo, around an access unit of three bytes.
const ADTS: &[u8] = &hex!("fff1 50 80 01 5f fc 210049");

fn adts(frames: usize) -> Bytes {
    [&hex!("af 01")[..], &ADTS.repeat(frames)].concat().into()
}
