//! The output of one encoder: H.264 of 30 frames a second with a key frame every 2 s, and AAC of 48
//! kHz. It is synthetic: the configuration records are real, each access unit is one slice of a
//! realistic size, filled with noise after the start of its header. Servers that only repackage do
//! not read further; nothing here can be decoded.
//!
//! It repeats after [`PERIOD`], which contains whole frames of both tracks and whole groups. Adobe
//! FLV 10.1 E.4 (tag bodies).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

/// Duration after which it repeats: 240 pictures, four groups, 375 audio units.
pub const PERIOD: Duration = Duration::from_secs(8);
/// Frames a second.
pub const FPS: u64 = 30;
/// Frames in a group.
pub const GROUP: u64 = 60;
/// Samples a second.
pub const AUDIO_HZ: u64 = 48_000;
/// Bits a second of audio, included in the stream's.
pub const AUDIO_BPS: u64 = 128_000;
/// Bits a second of the programs' publishers.
pub const BITRATE_BPS: u64 = 2_500_000;

/// Samples of an AAC frame.
const SAMPLES: u64 = 1_024;
/// Key frames take a tenth of their group's bytes.
const KEY_SHARE: u64 = 10;

/// `AVCDecoderConfigurationRecord`: 640x360, high profile, lengths of 4 bytes.
pub const AVC: &[u8] =
    b"\x01\x64\x00\x1e\xff\xe1\x00\x19\x67\x64\x00\x1e\xac\xd9\x40\xa0\x2f\xf9\x70\x11\
    \x00\x00\x03\x03\xe9\x00\x00\xea\x60\x0f\x16\x2d\x96\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\
    \xfd\xf8\xf8\x00";
/// `AudioSpecificConfig`: AAC-LC, 48 kHz, stereo.
pub const AAC: &[u8] = b"\x11\x90";

/// A track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// H.264.
    Video,
    /// AAC.
    Audio,
}

/// The content of one message.
#[derive(Debug, Clone)]
pub struct Tag {
    /// Its track.
    pub kind: Kind,
    /// Its due time after the period's start.
    pub at: Duration,
    /// Its timestamp after the period's start, in whole milliseconds as in RTMP.
    pub stamp_ms: u32,
    /// Whether decoding can start here.
    pub key: bool,
    /// The FLV tag body.
    pub body: Bytes,
}

impl Tag {
    /// The access unit in the body.
    pub fn payload(&self) -> Bytes {
        match self.kind {
            Kind::Video => self.body.slice(5..),
            Kind::Audio => self.body.slice(2..),
        }
    }
}

/// One period of a stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Sequence headers as tag bodies: the video's, the audio's.
    pub headers: [Bytes; 2],
    /// Both tracks' frames in the order of sending.
    pub tags: Vec<Tag>,
}

impl Stream {
    /// A stream of about `bitrate_bps`, including audio of [`AUDIO_BPS`]; always the same bytes.
    pub fn new(bitrate_bps: u64) -> Self {
        Self::with_audio(bitrate_bps, AUDIO_BPS)
    }

    /// The same with audio of another rate.
    pub fn with_audio(bitrate_bps: u64, audio_bps: u64) -> Self {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        // The bit rate is that of both tracks, as encoders' settings add up.
        let group_bytes = bitrate_bps.saturating_sub(audio_bps) / 8 * GROUP / FPS;
        let key_bytes = group_bytes / KEY_SHARE;
        let mean = (group_bytes - key_bytes) / (GROUP - 1);
        let mut tags = Vec::new();
        for n in 0..PERIOD.as_secs() * FPS {
            let key = n % GROUP == 0;
            // The others vary by up to a quarter.
            let len = if key { key_bytes } else { mean * 3 / 4 + noise.below(mean / 2 + 1) };
            let nal = if key { 0x65 } else { 0x41 };
            let mut body = BytesMut::new();
            body.put_slice(&[if key { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
            // The NAL unit's length includes its header byte.
            body.put_u32(u32::try_from(len + 1).unwrap_or(u32::MAX));
            body.put_u8(nal);
            // first_mb_in_slice 0, then slice_type 7 (I) or 5 (P): ITU-T H.264 7.3.3.
            body.put_u8(if key { 0x88 } else { 0x9a });
            noise.fill(&mut body, len.saturating_sub(1));
            tags.push(tag(Kind::Video, n * 1_000_000 / FPS, key, body));
        }
        for n in 0..PERIOD.as_secs() * AUDIO_HZ / SAMPLES {
            let mut body = BytesMut::new();
            body.put_slice(&[0xaf, 1]);
            noise.fill(&mut body, audio_bps * SAMPLES / AUDIO_HZ / 8);
            tags.push(tag(Kind::Audio, n * SAMPLES * 1_000_000 / AUDIO_HZ, true, body));
        }
        // The sort is stable: of frames that are due at the same time the picture is sent first.
        tags.sort_by_key(|tag| tag.at);
        Self {
            headers: [
                [&[0x17, 0, 0, 0, 0], AVC].concat().into(),
                [&[0xaf, 0], AAC].concat().into(),
            ],
            tags,
        }
    }

    /// Payload bytes of a period: access units without the FLV headers.
    pub fn payload_bytes(&self) -> u64 {
        self.tags.iter().map(|tag| tag.payload().len() as u64).sum()
    }
}

/// A tag that is due `at_us` microseconds after the period's start.
fn tag(kind: Kind, at_us: u64, key: bool, body: BytesMut) -> Tag {
    Tag {
        kind,
        at: Duration::from_micros(at_us),
        stamp_ms: u32::try_from(at_us / 1000).unwrap_or(u32::MAX),
        key,
        body: body.freeze(),
    }
}

/// Reproducible noise (Marsaglia's xorshift64) without zero bytes, so that it contains no start
/// code.
#[derive(Debug)]
pub struct Noise(pub u64);

impl Noise {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// Appends `len` bytes of noise.
    fn fill(&mut self, to: &mut BytesMut, len: u64) {
        for _ in 0..len {
            to.put_u8(self.draw().to_le_bytes()[3] | 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_period_has_whole_frames_of_both_tracks_at_the_requested_bit_rate() {
        let stream = Stream::new(BITRATE_BPS);
        let count = |kind| stream.tags.iter().filter(|tag| tag.kind == kind).count();
        assert_eq!((count(Kind::Video), count(Kind::Audio)), (240, 375));
        assert_eq!(375 * SAMPLES, PERIOD.as_secs() * AUDIO_HZ);
        let bps = stream.payload_bytes() * 8 / PERIOD.as_secs();
        assert!((2_400_000..2_600_000).contains(&bps), "{bps}");
    }
}
