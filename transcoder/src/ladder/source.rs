//! The source of a ladder: its tracks at the position to which it has been read, and the subscriber
//! that reads it.

use std::sync::Arc;

use media_core::{
    Broadcast, Frame, TrackIndex,
    broadcast::{Consumer, Event, TrackStart},
    codec::{Config, aac, avc},
};

/// A track of the source, with the configuration of its next frames.
#[derive(Debug, Clone)]
pub(super) struct SourceTrack<C> {
    /// Index in [`Broadcast::tracks`].
    pub(super) index: TrackIndex,
    pub(super) config: C,
}

/// The tracks that are read: the first of each kind.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) video: SourceTrack<avc::Config>,
    pub(super) audio: Option<SourceTrack<aac::Config>>,
}

impl Source {
    /// `None` if there is no video.
    fn of(consumer: &Consumer) -> Option<Self> {
        let (mut video, mut audio) = (None, None);
        for track in consumer.tracks() {
            let index = track.index;
            match &*track.config {
                Config::Avc(avc) if video.is_none() => {
                    video = Some(SourceTrack { index, config: avc.clone() })
                }
                Config::Aac(aac) if audio.is_none() => {
                    audio = Some(SourceTrack { index, config: aac.clone() })
                }
                _ => {}
            }
        }
        Some(Self { video: video?, audio })
    }

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
        let source = Source::of(&consumer)?;
        Some(Self { consumer, source })
    }

    /// The next key frame of the video. `None`: the broadcast is over. Cancel-safe.
    pub(super) async fn next_key(&mut self) -> Option<Frame> {
        loop {
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
