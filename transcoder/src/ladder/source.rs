//! The source of a ladder: its tracks at the position to which it has been read, and the subscriber
//! that reads it.

use std::sync::Arc;

use media_core::{
    Broadcast, Frame, TrackIndex,
    broadcast::{Consumer, Event, Presence, TrackStart},
    codec::{Config, aac, avc},
};

/// A track of the source, with the configuration of its next frames.
#[derive(Debug, Clone)]
pub(super) struct SourceTrack<C> {
    /// Index in [`Broadcast::tracks`].
    pub(super) index: TrackIndex,
    /// The codec's configuration in force for the next frame.
    pub(super) config: C,
}

/// The tracks that are read: the first of each kind.
#[derive(Debug)]
pub(super) struct Source {
    /// The track whose frames carry the marks.
    pub(super) video: SourceTrack<avc::Config>,
    /// `None` until the publisher has announced audio.
    pub(super) audio: Option<SourceTrack<aac::Config>>,
}

/// The tracks of a source that were found so far: the first of each kind.
#[derive(Debug, Default)]
struct Found {
    video: Option<SourceTrack<avc::Config>>,
    audio: Option<SourceTrack<aac::Config>>,
}

impl Found {
    /// The tracks at the first position that `consumer` reads.
    fn at_start(consumer: &Consumer) -> Self {
        let mut found = Self::default();
        for track in consumer.tracks() {
            found.take(track.index, &track.config);
        }
        found
    }

    /// Takes the configuration of a track, unless another one of its kind was found before.
    fn take(&mut self, index: TrackIndex, config: &Config) {
        match config {
            // Renditions are made of the first track of each kind. A track that was found before
            // may announce another configuration, which replaces the older one.
            Config::Avc(avc) if self.video.as_ref().is_none_or(|video| video.index == index) => {
                self.video = Some(SourceTrack { index, config: avc.clone() });
            }
            Config::Aac(aac) if self.audio.as_ref().is_none_or(|audio| audio.index == index) => {
                self.audio = Some(SourceTrack { index, config: aac.clone() });
            }
            Config::Avc(_) | Config::Aac(_) => {}
        }
    }

    /// The source, if it has video.
    fn source(&mut self) -> Option<Source> {
        let video = self.video.take()?;
        Some(Source { video, audio: self.audio.take() })
    }
}

impl Source {
    /// Whether the video of `broadcast` still has this configuration.
    pub(super) fn is_current(&self, broadcast: &Broadcast) -> bool {
        let tracks = broadcast.tracks();
        let now = tracks.get(self.video.index.get()).map(|track| &*track.config);
        matches!(now, Some(Config::Avc(now)) if *now == self.video.config)
    }

    /// Takes the configuration of the next frames of the track with this index. An audio track that
    /// was added late becomes the source's audio if there is none.
    fn configure(&mut self, index: TrackIndex, config: &Config) {
        match config {
            Config::Avc(avc) if index == self.video.index => self.video.config = avc.clone(),
            Config::Aac(aac) if self.audio.as_ref().is_none_or(|audio| audio.index == index) => {
                self.audio = Some(SourceTrack { index, config: aac.clone() });
            }
            Config::Avc(_) | Config::Aac(_) => {}
        }
    }

    /// Takes another configuration of the track of its kind that is read.
    pub(super) fn reconfigure(&mut self, config: Config) {
        match (config, &mut self.audio) {
            // The feeder reports only changes of tracks that it reads, so no index is needed.
            (Config::Avc(avc), _) => self.video.config = avc,
            (Config::Aac(aac), Some(audio)) => audio.config = aac,
            (Config::Aac(_), None) => {}
        }
    }
}

/// The source and its subscriber.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) consumer: Consumer,
    pub(super) source: Source,
}

impl Reading {
    /// Reads the source from its newest group. `None` if it has no video.
    pub(super) fn begin(broadcast: &Arc<Broadcast>) -> Option<Self> {
        let consumer = broadcast.subscribe();
        let source = Found::at_start(&consumer).source()?;
        Some(Self { consumer, source })
    }

    /// Reads the source once it has video: a camera may be switched on later than the microphone.
    /// `None`: the broadcast is over, and had none. Cancel-safe.
    pub(super) async fn with_video(broadcast: &Arc<Broadcast>) -> Option<Self> {
        // A subscriber would be woken by each frame of the audio, for as long as there is no video.
        loop {
            let tracks = broadcast.tracks();
            if tracks.iter().any(|track| track.config.is_video()) {
                break;
            }
            if broadcast.presence() == Presence::Ended {
                return None;
            }
            broadcast.more_tracks(tracks.len()).await;
        }
        let mut consumer = broadcast.subscribe();
        let mut found = Found::at_start(&consumer);
        loop {
            if let Some(source) = found.source() {
                return Some(Self { consumer, source });
            }
            // The subscriber goes on: another one could start before the track appeared.
            match consumer.next().await? {
                Event::Track(TrackStart { index, config, .. })
                | Event::Config { track: index, config } => found.take(index, &config),
                _ => {}
            }
        }
    }

    /// The source alone. The subscriber ends.
    pub(super) fn into_source(self) -> Source {
        self.source
    }

    /// The next key frame of the video. `None`: the broadcast is over. Cancel-safe.
    pub(super) async fn next_key(&mut self) -> Option<Frame> {
        loop {
            // Configurations are taken on the way, because the key frame may be the first of
            // another one.
            match self.consumer.next().await? {
                Event::Frame { track, frame } if track == self.source.video.index && frame.key => {
                    return Some(frame);
                }
                Event::Track(TrackStart { index, config, .. })
                | Event::Config { track: index, config } => {
                    self.source.configure(index, &config);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use media_core::TrackName;
    use tokio::time::timeout;

    use super::*;
    use crate::ladder::testing::{audio_only, unit, video};

    #[tokio::test]
    async fn reading_waits_for_a_video_track_that_is_added_later() {
        let producer = audio_only();
        let broadcast = Arc::clone(producer.broadcast());
        let mut waiting = pin!(Reading::with_video(&broadcast));
        for n in 0..3 {
            producer.push(TrackIndex::FIRST, unit(n * 1_920, true)).unwrap();
            assert!(timeout(Duration::from_millis(1), &mut waiting).await.is_err(), "{n}");
        }
        let video = Config::Avc(video());
        let index = producer.add(TrackName::source_video(), video).unwrap();
        producer.push(index, unit(5_760, true)).unwrap();
        let mut reading = waiting.await.unwrap();
        assert_eq!(reading.source.video.index, index);
        assert_eq!(reading.source.audio.as_ref().map(|audio| audio.index), Some(TrackIndex::FIRST));
        assert!(reading.next_key().await.is_some_and(|frame| frame.key));
    }

    #[tokio::test]
    async fn a_broadcast_that_ends_without_video_is_not_read() {
        let producer = audio_only();
        let broadcast = Arc::clone(producer.broadcast());
        producer.push(TrackIndex::FIRST, unit(0, true)).unwrap();
        drop(producer.end());
        assert!(Reading::with_video(&broadcast).await.is_none());
    }
}
