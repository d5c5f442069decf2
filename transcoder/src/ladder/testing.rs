//! Broadcasts for the tests of the ladder.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hex_literal::hex;
use media_core::{
    AccessUnit, Hub, MediaSpan, TrackName,
    broadcast::Limits,
    codec::{Config, aac, avc},
    hub::{Producer, Settings},
};

/// `avcC`: 640x360, level 3.0, 29.97 frames a second.
pub(super) const RECORD: &[u8] = &hex!(
    "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0 \
     fdf8f800"
);
/// `AudioSpecificConfig`: AAC-LC, 48 kHz, stereo.
pub(super) const SOUND: &[u8] = &hex!("1190");
/// Maximum number of bytes in the log of a broadcast.
pub(super) const LOG_BYTES: usize = 1 << 20;

/// The configuration of the source's video.
pub(super) fn video() -> avc::Config {
    avc::Config::parse(RECORD).unwrap()
}

/// A broadcast with one video track.
pub(super) fn video_only() -> Producer {
    publish(TrackName::source_video(), Config::Avc(video()))
}

/// A broadcast that has only audio so far.
pub(super) fn audio_only() -> Producer {
    publish(TrackName::source_audio(), Config::Aac(aac::Config::parse(SOUND).unwrap()))
}

fn publish(name: TrackName, config: Config) -> Producer {
    let hub = Hub::new(Settings {
        broadcast: Limits {
            bytes: LOG_BYTES,
            age: Duration::from_secs(10),
            segment: Duration::from_secs(2),
            stall: Duration::from_secs(2),
        },
        reconnect: Duration::from_secs(10),
        max_channels: 1,
    });
    let claim = hub.claim("demo".parse().unwrap()).unwrap();
    claim.start(vec![(name, config)], Instant::now(), SystemTime::now()).unwrap()
}

/// An access unit with times in 90 kHz ticks.
pub(super) fn unit(dts: i64, key: bool) -> AccessUnit {
    AccessUnit {
        dts: MediaSpan::from_ticks(dts),
        pts: MediaSpan::from_ticks(dts),
        key,
        independent: key,
        arrived: Instant::now(),
        payload: Bytes::from_static(b"unit"),
    }
}
