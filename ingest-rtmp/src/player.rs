//! Plays a broadcast to one RTMP peer, from its newest group on: metadata, sequence headers,
//! frames. Pure: events in, messages out. The hub handles a slow peer: it skips, and the player
//! continues at a key frame.

use std::sync::Arc;

use media_core::{
    Frame, MediaSpan, MediaTime, TrackIndex,
    broadcast::{Consumer, Event, TrackStart},
    codec::Config,
};

use crate::{
    Error,
    amf0::{Value, object},
    audience::Viewer,
    metrics::Metrics,
    transmit::{Transmit, kind},
};
use net_core::Counted;

/// Number of queued bytes above which the player reads no more from the hub.
const QUEUED_BYTES: usize = 256 << 10;

/// One player.
#[derive(Debug)]
pub(crate) struct Player {
    /// Its position in the broadcast's log.
    consumer: Consumer,
    /// The message stream on which it plays.
    stream_id: u32,
    /// At most one video and one audio track.
    tracks: Vec<Track>,
    /// Decode time of the first frame sent: time 0 for the peer.
    origin: Option<MediaTime>,
    /// Timestamp of the last frame sent, in milliseconds.
    newest_ms: u32,
    metrics: Metrics,
    _counted: Counted,
    _viewer: Viewer,
}

/// A played track. RTMP has one of each kind: the first.
#[derive(Debug)]
struct Track {
    /// Its index in the broadcast.
    index: TrackIndex,
    /// The configuration that was sent last.
    config: Arc<Config>,
    /// Whether its frames are skipped until a key frame.
    waits_for_key: bool,
}

impl Player {
    /// A player that starts at the newest group, on message stream `stream_id`.
    pub(crate) fn new(consumer: Consumer, stream_id: u32, metrics: Metrics) -> Self {
        let tracks = consumer.tracks();
        let first = |video| tracks.iter().find(|track| track.config.is_video() == video);
        // The source's tracks are listed before their renditions, which are not played.
        let tracks = [first(true), first(false)].into_iter().flatten();
        let tracks = tracks.map(|track| Track::new(track.index, &track.config)).collect();
        let _counted = Counted::new(metrics.players.clone());
        let _viewer = metrics.audience.join(consumer.broadcast().id());
        Self { consumer, stream_id, tracks, origin: None, newest_ms: 0, metrics, _counted, _viewer }
    }

    /// Queues the messages before the frames: onMetaData and the sequence headers.
    ///
    /// # Errors
    /// The metadata could not be framed.
    pub(crate) fn begin(&self, transmit: &mut Transmit) -> Result<(), Error> {
        let properties = self.tracks.iter().flat_map(|track| describe(&track.config));
        transmit
            .data(self.stream_id, &["onMetaData".into(), Value::Object(properties.collect())])?;
        for track in &self.tracks {
            self.send_config(&track.config, transmit);
        }
        Ok(())
    }

    /// Waits for the next event; `None` when the broadcast has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.consumer.next().await
    }

    /// Queues `event`, and further pending events as long as the queue is short.
    pub(crate) fn send(&mut self, event: Event, transmit: &mut Transmit) {
        self.send_one(event, transmit);
        while transmit.len() < QUEUED_BYTES
            && let Some(event) = self.consumer.try_next()
        {
            self.send_one(event, transmit);
        }
    }

    /// Queues the messages for one event; most kinds have none in RTMP.
    fn send_one(&mut self, event: Event, transmit: &mut Transmit) {
        match event {
            Event::Frame { track, frame } => self.send_frame(track, &frame, transmit),
            Event::Track(TrackStart { index, config, .. })
            | Event::Config { track: index, config } => {
                // A track that was added later is played if there is no other of its kind.
                let of_kind = |track: &Track| track.config.is_video() == config.is_video();
                match self.tracks.iter_mut().find(|track| of_kind(track)) {
                    Some(track) if track.index != index || track.config == config => return,
                    Some(track) => *track = Track::new(index, &config),
                    None => self.tracks.push(Track::new(index, &config)),
                }
                self.send_config(&config, transmit);
            }
            Event::Lagged { frames, .. } => {
                // A player that is too slow loses whole groups, and continues at a key frame.
                self.metrics.lagged.inc_by(frames);
                for track in &mut self.tracks {
                    track.waits_for_key = track.config.is_video();
                }
            }
            // Gaps, presence and cut rules have no message in RTMP: the timestamps show a gap.
            Event::Absent { .. }
            | Event::Gap(_)
            | Event::GapUntil(_)
            | Event::Presence(_)
            | Event::Rule(_)
            | Event::Awaited(_) => {}
        }
    }

    /// Queues a frame of the track with this index, if it is played.
    fn send_frame(&mut self, index: TrackIndex, frame: &Frame, transmit: &mut Transmit) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.index == index) else {
            return;
        };
        // A decoder that starts in the middle of a group shows errors.
        if track.waits_for_key && !frame.key {
            return;
        }
        let timescale = track.config.timescale();
        let dts = frame.dts.media_time(timescale);
        let origin = *self.origin.get_or_insert(dts);
        // The first frame of the other track may be earlier in time than the first one sent: RTMP
        // has no negative times, so it gets 0. Timestamps wrap at 32 bits.
        let ms = (dts - origin).max(MediaSpan::ZERO).whole_millis();
        let timestamp = u32::try_from(ms & i64::from(u32::MAX)).unwrap_or(0);
        self.newest_ms = timestamp;
        // 0x17: key frame of H.264, 0x27: other frame (E.4.3.1). 0xaf: AAC, which states 44 kHz and
        // stereo whatever the configuration is (E.4.2.1). The byte after it is the packet type, 1
        // for a frame.
        match &*track.config {
            Config::Avc(_) => {
                let composition = (frame.pts - frame.dts).span(timescale).whole_millis();
                let composition = i32::try_from(composition).unwrap_or(0).to_be_bytes();
                let first = if frame.key { 0x17 } else { 0x27 };
                let tag = [first, 1, composition[1], composition[2], composition[3]];
                let (stream_id, payload) = (self.stream_id, &frame.payload);
                // The frames after one that is left out need it.
                track.waits_for_key =
                    !transmit.media(kind::VIDEO, stream_id, timestamp, &tag, payload);
            }
            Config::Aac(_) => {
                let (stream_id, payload) = (self.stream_id, &frame.payload);
                transmit.media(kind::AUDIO, stream_id, timestamp, &[0xaf, 1], payload);
            }
        }
    }

    /// Queues a sequence header, with the time of the frame before it.
    fn send_config(&self, config: &Config, transmit: &mut Transmit) {
        let (timestamp, record) = (self.newest_ms, config.record());
        // As above, with packet type 0: a sequence header.
        match config {
            Config::Avc(_) => {
                transmit.media(kind::VIDEO, self.stream_id, timestamp, &[0x17, 0, 0, 0, 0], record)
            }
            Config::Aac(_) => {
                transmit.media(kind::AUDIO, self.stream_id, timestamp, &[0xaf, 0], record)
            }
        };
    }
}

impl Track {
    fn new(index: TrackIndex, config: &Arc<Config>) -> Self {
        Self { index, config: Arc::clone(config), waits_for_key: config.is_video() }
    }
}

/// onMetaData's properties for a track (FLV 10.1 E.5). The codec identifiers are those of E.4.2.1
/// and E.4.3.1.
fn describe(config: &Config) -> Vec<(String, Value)> {
    let properties = match config {
        Config::Avc(avc) => object([
            ("width", f64::from(avc.width).into()),
            ("height", f64::from(avc.height).into()),
            ("framerate", avc.frame_rate.unwrap_or(0.0).into()),
            ("videocodecid", 7.0.into()),
        ]),
        Config::Aac(aac) => object([
            ("audiosamplerate", f64::from(aac.timescale.hz()).into()),
            ("audiochannels", f64::from(aac.channels).into()),
            ("stereo", Value::Boolean(aac.channels > 1)),
            ("audiocodecid", 10.0.into()),
        ]),
    };
    match properties {
        Value::Object(properties) => properties,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
